"""All that the page of points shows, in numbers: points of q, the score on a grid, and walks of samplers.

Coordinates are those of x_t in the scale of the variance-preserving twin, so that every path of t fits one picture. The
noise of a point is the same at every t, and so is the noise that walks begin with: points flow as t moves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.gaussians import double
from kakusan.diffusion.model import Model
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.errors import NumbersError, SettingsError
from kakusan.pages.explain.gather import stops
from kakusan.pages.explain.subject import Subject
from kakusan.randomness import Purpose, normals
from kakusan.samplers import DDIM, Ancestral, Heun, Sampler, SeededNoise, walk
from kakusan.samplers.auto import BEST_NAME, auto
from kakusan.shapes import Condition, Samples, Times, per_sample, times_like

SEED = 0
GRID = 17
"""Arrows in a row."""
REACH = 2.8
"""Half the side of the square that the arrows fill, in units of the data's deviation."""
GHOSTS = 800
"""Points of the data that stand still in the background, where all are known."""
EARLY = 8
"""The page opens at T / 8: points have left the data, and arrows still tell one part from another."""
MOST_STEPS = {"ancestral": 100, "ddim": 20, "heun": 10}

Floats = NDArray[np.float32]
Progress = Callable[[float, str], None]


@dataclass(frozen=True, eq=False)
class Walk:
    """Points on their way from noise, by one sampler."""

    name: str
    words: str
    term: str
    """The same in Japanese."""
    steps: int
    calls: int
    """Network calls, for each point."""
    times: tuple[float, ...]
    """T first, 0 last."""
    x: Floats
    """(times, points, 2)"""

    def at(self, t: float) -> int:
        """The place of the last time that the walk has reached when the slider is at t."""
        return max(place for place, time in enumerate(self.times) if time >= t or place == 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Film:
    """The whole page. Strings may come from anywhere: the page escapes them."""

    name: str
    who: str
    facts: Mapping[str, str]
    warnings: tuple[str, ...]
    t: int
    T: int
    times: tuple[int, ...]
    """Those of the slider, from 0 on."""
    shares: tuple[float, ...]
    """alpha_bar at each: the share of the variance that is still data."""
    data: Floats
    """(ghosts, 2)"""
    points: Floats
    """(times, points, 2), of q."""
    grid: Floats
    """(arrows, 2)"""
    arrows: Floats
    """(times, arrows, 2): b_t^2 times the score, which points from x_t to a_t x_0_hat; 0 at t = 0."""
    walks: tuple[Walk, ...]

    @property
    def asked(self) -> int:
        """The place of the asked t on the slider."""
        return self.times.index(self.t)


@dataclass(frozen=True, eq=False)
class Counted(Denoiser):
    """A denoiser that counts how often it is asked."""

    of: Denoiser
    path: Path
    calls: list[int] = field(default_factory=list)

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        self.calls.append(len(x_t))
        return self.of.predict(x_t, t, condition)


def film(subject: Subject, t: int | None, progress: Progress = lambda _, __: None) -> Film:
    """The page of these points. Raises SettingsError for images, and for t outside of 1..T; NumbersError
    for a denoiser that answers with numbers that are not finite.
    """
    path = subject.model.path
    t = _checked(subject, t)
    times = (0, *stops(path.T, t))
    x_0, grid = double(subject.x_0), _grid()
    return Film(
        name=subject.facts.get("Data", subject.image).partition(",")[0],
        who=subject.who,
        facts={label: words for label, words in subject.facts.items() if label != "Image"},
        warnings=subject.warnings,
        t=t,
        T=path.T,
        times=times,
        shares=tuple(path.alpha_bar_at(torch.tensor(times).double()).tolist()),
        data=_ghosts(subject),
        points=np.stack([_scaled(_noised(path, x_0, at), path, at) for at in times]),
        grid=_plain(grid),
        arrows=_all_arrows(subject.model, grid, times, progress),
        walks=_all_walks(subject.model, len(x_0), progress),
    )


def samplers(T: int) -> dict[str, Sampler]:
    """Four that differ: with fresh noise at each step, without any, in few steps, and of second order."""
    steps = {name: min(most, T) for name, most in MOST_STEPS.items()}
    return {
        "ancestral": Ancestral(steps=steps["ancestral"]),
        "ddim": DDIM(steps=steps["ddim"]),
        BEST_NAME: auto(T),
        "heun": Heun(steps=steps["heun"], spacing="log-snr"),  # even in t, its first step would miss by far
    }


WORDS = {
    "ancestral": ("Algorithm 2: fresh noise at each step, so paths are rough.", "祖先サンプリング"),
    "ddim": ("No fresh noise: a path is a curve, and its end a function of its beginning.", "決定論的な軌跡"),
    BEST_NAME: (
        "What auto takes: long steps through several guesses, with some fresh noise.",
        "既定のサンプラー",
    ),
    "heun": ("The same curves as DDIM's by a method of order two, at two calls a step.", "二次の解法"),
}
"""Of each sampler: a sentence, and a term in Japanese."""


def _checked(subject: Subject, t: int | None) -> int:
    T = subject.model.path.T
    if not subject.is_points:
        raise SettingsError(
            "the page of points draws points in the plane, and these are images",
            "leave out --plane, or take --data swiss-roll or two-moons",
        )
    if t is not None and not 1 <= t <= T:
        raise SettingsError(f"t must be 1 to {T:,}, not {t}", "t = 0 is the data, t = T the noise")
    return max(1, T // EARLY) if t is None else t


def _grid() -> Samples:
    axis = torch.linspace(-REACH, REACH, GRID).double()
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    return torch.stack([x, y], -1).view(-1, 2, 1, 1)


def _all_arrows(model: Model[Denoiser], grid: Samples, times: tuple[int, ...], progress: Progress) -> Floats:
    found: list[Floats] = []
    for t in times:
        progress(0.5 * len(found) / len(times), f"the score at t = {t}")
        found.append(_arrows(model, grid, t))
    return np.stack(found)


def _all_walks(model: Model[Denoiser], count: int, progress: Progress) -> tuple[Walk, ...]:
    found: list[Walk] = []
    for name, sampler in samplers(model.path.T).items():
        progress(0.5 + 0.12 * len(found), name)
        found.append(_walk(model, name, sampler, count))
    return tuple(found)


@torch.no_grad()
def _arrows(model: Model[Denoiser], grid: Samples, t: int) -> Floats:
    """b_t^2 grad log q(x_t) = a_t x_0_hat - x_t at each place of the grid."""
    if t == 0:
        return np.zeros((len(grid), 2), dtype=np.float32)
    at = times_like(t, grid)
    x_t = per_sample(model.path.scale_at(at), grid) * grid
    guess = double(model.denoiser.predict(x_t.float(), at).x_0)
    return _scaled(per_sample(model.path.at(at)[0], grid) * guess - x_t, model.path, t)


def _noised(path: Path, x_0: Samples, t: int) -> Samples:
    noise = normals(SEED, Purpose.EVALUATION, 0, torch.arange(len(x_0)), tuple(x_0.shape[1:])).double()
    return q_marginal(path, x_0, times_like(t, x_0)).reparametrize(noise)


def _walk(model: Model[Denoiser], name: str, sampler: Sampler, count: int) -> Walk:
    counted = Counted(model.denoiser, model.path)
    noises = SeededNoise(SEED, torch.arange(count), (2, 1, 1))
    seen = list(walk(sampler, replace(model, denoiser=counted), noises))
    words, term = WORDS[name]
    return Walk(
        name=name,
        words=words,
        term=term,
        steps=len(seen) - 1,
        calls=len(counted.calls),
        times=tuple(float(still.t) for still in seen),
        x=np.stack([_scaled(still.x, model.path, still.t) for still in seen]),
    )


def _ghosts(subject: Subject) -> Floats:
    if subject.known is None:
        return _plain(subject.x_0)
    every = np.linspace(0, len(subject.known) - 1, min(GHOSTS, len(subject.known))).astype(np.int64)
    return _plain(subject.known.x_0(every))


def _scaled(x: Samples, path: Path, t: float) -> Floats:
    """In the scale of the twin. Raises NumbersError for what has no place in a picture."""
    if not x.isfinite().all():
        raise NumbersError(
            f"at t = {t:g} the denoiser answers with numbers that are not finite, and they cannot be drawn",
            "a training that has diverged leaves such weights: lower its learning rate, or take another run",
        )
    return _plain(double(x) / path.scale_at(times_like(t, x)).view(-1, 1, 1, 1))


def _plain(x: Samples) -> Floats:
    return x.reshape(len(x), 2).float().cpu().numpy()
