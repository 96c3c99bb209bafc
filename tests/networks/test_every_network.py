"""What holds of every network in the table: its flags and files, its shapes and gradients."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from beartype import beartype
from beartype.roar import BeartypeException
from jaxtyping import TypeCheckError, jaxtyped
from torch import Tensor, nn

from kakusan.cli import main
from kakusan.cli.mistakes import flags_of
from kakusan.cli.train import Train
from kakusan.config.facts import DataFacts
from kakusan.config.loading import (
    Requested,
    differences,
    flat,
    from_file,
    from_mapping,
    known_names,
    to_mapping,
)
from kakusan.config.networks import NETWORKS, NetworkOptions, settled
from kakusan.config.section import ranges
from kakusan.config.settings import Settings
from kakusan.errors import SettingsError
from kakusan.networks import Interface
from kakusan.shapes import Condition

SHAPES = ((2,), (2, 16), (2, 8, 8), (2, 8, 8, 8))
"""Of a sample, by its number of axes beside the channels."""
OF_A_KIND = [(kind, rank) for kind, network in NETWORKS.items() for rank in network.dimensions]
OWN = [
    (kind, name)
    for kind, network in NETWORKS.items()
    for name in sorted(network.names() - NetworkOptions.names())
]


def resolved(kind: str, rank: int) -> NetworkOptions:
    """The smallest of a kind, with every "auto" answered."""
    facts = DataFacts(SHAPES[rank], is_levels=True, count=10_000)
    options = NETWORKS[kind]()
    return options.resolved(facts, options.sizes(facts)[0], "cpu").seen_for(1.0)


def built(kind: str, rank: int, **interface: Any) -> nn.Module:
    """Such a network, no weight of which is near zero: as after some training."""
    torch.manual_seed(0)
    of = Interface(channels=2, dimensions=rank, **{"out_channels": 2, **interface})
    network = resolved(kind, rank).build(of)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return network.eval()


def taken(rank: int) -> dict[str, int]:
    """All that a condition of this rank can have; points have neither image nor mask."""
    return {"classes": 3, "numbers": 2, "image_channels": 3 * (rank > 0), "mask_channels": 2 * (rank > 0)}


def condition(rank: int) -> Condition:
    """One row of which is dropped."""
    torch.manual_seed(1)
    size = SHAPES[rank][1:]
    return Condition(
        label=torch.tensor([0, 1, 2]),
        vector=torch.randn(3, 2),
        image=torch.randn(3, 3, *size) if rank else None,
        mask=(torch.randn(3, 2, *size) > 0).float() if rank else None,
        dropped=torch.tensor([False, False, True]),
    )


def question(rank: int, batch: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, *SHAPES[rank]), torch.tensor([0.0, 500.0, 999.0, 7.0])[:batch]


@pytest.mark.parametrize(("kind", "rank"), OF_A_KIND)
@torch.no_grad()
def test_samples_keep_their_shape_and_its_annotations_hold(kind: str, rank: int) -> None:
    network = built(kind, rank, out_channels=4, classes=3)
    forward = jaxtyped(typechecker=beartype)(type(network).forward)
    x_t, time = question(rank)
    assert forward(network, x_t, time, Condition(label=torch.tensor([0, 1, 2]))).shape == (
        3,
        4,
        *SHAPES[rank][1:],
    )
    with pytest.raises((TypeCheckError, BeartypeException)):
        forward(network, x_t, time[:2])


@pytest.mark.parametrize(("kind", "rank"), OF_A_KIND)
def test_every_weight_has_a_gradient(kind: str, rank: int) -> None:
    network = built(kind, rank, **taken(rank))
    network(*question(rank), condition(rank)).square().mean().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.any(), name


@pytest.mark.parametrize(("kind", "rank"), OF_A_KIND)
@torch.no_grad()
def test_the_output_depends_on_the_time_and_on_each_part_of_the_condition(kind: str, rank: int) -> None:
    network = built(kind, rank, **taken(rank))
    x_t, time = question(rank)
    given = condition(rank)
    output = network(x_t, time, given)
    assert not torch.allclose(output, network(x_t, time.flip(0), given), atol=1e-3)
    for name, tensor in given.tensors():
        if name != "dropped":
            other = replace(given, **{name: 1 - tensor if name == "mask" else tensor.roll(1, 0)})
            assert not torch.allclose(output[:2], network(x_t, time, other)[:2], atol=1e-4), name


@pytest.mark.parametrize(("kind", "rank"), OF_A_KIND)
@torch.no_grad()
def test_no_condition_is_the_null_condition_for_everyone(kind: str, rank: int) -> None:
    network = built(kind, rank, **taken(rank))
    x_t, time = question(rank)
    nobody, given = network(x_t, time), replace(condition(rank), mask=None, dropped=None)
    assert torch.equal(nobody, network(x_t, time, given.null()))
    one = network(x_t, time, given.without(torch.tensor([True, False, True])))
    assert torch.allclose(one[[0, 2]], nobody[[0, 2]], atol=1e-5)
    assert torch.allclose(one[1], network(x_t, time, given)[1], atol=1e-5)
    assert not torch.allclose(nobody, network(x_t, time, given), atol=1e-3)


@pytest.mark.parametrize(("kind", "rank"), [(kind, rank) for kind, rank in OF_A_KIND if rank])
@torch.no_grad()
def test_values_that_the_mask_hides_are_not_seen(kind: str, rank: int) -> None:
    network = built(kind, rank, mask_channels=2)
    x_t, time = question(rank)
    mask = (torch.randn_like(x_t) > 0).float()
    other = torch.where(mask == 1, x_t, torch.randn_like(x_t))
    assert torch.equal(network(x_t, time, Condition(mask=mask)), network(other, time, Condition(mask=mask)))


@pytest.mark.parametrize(("kind", "rank"), OF_A_KIND)
def test_what_a_network_does_not_take_is_refused(kind: str, rank: int) -> None:
    for name, tensor in condition(rank).tensors():
        if name != "dropped":
            with pytest.raises(SettingsError, match=r"knows no classes|takes none"):
                built(kind, rank)(*question(rank), Condition(**{name: tensor}))
    if rank:
        with pytest.raises(ValueError, match="the network takes"):
            built(kind, rank, image_channels=3)(*question(rank), Condition(image=torch.zeros(3, 1, 4, 4)))
    with pytest.raises(ValueError, match="vectors of 2 numbers, not 3"):
        built(kind, rank, numbers=2)(*question(rank), Condition(vector=torch.zeros(3, 3)))


@pytest.mark.parametrize(("kind", "rank"), OF_A_KIND)
def test_without_a_null_label_a_class_must_be_named(kind: str, rank: int) -> None:
    options = replace(resolved(kind, rank), null_label=False)
    network = options.build(Interface(channels=2, out_channels=2, classes=3, dimensions=rank))
    with pytest.raises(SettingsError, match="no image without a class"):
        network(*question(rank))


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_table_knows_its_entries_by_their_own_names(kind: str) -> None:
    options = NETWORKS[kind]()
    assert options.kind == kind
    assert options.dimensions
    assert NETWORKS[kind].__doc__
    with pytest.raises(ValueError, match=f"options of {kind}"):
        replace(options, kind="another")


@pytest.mark.parametrize(("kind", "rank"), OF_A_KIND)
def test_every_auto_is_answered_and_the_answers_are_kept(kind: str, rank: int) -> None:
    options = resolved(kind, rank)
    assert "auto" not in {getattr(options, each.name) for each in fields(options)}
    facts = DataFacts(SHAPES[rank], is_levels=True, count=10)
    assert options.resolved(facts, options.sizes(facts)[0], "cuda").seen_for(1e6) == options
    assert 0 < options.usual_rate < 1


@pytest.mark.parametrize(("kind", "rank"), OF_A_KIND)
def test_options_go_through_a_file_unchanged(kind: str, rank: int, tmp_path: Path) -> None:
    settings = Settings(network=resolved(kind, rank))
    (tmp_path / "config.toml").write_text(tomli_w.dumps(to_mapping(settings)))
    assert from_file(tmp_path / "config.toml") == settings
    assert set(to_mapping(settings)["network"]) == NETWORKS[kind].names()


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_option_is_a_flag_that_the_help_of_its_kind_shows(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--network.kind", kind, "--help"])
    shown = capsys.readouterr().out
    for name in NETWORKS[kind].names():
        flag = f"network.{name.replace('_', '-')}"
        assert f"--{flag}" in shown
        assert flag in set(flags_of(Train))
        assert f"network.{name}" in known_names()
    for other in {name for network in NETWORKS.values() for name in network.names()} - NETWORKS[kind].names():
        assert f"--network.{other.replace('_', '-')} " not in shown


@pytest.mark.parametrize(("kind", "name"), OWN)
def test_an_option_of_another_kind_is_refused_by_name(kind: str, name: str) -> None:
    value = NETWORKS[kind]().__getattribute__(name)
    value = list(value) if isinstance(value, tuple) else value
    for other in NETWORKS:
        if name in NETWORKS[other].names():
            own = NETWORKS[other]().__getattribute__(name)
            same = {"network": {"kind": other, name: list(own) if isinstance(own, tuple) else own}}
            assert flat(from_mapping(same, "here"))["network.kind"] == other
            continue
        table = {"network": {"kind": other, name: value}}
        with pytest.raises(
            SettingsError, match=f"network.{name} in here belongs to .*{kind}.*, not to {other}"
        ):
            from_mapping(table, "here")


@pytest.mark.parametrize(("kind", "name"), OWN)
def test_an_option_chooses_the_first_kind_that_has_it(kind: str, name: str) -> None:
    first = next(each for each, network in NETWORKS.items() if name in network.names())
    value = NETWORKS[first]().__getattribute__(name)
    value = list(value) if isinstance(value, tuple) else value
    network = from_mapping({"network": {name: value, "width": 24}}, "here").network
    assert (network.kind, network.width) == (first, 24)
    assert list(NETWORKS).index(first) <= list(NETWORKS).index(kind)


@pytest.mark.parametrize("kind", NETWORKS)
def test_numbers_out_of_their_range_are_refused_by_name(kind: str) -> None:
    options: type = NETWORKS[kind]
    for name, (low, _) in ranges(options).items():
        with pytest.raises(SettingsError, match=f"network.{name} must be"):
            from_mapping({"network": {"kind": kind, name: type(low)(low - 1)}}, "here")


@pytest.mark.parametrize("rank", range(len(SHAPES)))
def test_the_first_kind_for_the_data_is_what_auto_comes_to(rank: int) -> None:
    facts = DataFacts(SHAPES[rank], is_levels=True)
    fitting = [kind for kind, network in NETWORKS.items() if rank in network.dimensions]
    assert settled(NetworkOptions(width=24), facts) == NETWORKS[fitting[0]](width=24)
    for kind, network in NETWORKS.items():
        if kind in fitting:
            assert settled(network(), facts) == network()
        else:
            with pytest.raises(SettingsError, match="does not fit these data"):
                settled(network(), facts)


@pytest.mark.parametrize("kind", NETWORKS)
def test_another_kind_begins_with_its_defaults(kind: str) -> None:
    for other, network in NETWORKS.items():
        base = Settings(network=network(width=24))
        found = from_mapping({"network": {"kind": kind}}, "here", base).network
        assert found == (base.network if other == kind else NETWORKS[kind]())


@pytest.mark.parametrize(("kind", "name"), OWN)
def test_what_a_run_has_not_is_a_difference(kind: str, name: str) -> None:
    chosen = frozenset({"network.kind", f"network.{name}"})
    asked = Requested(Settings(network=resolved(kind, NETWORKS[kind].dimensions[0])), chosen)
    assert differences(asked, asked.settings) == {}
    for other, network in NETWORKS.items():
        if other != kind:
            found = differences(asked, Settings(network=network()))
            assert found["network.kind"] == (kind, other)


@pytest.mark.parametrize(
    ("kind", "rank"), [(kind, rank) for kind, rank in OF_A_KIND if NETWORKS[kind].rows_are_independent]
)
def test_rows_that_are_called_independent_do_not_see_each_other(kind: str, rank: int) -> None:
    network, given = built(kind, rank, **taken(rank)), condition(rank)
    x_t, time = torch.randn(3, *SHAPES[rank]), torch.tensor([1.0, 50.0, 900.0])
    with torch.no_grad():
        rows = [slice(k, k + 1) for k in range(3)]
        alone = torch.cat([network(x_t[row], time[row], given.rows(row)) for row in rows])
        torch.testing.assert_close(alone, network(x_t, time, given))  # other batches, other orders of sums
