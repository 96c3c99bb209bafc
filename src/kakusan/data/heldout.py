"""Held-out images, by content: equal images stand on one side, and what weights were trained on stays training data.

An image is known by a 64-bit hash of its values (`Dataset.hashes`), so it is found again in data that have grown, were
reordered, or are others in part. Two different images of a million share a hash with probability 3e-8.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kakusan.data.batches import Split, how_many, split, split_order
from kakusan.data.dataset import Dataset
from kakusan.data.space import legacy
from kakusan.errors import SettingsError

Hashes: TypeAlias = NDArray[np.uint64]

RESERVED, HELD_OUT_BEFORE, NEW, TRAINED_ON = range(4)
"""Kinds of images, in the order in which they are held out; the last kind never is."""


def _none() -> Hashes:
    return np.empty(0, np.uint64)


@dataclass(frozen=True, eq=False)
class Past:
    """The images that a training's first weights come from, where these are another run's (`--from`)."""

    form: str
    """The form of the images that were hashed, `form_of`."""
    trained: Hashes = field(default_factory=_none)
    """Hashes of the images that the parent and its own parents were trained on."""
    held_out: Hashes = field(default_factory=_none)
    """Hashes of the images that were held out of all of these trainings."""
    unknown: str = ""
    """The reason why not all that the weights were trained on is known; empty where it is."""

    @property
    def is_known(self) -> bool:
        """Whether anything is known of it: all, or the images of the parent though not of its own parents."""
        return not self.unknown or bool(len(self.trained) or len(self.held_out))

    def to_state(self) -> dict[str, str]:
        """For the run's data.json."""
        return {
            "form": self.form,
            "trained": packed(self.trained),
            "held_out": packed(self.held_out),
            "unknown": self.unknown,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, str]) -> "Past":
        """The inverse. Raises KeyError, TypeError or ValueError for what is none."""
        return cls(state["form"], unpacked(state["trained"]), unpacked(state["held_out"]), state["unknown"])


@dataclass(frozen=True, eq=False)
class Divided:
    """A split, and in sentences what was done beyond a plain draw."""

    split: Split
    notes: tuple[str, ...] = ()


def packed(hashes: Hashes) -> str:
    """The hashes as base64 of little-endian bytes, for JSON."""
    return base64.b64encode(hashes.astype("<u8").tobytes()).decode("ascii")


def unpacked(text: str) -> Hashes:
    """The inverse. Raises ValueError for what is none."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<u8").astype(np.uint64)


def form_of(shape: tuple[int, ...], units: Mapping[str, Any]) -> str:
    """Shape and kind of values: hashes of images of one form can be compared. units: as `Units.to_state` has them."""
    kind = f"{units['levels']} levels" if units["kind"] == "levels" else "real values"
    return f"{'x'.join(map(str, legacy(shape)))}, {kind}"


def divide(
    dataset: Dataset, held_out: float | int, seed: int, past: Past | None = None, *, flip: bool = False
) -> Divided:
    """`split` of a data set that leaves equal images together and never holds out what `past` was trained on.

    What the past held out is held out first. Without equal images and a past it is `split` itself. A group of equal
    images that is larger than what is still to be held out is trained on.
    flip: an image and its mirror image are equal, since training shows both.
    Raises SettingsError as `split` does.
    """
    plain = split(len(dataset), held_out, seed, dataset.reserved)
    is_known = past is not None and past.is_known
    groups = _groups(dataset, flip=flip)
    if groups.max(initial=-1) + 1 == len(dataset) and not is_known:
        return Divided(plain, _unknown_words(past))
    kinds = _kinds(dataset, groups, past)
    asked = how_many(len(dataset), held_out)
    found = _grouped(groups, kinds, split_order(len(dataset), seed, dataset.reserved), asked)
    notes = [*_twin_words(groups, plain)]
    notes += [*(_past_words(found, kinds, asked) if is_known else ()), *_unknown_words(past)]
    return Divided(found, tuple(notes))


def _groups(dataset: Dataset, *, flip: bool) -> NDArray[np.int64]:
    """The number of each image's group of equals."""
    hashes = dataset.hashes
    if flip:
        hashes = np.minimum(hashes, dataset.mirrored().hashes)
    groups: NDArray[np.int64] = np.unique(hashes, return_inverse=True)[1].ravel()
    return groups


def _kinds(dataset: Dataset, groups: NDArray[np.int64], past: Past | None) -> NDArray[np.int64]:
    """The kind of each image: that of its group, the strictest of its members'."""
    kinds = np.full(len(dataset), NEW)
    if past is not None:
        kinds[_in_groups(groups, np.isin(dataset.rounded_hashes, past.held_out))] = HELD_OUT_BEFORE
    reserved = np.isin(np.arange(len(dataset)), dataset.reserved)
    kinds[_in_groups(groups, reserved)] = RESERVED
    if past is not None:
        kinds[_in_groups(groups, np.isin(dataset.rounded_hashes, past.trained))] = TRAINED_ON
    return kinds


def _in_groups(groups: NDArray[np.int64], members: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask of the images that are in one group with some of these."""
    return np.isin(groups, groups[members])


def _grouped(
    groups: NDArray[np.int64], kinds: NDArray[np.int64], order: NDArray[np.int64], asked: int
) -> Split:
    """Whole groups in their order, kind by kind, as long as they fit; all reserved ones."""
    sizes = np.bincount(groups)
    _, first = np.unique(groups[order], return_index=True)
    leaders = order[np.sort(first)]  # of each group the image that comes first
    leaders = leaders[np.argsort(kinds[leaders], kind="stable")]
    aside = max(asked, int((kinds == RESERVED).sum()))
    chosen, held = np.zeros(len(sizes), np.bool_), 0
    candidates = groups[leaders[kinds[leaders] != TRAINED_ON]]
    for group in candidates:
        if held + sizes[group] <= aside:
            chosen[group], held = True, held + sizes[group]
        if held == aside:
            break
    if aside and not held and len(candidates):  # even the smallest is larger than what was asked for
        smallest = candidates[sizes[candidates].argmin()]
        chosen[smallest] = sizes[smallest] < len(groups)
    if chosen[groups].all():
        raise SettingsError(
            f"all {len(groups)} images would be held out: none is left to train on",
            "choose a smaller held-out part",
        )
    return Split(training=np.flatnonzero(~chosen[groups]), held_out=np.flatnonzero(chosen[groups]))


def _twin_words(groups: NDArray[np.int64], plain: Split) -> tuple[str, ...]:
    straddling = np.isin(groups[plain.held_out], groups[plain.training])
    if not straddling.any():
        return ()
    sizes = np.bincount(groups)
    return (
        f"{int(sizes[sizes > 1].sum()):,} of the {len(groups):,} images have an equal twin:"
        " equal images stay on one side of the split",
    )


def _past_words(found: Split, kinds: NDArray[np.int64], asked: int) -> list[str]:
    held, trained = kinds[found.held_out], int((kinds == TRAINED_ON).sum())
    before = int((held == HELD_OUT_BEFORE).sum())
    if not trained and not (kinds == HELD_OUT_BEFORE).any():
        return [
            "none of these images is equal, value for value, to one that the parent trained on or held out"
        ]
    words = [
        f"{before:,} of the held-out images were held out by the parent, {len(held) - before:,} are new;"
        f" {trained:,} images that the parent trained on stay in training"
    ]
    if not len(held) and asked:
        words.append("nothing is held out: the parent was trained on all of these images")
    elif len(held) < asked and trained:
        words.append(
            f"{len(held):,} images are held out, not {asked:,}: no more are new to the parent's training"
        )
    return words


def _unknown_words(past: Past | None) -> tuple[str, ...]:
    if past is None or not past.unknown:
        return ()
    return (
        f"whether the weights have seen some of the held-out images is not known: {past.unknown};"
        " held-out figures of this run may be too good",
    )
