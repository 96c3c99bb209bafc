"""The samplers against the schedulers of diffusers 0.42: one denoiser, a formula, the same times and noise.

Their tables are float32, and so is what they compute; ours is float64 here. Images agree to 1e-4, a few hundred times
less than what the methods differ by. One difference of theirs is no rounding: the third order of
`DPMSolverMultistepScheduler` has the coefficient that `published` is for, and is of order 2 (see test_orders.py).
"""

from collections.abc import Callable, Sequence
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import MixtureOracle
from kakusan.diffusion.paths import EDM, Path
from kakusan.diffusion.schedules import Linear
from kakusan.samplers import DDIM, IPNDM, DPMpp2M, DPMpp3M, DPMppSDE2M, Heun, Sampler, SASolver, UniPC, walk
from kakusan.shapes import times_like

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs

F = torch.float64
PEER: Any = diffusers  # whose types say less than it has
PARITY = 1e-4
COUNT = 8


def model_on(path: Path) -> Model[MixtureOracle]:
    """Of single values from two Gaussians: predictions that bend."""
    means = torch.tensor([[-0.6], [0.5]], dtype=F)
    return Model(MixtureOracle(path, torch.tensor([1.0, 2.0]), means, torch.tensor([0.01, 0.04], dtype=F)))


class Noises:
    """Start and noise of a walk: numbers of a seed, float64."""

    def start(self) -> Tensor:
        return torch.randn(COUNT, 1, generator=torch.Generator().manual_seed(0), dtype=F)

    def draw(self, step: int, k: int = 0) -> Tensor:
        return torch.randn(COUNT, 1, generator=torch.Generator().manual_seed(1 + step + 1000 * k), dtype=F)


def ours(sampler: Sampler, path: Path) -> Tensor:
    return [still.x for still in walk(sampler, model_on(path), Noises())][-1]


def theirs(scheduler: Any, steps: int, path: Path, x: Tensor, *, noises: bool = False) -> Tensor:
    """The end of their walk from x; eps by our formula, at their times, which count from 0."""
    scheduler.set_timesteps(steps)
    model, x = model_on(path), x.float()
    for k, time in enumerate(scheduler.timesteps):
        into = scheduler.scale_model_input(x, time)
        eps = model.predict(into.double(), times_like(float(time) + 1, into)).eps.float()
        extra = {"variance_noise": Noises().draw(k).float()} if noises else {}
        x = scheduler.step(eps, time, x, **extra).prev_sample
    return x.double()


def at(scheduler: Any, steps: int) -> tuple[int, ...]:
    """Their times in our count."""
    scheduler.set_timesteps(steps)
    return tuple(int(time) + 1 for time in scheduler.timesteps)


MULTISTEP: dict[str, tuple[type[Any], dict[str, Any], Callable[..., Sampler]]] = {
    "dpmpp-2m": (PEER.DPMSolverMultistepScheduler, {}, DPMpp2M),
    "dpmpp-3m": (
        PEER.DPMSolverMultistepScheduler,
        {"solver_order": 3},
        lambda **given: DPMpp3M(published=True, lower_order_final=True, **given),
    ),
    "dpmpp-sde-2m": (
        PEER.DPMSolverMultistepScheduler,
        {"algorithm_type": "sde-dpmsolver++"},
        DPMppSDE2M,
    ),
    "unipc-1": (
        PEER.UniPCMultistepScheduler,
        {"solver_order": 1},
        lambda **given: UniPC(order=1, **given),
    ),
    "unipc-2": (PEER.UniPCMultistepScheduler, {}, UniPC),
    "unipc-3": (
        PEER.UniPCMultistepScheduler,
        {"solver_order": 3},
        lambda **given: UniPC(order=3, lower_order_final=True, **given),
    ),
    "unip-3": (
        PEER.UniPCMultistepScheduler,
        {"solver_order": 3, "disable_corrector": list(range(100))},
        lambda **given: UniPC(order=3, corrector=False, lower_order_final=True, **given),
    ),
}


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("name", MULTISTEP)
def test_multistep_images_are_theirs(name: str, steps: int, spacing: str) -> None:
    kind, options, sampler = MULTISTEP[name]
    path, scheduler = Linear(), kind(timestep_spacing=spacing, **options)
    times = at(scheduler, steps)
    found = theirs(scheduler, steps, path, Noises().start(), noises="sde" in name)
    assert torch.allclose(ours(sampler(at=times), path), found, rtol=0, atol=PARITY)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_step_of_sa_solvers_predictor_is_theirs(eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From T to t = 1, where their walks end: a step to the data itself, which is DDIM's here, they have not."""
    module = "diffusers.schedulers.scheduling_sasolver.randn_tensor"
    monkeypatch.setattr(module, lambda *_, **__: Noises().draw(0).float())
    scheduler = PEER.SASolverScheduler(
        predictor_order=1, corrector_order=1, tau_func=lambda _: torch.tensor(eta**0.5)
    )
    path, times = Linear(), at(scheduler, 1)
    found = theirs(scheduler, 1, path, Noises().start())
    sampler = SASolver(order=1, eta=eta, corrector=False, at=(*times, 1))
    stills = [still.x for still in walk(sampler, model_on(path), Noises())]
    assert torch.allclose(stills[1], found, rtol=0, atol=PARITY)


def test_their_third_order_is_not_the_corrected_one() -> None:
    """Half of the second difference is missing: the images differ by far more than by rounding."""
    path, scheduler = Linear(), PEER.DPMSolverMultistepScheduler(solver_order=3)
    found = theirs(scheduler, 20, path, Noises().start())
    assert float((ours(DPMpp3M(at=at(scheduler, 20)), path) - found).abs().max()) > 10 * PARITY


@pytest.mark.parametrize("steps", [1, 2, 9, 18])
def test_heuns_images_are_theirs(steps: int) -> None:
    """They walk in x / a, with x_T as large as sigma_T. At whole times: between them they interpolate sigma."""
    path = Linear()
    scheduler: Any = PEER.HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing")
    a, _ = path.at(torch.tensor([1000.0], dtype=F))
    found = theirs(scheduler, steps, path, Noises().start() / a)
    assert torch.allclose(ours(Heun(steps=steps), path), found, rtol=0, atol=PARITY)


def betas_of(path: Path, times: Sequence[float]) -> list[float]:
    """b at these times, which their iPNDM calls betas, and 0 for the data."""
    _, b = path.at(torch.tensor([*times, 0.0], dtype=F))
    return b.tolist()


def test_ipndm_is_theirs_but_for_the_last_step() -> None:
    """Their network says v, and their betas are b. Only the jump to the data, which is DDIM's here, is not there."""
    path, times = Linear(), DDIM(steps=20).times(Linear())[:-1]
    scheduler = PEER.IPNDMScheduler(trained_betas=betas_of(path, times))
    scheduler.set_timesteps(len(times))
    model, x = model_on(path), Noises().start().float()
    stills = [still.x for still in walk(IPNDM(steps=20), model, Noises())]
    for t, time, still in zip(times, scheduler.timesteps, stills, strict=False):
        assert torch.allclose(x.double(), still, rtol=0, atol=PARITY)
        guess, (a, b) = model.predict(x.double(), times_like(t, x)), path.at(times_like(t, x))
        v = a[:, None] * guess.eps - b[:, None] * guess.x_0
        x = scheduler.step(v.float(), time, x).prev_sample
    assert float((x.double() - stills[-1]).abs().max()) > 10 * PARITY


@pytest.mark.parametrize(
    ("kind", "sampler"),
    [(PEER.EDMEulerScheduler, DDIM), (PEER.EDMDPMSolverMultistepScheduler, DPMpp2M)],
    ids=["euler", "dpmpp-2m"],
)
def test_on_the_path_of_edm_images_are_theirs(kind: type[Any], sampler: Callable[..., Sampler]) -> None:
    """Their network stands behind EDM's preconditioning, which is solved here for what our formula says."""
    path, steps, scheduler = EDM(), 12, kind()
    scheduler.set_timesteps(steps)
    model, x = model_on(path), path.x_T(Noises().start()).float()
    times = DDIM(steps=steps, spacing="karras").times(path)
    for k, time in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(x, time)
        sigma = scheduler.sigmas[k].double()
        x_0 = model.predict(x.double(), times_like(times[k], x)).x_0
        skip, out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / (sigma**2 + 0.25).sqrt()
        x = scheduler.step(((x_0 - skip * x.double()) / out).float(), time, x).prev_sample
    found = [still.x for still in walk(sampler(steps=steps, spacing="karras"), model, Noises())][-1]
    assert torch.allclose(found, x.double(), rtol=0, atol=PARITY)
