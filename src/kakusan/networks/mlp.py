"""A small network for points: a residual MLP that is told the time. For toy data, tests and pictures."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.networks.layers import TimeEmbedding, linear
from kakusan.shapes import Images, Labels


class PointBlock(nn.Module):
    """x + W_2 silu(W_1 silu(x) + shift)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = linear(width, width)
        self.linear_2 = linear(width, width, scale=1e-10)

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        out: Tensor = x + self.linear_2(F.silu(self.linear_1(F.silu(x)) + shift))
        return out


class PointMLP(nn.Module):
    """Points of shape (n, channels, 1, 1) through residual blocks."""

    def __init__(self, *, channels: int = 2, out_channels: int | None = None, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        self.time_embedding = TimeEmbedding(width, width)
        self.linear_in = linear(channels, width)
        self.blocks = nn.ModuleList(PointBlock(width) for _ in range(depth))
        self.linear_out = linear(width, out_channels or channels, scale=1e-10)

    def forward(self, x_t: Images, time: Float[Tensor, " batch"], condition: Labels | None = None) -> Images:
        shift = F.silu(self.time_embedding(time))
        h = self.linear_in(x_t.flatten(1))
        for block in self.blocks:
            h = block(h, shift)
        out: Tensor = self.linear_out(F.silu(h))
        return out[:, :, None, None]
