"""Parts of a batch at once: the same numbers as one after the other, whatever the threads do."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kakusan.config import parallel
from kakusan.config.loading import settings_for, with_values
from kakusan.config.machine import usual_workers
from kakusan.config.parallel import (
    ROWS,
    at_once,
    set_threads,
    shares,
    threads_of_a_part,
)
from kakusan.config.resolve import resolve
from kakusan.config.settings import MachineSettings
from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.schedules import Cosine
from kakusan.networks import UNet
from kakusan.networks.dropout import dropout, dropout_seed
from kakusan.shapes import Condition
from kakusan.training.ladder import for_steps
from kakusan.training.launch import upgraded
from kakusan.training.prepare import prepare_data
from kakusan.training.state import Task, assemble
from kakusan.training.step import train_step


@pytest.fixture(autouse=True)
def _one_thread_again() -> Iterator[None]:
    yield
    set_threads(1, 1)


def one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many parts, without a pool."""
    assert parallel._workers is not None
    monkeypatch.setattr(parallel, "_workers", replace(parallel._workers, pool=None))


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 33, 64, 100])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_parts_of_a_batch_are_its_rows_in_order(rows: int, workers: int) -> None:
    set_threads(workers, workers)
    parts = shares(rows)
    assert [row for part in parts for row in range(rows)[part]] == list(range(rows))
    assert len(parts) <= workers
    assert all((part.stop - part.start) % ROWS == 0 for part in parts[:-1])


def test_results_come_in_the_order_of_the_parts() -> None:
    set_threads(3, 3)

    def slow_at_first(part: int) -> int:
        time.sleep(0.02 * (3 - part))
        return part

    assert at_once(slow_at_first, [0, 1, 2]) == [0, 1, 2]
    assert at_once(lambda part: at_once(slow_at_first, [part, part]), [1, 2]) == [
        [1, 1],
        [2, 2],
    ]  # no thread waits


@pytest.mark.parametrize("bad", [0, 1])
def test_an_error_in_a_part_is_raised_when_all_are_done(bad: int) -> None:
    set_threads(2, 2)
    done = []

    def part(number: int) -> None:
        if number == bad:
            raise MemoryError
        time.sleep(0.02)
        done.append(number)

    with pytest.raises(MemoryError):
        at_once(part, [0, 1])
    assert done == [1 - bad]
    assert at_once(lambda number: number, [0, 1]) == [0, 1]


def test_dropout_of_a_seed_is_torchs_own_whatever_other_threads_draw() -> None:
    x = torch.ones(64, 32)
    torch.manual_seed(5)
    expected = F.dropout(x, 0.25)
    torch.manual_seed(5)
    assert torch.equal(dropout(x, 0.25), expected)
    set_threads(4, 4)

    def part(seed: int) -> Tensor:
        with dropout_seed(seed):
            return dropout(x, 0.25)

    assert torch.equal(at_once(part, [5, 6, 7, 8])[0], expected)
    assert not torch.equal(part(6), expected)


def digits(workers: int, **asked: object) -> Task:
    """A small training on digits with dropout and classes, set up."""
    values = {
        "training.steps": 4,
        "training.batch_size": 32,
        "data.labels": True,
        "network.width": 16,
        "network.dropout": 0.2,
        "machine.device": "cpu",
        "machine.precision": "fp32",
        "machine.threads": 2,
        "machine.workers": workers,
        **asked,
    }
    settings = with_values(settings_for("digits"), values)
    prepared = prepare_data(settings)
    resolved = for_steps(resolve(settings, prepared.facts), prepared, 4).settings
    set_threads(2, workers)
    task = assemble(resolved, prepared)
    task.network.train()
    return task


def trained(task: Task) -> Tensor:
    for _ in range(4):
        train_step(task.state, task.batches, task.loss, task.settings.training)
    return torch.cat([each.detach().flatten() for each in task.network.parameters()])


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_parts_at_once_are_parts_one_after_the_other_to_the_bit(
    accumulation: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"training.accumulation": accumulation, "machine.precision": precision}
    at_the_same_time = trained(digits(2, **asked))
    task = digits(2, **asked)
    one_after_the_other(monkeypatch)
    assert torch.equal(at_the_same_time, trained(task))


def test_the_gradient_of_parts_is_that_of_the_whole_batch() -> None:
    tasks = [digits(workers, **{"network.dropout": 0.0, "training.steps": 1}) for workers in (1, 2)]
    losses, gradients = [], []
    for task, workers in zip(tasks, (1, 2), strict=True):
        set_threads(2, workers)
        task.state.optimizer.zero_grad = lambda *_, **__: None  # type: ignore[method-assign]  # they stay for a look
        train_step(task.state, task.batches, task.loss, task.settings.training)
        losses.append(task.state.tally.loss.clone())
        gradients.append([each.grad for each in task.network.parameters()])
    torch.testing.assert_close(losses[0], losses[1])
    for parameter, whole, of_parts in zip(tasks[0].network.parameters(), *gradients, strict=True):
        assert (whole is None) == (of_parts is None)
        if whole is not None and of_parts is not None:
            # sums in another order: float32 over 32 images of 64 pixels
            torch.testing.assert_close(whole, of_parts, rtol=1e-3, atol=1e-5)
            assert of_parts.stride() == parameter.stride()


class Counting(torch.nn.Module):
    """Somebody's module, which remembers its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, x_t: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:  # noqa: ARG002
        self.rows.append(len(x_t))
        return x_t


@torch.no_grad()
def test_predictions_in_parts_are_those_of_the_whole_batch_to_the_bit() -> None:
    torch.manual_seed(0)
    network: Any = UNet(
        channels=1, out_channels=1, width=16, multipliers=(1, 2), blocks=1, groups=1, classes=3
    ).eval()
    network.rows_are_independent = True
    x, t = torch.randn(64, 1, 8, 8), torch.linspace(1, 100, 64, dtype=torch.float64)
    condition = Condition(label=torch.arange(64) % 3)
    denoiser = NetworkDenoiser(network, Cosine(T=100), "v")
    set_threads(1, 1)
    whole = denoiser.predict(x, t, condition)
    set_threads(2, 2)
    assert torch.equal(denoiser.predict(x, t, condition).x_0, whole.x_0)


@torch.no_grad()
def test_a_module_of_ones_own_is_given_whole_batches() -> None:
    set_threads(2, 2)
    network = Counting()
    NetworkDenoiser(network, Cosine(T=100), "v").predict(torch.zeros(64, 1, 2, 2), torch.ones(64).double())
    assert network.rows == [64]


@pytest.mark.parametrize(
    ("threads", "rows", "device", "expected"),
    [
        (2, 64, "cpu", 2),
        (2, 31, "cpu", 1),
        (8, 64, "cpu", 4),
        (6, 64, "cpu", 3),
        (1, 64, "cpu", 1),
        (16, 4096, "cpu", 16),
        (16, 1, "cpu", 1),
        (8, 128, "cuda", 1),
        (2, None, "cpu", 2),
    ],
)
def test_there_are_as_many_parts_as_threads_while_each_has_enough_rows(
    threads: int, rows: int | None, device: str, expected: int
) -> None:
    assert usual_workers(MachineSettings(device=device, threads=threads), rows) == expected


def test_threads_are_shared_by_parts_and_given_back() -> None:
    set_threads(4, 2)
    assert at_once(lambda _: torch.get_num_threads(), [0, 1]) == [2, 2]
    assert at_once(lambda _: torch.get_num_threads(), [0]) == [4]
    with threads_of_a_part():
        assert torch.get_num_threads() == 2
        assert at_once(lambda _: torch.get_num_threads(), [0]) == [4]
        assert torch.get_num_threads() == 2
    before = parallel._workers
    set_threads(4, 2)
    assert parallel._workers is before  # nothing to be done
    assert torch.get_num_threads() == 4


def test_runs_of_older_versions_go_on_without_parts() -> None:
    assert upgraded({"machine": {"threads": 2}}, {})["machine"] == {
        "threads": 2,
        "workers": 1,
        "graphs": False,
        "kernels": False,
    }
    assert upgraded({"machine": {"threads": 2, "workers": 2}}, {})["machine"]["workers"] == 2
