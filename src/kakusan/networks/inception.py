"""InceptionV3 (Szegedy et al. 2016) as the Fréchet Inception distance has it, up to its 2,048 features.

The names of the weights are those of pytorch-fid's files, whose network is that of TensorFlow's of 2015: its average
pools do not count the padding, and the last block has a maximum in the place of its average. Nothing is trained here.
A block is a table: chains of convolutions and pools side by side, whose results are stacked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 299
"""Pixels of each side of what it looks at."""
FEATURES = 2048
EPS = 1e-3
"""Of its normalizations."""


@dataclass(frozen=True)
class Conv:
    """A convolution without bias, normalization and ReLU. Steps of 1 keep the size, others have no padding."""

    name: str
    width: int
    kernel: tuple[int, int]
    stride: int = 1


@dataclass(frozen=True)
class Fork:
    """Two convolutions of the same input, stacked."""

    of: tuple[Conv, Conv]


@dataclass(frozen=True)
class Pool:
    """Over 3x3, with steps of 1 and padding, or of 2 without."""

    kind: Literal["average", "max"]
    stride: int = 1


Chain: TypeAlias = tuple[Conv | Fork | Pool, ...]
ACROSS, DOWN = (1, 7), (7, 1)
STEM: tuple[tuple[str, int, int, int, int, int], ...] = (
    ("Conv2d_1a_3x3", 3, 32, 3, 2, 0),
    ("Conv2d_2a_3x3", 32, 32, 3, 1, 0),
    ("Conv2d_2b_3x3", 32, 64, 3, 1, 1),
    ("Conv2d_3b_1x1", 64, 80, 1, 1, 0),
    ("Conv2d_4a_3x3", 80, 192, 3, 1, 0),
)
"""Name, channels of input and output, side of the kernel, step and padding of the convolutions before the blocks."""
POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")
"""After these, the maximum over 3x3 in steps of 2."""


def _conv(name: str, width: int, side: int = 1, stride: int = 1) -> Conv:
    return Conv(name, width, (side, side), stride)


def _fine(pooled: int) -> tuple[Chain, ...]:
    """Blocks of 35x35 places."""
    return (
        (_conv("branch1x1", 64),),
        (_conv("branch5x5_1", 48), _conv("branch5x5_2", 64, 5)),
        (_conv("branch3x3dbl_1", 64), _conv("branch3x3dbl_2", 96, 3), _conv("branch3x3dbl_3", 96, 3)),
        (Pool("average"), _conv("branch_pool", pooled)),
    )


def _middle(width: int) -> tuple[Chain, ...]:
    """Blocks of 17x17 places, with kernels of one row or one column."""
    twice = [Conv(f"branch7x7dbl_{k}", width, DOWN if k % 2 == 0 else ACROSS) for k in (2, 3, 4)]
    return (
        (_conv("branch1x1", 192),),
        (_conv("branch7x7_1", width), Conv("branch7x7_2", width, ACROSS), Conv("branch7x7_3", 192, DOWN)),
        (_conv("branch7x7dbl_1", width), *twice, Conv("branch7x7dbl_5", 192, ACROSS)),
        (Pool("average"), _conv("branch_pool", 192)),
    )


def _coarse(pool: Literal["average", "max"]) -> tuple[Chain, ...]:
    """Blocks of 8x8 places."""

    def fork(name: str) -> Fork:
        return Fork((Conv(f"{name}a", 384, (1, 3)), Conv(f"{name}b", 384, (3, 1))))

    return (
        (_conv("branch1x1", 320),),
        (_conv("branch3x3_1", 384), fork("branch3x3_2")),
        (_conv("branch3x3dbl_1", 448), _conv("branch3x3dbl_2", 384, 3), fork("branch3x3dbl_3")),
        (Pool(pool), _conv("branch_pool", 192)),
    )


BLOCKS: dict[str, tuple[Chain, ...]] = {
    "Mixed_5b": _fine(32),
    "Mixed_5c": _fine(64),
    "Mixed_5d": _fine(64),
    "Mixed_6a": (
        (_conv("branch3x3", 384, 3, 2),),
        (_conv("branch3x3dbl_1", 64), _conv("branch3x3dbl_2", 96, 3), _conv("branch3x3dbl_3", 96, 3, 2)),
        (Pool("max", 2),),
    ),
    "Mixed_6b": _middle(128),
    "Mixed_6c": _middle(160),
    "Mixed_6d": _middle(160),
    "Mixed_6e": _middle(192),
    "Mixed_7a": (
        (_conv("branch3x3_1", 192), _conv("branch3x3_2", 320, 3, 2)),
        (
            _conv("branch7x7x3_1", 192), Conv("branch7x7x3_2", 192, ACROSS), Conv("branch7x7x3_3", 192, DOWN),
            _conv("branch7x7x3_4", 192, 3, 2),
        ),
        (Pool("max", 2),),
    ),
    "Mixed_7b": _coarse("average"),
    "Mixed_7c": _coarse("max"),
}  # fmt: skip
"""In this order."""


class Unit(nn.Module):
    """Convolution, normalization by stored moments, ReLU."""

    def __init__(
        self, channels: int, width: int, kernel: tuple[int, int], stride: int, padding: tuple[int, int]
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Chains side by side."""

    def __init__(self, channels: int, chains: tuple[Chain, ...]) -> None:
        super().__init__()
        self.chains, self.width = chains, 0
        for chain in chains:
            wide = channels
            for part in chain:
                convs = (part,) if isinstance(part, Conv) else part.of if isinstance(part, Fork) else ()
                for conv in convs:
                    height, width = conv.kernel
                    padding = (height // 2, width // 2) if conv.stride == 1 else (0, 0)
                    self.add_module(conv.name, Unit(wide, conv.width, conv.kernel, conv.stride, padding))
                wide = sum(conv.width for conv in convs) or wide
            self.width += wide

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._along(chain, x) for chain in self.chains], 1)

    def _along(self, chain: Chain, x: Tensor) -> Tensor:
        for part in chain:
            if isinstance(part, Pool):
                x = _pooled(x, part)
            else:
                names = [part.name] if isinstance(part, Conv) else [conv.name for conv in part.of]
                x = torch.cat([self.get_submodule(name)(x) for name in names], 1)
        return x


def _pooled(x: Tensor, pool: Pool) -> Tensor:
    padding = 1 if pool.stride == 1 else 0
    if pool.kind == "max":
        return F.max_pool2d(x, 3, pool.stride, padding)
    return F.avg_pool2d(x, 3, pool.stride, padding, count_include_pad=False)


class Inception(nn.Module):
    """Images (n, 1 or 3, height, width) in [-1, 1] to features (n, 2048): the means over the last block's places.

    Of any size, brought to 299x299 bilinearly, without a filter, as pytorch-fid does; grey ones are repeated.
    """

    def __init__(self) -> None:
        super().__init__()
        for name, channels, width, side, stride, padding in STEM:
            self.add_module(name, Unit(channels, width, (side, side), stride, (padding, padding)))
        wide = STEM[-1][2]
        for name, chains in BLOCKS.items():
            block = Block(wide, chains)
            self.add_module(name, block)
            wide = block.width

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(-1, 3, -1, -1)
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
        for name, *_ in STEM:
            x = self.get_submodule(name)(x)
            x = F.max_pool2d(x, 3, 2) if name in POOLED else x
        for name in BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))


LEFT_ALONE = ("fc.", "AuxLogits.")
"""Beginnings of the names of weights that come after the features."""


def with_weights(weights: Mapping[str, Tensor]) -> Inception:
    """The network with these weights, to be asked. Raises ValueError, with a name, where they are not its own."""
    with torch.device("meta"):
        network = Inception()
    wanted = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    kept = {name: value.float() for name, value in weights.items() if not name.startswith(LEFT_ALONE)}
    kept = {name: value for name, value in kept.items() if not name.endswith("num_batches_tracked")}
    for name, value in wanted.items():
        if name not in kept:
            raise ValueError(f"there is no {name}")
        if kept[name].shape != value.shape:
            raise ValueError(f"{name} has shape {tuple(kept[name].shape)}, not {tuple(value.shape)}")
    if unknown := sorted(set(kept) - set(wanted)):
        raise ValueError(f"{unknown[0][:80]} belongs to another network")
    counted = {name: torch.tensor(0) for name in network.state_dict() if "num_batches" in name}
    network.load_state_dict({**kept, **counted}, assign=True)
    return network.eval().requires_grad_(requires_grad=False)
