"""The parts of the U-Net of Ho et al. 2020 (appendix B): plain layers, their names and their initial weights.

Attribute names follow diffusers' ``UNet2DModel``, so that a weight file maps one to one; the exceptions are
two products that are computed at once here (see ``UNet.fused_parts``).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.shapes import Images

NORM_EPS = 1e-6
NEAR_ZERO = 1e-10  # the variance scale of layers that start as (in effect) zero


def xavier_(layer: nn.Conv2d | nn.Linear, *, scale: float = 1.0, rows: tuple[int, ...] = ()) -> None:
    """Glorot's uniform weights times sqrt(scale), zero bias; ``rows`` splits a fused product into its parts."""
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    for part in layer.weight.data.split(rows or layer.weight.shape[0]):
        nn.init.xavier_uniform_(part, gain=math.sqrt(scale))


def convolution(channels: int, out_channels: int, size: int = 3, *, scale: float = 1.0) -> nn.Conv2d:
    """A convolution that keeps height and width, with the reference's initial weights."""
    layer = nn.Conv2d(channels, out_channels, size, padding=size // 2)
    xavier_(layer, scale=scale)
    return layer


def linear(width: int, out_width: int, *, scale: float = 1.0, rows: tuple[int, ...] = ()) -> nn.Linear:
    """A product with bias, with the reference's initial weights."""
    layer = nn.Linear(width, out_width)
    xavier_(layer, scale=scale, rows=rows)
    return layer


def sinusoids(time: Float[Tensor, " batch"], width: int) -> Float[Tensor, "batch width"]:
    """sin, then cos, of time at width / 2 frequencies from 1 down to 1 / 10000; always in float32."""
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=time.device) / (half - 1)
    angles = time.float()[:, None] * torch.exp(-math.log(10_000) * exponents)
    return torch.cat((angles.sin(), angles.cos()), dim=1)


class TimeEmbedding(nn.Module):
    """Sinusoids of the time through a small MLP: what every block is told about t."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.width = width
        self.linear_1 = linear(width, out_width)
        self.linear_2 = linear(out_width, out_width)

    def forward(self, time: Float[Tensor, " batch"]) -> Float[Tensor, "batch out_width"]:
        waves = sinusoids(time, self.width).to(self.linear_1.weight.dtype)
        embedding: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return embedding


def norm_silu(x: Images, norm: nn.GroupNorm) -> Images:
    return F.silu(group_norm(x,norm)).to(x.dtype)
def group_norm(x: Images, norm: nn.GroupNorm) -> Images:
    slow = x.device.type == "cpu" and x.dtype!=torch.float32 and norm.num_channels // norm.num_groups % 16 and x.is_contiguous(memory_format=torch.channels_last)
    return F.group_norm(x.float() if slow else x, norm.num_groups, norm.weight, norm.bias, norm.eps)


class ResidualBlock(nn.Module):
    """x + conv(dropout(act(conv(act(x)) + shift))), where shift is this block's share of the time embedding.

    ``act`` is GroupNorm followed by SiLU. The second convolution starts near zero, the block near the identity.
    """

    def __init__(self, channels: int, out_channels: int, *, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.conv1 = convolution(channels, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=NORM_EPS)
        self.conv2 = convolution(out_channels, out_channels, scale=NEAR_ZERO)
        self.conv_shortcut = None if channels == out_channels else convolution(channels, out_channels, 1)
        self.dropout = dropout

    def forward(self, x: Images, shift: Float[Tensor, "batch out_channels"]) -> Images:
        h = self.conv1(norm_silu(x, self.norm1))
        h = norm_silu(h + shift[:, :, None, None], self.norm2)
        if self.training and self.dropout:
            h = F.dropout(h, self.dropout)
        out: Tensor = (x if self.conv_shortcut is None else self.conv_shortcut(x)) + self.conv2(h)
        return out


class SelfAttention(nn.Module):
    """x plus what each pixel gathers from all others; q, k and v come from one product."""

    def __init__(self, channels: int, *, heads: int, groups: int) -> None:
        super().__init__()
        self.heads = heads
        self.group_norm = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.to_qkv = linear(channels, 3 * channels, rows=(channels,) * 3)
        self.to_out = nn.ModuleList([linear(channels, channels, scale=NEAR_ZERO)])

    def forward(self, x: Images) -> Images:
        batch, channels, height, width = x.shape
        qkv = project(group_norm(x, self.group_norm).to(x.dtype), self.to_qkv).flatten(2).transpose(1, 2)  # a view in channels_last
        qkv = qkv.reshape(batch, height * width, 3, self.heads, channels // self.heads)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # (batch, heads, pixels, channels of a head)
        gathered = attend(q, k, v).transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, (height, width))
        return x + project(gathered, self.to_out[0])


def project(x: Images, product: nn.Module) -> Images:
    return F.conv2d(x, product.weight[:, :, None, None], product.bias)

def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v. The kernel of choice on a GPU; plain products are faster on a CPU."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return weights.softmax(-1) @ v


class Downsample(nn.Module):
    """Halve the resolution: a stride-2 convolution, padded on the right and the bottom as in the original."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)
        xavier_(self.conv)

    def forward(self, x: Images) -> Images:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Double the resolution: repeat each pixel, then convolve."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = convolution(channels, channels)
        self.register_buffer("fold", torch.tensor(((0.0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0))), persistent=False)

    def forward(self, x: Images) -> Images:
        weight = self.conv.weight
        with torch.autocast(x.device.type, enabled=False):
            phases = torch.einsum("ak,oikl,bl->ioab", self.fold, weight, self.fold)
        return F.conv_transpose2d(x, phases, self.conv.bias, stride=2, padding=1)
