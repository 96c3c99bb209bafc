"""GroupNorm and SiLU in one pass each way on a GPU, in Triton; channels last in memory, sums in float32.

PyTorch's GroupNorm for CUDA wants channels first: between convolutions that want them last, each call copies the
features there and back, and SiLU and the time's shift read and write them once more. Here the features are read twice
and written once (backward read twice, with the gradient, and written once), whatever is added before or follows.

    y = silu(a x + b)    a = gamma / sigma_g    b = beta + a (shift - mu_g)

for each sample and channel, where mu_g and sigma_g are those of x + shift over the group. Sums go by blocks in a fixed
order, so that the same inputs give the same bits. Equal to the plain path but for rounding.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

POSITIONS = 32
"""Positions of a tile."""
SPAN = 256
"""Positions of a program of the sums."""
WIDEST = 128
"""Channels of a tile, at most."""
MOST_PARTS = 512
"""Programs that add up all rows, for each tile of channels."""


@triton.jit
def _tile(positions, span, channels, columns: tl.constexpr):
    """Where the channels of this program begin, its first position, and the sample's offset."""
    sample, part, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    column = block * columns + tl.arange(0, columns)
    return sample, part, column, part * span, sample.to(tl.int64) * positions * channels


@triton.jit(do_not_specialize=["positions", "parts"])
def _sums(x, out, positions, channels, parts, span: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr):
    """Sums of x and of its square by sample, part and channel."""
    sample, part, column, first, offset = _tile(positions, span, channels, columns)
    total = tl.zeros((rows, columns), tl.float32)
    squares = tl.zeros((rows, columns), tl.float32)
    for start in range(0, span, rows):
        row = first + start + tl.arange(0, rows)
        inside = (row < positions)[:, None]
        value = tl.load(x + offset + row[:, None] * channels + column[None, :], mask=inside, other=0.0).to(
            tl.float32
        )
        total += value
        squares += value * value
    place = (sample * parts + part) * 2 * channels + column
    tl.store(out + place, tl.sum(total, 0))
    tl.store(out + place + channels, tl.sum(squares, 0))


@triton.jit(do_not_specialize=["positions", "parts", "groups"])
def _affine(
    sums, shift, gamma, beta, a, b, moments, x_sums, positions, channels, parts, groups, eps,
    shifted: tl.constexpr, width: tl.constexpr, padded: tl.constexpr,
):  # fmt: skip
    """a and b of one group of a sample; its mean and 1 / sigma; and the sums of x by channel."""
    sample, group = tl.program_id(0), tl.program_id(1)
    lane = tl.arange(0, padded)
    inside = lane < width
    channel = group * width + lane
    total = tl.zeros((padded,), tl.float32)
    squares = tl.zeros((padded,), tl.float32)
    for part in range(parts):
        place = (sample * parts + part) * 2 * channels + channel
        total += tl.load(sums + place, mask=inside, other=0.0)
        squares += tl.load(sums + place + channels, mask=inside, other=0.0)
    tl.store(x_sums + sample * channels + channel, total, mask=inside)
    moved = tl.zeros((padded,), tl.float32)
    if shifted:
        moved = tl.load(shift + sample * channels + channel, mask=inside, other=0.0).to(tl.float32)
        squares += moved * (2 * total + positions * moved)
        total += positions * moved
    count = positions * width
    mean = tl.sum(total, 0) / count
    variance = tl.maximum(tl.sum(squares, 0) / count - mean * mean, 0.0)
    inverse = 1 / tl.sqrt(variance + eps)
    scale = tl.load(gamma + channel, mask=inside, other=0.0).to(tl.float32) * inverse
    summand = tl.load(beta + channel, mask=inside, other=0.0).to(tl.float32) + scale * (moved - mean)
    tl.store(a + sample * channels + channel, scale, mask=inside)
    tl.store(b + sample * channels + channel, summand, mask=inside)
    tl.store(moments + (sample * groups + group) * 2, mean)
    tl.store(moments + (sample * groups + group) * 2 + 1, inverse)


@triton.jit(do_not_specialize=["positions"])
def _apply(
    x, a, b, y, positions, channels,
    silu: tl.constexpr, span: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """y = a x + b, through SiLU or not."""
    sample, _, column, first, offset = _tile(positions, span, channels, columns)
    scale = tl.load(a + sample * channels + column)[None, :]
    summand = tl.load(b + sample * channels + column)[None, :]
    for start in range(0, span, rows):
        row = first + start + tl.arange(0, rows)
        inside = (row < positions)[:, None]
        place = offset + row[:, None] * channels + column[None, :]
        z = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) * scale + summand
        if silu:
            z = z * tl.sigmoid(z)
        tl.store(y + place, z, mask=inside)


@triton.jit
def _slope(z, silu: tl.constexpr):
    """dy/dz."""
    if silu:
        s = tl.sigmoid(z)
        return s * (1 + z * (1 - s))
    return tl.full(z.shape, 1.0, tl.float32)


@triton.jit(do_not_specialize=["positions", "parts"])
def _back_sums(
    x, dy, a, b, out, positions, channels, parts,
    silu: tl.constexpr, span: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Sums of dz and of dz x by sample, part and channel."""
    sample, part, column, first, offset = _tile(positions, span, channels, columns)
    scale = tl.load(a + sample * channels + column)[None, :]
    summand = tl.load(b + sample * channels + column)[None, :]
    total = tl.zeros((rows, columns), tl.float32)
    products = tl.zeros((rows, columns), tl.float32)
    for start in range(0, span, rows):
        row = first + start + tl.arange(0, rows)
        inside = (row < positions)[:, None]
        place = offset + row[:, None] * channels + column[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        dz = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32) * _slope(
            value * scale + summand, silu
        )
        total += dz
        products += dz * value
    place = (sample * parts + part) * 2 * channels + column
    tl.store(out + place, tl.sum(total, 0))
    tl.store(out + place + channels, tl.sum(products, 0))


@triton.jit(do_not_specialize=["positions", "parts", "groups"])
def _back_affine(
    sums, shift, gamma, a, moments, x_sums, u, w, d_learned, d_shift, positions, channels, parts, groups,
    shifted: tl.constexpr, width: tl.constexpr, padded: tl.constexpr,
):  # fmt: skip
    """u and w of dx = a dz + u x + w for one group of a sample, and what parameters and shift get of it."""
    sample, group = tl.program_id(0), tl.program_id(1)
    lane = tl.arange(0, padded)
    inside = lane < width
    channel = group * width + lane
    row = sample * channels + channel
    total = tl.zeros((padded,), tl.float32)
    products = tl.zeros((padded,), tl.float32)
    for part in range(parts):
        place = (sample * parts + part) * 2 * channels + channel
        total += tl.load(sums + place, mask=inside, other=0.0)
        products += tl.load(sums + place + channels, mask=inside, other=0.0)
    moved = tl.zeros((padded,), tl.float32)
    if shifted:
        moved = tl.load(shift + row, mask=inside, other=0.0).to(tl.float32)
    mean = tl.load(moments + (sample * groups + group) * 2)
    inverse = tl.load(moments + (sample * groups + group) * 2 + 1)
    weight = tl.load(gamma + channel, mask=inside, other=0.0).to(tl.float32)
    of_gamma = (products + (moved - mean) * total) * inverse
    count = positions * width
    by_x = -inverse * inverse * tl.sum(weight * of_gamma, 0) / count
    constant = -inverse * tl.sum(weight * total, 0) / count + by_x * (moved - mean)
    tl.store(u + row, tl.zeros((padded,), tl.float32) + by_x, mask=inside)
    tl.store(w + row, constant, mask=inside)
    tl.store(d_learned + row + sample * channels, of_gamma, mask=inside)
    tl.store(d_learned + row + (sample + 1) * channels, total, mask=inside)
    if shifted:
        scale = tl.load(a + row, mask=inside, other=0.0)
        x_total = tl.load(x_sums + row, mask=inside, other=0.0)
        tl.store(d_shift + row, scale * total + by_x * x_total + positions * constant, mask=inside)


@triton.jit(do_not_specialize=["positions"])
def _back_apply(
    x, dy, a, b, u, w, dx, positions, channels,
    silu: tl.constexpr, span: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """dx = a dz + u x + w."""
    sample, _, column, first, offset = _tile(positions, span, channels, columns)
    scale = tl.load(a + sample * channels + column)[None, :]
    summand = tl.load(b + sample * channels + column)[None, :]
    by_x = tl.load(u + sample * channels + column)[None, :]
    constant = tl.load(w + sample * channels + column)[None, :]
    for start in range(0, span, rows):
        row = first + start + tl.arange(0, rows)
        inside = (row < positions)[:, None]
        place = offset + row[:, None] * channels + column[None, :]
        value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        dz = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32) * _slope(
            value * scale + summand, silu
        )
        tl.store(dx + place, scale * dz + by_x * value + constant, mask=inside)


@triton.jit(do_not_specialize=["rows_in_all"])
def _add(x, h, bias, y, rows_in_all, channels, rows: tl.constexpr, columns: tl.constexpr):
    """y = x + h + bias."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    inside = (row < rows_in_all)[:, None]
    place = row.to(tl.int64)[:, None] * channels + column[None, :]
    total = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(h + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + place, total + tl.load(bias + column).to(tl.float32)[None, :], mask=inside)


@triton.jit(do_not_specialize=["rows_in_all", "span"])
def _totals(x, out, rows_in_all, span, channels, rows: tl.constexpr, columns: tl.constexpr):
    """Sums of x by channel, over some rows."""
    part, column = tl.program_id(0), tl.program_id(1) * columns + tl.arange(0, columns)
    total = tl.zeros((rows, columns), tl.float32)
    for start in range(0, span, rows):
        row = part * span + start + tl.arange(0, rows)
        inside = ((row < rows_in_all) & (start + tl.arange(0, rows) < span))[:, None]
        place = row.to(tl.int64)[:, None] * channels + column[None, :]
        total += tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + part * channels + column, tl.sum(total, 0))


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, bias: Tensor) -> Tensor:
        x, h = (each.contiguous(memory_format=torch.channels_last) for each in (x, h))
        ctx.dtypes = x.dtype, h.dtype, bias.dtype
        channels, columns = x.shape[1], _columns(x.shape[1])
        rows = x.numel() // channels
        y = torch.empty_like(x, dtype=torch.promote_types(x.dtype, h.dtype))
        grid = triton.cdiv(rows, POSITIONS), channels // columns
        _add[grid](x, h, bias, y, rows, channels, rows=POSITIONS, columns=columns)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        dy = dy.contiguous(memory_format=torch.channels_last)
        channels, columns = dy.shape[1], _columns(dy.shape[1])
        rows = dy.numel() // channels
        parts = min(MOST_PARTS, triton.cdiv(rows, POSITIONS))
        sums = torch.empty(parts, channels, device=dy.device)
        grid = parts, channels // columns
        _totals[grid](dy, sums, rows, triton.cdiv(rows, parts), channels, rows=POSITIONS, columns=columns)
        of_x, of_h, of_bias = ctx.dtypes
        return dy.to(of_x), dy.to(of_h), sums.sum(0).to(of_bias)


def _columns(channels: int) -> int:
    """Channels of a tile: a power of two that divides them."""
    return min(channels & -channels, WIDEST)


class _NormSilu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        shift: Tensor | None,
        gamma: Tensor,
        beta: Tensor,
        groups: int,
        eps: float,
        silu: bool,
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        shape = _Shape(x, groups)
        shift = None if shift is None else shift.contiguous()
        sums, a, b = (
            shape.floats(shape.parts, 2, shape.channels),
            shape.floats(shape.channels),
            shape.floats(shape.channels),
        )
        moments, x_sums = shape.floats(groups, 2), shape.floats(shape.channels)
        y = torch.empty_like(x)
        _sums[shape.tiles](x, sums, *shape.sizes, shape.parts, **shape.tile)
        _affine[shape.groups](
            sums, gamma if shift is None else shift, gamma, beta, a, b, moments, x_sums, *shape.sizes, shape.parts,
            groups, eps, shift is not None, **shape.group,
        )  # fmt: skip
        _apply[shape.tiles](x, a, b, y, *shape.sizes, silu, **shape.tile)
        ctx.save_for_backward(x, shift, gamma, a, b, moments, x_sums)
        ctx.shape, ctx.silu = shape, silu
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, shift, gamma, a, b, moments, x_sums = ctx.saved_tensors
        shape, silu = ctx.shape, ctx.silu
        dy = dy.contiguous(memory_format=torch.channels_last)
        sums = shape.floats(shape.parts, 2, shape.channels)
        u, w, d_shift = (shape.floats(shape.channels) for _ in range(3))
        d_learned = shape.floats(2, shape.channels)
        dx = torch.empty_like(x)
        _back_sums[shape.tiles](x, dy, a, b, sums, *shape.sizes, shape.parts, silu, **shape.tile)
        _back_affine[shape.groups](
            sums, gamma if shift is None else shift, gamma, a, moments, x_sums, u, w, d_learned, d_shift,
            *shape.sizes, shape.parts, shape.groups[1], shift is not None, **shape.group,
        )  # fmt: skip
        _back_apply[shape.tiles](x, dy, a, b, u, w, dx, *shape.sizes, silu, **shape.tile)
        of_shift = None if shift is None else d_shift.to(shift.dtype)
        d_gamma, d_beta = d_learned.sum(0).to(gamma.dtype)
        return dx, of_shift, d_gamma, d_beta, None, None, None


class _Shape:
    """The sizes of a call, and of its grids."""

    def __init__(self, x: Tensor, groups: int) -> None:
        self.samples, self.channels = x.shape[:2]
        self.positions = x[0, 0].numel()
        self.parts = triton.cdiv(self.positions, SPAN)
        columns = _columns(self.channels)
        width = self.channels // groups
        self.sizes = self.positions, self.channels
        self.tiles = self.samples, self.parts, self.channels // columns
        self.groups = self.samples, groups
        self.tile = {"span": SPAN, "rows": POSITIONS, "columns": columns}
        self.group = {"width": width, "padded": triton.next_power_of_2(width)}
        self.device = x.device

    def floats(self, *shape: int) -> Tensor:
        """Room for float32 by sample."""
        return torch.empty(self.samples, *shape, device=self.device)


def norm_silu(x: Tensor, norm: nn.GroupNorm, shift: Tensor | None = None, *, silu: bool = True) -> Tensor:
    """silu(norm(x + shift)) of features (batch, channels, height, width), or norm(x + shift), in the type of x.

    shift: (batch, channels).
    """
    learned = norm.weight, norm.bias
    with torch.cuda.device_of(x):
        out: Tensor = _NormSilu.apply(x, shift, *learned, norm.num_groups, norm.eps, silu)  # type: ignore[no-untyped-call]
    return out


def add(x: Tensor, h: Tensor, bias: Tensor) -> Tensor:
    """x + h + bias, for features (batch, channels, height, width) and a number for each channel."""
    with torch.cuda.device_of(x):
        out: Tensor = _Add.apply(x, h, bias)  # type: ignore[no-untyped-call]
    return out
