"""A small network for points: for toy data, for tests, and for pictures of the process."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.networks.checks import check_chances, check_positive, check_sinusoids
from kakusan.networks.conditioning import (
    condition_channels,
    embed,
    label_embedding,
    vector_embedding,
    with_images,
)
from kakusan.networks.layers import NEAR_ZERO, TimeEmbedding, linear
from kakusan.shapes import Condition, Samples


class PointBlock(nn.Module):
    """h + W_2 silu(W_1 silu(h) + shift), at first the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = linear(width, width)
        self.linear_2 = linear(width, width, scale=NEAR_ZERO)

    def forward(
        self, h: Float[Tensor, "batch _"], shift: Float[Tensor, "batch _"]
    ) -> Float[Tensor, "batch _"]:
        out: Tensor = h + self.linear_2(F.silu(self.linear_1(F.silu(h)) + shift))
        return out


class PointMLP(nn.Module):
    """Points of shape (n, channels), or (n, channels, 1, 1), through ``depth`` residual blocks with a time embedding.

    132,738 parameters as it comes. ``classes``, ``numbers`` and ``mask_channels`` as in ``UNet``.
    """

    def __init__(
        self,
        *,
        channels: int = 2,
        out_channels: int | None = None,
        width: int = 128,
        depth: int = 3,
        classes: int = 0,
        numbers: int = 0,
        mask_channels: int = 0,
        null_label: bool = True,
    ) -> None:
        super().__init__()
        out_channels = channels if out_channels is None else out_channels
        check_positive(channels=channels, out_channels=out_channels, depth=depth)
        check_sinusoids(width)
        check_chances(0.0, classes)
        self.time_embedding = TimeEmbedding(width, width)
        self.class_embedding = label_embedding(classes, width, null_label=null_label)
        self.vector_embedding = vector_embedding(numbers, width)
        self.channels = channels
        self.mask_channels = mask_channels
        self.linear_in = linear(channels + condition_channels(0, mask_channels), width)
        self.blocks = nn.ModuleList(PointBlock(width) for _ in range(depth))
        self.linear_out = linear(width, out_channels, scale=NEAR_ZERO)

    def forward(
        self, x_t: Samples, time: Float[Tensor, " batch"], condition: Condition | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """The network's output at ``time`` = t - 1, in the dtype of ``x_t``."""
        x = with_images(x_t, condition, 0, self.mask_channels)  # refuses images
        shift = F.silu(
            embed(time, self.time_embedding, condition, self.class_embedding, self.vector_embedding)
        )
        h = self.linear_in(x.flatten(1).to(self.linear_in.weight.dtype))
        for block in self.blocks:
            h = block(h, shift)
        out: Tensor = self.linear_out(F.silu(h))
        return out.view(*out.shape, *x_t.shape[2:]).to(x_t.dtype)
