"""Calls of a network, counted: what samples cost."""

from dataclasses import dataclass, field

import torch

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.paths import Path
from kakusan.diffusion.prediction import Prediction
from kakusan.shapes import Condition, Samples, Times


@dataclass
class Counter:
    """Samples that went through a network, forward, and backward for a product with its Jacobian."""

    forward: int = 0
    backward: int = 0


@dataclass(frozen=True, eq=False)
class Counted(Denoiser):
    """The same denoiser; each sample that it is asked about is counted."""

    of: Denoiser
    counter: Counter = field(default_factory=Counter)
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.of.path)

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:
        guess = self.of.predict(x_t, t, condition)
        self.counter.forward += len(x_t)
        if guess.x_0.requires_grad:
            guess.x_0.register_hook(self._backward)  # type: ignore[no-untyped-call]
        return guess

    def _backward(self, of_x_0: torch.Tensor) -> None:
        self.counter.backward += len(of_x_0)
