"""`normals` as one kernel of a GPU, in Triton: the same words to the bit, the same numbers to a rounding of float64."""

import math

import triton
import triton.language as tl
from jaxtyping import Int64
from torch import Tensor, empty

from kakusan.randomness.draws import BLOCK, MULTIPLIERS, ROUNDS, WEYL, WORD, Purpose

COUNTERS = 256
"""Counters of a program."""

_M_0, _M_1 = (tl.constexpr(number) for number in MULTIPLIERS)
_W_0, _W_1 = (tl.constexpr(number) for number in WEYL)
_ROUNDS, _TURN = tl.constexpr(ROUNDS), tl.constexpr(2 * math.pi)


@triton.jit
def _uniform(word):
    return (word.to(tl.float64) + 0.5) * 2.0**-32


@triton.jit
def _store(out, place, elements, inside, first, second):
    """Two normal numbers from two words, by Box and Muller."""
    radius = tl.sqrt(-2 * tl.log(_uniform(first)))
    angle = _TURN * _uniform(second)
    tl.store(out + place, (tl.cos(angle) * radius).to(tl.float32), mask=inside & (elements > 0))
    tl.store(out + place + 1, (tl.sin(angle) * radius).to(tl.float32), mask=inside & (elements > 1))


@triton.jit(do_not_specialize=["count", "blocks", "elements"])
def _normals(
    out, indices, ordinal, count, blocks, elements,
    low: tl.constexpr, high: tl.constexpr, purpose: tl.constexpr, size: tl.constexpr,
):  # fmt: skip
    position = tl.program_id(0) * size + tl.arange(0, size)
    inside = position < count
    row, block = position // blocks, position % blocks
    c_0 = block.to(tl.uint32)
    c_1 = tl.load(indices + row, mask=inside, other=0).to(tl.uint32)
    c_2 = tl.zeros((size,), tl.uint32) + tl.load(ordinal).to(tl.uint32)
    c_3 = tl.full((size,), purpose, tl.uint32)
    k_0, k_1 = tl.full((size,), low, tl.uint32), tl.full((size,), high, tl.uint32)
    m_0, m_1 = tl.full((size,), _M_0, tl.uint32), tl.full((size,), _M_1, tl.uint32)
    w_0, w_1 = tl.full((size,), _W_0, tl.uint32), tl.full((size,), _W_1, tl.uint32)
    for _ in tl.static_range(_ROUNDS):
        high_0, low_0 = tl.umulhi(c_0, m_0), c_0 * m_0
        high_1, low_1 = tl.umulhi(c_2, m_1), c_2 * m_1
        c_0, c_1, c_2, c_3 = high_1 ^ c_1 ^ k_0, low_1, high_0 ^ c_3 ^ k_1, low_0
        k_0, k_1 = k_0 + w_0, k_1 + w_1
    left = elements - 4 * block
    place = row.to(tl.int64) * elements + 4 * block
    _store(out, place, left, inside, c_0, c_1)
    _store(out, place + 2, left - 2, inside, c_2, c_3)


def normals(
    seed: int,
    purpose: Purpose,
    ordinal: Int64[Tensor, ""],
    indices: Int64[Tensor, " n"],
    shape: tuple[int, ...],
) -> Tensor:
    """As `randomness.normals`, with the ordinal on the device, for indices below 2^32."""
    elements = math.prod(shape)
    blocks = -(-elements // BLOCK)
    count = len(indices) * blocks
    out = empty(len(indices), *shape, device=indices.device)
    _normals[(triton.cdiv(count, COUNTERS),)](
        out, indices, ordinal, count, blocks, elements, seed & WORD, seed >> 32, int(purpose), COUNTERS
    )
    return out
