"""Conditions that a user asks samples for: numbers typed in a line or read from a file, images from files."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kakusan.config.settings import Layout
from kakusan.data.conditions import VectorForm, fitted
from kakusan.data.given import array_images, array_in, images_asked
from kakusan.data.layout import CHANNELS_FIRST, CHANNELS_LAST, SINGLE_CHANNEL
from kakusan.data.missing import MASK
from kakusan.data.record import DataRecord
from kakusan.errors import DataError, SettingsError, printable
from kakusan.shapes import Samples, Vectors

EACH = "each"
"""The label that stands for each class in turn."""
FILES = (".npy", ".npz", ".csv")
FAR = 4.0
"""Deviations from the mean: hardly any sample of a training is so far from it."""


def rows_asked(
    record: DataRecord,
    run: Path,
    layout: Layout,
    *,
    label: str | int | None,
    vector: ArrayLike | str | None,
    image: Samples | NDArray[Any] | Path | str | None,
    mask: NDArray[Any] | Tensor | Path | str | None,
    say: Callable[[str], None],
) -> dict[str, Tensor]:
    """The rows of a condition by name, for what is asked of a run whose data are of this record.

    layout: of its arrays. say: called with lines on what was scaled, and what is far from all that was learned.
    Raises SettingsError for what the run has not learned, and for rows of different numbers, one of which is not 1.
    """
    given = {
        "label": None if label is None else _labels(label, record, run),
        "vector": None if vector is None else _vectors(vector, record, run, say),
        "image": None if image is None else _images(image, record, run, say),
        "mask": None if mask is None else _masks(mask, record, run, layout),
    }
    rows = {name: tensor for name, tensor in given.items() if tensor is not None}
    most = max(map(len, rows.values()))
    if wrong := [f"{len(x)} of {name}" for name, x in rows.items() if len(x) not in (1, most)]:
        raise SettingsError(
            f"{wrong[0]} and {most} of another condition do not go together", "give one, or as many"
        )
    return rows


def class_number(label: str, record: DataRecord, run: Path) -> int:
    """The number of a class given by name or number. Raises SettingsError if there is none."""
    names = record.class_names
    if not names:
        raise SettingsError(f"{run} has learned no classes", "leave the label out")
    if label in names:
        return names.index(label)
    if label.isdecimal() and int(label) < len(names):
        return int(label)
    raise SettingsError(f"there is no class {label!r}", f"classes: {', '.join(names[:20])}")


def classes_at_once(
    label: str | int | None, record: DataRecord, run: Path
) -> tuple[tuple[int, float], ...] | None:
    """The classes and shares in "3:1+7:0.5"; None for a label that names one class. SettingsError for no numbers."""
    text = str(label)
    if label is None or "+" not in text or text in record.class_names:
        return None
    parts = []
    for part in text.split("+"):
        name, _, share = part.rpartition(":") if ":" in part else (part, "", "1")
        try:
            parts.append((class_number(name.strip(), record, run), float(share)))
        except ValueError as error:
            raise SettingsError(
                f"the share of a class is a number, not {share!r}", "such as 3:1+7:0.5"
            ) from error
    if not any(share for _, share in parts):
        raise SettingsError(
            f"the label {text} gives each class the share 0, so none is asked for", "such as 3:1+7:0.5"
        )
    return tuple(parts)


def _labels(label: str | int, record: DataRecord, run: Path) -> Tensor:
    if label == EACH and record.class_names:
        return torch.arange(len(record.class_names))
    return torch.tensor([class_number(str(label), record, run)])


def _vectors(vector: ArrayLike | str, record: DataRecord, run: Path, say: Callable[[str], None]) -> Tensor:
    if (form := record.vectors) is None:
        raise SettingsError(f"{run} has learned no vectors", "leave the vector out")
    vectors = vectors_asked(vector, form) if isinstance(vector, str) else encoded_vectors(vector, form)
    if note := far_from_learned(vectors, form):
        say(note)
    return vectors


def _images(
    image: Samples | NDArray[Any] | Path | str, record: DataRecord, run: Path, say: Callable[[str], None]
) -> Tensor:
    if (form := record.pairs) is None:
        raise SettingsError(
            f"{run} was not trained on pairs",
            "leave the condition out, or train with --data.condition-from FOLDER, or --data.pairs for an .npz file",
        )
    if isinstance(image, str) and not image:
        raise SettingsError(
            "the condition is an empty name", "give an image, a folder of images, or an array"
        )
    size = record.shape[1:]
    if isinstance(image, torch.Tensor):
        return fitted(image, size)
    if not isinstance(image, str | Path):
        return fitted(array_images(np.asarray(image), form, "the condition"), size)
    images, notes = images_asked(Path(image), form, size)
    for note in notes:
        say(note)
    return images


def _masks(mask: NDArray[Any] | Tensor | Path | str, record: DataRecord, run: Path, layout: Layout) -> Tensor:
    if not record.masked:
        raise SettingsError(
            f"{run} was trained on data without missing values, and takes no mask",
            "leave the mask out, or train with --data.missing mask",
        )
    if isinstance(mask, str | Path):
        return mask_asked(str(mask), record.shape, layout)
    is_tensor = isinstance(mask, torch.Tensor)  # as samples are: its channels come second
    array = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
    return mask_of(array, record.shape, CHANNELS_FIRST if is_tensor else layout, "the mask")


def vectors_asked(text: str, form: VectorForm) -> Vectors:
    """Standardized vectors (m, k) of "0.3,1.5", "thickness=0.3,slant=0" or a .npy, .npz (`vectors`) or .csv file.

    A .csv file may begin with a line of names, an .npz hold `vector_names`. Where numbers are named, the others are
    those of the mean. Raises SettingsError or DataError for others than the run learned.
    """
    path = Path(text).expanduser()
    names, values = _vectors_in(path) if path.suffix.lower() in FILES else _typed(text, form)
    return encoded_vectors(_arranged(names, np.atleast_2d(values), form) if names else values, form, text)


def far_from_learned(vectors: Vectors, form: VectorForm) -> str:
    """A sentence on the number that is farthest from what the run has learned, if it is very far; else empty."""
    distances = vectors.abs()
    row, k = divmod(int(distances.argmax()), len(form.names))
    if (distance := float(distances[row, k])) <= FAR:
        return ""
    value = form.decode(vectors[row : row + 1])[0, k]
    learned = f"{form.mean[k]:.3g} ± {form.scale[k]:.2g}"
    return f"{form.names[k]}={value:.3g} is {distance:.1f} deviations from the mean of what was learned ({learned})"


def encoded_vectors(values: ArrayLike, form: VectorForm, where: str = "the vector") -> Vectors:
    """Standardized vectors (m, k) of numbers in their own units, (k,) or (m, k)."""
    array = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if array.ndim == 2 and len(bad := np.argwhere(~np.isfinite(array))):
        row, column = bad[0]
        raise SettingsError(
            f"{where}: number {column + 1} of row {row + 1} is {array[row, column]}, not finite"
        )
    if array.ndim != 2 or array.shape[1] != len(form.names) or not len(array):
        raise SettingsError(
            f"{where} has shape {array.shape}: rows of {len(form.names)} numbers are needed",
            f"the run has learned: {', '.join(form.names[:20])}",
        )
    return form.encode(array)


def _typed(text: str, form: VectorForm) -> tuple[list[str], NDArray[np.float64]]:
    """Names, none where there are none, and one row of numbers."""
    parts = [part.strip().rpartition("=") for part in text.split(",") if part.strip()]
    names = [name.strip() for name, _, _ in parts if name]
    if names and len(names) < len(parts):
        raise SettingsError(f"the vector {text} names some numbers and not others", "name all, or none")
    try:
        numbers = np.array([[float(value) for _, _, value in parts]])
    except ValueError as error:
        raise SettingsError(f"the vector {text}: {error}", "such as 0.3,1.5") from error
    if not names and numbers.shape[1] != len(form.names):
        raise SettingsError(
            f"the vector has {numbers.shape[1]} numbers, and the run has learned {len(form.names)}:"
            f" {', '.join(form.names[:20])}",
            f"such as {form.names[0]}={form.mean[0]:.3g}",
        )
    return names, numbers


def _arranged(names: Sequence[str], values: NDArray[np.float64], form: VectorForm) -> NDArray[np.float64]:
    """Rows of named numbers in the order of the run; the mean where a number is not named."""
    learned = f"the run has learned: {', '.join(form.names[:20])}"
    if unknown := sorted(set(names) - set(form.names)):
        raise SettingsError(f"there is no number {printable(unknown[0])!r}", learned)
    if twice := [name for name in names if list(names).count(name) > 1]:
        raise SettingsError(f"{printable(twice[0])} is given twice", "give each number once")
    if not values.size:
        raise SettingsError("there are names and no row of numbers", learned)
    if values.shape[1:] != (len(names),):
        raise SettingsError(
            f"{len(names)} names for numbers of shape {values.shape}: each has one of its own", learned
        )
    rows = np.tile(np.array(form.mean), (len(values), 1))
    rows[:, [form.names.index(name) for name in names]] = values
    return rows


def _vectors_in(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Names, none where there are none, and rows of numbers."""
    try:
        if path.suffix.lower() == ".csv":
            return _rows_in(path)
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            return [], np.asarray(found, np.float64)
        names = list(map(str, found["vector_names"])) if "vector_names" in found.files else []
        return names, np.asarray(found["vectors"], np.float64)
    except OSError as error:
        raise DataError(f"the vectors of {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError) as error:
        raise DataError(
            f"the vectors of {path} cannot be read: {error}", "rows of numbers are needed"
        ) from error


def _rows_in(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """The names and rows of a .csv file; a first line that is no number is a line of names."""
    rows = [
        [field.strip() for field in row]
        for row in csv.reader(path.read_text("utf-8-sig").splitlines())
        if row
    ]
    names = rows.pop(0) if rows and not _is_number(rows[0][0]) else []
    return names, np.array([[float(value) for value in row] for row in rows])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


FULL = "full"
"""The word for a mask of ones: everything is there."""


def mask_asked(mask: str, shape: tuple[int, ...], layout: Layout) -> Samples:
    """Masks (m, *shape) of "full", or of a .npy or .npz file (`mask`, or its first array): see `mask_of`."""
    if mask == FULL:
        return torch.ones(1, *shape)
    path = Path(mask).expanduser()
    if path.suffix.lower() not in (".npy", ".npz"):
        raise SettingsError(f"the mask {mask} is neither {FULL} nor a .npy or .npz file", f"such as {FULL}")
    return mask_of(array_in(path, MASK), shape, layout, str(path))


def mask_of(array: NDArray[np.generic], shape: tuple[int, ...], layout: Layout, where: str) -> Samples:
    """Masks (m, *shape), 1 where a value is there, of an array of one or several.

    array: booleans or 0 and 1, which say what is there, or other floats, where nan is missing, and zeros without any
    nan are refused; in the axes of the data
    (`layout`), in another order of axes, or without an axis for the channels, which then have one mask.
    Raises DataError for other values and shapes, and for masks where nothing is there.
    """
    channels, *size = shape
    forms = {
        CHANNELS_LAST: (*size, channels),
        CHANNELS_FIRST: shape,
        SINGLE_CHANNEL: tuple(size),
    }
    names = (layout, *forms) if layout in forms else tuple(forms)
    fitting = (name for name in names if forms[name] in (array.shape, array.shape[1:]))
    if (name := next(fitting, None)) is None:
        raise DataError(
            f"{where} has shape {array.shape}: a mask of samples of {forms[names[0]]} is needed, or several"
        )
    there = torch.from_numpy(_there(array, where).reshape(-1, *forms[name]).astype(np.float32))
    there = there.unsqueeze(1) if name == SINGLE_CHANNEL else there
    there = there.movedim(-1, 1) if name == CHANNELS_LAST else there
    if not (len(there) and there.flatten(1).any(1).all()):
        raise DataError(f"{where} has a mask where nothing is there: there is nothing to sample")
    return there.expand(-1, *shape)


def mask_of_one(array: NDArray[np.generic], shape: tuple[int, ...], layout: Layout, where: str) -> Tensor:
    """One mask, booleans of this shape, True where a value is kept. Raises DataError as `mask_of`, and for several
    masks, and where all is kept, or nothing."""
    if array.size and not array.any():
        raise DataError(f"{where} keeps nothing: all is made anew", KEPT)
    masks = mask_of(array, shape, layout, where) > 0
    if len(masks) != 1:
        raise DataError(f"{where} is {len(masks)} masks, and one image is filled in", "give one mask")
    if masks.all():
        raise DataError(f"{where} keeps everything: nothing is made anew", KEPT)
    return masks[0]


KEPT = "True, or 1, is kept; False, or 0, is made anew"


def _there(array: NDArray[np.generic], where: str) -> NDArray[np.bool_]:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} holds {array.dtype}: booleans, 0 and 1, or floats with NaN are a mask")
    if np.isin(array, (0, 1)).all():
        return array.astype(np.bool_)
    if array.dtype.kind != "f":
        raise DataError(f"{where} holds other whole numbers than 0 and 1, where a value is there or not")
    missing: NDArray[np.bool_] = np.isnan(array)
    if not missing.any() and not array.all():  # 0 and 255, or weights: their zeros were meant to hide
        raise DataError(
            f"{where} holds zeros beside other numbers than 1, and no nan",
            "give booleans, or 0 and 1; of other floats nan alone says that a value is missing",
        )
    return ~missing
