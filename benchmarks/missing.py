"""Whether a law is learned from fields with gaps: python benchmarks/missing.py [--steps 1500]

4,000 fields of 16x16 values, drawn here from a Gaussian law that is known exactly: mean 15, deviation 2, correlation
exp(-d^2 / 2 l^2) at a distance of d pixels, l = 2.5. Of a second copy each field lacks about 30 % of its values, as
under land: one or more blobs, elsewhere in each. The real commands train on both (--data.missing mask on the second)
and draw whole fields (--mask full). Beside the law stand as many real fields, which show what chance does; the samples
of the exact denoiser, which show what the sampler does; those of both networks; and the fields with gaps after these
were filled with the mean, which is what a network learns that is not told of them.

By row: the root mean square over pixels of the error of the mean, in deviations; the deviation of a pixel, of the true
one (mean and root mean square error); the covariance at a few lags, in true variances, and the largest error of all
lags; and roughness, the mean squared difference of neighbours, of the true one. Then the squared error of v on the same
held-out fields, times and noise: over whole fields, and over the values that are there, for who is given no others.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from automatic import run_command
from measuring import Figures, in_words, leave, machine, report, table
from numpy.typing import NDArray
from torch import Tensor

from kakusan.data.dataset import Dataset
from kakusan.data.units import Real
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.run import Run
from kakusan.samplers import DDIM, SamplingRequest, sample
from kakusan.shapes import Condition
from kakusan.training import validation
from kakusan.training.losses import NetworkModel, Velocity

Fields: TypeAlias = NDArray[np.float64]
COUNT, SIDE = 4000, 16
MEAN, DEVIATION, LENGTH = 15.0, 2.0, 2.5
LAND_SHARE, LAND_LENGTH = 0.3, 3.0
LAGS = range(SIDE // 2 + 1)
SHOWN_LAGS = (1, 2, 4, 8)
LOSSES = ("whole fields", "values there")
"""On which held-out values."""


def correlation(length: float) -> Fields:
    """Of all pairs of pixels, (side^2, side^2): squared-exponential in their distance."""
    places = np.indices((SIDE, SIDE)).reshape(2, -1).T
    squared = np.square(places[:, None] - places[None]).sum(-1)
    found: Fields = np.exp(-squared / (2 * length**2))
    return found


def smooth(count: int, length: float, seed: int) -> Fields:
    """Gaussian fields (n, side, side) of mean 0, deviation 1 and this correlation."""
    values, axes = np.linalg.eigh(correlation(length))
    root = axes * np.sqrt(np.maximum(values, 0))  # rounding leaves some below 0
    drawn: Fields = np.random.default_rng(seed).standard_normal((count, SIDE * SIDE)) @ root.T
    return drawn.reshape(count, SIDE, SIDE)


def fields(count: int, seed: int) -> Fields:
    """Fields of the law."""
    return MEAN + DEVIATION * smooth(count, LENGTH, seed)


def land(count: int, seed: int) -> NDArray[np.bool_]:
    """What is missing: where another smooth field is low, and nowhere in a field that would lack all of its values."""
    heights = smooth(count, LAND_LENGTH, seed)
    missing = heights < np.quantile(heights, LAND_SHARE)
    missing[missing.all((1, 2))] = False
    return missing


def covariances(found: Fields) -> Fields:
    """By lag, about the true mean, in true variances: along rows and columns, over all pairs of pixels."""
    x = (found - MEAN) / DEVIATION
    return np.array(
        [
            ((x[:, lag:] * x[:, : SIDE - lag]).mean() + (x[:, :, lag:] * x[:, :, : SIDE - lag]).mean()) / 2
            for lag in LAGS
        ]
    )


def exact_covariances() -> Fields:
    """The same of the law: the first pixel with those of its row."""
    return correlation(LENGTH)[0, : len(LAGS)]


def roughness(found: Fields) -> float:
    """The mean squared difference of neighbours, as a share of that of the law: above 1 there is a grain."""
    squared = [np.square(np.diff(found, axis=axis) / DEVIATION).mean() for axis in (1, 2)]
    exact = exact_covariances()
    return float(np.mean(squared) / (2 * (exact[0] - exact[1])))


def compared(found: Fields) -> Figures:
    """Fields beside the law."""
    exact, by_lag = exact_covariances(), covariances(found)
    deviations = found.std(0) / DEVIATION
    return {
        "error of the mean": float(np.sqrt(np.square(found.mean(0) - MEAN).mean()) / DEVIATION),
        "deviation": float(deviations.mean()),
        "its error": float(np.sqrt(np.square(deviations - 1).mean())),
        **{f"lag {lag}": float(by_lag[lag]) for lag in SHOWN_LAGS},
        "largest error": float(np.abs(by_lag - exact).max()),
        "roughness": roughness(found),
    }


def losses(run: Run, model: NetworkModel, *datasets: Dataset) -> Figures:
    """The squared error of v on the held-out fields of a run: whole ones, and then those with gaps where there are."""
    split, device = run.prepared().split, torch.device(run.load().device)
    loss = Velocity(largest_weight=np.inf)
    return {
        f"loss: {name}": validation.compared(model, loss, dataset, split, device).figures["held_out_loss"]
        for name, dataset in zip(LOSSES, datasets, strict=False)
    }


def exact(model: NetworkModel, units: Real) -> NetworkModel:
    """The same process with, in the network's place, the exact denoiser of the law, which guesses from the values that
    are there. The process preserves the variance, as that of the automatic choice does.
    """
    path, parametrization = model.path, model.denoiser.parametrization
    mean = (MEAN - units.mean[0]) / units.scale[0]
    covariance = torch.from_numpy(correlation(LENGTH)) * (DEVIATION / units.scale[0]) ** 2
    of_whole = GaussianOracle(path, mean, covariance)

    def network(x_t: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        t = time.double().cpu() + 1
        if condition is None or condition.mask is None:
            guess = of_whole.predict(x_t, t)
            return parametrization.target(guess.x_0, guess.eps, *path.at(t))
        output = torch.zeros_like(x_t)
        for k, there in enumerate(condition.mask == 1):
            rows = covariance[there.flatten()][:, there.flatten()]
            guess = GaussianOracle(path, mean, rows).predict(x_t[k][there].view(1, -1, 1, 1), t[k : k + 1])
            right = parametrization.target(guess.x_0, guess.eps, *path.at(t[k : k + 1]))
            output[k][there] = right.flatten()
        return output

    return replace(model, denoiser=replace(model.denoiser, network=network, autocast=None))


@dataclass(frozen=True)
class Plan:
    """Where the trainings stand, and how long they and the samplings are."""

    out: Path
    steps: int
    count: int
    calls: int
    threads: str

    def trained(self, name: str, data: Path, *flags: str) -> Run:
        """`kakusan train`, or the run that came of the same line before."""
        folder = self.out / name
        length = ("--steps", str(self.steps), "--machine.threads", self.threads)
        run_command(["-m", "kakusan", "train", str(data), *flags, *length, "--run", str(folder)])
        return Run.open(folder)

    def sampled(self, run: Run, *flags: str) -> Fields:
        """`kakusan sample`: whole fields."""
        out = self.out / f"{run.folder.name}.npz"
        own = ("--count", str(self.count), "--steps", str(self.calls), "--out", str(out), "--overwrite")
        run_command(["-m", "kakusan", "sample", str(run.folder), *own, *flags])
        with np.load(out) as stored:
            found: Fields = stored["images"].astype(np.float64)
        return found


def measured(plan: Plan) -> Figures:
    """Train on both, sample both, compare."""
    found = fields(COUNT, seed=0)
    with_gaps = np.where(land(COUNT, seed=1), np.nan, found)
    paths = {name: plan.out / f"{name}.npy" for name in ("whole", "gaps")}
    for path, values in zip(paths.values(), (found, with_gaps), strict=True):
        np.save(path, values.astype(np.float32))
    whole = plan.trained("run-whole", paths["whole"])
    gaps = plan.trained("run-gaps", paths["gaps"], "--data.missing", "mask")
    datasets, units = (whole.prepared().dataset, gaps.prepared().dataset), gaps.data.units
    assert isinstance(units, Real)
    assert whole.files.data["held_out"] == gaps.files.data["held_out"]
    best = exact(gaps.load().model, units)
    request = SamplingRequest(count=plan.count, shape=gaps.data.shape)
    from_best = units.decode(sample(best, DDIM(steps=plan.calls), request))[..., 0]
    by_lag = exact_covariances()
    return {
        "steps": gaps.settings.training.steps,
        "parameters": sum(p.numel() for p in gaps.load().network.parameters()),
        "count": plan.count,
        "missing": float(np.isnan(with_gaps).mean()),
        "rows": {
            "the law": {"deviation": 1.0} | {f"lag {lag}": float(by_lag[lag]) for lag in SHOWN_LAGS},
            "real fields": compared(fields(plan.count, seed=2)),
            "exact denoiser": compared(from_best) | losses(gaps, best, *datasets),
            "trained on whole fields": compared(plan.sampled(whole))
            | losses(whole, whole.load().model, datasets[0]),
            "trained on fields with gaps": compared(plan.sampled(gaps, "--mask", "full"))
            | losses(gaps, gaps.load().model, *datasets),
            "gaps filled with the mean": compared(np.where(np.isnan(with_gaps), MEAN, found)),
        },
    }


def in_table(figures: Figures) -> str:
    """A line above, then a row for each kind of fields, and a second table of losses."""
    title = (
        f"{figures['steps']:,} steps, {figures['parameters']:,} parameters, {figures['count']:,} fields each,"
        f" {figures['missing']:.1%} of the values missing"
    )
    tables = []
    for is_loss in (False, True):
        rows = {
            name: {column: value for column, value in row.items() if (": " in column) is is_loss}
            for name, row in figures["rows"].items()
        }
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        cells = [
            [name, *(f"{row[c]:.4f}" if c in row else "" for c in columns)]
            for name, row in rows.items()
            if row
        ]
        tables.append(table(["", *columns], cells))
    return "\n\n".join([title, *tables])


def main(arguments: Sequence[str]) -> int:
    """Run it all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/missing"), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=1500, help="of each training; default: %(default)s")
    parser.add_argument("--count", type=int, default=1000, help="samples; default: %(default)s")
    parser.add_argument("--calls", type=int, default=50, help="DDIM steps; default: %(default)s")
    parser.add_argument("--threads", default="auto", help="of training; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    found = measured(Plan(asked.out, asked.steps, asked.count, asked.calls, asked.threads))
    of = machine()
    text = f"{in_table(found)}\n\n{in_words(of)}"
    return report({**found, "machine": of}, text, as_json=asked.json)


if __name__ == "__main__":
    leave(main)
