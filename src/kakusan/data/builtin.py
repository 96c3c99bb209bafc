"""The data that ship with the package: known by a name, ready at once."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.data.dataset import Dataset
from kakusan.data.toys import swiss_roll, two_moons
from kakusan.data.units import Levels

RESERVED_KANJI = "拡散"


@dataclass(frozen=True)
class BuiltIn:
    """A name's meaning: one line for menus, and how to make it."""

    description: str
    load: Callable[[], Dataset]


def kanji() -> Dataset:
    """The 6,355 kanji of JIS X 0208, 16x16, of two levels: ink is 1. The package's name is reserved."""
    stored = _stored("kanji.npz")
    images = np.unpackbits(stored["bits"], axis=1).reshape(-1, 16, 16, 1)
    characters = tuple(stored["characters"].tolist())
    return Dataset(
        name="kanji",
        images=images,
        units=Levels(2),
        labels=None,
        class_names=(),
        captions=characters,
        source="the Shinonome font, shnmk16 (Yasuyuki Furukawa, /efont/ project; public domain)",
        reserved=tuple(characters.index(character) for character in RESERVED_KANJI),
    )


def digits() -> Dataset:
    """1,797 handwritten digits, 8x8, 17 grey levels, in ten classes."""
    stored = _stored("digits.npz")
    return Dataset(
        name="digits",
        images=stored["images"][..., None],
        units=Levels(int(stored["levels"])),
        labels=stored["labels"].astype(np.int64),
        class_names=tuple(map(str, range(10))),
        captions=(),
        source="UCI Optical Recognition of Handwritten Digits, test set (E. Alpaydin and C. Kaynak 1998,"
        " DOI 10.24432/C50P49; CC BY 4.0)",
    )


def _stored(name: str) -> dict[str, NDArray[Any]]:
    with (resources.files("kakusan.data") / "bundled" / name).open("rb") as file:
        arrays: dict[str, NDArray[Any]] = dict(np.load(file, allow_pickle=False))
    return arrays


DATASETS: dict[str, BuiltIn] = {
    "kanji": BuiltIn("6,355 kanji, 16x16, black and white, from a public-domain font", kanji),
    "digits": BuiltIn("1,797 handwritten digits, 8x8, 17 grey levels, ten classes", digits),
    "two-moons": BuiltIn("10,000 points on two interlocking half circles", two_moons),
    "swiss-roll": BuiltIn("10,000 points along a spiral", swiss_roll),
}
