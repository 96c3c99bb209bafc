"""Randomness as a function: Philox4x32-10, keyed by what a number is for.

A draw is named by (seed; purpose, ordinal, index, element) and depends on nothing else: not on the batch it is
made in, not on what was drawn before, not on the machine. So there is no state to save, skip or replay.

Source: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"; the tests hold its
published known answers. Written in int64 tensor operations: a product of two 32-bit words wraps around, but its
64 bits are right, and masks undo the sign of the shifts.
"""

import math
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from kakusan.errors import SettingsError

WORD = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
BLOCK = 4  # words that one counter yields
CHUNK = 1 << 14  # counters at a time: the working set stays in the second-level cache


class Purpose(IntEnum):
    """The purpose of a draw: a word of the counter, so that no two uses share a number."""

    X_T = 0
    WALK = 1
    NOISE = 2
    TIMES = 3
    EPOCH = 4
    FLIP = 5
    LABEL_DROPOUT = 6
    SPLIT = 7
    DROPOUT = 8
    EVALUATION = 9
    TOY = 10
    EVALUATION_TIMES = 11
    EVALUATION_NOISE = 12
    ORACLE = 13
    CODING = 14
    PROBE = 15
    CHAIN = 16


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four 32-bit words for each counter of four 32-bit words (int64 tensors holding 0..2^32-1)."""
    c_0, c_1, c_2, c_3 = counter
    k_0, k_1 = key
    for _ in range(ROUNDS):
        high_0, low_0 = _multiply(c_0, MULTIPLIERS[0])
        high_1, low_1 = _multiply(c_2, MULTIPLIERS[1])
        c_0, c_1, c_2, c_3 = (
            high_1.bitwise_xor_(c_1).bitwise_xor_(k_0),
            low_1,
            high_0.bitwise_xor_(c_3).bitwise_xor_(k_1),
            low_0,
        )
        k_0, k_1 = (k_0 + WEYL[0]) & WORD, (k_1 + WEYL[1]) & WORD
    return c_0, c_1, c_2, c_3


def _multiply(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    product = a * b
    return (product >> 32).bitwise_and_(WORD), product.bitwise_and_(WORD)


def require_seed(seed: int) -> None:
    """Raises SettingsError for a seed outside 0..2^64-1."""
    if not 0 <= seed < 1 << 64:
        raise SettingsError(f"a seed is a whole number from 0 to 2^64 - 1, not {seed}")


def words(
    seed: int, purpose: Purpose, ordinal: int | Tensor, indices: Int64[Tensor, " n"], elements: int
) -> Int64[Tensor, "n elements"]:
    """32-bit words: row i belongs to the global index indices[i]. Raises SettingsError for a seed outside 0..2^64-1.

    ordinal: or a whole number in a tensor without axes, on the device of the indices.
    """
    require_seed(seed)
    blocks = -(-elements // BLOCK)
    drawn = torch.empty(indices.numel() * blocks, BLOCK, dtype=torch.int64, device=indices.device)
    chunk = CHUNK if indices.device.type == "cpu" else len(drawn)
    for start in range(0, len(drawn), max(chunk, 1)):
        rows = drawn[start : start + chunk]
        position = torch.arange(start, start + len(rows), device=indices.device)
        index = indices[position // blocks]
        constant = torch.zeros_like(index) + ordinal
        counter = (position % blocks, index, constant, torch.full_like(index, int(purpose)))
        torch.stack(philox(counter, (seed & WORD, seed >> 32)), dim=1, out=rows)
    return drawn.view(indices.numel(), blocks * BLOCK)[:, :elements]


def uniforms(
    seed: int, purpose: Purpose, ordinal: int | Tensor, indices: Int64[Tensor, " n"], elements: int
) -> Float64[Tensor, "n elements"]:
    """Uniform numbers in the open interval (0, 1): the middles of 2^32 equal cells."""
    if isinstance(ordinal, Tensor) and (kernels := _kernels()) is not None:
        drawn: Tensor = kernels.uniforms(seed, purpose, ordinal, indices, elements)
        return drawn
    return (words(seed, purpose, ordinal, indices, elements).double() + 0.5).mul_(2.0**-32)


def normals(
    seed: int, purpose: Purpose, ordinal: int | Tensor, indices: Int64[Tensor, " n"], shape: tuple[int, ...]
) -> Tensor:
    """Standard normal noise, one sample of this shape for each index, float32. Box-Muller in float64.

    The same on every device to one unit in the last place of float32. No value lies beyond sqrt(66 ln 2) = 6.7637
    (the smallest uniform number is 2^-33); of true normal noise, one value in 7e10 does.
    """
    if isinstance(ordinal, Tensor) and (kernels := _kernels()) is not None:
        drawn: Tensor = kernels.normals(seed, purpose, ordinal, indices, shape)
        return drawn
    if indices.device.type == "mps":  # it has no float64
        return normals(seed, purpose, ordinal, indices.cpu(), shape).to(indices.device)
    elements = math.prod(shape)
    uniform = uniforms(seed, purpose, ordinal, indices, elements + elements % 2)
    radius = uniform[:, 0::2].log().mul_(-2).sqrt_()
    angle = uniform[:, 1::2] * (2 * math.pi)
    pairs = torch.stack((angle.cos().mul_(radius), angle.sin_().mul_(radius)), dim=2)
    return pairs.view(indices.numel(), -1)[:, :elements].float().view(indices.numel(), *shape)


@cache
def _kernels() -> Any:
    """`kernel.py`, for a CUDA device where Triton is installed; else None."""
    if not torch.cuda.is_available():
        return None
    try:
        from kakusan.randomness import kernel
    except ImportError:
        return None
    return kernel


def integers(uniform: Float64[Tensor, "*shape"], count: int) -> Int64[Tensor, "*shape"]:
    """Uniform numbers in (0, 1) to whole numbers 0..count-1."""
    return (uniform * count).long().clamp_(max=count - 1)


def permutation(seed: int, purpose: Purpose, ordinal: int, count: int) -> NDArray[np.int64]:
    """A uniformly random order of 0..count-1: the order of 64 random bits each, ties (never seen) by position."""
    drawn = words(seed, purpose, ordinal, torch.arange(count), 2)
    keys = (drawn[:, 0] << 32) | drawn[:, 1]
    return torch.argsort(keys, stable=True).numpy()


def torch_seed(seed: int, ordinal: int, index: int) -> int:
    """A seed for torch's own generator, which only dropout uses."""
    high, low = words(seed, Purpose.DROPOUT, ordinal, torch.tensor([index]), 2)[0].tolist()
    return int(((high << 32) | low) >> 1)
