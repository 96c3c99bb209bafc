"""Two estimates of the analytic variance: python benchmarks/analytic_variance.py RUN.

Bao et al. 2022 estimate the error of the guess of x_0 from the norm of eps_hat, as
(1 - alpha_bar) / alpha_bar (1 - E|eps_hat|^2), which is right if the guess is exactly E[x_0 | x_t]; kakusan measures
the error itself. Both from the same training images and noise; then the held-out bound under each, x_0 not clipped.
Negative estimates of the first kind are counted, and held to 0.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

import torch
from measuring import leave, prepared_as, report, table
from torch import Tensor

from kakusan.config.machine import set_machine
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.likelihood import concatenated
from kakusan.diffusion.schedules import twin
from kakusan.diffusion.variances import Analytic
from kakusan.randomness import Purpose, normals
from kakusan.run import Loaded, Run
from kakusan.shapes import times_like
from kakusan.training.validation import bounds_of, spread


@torch.no_grad()
def estimates(loaded: Loaded, x_0: Tensor) -> tuple[Tensor, Tensor]:
    """The errors at t = 0..T from the norm of eps_hat, and as measured."""
    schedule = twin(loaded.model.path)
    by_norm, measured = torch.zeros(schedule.T + 1).double(), torch.zeros(schedule.T + 1).double()
    for t in range(1, schedule.T + 1):
        noise = normals(1, Purpose.EVALUATION, t, torch.arange(len(x_0)), tuple(x_0.shape[1:])).to(x_0)
        times = times_like(t, x_0)
        guess = loaded.model.predict(q_marginal(schedule, x_0, times).reparametrize(noise), times)
        alpha_bar = float(schedule.alpha_bar[t])
        by_norm[t] = (1 - alpha_bar) / alpha_bar * (1 - float(guess.eps.double().square().mean()))
        measured[t] = (guess.x_0.double() - x_0.double()).square().mean()
    return by_norm, measured


def main(arguments: Sequence[str]) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--estimate-from", type=int, nargs="+", default=[16, 128], help="training images")
    parser.add_argument("--images", type=int, default=60, help="held-out images")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    run = Run.open(asked.run)
    set_machine(run.settings.machine)
    prepared, loaded = prepared_as(run, run.data.name), run.load(precision="fp32", clip=False)
    held_out = spread(prepared.split.held_out, asked.images)
    rows, figures = [], []
    for count in asked.estimate_from:
        x_0 = prepared.dataset.x_0(spread(prepared.split.training, count)).to(loaded.device)
        for kind, errors in zip(("norm of eps_hat", "measured error"), estimates(loaded, x_0), strict=True):
            variance = Analytic(errors.clamp(min=0))
            denoiser = replace(loaded.model, variance=variance)
            parts = bounds_of(denoiser, prepared.dataset, held_out, torch.device(loaded.device))
            bound = concatenated(list(parts))
            below = int((errors[1:] < 0).sum())
            figures.append({"images": count, "kind": kind, "negative": below, "bits_per_dim": bound.mean})
            rows.append([kind, str(count), str(below), f"{bound.mean:.4f} ± {bound.mean_standard_error:.4f}"])
    text = table(("estimate", "training images", "t with a negative error", "held-out bits/dim"), rows)
    return report({"figures": figures}, text, as_json=asked.json)


if __name__ == "__main__":
    leave(main)
