"""The same numbers as diffusers' ``UNet2DModel`` of the same weights: another implementation as the oracle."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor
from torch.nn import functional as F

from kakusan.networks import UNet
from kakusan.networks.layers import sinusoids
from kakusan.shapes import Condition


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A network that both sides can build."""

    channels: int = 3
    out_channels: int = 3
    width: int = 16
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[int, ...] = (1,)
    heads: int = 1
    groups: int = 4
    classes: int = 0

    def ours(self) -> UNet:
        return UNet(**vars(self)).eval()

    def theirs(self) -> Any:
        def kinds(plain: str) -> list[str]:
            return [f"Attn{plain}" if i in self.attention else plain for i in range(len(self.multipliers))]

        model: Any = UNet2DModel
        return model(
            in_channels=self.channels,
            out_channels=self.out_channels,
            block_out_channels=[self.width * multiplier for multiplier in self.multipliers],
            layers_per_block=self.blocks,
            down_block_types=kinds("DownBlock2D"),
            up_block_types=kinds("UpBlock2D")[::-1],
            attention_head_dim=None if self.heads == 1 else self.width // self.heads,
            norm_num_groups=self.groups,
            norm_eps=1e-6,
            freq_shift=1,
            flip_sin_to_cos=False,
            downsample_padding=0,
            num_class_embeds=self.classes + 1 if self.classes else None,
        ).eval()


SHAPES = {
    "small": Shape(),
    "cifar-10 but narrow": Shape(width=32, multipliers=(1, 2, 2, 2), blocks=2, groups=32),
    "grey, attention everywhere": Shape(channels=1, out_channels=1, attention=(0, 1), blocks=2),
    "one level": Shape(multipliers=(1,), attention=()),
    "levels of three widths": Shape(multipliers=(1, 3, 2)),
    "two heads": Shape(multipliers=(1, 1), heads=2, attention=(0, 1)),
    "learned variance": Shape(out_channels=6),
    "classes": Shape(classes=5),
}


def joined(ours: UNet, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of diffusers' model under our names."""
    fused = ours.fused_parts()
    names = {name: fused.get(name, {name: slice(None)}) for name, _ in ours.named_parameters()}
    return {name: torch.cat([theirs[part] for part in rows]) for name, rows in names.items()}


def twins(shape: Shape) -> tuple[Any, Any]:
    """Both networks with the same random weights, none of them zero."""
    generator = torch.Generator().manual_seed(1)
    ours, theirs = shape.ours(), shape.theirs()
    for name, parameter in theirs.named_parameters():
        around = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        parameter.data = around + 0.1 * torch.randn(parameter.shape, generator=generator)
    ours.load_state_dict(joined(ours, dict(theirs.named_parameters())))
    return ours, theirs


def question(shape: Shape, height: int = 16, width: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(3, shape.channels, height, width, generator=generator), torch.tensor([0.0, 7.0, 999.0])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_the_answers_agree(name: str, layout: torch.memory_format) -> None:
    shape = SHAPES[name]
    ours, theirs = twins(shape)
    x_t, time = question(shape)
    labels = torch.tensor([0, 3, 5]) if shape.classes else None
    expected = theirs(x_t, time, class_labels=labels).sample
    answer = ours.to(memory_format=layout)(x_t, time, None if labels is None else Condition(label=labels))
    assert expected.abs().max() > 0.5
    assert (answer - expected).abs().max() < 1e-5 * max(1.0, expected.abs().max().item())


def test_the_gradients_agree() -> None:
    shape = SHAPES["cifar-10 but narrow"]
    ours, theirs = twins(shape)
    x_t, time = question(shape)
    ours(x_t, time).square().mean().backward()
    theirs(x_t, time).sample.square().mean().backward()
    expected = joined(ours, {name: parameter.grad for name, parameter in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        error = (parameter.grad - expected[name]).abs().max()
        assert error < 1e-5 * max(1.0, expected[name].abs().max().item()), name


@torch.no_grad()
def test_a_network_of_patches_is_the_network_of_their_pixels_as_channels() -> None:
    shape = Shape(channels=4, out_channels=4)
    whole, theirs = twins(shape)
    patched = UNet(**{**vars(shape), "channels": 1, "out_channels": 1, "patch": 2}).eval()
    patched.load_state_dict(whole.state_dict())
    x_t, time = torch.randn(3, 1, 16, 8), torch.tensor([0.0, 7.0, 999.0])
    expected = F.pixel_shuffle(theirs(F.pixel_unshuffle(x_t, 2), time).sample, 2)
    torch.testing.assert_close(patched(x_t, time), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [4, 7, 32, 96, 128, 224])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("cos_first", [False, True])
def test_the_sinusoids_are_theirs_to_the_bit(width: int, shift: int, cos_first: bool) -> None:
    """At t = 999 a rounding of a frequency would be 6e-5 in its wave, and more than 1e-5 in an answer."""
    time = torch.arange(1000).float()
    theirs = get_timestep_embedding(time, width, flip_sin_to_cos=cos_first, downscale_freq_shift=shift)
    assert sinusoids(time, width, shift, cos_first=cos_first).equal(theirs)
