"""A transformer over patches of pixels: "Just image Transformers" (Li & He 2025), for signals, images and volumes.

A patch becomes one token, so a few dozen of them hold a large image, and all the work is in large products. Such a
network is to predict x_0: a patch may have more values than a token has channels, and noise, which has no structure,
cannot pass through fewer channels than it has values, while images can (`config.networks.base`).
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.errors import SettingsError
from kakusan.networks.checks import check_chances, check_heads, check_positive, check_shared, check_sinusoids
from kakusan.networks.conditioning import (
    condition_channels,
    embed,
    label_embedding,
    vector_embedding,
    with_images,
)
from kakusan.networks.dropout import dropout
from kakusan.networks.layers import (
    CONVOLUTIONS,
    NEAR_ZERO,
    TimeEmbedding,
    attend,
    linear,
    sinusoids,
)
from kakusan.networks.patches import crop, folded, pad, unfolded
from kakusan.shapes import Condition, Samples

Tokens: TypeAlias = Float[Tensor, "batch tokens _"]
"""One row of channels for each patch; the last axis of the grid of patches runs fastest."""

Modulation: TypeAlias = Float[Tensor, "batch 1 _"]
"""A shift, scale or gate by time and condition, the same for every token."""

NORM_EPS = 1e-6
HIDDEN_MULTIPLE = 32
"""The hidden channels of an MLP are a multiple of it, as fast products need."""
OF_A_BLOCK, OF_THE_OUTPUT = 6, 2
"""Modulations of each channel: shift, scale and gate of two branches; shift and scale."""


def normalized(x: Float[Tensor, "*axes _"]) -> Float[Tensor, "*axes _"]:
    """Mean 0 and variance 1 over the last axis, with statistics in float32 and without weights.

    LayerNorm in place of the paper's RMSNorm: on a CPU, PyTorch's kernel for it takes a third of the time.
    """
    with torch.autocast(x.device.type, enabled=False):  # which would take it to float32 and back on a GPU
        return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


def modulated(x: Tokens, shift: Modulation, scale: Modulation) -> Tokens:
    """Normalized, then scaled and shifted by the time and the condition, in place of weights."""
    return normalized(x) * (1 + scale) + shift


class Attention(nn.Module):
    """Self-attention over the tokens.

    Queries and keys are normalized in each head, so that no product of them grows without bounds (Dehghani et al.
    2023). Of the weights behind these two norms only the product matters: there is one, ``sharpness``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = linear(width, 3 * width, rows=(width,) * 3)
        self.sharpness = nn.Parameter(torch.ones(width // heads))
        self.to_out = linear(width, width)

    def forward(self, x: Tokens) -> Tokens:
        qkv = self.to_qkv(x).unflatten(2, (3, self.heads, -1))
        q, k = normalized(qkv[:, :, :2]).unbind(2)
        parts = (
            q * self.sharpness.to(q.dtype),
            k,
            qkv[:, :, 2],
        )  # each (batch, tokens, heads, channels of a head)
        gathered = attend(*(part.transpose(1, 2) for part in parts))
        out: Tensor = self.to_out(gathered.transpose(1, 2).flatten(2))
        return out


class GatedMLP(nn.Module):
    """W_out (silu(gate) * up), where (gate, up) = W_in x: SwiGLU (Shazeer 2020).

    Of ``ratio * width`` hidden channels two thirds are left, since there are three matrices in place of two.
    """

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        hidden = HIDDEN_MULTIPLE * math.ceil(2 / 3 * ratio * width / HIDDEN_MULTIPLE)
        self.linear_in = linear(width, 2 * hidden, rows=(hidden,) * 2)
        self.linear_out = linear(hidden, width)

    def forward(self, x: Tokens) -> Tokens:
        gate, up = self.linear_in(x).chunk(2, dim=2)
        out: Tensor = self.linear_out(F.silu(gate) * up)
        return out


class TransformerBlock(nn.Module):
    """x + gate attention(x), then the same with an MLP; each branch modulated: adaLN-Zero (Peebles & Xie 2023).

    The modulations start near zero, the gates among them, and so the block as the identity.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.mlp = GatedMLP(width, mlp_ratio)
        self.dropout = dropout

    def forward(self, x: Tokens, modulation: Modulation) -> Tokens:
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation.chunk(OF_A_BLOCK, dim=2)
        x = x + gate * self._dropped(self.attention(modulated(x, shift, scale)))
        return x + mlp_gate * self._dropped(self.mlp(modulated(x, mlp_shift, mlp_scale)))

    def _dropped(self, branch: Tokens) -> Tokens:
        return dropout(branch, self.dropout) if self.training and self.dropout else branch


def positions(grid: Sequence[int], width: int, device: torch.device) -> Float[Tensor, "tokens {width}"]:
    """Positional embeddings: sines and cosines of a token's place on each axis, which share the channels evenly.

    Fixed (Vaswani et al. 2017), so of any grid, and added once. Rotations of queries and keys, which the paper adds,
    cost a tenth of each block on a CPU, for distances alone.
    """
    places = torch.meshgrid(*(torch.arange(side, device=device).float() for side in grid), indexing="ij")
    share = width // len(grid)
    waves = torch.cat([sinusoids(place.flatten(), share) for place in places], dim=1)
    return F.pad(waves, (0, width - waves.shape[1]))


def patch_embedding(values: int, width: int, bottleneck: int) -> nn.Module:
    """From the values of a patch to a token, through fewer channels than either: images pass, most noise does not.

    A plain product where ``bottleneck`` is 0 or no narrower than both.
    """
    if not 0 < bottleneck < min(values, width):
        return linear(values, width)
    return nn.Sequential(linear(values, bottleneck), linear(bottleneck, width))


class Transformer(nn.Module):
    """``blocks`` transformer blocks over patches of ``patch`` pixels a side, each a token of ``width`` channels.

    ``heads`` attention heads share the channels, or as many of ``head_width`` as fill them. The values of a patch come
    in through ``bottleneck`` channels (0: at once), and an MLP has the weights of one that is ``mlp_ratio`` times as
    wide as a token. Time and label reach the blocks as scales, shifts and gates; the paper's further tokens for the
    class are left out: 32 of them are a third of the work where an image has 64. ``classes``, ``null_label``,
    ``numbers``, ``image_channels``, ``mask_channels`` and ``dimensions`` as in `UNet`.

    Samples may have any size: inside they are padded with zeros, at the end of each axis, to a multiple of ``patch``,
    and the output is cropped. It comes in the dtype of ``x_t``. Raises SettingsError for what does not fit together.
    """

    def __init__(
        self,
        *,
        channels: int,
        out_channels: int | None = None,
        width: int = 384,
        blocks: int = 12,
        heads: int = 6,
        head_width: int = 0,
        patch: int = 8,
        bottleneck: int = 0,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        classes: int = 0,
        null_label: bool = True,
        numbers: int = 0,
        image_channels: int = 0,
        mask_channels: int = 0,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        if dimensions not in CONVOLUTIONS:
            raise SettingsError(f"a transformer has 1, 2 or 3 dimensions, not {dimensions}")
        out_channels = channels if out_channels is None else out_channels
        check_positive(channels=channels, out_channels=out_channels, blocks=blocks, patch=patch)
        check_sinusoids(width)
        check_tokens(width, dimensions, bottleneck, mlp_ratio)
        check_chances(dropout, classes)
        heads = shared_heads(width, heads, head_width)
        self.channels, self.dimensions = channels, dimensions
        self.width, self.patch = width, patch

        self.image_channels, self.mask_channels = image_channels, mask_channels
        seen = channels + condition_channels(image_channels, mask_channels)
        self.patch_embedding = patch_embedding(seen * patch**dimensions, width, bottleneck)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, mlp_ratio, dropout) for _ in range(blocks))
        self.linear_out = linear(width, out_channels * patch**dimensions, scale=NEAR_ZERO)
        self.time_embedding = TimeEmbedding(width, width)
        self.class_embedding = label_embedding(classes, width, null_label=null_label)
        self.vector_embedding = vector_embedding(numbers, width)
        self.modulations = linear(width, (OF_A_BLOCK * blocks + OF_THE_OUTPUT) * width, scale=NEAR_ZERO)

    def forward(
        self, x_t: Samples, time: Float[Tensor, " batch"], condition: Condition | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """The network's output at ``time`` = t - 1.

        Raises ValueError for samples of another number of dimensions.
        """
        if x_t.ndim != 2 + self.dimensions:
            raise ValueError(
                f"the network is of {self.dimensions} dimensions, not for shape {tuple(x_t.shape)}"
            )
        *of_blocks, of_output = self.modulations_at(time, condition)
        x = with_images(x_t, condition, self.image_channels, self.mask_channels)
        patches = folded(pad(x, self.patch), self.patch)
        grid = patches.shape[2:]
        x = self.embedded(patches)
        for block, modulation in zip(self.blocks, of_blocks, strict=True):
            x = block(x, modulation)
        patches = self.told(x, of_output).transpose(1, 2).reshape(x.shape[0], -1, *grid)
        return crop(unfolded(patches, self.patch), x_t).to(x_t.dtype)

    def embedded(self, patches: Float[Tensor, "batch _ *grid"]) -> Tokens:
        """The tokens of these patches, each with its place."""
        rows = patches.flatten(2).transpose(1, 2)
        tokens: Tensor = self.patch_embedding(rows.to(self.linear_out.weight.dtype))
        return tokens + positions(patches.shape[2:], self.width, tokens.device).to(tokens.dtype)

    def told(self, x: Tokens, modulation: Modulation) -> Tokens:
        """The values of each patch; from a product in the weights' precision: data have more digits than bfloat16."""
        rows = modulated(x, *modulation.chunk(OF_THE_OUTPUT, dim=2))
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = self.linear_out(rows.to(self.linear_out.weight.dtype))
        return out

    def modulations_at(
        self, time: Float[Tensor, " batch"], condition: Condition | None = None
    ) -> tuple[Modulation, ...]:
        """The modulations of each block, and of the output, by this time and condition; from one product."""
        embedding = embed(time, self.time_embedding, condition, self.class_embedding, self.vector_embedding)
        rows: Tensor = self.modulations(F.silu(embedding))[:, None]
        sizes = [OF_A_BLOCK * self.width] * len(self.blocks) + [OF_THE_OUTPUT * self.width]
        return torch.split(rows, sizes, dim=2)


def check_tokens(width: int, dimensions: int, bottleneck: int, mlp_ratio: float) -> None:
    """Tokens can carry their place on each axis, and there is something between them."""
    if width < 4 * dimensions:
        raise SettingsError(
            f"width is {width}",
            f"give {4 * dimensions} or more: each of {dimensions} axes has its sines and cosines",
        )
    if bottleneck < 0:
        raise SettingsError(f"bottleneck is {bottleneck}", "give a number of channels, or 0 for none")
    if not 0 < mlp_ratio < math.inf:
        raise SettingsError(f"mlp_ratio is {mlp_ratio:g}", "give a number above 0, usually 4")


def shared_heads(width: int, heads: int, head_width: int) -> int:
    """Number of heads that share the channels of a token, all of them. Raises SettingsError where they do not fit."""
    check_heads(width, heads, head_width, "attention")
    if head_width:
        check_shared(width, "channels a head", head_width, "attention")
    return width // head_width if head_width else heads
