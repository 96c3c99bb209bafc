"""Data that are in memory already: NumPy arrays, PyTorch tensors, or a `Dataset` that somebody has made."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from kakusan.data.arrays import as_images, dataset_of
from kakusan.data.dataset import Dataset
from kakusan.data.labels import classes_of
from kakusan.data.options import CHANNELS_FIRST, DataOptions
from kakusan.errors import SettingsError

InMemory: TypeAlias = Dataset | NDArray[Any] | torch.Tensor

NAME = "array"
WHERE = "the array"


def dataset_in_memory(data: InMemory, options: DataOptions, labels: ArrayLike | None = None) -> Dataset:
    """The data set of an array, by the rules for .npy files, or of a tensor of shape (n, channels, height, width).

    labels: a whole number or a word for each image. A `Dataset` is one already. Nothing is copied that need not be.
    """
    if isinstance(data, Dataset):
        if labels is not None:
            raise SettingsError("a Dataset has its own labels", "give labels with an array")
        return data
    array, layout = _as_array(data, options)
    images = as_images(array, WHERE, layout)
    count = len(images.numbers.images)
    classes = None if labels is None else classes_of(np.asarray(labels), count, WHERE)
    return replace(dataset_of(images, Path(WHERE), classes), name=NAME, source="")


def _as_array(data: NDArray[Any] | torch.Tensor, options: DataOptions) -> tuple[NDArray[Any], DataOptions]:
    """As NumPy has it, and the options: a tensor of four axes has its channels before height and width, for certain."""
    if not isinstance(data, torch.Tensor):
        return np.asarray(data), options
    values = data.detach().cpu()
    values = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    layout = CHANNELS_FIRST if values.ndim == 4 and options.layout == "auto" else options.layout
    return values.numpy(), replace(options, layout=layout)
