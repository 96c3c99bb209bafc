"""A step that is not finite, looked into: outputs, losses, gradients and images, each with what was first."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import kakusan as kk
from kakusan.training.replay import FirstBad, look_into, replay
from kakusan.training.state import Task

SETTINGS: dict[str, Any] = {
    "process.T": 20,
    "training.batch_size": 4,
    "training.accumulation": 2,
    "training.steps": 2,
    "training.warmup": 0,
    "machine.threads": 1,
    "machine.device": "cpu",
    "samples.count": 2,
    "samples.steps": 2,
}


class Through(nn.Module):
    """What is put through a function that a test changes after the training."""

    change: Callable[[Tensor], Tensor] = staticmethod(lambda x: x)

    def forward(self, x: Tensor) -> Tensor:
        return type(self).change(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(2))
        self.middle = Through()

    def forward(self, x_t: Tensor, time: Tensor, condition: kk.Condition | None = None) -> Tensor:  # noqa: ARG002
        out: Tensor = self.last(self.middle(self.first(x_t)))
        return out


@pytest.fixture
def task(tmp_path: Path) -> Task:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)
    run = kk.train(images, network=Net(), run=tmp_path / "run", settings=SETTINGS, progress=False)
    return run.task(run.prepared())


def changed(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
    monkeypatch.setattr(Through, "change", staticmethod(change))


def test_a_step_that_is_finite_shows_nothing(task: Task) -> None:
    assert task.state.step == 2
    assert look_into(task, 2) is None
    assert replay(task, 5) is None
    assert task.state.step == 4


def test_the_first_layer_with_a_bad_output_is_named_with_its_images(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    hole = torch.tensor([0.0, math.inf]).view(2, 1, 1, 1)  # the second of a micro-batch
    changed(monkeypatch, lambda x: x + hole)
    second = int(task.batches.at(2).indices[1])
    assert look_into(task, 2) == FirstBad(3, "the output of layer middle (Through)", (second,), 2)


def test_an_earlier_bad_step_is_looked_into_instead(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, lambda x: x * math.nan)
    found = replay(task, 9)
    assert found is not None
    assert (found.step, len(found.images)) == (3, 2)


def test_a_gradient_is_named_where_all_outputs_are_finite(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(monkeypatch, lambda x: x + (0 * x).sqrt())  # whose derivative at 0 is 0 times infinity
    found = look_into(task, 2)
    assert found is not None
    assert found.what.startswith("the gradient of first.")
    assert found.images == ()
    assert all(weight.grad is None for weight in task.network.parameters())


def test_an_image_that_is_not_finite_is_named_before_all_layers(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = type(task.prepared.dataset.units).encode

    def encode(units: Any, images: Any) -> Tensor:
        x = real(units, images)
        x[0] = math.nan
        return x

    monkeypatch.setattr(type(task.prepared.dataset.units), "encode", encode)
    found = look_into(task, 2)
    assert found is not None
    assert (found.what, found.images) == ("the images themselves", (int(task.batches.at(2).indices[0]),))
