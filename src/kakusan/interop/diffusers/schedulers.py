"""The schedulers of diffusers as the process of a run, and back: dictionaries in, values out, and nothing is opened.

`DDPMScheduler` and `DDIMScheduler` are those of its pipelines; the two of few steps walk as samplers of ours do
(`few_steps.py`). A key that is missing means what it means there; what has no counterpart here is refused.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias

from kakusan.config.settings import RANGES, ProcessSettings
from kakusan.diffusion.schedules import BetweenEnds, NoiseSchedule, ZeroTerminalSNR
from kakusan.errors import ModelError
from kakusan.interop.diffusers.keys import Config, Keys, is_number

Scheduler: TypeAlias = Literal["ddpm", "ddim"]

FORMAT = "0.36.0"
"""The version of diffusers whose keys are written."""

PIPELINES: dict[Scheduler, str] = {"ddpm": "DDPMPipeline", "ddim": "DDIMPipeline"}
SCHEDULERS: dict[Scheduler, str] = {"ddpm": "DDPMScheduler", "ddim": "DDIMScheduler"}
NETWORK = "UNet2DModel"
SOLVER, UNIPC = "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"
FEW_STEPS = (SOLVER, UNIPC)
ALL_SCHEDULERS = (*SCHEDULERS.values(), *FEW_STEPS)
"""Classes that an import reads."""
PREDICTS = {"epsilon": "eps", "sample": "x_0", "v_prediction": "v"}
SCHEDULES = {
    "linear": "linear",
    "scaled_linear": "scaled-linear",
    "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid-betas",
}
VARIANCES = {
    "fixed_small": "fixed-small",
    "fixed_small_log": "fixed-small",  # the same numbers, by way of their logarithm
    "fixed_large": "fixed-large",
    "learned_range": "learned",
}
UNKNOWN_THERE = ("ddim", "sigmoid")
"""A schedule of betas that one of the two schedulers lacks: it is written one by one."""
BETAS = (1e-12, 0.9999)
WITH_ENDS = ("linear", "scaled-linear", "sigmoid-betas")
MOST_TIMES = 100_000
OTHER_TIMES = (
    "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas", "use_dynamic_shifting"
)  # fmt: skip
"""Keys that lay the times of a scheduler of few steps elsewhere than `timestep_spacing` does."""

SILENT = {"_class_name", "_diffusers_version", "_name_or_path", "_commit_hash", "_use_default_values"}


# Theirs into ours


@dataclass(frozen=True)
class ReadScheduler:
    """A scheduler of diffusers as the process of a run."""

    process: ProcessSettings
    kind: Scheduler
    """Of the pipelines' two; of one of few steps the one without fresh noise."""
    sampler: str = ""
    """Of one of few steps: the flags of `kakusan sample` that walk as it does."""
    notes: tuple[str, ...] = ()


def read_scheduler(config: Config) -> ReadScheduler:
    """The process for a scheduler of diffusers. Raises ModelError for what is not known here."""
    theirs = Keys(config, "the scheduler")
    name = theirs.choice("_class_name", "", ALL_SCHEDULERS)
    if name in FEW_STEPS:
        return _of_few_steps(theirs, name)
    kind: Scheduler = "ddim" if name == SCHEDULERS["ddim"] else "ddpm"
    theirs.only("thresholding", False)
    for key in ("dynamic_thresholding_ratio", "sample_max_value", "tensor_format", "timestep_values"):
        theirs.take(key, None)  # nothing follows from them without thresholding
    theirs.only("steps_offset", 0)
    theirs.take("set_alpha_to_one", None)
    if kind == "ddim":
        theirs.only("set_alpha_to_one", True)  # otherwise sampling stops short of the data
    older = "epsilon" if theirs.flag("predict_epsilon", default=True) else "sample"  # before prediction_type
    predicts = PREDICTS[theirs.choice("prediction_type", older, tuple(PREDICTS))]
    zero = theirs.flag("rescale_betas_zero_snr", default=False)
    if zero and predicts == "eps":
        _refuse_division_by_zero(theirs)
    process = ProcessSettings(
        predicts=predicts,
        zero_terminal_snr=zero,
        variance=VARIANCES[theirs.choice("variance_type", "fixed_small", tuple(VARIANCES))],
        clip=theirs.flag("clip_sample", default=True),
        clip_range=theirs.number("clip_sample_range", 1.0, RANGES["process.clip_range"]),
        spacing=theirs.choice("timestep_spacing", "leading", ("trailing", "leading", "linspace")),
        **_betas(theirs, kind),
    )
    theirs.done(SILENT)
    return ReadScheduler(process, kind)


def _refuse_division_by_zero(theirs: Keys) -> NoReturn:
    why = "at the end eps would say nothing of the image: a division by zero"
    theirs.refuse("rescale_betas_zero_snr", True, why)


def _of_few_steps(theirs: Keys, name: str) -> ReadScheduler:
    """The process of a scheduler of few steps, and the sampler that walks as it does."""
    sampler = (_solver if name == SOLVER else _unipc)(theirs)
    for key in OTHER_TIMES:
        theirs.only(key, False)
    for key in ("sigma_min", "sigma_max", "shift_terminal"):
        theirs.only(key, None)
    theirs.only("final_sigmas_type", "zero")
    theirs.only("steps_offset", 0)
    for key in ("dynamic_thresholding_ratio", "flow_shift", "time_shift_type"):
        theirs.take(
            key, None
        )  # of a threshold of 1 at the most every share is the same; of shifts that are off
    clip = theirs.flag("thresholding", default=False)
    if clip:
        theirs.only("sample_max_value", 1.0)
    theirs.take("sample_max_value", None)
    predicts = PREDICTS[theirs.choice("prediction_type", "epsilon", tuple(PREDICTS))]
    zero = theirs.flag("rescale_betas_zero_snr", default=False)
    if zero and predicts == "eps":
        _refuse_division_by_zero(theirs)
    spacing = theirs.choice("timestep_spacing", "linspace", ("trailing", "leading", "linspace"))
    process = ProcessSettings(
        predicts=predicts,
        zero_terminal_snr=zero,
        variance="fixed-small",
        clip=clip,
        spacing=spacing,
        **_betas(theirs, "ddim"),
    )
    theirs.done(SILENT)
    like = "its images" if spacing == "trailing" else "images like its own, at times of our spacing"
    note = f"the scheduler is {name}; {like}: kakusan sample RUN --sampler {sampler}"
    return ReadScheduler(process, "ddim", sampler, (note,))


def _solver(theirs: Keys) -> str:
    """The flags of the sampler that walks as a DPMSolverMultistepScheduler does."""
    kind = theirs.choice("algorithm_type", "dpmsolver++", ("dpmsolver++", "sde-dpmsolver++"))
    theirs.only("solver_type", "midpoint")
    theirs.only("euler_at_final", False)
    theirs.only("use_lu_lambdas", False)
    theirs.only("variance_type", None)
    theirs.only("lambda_min_clipped", -math.inf)
    order = theirs.choice("solver_order", 2, (2,) if kind == "sde-dpmsolver++" else (1, 2, 3))
    if order == 3:
        lower = theirs.flag("lower_order_final", default=True)
        return f"dpmpp-3m --published --{'' if lower else 'no-'}lower-order-final"
    theirs.only("lower_order_final", True)
    return "dpmpp-sde-2m" if kind == "sde-dpmsolver++" else {1: "ddim", 2: "dpmpp-2m"}[order]


def _unipc(theirs: Keys) -> str:
    """The same of a UniPCMultistepScheduler."""
    theirs.only("solver_type", "bh2")
    theirs.only("predict_x0", True)
    theirs.only("lower_order_final", True)
    theirs.only("solver_p", None)
    order = theirs.choice("solver_order", 2, (1, 2, 3))
    off, T = theirs.take("disable_corrector", []), theirs.config.get("num_train_timesteps", 1000)
    if off not in ([], [*range(T if isinstance(T, int) and T <= MOST_TIMES else 0)]):
        theirs.refuse("disable_corrector", off, "the corrector is there at every step, or at none")
    flags = {1: " --order 1", 2: "", 3: " --order 3 --lower-order-final"}[order]
    return f"unipc{flags}" + " --no-corrector" * bool(off)


def _betas(theirs: Keys, kind: Scheduler) -> dict[str, Any]:
    """The settings of the schedule. Betas given one by one come before its name, as there."""
    T = theirs.count("num_train_timesteps", 1000, most=MOST_TIMES)
    ends = {
        "beta_1": theirs.number("beta_start", 1e-4, BETAS),
        "beta_T": theirs.number("beta_end", 0.02, BETAS),
    }
    known = tuple(name for name in SCHEDULES if (kind, name) != UNKNOWN_THERE)
    name = SCHEDULES[theirs.choice("beta_schedule", "linear", known)]
    betas = theirs.take("trained_betas", None)
    if betas is None:
        return {"schedule": name, "T": T, **(ends if name in WITH_ENDS else {})}
    if not isinstance(betas, list) or not all(is_number(beta) and 0 < beta <= 1 for beta in betas):
        theirs.refuse("trained_betas", betas, "it is a list of numbers above 0 and at most 1")
    if len(betas) != T:
        theirs.refuse("trained_betas", f"{len(betas)} numbers", f"num_train_timesteps is {T}")
    return {"schedule": "given", "T": T, "betas": tuple(float(beta) for beta in betas)}


# Ours into theirs


def scheduler_config(process: ProcessSettings, schedule: NoiseSchedule, kind: Scheduler) -> dict[str, Any]:
    """The configuration in diffusers of a process."""
    variance = {ours: theirs for theirs, ours in reversed(VARIANCES.items())}[process.variance]
    if kind == "ddim" and process.variance == "learned":
        raise ModelError(
            f"{SCHEDULERS[kind]} knows no learned variance", "leave --scheduler out, or say ddpm"
        )
    return {
        "_class_name": SCHEDULERS[kind],
        "_diffusers_version": FORMAT,
        **their_betas(process.schedule, schedule, kind),
        "clip_sample": bool(process.clip),
        "clip_sample_range": process.clip_range,
        "dynamic_thresholding_ratio": 0.995,
        "num_train_timesteps": process.T,
        "prediction_type": {ours: theirs for theirs, ours in PREDICTS.items()}[process.predicts],
        "rescale_betas_zero_snr": process.zero_terminal_snr,
        **({"set_alpha_to_one": True} if kind == "ddim" else {"variance_type": variance}),
        "sample_max_value": 1.0,
        "steps_offset": 0,
        "thresholding": False,
        "timestep_spacing": process.spacing,
    }


def their_betas(name: str, schedule: NoiseSchedule, kind: Scheduler) -> dict[str, Any]:
    schedule = schedule.of if isinstance(schedule, ZeroTerminalSNR) else schedule
    names = {ours: theirs for theirs, ours in SCHEDULES.items() if (kind, theirs) != UNKNOWN_THERE}
    first, last = (
        schedule.ends if isinstance(schedule, BetweenEnds) else BetweenEnds.usual
    )  # or not looked at
    return {
        "beta_start": first,
        "beta_end": last,
        "beta_schedule": names.get(name, "linear"),
        "trained_betas": None if name in names else schedule.betas().tolist(),
    }


def model_index(kind: Scheduler) -> dict[str, Any]:
    """The content of model_index.json: the classes of diffusers that the parts of the folder are for."""
    return {
        "_class_name": PIPELINES[kind],
        "_diffusers_version": FORMAT,
        "scheduler": ["diffusers", SCHEDULERS[kind]],
        "unet": ["diffusers", NETWORK],
    }
