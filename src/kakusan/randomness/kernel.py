"""`uniforms` and `normals` as one kernel each, in Triton: the same words to the bit, the same numbers to a rounding of
float64. For a CUDA device that knows the ordinal itself, and indices below 2^32."""

import math
from typing import Any

import triton
import triton.language as tl
from jaxtyping import Float64, Int64
from torch import Tensor, cuda, empty, float64

from kakusan.randomness.draws import BLOCK, MULTIPLIERS, ROUNDS, WEYL, WORD, Purpose

COUNTERS = 256
"""Counters of a program."""

_M_0, _M_1 = (tl.constexpr(number) for number in MULTIPLIERS)
_W_0, _W_1 = (tl.constexpr(number) for number in WEYL)
_ROUNDS, _TURN = tl.constexpr(ROUNDS), tl.constexpr(2 * math.pi)


@triton.jit
def _words(
    block, index, ordinal, low: tl.constexpr, high: tl.constexpr, purpose: tl.constexpr, size: tl.constexpr
):
    """The four words of each counter: `philox`."""
    c_0, c_1 = block.to(tl.uint32), index.to(tl.uint32)
    c_2 = tl.zeros((size,), tl.uint32) + ordinal.to(tl.uint32)
    c_3 = tl.full((size,), purpose, tl.uint32)
    k_0, k_1 = tl.full((size,), low, tl.uint32), tl.full((size,), high, tl.uint32)
    m_0, m_1 = tl.full((size,), _M_0, tl.uint32), tl.full((size,), _M_1, tl.uint32)
    w_0, w_1 = tl.full((size,), _W_0, tl.uint32), tl.full((size,), _W_1, tl.uint32)
    for _ in tl.static_range(_ROUNDS):
        high_0, low_0 = tl.umulhi(c_0, m_0), c_0 * m_0
        high_1, low_1 = tl.umulhi(c_2, m_1), c_2 * m_1
        c_0, c_1, c_2, c_3 = high_1 ^ c_1 ^ k_0, low_1, high_0 ^ c_3 ^ k_1, low_0
        k_0, k_1 = k_0 + w_0, k_1 + w_1
    return c_0, c_1, c_2, c_3


@triton.jit
def _uniform(word):
    """The middle of one of 2^32 cells."""
    return (word.to(tl.float64) + 0.5) * 2.0**-32


@triton.jit
def _pair(first, second):
    """Two normal numbers from two words (Box and Muller)."""
    radius = tl.sqrt(-2 * tl.log(_uniform(first)))
    angle = _TURN * _uniform(second)
    return tl.cos(angle) * radius, tl.sin(angle) * radius


@triton.jit(do_not_specialize=["count", "blocks", "elements"])
def _drawn(
    out, indices, ordinal, count, blocks, elements,
    low: tl.constexpr, high: tl.constexpr, purpose: tl.constexpr, normal: tl.constexpr, size: tl.constexpr,
):  # fmt: skip
    """Four numbers of each counter, in the order of the elements."""
    position = tl.program_id(0) * size + tl.arange(0, size)
    inside = position < count
    row, block = position // blocks, position % blocks
    index = tl.load(indices + row, mask=inside, other=0)
    first, second, third, fourth = _words(block, index, tl.load(ordinal), low, high, purpose, size)
    if normal:
        a, b = _pair(first, second)
        c, d = _pair(third, fourth)
    else:
        a, b, c, d = _uniform(first), _uniform(second), _uniform(third), _uniform(fourth)
    place = row.to(tl.int64) * elements + 4 * block
    left = tl.where(inside, elements - 4 * block, 0)
    tl.store(out + place, a, mask=left > 0)
    tl.store(out + place + 1, b, mask=left > 1)
    tl.store(out + place + 2, c, mask=left > 2)
    tl.store(out + place + 3, d, mask=left > 3)


def uniforms(
    seed: int, purpose: Purpose, ordinal: Int64[Tensor, ""], indices: Int64[Tensor, " n"], elements: int
) -> Float64[Tensor, "n elements"]:
    """As `randomness.uniforms`."""
    out = empty(len(indices), elements, dtype=float64, device=indices.device)
    return _filled(out, elements, seed, purpose, ordinal, indices, normal=False)


def normals(
    seed: int,
    purpose: Purpose,
    ordinal: Int64[Tensor, ""],
    indices: Int64[Tensor, " n"],
    shape: tuple[int, ...],
) -> Tensor:
    """As `randomness.normals`."""
    out = empty(len(indices), *shape, device=indices.device)
    return _filled(out, math.prod(shape), seed, purpose, ordinal, indices, normal=True)


def _filled(
    out: Tensor, elements: int, seed: int, purpose: Purpose, ordinal: Tensor, indices: Tensor, **kind: Any
) -> Tensor:
    blocks = -(-elements // BLOCK)
    count = len(indices) * blocks
    key = {"low": seed & WORD, "high": seed >> 32, "purpose": int(purpose)}
    with cuda.device_of(out):
        _drawn[(triton.cdiv(count, COUNTERS),)](
            out, indices, ordinal, count, blocks, elements, **key, **kind, size=COUNTERS
        )
    return out
