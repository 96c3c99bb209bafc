"""A learned schedule beside the optimum known in closed form: python benchmarks/learned_schedule.py [--T 33].

Data N(0, s^2) with their exact denoiser, in place of a network: the schedule alone is trained, as a training does it.
Prints a table of the ends, the bound, what it exceeds the entropy by, and the deviation of its estimate from one
random t for each sample.
"""

import argparse
import json
import math
from collections.abc import Sequence

import torch
from measuring import leave, table
from torch import Tensor

from kakusan.diffusion.denoiser import HIGHEST, LOWEST, TIMES, NetworkDenoiser
from kakusan.diffusion.learned import Learned, LearnedPath
from kakusan.diffusion.likelihood import BITS
from kakusan.diffusion.model import Model
from kakusan.diffusion.schedules import Cosine, Given, Linear, NoiseSchedule, betas_of
from kakusan.networks.log_snr import LogSNR
from kakusan.randomness import Purpose, normals
from kakusan.shapes import Condition, Samples
from kakusan.training.losses import Bound

VARIANCE = 0.25
VALUES = 64
ROWS = 4


def guess(x_t: Samples, time: Tensor, condition: Condition | None = None) -> Samples:  # noqa: ARG001
    """E[x_0 | x_t] by the log-SNR that a network is told."""
    level = HIGHEST - time.double() * (HIGHEST - LOWEST) / TIMES
    signal, noise = level.sigmoid(), (-level).sigmoid()
    return (VARIANCE * signal.sqrt() / (signal * VARIANCE + noise))[:, None].to(x_t) * x_t


def information(level: Tensor) -> Tensor:
    """y = log(1 + s^2 SNR): twice what x_t knows of x_0, in nats."""
    return torch.log1p(VARIANCE * level.exp())


def parts(level: Tensor) -> tuple[Tensor, Tensor]:
    """L_T + L_0, and the terms of t = 2..T, in bits a value, for the log-SNR at t = 1..T; sigma^2 is beta~, beta_1."""
    first, last, y = level[0], level[-1], information(level)
    L_T = (last.sigmoid() * (VARIANCE - 1) - (-last).sigmoid().log()) / 2
    sigma_1, error = (-first).sigmoid(), VARIANCE / (1 + VARIANCE * first.exp())
    L_0 = (2 * math.pi * sigma_1).log() / 2 + error / (2 * sigma_1)
    return (L_T + L_0) * BITS, torch.expm1(y[:-1] - y[1:]) / 2 * BITS


def best(T: int) -> NoiseSchedule:
    """The ends of the least bound, and y a straight line between them."""

    def levels(ends: Tensor) -> Tensor:
        y = torch.lerp(
            information(ends[0]), information(ends[1]), torch.linspace(0, 1, T, dtype=torch.float64)
        )
        return (torch.expm1(y) / VARIANCE).log()

    ends = torch.tensor([4.0, -4.0], dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([ends], max_iter=500, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def bound() -> Tensor:
        search.zero_grad()
        fixed, steps = parts(levels(ends))
        torch.autograd.backward(total := fixed + steps.sum())
        return total

    search.step(bound)  # type: ignore[no-untyped-call]
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), levels(ends.detach()).sigmoid()])
    return Given(tuple(betas_of(alpha_bar, 1.0).tolist()))


def learned(T: int, steps: int, rate: float) -> NoiseSchedule:
    """The schedule after so many steps of Adam on the loss of a training."""
    path = LearnedPath(T, log_snr=LogSNR(Learned.log_snr_1, Learned.log_snr_T))
    model = Model(NetworkDenoiser(guess, path, "x_0", told="log-snr"), "fixed-small", "beta_1")
    optimizer = torch.optim.Adam(path.log_snr.parameters(), betas=(0.9, 0.99))
    t = torch.arange(1, T + 1, dtype=torch.float64).repeat(ROWS)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        x_0, noise = (normals(seed, Purpose.NOISE, step, torch.arange(len(t)), (VALUES,)) for seed in (0, 1))
        torch.autograd.backward(Bound().per_image(model, VARIANCE**0.5 * x_0, t, noise).mean())
        optimizer.step()
        optimizer.zero_grad()
    return path.table()


def row(name: str, schedule: NoiseSchedule) -> list[str]:
    """A line of the table."""
    level, entropy = schedule.log_snr[1:], math.log(2 * math.pi * math.e * VARIANCE) / 2 * BITS
    fixed, steps = parts(level)
    total, count = float(fixed + steps.sum()), len(level) - 1
    second = count * float(steps.square().sum()) * (1 + 2 / VALUES)
    spread = max(0.0, second - float(steps.sum()) ** 2) ** 0.5
    return [
        name,
        f"{level[0]:.2f}",
        f"{level[-1]:.2f}",
        f"{total:.4f}",
        f"{total - entropy:.4f}",
        f"{spread:.3f}",
    ]


HEADER = ("schedule", "log-SNR at 1", "at T", "bound", "above the entropy", "deviation of the estimate")


def main(arguments: Sequence[str]) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--T", type=int, default=33)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=0.03)
    parser.add_argument("--json", action="store_true", help="print the lines as JSON")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    every = {
        "linear": Linear(asked.T),
        "cosine": Cosine(asked.T),
        "learned, at its start": Learned(asked.T),
        f"learned, {asked.steps:,} steps": learned(asked.T, asked.steps, asked.rate),
        "the optimum": best(asked.T),
    }
    rows = [row(name, schedule) for name, schedule in every.items()]
    print(
        json.dumps([dict(zip(HEADER, each, strict=True)) for each in rows])
        if asked.json
        else table(HEADER, rows)
    )
    return 0


if __name__ == "__main__":
    leave(main)
