"""From a subject to its story: every number and picture, at every stop of the slider."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch

from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.likelihood import VariationalBound, variational_bound
from kakusan.diffusion.paths import Path
from kakusan.diffusion.schedules import NoiseSchedule
from kakusan.pages.explain.content import CURVES, BayesBells, Bell, Stop, Story
from kakusan.pages.explain.gaussian_case import GaussianCase, gaussian_case
from kakusan.pages.explain.images import Painter
from kakusan.pages.explain.likelihoods import likelihoods
from kakusan.pages.explain.moment import SEED, STEP, Moment
from kakusan.pages.explain.numbers import shown
from kakusan.pages.explain.sides import Pixel, ddim_pictures, guessed, sides
from kakusan.pages.explain.subject import Subject
from kakusan.samplers import Ancestral, SeededNoise, Snapshot, walk
from kakusan.shapes import Samples

STOPS = 40
SMALL_TIMES = (1, 2, 5, 10)
"""Stops where the bound changes fastest."""
TERMS = 21
"""Terms of the bound, for a network; an exact denoiser of bundled data is so fast that all T are measured."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True)
class Through(Ancestral):
    """Ancestral sampling that visits these times: T first, 0 last."""

    visits: tuple[int, ...]

    def times(self, path: Path) -> tuple[float | int, ...]:  # noqa: ARG002
        return self.visits


def tell(subject: Subject, t: int, progress: Progress = lambda _, __: None) -> Story:
    """The explanation of an image at t (1..T), and of the same image at the other stops."""
    times = stops(subject.schedule.T, t)
    progress(0, "the bound")
    always, bound_words = _bound(subject)
    stills = _walk(subject, times, progress)
    painter = Painter(subject.units, subject.is_points)
    case = gaussian_case(subject.schedule, subject.x_0[:1], bright_pixel(subject.x_0))
    pixel = Pixel(case.mean, case.deviation, bright_pixel(subject.x_0))
    exact = likelihoods(subject.schedule, pixel, case.pixel)
    told: list[Stop] = []
    for at in times:
        progress(0.6 + 0.4 * len(told) / len(times), f"t = {at}")
        told.append(_stop(subject, at, stills[at], painter, pixel))
    moment = Moment(subject.model, subject.schedule, subject.x_0, t)
    first, last = stills[max(stills)], stills[0]
    fixed = {"x_0": moment.truth, "z": moment.noise(STEP), "walk_start": first.x, "walk_end": last.x}
    seen = {"x_0": moment.truth, "x_t": moment.x_t, "guess": moment.guess.x_0}
    alpha_bar = float(subject.schedule.alpha_bar[t])
    return Story(
        image=subject.image,
        who=subject.who,
        facts=subject.facts,
        remark=subject.remark,
        warnings=subject.warnings,
        is_points=subject.is_points,
        shape=(subject.x_0.shape[2], subject.x_0.shape[3]),
        t=t,
        T=subject.schedule.T,
        stops=tuple(told),
        always={**always, **_case(case), **exact},
        notes={"bound": bound_words, "end": _end_of(last.x, subject)},
        pictures=painter.drawn(fixed),
        alpha_bar=tuple(subject.schedule.alpha_bar.tolist()),
        pixels={} if subject.is_points else {n: painter.shades(n, x, alpha_bar) for n, x in seen.items()},
    )


def stops(T: int, t: int) -> tuple[int, ...]:
    """About forty times, evenly over 1..T, with some small ones and the asked one."""
    even = (round(T * i / STOPS) for i in range(1, STOPS + 1))
    return tuple(sorted({at for at in (*SMALL_TIMES, *even, t) if 1 <= at <= T}))


def _stop(subject: Subject, t: int, still: Snapshot, painter: Painter, pixel: Pixel) -> Stop:
    moment = Moment(subject.model, subject.schedule, subject.x_0, t)
    numbers = moment.numbers() | sides(moment, pixel)
    assert still.x_0 is not None  # the walk has gone on from here
    pictures = {**moment.pictures(), **ddim_pictures(moment), "walk": still.x, "walk_guess": still.x_0}
    return Stop(
        t=t,
        numbers=numbers,
        pictures=painter.drawn(pictures, float(subject.schedule.alpha_bar[t])),
        notes=_notes(moment, numbers),
        bells=_bells(moment) if t > 1 else None,
        guesses=_guesses(subject.schedule, t),
        is_answered=bool(moment.guess.x_0.isfinite().all() and moment.guess.eps.isfinite().all()),
    )


@torch.no_grad()
def _walk(subject: Subject, times: tuple[int, ...], progress: Progress) -> dict[int, Snapshot]:
    """A walk of the denoiser's own through these times: x_t with the guess made there, and x_0 under t = 0."""
    model, x_0 = subject.model, subject.x_0
    _, channels, height, width = x_0.shape
    noises = SeededNoise(SEED, torch.arange(len(x_0)), (channels, height, width))
    sampler = Through(visits=(*reversed(times), 0))
    stills: list[Snapshot] = []
    for still in walk(sampler, model, noises):
        progress(0.3 + 0.3 * len(stills) / len(times), "a walk")
        stills.append(still)
    seen = {int(here.t): Snapshot(here.t, here.x, after.x_0) for here, after in pairwise(stills)}
    return {**seen, 0: stills[-1]}


def _bells(moment: Moment) -> BayesBells:
    schedule, at = moment.schedule, moment.at
    beta, alpha = float(schedule.beta[moment.t]), float(schedule.alpha[moment.t])
    place = bright_pixel(moment.truth)
    came = float(moment.x_t.flatten()[place]) / math.sqrt(alpha) if alpha else math.nan
    return BayesBells(
        step=Bell(came, math.sqrt(beta / alpha) if alpha else math.inf),
        prior=_bell(q_marginal(schedule, moment.truth, at - 1), place),
        posterior=_bell(moment.posterior, place),
    )


def _bell(law: Gaussian, place: int) -> Bell:
    return Bell(float(law.mean.flatten()[place]), math.sqrt(float(law.variance.flatten()[0])))


def bright_pixel(x_0: Samples) -> int:
    """The place of one pixel of the first image: of the brightest, that nearest to the middle."""
    first = x_0[0]
    _, height, width = first.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    away = (rows - height / 2).square() + (columns - width / 2).square()
    order = first[0] - away / (10 * (height**2 + width**2))  # distance decides between equals
    return int(order.argmax())


def _bound(subject: Subject) -> tuple[dict[str, float], str]:
    """The bound of the image, in numbers and in words."""
    exact = subject.known is not None
    found = variational_bound(subject.model, subject.x_0[:1], terms=None if exact else TERMS)
    numbers = {
        "T": float(found.T),
        "L_T": float(found.L_T[0]),
        "L_steps": float(found.L_steps[0]),
        "L_0": float(found.L_0[0]),
        "total": float(found.total[0]),
        "standard_error": float(found.standard_error[0]),
    }
    return numbers, " ".join(part for part in (_measured(found), _model(found), _naming(subject)) if part)


def _measured(bound: VariationalBound) -> str:
    count = bound.t.shape[1]
    if count == bound.T:
        return "Bits for each pixel value, one draw of noise for each term."
    error = shown(float(bound.standard_error[0]))
    share = f"from {count} of the {bound.T:,} terms"
    return f"Bits for each pixel value, {share}: the total to within {error} (standard error)."


def _model(bound: VariationalBound) -> str:
    """The choices that belong to a bound."""
    clip = "$\\hat x_0$ not clipped" if bound.clip is None else f"$\\hat x_0$ clipped at {bound.clip:g}"
    kind = "densities" if bound.levels is None else f"probabilities of {bound.levels} levels"
    sigma_1 = (
        bound.sigma_1.replace("beta~", "\\tilde\\beta") if "~" in bound.sigma_1 else f"\\{bound.sigma_1}"
    )
    return f"The model: variance {bound.variance}, $\\sigma_1^2 = {sigma_1}$, {clip}, {kind}."


def _naming(subject: Subject) -> str:
    """A sentence on the bits that an exact denoiser ought to need: those that say which of its images it is."""
    if subject.known is None or subject.is_points:
        return ""
    count, values = len(subject.known), subject.x_0[0].numel()
    bits = math.log2(count)
    return (
        f"No code says which of {count:,} images it is in fewer than log₂ {count:,} = {bits:.4g} bits on average, "
        f"{bits / values:.4g} for each of {values:,} values; with small steps the exact denoiser comes close to that."
    )


def _case(case: GaussianCase) -> dict[str, float]:
    return {
        "case_pixel": case.pixel,
        "case_mean": case.mean,
        "case_deviation": case.deviation,
        "evidence": case.evidence,
        "evidence_bound": case.bound,
        "evidence_gap": case.bound - case.evidence,
        "entropy": case.entropy,
        "cross_entropy": case.cross_entropy,
        "mean_bound": case.mean_bound,
        "entropy_gap": case.mean_bound - case.cross_entropy,
    }


def _guesses(schedule: NoiseSchedule, t: int) -> tuple[tuple[float, ...], ...]:
    x_t = torch.linspace(-CURVES.reach, CURVES.reach, CURVES.nodes).double().view(-1, 1, 1, 1)
    return tuple(tuple(guessed(schedule, x_t, t, w).x_0.flatten().tolist()) for w in CURVES.weights)


def _end_of(x_0: Samples, subject: Subject) -> str:
    """A sentence on the end of the walk, if that is one of the images of the exact denoiser."""
    if subject.known is None or not subject.known.captions:
        return ""
    level = subject.units.decode(x_0)
    same = (subject.known.images == level[0]).all((1, 2, 3)).nonzero()[0]
    if not len(same):
        return ""
    return f"This walk ends at {subject.known.captions[int(same[0])]}, one of the images that {subject.who} knows."


def _notes(moment: Moment, numbers: Mapping[str, float | None]) -> dict[str, str]:
    """Words that depend on t."""
    if moment.t == 1:
        return {
            "bayes": "At t = 1 there is nothing to turn around: the answer is the image itself, a single point.",
            "weighted": "At t = 1 the term is L₀ of (11), which is not of this form.",
        }
    weighted = (
        "Bits for each pixel value: the term of (11) once more."
        if numbers["weight_gap"] is not None
        else "Here α is 0, and ε says nothing of the image: this form divides by zero, and (11) does not."
    )
    learned = moment.back.variance[0].numel() > 1
    return {
        "bayes": "",
        "weighted": weighted + " The variance is learned; the weight is its mean over the image." * learned,
    }
