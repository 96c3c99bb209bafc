"""Rules of the recipe for "auto", by the data, the device and the steps. No clock. Those of the network stand
with its options, in `kakusan.config.networks`.

The figures behind the constants stand in benchmarks/README.md ("The automatic choice").
"""

from dataclasses import replace
from typing import Any

from kakusan.config.facts import DataFacts
from kakusan.config.networks import NetworkOptions
from kakusan.config.settings import TrainingSettings

OPTIMIZER = "adamw"
"""The automatic one; muon is not until trainings of all lengths have been measured with it."""
BATCH = {"cpu": 64}
BATCH_ELSEWHERE = 128
POINTS_BATCH = 256
HIGHEST_RATE, LOWEST_RATE = 3e-3, 2e-4
LONG = 10_000
"""Steps; in longer trainings the rate falls as the square root of their number."""
FINE_TUNING = 0.3
"""Factor on the rate, where the weights are trained already."""
WARM_SHARE, LONGEST_WARMUP = 20, 500
EMA_SHARE, SLOWEST_EMA = 10, 0.9999
FEW_STEPS = 2_500
"""A U-Net hardly makes good samples after fewer."""
ENOUGH_STEPS = 3_000
"""Images whose size is not given are halved where the time allows fewer."""


def resolve_batch(training: TrainingSettings, facts: DataFacts, device: str) -> TrainingSettings:
    """The same with a size of the batch."""
    batch = training.batch_size
    if batch == "auto":
        batch = POINTS_BATCH if facts.is_points else BATCH.get(device, BATCH_ELSEWHERE)
    return replace(training, batch_size=batch)


def resolve_recipe(
    training: TrainingSettings, network: NetworkOptions, *, fine_tuning: bool = False
) -> TrainingSettings:
    """The same without any "auto" in optimizer, rate, warm-up and average; steps and the network are known."""
    steps = training.steps
    assert steps != "auto"
    answers: dict[str, Any] = {}
    if training.optimizer == "auto":
        answers["optimizer"] = OPTIMIZER
    if training.learning_rate == "auto":
        answers["learning_rate"] = usual_rate(steps, network) * (FINE_TUNING if fine_tuning else 1)
    if training.warmup == "auto":
        answers["warmup"] = usual_warmup(steps)
    if training.ema == "auto":
        answers["ema"] = _rounded(min(SLOWEST_EMA, max(0.0, 1 - EMA_SHARE / max(steps, 1))))
    return replace(training, **answers)


def usual_warmup(steps: int) -> int:
    """A twentieth of the steps, and 500 at most."""
    return min(LONGEST_WARMUP, steps // WARM_SHARE)


def usual_rate(steps: int, network: NetworkOptions) -> float:
    """The optimizer's step for a network in a training of so many steps."""
    rate = min(network.usual_rate, HIGHEST_RATE) * min(1.0, (LONG / max(steps, 1)) ** 0.5)
    return float(f"{max(LOWEST_RATE, rate):.2g}")


def _rounded(decay: float) -> float:
    """To two digits of its distance from 1: 0.9984."""
    return 1 - float(f"{1 - decay:.2g}")
