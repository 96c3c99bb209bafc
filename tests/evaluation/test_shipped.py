"""The features that ship: of the bundled digits, small, right, and for nothing else."""

from dataclasses import replace
from importlib import resources

import numpy as np
import torch

from kakusan.data.builtin import digits, kanji
from kakusan.data.units import Levels
from kakusan.evaluation.shipped import FILE, digit_classifier, shipped_features


def test_the_classifier_knows_the_half_that_did_not_teach_it() -> None:
    data = digits()
    assert data.labels is not None
    odd = np.arange(1, len(data), 2)
    right = digit_classifier()(data.x_0(odd)).argmax(1) == torch.from_numpy(data.labels[odd])
    assert right.double().mean() >= 0.985  # 99.0 % as made; a few may turn with another order of sums
    assert len((resources.files("kakusan.evaluation") / FILE).read_bytes()) < 200_000


def test_its_features_are_named_by_their_hash_and_tell_digits_apart() -> None:
    data = digits()
    features = shipped_features(replace(data, labels=None, class_names=()))
    assert features is not None
    assert features.name == "digits b8252eb7"
    assert data.labels is not None
    rows = features(data.x_0(np.arange(1, len(data), 2)))
    labels = data.labels[1::2]
    centres = np.stack([rows[labels == digit].mean(0) for digit in range(10)])
    nearest = np.square(rows[:, None] - centres).sum(2).argmin(1)
    assert np.mean(nearest == labels) > 0.95


def test_they_are_for_the_bundled_digits_alone() -> None:
    data = digits()
    assert shipped_features(replace(data, images=data.images[:500])) is not None
    assert shipped_features(replace(data, source="/home/digits")) is None
    assert shipped_features(replace(data, units=Levels(256))) is None
    assert shipped_features(kanji()) is None
