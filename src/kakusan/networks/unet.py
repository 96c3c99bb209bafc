"""The U-Net of Ho et al. 2020: images in, images out, at the same size; knows no schedule, noise or loss."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.errors import SettingsError
from kakusan.networks.layers import (
    NEAR_ZERO,
    NORM_EPS,
    Downsample,
    ResidualBlock,
    SelfAttention,
    TimeEmbedding,
    Upsample,
    convolution,
    linear,
    norm_silu,
)
from kakusan.shapes import Images, Labels

Shifts = Iterator[Tensor]


class Level(nn.Module):
    """The blocks at one resolution, each with attention behind it where the level has any."""

    def __init__(self, resnets: list[ResidualBlock], attentions: list[SelfAttention]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        if attentions:
            self.attentions = nn.ModuleList(attentions)

    def block(self, number: int, x: Images, shifts: Shifts) -> Images:
        """One residual block and the attention behind it, if there is any."""
        x = self.resnets[number](x, next(shifts))
        return self.attentions[number](x) if hasattr(self, "attentions") else x


class DownLevel(Level):
    """Blocks, then half the resolution (not after the last level); each result is kept for the way up."""

    def finish(self, channels: int) -> None:
        self.downsamplers = nn.ModuleList([Downsample(channels)])

    def forward(self, x: Images, shifts: Shifts, skips: list[Tensor]) -> Images:
        for number in range(len(self.resnets)):
            x = self.block(number, x, shifts)
            skips.append(x)
        if hasattr(self, "downsamplers"):
            x = self.downsamplers[0](x)
            skips.append(x)
        return x


class MiddleLevel(Level):
    """Block, attention, block at the lowest resolution."""

    def forward(self, x: Images, shifts: Shifts) -> Images:
        x = self.block(0, x, shifts)
        out: Tensor = self.resnets[1](x, next(shifts))
        return out


class UpLevel(Level):
    """Blocks that each take back one result of the way down, then twice the resolution (not after the last)."""

    def finish(self, channels: int) -> None:
        self.upsamplers = nn.ModuleList([Upsample(channels)])

    def forward(self, x: Images, shifts: Shifts, skips: list[Tensor]) -> Images:
        for number in range(len(self.resnets)):
            x = self.block(number, torch.cat((x, skips.pop()), dim=1), shifts)
        out: Tensor = self.upsamplers[0](x) if hasattr(self, "upsamplers") else x
        return out


class UNet(nn.Module):
    """Ho et al.'s network: the defaults with ``channels=3`` are their CIFAR-10 model of 35,746,307 parameters.

    ``width * multipliers[i]`` channels at level i (level 0 is the full resolution, each further one half of it),
    ``blocks`` residual blocks a level on the way down and one more on the way up; attention after every block
    of the levels in ``attention`` and always in the middle, with ``heads`` heads that share the channels;
    GroupNorm over ``groups`` groups. ``patch`` > 1 folds patches of pixels into channels first, a cheap way to
    spend the compute at a lower resolution. ``classes`` > 0 adds a table of class embeddings, whose last row
    belongs to the null label: ``condition=None`` is the null label for everyone.

    Images may have any size: inside, they are padded with zeros on the right and at the bottom to a multiple of
    ``patch * 2 ** (levels - 1)``, and the result is cropped.
    """

    def __init__(
        self,
        *,
        channels: int,
        out_channels: int | None = None,
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (1,),
        heads: int = 1,
        groups: int = 32,
        dropout: float = 0.0,
        patch: int = 1,
        classes: int = 0,
    ) -> None:
        super().__init__()
        out_channels = channels if out_channels is None else out_channels
        check_settings(width, multipliers, blocks, attention, heads, groups, patch)
        self.patch, self.classes = patch, classes
        self.multiple = patch * 2 ** (len(multipliers) - 1)

        def level(kind: type[Level], widths: list[tuple[int, int]], *, attends: bool) -> Level:
            """The residual blocks of these (incoming, outgoing) widths."""
            resnets = [ResidualBlock(a, b, groups=groups, dropout=dropout) for a, b in widths]
            attentions = [SelfAttention(b, heads=heads, groups=groups) for _, b in widths]
            return kind(resnets, attentions if attends else [])

        channels_at = [width * m for m in multipliers]
        self.conv_in = convolution(channels * patch**2, width)
        self.down_blocks = nn.ModuleList()
        current, skips = width, [width]
        for i, c in enumerate(channels_at):
            widths = [(current if j == 0 else c, c) for j in range(blocks)]
            down = level(DownLevel, widths, attends=i in attention)
            skips += [c] * blocks
            if i < len(channels_at) - 1:
                down.finish(c)
                skips.append(c)
            self.down_blocks.append(down)
            current = c
        self.mid_block = level(MiddleLevel, [(current, current)] * 2, attends=True)
        del self.mid_block.attentions[1]
        self.up_blocks = nn.ModuleList()
        for i, c in reversed(list(enumerate(channels_at))):
            widths = [((current if j == 0 else c) + skips.pop(), c) for j in range(blocks + 1)]
            up = level(UpLevel, widths, attends=i in attention)
            if i > 0:
                up.finish(c)
            self.up_blocks.append(up)
            current = c
        self.conv_norm_out = nn.GroupNorm(groups, current, eps=NORM_EPS)
        self.conv_out = convolution(current, out_channels * patch**2, scale=NEAR_ZERO)

        self.time_embedding = TimeEmbedding(width, 4 * width)
        self.shift_widths = [m.conv1.out_channels for m in self.modules() if isinstance(m, ResidualBlock)]
        self.time_projections = linear(4 * width, sum(self.shift_widths), rows=tuple(self.shift_widths))
        if classes:
            self.class_embedding = nn.Embedding(classes + 1, 4 * width)

    def forward(
        self, x_t: Images, time: Float[Tensor, " batch"], condition: Labels | None = None
    ) -> Images:
        """The network's answer at ``time`` = t - 1; ``condition`` holds labels 0..classes, the last one null."""
        height, width = x_t.shape[-2:]
        x = F.pixel_unshuffle(pad_to_multiple(x_t, self.multiple), self.patch)
        shifts = iter(self.shifts(time, condition))
        skips = [x := self.conv_in(x)]
        for down in self.down_blocks:
            x = down(x, shifts, skips)
        x = self.mid_block(x, shifts)
        for up in self.up_blocks:
            x = up(x, shifts, skips)
        x = self.conv_out(norm_silu(x, self.conv_norm_out))
        return F.pixel_shuffle(x, self.patch)[..., :height, :width]

    def shifts(self, time: Float[Tensor, " batch"], condition: Labels | None) -> tuple[Tensor, ...]:
        """What each residual block adds for this time and class, in the order of the blocks."""
        embedding = self.time_embedding(time)
        if self.classes:
            labels = torch.full_like(time, self.classes, dtype=torch.long) if condition is None else condition
            embedding = embedding + self.class_embedding(labels)
        elif condition is not None:
            raise SettingsError(
                "labels were given to a network without classes",
                "train one with labels, or leave the condition out",
            )
        shifts: tuple[Tensor, ...] = self.time_projections(F.silu(embedding)).split(self.shift_widths, dim=1)
        return shifts


def pad_to_multiple(x: Images, multiple: int) -> Images:
    """Zeros on the right and at the bottom, up to the next multiple in both directions."""
    height, width = x.shape[-2:]
    right, bottom = -width % multiple, -height % multiple
    return F.pad(x, (0, right, 0, bottom)) if right or bottom else x


def check_settings(*_: object) -> None:
    pass
