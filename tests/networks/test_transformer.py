"""What the transformer promises: its parts against written-out sums, any size, its start, dtypes, neighbours."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kakusan.errors import SettingsError
from kakusan.networks import Transformer
from kakusan.networks.layers import sinusoids
from kakusan.networks.transformer import (
    Attention,
    GatedMLP,
    TransformerBlock,
    normalized,
    patch_embedding,
    positions,
)
from kakusan.shapes import Condition

SMALL: dict[str, Any] = {"channels": 2, "width": 24, "blocks": 2, "heads": 3, "patch": 4, "bottleneck": 8}
SIZES = [(1, (13,)), (2, (6, 9)), (3, (5, 6, 3))]


def small(**changes: Any) -> Any:
    """A small network with no weight near zero, as after some training."""
    torch.manual_seed(0)
    network = Transformer(**{**SMALL, **changes})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def question(*size: int, batch: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 2, *size, generator=generator), 999 * torch.rand(batch, generator=generator)


# Its parts


@torch.no_grad()
def test_attention_is_the_sum_that_it_stands_for() -> None:
    """Written out for each head and token, in float64."""
    torch.manual_seed(0)
    layer = Attention(12, 3).double()
    nn.init.uniform_(layer.sharpness, 0.5, 2)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    queries, keys, values = (x @ layer.to_qkv.weight.T + layer.to_qkv.bias).chunk(3, dim=2)

    def normed(row: Tensor) -> Tensor:
        centred = row - row.mean()
        return centred / (centred.square().mean() + 1e-6).sqrt()

    gathered = torch.empty_like(x)
    for image in range(2):
        for head in range(3):
            own = slice(4 * head, 4 * head + 4)
            for token in range(5):
                query = layer.sharpness * normed(queries[image, token, own])
                scores = [query @ normed(key) / math.sqrt(4) for key in keys[image, :, own]]
                gathered[image, token, own] = torch.stack(scores).softmax(0) @ values[image, :, own]
    expected = gathered @ layer.to_out.weight.T + layer.to_out.bias
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_the_mlp_is_gated_by_a_silu() -> None:
    layer = GatedMLP(8, 4.0).double()
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    gate, up = (x @ layer.linear_in.weight.T).chunk(2, dim=2)  # 2/3 of 4 x 8, up to a multiple of 32
    expected = (gate * torch.sigmoid(gate) * up) @ layer.linear_out.weight.T
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_normalized_rows_have_mean_0_and_variance_1() -> None:
    rows = normalized(3 + 2 * torch.randn(4, 5, 64, dtype=torch.float64))
    torch.testing.assert_close(rows.mean(-1), torch.zeros(4, 5).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(rows.var(-1, correction=0), torch.ones(4, 5).double(), rtol=0, atol=1e-6)


def test_a_position_is_the_sinusoids_of_its_place_on_each_axis() -> None:
    found = positions((3, 5), 16, torch.device("cpu"))
    assert found.shape == (15, 16)
    place = torch.tensor([2.0, 1.0])  # row 2, column 1: token 2 * 5 + 1
    assert found[11].equal(sinusoids(place, 8).flatten())
    left_over = positions((2, 2, 2), 28, torch.device("cpu"))  # 9 channels an axis, the last of each a zero
    assert left_over.shape == (8, 28)
    assert left_over[:, [8, 17, 26, 27]].eq(0).all()
    assert len({tuple(row.tolist()) for row in left_over}) == 8


@torch.no_grad()
def test_blocks_know_tokens_by_what_they_hold_alone() -> None:
    """Tokens in another order are answered in that order: where a token is stands in it, not in the blocks."""
    torch.manual_seed(0)
    block = TransformerBlock(24, heads=3, mlp_ratio=4.0, dropout=0.0).double()
    x, modulation = torch.randn(2, 7, 24).double(), torch.randn(2, 1, 6 * 24).double()
    order = torch.randperm(7)
    torch.testing.assert_close(block(x[:, order], modulation), block(x, modulation)[:, order])


@pytest.mark.parametrize(("bottleneck", "rank"), [(3, 3), (0, 10), (10, 10), (99, 10)])
@torch.no_grad()
def test_a_bottleneck_is_the_rank_of_what_comes_in(bottleneck: int, rank: int) -> None:
    torch.manual_seed(0)
    embedding = patch_embedding(10, 16, bottleneck).double()
    told = embedding(torch.eye(10).double()) - embedding(torch.zeros(10).double())
    assert int(torch.linalg.matrix_rank(told)) == rank


# The whole


def test_the_base_size_of_the_paper_has_its_131_million_parameters() -> None:
    with torch.device("meta"):
        network = Transformer(
            channels=3, width=768, blocks=12, heads=12, patch=16, bottleneck=128, classes=1000
        )
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == 131


@pytest.mark.parametrize(("dimensions", "size"), SIZES)
@pytest.mark.parametrize("patch", [1, 2, 4])
@torch.no_grad()
def test_any_size_is_padded_with_zeros_at_the_end_of_each_axis_and_cropped(
    dimensions: int, size: tuple[int, ...], patch: int
) -> None:
    network, (x_t, time) = small(dimensions=dimensions, patch=patch), question(*size)
    answer = network(x_t, time)
    assert answer.shape == x_t.shape
    ends = [-side % patch for side in size]
    padded = F.pad(x_t, [amount for end in reversed(ends) for amount in (0, end)])
    assert network(padded, time)[(..., *map(slice, size))].equal(answer)


@pytest.mark.parametrize(("dimensions", "size"), SIZES)
@torch.no_grad()
def test_twice_the_channels_come_out_where_they_are_asked_for(dimensions: int, size: tuple[int, ...]) -> None:
    network, (x_t, time) = small(dimensions=dimensions, out_channels=4), question(*size)
    assert network(x_t, time).shape == (4, 4, *size)


@torch.no_grad()
def test_it_begins_with_blocks_that_change_nothing_and_answers_zero() -> None:
    network, (x_t, time) = Transformer(**SMALL), question(8, 8)
    changes: list[float] = []
    for block in network.blocks:
        block.register_forward_hook(lambda _, given, out: changes.append(float((out - given[0]).abs().max())))
    assert float(network(x_t, time).abs().max()) < 1e-3  # the weights' deviation at first is about 1e-6
    assert len(changes) == 2
    assert max(changes) < 1e-3


def test_gradients_reach_every_parameter() -> None:
    network, (x_t, time) = small(classes=3), question(9, 9)
    network(x_t, time, Condition(label=torch.tensor([0, 1, 2, 3]))).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


@torch.no_grad()
def test_each_token_sees_all_others_and_the_time() -> None:
    network, (x_t, time) = small(), question(16, 16)
    answer = network(x_t, time)
    other = x_t.clone()
    other[:, :, -1, -1] += 1  # the farthest corner
    assert not torch.allclose(network(other, time)[:, :, :4, :4], answer[:, :, :4, :4], atol=1e-4)
    assert not torch.allclose(network(x_t, time + 100), answer, atol=1e-4)


@torch.no_grad()
def test_an_answer_depends_neither_on_its_neighbours_nor_on_its_slot() -> None:
    network, (x_t, time) = small(), question(8, 8, batch=16)
    others = torch.roll(torch.cat((x_t[:1], torch.randn(15, 2, 8, 8))), 5, dims=0)
    times = torch.roll(torch.cat((time[:1], time[1:].flip(0))), 5)
    assert network(x_t, time)[0].equal(network(others, times)[5])


@torch.no_grad()
def test_dropout_rests_in_evaluation_and_follows_torchs_seed_in_training() -> None:
    network, (x_t, time) = small(dropout=0.5), question(8, 8)

    def answer(seed: int) -> Tensor:
        torch.manual_seed(seed)
        out: Tensor = network(x_t, time)
        return out

    assert answer(1).equal(answer(2))
    assert answer(1).equal(small()(x_t, time))
    network.train()
    assert answer(1).equal(answer(1))
    assert not torch.allclose(answer(1), answer(2), atol=1e-3)


@torch.no_grad()
def test_the_layout_of_the_images_makes_no_difference() -> None:
    network, (x_t, time) = small(), question(8, 12)
    expected = network(x_t, time)
    network.to(memory_format=torch.channels_last)
    assert network(x_t.contiguous(memory_format=torch.channels_last), time).equal(expected)


@pytest.mark.parametrize("way", ["autocast", "bfloat16 weights"])
@torch.no_grad()
def test_bfloat16_stays_bfloat16_inside_and_near_float32(way: str) -> None:
    network, (x_t, time) = small(), question(16, 16)
    expected = network(x_t, time)
    if way == "bfloat16 weights":
        network.to(torch.bfloat16)
    seen: list[torch.dtype] = []
    for block in network.blocks:
        block.register_forward_hook(lambda _, given, out: seen.extend((given[0].dtype, out.dtype)))
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        answer = network(x_t, time)
    assert answer.dtype == torch.float32
    assert set(seen) == {torch.bfloat16}
    assert (answer - expected).std() < 0.03 * expected.std()  # bfloat16 rounds by 0.2 %, here two dozen times
    if way == "autocast":  # the last product is a float32 one: bfloat16 has 8 digits, data may have more
        assert not answer.equal(answer.bfloat16().float())


def test_it_compiles_as_one_graph() -> None:
    network, (x_t, time) = small(classes=2), question(8, 8)
    compiled: Any = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x_t, time), network(x_t, time))


def test_many_tokens_take_another_kernel_and_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    network, (x_t, time) = small(patch=1).double(), question(6, 6)
    with torch.no_grad():
        expected = network(x_t.double(), time)
        monkeypatch.setattr("kakusan.networks.layers.PLAIN_ATTENTION", 35)
        torch.testing.assert_close(network(x_t.double(), time), expected)


def test_heads_may_be_given_by_their_width() -> None:
    assert all(block.attention.heads == 3 for block in small(heads=1, head_width=8).blocks)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"channels": 0}, "channels is 0"),
        ({"blocks": 0}, "blocks is 0"),
        ({"patch": 0}, "patch is 0"),
        ({"width": 25, "heads": 1}, "width is 25"),
        ({"width": 6, "heads": 1}, "width is 6"),
        ({"heads": 5}, "attention: 24 channels cannot be shared evenly by 5 heads"),
        ({"head_width": 7}, "attention: 24 channels cannot be shared evenly by 7 channels a head"),
        ({"head_width": 48}, "attention: 24 channels hold no head of 48"),
        ({"bottleneck": -1}, "bottleneck is -1"),
        ({"mlp_ratio": 0.0}, "mlp_ratio is 0"),
        ({"mlp_ratio": math.nan}, "mlp_ratio is nan"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"classes": -1}, "classes is -1"),
        ({"dimensions": 4}, "a transformer has 1, 2 or 3 dimensions, not 4"),
    ],
    ids=str,
)
def test_a_network_that_cannot_be_is_refused_with_advice(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Transformer(**{**SMALL, **changes})
    assert caught.value.problem.startswith(problem)
    assert caught.value.advice or "dimensions" in changes


def test_samples_of_another_rank_are_refused() -> None:
    for shape in ((2, 2, 16), (2, 2, 4, 4, 4), (2, 2)):
        with pytest.raises(ValueError, match="of 2 dimensions, not for shape"):
            small()(torch.zeros(shape), torch.zeros(2))


def test_without_a_null_label_there_is_no_image_without_a_class() -> None:
    network, (x_t, time) = small(classes=3, null_label=False), question(8, 8)
    with pytest.raises(SettingsError, match="knows no image without a class"):
        network(x_t, time)
