"""What the U-Net promises about sizes, labels, dropout, layouts, dtypes and neighbours."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.config.networks.unet import UNetOptions
from kakusan.errors import SettingsError
from kakusan.networks import UNet, layers
from kakusan.networks.layers import Downsample, ResidualBlock, SelfAttention, Style, Upsample, with_waves
from kakusan.networks.patches import folded, unfolded

SMALL: dict[str, Any] = {"channels": 1, "width": 16, "multipliers": (1, 2), "blocks": 1, "groups": 4}
OF_KINDS: dict[str, dict[str, Any]] = {
    "unet": SMALL,
    "mlp": {},
    "transformer": {"channels": 1, "width": 16, "blocks": 2, "heads": 2, "patch": 4},
}


def awake(network: nn.Module) -> nn.Module:
    """The network with no weight near zero, as after some training."""
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return network.eval()


def small(**changes: Any) -> Any:  # nn.Module.to has no memory_format in its types
    torch.manual_seed(0)
    return awake(UNet(**{**SMALL, **changes}))


def question(batch: int = 4, channels: int = 1, height: int = 8, width: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randn(batch, channels, height, width, generator=generator)
    return x_t, 999 * torch.rand(batch, generator=generator)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (28, 28), (3, 16)])
@pytest.mark.parametrize("patch", [1, 2])
@torch.no_grad()
def test_any_size_is_padded_with_zeros_on_the_right_and_at_the_bottom_and_cropped(
    size: tuple[int, int], patch: int
) -> None:
    network = small(patch=patch, multipliers=(1, 2, 2))
    x_t, time = question(2, 1, *size)
    height, width = (-(-side // (4 * patch)) * 4 * patch for side in size)
    padded = torch.zeros(2, 1, height, width)
    padded[:, :, : size[0], : size[1]] = x_t
    answer = network(x_t, time)
    assert answer.shape == x_t.shape
    assert torch.equal(answer, network(padded, time)[:, :, : size[0], : size[1]])


@torch.no_grad()
def test_an_answer_depends_neither_on_its_neighbours_nor_on_its_slot() -> None:
    network = small().to(memory_format=torch.channels_last)
    x_t, time = question(16)
    others = torch.roll(torch.cat((x_t[:1], torch.randn(15, 1, 8, 8))), 5, dims=0)
    times = torch.roll(torch.cat((time[:1], time[1:].flip(0))), 5)
    assert torch.equal(network(x_t, time)[0], network(others, times)[5])


@torch.no_grad()
def test_dropout_rests_in_evaluation_and_follows_torchs_seed_in_training() -> None:
    network, x_t, time = small(dropout=0.5), *question()

    def answer(seed: int) -> Tensor:
        torch.manual_seed(seed)
        out: Tensor = network(x_t, time)
        return out

    assert torch.equal(answer(1), answer(2))
    assert torch.equal(answer(1), small()(x_t, time))
    network.train()
    assert torch.equal(answer(1), answer(1))
    assert not torch.allclose(answer(1), answer(2), atol=1e-3)


@pytest.mark.parametrize("heads", [1, 2])
@torch.no_grad()
def test_both_layouts_give_the_same_answer_and_channels_last_stays_so(heads: int) -> None:
    network, x_t, time = small(heads=heads), *question()
    expected = network(x_t, time)
    network.to(memory_format=torch.channels_last)
    layouts = []
    for module in network.modules():
        if isinstance(module, ResidualBlock | SelfAttention | Downsample | Upsample):
            module.register_forward_hook(
                lambda _, __, out: layouts.append(out.is_contiguous(memory_format=torch.channels_last))
            )
    torch.testing.assert_close(network(x_t, time), expected, rtol=1e-5, atol=1e-5)
    assert layouts
    assert all(layouts)


@pytest.mark.parametrize(
    "groups", [1, 4]
)  # of 16 channels, with bfloat16 statistics kernels, and of 4, without
@pytest.mark.parametrize("way", ["autocast", "bfloat16 weights"])
@torch.no_grad()
def test_bfloat16_stays_bfloat16_inside_and_near_float32(groups: int, way: str) -> None:
    network, x_t, time = small(groups=groups), *question()
    expected = network(x_t, time)
    if way == "bfloat16 weights":
        network.to(torch.bfloat16)
    seen: list[torch.dtype] = []
    for module in network.modules():
        if isinstance(module, ResidualBlock | SelfAttention):
            module.register_forward_hook(lambda _, given, out: seen.extend((given[0].dtype, out.dtype)))
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        answer = network(x_t, time)
    assert answer.dtype == torch.float32
    assert set(seen) == {torch.bfloat16}
    assert (
        answer - expected
    ).std() < 0.02 * expected.std()  # bfloat16 rounds by 0.2 %, here a dozen times in a row


@torch.no_grad()
def test_upsampling_is_repeating_and_convolving() -> None:
    layer = Upsample(8, Style(groups=1))
    nn.init.uniform_(layer.conv.weight)
    x = torch.randn(2, 8, 3, 5)
    expected = layer.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_attention_over_many_pixels_saves_memory_and_says_the_same() -> None:
    network = small(attention=(0,))
    x_t, time = question(
        1, 1, 36, 36
    )  # 1296 pixels, above the limit; in float64 both ways agree to the last digits
    network.double()
    answer = network(x_t.double(), time)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kakusan.networks.layers.PLAIN_ATTENTION", 2000)
        torch.testing.assert_close(network(x_t.double(), time), answer)


def test_the_fused_parts_cover_their_parameters_row_by_row() -> None:
    network = UNet(**SMALL)
    parameters = dict(network.named_parameters())
    for name, rows in network.fused_parts().items():
        covered = [row for where in rows.values() for row in range(where.start, where.stop)]
        assert covered == list(range(parameters[name].shape[0]))


def test_it_compiles_as_one_graph() -> None:
    network, x_t, time = small(), *question()
    compiled: Any = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x_t, time), network(x_t, time))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"channels": 0}, "channels is 0"),
        ({"blocks": 0}, "blocks is 0"),
        ({"patch": 0}, "patch is 0"),
        ({"width": 2, "groups": 1}, "2 channels have 1 frequencies"),
        ({"widths": (16, 18)}, "level 1: 18 channels cannot be shared evenly by 4 groups"),
        ({"widths": (16, -4)}, "channels is -4"),
        ({"head_width": 64}, "attention at level 1: 32 channels hold no head of 64"),
        ({"up_attention": (3,)}, "attention at level 3"),
        ({"middle": "attn"}, "the middle cannot be 'attn'"),
        ({"middle_scale": 0.0}, "the middle's scale is 0"),
        ({"frequency_shift": 8.0}, "16 channels have 8 frequencies"),
        ({"groups": 3}, "level 0: 16 channels cannot be shared evenly by 3 groups"),
        ({"heads": 3}, "attention at level 1: 32 channels cannot be shared evenly by 3 heads"),
        ({"heads": 3, "attention": ()}, "attention in the middle: 32 channels"),
        ({"multipliers": ()}, "multipliers are"),
        ({"multipliers": (2, 2)}, "multipliers begin with 2"),
        ({"multipliers": (1, 0)}, "multipliers are"),
        ({"attention": (2,)}, "attention at level 2, but there are 2"),
        ({"attention": (-1,)}, "attention at level -1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"classes": -1}, "classes is -1"),
    ],
    ids=str,
)
def test_a_network_that_cannot_be_is_refused_with_advice(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        UNet(**{**SMALL, **changes})
    assert caught.value.problem.startswith(problem)
    assert caught.value.advice


def network_of(dimensions: int, **options: Any) -> UNet:
    """A small network with weights that are not near zero."""
    torch.manual_seed(0)
    options = {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (1,), "groups": 2, **options}
    network = UNet(channels=2, dimensions=dimensions, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def widened(weight: Tensor, dimensions: int) -> Tensor:
    """A kernel over more axes that looks at its middle alone along the new ones."""
    if weight.ndim < 3 or weight.shape[-1] == 1:
        return weight[(..., *[None] * dimensions)] if weight.ndim >= 3 else weight
    for _ in range(dimensions):
        weight = torch.stack([torch.zeros_like(weight), weight, torch.zeros_like(weight)], -1)
    return weight


@pytest.mark.parametrize("more", [1, 2])
@torch.no_grad()
def test_a_network_of_signals_is_that_of_images_and_volumes_of_width_1(more: int) -> None:
    """With the same weights, on (n, c, l), (n, c, l, 1) and (n, c, l, 1, 1), on one level without padding."""
    options = {"multipliers": (1,), "attention": (0,)}
    line, other = network_of(1, **options), network_of(1 + more, **options)
    shapes = {name: value.shape for name, value in other.state_dict().items()}
    state = {name: widened(value, more).reshape(shapes[name]) for name, value in line.state_dict().items()}
    other.load_state_dict(state)
    x, time = torch.randn(3, 2, 10), torch.tensor([0.0, 5, 99])
    found = other(x[(..., *[None] * more)], time)
    assert torch.allclose(found.view_as(x), line(x, time), atol=1e-5)


@pytest.mark.parametrize(("dimensions", "size"), [(1, (13,)), (2, (6, 5)), (3, (5, 6, 3))])
@pytest.mark.parametrize("patch", [1, 2])
@torch.no_grad()
def test_sizes_that_do_not_divide_are_padded_in_every_dimension(
    dimensions: int, size: tuple[int, ...], patch: int
) -> None:
    network = network_of(dimensions, patch=patch)
    x, time = torch.randn(2, 2, *size), torch.tensor([3.0, 4.0])
    out = network(x, time)
    assert out.shape == x.shape
    ends = [-side % network.multiple for side in size]
    padded = F.pad(x, [amount for end in reversed(ends) for amount in (0, end)])
    cut = (..., *(slice(side) for side in size))
    assert torch.allclose(network(padded, time)[cut], out, atol=1e-5)


@pytest.mark.parametrize("size", [(12,), (4, 6), (2, 4, 6)])
def test_folding_is_undone_and_keeps_neighbours_together(size: tuple[int, ...]) -> None:
    x = torch.arange(2 * 3 * math.prod(size)).view(2, 3, *size).float()
    patches = folded(x, 2)
    assert patches.shape == (2, 3 * 2 ** len(size), *(side // 2 for side in size))
    assert unfolded(patches, 2).equal(x)
    corner = x[0, 0][tuple(slice(2) for _ in size)].flatten()
    assert patches[0, : 2 ** len(size)].flatten(1)[:, 0].equal(corner)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@torch.no_grad()
def test_twice_the_resolution_is_repeating_and_convolving(dimensions: int) -> None:
    layer = Upsample(4, Style(groups=1, dimensions=dimensions)).double()
    x = torch.randn(2, 4, *[3] * dimensions, dtype=torch.float64)
    assert torch.allclose(layer(x), layer.conv(F.interpolate(x, scale_factor=2)), atol=1e-12)


def test_samples_of_another_rank_are_refused() -> None:
    network = network_of(2)
    for shape in ((2, 2, 16), (2, 2, 4, 4, 4), (2, 2)):
        with pytest.raises(ValueError, match="of 2 dimensions, not for shape"):
            network(torch.zeros(shape), torch.zeros(2))
    with pytest.raises(SettingsError, match="1, 2 or 3 dimensions"):
        UNet(channels=1, dimensions=4)


def test_what_is_computed_again_in_backward_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16, where GroupNorm is of float32: features are kept in two bytes, and gradients are those of before."""
    torch.manual_seed(0)
    network = UNet(channels=1, width=16, multipliers=(1, 2), groups=4).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    x, time = torch.randn(4, 1, 8, 8), torch.tensor([0.0, 10.0, 500.0, 999.0])

    def asked() -> tuple[list[torch.Tensor], int]:
        kept = dict[int, int]()

        def note(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16),
        ):
            out = network(x, time)
        gradients = torch.autograd.grad(out.float().square().sum(), list(network.parameters()))
        return [out, *gradients], sum(kept.values())

    again, less = asked()
    monkeypatch.setattr(layers, "_is_kept_narrow", lambda _x, _norm: False)
    kept, more = asked()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again, kept, strict=True))
    assert less < 0.75 * more


def test_fourier_features_are_waves_beside_the_input() -> None:
    """At 17 levels from -1 to 1, n = 2 and 3 are a quarter and half of a turn a level."""
    levels = torch.linspace(-1, 1, 17).view(1, 1, 1, 17)
    seen = with_waves(levels, levels, (2, 3))
    sines, cosines = seen[0, 3::2, 0], seen[0, 4::2, 0]
    assert torch.allclose(seen[:, :1], levels)
    assert torch.allclose(cosines[0], torch.tensor([1.0, -1.0] * 8 + [1.0]), atol=1e-5)
    assert sines.abs().max() < 1e-5
    assert seen[0, 1, 0, :4].tolist() == pytest.approx([0, 1, 0, -1], abs=1e-5)


def test_the_first_layer_sees_them_and_they_are_checked() -> None:
    plain, waves = small(), small(fourier_features=(6, 7))
    assert waves.conv_in.weight.shape[1] == plain.conv_in.weight.shape[1] + 4
    x_t, time = question()
    assert waves(x_t, time).shape == x_t.shape
    for wrong in ((6, 6), (99,)):
        with pytest.raises(SettingsError, match="fourier_features are different whole numbers"):
            UNetOptions(fourier_features=wrong)
