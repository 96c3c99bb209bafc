"""The network of Ho et al. in its CIFAR-10 shape: its size, its parameters' names, its initial weights."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kakusan.networks import UNet

NAMES = Path(__file__).with_name(
    "ddpm_cifar10_names.tsv"
)  # name and shape of each parameter of diffusers' model
NEAR_ZERO = (".conv2.weight", ".to_out.0.weight", "conv_out.weight")


@pytest.fixture(scope="module")
def network() -> UNet:
    torch.manual_seed(0)
    return UNet(channels=3)


def parts(network: UNet) -> Iterator[tuple[str, Tensor]]:
    """Every parameter by diffusers' name, with the fused ones in their parts."""
    fused = network.fused_parts()
    for name, parameter in network.named_parameters():
        rows = fused.get(name, {name: slice(None)})
        yield from ((part, parameter.detach()[where]) for part, where in rows.items())


def test_it_has_35_746_307_parameters(network: UNet) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) == 35_746_307


def test_every_parameter_has_its_place_in_diffusers(network: UNet) -> None:
    expected = dict(line.split("\t") for line in NAMES.read_text("utf-8").splitlines())
    ours = {name: "x".join(str(size) for size in part.shape) for name, part in parts(network)}
    assert ours == expected


def test_biases_start_at_zero_and_normalizations_as_identities(network: UNet) -> None:
    for name, part in parts(network):
        if name.endswith("bias"):
            assert not part.any(), name
        elif part.dim() == 1:
            assert bool((part == 1).all()), name


def test_each_weight_starts_uniform_with_the_variance_of_glorot(network: UNet) -> None:
    """The largest of N is within 20 / N of the bound (but for e^-20); the variance's error is sqrt(0.8 / N)."""
    for name, part in parts(network):
        if part.dim() > 1:
            pixels = part[0, 0].numel()
            fans = (part.shape[0] + part.shape[1]) * pixels
            scale = 1e-10 if name.endswith(NEAR_ZERO) else 1.0
            bound = math.sqrt(6 * scale / fans)
            assert 1 - 20 / part.numel() < part.abs().max().item() / bound < 1 + 1e-6, name
            assert part.double().square().mean().item() == pytest.approx(
                bound**2 / 3, rel=6 * math.sqrt(0.8 / part.numel())
            ), name


def test_it_starts_by_answering_zero(network: UNet) -> None:
    with torch.no_grad():
        answer = network.eval()(torch.randn(1, 3, 32, 32), torch.tensor([500.0]))
    assert answer.abs().max() < 1e-3
