"""Samples of x given y beside the exact posterior: every method, calls of the denoiser against calibration.

    python benchmarks/posterior.py measure > posterior.jsonl                 three problems, 10 to 100 calls: minutes
    python benchmarks/posterior.py measure --all > posterior.jsonl           all problems, up to 1,000 calls: hours
    python benchmarks/posterior.py measure --problems levy-laplace --methods smc,gibbs --calls 100,1000
    python benchmarks/posterior.py show posterior.jsonl
    python benchmarks/posterior.py draw posterior.jsonl docs/posterior.png

The denoisers are exact, and so are the posteriors: what is off is the method. Problems: mixtures of 25 Gaussians in 8,
80 and 800 dimensions, a few random projections measured (as Cardoso et al. 2024); random walks of 64 values with
Gaussian, Laplace or Student increments, or such that are mostly 0, every third value measured (as Zach et al. 2026); a
finite set of images. Each truth is drawn and measured, and 39 samples are drawn of it. Coverage is that of central
intervals between two of the 39, with twice its standard error over truths; CRPS, mean, spread and sliced distance are
beside those of as many draws of the posterior. A denoiser of your own is put to it by
`tried(method, problem, denoiser)`.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from levy import INCREMENTS, Walk
from matplotlib.figure import Figure
from measuring import Figures, table
from torch import Tensor

from kakusan.data.builtin import digits
from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.oracles import FiniteSetOracle, MixtureOracle
from kakusan.diffusion.schedules import Cosine
from kakusan.operators import Mask, Operator
from kakusan.operators.matrix import Matrix
from kakusan.posterior import (
    DAPS,
    DPS,
    MMPS,
    SMC,
    DiffPIR,
    Gibbs,
    Measurement,
    Method,
    Restoration,
    posterior,
    restored,
)
from kakusan.posterior.diffpir import Renoise
from kakusan.samplers import DDIM, DPMppSDE2M
from kakusan.statistics.ensembles import Ensemble, ranks_of, scores_of

CALLS = (10, 30, 100, 1000)
MEMBERS = 39
"""Samples of each truth: intervals of 50, 80, 90 and 95 % then lie between two of them."""
LEVELS = {50: 10, 80: 4, 90: 2, 95: 1}
"""The rank, from below, at which a central interval begins."""
SLICES = 64
COLOURS = {
    "mmps": "#2f6f8f",
    "smc": "#b5402c",
    "gibbs": "#5b8c3a",
    "diffpir": "#d98a3a",
    "daps": "#8a5aa8",
    "dps": "#9aa0a8",
}
EXACT = "exact"
DPI, IN_A_ROW = 130, 4
SHARES = (1, 2, 4, 8, 16, 32)
"""Ticks of the distance, in shares of that of exact draws."""


def method_of(name: str, calls: int) -> Method:
    """The method in about so many calls for each sample."""
    if name == "smc":
        particles = max(1, round((calls / 4) ** 0.5))
        return SMC(particles=particles, steps=max(1, round(calls / particles)))
    if name == "gibbs":
        prior_steps = min(5, max(2, calls // 10))
        turns = calls // prior_steps
        particles = max(1, round(turns**0.5))
        return Gibbs(iterations=max(1, turns // particles), prior_steps=prior_steps, particles=particles)
    if name == "daps":
        flow_steps = min(4, max(1, calls // 10))
        return DAPS(levels=max(1, calls // flow_steps), flow_steps=flow_steps)
    if name == "diffpir":
        return DiffPIR(sampler=Renoise(steps=calls))
    return (
        MMPS(sampler=DPMppSDE2M(steps=calls)) if name == "mmps" else DPS(sampler=DDIM(steps=calls, eta=1.0))
    )


METHODS = tuple(COLOURS)


@dataclass(frozen=True, eq=False)
class Problem:
    """Data with an exact denoiser, what is measured of them, and how many truths are drawn."""

    name: str
    oracle: Denoiser
    operator: Operator
    sigma: float
    truths: int
    level: float = 0.0
    """Between two values that data may have: samples are rounded to them before they are ranked; 0: all values."""

    @cached_property
    def x(self) -> Tensor:
        """Truths, float64."""
        drawn: Tensor = self.oracle.sample(self.truths, seed=1)  # type: ignore[attr-defined]
        return drawn

    @cached_property
    def measurement(self) -> Measurement:
        exact = self.operator(self.x)
        noise = torch.from_numpy(np.random.Generator(np.random.Philox(2)).standard_normal(exact.shape))
        return Measurement(self.operator, exact + self.sigma * noise, self.sigma, tuple(self.x.shape[1:]))

    @cached_property
    def exact(self) -> tuple[Tensor, Tensor]:
        """Two independent sets of draws of the posterior, (truths, MEMBERS, D)."""
        generator = torch.Generator().manual_seed(3)
        first, second = (
            torch.stack([self._drawn(k, generator) for k in range(self.truths)]) for _ in range(2)
        )
        return first, second

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean, (truths, D), and the trace of the covariance, (truths,), of the posterior."""
        found = [self._law(k) for k in range(self.truths)]
        return torch.stack([mean for mean, _ in found]), torch.stack([total for _, total in found])

    def _law(self, k: int) -> tuple[Tensor, Tensor]:
        if isinstance(self.oracle, Walk):
            return self.oracle.posterior_moments(self.measurement.rows(torch.tensor([k])))
        law = posterior(self.oracle, self.measurement.rows(torch.tensor([k])))
        away = (law.means - law.mean).square().sum(1) @ law.weights
        within = 0.0 if law.roots is None else law.weights @ law.roots.square().sum((1, 2))
        return law.mean, away + within

    def _drawn(self, k: int, generator: torch.Generator) -> Tensor:
        rows = self.measurement.rows(torch.tensor([k]))
        if isinstance(self.oracle, Walk):
            return self.oracle.posterior_draws(rows, MEMBERS, generator)
        law = posterior(self.oracle, rows)
        luck = torch.rand(MEMBERS, generator=generator, dtype=torch.float64)
        noise = torch.randn(MEMBERS, law.means.shape[1], generator=generator, dtype=torch.float64)
        return law.drawn(luck, noise)


def mixture(D: int, measured: int, truths: int) -> Problem:
    """25 Gaussians of deviation 1 at (8 i, 8 j, 8 i, ...), i, j = -2..2, in units of the deviation of all."""
    unit = (1 + 8**2 * 2) ** 0.5
    centres = torch.tensor(list(product(range(-2, 3), repeat=2)), dtype=torch.float64)
    means = 8 * centres.repeat(1, D // 2)[:, None] / unit
    generator = np.random.Generator(np.random.Philox(D))
    weights = torch.from_numpy(generator.chisquare(3, 25))
    A = torch.from_numpy(generator.standard_normal((measured, D))) / D**0.5
    oracle = MixtureOracle(Cosine(), weights, means, torch.full((25,), unit**-2, dtype=torch.float64))
    return Problem(f"mixture-{D}", oracle, Matrix(A), 0.05, truths)


def levy(increments: str) -> Problem:
    """A random walk of 64 values, every third measured."""
    known = (torch.arange(64) % 3 == 0)[None]
    return Problem(f"levy-{increments}", Walk(Cosine(), increments), Mask(known), 0.1, 12)


def finite() -> Problem:
    """600 digits of 8x8, the upper half measured with much noise."""
    images = (
        torch.from_numpy(np.asarray(digits().images[:600], dtype=np.float64)).reshape(600, 1, 8, 8) / 8 - 1
    )
    known = torch.zeros(8, 8, dtype=torch.bool)
    known[:4] = True
    return Problem("finite-set", FiniteSetOracle(Cosine(), images), Mask(known), 0.7, 40, 1 / 8)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "mixture-8": lambda: mixture(8, 1, 60),
    "mixture-80": lambda: mixture(80, 2, 40),
    "mixture-800": lambda: mixture(800, 4, 12),
    **{f"levy-{name}": partial(levy, name) for name in INCREMENTS},
    "finite-set": finite,
}


SHORT = ("mixture-8", "mixture-80", "finite-set")
"""Problems that are measured in minutes."""


def tried(method: Method, problem: Problem, denoiser: Denoiser | None = None) -> Figures:
    """A method, with the exact denoiser or another of the same data, beside the exact posterior."""
    begun = time.perf_counter()
    request = Restoration(
        count=MEMBERS, micro_batch=2048, dtype=torch.float64 if denoiser is None else torch.float32
    )
    found = restored(denoiser or problem.oracle, problem.measurement, method, request)
    effective = {} if found.effective is None else {"effective": round(float(found.effective.mean()), 2)}
    return {
        "calls": found.calls,
        "backward": found.backward,
        "seconds": round(time.perf_counter() - begun, 2),
        **effective,
        **figures(problem, found.samples.double().flatten(2)),
    }


def figures(problem: Problem, samples: Tensor) -> Figures:
    """Of samples (truths, MEMBERS, D). Errors of the mean and of the spread are shares of the posterior's deviation."""
    truth, (mean, total) = problem.x.flatten(1), problem.moments
    first, second = problem.exact
    spread = samples.var(1).sum(1)
    error = (samples.mean(1) - mean).square().sum(1) - spread / MEMBERS
    between = sliced(samples, first)
    ranked = (samples / problem.level).round() * problem.level if problem.level else samples
    covered = {str(level): coverage(ranked, truth, rank) for level, rank in LEVELS.items()}
    return {
        "coverage": {level: round(share, 4) for level, (share, _) in covered.items()},
        "band": {level: round(error, 4) for level, (_, error) in covered.items()},
        "crps": crps(samples, truth) / crps(first, truth),
        "mean_error": float((error / total).mean().clamp(min=0).sqrt()),
        "spread": float((spread / total).mean()),
        "sliced": float(between / sliced(second, first)),
    }


def coverage(samples: Tensor, truth: Tensor, rank: int) -> tuple[float, float]:
    """Share of values in the central interval between two members, and twice its standard error over truths.

    Where a truth equals members, as those of a finite set may, lots are drawn; values that are all the same are left
    out (`kakusan.statistics.ensembles`).
    """
    found = ranks_of(Ensemble(samples, truth))
    inside = found.counts[:, rank : MEMBERS + 1 - rank].sum(1)[found.totals > 0]
    by_truth = inside / found.totals[found.totals > 0]
    return float(by_truth.mean()), float(2 * by_truth.std(ddof=1) / len(by_truth) ** 0.5)


def crps(samples: Tensor, truth: Tensor) -> float:
    """Mean continuous ranked probability score of all values, fair to finite ensembles (Ferro 2014)."""
    return scores_of(Ensemble(samples, truth)).fair_crps.value


def sliced(samples: Tensor, others: Tensor) -> Tensor:
    """Mean Wasserstein-1 distance along random directions, of as many samples, over truths."""
    generator = torch.Generator().manual_seed(4)
    directions = torch.randn(samples.shape[2], SLICES, generator=generator, dtype=torch.float64)
    directions = directions / directions.norm(dim=0)
    along = [(each @ directions).sort(1).values for each in (samples, others)]
    distance: Tensor = (along[0] - along[1]).abs().mean()
    return distance


def measured(
    problems: Sequence[str], methods: Sequence[str], calls: Sequence[int], truths: int | None = None
) -> Iterator[Figures]:
    """A line for each problem, method and number of calls, and one for draws of the posterior."""
    for name in problems:
        problem = PROBLEMS[name]()
        if truths is not None:
            problem = replace(problem, name=f"{name}, {truths} truths", truths=truths)
        exact = figures(problem, problem.exact[1])
        yield {"problem": problem.name, "method": EXACT, "budget": 0, **exact}
        for method, budget in product(methods, calls):
            yield {
                "problem": problem.name,
                "method": method,
                "budget": budget,
                **tried(method_of(method, budget), problem),
            }


def shown(lines: Iterable[Figures]) -> str:
    """A table for each problem: what intervals of 90 % hold, CRPS, mean, spread by calls."""
    listed = list(lines)
    return "\n\n".join(
        _table([line for line in listed if line["problem"] == name])
        for name in dict.fromkeys(line["problem"] for line in listed)
    )


def _table(lines: Sequence[Figures]) -> str:
    rows = [
        [
            line["method"] + (f" in {line['calls']:,.0f}" if line["budget"] else ""),
            *(f"{line['coverage'][level]:.0%}" for level in ("50", "80")),
            f"{line['coverage']['90']:.1%} ± {line['band']['90']:.1%}",
            f"{line['coverage']['95']:.0%}",
            *(f"{line[key]:.2f}" for key in ("crps", "mean_error", "spread", "sliced")),
        ]
        for line in lines
    ]
    header = [
        lines[0]["problem"],
        *(f"{level} %" for level in LEVELS),
        "CRPS",
        "mean off",
        "spread",
        "sliced",
    ]
    return table(header, rows)


def draw(lines: Sequence[Figures], path: Path) -> None:
    """For each problem: what intervals of 90 % hold, and the distance from the posterior, against calls."""
    names = [name for name in PROBLEMS if any(line["problem"] == name for line in lines)]
    rows = -(-len(names) // IN_A_ROW)
    figure = Figure(figsize=(3.4 * min(len(names), IN_A_ROW), 5.4 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, min(len(names), IN_A_ROW), squeeze=False, sharex=True, sharey="row")
    for place, name in enumerate(names):
        row, column = divmod(place, IN_A_ROW)
        of = [line for line in lines if line["problem"] == name and line["budget"]]
        _panels(axes[2 * row, column], axes[2 * row + 1, column], name, of)
    for empty in axes[-2:, len(names) - IN_A_ROW * (rows - 1) :].flat:
        empty.set_axis_off()
    for above, below in axes[:, 0].reshape(-1, 2):
        above.set_ylabel("truths in intervals of 90 %, in %")
        below.set_ylabel("sliced distance, exact draws: 1")
    axes[0, 0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=DPI, facecolor="white")


def _panels(above: Any, below: Any, name: str, lines: Sequence[Figures]) -> None:
    above.axhspan(88, 92, color="#8a8f98", alpha=0.25, linewidth=0)
    _curves(above, lines, lambda line: 100 * line["coverage"]["90"])
    _curves(below, lines, lambda line: line["sliced"])
    above.set(ylim=(0, 101), xscale="log")
    above.set_title(name, fontsize=10)
    below.set(yscale="log", xlabel="calls for a sample", yticks=SHARES, xticks=CALLS)
    below.set_yticklabels([str(share) for share in SHARES])
    below.set_xticklabels([f"{each:,}" for each in CALLS])
    below.tick_params(labelbottom=True)
    below.axhline(1, color="#222222", linewidth=0.8)
    below.minorticks_off()


def _curves(axis: Any, lines: Sequence[Figures], figure_of: Callable[[Figures], float]) -> None:
    for method, colour in COLOURS.items():
        of = [line for line in lines if line["method"] == method]
        bold = 2 if method in ("mmps", "smc", "gibbs") else 1
        calls, values = [line["calls"] for line in of], [figure_of(line) for line in of]
        axis.plot(calls, values, "o-", ms=3, color=colour, linewidth=bold, label=method)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, linewidth=0.6)


def main(arguments: Sequence[str]) -> int:
    """Measure, show or draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("measure")
    measure.add_argument("--all", action="store_true", help="all problems, and calls up to 1,000")
    measure.add_argument("--problems")
    measure.add_argument("--methods", default=",".join(METHODS))
    measure.add_argument("--truths", type=int, help="of each problem, in place of its own number")
    measure.add_argument("--calls")
    for name in ("show", "draw"):
        command = commands.add_parser(name)
        command.add_argument("file", type=Path)
        if name == "draw":
            command.add_argument("picture", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "measure":
        problems = given.problems.split(",") if given.problems else list(PROBLEMS) if given.all else SHORT
        budgets = (
            [int(each) for each in given.calls.split(",")]
            if given.calls
            else CALLS[: None if given.all else -1]
        )
        for line in measured(problems, given.methods.split(","), budgets, given.truths):
            print(json.dumps(line), flush=True)
        return 0
    lines = [json.loads(line) for line in given.file.read_text("utf-8").splitlines()]
    if given.command == "show":
        print(shown(lines))
    else:
        draw(lines, given.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
