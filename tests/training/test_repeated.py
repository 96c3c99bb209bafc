"""A step that a device repeats by itself trains as a plain one: its arithmetic, on a CPU, where nothing is captured.

Capturing itself is tested where there is a CUDA device: tests/test_devices.py.
"""

from typing import Any

import pytest
import torch

from kakusan.config.loading import with_values
from kakusan.config.resolve import resolve
from kakusan.config.settings import Settings
from kakusan.training import repeated
from kakusan.training.ladder import for_steps
from kakusan.training.prepare import prepare_data
from kakusan.training.repeated import RepeatedStep
from kakusan.training.state import Task, assemble
from kakusan.training.step import train_step

STEPS = 6


@pytest.fixture(autouse=True)
def _not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated, "Replayed", lambda work, _device: work)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (1 << 40, 1 << 40))


def digits(**asked: Any) -> Task:
    values = {
        "training.steps": STEPS,
        "training.batch_size": 16,
        "network.width": 16,
        "machine.workers": 1,
        "machine.threads": 1,
        "machine.precision": "fp32",
        **asked,
    }
    settings = with_values(Settings(), {"data.source": "digits", **values})
    prepared = prepare_data(settings)
    return assemble(for_steps(resolve(settings, prepared.facts), prepared, STEPS).settings, prepared)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "mirrored, by micro-batches": {"data.flip": True, "training.accumulation": 2},
    "independent t": {"training.times": "uniform"},
    "weighted": {"training.loss": "weighted"},
    "min-snr": {"training.loss": "min-snr"},
    "flow": {"process.path": "flow"},
    "edm": {"process.path": "edm", "process.predicts": "edm"},
    "muon": {"training.optimizer": "muon"},
}


@pytest.mark.parametrize("name", CASES)
def test_it_trains_as_a_plain_step_does(name: str) -> None:
    plain, alone = digits(**CASES[name]), digits(**CASES[name])
    for task in (plain, alone):
        task.network.train()
    step = RepeatedStep(alone.state, alone.batches, alone.loss, alone.settings.training)
    for _ in range(STEPS):
        train_step(plain.state, plain.batches, plain.loss, plain.settings.training)
        step()
    assert alone.state.step == STEPS
    # the rate and the share of the average are float32 there; a step of AdamW is about the rate, whatever the gradient,
    # so that one of roundings alone, 1e-9 here, is turned by a rounding
    rate = float(plain.settings.training.learning_rate)
    for ours, theirs in zip(alone.network.parameters(), plain.network.parameters(), strict=True):
        assert (ours - theirs).abs().max() < 1e-2 * rate
    averages = zip(alone.state.ema.state().values(), plain.state.ema.state().values(), strict=True)
    assert all((ours - theirs).abs().max() < 1e-2 * rate for ours, theirs in averages)
    found, expected = alone.state.tally.state(), plain.state.tally.state()
    assert found["steps"] == expected["steps"]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["count"] == pytest.approx(expected["count"])
    assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4)


def test_a_loss_that_is_not_finite_updates_nothing_from_there_on() -> None:
    task = digits()
    step = RepeatedStep(task.state, task.batches, task.loss, task.settings.training)
    step()
    with torch.no_grad():
        next(task.network.parameters()).fill_(torch.nan)
    weights = [p.clone() for p in task.network.parameters()]
    step()
    step()
    assert int(task.state.first_bad) == 1
    for before, after in zip(weights, task.network.parameters(), strict=True):
        assert torch.equal(before, after) or before.isnan().any()
