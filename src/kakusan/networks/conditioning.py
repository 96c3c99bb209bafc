"""Conditioning of networks: labels and vectors beside the time, images and masks as channels.

What is not given is the null condition: a row of the table of labels, a learned vector, an image of zeros with a
channel that says so.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.errors import SettingsError
from kakusan.networks.layers import TimeEmbedding, linear
from kakusan.shapes import Condition, Labels, Samples, Vectors, per_sample

Embedding = Float[Tensor, "batch _"]


class LabelEmbedding(nn.Embedding):
    """A row for each class and, the last, for the null label, if there is one."""

    def __init__(self, classes: int, width: int, *, null_label: bool = True) -> None:
        super().__init__(classes + null_label, width)
        self.null = classes if null_label else None

    def of(self, labels: Labels | None, dropped: Bool[Tensor, " batch"] | None, like: Tensor) -> Embedding:
        """The rows of these labels; the null label's where they are dropped or not given.

        Raises SettingsError where there is none.
        """
        if labels is None:
            labels = torch.full_like(like, -1, dtype=torch.int64)
            dropped = torch.ones_like(labels, dtype=torch.bool)
        if dropped is not None:
            if self.null is None:
                raise SettingsError(
                    "this network knows no image without a class",
                    "name one (label), or bring images with their classes",
                )
            labels = labels.masked_fill(dropped, self.null)
        rows: Tensor = self(labels)
        return rows


class VectorEmbedding(nn.Module):
    """Standardized numbers through a small network; a learned vector where they are dropped or not given."""

    def __init__(self, numbers: int, width: int) -> None:
        super().__init__()
        self.numbers = numbers
        self.linear_1 = linear(numbers, width)
        self.linear_2 = linear(width, width)
        self.null = nn.Parameter(torch.zeros(width))

    def of(self, vectors: Vectors | None, dropped: Bool[Tensor, " batch"] | None, like: Tensor) -> Embedding:
        """Raises ValueError for vectors of another length."""
        if vectors is None:
            return self.null.expand(len(like), -1)
        if vectors.shape[1] != self.numbers:
            raise ValueError(f"the network takes vectors of {self.numbers} numbers, not {vectors.shape[1]}")
        embedding: Tensor = self.linear_2(F.silu(self.linear_1(vectors.to(self.linear_1.weight.dtype))))
        if dropped is None:
            return embedding
        return torch.where(dropped[:, None], self.null.to(embedding), embedding)


def label_embedding(classes: int, width: int, *, null_label: bool = True) -> LabelEmbedding | None:
    """Nothing for a network without classes."""
    return LabelEmbedding(classes, width, null_label=null_label) if classes else None


def vector_embedding(numbers: int, width: int) -> VectorEmbedding | None:
    """Nothing for a network without vectors."""
    return VectorEmbedding(numbers, width) if numbers else None


def embed(
    time: Float[Tensor, " batch"],
    clock: TimeEmbedding,
    condition: Condition | None,
    labels: LabelEmbedding | None,
    vectors: VectorEmbedding | None = None,
) -> Embedding:
    """The time's embedding plus those of label and vector. Raises SettingsError for what the network does not take."""
    embedding: Tensor = clock(time)
    given = _Nothing if condition is None else condition
    if labels is not None:
        embedding = embedding + labels.of(given.label, given.dropped, time)
    elif given.label is not None:
        raise SettingsError(
            "labels were given to a network that knows no classes",
            "leave the labels out, or train a network with classes",
        )
    if vectors is not None:
        embedding = embedding + vectors.of(given.vector, given.dropped, time).to(embedding)
    elif given.vector is not None:
        raise SettingsError(
            "a vector was given to a network that takes none", "leave it out, or train with --data.vectors"
        )
    return embedding


class _Nothing:
    """The condition that gives nothing."""

    label = vector = image = mask = dropped = None


def condition_channels(image_channels: int, mask_channels: int) -> int:
    """Number of channels that `with_images` adds: the image's, one that says whether it is given, and the mask's."""
    return image_channels + (image_channels > 0) + mask_channels


def with_images(
    x_t: Samples, condition: Condition | None, image_channels: int, mask_channels: int
) -> Float[Tensor, "batch _ *space"]:
    """x_t, and as further channels the image and the mask of its condition; missing values of x_t as zeros.

    Raises SettingsError for images that the network does not take, ValueError for those of another shape.
    """
    given = _Nothing if condition is None else condition
    channels = [x_t]
    for name, count in (("image", image_channels), ("mask", mask_channels)):
        tensor = getattr(given, name)
        if tensor is not None and not count:
            raise SettingsError(
                f"the condition has an {name}, and the network takes none".replace("an m", "a m")
            )
        if tensor is not None and tensor.shape[1:] != (count, *x_t.shape[2:]):
            raise ValueError(
                f"the {name} of the condition has shape {tuple(tensor.shape[1:])},"
                f" and the network takes {(count, *x_t.shape[2:])}"
            )
    if image_channels:
        channels += _image_or_zeros(x_t, given.image, given.dropped, image_channels)
    if mask_channels:
        mask = torch.ones_like(x_t) if given.mask is None else given.mask.to(x_t)
        channels = [x_t.masked_fill(mask == 0, 0), *channels[1:], mask]
    return torch.cat(channels, 1) if len(channels) > 1 else x_t


def _image_or_zeros(
    x_t: Samples, image: Samples | None, dropped: Bool[Tensor, " batch"] | None, count: int
) -> list[Tensor]:
    """The image, and a channel of ones; zeros for both where it is dropped or not given."""
    n, _, *space = x_t.shape
    if image is None:
        return [x_t.new_zeros(n, count + 1, *space)]
    here = x_t.new_ones(n) if dropped is None else (~dropped).to(x_t)
    shown = per_sample(here, x_t)
    return [image.to(x_t) * shown, shown.expand(n, 1, *space)]
