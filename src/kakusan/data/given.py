"""Images that a user gives to a run, from files or arrays: brought to the size and the units that it has learned.

They are what samples are given (conditions), or what an edit begins with.
"""

import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings, Layout
from kakusan.data.arrays import as_images, refusal
from kakusan.data.conditions import PairForm, fitted
from kakusan.data.dataset import silent
from kakusan.data.folder import read_folder
from kakusan.data.image_files import BadPictureError, NotAnImageError, read_header, read_pixels
from kakusan.data.layout import SINGLE_CHANNEL
from kakusan.data.missing import read_as_conditions
from kakusan.data.space import kind_of
from kakusan.data.units import Levels
from kakusan.errors import DataError, SettingsError, printable
from kakusan.shapes import Samples


@dataclass(frozen=True)
class Words:
    """The words for images that are given: their noun, their flag, and the array that holds them in an .npz file."""

    many: str = "conditions"
    flag: str = "--condition"
    key: str = "conditions"


CONDITIONS = Words()
EDITED = Words("images", "--from", "images")


def images_asked(
    path: Path,
    form: PairForm,
    size: tuple[int, ...],
    words: Words = CONDITIONS,
    *,
    layout: Layout = "auto",
    with_gaps: bool = False,
) -> tuple[Samples, tuple[str, ...]]:
    """Images (m, channels, *size) of an image file, a folder of them or an array, and notes.

    They are brought to the size that the run was trained with, and from there to that of its samples.
    layout, with_gaps: of an array, as `array_images` has them. Raises DataError for what cannot be read, or has other
    channels.
    """
    path = path.expanduser()
    notes: list[str] = []
    if path.suffix.lower() in (".npy", ".npz"):
        images = array_images(
            array_in(path, words.key), form, str(path), words, layout=layout, with_gaps=with_gaps
        )
    elif path.is_dir():
        folder = read_folder(path, _of_form(form, words), silent, write_cache=False)
        if folder.bad_files:
            bad = folder.bad_files[0]
            raise DataError(
                f"{len(folder.bad_files):,} of the images in {path} cannot be read: {bad.name}: {bad.reason}",
                "sample k is given the k-th image, so all are needed: mend them, or take them away",
            )
        notes += [f"{words.many} in {path}: {note}" for note in folder.notes]
        images = form.units.encode(_levels(folder.images, form))
    else:
        images = form.units.encode(_levels(_picture(path, form, words, notes)[None], form))
    if tuple(images.shape[1:]) != form.shape:
        notes.append(f"{words.many} scaled from {_sides(images.shape[2:])} to {_sides(form.shape[1:])}")
        images = fitted(images, form.shape[1:])
    return fitted(images, size), tuple(notes)


def array_images(
    array: NDArray[np.generic],
    form: PairForm,
    where: str,
    words: Words = CONDITIONS,
    *,
    layout: Layout = "auto",
    with_gaps: bool = False,
) -> Samples:
    """Images in the network's units, of an array (m, ...) as data files have it, or of a single one.

    layout: of its axes. with_gaps: missing values stay nan. Raises DataError for them elsewhere, and for values of
    another kind than the run has learned.
    """
    if not _is_batch(array, form, layout):
        array = array[None]
    one = len(array) == 1
    levels = form.units.levels if isinstance(form.units, Levels) else None
    doubled = np.concatenate([array, array]) if one else array  # a data file has two samples at least
    is_levels = levels is not None and array.dtype.kind in "iu"
    is_real = levels is None and array.dtype.kind == "f"
    options = DataSettings(
        kind=kind_of(form.shape),
        range=(-1.0, 1.0)
        if is_real
        else "auto",  # any: the units are those of the run, and one may be constant
        levels=levels if levels and is_levels else "auto",
        layout=layout,
        missing="mask" if with_gaps else "refuse",
    )
    with read_as_conditions("fill its gaps in, as those of the training were"):
        images = as_images(doubled, where, options).numbers.images[: len(array)]
    if images.shape[-1] != form.shape[0]:
        raise DataError(
            f"{where} has {images.shape[-1]} channels, and the run has learned {words.many} of {form.shape[0]}"
        )
    if isinstance(form.units, Levels) != (images.dtype == np.uint8):
        kind = f"of {form.units.levels} levels" if isinstance(form.units, Levels) else "real numbers"
        raise DataError(f"{where} is {array.dtype}, and the run has learned {words.many} {kind}")
    x = form.units.encode(images)
    return x.masked_fill(torch.from_numpy(np.isnan(images)).movedim(-1, 1), torch.nan) if with_gaps else x


def _is_batch(array: NDArray[np.generic], form: PairForm, layout: Layout) -> bool:
    """Whether an array is of several images, not of one. Where an axis is lacking, it is theirs or the channels'."""
    rank = len(form.shape)
    if layout != "auto":
        return array.ndim != rank - (layout == SINGLE_CHANNEL)
    if array.ndim == rank:
        return form.shape[0] == 1 and array.shape[0] != 1 and array.shape[-1] != 1
    return array.ndim != rank - 1


def array_in(path: Path, key: str) -> NDArray[np.generic]:
    """The array in a .npy or .npz file: of several that of this name, or the first. Raises DataError."""
    with _opened(path) as stored:
        if not stored:
            raise DataError(f"{path} holds no array")
        return np.asarray(stored[key if key in stored else next(iter(stored))])


def array_named(path: Path, key: str) -> NDArray[np.generic]:
    """The array in a .npy or .npz file: that of this name, or the only one. Raises DataError where it is not clear."""
    with _opened(path) as stored:
        if len(stored) > 1 and key not in stored:
            raise DataError(
                f"{path} holds several arrays, and none is named {key}: {', '.join(map(printable, stored))}",
                f"numpy.savez(path, {key}=...) names it, numpy.save(path, ...) writes one alone",
            )
    return array_in(path, key)


def arrays_in(path: Path) -> dict[str, NDArray[np.generic]]:
    """All arrays in a .npz file by name, or the one of a .npy file, called "array". Raises DataError."""
    with _opened(path) as stored:
        return {name: np.asarray(array) for name, array in stored.items()}


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, NDArray[np.generic]]]:
    """The arrays of a file, each read where it is asked for. What NumPy says of bad files becomes a DataError."""
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            yield found if isinstance(found, np.lib.npyio.NpzFile) else {"array": np.asarray(found)}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise refusal(path, error) from error
    except (EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _of_form(form: PairForm, words: Words) -> DataSettings:
    channels, *size = form.shape
    if len(size) != 2 or channels not in (1, 3) or not isinstance(form.units, Levels):
        raise SettingsError(
            f"the run was trained on {words.many} that no image file holds",
            f"give an array: {words.flag} FILE.npy",
        )
    return DataSettings(size=(size[0], size[1]), channels=channels)


def _picture(path: Path, form: PairForm, words: Words, notes: list[str]) -> NDArray[np.uint8]:
    _of_form(form, words)
    channels, height, width = form.shape
    try:
        header = read_header(path)
        if (found := (header.height, header.width)) != (height, width):
            sides = f"{_sides(found)} to {_sides((height, width))}"
            notes.append(f"{printable(path.name)}: scaled and cropped from {sides}")
        return read_pixels(path, height, width, channels)
    except (BadPictureError, NotAnImageError, OSError) as error:
        why = str(error) or "it is none"
        raise DataError(
            f"{path} cannot be read as an image: {why}",
            "give an image, a folder of images, or a .npy or .npz array",
        ) from error


def picture(path: Path, sides: tuple[int, ...], channels: int, noun: str, advice: str) -> NDArray[np.uint8]:
    """The bytes (height, width, channels) of a picture of exactly this size: scaling would change what was measured.

    noun: what it is given as. Raises DataError for what is no picture, or is of another size.
    """
    try:
        if len(sides) != 2:
            raise DataError(
                f"{path}: {noun} of samples without height and width is an array, not a picture", advice
            )
        header = read_header(path)
        if (size := (header.height, header.width)) != sides:
            raise DataError(
                f"{path} is {size[0]} high and {size[1]} wide, and {noun} here is {sides[0]} by {sides[1]}",
                "it is not scaled, since that would change what it says",
            )
        return read_pixels(path, *sides, channels)
    except (BadPictureError, NotAnImageError, OSError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else str(error) or "it is no picture"
        raise DataError(f"{path} cannot be read as {noun}: {why}", advice) from error


def picture_of_mask(path: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where a picture is white, (height, width), scaled and cropped as an image of these samples would be.

    Raises DataError for what cannot be read, and where it is white nowhere or everywhere.
    """
    if len(shape) != 3:
        raise SettingsError("a picture is a mask of images", "give an array of booleans: --mask FILE.npy")
    try:
        white = read_pixels(path, shape[1], shape[2], 1, by_area=True)[..., 0] >= WHITE
    except (BadPictureError, NotAnImageError, OSError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else str(error) or "it is no picture"
        raise DataError(f"{path} cannot be read as a mask: {why}") from error
    if white.all() or not white.any():
        of = "white: nothing is" if white.all() else "black, or grey: all is"
        raise DataError(f"{path} is all {of} made anew", "white is kept, black is made anew")
    return white


WHITE: Final = 250
"""Bytes of a mask from which on it is white: the greys of a smoothed edge are not, since they are partly hidden."""


def _levels(images: NDArray[np.uint8], form: PairForm) -> NDArray[np.uint8]:
    """Bytes of a picture on the levels that the run has learned."""
    assert isinstance(form.units, Levels)
    levels: NDArray[np.uint8] = np.rint(images * ((form.units.levels - 1) / 255)).astype(np.uint8)
    return levels


def _sides(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
