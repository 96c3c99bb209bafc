"""The vocabulary of shapes, which the tests check at run time; and the condition of a sample."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Float64, Int, Shaped
from torch import Tensor

Samples: TypeAlias = Float[Tensor, "batch channels *space"]
"""A batch in the network's units, or noise of its shape: points (batch, 2), signals (batch, channels, length), images
(batch, channels, height, width), volumes (batch, channels, depth, height, width)."""

PerSample: TypeAlias = Float[Tensor, "batch *ones"]
"""One number for each sample, ready to broadcast: see `per_sample`."""

Times: TypeAlias = Float64[Tensor, " batch"]
"""0 <= t <= T; whole numbers in training."""

Coefficients: TypeAlias = Float64[Tensor, " batch"]
"""One number for each sample, a function of its time, on the device of the time: the CPU, or a CUDA device that draws
its times itself."""

Labels: TypeAlias = Int[Tensor, " batch"]
"""Class labels 0..classes-1."""

Vectors: TypeAlias = Float[Tensor, "batch numbers"]
"""Standardized numbers that describe each sample."""


@dataclass(frozen=True, eq=False)
class Condition:
    """The condition of samples: batch-first tensors by name, one row for each sample; None: not given.

    How a network stands for what is not given, or is dropped, is the network's affair: an embedding, or zeros.
    Raises ValueError where the rows differ in number.
    """

    label: Labels | None = None
    """Class numbers."""
    vector: Vectors | None = None
    """Numbers, standardized as the run says."""
    image: Samples | None = None
    """On the grid of the samples, in network units of its own."""
    mask: Samples | None = None
    """1 where a value of the sample is there, 0 where it is missing; it says what a sample is, and is never dropped."""
    dropped: Bool[Tensor, " batch"] | None = None
    """Rows whose label, vector and image are withheld (classifier-free guidance); None: no row."""

    def __post_init__(self) -> None:
        sizes = {
            name: tensor.shape[0] for name, tensor in self.tensors()
        }  # `len` would fix the batch of an export
        first, *others = sizes.values() or (None,)
        if first is None or any(size != first for size in others):
            raise ValueError(f"a condition has tensors of one length, at least one, not {sizes}")

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors that are given, by name."""
        return ((name, tensor) for name, tensor in vars(self).items() if tensor is not None)

    def __len__(self) -> int:
        return len(next(self.tensors())[1])

    def _each(self, change: Any) -> "Condition":
        return Condition(**{name: change(tensor) for name, tensor in self.tensors()})

    def rows(self, rows: Tensor | slice) -> "Condition":
        """The condition of some of the samples, in this order, on the device of the condition."""
        return self._each(lambda x: x[rows.to(x.device) if isinstance(rows, Tensor) else rows])

    def to(self, device: torch.device | str) -> "Condition":
        return self._each(lambda x: x.to(device, non_blocking=True))

    def without(self, rows: Bool[Tensor, " batch"]) -> "Condition":
        """The same with these rows dropped."""
        return replace(self, dropped=rows if self.dropped is None else self.dropped | rows)

    def null(self) -> "Condition":
        """The same with all rows dropped: the unconditional side of guidance."""
        _, some = next(self.tensors())
        return replace(self, dropped=torch.ones(len(self), dtype=torch.bool, device=some.device))


def joined(conditions: Sequence[Condition]) -> Condition:
    """One condition after the other in one batch. Raises ValueError where one gives what another does not."""
    names = {name for condition in conditions for name, _ in condition.tensors()}
    whole = [
        replace(c, dropped=torch.zeros(len(c), dtype=torch.bool, device=next(c.tensors())[1].device))
        if "dropped" in names and c.dropped is None
        else c
        for c in conditions
    ]
    columns = {name: [getattr(condition, name) for condition in whole] for name in names}
    if lacking := [name for name, column in columns.items() if any(x is None for x in column)]:
        raise ValueError(f"conditions of one batch give the same, and some have no {lacking[0]}")
    return Condition(**{name: torch.cat(column) for name, column in columns.items()})


def per_sample(values: Float[Tensor, " batch"], like: Samples) -> PerSample:
    """One number for each sample, of shape (batch, 1, ..., 1), to broadcast over samples of any rank.

    Raises ValueError where there is not one number for each sample.
    """
    if values.shape != like.shape[:1]:
        raise ValueError(
            f"{tuple(values.shape)} coefficients do not fit samples of shape {tuple(like.shape)}"
        )
    return values.view(-1, *[1] * (like.ndim - 1))


def scaled(values: Coefficients, x: Samples) -> Samples:
    """Each sample times its number, which is cast last to the samples' type and device."""
    return moved(per_sample(values, x), x) * x


def moved(values: Tensor, like: Tensor) -> Tensor:
    """The values in the type and on the device of another tensor; a CUDA device is not waited for."""
    return values.to(like.device, like.dtype, non_blocking=like.device.type == "cuda")


def times_like(t: int | float, x: Samples) -> Times:
    """The same time for every sample of a batch."""
    return torch.full((len(x),), float(t), dtype=torch.float64)


def by_row(batch: Shaped[Tensor, "batch *any"]) -> Shaped[Tensor, "batch values"]:
    """The values of each row in one line; where a row is a single number, of shape (batch,), a line of that one."""
    return batch.flatten(1) if batch.ndim > 1 else batch[:, None]


def mean_by_sample(values: Samples, mask: Samples | None = None) -> Float[Tensor, " batch"]:
    """The mean over all values of each sample, or over those where the mask is 1."""
    if mask is None:
        return values.flatten(1).mean(1)
    there = mask.to(values).expand_as(values).flatten(1)
    return (values.flatten(1) * there).sum(1) / there.sum(1).clamp(min=1)


def with_gaps(x: Samples, mask: Samples | None) -> Samples:
    """nan where the mask is 0: how samples look from outside, since what stands there has no meaning."""
    return x if mask is None else x.masked_fill(mask.to(x.device) == 0, torch.nan)
