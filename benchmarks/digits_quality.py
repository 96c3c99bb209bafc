"""How good the samples of a digits run are, in the eyes of a small classifier: python benchmarks/digits_quality.py RUN.

The classifier, an MLP 64-128-32-10, learns the digits of the training part from their labels, in about a second and
the same way every time. Its 32 features (the last hidden layer, after the ReLU) stand in for an Inception network:
the Fréchet distance between the samples and the held-out images is compared with the one between the training images
and the held-out images: another part of the same real data, so that a good generator comes near a ratio of 1. Sets as
small as these make both distances noisy (which digits happen to be held out, which noise was drawn), so differences
of a fifth mean little; and there are fewer samples (1,000) than training images (1,297), which is not in their favour.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measuring import Figures, leave, prepared_as, report, table
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.data.builtin import digits
from kakusan.data.units import Levels
from kakusan.evaluation.metrics import copy_rate, frechet
from kakusan.run import Run, usual_sampler
from kakusan.shapes import Labels, Samples

EPOCHS, BATCH, RATE = 60, 64, 2e-3


class Classifier(nn.Module):
    """64-128-32-10; the 32 are the features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, x: Samples) -> Tensor:
        logits: Tensor = self.head(self.body(x))
        return logits

    @torch.no_grad()
    def features(self, x: Samples) -> NDArray[np.float32]:
        """The last hidden layer, (n, 32)."""
        values: NDArray[np.float32] = self.body(x).numpy()
        return values

    @torch.no_grad()
    def classes(self, x: Samples) -> Labels:
        """The digit that each image seems to show."""
        classes: Labels = self(x).argmax(1)
        return classes


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """One thread and a seed of its own, so that the same numbers come out every time; both are put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def trained_classifier(x: Samples, labels: Labels, seed: int = 0) -> Classifier:
    """A classifier that has learned these images: Adam, its rate falling to 0."""
    with repeatable(seed):
        classifier = Classifier()
        optimizer = torch.optim.Adam(classifier.parameters(), lr=RATE, weight_decay=1e-4)
        steps = EPOCHS * -(-len(x) // BATCH)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
        for _ in range(EPOCHS):
            for rows in torch.split(torch.randperm(len(x)), BATCH):
                optimizer.zero_grad()
                torch.autograd.backward(F.cross_entropy(classifier(x[rows]), labels[rows]))
                optimizer.step()
                schedule.step()
    return classifier.eval()


@dataclass(frozen=True)
class Sets:
    """The three sets that are compared, in the network's units; the samples rounded to levels, as they are saved."""

    training: Samples
    held_out: Samples
    samples: Samples
    training_labels: Labels
    held_out_labels: Labels


def sets_of(run: Run, count: int, seed: int) -> Sets:
    """The images of a run and its samples: averaged weights, DDIM in 50 steps."""
    prepared = prepared_as(run, "digits")
    dataset, split, units = prepared.dataset, prepared.split, prepared.dataset.units
    assert isinstance(units, Levels)
    labels = torch.from_numpy(digits().labels)
    drawn = run.sample(count, usual_sampler(run.settings), seed=seed)
    return Sets(
        training=dataset.x_0(split.training),
        held_out=dataset.x_0(split.held_out),
        samples=units.encode(units.decode(drawn)),
        training_labels=labels[split.training],
        held_out_labels=labels[split.held_out],
    )


def measure(sets: Sets, classifier: Classifier) -> Figures:
    """All figures of this benchmark."""
    training, held_out, samples = map(classifier.features, (sets.training, sets.held_out, sets.samples))
    of_samples, of_training = frechet(samples, held_out), frechet(training, held_out)
    right = classifier.classes(sets.held_out) == sets.held_out_labels
    return {
        "counts": {name: len(getattr(sets, name)) for name in ("training", "held_out", "samples")},
        "classifier_accuracy": float(right.double().mean()),
        "frechet_samples": of_samples,
        "frechet_training": of_training,
        "frechet_ratio": of_samples / of_training,
        "class_shares": shares(classifier.classes(sets.samples)),
        "class_shares_held_out": shares(sets.held_out_labels),
        "copy_rate_samples": copy_rate(sets.samples, sets.training).rate,
        "copy_rate_held_out": copy_rate(sets.held_out, sets.training).rate,
    }


def shares(classes: Labels) -> list[float]:
    """How much of the whole each of the ten digits is."""
    counts: list[float] = (classes.bincount(minlength=10).double() / len(classes)).tolist()
    return counts


def shown(run: Run, figures: Figures) -> str:
    """The figures for people, with what the project asks of itself beside them."""
    counts, of_samples = figures["counts"], figures["class_shares"]
    least, most = min(of_samples), max(of_samples)
    rows = [
        ("Fréchet distance to held-out images", f"{figures['frechet_samples']:.3f}", ""),
        ("the same of the training images", f"{figures['frechet_training']:.3f}", ""),
        ("their ratio", f"{figures['frechet_ratio']:.2f}", "at most 1.6"),
        ("rarest and commonest class", f"{least:.1%} and {most:.1%}", "5 % to 16 %"),
        ("copy rate", f"{figures['copy_rate_samples']:.2%}", "at most the next line"),
        ("copy rate of held-out images", f"{figures['copy_rate_held_out']:.2%}", ""),
    ]
    by_class = [
        (str(digit), f"{share:.1%}", f"{real:.1%}")
        for digit, (share, real) in enumerate(zip(of_samples, figures["class_shares_held_out"], strict=True))
    ]
    title = (
        f"{run.folder}: {counts['samples']:,} samples, {counts['training']:,} training images,"
        f" {counts['held_out']:,} held out\n"
        f"the classifier is right on {figures['classifier_accuracy']:.1%} of the held-out images\n"
    )
    return "\n".join(
        (title, table(("", "samples", "goal"), rows), "", table(("digit", "samples", "held out"), by_class))
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run on the digits")
    parser.add_argument("--count", type=int, default=1000, help="samples (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default: %(default)s)")
    parser.add_argument(
        "--classifier-seed", type=int, default=0, help="another classifier (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    run = Run.open(asked.run)
    sets = sets_of(run, asked.count, asked.seed)
    classifier = trained_classifier(sets.training, sets.training_labels, asked.classifier_seed)
    figures = measure(sets, classifier)
    return report(figures, shown(run, figures), as_json=asked.json)


if __name__ == "__main__":
    leave(main)
