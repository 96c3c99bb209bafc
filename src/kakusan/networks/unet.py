"""The U-Net of Ho et al. 2020: samples in, samples out, at the same size; of signals, images and volumes."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.errors import SettingsError
from kakusan.networks.checks import (
    check_attention,
    check_chances,
    check_frequencies,
    check_heads,
    check_levels,
    check_multipliers,
    check_positive,
)
from kakusan.networks.conditioning import (
    condition_channels,
    embed,
    label_embedding,
    vector_embedding,
    with_images,
)
from kakusan.networks.layers import (
    CONVOLUTIONS,
    NEAR_ZERO,
    Downsample,
    Features,
    ResidualBlock,
    SelfAttention,
    Style,
    TimeEmbedding,
    Upsample,
    convolution,
    linear,
    norm_silu,
    with_waves,
)
from kakusan.networks.patches import crop, folded, pad, unfolded
from kakusan.shapes import Condition, Samples


class Level(nn.Module):
    """The blocks at one resolution, with attention behind each of them or none."""

    def __init__(self, widths: list[tuple[int, int]], style: Style, *, attends: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(before, after, style) for before, after in widths)
        attentions = (SelfAttention(after, style) for _, after in widths if attends)
        self.attentions = nn.ModuleList(attentions)

    def block(self, number: int, x: Features, shifts: Iterator[Tensor]) -> Features:
        """One residual block and the attention behind it, if there is any."""
        x = self.resnets[number](x, next(shifts))
        return self.attentions[number](x) if number < len(self.attentions) else x


class DownLevel(Level):
    """Blocks, then half the resolution (except at the last level); each result is kept for the way up."""

    def __init__(self, widths: list[tuple[int, int]], style: Style, *, attends: bool, last: bool) -> None:
        super().__init__(widths, style, attends=attends)
        self.downsamplers = nn.ModuleList([] if last else [Downsample(widths[-1][1], style)])

    def forward(self, x: Features, shifts: Iterator[Tensor], skips: list[Tensor]) -> Features:
        for number in range(len(self.resnets)):
            x = self.block(number, x, shifts)
            skips.append(x)
        for downsample in self.downsamplers:
            x = downsample(x)
            skips.append(x)
        return x


class MiddleLevel(Level):
    """Block, attention if wanted, block, at the lowest resolution."""

    def __init__(self, width: int, style: Style, *, attends: bool) -> None:
        super().__init__([(width, width)] * 2, style, attends=False)
        if attends:
            self.attentions.append(SelfAttention(width, style))

    def forward(self, x: Features, shifts: Iterator[Tensor]) -> Features:
        return self.block(1, self.block(0, x, shifts), shifts)


class UpLevel(Level):
    """Blocks that each take back a result of the way down, then twice the resolution (except at the last)."""

    def __init__(self, widths: list[tuple[int, int]], style: Style, *, attends: bool, last: bool) -> None:
        super().__init__(widths, style, attends=attends)
        self.upsamplers = nn.ModuleList([] if last else [Upsample(widths[-1][1], style)])

    def forward(self, x: Features, shifts: Iterator[Tensor], skips: list[Tensor]) -> Features:
        for number in range(len(self.resnets)):
            x = self.block(number, torch.cat((x, skips.pop()), dim=1), shifts)
        for upsample in self.upsamplers:
            x = upsample(x)
        return x


class UNet(nn.Module):
    """The network of Ho et al.: with ``channels=3`` and all else left out, their 35,746,307 parameters for CIFAR-10.

    Level 0 is the full resolution, each further level half of the one before; level i has
    ``width * multipliers[i]`` channels (the first multiplier is 1), or ``widths[i]`` where those are given, and
    ``blocks`` residual blocks, one more on the way up. The levels named in ``attention`` have attention after every
    block (``up_attention``: others on the way up), the middle has it too, with ``heads`` heads that share the channels
    or as many of ``head_width`` channels as fit. GroupNorm works on ``groups`` groups; on CPU in bfloat16, groups of
    16 channels (or 32, 48, ...) are fastest. ``patch`` > 1 folds squares of pixels into channels before all else, a
    cheap way to spend the compute at a lower resolution. ``classes`` > 0 adds a table of label embeddings, with one
    row more, the last, for the null label if there is one; ``numbers`` > 0 takes vectors of so many numbers,
    ``image_channels`` and ``mask_channels`` > 0 take images and masks of so many channels beside x_t.
    ``condition=None`` is the null condition for everyone. ``fourier_features`` are the n of
    sin and cos of 2^n pi x_t, which the first layer sees beside x_t.

    The rest is what other DDPMs do otherwise: ``middle`` "blocks" (without attention) or "none", ``middle_norm`` (of
    its attention) and ``middle_scale`` (its residual sums are divided by it), ``norm_eps``, ``scale_shift`` (the time
    scales and shifts the second normalization of a block), ``pad_all_sides`` before the resolution is halved, the
    sinusoids' ``frequency_shift`` and ``cos_first``, and ``time_width``, the width of the time's embedding (0: four
    times the first level's).

    ``dimensions``: 2 for images; the same network for signals is of 1, for volumes of 3.
    Samples may have any size: inside they are padded with zeros, at the end of each axis, to a multiple of
    ``patch * 2 ** (levels - 1)``, and the output is cropped. It comes in the dtype of ``x_t``.
    """

    def __init__(
        self,
        *,
        channels: int,
        out_channels: int | None = None,
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        widths: tuple[int, ...] = (),
        blocks: int = 2,
        attention: tuple[int, ...] = (1,),
        up_attention: tuple[int, ...] | Literal["same"] = "same",
        middle: Literal["attention", "blocks", "none"] = "attention",
        middle_norm: bool = True,
        middle_scale: float = 1.0,
        heads: int = 1,
        head_width: int = 0,
        groups: int = 32,
        norm_eps: float = 1e-6,
        scale_shift: bool = False,
        pad_all_sides: bool = False,
        frequency_shift: float = 1.0,
        cos_first: bool = False,
        time_width: int = 0,
        dropout: float = 0.0,
        patch: int = 1,
        fourier_features: tuple[int, ...] = (),
        classes: int = 0,
        null_label: bool = True,
        numbers: int = 0,
        image_channels: int = 0,
        mask_channels: int = 0,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        if dimensions not in CONVOLUTIONS:
            raise SettingsError(f"a U-Net has 1, 2 or 3 dimensions, not {dimensions}")
        out_channels = channels if out_channels is None else out_channels
        check_positive(channels=channels, out_channels=out_channels, blocks=blocks, patch=patch)
        levels = level_widths(width, multipliers, widths)
        ways = attention, attention if up_attention == "same" else up_attention
        time_width = time_width or 4 * levels[0]
        check_levels(levels, groups)
        check_frequencies(levels[0], frequency_shift)
        for way in ways:
            check_attention(way, levels, heads, head_width)
        check_chances(dropout, classes)
        style = Style(
            groups=groups,
            heads=heads,
            head_width=head_width,
            norm_eps=norm_eps,
            scale_shift=scale_shift,
            pad_all_sides=pad_all_sides,
            dropout=dropout,
            dimensions=dimensions,
        )
        self.channels, self.dimensions = channels, dimensions
        self.patch = patch
        self.multiple = patch * 2 ** (len(levels) - 1)

        self.image_channels, self.mask_channels = image_channels, mask_channels
        self.fourier_features = tuple(fourier_features)
        seen = channels * (1 + 2 * len(self.fourier_features))
        seen += condition_channels(image_channels, mask_channels)
        self.conv_in = convolution(seen * patch**dimensions, levels[0], dimensions=dimensions)
        skips = self._build_down(levels, blocks, ways[0], style)
        middle_style = replace(style, attention_norm=middle_norm, divisor=middle_scale)
        self.mid_block = middle_level(levels[-1], middle_style, middle)
        self._build_up(levels, blocks, ways[1], style, skips)
        self.conv_norm_out = style.norm(levels[0])
        self.conv_out = convolution(
            levels[0], out_channels * patch**dimensions, scale=NEAR_ZERO, dimensions=dimensions
        )

        self.time_embedding = TimeEmbedding(levels[0], time_width, frequency_shift, cos_first=cos_first)
        self.class_embedding = label_embedding(classes, time_width, null_label=null_label)
        self.vector_embedding = vector_embedding(numbers, time_width)
        self.shift_widths = [block.shift_width for _, block in self._blocks()]
        self.time_projections = linear(time_width, sum(self.shift_widths), rows=self.shift_widths)

    def _build_down(
        self, levels: list[int], blocks: int, attention: tuple[int, ...], style: Style
    ) -> list[int]:
        """The way down. The widths of what it leaves for the way up, in the order in which it is left."""
        skips = [levels[0]]
        self.down_blocks = nn.ModuleList()
        for i, (before, after) in enumerate(pairwise([levels[0], *levels])):
            widths = [(before, after), *[(after, after)] * (blocks - 1)]
            last = i == len(levels) - 1
            self.down_blocks.append(DownLevel(widths, style, attends=i in attention, last=last))
            skips += [after] * (blocks + (not last))
        return skips

    def _build_up(
        self, levels: list[int], blocks: int, attention: tuple[int, ...], style: Style, skips: list[int]
    ) -> None:
        """The way up; ``skips`` is emptied from its end."""
        self.up_blocks = nn.ModuleList()
        for i, after in reversed(list(enumerate(levels))):
            before = levels[min(i + 1, len(levels) - 1)]
            widths = [(own + skips.pop(), after) for own in (before, *[after] * blocks)]
            self.up_blocks.append(UpLevel(widths, style, attends=i in attention, last=i == 0))

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
        shifts = iter(self.shifts(time, condition))
        x = with_images(x_t, condition, self.image_channels, self.mask_channels)
        x = with_waves(x, x_t, self.fourier_features)
        x = folded(pad(x, self.multiple), self.patch)
        x = self.conv_in(x.to(self.conv_in.weight.dtype))
        skips = [x]
        for down in self.down_blocks:
            x = down(x, shifts, skips)
        x = x if self.mid_block is None else self.mid_block(x, shifts)
        for up in self.up_blocks:
            x = up(x, shifts, skips)
        x = self.conv_out(norm_silu(x, self.conv_norm_out))
        return crop(unfolded(x, self.patch), x_t).to(x_t.dtype)

    def shifts(
        self, time: Float[Tensor, " batch"], condition: Condition | None = None
    ) -> tuple[Float[Tensor, "batch _"], ...]:
        """The shift of the channels in each residual block by this time and condition, in the order of the blocks."""
        embedding = embed(time, self.time_embedding, condition, self.class_embedding, self.vector_embedding)
        shifts: Tensor = self.time_projections(F.silu(embedding))
        return torch.split(shifts, self.shift_widths, dim=1)

    def fused_parts(self) -> dict[str, dict[str, slice]]:
        """The parameters that hold several of diffusers': the rows of each, by the name they have there.

        All other parameters have diffusers' names and shapes.
        """
        parts = {}
        for kind in ("weight", "bias"):
            for name, module in self.named_modules():
                if isinstance(module, SelfAttention):
                    rows = [(f"{name}.to_{letter}.{kind}", module.inner) for letter in "qkv"]
                    parts[f"{name}.to_qkv.{kind}"] = consecutive(rows)
            rows = [(f"{name}.time_emb_proj.{kind}", block.shift_width) for name, block in self._blocks()]
            parts[f"time_projections.{kind}"] = consecutive(rows)
        return parts

    def _blocks(self) -> Iterator[tuple[str, ResidualBlock]]:
        """All residual blocks with their names, in the order in which they run."""
        for name, module in self.named_modules():
            if isinstance(module, ResidualBlock):
                yield name, module


def level_widths(width: int, multipliers: tuple[int, ...], widths: tuple[int, ...]) -> list[int]:
    """The channels of each level: as given one by one, else in units of the first level's."""
    if widths:
        return list(widths)
    check_multipliers(multipliers)
    return [width * multiplier for multiplier in multipliers]


def middle_level(width: int, style: Style, kind: str) -> MiddleLevel | None:
    """The blocks between the way down and the way up: with attention, without, or none at all."""
    if kind not in ("attention", "blocks", "none"):
        raise SettingsError(f"the middle cannot be {kind!r}", "there are: attention, blocks, none")
    if not 0 < style.divisor < math.inf:
        raise SettingsError(f"the middle's scale is {style.divisor:g}", "give a number above 0, usually 1")
    if kind == "attention":
        check_heads(width, style.heads, style.head_width, "attention in the middle")
    return None if kind == "none" else MiddleLevel(width, style, attends=kind == "attention")


def consecutive(rows: list[tuple[str, int]]) -> dict[str, slice]:
    """Slices that follow each other, of these lengths."""
    ends = [0, *accumulate(count for _, count in rows)]
    return {name: slice(*ends[i : i + 2]) for i, (name, _) in enumerate(rows)}
