"""What an early snapshot is worth as a guide: python benchmarks/autoguidance.py RUN, a run on the digits.

For each weight and each snapshot, the Fréchet distances of samples to the held-out and to the training digits, in the
features of digits_quality.py, and the share of copies; weight 1 is no guidance. Beside it, how far guided samples move
when the weights of the guide are rounded to half precision, as snapshots are: the guide is then an earlier checkpoint.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from digits_quality import Classifier, Sets, measure, sets_of, trained_classifier
from measuring import Figures, leave, report, table

from kakusan.data.units import Levels
from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.guidance import Guided
from kakusan.diffusion.model import Model
from kakusan.run import Run, usual_sampler
from kakusan.samplers import sample
from kakusan.shapes import Samples
from kakusan.training.guide import Guidance

WEIGHTS = (1.25, 1.5, 2.0)
ROUNDED = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def rows(run: Run, weights: Sequence[float], count: int, seed: int) -> Iterator[Figures]:
    """The figures without guidance, then those of each snapshot and weight."""
    plain = sets_of(run, count, seed)
    classifier = trained_classifier(plain.training, plain.training_labels)
    yield {"guide": None, "weight": 1.0, **distances(plain, classifier)}
    for step in run.files.snapshot_steps:
        for weight in weights:
            x_0 = guided(run, Guidance(weight, guide=f"early:{step}"), count, seed)
            yield {"guide": step, "weight": weight, **distances(replace(plain, samples=x_0), classifier)}


def guided(run: Run, guidance: Guidance, count: int, seed: int) -> Samples:
    """Rounded to levels, as they are saved."""
    units = run.data.units
    assert isinstance(units, Levels)
    drawn = run.sample(count, usual_sampler(run.settings), seed=seed, guidance=guidance)
    return units.encode(units.decode(drawn))


def distances(sets: Sets, classifier: Classifier) -> Figures:
    """To the held-out digits, and to the training digits: the larger set, with less noise in it."""
    figures = measure(sets, classifier)
    swapped = replace(sets, training=sets.held_out, held_out=sets.training)
    labelled = replace(swapped, training_labels=sets.held_out_labels, held_out_labels=sets.training_labels)
    return {
        "to_held_out": figures["frechet_samples"],
        "to_training": measure(labelled, classifier)["frechet_samples"],
        "copy_rate": figures["copy_rate_samples"],
    }


def moved_by_rounding(run: Run, weight: float, count: int) -> Figures:
    """Root mean square and largest change of guided samples, in levels, for each type of the guide's weights."""
    strong, weak = run.load(precision="fp32"), run.load(precision="fp32", step=run.files.steps[0])
    request = run.request(strong, None, count=count, seed=0)
    exact = {name: value.clone() for name, value in weak.network.state_dict().items()}

    def drawn(dtype: torch.dtype) -> Samples:
        weak.network.load_state_dict({name: value.to(dtype) for name, value in exact.items()})
        model: Model[Denoiser] = strong.model
        model = replace(model, denoiser=Guided(model.denoiser, weight, weak.model.denoiser))
        return sample(model, usual_sampler(run.settings), request)

    assert isinstance(run.data.units, Levels)
    scale, found = (run.data.units.levels - 1) / 2, drawn(torch.float32)
    changes = {name: scale * (drawn(dtype) - found) for name, dtype in ROUNDED.items()}
    return {
        name: {"rms": float(change.square().mean().sqrt()), "largest": float(change.abs().max())}
        for name, change in changes.items()
    }


def shown(figures: Figures) -> str:
    """The figures for people."""
    lines = [
        (
            "none" if row["guide"] is None else f"step {row['guide']:,}",
            f"{row['weight']:g}",
            f"{row['to_held_out']:.2f}",
            f"{row['to_training']:.2f}",
            f"{row['copy_rate']:.2%}",
        )
        for row in figures["rows"]
    ]
    rounding = [
        (name, f"{moved['rms']:.4f}", f"{moved['largest']:.3f}")
        for name, moved in figures["rounding"].items()
    ]
    head = ("guide", "weight", "to held-out", "to training", "copies")
    return f"{table(head, lines)}\n\n{table(('guide in', 'rms, levels', 'largest'), rounding)}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run on the digits")
    parser.add_argument("--weights", type=float, nargs="+", default=WEIGHTS)
    parser.add_argument("--count", type=int, default=1000, help="samples (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    run = Run.open(options.run)
    figures: Figures = {"rows": list(rows(run, options.weights, options.count, options.seed))}
    figures["rounding"] = moved_by_rounding(run, max(options.weights), min(options.count, 64))
    return report(figures, shown(figures), as_json=options.json)


if __name__ == "__main__":
    leave(main)
