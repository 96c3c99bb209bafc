"""The parts of the U-Net of Ho et al. 2020 (appendix B): plain layers, their names and their initial weights.

Attribute names follow diffusers' ``UNet2DModel``, so that weights map one to one; the exceptions are products
that are computed at once here (``UNet.fused_parts``). All layers take and give channels_last without copies.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.networks.dropout import dropout

Features: TypeAlias = Float[Tensor, "batch _ *space"]
"""Channels of positions, in one to three dimensions, on their way through a network."""

Shift: TypeAlias = Float[Tensor, "batch _"]
"""One number for each channel of each sample, which depends on the time."""

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
CONVOLUTIONS: dict[int, type[Convolution]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
"""Convolutions by the number of dimensions: signals, images, volumes."""

NEAR_ZERO = 1e-10  # the variance scale of layers that start as zero, in effect
FAST_GROUP = 16  # channels
PLAIN_ATTENTION = 1024  # pixels


@dataclass(frozen=True, kw_only=True)
class Style:
    """The options that the blocks of a network share."""

    groups: int
    heads: int = 1
    """Attention heads that share the channels; not looked at where ``head_width`` is given."""
    head_width: int = 0
    """Channels of a head, and then as many heads as fit; 0: ``heads`` decides."""
    norm_eps: float = 1e-6
    attention_norm: bool = True
    """A GroupNorm before queries, keys and values."""
    scale_shift: bool = False
    """The time scales and shifts the second normalization, rather than being added before it."""
    pad_all_sides: bool = False
    """Before the resolution is halved, rather than on the right and at the bottom."""
    divisor: float = 1.0
    """Divisor of each residual sum."""
    dropout: float = 0.0
    dimensions: int = 2
    """1 for signals, 2 for images, 3 for volumes."""

    def norm(self, channels: int) -> nn.GroupNorm:
        return nn.GroupNorm(self.groups, channels, eps=self.norm_eps)

    def heads_of(self, channels: int) -> tuple[int, int]:
        """The number of heads that attend over these channels, and the width of each."""
        if self.head_width:
            return channels // self.head_width, self.head_width
        return self.heads, channels // self.heads


def xavier_(layer: Convolution | nn.Linear, *, scale: float = 1.0, rows: Sequence[int] = ()) -> None:
    """Glorot's uniform weights at ``scale`` times their variance, zero bias; ``rows``: the parts of a fused product."""
    for part in torch.split(layer.weight.data, list(rows) or layer.weight.shape[0]):
        nn.init.xavier_uniform_(part, gain=math.sqrt(scale))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def convolution(
    channels: int, out_channels: int, size: int = 3, *, scale: float = 1.0, dimensions: int = 2
) -> Convolution:
    """A convolution that keeps the size, with the reference's initial weights."""
    layer = CONVOLUTIONS[dimensions](channels, out_channels, size, padding=size // 2)
    xavier_(layer, scale=scale)
    return layer


def linear(width: int, out_width: int, *, scale: float = 1.0, rows: Sequence[int] = ()) -> nn.Linear:
    """A product with bias, with the reference's initial weights."""
    layer = nn.Linear(width, out_width)
    xavier_(layer, scale=scale, rows=rows)
    return layer


def sinusoids(
    time: Float[Tensor, " batch"], width: int, shift: float = 1.0, *, cos_first: bool = False
) -> Float[Tensor, "batch {width}"]:
    """sin, then cos, of the time at width // 2 frequencies from 1 down; in float32, a zero at the end of an odd width.

    The lowest frequency is 1 / 10000 for ``shift`` 1 (Ho et al.), a step above it for 0 (Vaswani et al. 2017).
    """
    half = width // 2
    steps = -math.log(10_000) * torch.arange(half, dtype=torch.float32, device=time.device)
    frequencies = torch.exp(
        steps / (half - shift)
    )  # in the order of diffusers: at t = 999 a rounding is 6e-5
    angles = time.float()[:, None] * frequencies
    waves = (angles.cos(), angles.sin()) if cos_first else (angles.sin(), angles.cos())
    return F.pad(torch.cat(waves, dim=1), (0, width % 2))


def with_waves(x: Features, of: Features, powers: Sequence[int]) -> Features:
    """x with, as more channels, sin and cos of 2^n pi times ``of``, for each n of ``powers``.

    Fourier features of the input (Kingma et al. 2021, section 3.4): neighbouring levels differ by little in x, and by a
    quarter or half of a turn in waves. In float32, whatever products are computed in.
    """
    if not powers:
        return x
    angles = [math.pi * 2.0**n * of for n in powers]
    return torch.cat([x, *(wave for angle in angles for wave in (angle.sin(), angle.cos()))], dim=1)


class TimeEmbedding(nn.Module):
    """The time embedding: sinusoids through a small network, an input of every block."""

    def __init__(self, width: int, out_width: int, shift: float = 1.0, *, cos_first: bool = False) -> None:
        super().__init__()
        self.width, self.shift, self.cos_first = width, shift, cos_first
        self.linear_1 = linear(width, out_width)
        self.linear_2 = linear(out_width, out_width)

    def forward(self, time: Float[Tensor, " batch"]) -> Float[Tensor, "batch _"]:
        waves = sinusoids(time, self.width, self.shift, cos_first=self.cos_first).to(
            self.linear_1.weight.dtype
        )
        embedding: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return embedding


def group_norm(x: Features, norm: nn.GroupNorm) -> Features:
    """``norm`` of x with statistics in float32; the result may be float32 too, to be rounded after the next step.

    PyTorch's bfloat16 kernel for CPU and channels_last is 3 to 12 times slower than its float32 kernel where a
    group is not a multiple of 16 channels wide (measured; torch 2.13). On other devices, autocast would take the
    images to float32 and back, for nothing: the kernels accumulate in it anyway.
    """
    if (kernel := _kernel(x, norm)) is not None:
        return kernel(x, norm, silu=False)
    weight: Tensor = norm.weight
    bias: Tensor = norm.bias
    if x.device.type != "cpu":
        with torch.autocast(x.device.type, enabled=False):
            return F.group_norm(x, norm.num_groups, weight.to(x.dtype), bias.to(x.dtype), norm.eps)
    if _is_widened(x, norm):
        x, weight, bias = x.float(), weight.float(), bias.float()
    return F.group_norm(x, norm.num_groups, weight, bias, norm.eps)


def _is_widened(x: Features, norm: nn.GroupNorm) -> bool:
    return x.dtype.itemsize < 4 and norm.num_channels // norm.num_groups % FAST_GROUP != 0


def _is_kept_narrow(x: Features, norm: nn.GroupNorm) -> bool:
    """Whether a training keeps x in half precision for the backward pass, rather than in float32."""
    learns = torch.is_grad_enabled() and norm.weight.dtype == torch.float32
    return x.device.type == "cpu" and learns and _is_widened(x, norm)


class _WidenedNormSilu(torch.autograd.Function):
    """silu(norm(x)) by float32 kernels for x of half precision, in the type of x, with the same bits.

    What backward needs in float32 is computed again there, rather than kept: two values of four bytes for each of two.
    """

    @staticmethod
    def forward(ctx: Any, x: Features, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Features:
        normed, mean, inverse = _normed(x.float(), weight, bias, groups, eps)
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        ctx.groups, ctx.eps = groups, eps
        return F.silu(normed).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Features) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse = ctx.saved_tensors
        wide = x.float()
        normed, _, _ = _normed(wide, weight, bias, ctx.groups, ctx.eps)
        d_normed = torch.ops.aten.silu_backward(dy.float(), normed)
        dx, d_weight, d_bias = torch.ops.aten.native_group_norm_backward(
            d_normed, wide, mean, inverse, weight, *_sizes(x), ctx.groups, [True, True, True]
        )
        return dx.to(x.dtype), d_weight, d_bias, None, None


def _normed(
    x: Features, weight: Tensor, bias: Tensor, groups: int, eps: float
) -> tuple[Features, Tensor, Tensor]:
    """The normalized x, and mean and 1 / deviation of each group."""
    found: tuple[Features, Tensor, Tensor] = torch.native_group_norm(x, weight, bias, *_sizes(x), groups, eps)
    return found


def _sizes(x: Features) -> tuple[int, int, int]:
    """Samples, channels, positions."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def norm_silu(x: Features, norm: nn.GroupNorm, shift: Shift | None = None) -> Features:
    """silu(norm(x + shift)), the step before each convolution; shift: one number for each channel."""
    if (kernel := _kernel(x, norm)) is not None:
        return kernel(x, norm, shift)
    if shift is not None:
        x = x + shift[..., *[None] * (x.ndim - 2)]
    if _is_kept_narrow(x, norm):
        recomputed: Any = _WidenedNormSilu
        out: Features = recomputed.apply(x, norm.weight, norm.bias, norm.num_groups, norm.eps)
        return out
    return F.silu(group_norm(x, norm)).to(x.dtype)


def norm_silu_after(layer: Convolution, x: Features, norm: nn.GroupNorm, shift: Shift) -> Features:
    """silu(norm(layer(x) + shift))."""
    if _kernel(x, norm) is None:
        return norm_silu(layer(x), norm, shift)
    bias = layer.bias
    assert bias is not None
    return norm_silu(without_bias(layer, x), norm, shift + bias)  # one shift, and one sum for its gradient


def without_bias(layer: nn.Module, x: Features) -> Features:
    """The layer of this convolution alone."""
    assert isinstance(layer, nn.Conv2d)
    return F.conv2d(x, layer.weight, None, layer.stride, layer.padding)


def use_kernels(network: nn.Module) -> None:
    """Let GroupNorm and SiLU be one kernel on a CUDA device, and a residual sum and its bias another: `kernels.py`."""
    from kakusan.networks import kernels  # Triton is not everywhere

    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.kernel = kernels.norm_silu  # type: ignore[assignment]
        if isinstance(module, ResidualBlock):
            module.kernel = kernels.add  # type: ignore[assignment]


def _kernel(x: Features, module: nn.Module) -> Callable[..., Features] | None:
    """The kernel of a module for these features, where it has one."""
    return getattr(module, "kernel", None) if x.is_cuda and x.ndim == 4 else None


class ResidualBlock(nn.Module):
    """x + conv(dropout(act(conv(act(x)) + shift))): ``act`` is GroupNorm and SiLU, ``shift`` depends on the time.

    With ``scale_shift`` the time comes between the second GroupNorm and its SiLU instead, as factor and summand.
    The second convolution starts near zero, and so the block as the identity (or its 1x1 shortcut).
    """

    def __init__(self, channels: int, out_channels: int, style: Style) -> None:
        super().__init__()
        self.norm1 = style.norm(channels)
        self.conv1 = convolution(channels, out_channels, dimensions=style.dimensions)
        self.norm2 = style.norm(out_channels)
        self.conv2 = convolution(out_channels, out_channels, scale=NEAR_ZERO, dimensions=style.dimensions)
        if channels != out_channels:
            self.conv_shortcut = convolution(channels, out_channels, 1, dimensions=style.dimensions)
        self.shift_width = (1 + style.scale_shift) * out_channels
        self.shortcut = channels != out_channels
        self.style = style

    def forward(self, x: Features, shift: Float[Tensor, "batch _"]) -> Features:
        h = self._timed(norm_silu(x, self.norm1), shift)
        if self.training and self.style.dropout:
            h = dropout(h, self.style.dropout)
        kept: Tensor = self.conv_shortcut(x) if self.shortcut else x
        if (kernel := _kernel(x, self)) is not None:
            return divided(kernel(kept, without_bias(self.conv2, h), self.conv2.bias), self.style)
        return divided(kept + self.conv2(h), self.style)

    def _timed(self, h: Features, shift: Float[Tensor, "batch _"]) -> Features:
        """The first convolution, and the step before the second."""
        if not self.style.scale_shift:
            return norm_silu_after(self.conv1, h, self.norm2, shift)
        h = self.conv1(h)
        scale, shift = shift[..., *[None] * self.style.dimensions].chunk(2, dim=1)
        return F.silu(group_norm(h, self.norm2) * (1 + scale) + shift).to(h.dtype)


def divided(total: Features, style: Style) -> Features:
    """A residual sum over the divisor of the style, which is nearly always 1."""
    return total if style.divisor == 1 else total / style.divisor


class SelfAttention(nn.Module):
    """x plus what each position gathers from all others. Queries, keys and values come from one product."""

    def __init__(self, channels: int, style: Style) -> None:
        super().__init__()
        self.heads, head_width = style.heads_of(channels)
        self.inner = self.heads * head_width
        if style.attention_norm:
            self.group_norm = style.norm(channels)
        self.to_qkv = linear(channels, 3 * self.inner, rows=(self.inner,) * 3)
        self.to_out = nn.ModuleList([linear(self.inner, channels, scale=NEAR_ZERO)])
        self.style = style

    def forward(self, x: Features) -> Features:
        batch, _, *size = x.shape
        normed = group_norm(x, self.group_norm).to(x.dtype) if self.style.attention_norm else x
        qkv = (
            per_position(normed, self.to_qkv).flatten(2).transpose(1, 2)
        )  # a view in channels_last, as below
        qkv = qkv.reshape(batch, math.prod(size), 3, self.heads, self.inner // self.heads)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # each (batch, heads, positions, channels of a head)
        gathered = attend(q, k, v).transpose(1, 2).reshape(batch, *size, self.inner).movedim(-1, 1)
        return divided(x + per_position(gathered, self.to_out[0]), self.style)


def per_position(x: Features, product: nn.Module) -> Features:
    """The product at each position, as a 1x1 convolution: on CPU in float32 a third faster than a matrix product."""
    assert isinstance(product, nn.Linear)
    dimensions = x.ndim - 2
    out: Tensor = CONVOLVE[dimensions](x, product.weight[..., *[None] * dimensions], product.bias)
    return out


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for (batch, heads, positions, d).

    On CPU, plain products are up to three times faster than the kernel for it, which saves memory instead; on a GPU
    they add in a fixed order, which its kernels do not.
    """
    if q.shape[2] > PLAIN_ATTENTION:
        return F.scaled_dot_product_attention(q, k, v)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return torch.matmul(weights.softmax(-1), v)


class Downsample(nn.Module):
    """Half the resolution: a convolution of stride 2, padded on the right and at the bottom as in the original."""

    def __init__(self, channels: int, style: Style) -> None:
        super().__init__()
        self.pad_all_sides = style.pad_all_sides
        kind = CONVOLUTIONS[style.dimensions]
        self.conv = kind(channels, channels, 3, stride=2, padding=int(self.pad_all_sides))
        xavier_(self.conv)

    def forward(self, x: Features) -> Features:
        out: Tensor = self.conv(x if self.pad_all_sides else F.pad(x, (0, 1) * (x.ndim - 2)))
        return out


class Upsample(nn.Module):
    """Twice the resolution: repeat each position, then convolve.

    Of the nine weights at an output pixel some always meet the same input pixel; added up they leave four, and
    the whole is exactly one transposed convolution of size 4 and stride 2, with 4/9 of the work; in three dimensions
    8/27.
    """

    def __init__(self, channels: int, style: Style) -> None:
        super().__init__()
        self.conv = convolution(channels, channels, dimensions=style.dimensions)
        line = torch.tensor(((0.0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0)))
        sums = reduce(torch.kron, [line] * style.dimensions)
        self.sums: Tensor
        self.register_buffer("sums", sums.T.contiguous(), persistent=False)

    def forward(self, x: Features) -> Features:
        dimensions, weight = x.ndim - 2, self.conv.weight
        with torch.autocast(x.device.type, enabled=False):  # added in full precision, rounded once
            taps = weight.flatten(2) @ self.sums.to(weight.dtype)
        taps = taps.view(*weight.shape[:2], *[4] * dimensions).transpose(0, 1)
        out: Tensor = TRANSPOSED[dimensions](x, taps, self.conv.bias, stride=2, padding=1)
        return out
