"""Multistep consistency sampling (Song et al. 2023, "Consistency Models", Algorithm 1): for models that were distilled.

The guess of x_0 is the end of a trajectory, a sample by itself. More calls mend it: noise is added to the sample, less
each time, and the end of the trajectory from there is the next sample.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from kakusan.diffusion.paths import Path, ends_in_pure_noise
from kakusan.samplers.base import AnyModel, Noise, Sampler, State
from kakusan.shapes import Times, scaled

MIDWAY: dict[int, tuple[float, ...]] = {2: (1.2,), 3: (2.0, 0.5), 4: (2.0, 0.8, 0.3)}
"""sigma = b / a of all calls but the first, by their number, as measured (docs/samplers.md); the paper has 0.82."""


@dataclass(frozen=True, kw_only=True)
class Consistency(Sampler):
    """x_s = a_s x_0 + b_s z, the guessed sample with fresh noise: for models of `kakusan distill`, in 1 to 4 calls.

    The first is made at T, or at T - 1 where nothing of the data is left at T; up to 4 have levels of their own,
    unless times or a spacing are chosen. Guesses of other models are means, no samples, and these lose by it.
    """

    has_own_times: ClassVar[bool] = True

    steps: int | None = 2

    def times(self, path: Path) -> tuple[float | int, ...]:
        usual = super().times(path)
        steps = len(usual) - 1
        if self.at is not None or self.spacing is not None or (steps > 1 and steps not in MIDWAY):
            return usual
        start = path.T - 1 if ends_in_pure_noise(path) and path.T > 1 else path.T
        levels = -torch.tensor(MIDWAY.get(steps, ()), dtype=torch.float64).log()
        reaches = path.half_log_snr(torch.tensor([start, 1], dtype=torch.float64))
        if not (
            (levels > reaches[0]) & (levels < reaches[1])
        ).all():  # few times, or little noise at all of them
            return usual
        return (start, *path.time_at(levels).tolist(), 0)

    def step(self, model: AnyModel, state: State, t: Times, s: Times, noise: Noise) -> State:
        guess = model.predict(state.x, t, state.condition)
        a_s, b_s = model.path.at(s)
        x_s = scaled(a_s, guess.x_0)
        return state.then(x_s + scaled(b_s, noise()) if (s > 0).any() else x_s, guess, t)
