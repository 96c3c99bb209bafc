"""Sums of losses and gradient norms since the last line of the log, kept on the device."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kakusan.shapes import Times

BUCKETS = 10
"""The loss is also reported by tenths of 1..T."""


@dataclass
class Tally:
    """Sums since the last log line, on the device: loss by bucket of t, and the gradient norm."""

    loss: Float[Tensor, " buckets"]
    count: Float[Tensor, " buckets"]
    gradient_norm: Float[Tensor, ""]
    steps: int = 0

    @classmethod
    def zero(cls, device: torch.device) -> "Tally":
        return cls(
            torch.zeros(BUCKETS, device=device),
            torch.zeros(BUCKETS, device=device),
            torch.zeros((), device=device),
        )

    def add(
        self, losses: Float[Tensor, " batch"], weights: Float[Tensor, " batch"] | None, t: Times, T: int
    ) -> None:
        """One product with a matrix: the same sum on every run, which scattered additions are not on a GPU.

        weights: where t is not uniform, how much each loss counts, so that means are over uniform t.
        """
        bucket = ((t - 1) * BUCKETS / T).long()
        member = (bucket == torch.arange(BUCKETS, device=t.device)[:, None]).to(losses)
        if weights is not None:
            member = member * weights
        self.loss += member @ losses
        self.count += member.sum(1)

    def clear(self) -> None:
        """Begin anew, in the same memory."""
        for sums in (self.loss, self.count, self.gradient_norm):
            sums.zero_()
        self.steps = 0

    def state(self) -> dict[str, Any]:
        return {
            "loss": self.loss.tolist(),
            "count": self.count.tolist(),
            "gradient_norm": self.gradient_norm.item(),
            "steps": self.steps,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device) -> "Tally":
        loss, count, norm = (
            torch.tensor(state[name], device=device) for name in ("loss", "count", "gradient_norm")
        )
        return cls(loss, count, norm, int(state["steps"]))
