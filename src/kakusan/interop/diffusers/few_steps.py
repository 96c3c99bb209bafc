"""The samplers of few steps that diffusers has a scheduler for, in its configuration, where the images are the same.

`tests/samplers/test_against_diffusers.py` holds which are the same, and `tests/interop/test_few_steps.py` for whole
exports. Their schedulers clip a guess of x_0 by thresholding alone: with a largest threshold of 1 that is to hold it to
[-1, 1], whatever the quantile.
"""

from dataclasses import dataclass, replace
from typing import Any

from kakusan.config.settings import ProcessSettings
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.errors import ModelError
from kakusan.interop.diffusers.schedulers import (
    FORMAT,
    NETWORK,
    PIPELINES,
    PREDICTS,
    SOLVER,
    UNIPC,
    their_betas,
)
from kakusan.samplers import DPMpp2M, DPMpp3M, DPMppSDE2M, Sampler, UniPC, name_of

LIKE_THEIRS = ("dpmpp-2m", "dpmpp-3m", "dpmpp-sde-2m", "unipc")
INSTEAD = ("the schedulers that pipelines take: --scheduler ddpm or ddim", "any sampler: --to onnx")


@dataclass(frozen=True)
class FewSteps:
    """A scheduler of diffusers that walks as a sampler of ours does."""

    name: str
    config: dict[str, Any]
    steps: int
    sampler: Sampler
    """At trailing times."""

    @property
    def index(self) -> dict[str, Any]:
        """The content of model_index.json."""
        return {
            "_class_name": PIPELINES["ddpm"],
            "_diffusers_version": FORMAT,
            "scheduler": ["diffusers", self.name],
            "unet": ["diffusers", NETWORK],
        }

    @property
    def note(self) -> str:
        """A caution for those who use it."""
        if self.name == UNIPC:
            return (
                f"the scheduler is {UNIPC}, which {PIPELINES['ddpm']} cannot call (it hands on a generator): README.md"
                " has the loop"
            )
        return (
            f"the scheduler is {SOLVER}: {PIPELINES['ddpm']} takes it, with num_inference_steps={self.steps}"
        )


def few_steps(process: ProcessSettings, schedule: NoiseSchedule, sampler: Sampler) -> FewSteps:
    """The scheduler for this sampler. Raises ModelError where diffusers has none that gives the same images."""
    name, own = _own(sampler, process.T)
    if process.variance == "learned":
        raise ModelError(f"{name} of diffusers does not pass over a learned variance", *INSTEAD)
    if sampler.at is not None or (sampler.spacing or process.spacing) != "trailing":
        raise ModelError(
            f"{name} of diffusers spaces times in ways of its own, but for trailing ones, and this walk has others",
            *INSTEAD,
        )
    if process.clip and process.clip_range != 1:
        raise ModelError(
            f"{name} of diffusers holds guesses to [-1, 1] or not at all, not to {process.clip_range}",
            *INSTEAD,
        )
    config = {
        "_class_name": name,
        "_diffusers_version": FORMAT,
        **their_betas(process.schedule, schedule, "ddim"),
        "num_train_timesteps": process.T,
        "prediction_type": {ours: theirs for theirs, ours in PREDICTS.items()}[process.predicts],
        "rescale_betas_zero_snr": process.zero_terminal_snr,
        "timestep_spacing": "trailing",
        "steps_offset": 0,
        "final_sigmas_type": "zero",
        "thresholding": bool(process.clip),
        "sample_max_value": 1.0,
        **own,
    }
    return FewSteps(name, config, sampler.steps or process.T, replace(sampler, spacing="trailing"))


def _own(sampler: Sampler, T: int) -> tuple[str, dict[str, Any]]:
    """The class and its own options. Raises ModelError for samplers, or options, that it lacks."""
    solver = {"solver_type": "midpoint", "lower_order_final": True}
    match sampler:
        case DPMpp2M():
            return SOLVER, {**solver, "algorithm_type": "dpmsolver++", "solver_order": 2}
        case DPMpp3M(published=True):
            order = {"solver_order": 3, "lower_order_final": sampler.lower_order_final}
            return SOLVER, {**solver, "algorithm_type": "dpmsolver++", **order}
        case DPMpp3M():
            raise ModelError(
                f"{SOLVER} has the published coefficients of dpmpp-3m, of order 2, and not the corrected ones",
                "to have theirs: --published",
                *INSTEAD,
            )
        case DPMppSDE2M(eta=1.0):
            return SOLVER, {**solver, "algorithm_type": "sde-dpmsolver++", "solver_order": 2}
        case DPMppSDE2M():
            raise ModelError(f"{SOLVER} has as much noise as eta = 1, not {sampler.eta}", "--eta 1", *INSTEAD)
        case UniPC(order=3, lower_order_final=False):
            raise ModelError(
                f"{UNIPC} of order 3 ends with lower orders",
                "to have that: --lower-order-final",
                *INSTEAD,
            )
        case UniPC():
            uncorrected = [] if sampler.corrector else list(range(T))
            return UNIPC, {
                "solver_order": sampler.order, "solver_type": "bh2", "predict_x0": True, "lower_order_final": True,
                "disable_corrector": uncorrected,
            }  # fmt: skip
    raise ModelError(
        f"diffusers has no scheduler that pipelines can use and that walks as {name_of(sampler)} does",
        f"there are some for: ddim, ancestral (--scheduler ddpm), {', '.join(LIKE_THEIRS)}",
        *INSTEAD[1:],
    )
