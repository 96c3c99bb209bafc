"""Kernels of our own on a GPU beside the plain path: skipped where there is none."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.networks.graphs import Replayed
from kakusan.randomness import Purpose, normals
from kakusan.randomness.draws import _kernels

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or _kernels() is None, reason="there is no CUDA device with Triton here"
)
SHAPES = [(2, 32, 8, 8, 8), (3, 48, 5, 7, 8), (2, 384, 32, 32, 32), (5, 512, 4, 4, 32), (2, 96, 20, 20, 8)]


def plain(x: Tensor, norm: nn.GroupNorm, shift: Tensor | None, *, silu: bool) -> Tensor:
    """In float64."""
    z = x if shift is None else x + shift[..., None, None]
    z = F.group_norm(z, norm.num_groups, norm.weight.double(), norm.bias.double(), norm.eps)
    return F.silu(z) if silu else z


@pytest.mark.parametrize(("n", "c", "h", "w", "groups"), SHAPES)
@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
def test_norm_and_silu_with_their_gradients(
    n: int,
    c: int,
    h: int,
    w: int,
    groups: int,
    shifted: bool,
    silu: bool,
    dtype: torch.dtype,
    rounding: float,
) -> None:
    """rounding: of inputs that are exact, outputs in this type and sums in float32."""
    from kakusan.networks.kernels import norm_silu

    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to("cuda", dtype)

    x = (2 * drawn(n, c, h, w) + 1).to(memory_format=torch.channels_last).requires_grad_()
    shift = drawn(n, c).requires_grad_() if shifted else None
    dy = drawn(n, c, h, w)
    norm = nn.GroupNorm(groups, c, device="cuda")
    with torch.no_grad():
        norm.weight.copy_(1 + drawn(c).float() / 2)
        norm.bias.copy_(drawn(c).float())
    learned = [x, norm.weight, norm.bias, *([] if shift is None else [shift])]
    y = norm_silu(x, norm, shift, silu=silu)
    found = torch.autograd.grad(y, learned, dy)
    x_64 = x.detach().double().requires_grad_()
    shift_64 = None if shift is None else shift.detach().double().requires_grad_()
    y_64 = plain(x_64, norm, shift_64, silu=silu)
    expected = torch.autograd.grad(
        y_64, [x_64, norm.weight, norm.bias, *([] if shift_64 is None else [shift_64])], dy.double()
    )
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert (y - y_64).norm() < rounding * y_64.norm()
    for ours, right in zip(found, expected, strict=True):
        # the shift's gradient is what is left of a sum in which nearly all cancels
        scale = right.norm() + (dy.double().norm() if ours is found[-1] and shifted else 0)
        assert (ours - right).norm() < 4 * rounding * scale


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 5), (3,)])
@pytest.mark.parametrize("seed", [0, 5, (1 << 63) + 12345678901])
def test_noise_is_that_of_the_host(shape: tuple[int, ...], seed: int) -> None:
    here = normals(seed, Purpose.NOISE, 9, torch.arange(64), shape)
    there = normals(
        seed, Purpose.NOISE, torch.tensor(9, device="cuda"), torch.arange(64, device="cuda"), shape
    )
    assert torch.allclose(here, there.cpu(), rtol=2e-7, atol=1e-12)  # one unit in the last place of float32


def test_replayed_work_reads_what_lies_in_its_inputs() -> None:
    x = torch.zeros(4, device="cuda")
    double = Replayed(lambda: x * 2, x.device)
    for value in range(8):
        x.fill_(value)
        assert double().tolist() == [2 * value] * 4
