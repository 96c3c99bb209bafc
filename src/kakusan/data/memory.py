"""Data that are in memory already: NumPy arrays, PyTorch tensors and data sets, or a `Dataset`."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from kakusan.config.settings import DataSettings
from kakusan.data.arrays import as_images, dataset_of, with_conditions
from kakusan.data.dataset import Dataset
from kakusan.data.labels import classes_of
from kakusan.data.layout import CHANNELS_FIRST, FEW
from kakusan.errors import DataError, SettingsError

InMemory: TypeAlias = Dataset | NDArray[Any] | torch.Tensor | torch.utils.data.Dataset[Any]

NAME = "array"
WHERE = "the array"


def dataset_in_memory(
    data: InMemory,
    options: DataSettings,
    labels: ArrayLike | None = None,
    vectors: ArrayLike | None = None,
    conditions: NDArray[Any] | torch.Tensor | None = None,
) -> Dataset:
    """The data set of an array, by the rules for .npy files, or of a tensor of shape (n, channels, height, width).

    Of PyTorch's map-style data sets all items are fetched once: an image, or an image and its class; each a tensor
    (channels, height, width), an array (height, width, channels) or (height, width), or a Pillow image.
    labels: a whole number or a word for each image; vectors: numbers (n, k); conditions: images that belong to them, in
    the axes of the data. Nothing is copied that need not be.
    Raises DataError for what holds no images of one form, SettingsError for labels that do not fit.
    """
    if isinstance(data, Dataset):
        if not labels is vectors is conditions is None:
            raise SettingsError("a Dataset has its own labels and conditions", "give them with an array")
        return data
    if isinstance(data, torch.utils.data.Dataset):
        data, found = _fetched(data)
        labels = found if labels is None else labels
    elif not _is_array(data):
        raise _not_in_memory(data)
    array, layout = _as_array(data, options)
    images = as_images(array, WHERE, layout)
    images = replace(images, notes=(*images.notes, *_on_channels_last(data, options)))
    count = len(images.numbers.images)
    classes = None if labels is None else classes_of(np.asarray(labels), count, WHERE)
    dataset = replace(dataset_of(images, Path(WHERE), classes), name=NAME, source="")
    pairs, own = (None, layout) if conditions is None else _as_array(conditions, options)
    return with_conditions(dataset, own, vectors, pairs)


def _is_array(data: Any) -> bool:
    """A tensor, whatever NumPy makes an array of by itself, or a list of such."""
    return isinstance(data, torch.Tensor | list | tuple) or hasattr(data, "__array__")


def _not_in_memory(data: Any) -> DataError:
    return DataError(
        f"data in memory are an array, a tensor or a data set, not {type(data).__name__}",
        "of a DataLoader, give its .dataset; of a generator: numpy.stack(list(generator))",
    )


def _fetched(data: torch.utils.data.Dataset[Any]) -> tuple[NDArray[Any] | torch.Tensor, list[Any] | None]:
    """All images of a map-style data set, as an array or a tensor, and their classes where it has any."""
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise _not_in_memory(data)
    items = [data[index] for index in range(len(data))]
    pairs = [item if isinstance(item, tuple | list) else (item,) for item in items]
    if not items or isinstance(items[0], dict) or len({len(pair) for pair in pairs}) > 1 or len(pairs[0]) > 2:
        kind = type(items[0]).__name__ if items else "nothing"
        raise DataError(
            f"{type(data).__name__} yields {kind}: an image is needed, or an image and its class",
            "stack the images yourself: numpy.stack([item[...] for item in data])",
        )
    images = [pair[0] if isinstance(pair[0], torch.Tensor) else np.asarray(pair[0]) for pair in pairs]
    if len(shapes := {tuple(image.shape) for image in images}) > 1:
        some = ", ".join(map(str, sorted(shapes)[:3]))
        raise DataError(
            f"the images of {type(data).__name__} have {len(shapes)} shapes ({some}{', ...' * (len(shapes) > 3)})",
            "one is needed: resize and crop them in the data set",
        )
    labels = [_label(pair[1]) for pair in pairs] if len(pairs[0]) == 2 else None
    tensors = [image for image in images if isinstance(image, torch.Tensor)]
    if len(tensors) == len(images):
        return torch.stack(tensors), labels
    return np.stack([np.asarray(image) for image in images]), labels


def _label(label: Any) -> Any:
    """A class as Python has it."""
    return label.item() if isinstance(label, torch.Tensor | np.generic) and label.ndim == 0 else label


def _on_channels_last(data: Any, options: DataSettings) -> tuple[str, ...]:
    """A note on a tensor whose channels seem to come last."""
    if not isinstance(data, torch.Tensor) or data.ndim != 4 or options.layout != "auto":
        return ()
    _, channels, height, width = data.shape
    if channels <= FEW or width > FEW:
        return ()
    return (
        f"the tensor is read as {channels} channels of {height}x{width}, in PyTorch's order"
        ' (n, channels, height, width); where the channels come last: settings={"data.layout": "channels-last"}',
    )


def _as_array(data: NDArray[Any] | torch.Tensor, options: DataSettings) -> tuple[NDArray[Any], DataSettings]:
    """As NumPy has it, and the options: a tensor of four axes has its channels before height and width, for certain."""
    if not isinstance(data, torch.Tensor):
        return np.asarray(data), options
    values = data.detach().cpu()
    values = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    layout = CHANNELS_FIRST if values.ndim >= 4 and options.layout == "auto" else options.layout
    return values.numpy(), replace(options, layout=layout)
