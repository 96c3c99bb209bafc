"""Operators in words: mask:hide-left, gauss:1.5, down:4, ... Some name a file, which is read here.

Several words are one after the other, the first one first. Words joined by + are side by side, of the same samples.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Final, NoReturn, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kakusan.config.settings import Layout
from kakusan.data.asking import mask_of
from kakusan.data.given import WHITE, array_in, picture
from kakusan.data.layout import CHANNELS_FIRST
from kakusan.data.matrices import matrix_in, with_columns_at
from kakusan.data.parts import problem_of
from kakusan.errors import KakusanError, SettingsError
from kakusan.operators import (
    Blur,
    Clip,
    Crop,
    Down,
    Edges,
    Fourier,
    Identity,
    Magnitude,
    Mask,
    Matrix,
    Operator,
    Quantize,
    Radon,
    composed,
    even_angles,
    gaussian_blur,
    stacked,
)

ARRAYS = (".npy", ".npz")
MOST_ANGLES: Final = 10_000
MOST_OVERSAMPLING: Final = 16
LOWEST: Final = 0.32
"""Of the frequencies that an acceleration keeps, how many are the lowest: 8 % of all at 4, as fastMRI has them."""


@dataclass(frozen=True)
class Word:
    """One word, for samples of a shape: NAME or NAME:OPTIONS."""

    text: str
    shape: tuple[int, ...]
    layout: Layout = "auto"

    @property
    def name(self) -> str:
        return self.text.partition(":")[0]

    @property
    def options(self) -> str:
        return self.text.partition(":")[2]

    @property
    def path(self) -> Path:
        return self.file(self.options)

    def file(self, name: str) -> Path:
        """A path. Raises SettingsError for an empty one, which would be the current folder."""
        self._require_some(name)
        return Path(name).expanduser()

    def _require_some(self, text: str) -> None:
        if not text.strip():
            self.refuse("something is missing after the colon")

    def refuse(self, problem: str, *advice: str) -> NoReturn:
        raise SettingsError(f"{self.text}: {problem}", *advice, f"such as: {OPERATORS[self.name].usage}")

    def number(self, text: str) -> float:
        self._require_some(text)
        try:
            return float(text)
        except ValueError:
            self.refuse(f"a number is needed, not {text!r}")

    def share(self, text: str) -> float:
        """A number, or a percentage."""
        return self.number(text[:-1]) / 100 if text.endswith("%") else self.number(text)

    def whole(self, text: str, most: int = 2**63) -> int:
        self._require_some(text)
        if not re.fullmatch(r"\s*\d+\s*", text):
            self.refuse(f"a whole number is needed, not {text!r}")
        if int(text) > most:
            self.refuse(f"{most:,} is the most, not {text}")
        return int(text)


@dataclass(frozen=True)
class Named:
    """One of the operators that have a name. read: makes it, and calls `refuse` of the word where it cannot be."""

    forms: tuple[str, ...]
    """Words as examples, FILE standing for a file."""
    read: Callable[[Word], Operator]
    says: str = ""
    """A remark on the forms."""

    @property
    def usage(self) -> str:
        return ", ".join(self.forms) + (f" ({self.says})" if self.says else "")


def operator_named(
    words: str | Sequence[str], shape: tuple[int, ...], *, layout: Layout = "auto"
) -> Operator:
    """The operator of one word or of several, for samples (channels, *space).

    layout: of arrays in files, as that of the data. Random masks come from a seed in the word, 0 by default.
    Raises SettingsError for words that name none and for operators that do not fit, DataError for files that cannot be
    read.
    """
    given = [words] if isinstance(words, str) else list(words)
    if not given:
        raise SettingsError("no operator is named", f"operators are {', '.join(OPERATORS)}")
    parts: list[Operator] = []
    for text in given:
        parts.append(_side_by_side(text, shape, layout))
        shape = _measured(parts[-1], text, shape)
    if early := next((text for text, part in zip(given[:-1], parts, strict=False) if _rounds(part)), None):
        raise SettingsError(
            f"{early} rounds, and what follows would take its steps for exact",
            "a rounding comes last, with clip before it",
        )
    return reduce(lambda inner, outer: composed(outer, inner), parts)


def operator_of(
    given: Operator | str | Sequence[str], shape: tuple[int, ...], *, layout: Layout = "auto"
) -> Operator:
    """An operator as it is, or that of words: `operator_named`. Raises SettingsError for what is neither."""
    if isinstance(given, Operator):
        return given
    if callable(given):
        raise SettingsError(
            f"an operator is a word or an Operator, not a function ({type(given).__name__})",
            "kakusan.operators.function(f) makes one of a function of torch operations; linear=True where it is linear",
        )
    words = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else [given]
    if strange := [word for word in words if not isinstance(word, str)]:
        raise SettingsError(
            f"an operator is a word, several, or an Operator, not {type(strange[0]).__name__}",
            "of operators: outer @ inner is one after the other, kakusan.operators.stacked(a, b) side by side",
        )
    return operator_named(words, shape, layout=layout)


def _side_by_side(text: str, shape: tuple[int, ...], layout: Layout) -> Operator:
    """A stack of the operators that are joined by +, or a single one."""
    parts = [_single(part, shape, layout) for part in _joined(text)]
    return stacked(*parts) if len(parts) > 1 else parts[0]


def _joined(text: str) -> list[str]:
    """Words that a + joins; names of files may hold a + too."""
    return re.split(rf"\+(?=(?:{'|'.join(OPERATORS)})(?::|\+|$))", text)


def files_named(words: Sequence[str]) -> list[Path]:
    """The files that these words of an operator name, with or without edges behind them."""
    options = [part.partition(":")[2] for text in words for part in _joined(text)]
    found = [Path(_with_edges(each)[0]).expanduser() for each in options if each]
    return [path for path in found if path.is_file()]


def _single(text: str, shape: tuple[int, ...], layout: Layout) -> Operator:
    words = text.split()
    if len(words) > 1 and all(each.partition(":")[0] in OPERATORS for each in words):
        raise SettingsError(f"{text!r} is several words in one", f"give each by itself, as a list: {words}")
    word = Word(text, shape, layout)
    if word.name not in OPERATORS:
        close = difflib.get_close_matches(word.name, OPERATORS, n=1)
        raise SettingsError(
            f"there is no operator {word.name!r}",
            *[f"did you mean {OPERATORS[name].usage}?" for name in close],
            f"operators are {', '.join(OPERATORS)}",
        )
    if problem := problem_of(word.name, word.options):
        word.refuse(problem)
    try:
        return OPERATORS[word.name].read(word)
    except SettingsError as error:
        if error.problem.startswith(text):
            raise
        word.refuse(error.problem, *error.advice)


def _measured(operator: Operator, text: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what is measured; errors say by which word."""
    try:
        return operator.measured_shape(shape)
    except KakusanError as error:
        raise SettingsError(f"{text}: {error.problem}", *error.advice) from error


def _rounds(operator: Operator) -> bool:
    parts = getattr(operator, "parts", (operator,))
    return any(isinstance(part, Quantize) for part in parts)


def _mask(word: Word) -> Mask:
    kind, _, rest = word.options.partition(":")
    if kind == "random":
        share, _, seed = rest.partition(":")
        return Mask(_random(word, word.share(share), word.whole(seed or "0")))
    if kind in HIDING:
        return Mask(_hiding(word, kind))
    if f"hide-{kind}" in HIDING:
        word.refuse(f"is the {kind} hidden, or the rest?", f"mask:hide-{kind} hides it")
    if (near := difflib.get_close_matches(kind, ["random", *HIDING], n=1)) and not word.path.exists():
        share = ":0.9" if near[0] == "random" else ""
        word.refuse(
            f"there is no such mask, and no such file as {kind}", f"did you mean mask:{near[0]}{share}?"
        )
    if word.path.suffix.lower() in ARRAYS:
        masks = mask_of(array_in(word.path, "mask"), word.shape, word.layout, str(word.path))
        if len(masks) != 1:
            word.refuse(f"{word.path} holds {len(masks)} masks, and one is needed")
        return Mask(masks[0] > 0)
    return Mask(_white(word))


def _space(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of space, or that of plain vectors, which have none."""
    return shape[1:] or shape


def _random(word: Word, share: float, seed: int) -> Tensor:
    """Measured values, of all but this share of the places."""
    sides = _space(word.shape)
    count = int(np.prod(sides))
    hidden = round(share * count) if 0 <= share <= 1 else 0
    if not 0 < hidden < count:
        word.refuse(
            f"a share of hidden values lies between 0 and 1, and leaves some of {count}, not {share:g}"
        )
    known = np.ones(count, dtype=np.bool_)
    known[np.random.default_rng(seed).choice(count, hidden, replace=False)] = False
    return torch.from_numpy(known.reshape(sides))


HIDING: dict[str, tuple[int, ...]] = {
    "hide-left": (-1,),
    "hide-right": (-1,),
    "hide-top": (-2,),
    "hide-bottom": (-2,),
    "hide-center": (),
}
"""Masks that hide one half, or a box in the middle of half the sides, and the axes that they need."""


def _hiding(word: Word, kind: str) -> Tensor:
    sides = word.shape[1:]
    if not sides or any(len(sides) < -axis for axis in HIDING[kind]):
        word.refuse(f"samples of shape {word.shape} have no such side")
    known = torch.ones(sides, dtype=torch.bool)
    if kind == "hide-center":
        known[tuple(slice((n - n // 2) // 2, (n - n // 2) // 2 + n // 2) for n in sides)] = False
        return known
    (axis,) = HIDING[kind]
    half = sides[axis] // 2
    begin = 0 if kind in ("hide-left", "hide-top") else sides[axis] - half
    known.narrow(axis, begin, half)[...] = False
    return known


def _white(word: Word) -> Tensor:
    """Of a picture: measured where it is white."""
    pixels = picture(word.path, word.shape[1:], 1, "a mask", MASKS)[..., 0]
    known = torch.from_numpy(pixels >= WHITE)
    if not known.any():
        word.refuse(
            f"all of {word.path} is black or grey, so that nothing is measured",
            "white is measured, all else is hidden",
        )
    return known


MASKS = "masks are pictures or arrays of 0 and 1, random:SHARE, " + ", ".join(HIDING)


def _crop(word: Word) -> Crop:
    """In Python's slices, one for each axis: 4:24,8:24."""
    sides, ranges = word.shape[1:], []
    for side, text in zip(sides, word.options.split(","), strict=False):
        first, colon, end = text.partition(":")
        if not colon or ":" in end:
            word.refuse("a box is a range for each axis, FIRST:END, END not in it")
        ranges.append((word.whole(first or "0"), word.whole(end or str(side))))
    if len(ranges) != len(sides) or word.options.count(",") != len(sides) - 1:
        word.refuse(f"samples of shape {word.shape} need {len(sides)} ranges")
    if any(not first < end <= side for (first, end), side in zip(ranges, sides, strict=True)):
        word.refuse(f"this is no box in samples of sides {sides}")
    return Crop(tuple(first for first, _ in ranges), tuple(end - first for first, end in ranges))


def _with_edges(options: str) -> tuple[str, Edges]:
    """The options before :EDGES, and the edges, where they are named."""
    front, _, last = options.rpartition(":")
    edges: dict[str, Edges] = {name: name for name in get_args(Edges)}
    return (front, edges[last]) if last in edges else (options, "reflect")


def _blur(word: Word) -> Blur:
    name, edges = _with_edges(word.options)
    kernel = array_in(word.file(name), "kernel")
    if kernel.dtype.kind not in "biuf":
        word.refuse(f"the kernel holds {kernel.dtype}, not numbers")
    return Blur(torch.from_numpy(kernel.astype(np.float64)), edges)


def _gauss(word: Word) -> Blur:
    deviation, edges = _with_edges(word.options)
    sigma = word.number(deviation)
    if sigma > (widest := max(word.shape[1:], default=0)):
        word.refuse(f"it is wider than samples of {widest} pixels")
    return gaussian_blur(sigma, len(word.shape) - 1, edges)


def _down(word: Word) -> Down:
    factors = tuple(map(word.whole, word.options.split("x")))
    return Down(factors if len(factors) > 1 else factors[0])


def _fourier(word: Word) -> Fourier:
    if word.path.suffix.lower() in ARRAYS:
        kept = array_in(word.path, "mask")
        if kept.dtype.kind not in "biuf" or not np.isin(kept, (0, 1)).all():
            word.refuse(f"{word.path} holds something else than booleans, or 0 and 1")
        return Fourier(torch.from_numpy(kept.astype(np.bool_)))
    acceleration, _, seed = word.options.partition(":")
    return Fourier(_lines(word, word.number(acceleration), word.whole(seed or "0")))


def _lines(word: Word, acceleration: float, seed: int) -> Tensor:
    """One in so many frequencies along the last axis, the lowest and some at random, with all along the others."""
    sides = word.shape[1:]
    if not sides or not 1 <= acceleration <= sides[-1]:
        word.refuse(
            "an acceleration lies between 1 and the samples' width: one in so many frequencies is kept"
        )
    kept = round(sides[-1] / acceleration)
    order = np.argsort(np.abs(np.fft.fftfreq(sides[-1])), kind="stable")
    lowest = max(1, round(LOWEST * kept))
    others = np.random.default_rng(seed).choice(order[lowest:], kept - lowest, replace=False)
    line = np.zeros(sides[-1], dtype=np.bool_)
    line[[*order[:lowest], *others]] = True
    return torch.from_numpy(line).expand(sides).clone()


def _matrix(word: Word) -> Matrix:
    matrix = matrix_in(word.path)
    if matrix.shape[1] == np.prod(word.shape) and len(word.shape) > 1 and word.layout != CHANNELS_FIRST:
        order = torch.arange(matrix.shape[1]).view(word.shape).movedim(0, -1).flatten()
        return Matrix(with_columns_at(matrix, order))
    return Matrix(matrix)


def _radon(word: Word) -> Radon:
    if word.path.suffix.lower() not in ARRAYS:
        return Radon(even_angles(word.whole(word.options, MOST_ANGLES)))
    angles: NDArray[Any] = array_in(word.path, "angles")
    if angles.ndim != 1 or angles.dtype.kind not in "iuf":
        word.refuse(f"{word.path} is no list of angles in degrees")
    return Radon(tuple(map(float, angles)))


def _clip(word: Word) -> Clip:
    low, colon, high = word.options.partition(":")
    if not colon:
        word.refuse("a range has two ends, in the units of the data, -inf and inf where there is none")
    return Clip(word.number(low), word.number(high))


def _magnitude(word: Word) -> Magnitude:
    return Magnitude(word.whole(word.options or "1", MOST_OVERSAMPLING))


def _quantize(word: Word) -> Quantize:
    return Quantize(word.number(word.options))


def _identity(word: Word) -> Identity:
    if word.options:
        word.refuse("the sample itself has no options")
    return Identity()


OPERATORS: dict[str, Named] = {
    "mask": Named(
        ("mask:hide-left", "mask:random:0.9", "mask:FILE.png"),
        _mask,
        "hides the left half; 90 % of the pixels; what is not white",
    ),
    "crop": Named(("crop:4:24,8:24",), _crop, "rows 4 to 23, columns 8 to 23"),
    "identity": Named(("identity",), _identity, "all of the sample, to take noise away"),
    "blur": Named(("blur:FILE.npy", "blur:FILE.npy:periodic"), _blur),
    "gauss": Named(("gauss:1.5", "gauss:1.5:zero"), _gauss, "deviation in pixels"),
    "down": Named(("down:4", "down:2x4"), _down, "means over blocks"),
    "fourier": Named(("fourier:4", "fourier:FILE.npy"), _fourier, "one frequency in 4; those of a mask"),
    "matrix": Named(("matrix:FILE.npz",), _matrix),
    "radon": Named(("radon:30", "radon:FILE.npy"), _radon, "30 angles; those in a file"),
    "magnitude": Named(("magnitude", "magnitude:2"), _magnitude, "of the Fourier transform; oversampled"),
    "clip": Named(("clip:0:200",), _clip),
    "quantize": Named(("quantize:32",), _quantize, "steps of 32"),
}
"""Operators by name."""
