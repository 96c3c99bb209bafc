"""Group normalization, shift and SiLU as one step, in the channels_last layout: the seam between convolutions.

With m and v the mean and variance of a group of channels over all pixels of one image,

    y = silu(weight * (x + shift - m) / sqrt(v + eps) + bias).

Everything that is not per pixel is worked out on (batch, channels) tables, so that per pixel there remains
u = scale * x + offset and y = silu(u) on the way forward, and dx = scale * du + slope * x + level on the way
back. Statistics and arithmetic are in float32 (at least), the images between the layers in the dtype they came in.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.shapes import Images

FAST_GROUP = 16  # PyTorch's channels_last kernel for CPU needs multiples of it (measured: else 2 to 25 times slower)


def norm_act(
    x: Images, norm: nn.GroupNorm, shift: Float[Tensor, "batch channels"] | None = None, *, silu: bool = True
) -> Images:
    """silu(norm(x + shift)), by the fastest way for this device and layout."""
    channels_last = x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)
    small_groups = norm.num_channels // norm.num_groups % FAST_GROUP != 0
    if channels_last and small_groups and not torch.compiler.is_compiling():
        y: Tensor = NormAct.apply(x, shift, norm.weight, norm.bias, norm.num_groups, norm.eps, silu)
        return y
    x = x if shift is None else x + shift[:, :, None, None]
    x = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return F.silu(x) if silu else x


class NormAct(torch.autograd.Function):
    """``norm_act`` out of PyTorch's elementwise operations and sums, reading pixels as (batch, pixels, channels)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        shift: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        groups: int,
        eps: float,
        silu: bool,
    ) -> Tensor:
        pixels = as_pixels(x)
        total, squares = pixels.sum(1), (pixels * pixels).sum(1)
        if shift is not None:
            moved = pixels.shape[1] * shift
            squares = torch.addcmul(squares, shift, 2 * total + moved)
            total = total + moved
        count = pixels.shape[1] * (pixels.shape[2] // groups)
        mean, square = torch.stack((total, squares)).unflatten(2, (groups, -1)).sum(3, keepdim=True).div_(count)
        rstd = torch.addcmul(square, mean, mean, value=-1).clamp_min_(0).add_(eps).rsqrt_()
        scale = weight.to(rstd).view(groups, -1) * rstd
        offset = torch.addcmul(bias.to(rstd).view(groups, -1), scale, mean, value=-1).flatten(1)
        scale = scale.flatten(1)
        if shift is not None:
            offset = torch.addcmul(offset, scale, shift)
        u = torch.addcmul(offset[:, None], pixels, scale[:, None])
        ctx.save_for_backward(x, shift, weight, total, mean, rstd, scale, offset)
        ctx.silu = silu
        return as_images(F.silu(u, inplace=True) if silu else u, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, shift, weight, total, mean, rstd, scale, offset = ctx.saved_tensors
        pixels, du = as_pixels(x), as_pixels(grad)
        if ctx.silu:
            u = torch.addcmul(offset[:, None], pixels, scale[:, None])
            du = torch.ops.aten.silu_backward.grad_input(du, u, grad_input=u)
        work = du * pixels
        sum_du, sum_du_x = du.sum(1), work.sum(1)
        if shift is not None:
            sum_du_x = torch.addcmul(sum_du_x, sum_du, shift)
        groups, weight_ = mean.shape[1], weight.to(rstd)
        sum_du_hat = ((sum_du_x - spread(mean, sum_du) * sum_du) * spread(rstd, sum_du))
        sums = (torch.stack((sum_du, sum_du_hat)) * weight_).unflatten(2, (groups, -1)).sum(3, keepdim=True)
        mean_du, mean_du_hat = sums.div_(pixels.shape[1] * (pixels.shape[2] // groups))
        slope = -rstd.square() * mean_du_hat
        level = spread(-rstd * mean_du - slope * mean, sum_du)
        slope = spread(slope, sum_du)
        dshift = None
        if shift is not None:
            dshift = (scale * sum_du + slope * total + pixels.shape[1] * level).to(shift.dtype)
            level = torch.addcmul(level, slope, shift)
        torch.addcmul(level[:, None], pixels, slope[:, None], out=work).addcmul_(du, scale[:, None])
        dweight, dbias = sum_du_hat.sum(0).to(weight.dtype), sum_du.sum(0).to(weight.dtype)
        return as_images(work, x), dshift, dweight, dbias, None, None, None


def as_pixels(x: Images) -> Float[Tensor, "batch pixels channels"]:
    """A view where it is float32 or better and channels_last already, a copy otherwise."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).to(torch.promote_types(x.dtype, torch.float32))


def as_images(pixels: Float[Tensor, "batch pixels channels"], like: Images) -> Images:
    """Back to the shape and dtype of ``like``; channels_last."""
    return pixels.to(like.dtype).unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


def spread(per_group: Float[Tensor, "batch groups 1"], per_channel: Tensor) -> Float[Tensor, "batch channels"]:
    """The number of each group, given to each of its channels."""
    batch, groups, _ = per_group.shape
    return per_group.expand(batch, groups, per_channel.shape[1] // groups).reshape(batch, -1)
