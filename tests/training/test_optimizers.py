"""Muon against singular value decompositions, against torch's own, and as `training.step.update` uses it."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from kakusan.config.loading import settings_for, with_values
from kakusan.config.parallel import set_threads
from kakusan.config.resolve import resolve
from kakusan.errors import SettingsError
from kakusan.networks import UNet
from kakusan.training import optimizers
from kakusan.training.ladder import for_steps
from kakusan.training.optimizers import (
    COEFFICIENTS,
    OPTIMIZERS,
    Muon,
    matrices_of,
    moments_in_all,
    muon_of,
    orthogonal,
)
from kakusan.training.prepare import prepare_data
from kakusan.training.state import Task, assemble, begin_anew, load_state, snapshot
from kakusan.training.step import train_step

SHAPES = [(3, 8, 30), (2, 30, 8), (1, 16, 16), (2, 5, 200)]
RATE, DECAY = 0.01, 0.1


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def exactly(x: Tensor) -> Tensor:
    """The iteration on the singular values alone, in float64."""
    left, s, right = torch.linalg.svd(x.double(), full_matrices=False)
    a, b, c = COEFFICIENTS
    s = s / s.norm(dim=-1, keepdim=True)
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    found: Tensor = (left * s[..., None, :]) @ right
    return found


# The iteration


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_singular_values_come_near_1_and_singular_vectors_stay(shape: tuple[int, ...]) -> None:
    x = drawn(*shape)
    left, s, right = torch.linalg.svd(x, full_matrices=False)
    seen = left.mT @ orthogonal(x) @ right.mT
    values = seen.diagonal(dim1=-2, dim2=-1)
    is_small = s / s.norm(dim=-1, keepdim=True) < 1 / 500
    assert ((values > 0.68) | is_small).all()
    assert (values < 1.21).all()
    assert (seen - torch.diag_embed(values)).abs().max() < 1e-4  # float32, with factors of up to 3.4^5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lowest", [1e-1, 1e-3, 1e-6, 0.0])
def test_it_is_the_published_iteration_for_matrices_of_any_spectrum(
    shape: tuple[int, ...], lowest: float
) -> None:
    left, s, right = torch.linalg.svd(drawn(*shape, dtype=torch.float64), full_matrices=False)
    falling = torch.linspace(1, 0, s.shape[-1], dtype=torch.float64)
    spectrum = lowest ** (1 - falling) if lowest else (falling > 0.5).double()  # the last: half of the rank
    x = (left * spectrum) @ right
    expected = exactly(x)
    assert (orthogonal(x) - expected).norm() < 1e-9 * expected.norm()
    assert (orthogonal(x.float()) - expected).norm() < 2e-3 * expected.norm()  # small squares are rounded


def test_no_gradient_is_no_direction() -> None:
    assert torch.equal(orthogonal(torch.zeros(2, 6, 7)), torch.zeros(2, 6, 7))
    assert orthogonal(1e-14 * drawn(1, 6, 7)).abs().max() < 1e-3


def test_half_precision_is_widened_for_it() -> None:
    x = drawn(1, 16, 48)
    found = orthogonal(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert (found.double() - exactly(x)).norm() < 0.02 * exactly(
        x
    ).norm()  # bfloat16's rounding, of x and the answer


# A step


def muon(matrices: list[nn.Parameter], others: list[nn.Parameter], **options: Any) -> Muon:
    usual = {"lr": RATE, "betas": (0.9, 0.99), "weight_decay": DECAY}
    return Muon(matrices, others, **{**usual, **options})


def test_two_steps_by_hand() -> None:
    """In float64, of a kernel of 3x3 with channels last, its gradient scaled."""
    start, g = drawn(8, 6, 3, 3, dtype=torch.float64), drawn(2, 8, 6, 3, 3, seed=1, dtype=torch.float64)
    weight = nn.Parameter(start.to(memory_format=torch.channels_last))
    optimizer = muon([weight], [])
    optimizer.grad_scale = torch.tensor(4.0, dtype=torch.float64)
    for gradient in g:
        weight.grad = gradient.clone()
        optimizer.step()
    moment, expected = torch.zeros_like(start), start
    for gradient in g / 4:
        moment = 0.95 * moment + 0.05 * gradient
        ahead = 0.05 * gradient + 0.95 * moment
        direction = exactly(ahead.flatten(1)).view_as(start)
        expected = expected - RATE * DECAY * expected - RATE * 0.2 * math.sqrt(54) * direction
    assert (weight - expected).abs().max() < 1e-12
    assert (optimizer.state[weight]["momentum"] - moment).abs().max() < 1e-15
    assert optimizer.state[weight]["momentum"].stride() == weight.stride()


def test_it_goes_the_way_of_torchs_own() -> None:
    """Which knows single matrices alone, and computes in bfloat16: hence the tolerance."""
    start, ours = [drawn(20, 50), drawn(20, 50, seed=1), drawn(33, 12, seed=2)], list[nn.Parameter]()
    ours, theirs = ([nn.Parameter(x.clone()) for x in start] for _ in range(2))
    mine = muon(ours, [])
    other: Any = torch.optim.Muon(theirs, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            a.grad = drawn(*a.shape, seed=10 * step + number)
            b.grad = a.grad.clone()
        mine.step()
        other.step()
    for a, b, x in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.03 * (b - x).norm()


def test_a_step_is_as_large_as_one_of_adamw() -> None:
    weight = nn.Parameter(torch.zeros(64, 576))
    weight.grad = drawn(64, 576)
    muon([weight], []).step()
    assert 0.15 * RATE < weight.square().mean().sqrt() < 0.25 * RATE  # 0.2, times singular values near 1


def test_all_else_moves_by_adamw_to_the_bit() -> None:
    start = [drawn(7), drawn(3, 5, seed=1)]
    ours, theirs = ([nn.Parameter(x.clone()) for x in start] for _ in range(2))
    mine = muon([nn.Parameter(drawn(8, 8))], ours)
    other = torch.optim.AdamW(theirs, lr=RATE, betas=(0.9, 0.99), weight_decay=DECAY, fused=True)
    scaled: Any = other
    for step in range(3):
        scaled.grad_scale = mine.grad_scale = torch.tensor(1.5 + step)
        scaled.found_inf = mine.found_inf = torch.tensor(float(step == 1))
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            a.grad = drawn(*a.shape, seed=10 * step + number)
            b.grad = a.grad.clone()
        mine.step()
        other.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
        assert all(torch.equal(value, other.state[b][key]) for key, value in mine.state[a].items())


def bits(tensors: Iterator[Tensor]) -> list[Tensor]:
    """As integers: -0.0 is another number than 0.0, and NaN the same as itself."""
    return [x.detach().clone().view(torch.int32) for x in tensors]


@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0])
def test_where_it_must_skip_nothing_changes_in_any_bit(steps_before: int, bad: float) -> None:
    matrices = [nn.Parameter(drawn(6, 9, seed=i)) for i in range(3)]
    matrices[0].data[0, :2] = torch.tensor([-0.0, 0.0])
    others = [nn.Parameter(drawn(6))]
    optimizer = muon(matrices, others)
    everything = [*matrices, *others]

    def state() -> list[Tensor]:
        kept = (value for p in everything for value in optimizer.state[p].values())
        return bits(iter([*everything, *kept]))

    optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.tensor(0.0)
    for step in range(steps_before):
        for p in everything:
            p.grad = drawn(*p.shape, seed=step)
        optimizer.step()
    before = state()
    for p in everything:
        p.grad = torch.full_like(p, bad)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(bad), torch.tensor(1.0)
    optimizer.step()
    after = state()
    if steps_before:
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    else:  # moments are there now, and zero
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=False))
        assert not any(x.any() for x in after[len(before) :])


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises where a value is asked for, which a host waits for and a graph cannot hold."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert "_local_scalar_dense" not in str(func), "a value is asked for"
        assert "nonzero" not in str(func), "a shape depends on values"
        return func(*args, **(kwargs or {}))


def test_a_step_asks_for_no_value_also_where_its_rate_lies_on_the_device() -> None:
    matrices = [nn.Parameter(drawn(6, 9, seed=i)) for i in range(3)]
    optimizer = muon(matrices, [])
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(RATE)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.tensor(0.0)
    for p in matrices:
        p.grad = drawn(6, 9)
    with Waits():  # type: ignore[no-untyped-call]
        optimizer.step()
        with pytest.raises(AssertionError, match="asked for"):
            optimizer.found_inf.item()


# What it does in a training


def small(**asked: Any) -> Task:
    values = {
        "training.steps": 60,
        "training.warmup": 3,
        "training.batch_size": 32,
        "training.optimizer": "muon",
        "network.width": 16,
        "machine.workers": 1,
        "machine.threads": 1,
        "machine.device": "cpu",
        "machine.precision": "fp32",
        **asked,
    }
    settings = with_values(settings_for("digits"), {"data.source": "digits", **values})
    prepared = prepare_data(settings)
    found = for_steps(resolve(settings, prepared.facts), prepared, int(str(values["training.steps"])))
    return assemble(found.settings, prepared)


def unet(classes: int = 0) -> UNet:
    return UNet(
        channels=1,
        out_channels=1,
        width=16,
        multipliers=(1, 2),
        blocks=1,
        attention=(1,),
        groups=1,
        classes=classes,
    )


def trained(task: Task, steps: int) -> Task:
    task.network.train()
    for _ in range(steps):
        train_step(task.state, task.batches, task.loss, task.settings.training)
    return task


def weights(task: Task) -> list[Tensor]:
    return [p.detach().clone() for p in task.network.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_matrices_are_weights_from_many_channels_to_many_and_no_tables() -> None:
    network = unet(classes=10)
    found = {id(p) for p in matrices_of(network)}
    names = {name for name, p in network.named_parameters() if id(p) in found}
    table = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
    assert table
    assert not table & found
    assert not any(name.endswith("bias") for name in names)
    others = [p for p in network.parameters() if id(p) not in found | table and p.ndim > 1]
    assert [tuple(p.shape) for p in others] == [(1, 16, 3, 3)]  # the last convolution, to one channel
    assert all(p.ndim == 1 for p in network.parameters() if id(p) not in found | table | {id(others[0])})


def test_every_parameter_has_one_optimizer_and_a_matrix_one_moment() -> None:
    task = trained(small(), 1)
    groups = task.state.optimizer.param_groups
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in task.network.parameters())
    keys = {name: set(value) for name, value in task.state.optimizer.state_dict()["state"].items()}
    assert set(map(frozenset, keys.values())) == {
        frozenset({"momentum"}),
        frozenset({"step", "exp_avg", "exp_avg_sq"}),
    }
    kept = task.state.optimizer.state.values()
    counted = sum(4 * x.numel() for slot in kept for name, x in slot.items() if name != "step")
    assert moments_in_all(task.state.optimizer) == counted
    plain = small(**{"training.optimizer": "adamw"})
    assert moments_in_all(plain.state.optimizer) == 8 * sum(p.numel() for p in task.network.parameters())


def test_it_ends_lower_than_adamw_with_the_same_rate() -> None:
    """At the rate with which AdamW does best of 0.001, 0.002, 0.004, 0.01: mean losses of steps 41 to 60."""
    losses = {}
    for name in OPTIMIZERS:
        asked = {"training.optimizer": name, "training.learning_rate": 4e-3, "training.batch_size": 16}
        task = trained(small(**asked), 40)
        task.state.tally.clear()
        trained(task, 20)
        losses[name] = float(task.state.tally.loss.sum() / task.state.tally.count.sum())
    assert losses["muon"] < 0.98 * losses["adamw"]  # 0.477 and 0.495


def test_clipping_is_the_same_where_the_optimizer_is_not_told_a_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Metal. To rounding, which the iteration enlarges."""
    told, plain = (small(**{"training.clip_norm": 0.05}) for _ in range(2))
    trained(told, 4)
    monkeypatch.setattr("kakusan.training.step.SCALING_DEVICES", ())
    trained(plain, 4)
    for a, b in zip(told.network.parameters(), plain.network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_a_checkpoint_holds_all_of_it() -> None:
    whole = trained(small(), 6)
    first = trained(small(), 3)
    kept = snapshot(first)
    names = {name.rpartition(".")[2] for name in kept.tensors["optimizer"]}
    assert names == {"momentum", "step", "exp_avg", "exp_avg_sq"}
    copied = replace(
        kept,
        tensors={
            part: {name: x.contiguous().clone() for name, x in them.items()}
            for part, them in kept.tensors.items()
        },
    )
    second = small()
    load_state(second, copied)
    assert same(weights(trained(second, 3)), weights(whole))
    begin_anew(second)
    assert not second.state.optimizer.state
    assert isinstance(second.state.optimizer, Muon)
    assert same(weights(trained(second, 6)), weights(whole))


@pytest.mark.parametrize(("of", "into"), [("adamw", "muon"), ("muon", "adamw")])
def test_moments_of_another_optimizer_are_refused(of: str, into: str) -> None:
    kept = snapshot(trained(small(**{"training.optimizer": of}), 1))
    with pytest.raises(KeyError, match="the optimizer keeps"):
        load_state(small(**{"training.optimizer": into}), kept)


def test_batches_of_matrices_at_once_have_the_same_bits() -> None:
    found = []
    for workers in (1, 2, 3):
        set_threads(workers, workers)
        network = unet()
        for number, p in enumerate(network.parameters()):
            p.data, p.grad = drawn(*p.shape, seed=number), drawn(*p.shape, seed=-1 - number)
        muon_of(network, small().settings.training, torch.device("cpu")).step()
        found.append([p.detach().clone() for p in network.parameters()])
    set_threads(1, 1)
    assert same(found[0], found[1])
    assert same(found[0], found[2])


def test_how_matrices_are_batched_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the rounding of products in batches."""
    together = trained(small(), 2)
    monkeypatch.setattr(optimizers, "VALUES", {"cpu": 1})
    alone = trained(small(), 2)
    for a, b in zip(together.network.parameters(), alone.network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_an_unknown_optimizer_is_refused_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"training\.optimizer knows no 'lion'") as error:
        small(**{"training.optimizer": "lion"})
    assert error.value.advice == ("there are: adamw, muon",)
