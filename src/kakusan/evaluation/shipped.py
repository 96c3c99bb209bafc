"""Features that ship with the package: of the bundled digits, by a classifier that one half of them has taught.

`scripts/build_digit_features.py` makes the file. The digits of even numbers were trained on, whatever a run holds out:
its training and its held-out images are each half known to the classifier, so that neither is nearer for that.
"""

from collections.abc import Callable
from importlib import resources

import torch
from safetensors.torch import load
from torch import Tensor, nn

from kakusan.data.builtin import digits
from kakusan.data.dataset import Dataset
from kakusan.evaluation.features import Encoder, FeatureMap, features_of, hash_of, known_by
from kakusan.shapes import Samples
from kakusan.training.prepare import Prepared

Says = Callable[[float, str], None]
"""Called with the share that is done of a piece of the work, and its name."""

FILE = "digits.safetensors"
WIDTHS = (16, 32, 64)
"""Channels of the levels, the last of which are the features: few, so that the file is small."""
WORDS = "a classifier of 899 bundled digits into 10 classes, which ships with kakusan"


class DigitClassifier(nn.Module):
    """Digits (n, 1, 8, 8) in [-1, 1] to scores of the ten classes, by way of 64 features."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder((1, 8, 8), WIDTHS)
        self.head = nn.Linear(WIDTHS[-1], 10)

    def forward(self, x: Samples) -> Tensor:
        scores: Tensor = self.head(self.encoder(x))
        return scores


def digit_classifier() -> DigitClassifier:
    """The one that ships, whose weights are kept in half precision, to be asked in float32."""
    stored = load((resources.files("kakusan.evaluation") / FILE).read_bytes())
    classifier = DigitClassifier()
    classifier.load_state_dict({name: value.to(torch.float32) for name, value in stored.items()})
    return classifier.eval().requires_grad_(requires_grad=False)


def shipped_features(dataset: Dataset) -> FeatureMap | None:
    """Features for these data, where they are the bundled digits, all of them or some; None for all others."""
    known = digits()
    if dataset.source != known.source or (dataset.shape, dataset.units) != (known.shape, known.units):
        return None
    encoder = digit_classifier().encoder
    return known_by("digits", hash_of(encoder), WORDS, encoder)


def features_for(prepared: Prepared, says: Says = lambda _, __: None) -> FeatureMap:
    """Features for the data of a run: those that ship, else of a network that learns its training images."""
    shipped = shipped_features(prepared.dataset)
    if shipped is not None:
        return shipped
    return features_of(
        prepared.dataset, prepared.split.training, lambda done, of: says(done / of, "features")
    )
