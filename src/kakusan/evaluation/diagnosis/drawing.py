"""Samples of a run to be compared with its data, drawn as usual or with one thing changed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kakusan.data.space import noun_of
from kakusan.data.units import Levels
from kakusan.evaluation.diagnosis.colours import Compared, Scale, spread_of
from kakusan.run import Loaded, Run, usual_sampler
from kakusan.samplers import Origin, Sampler, sample
from kakusan.shapes import Samples
from kakusan.training.prepare import Prepared
from kakusan.training.validation import spread

FEWEST_HELD_OUT = 64
"""Images, below which training images stand for the data: they have the same law, and are more."""
REFERENCES = 1024
"""Real images, at the most, where no more samples are drawn."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """A sampling that can be repeated: image k has the same noise, and is given the condition of real image k."""

    run: Run
    loaded: Loaded
    prepared: Prepared
    count: int
    seed: int = 0
    progress: Callable[[float, str], None] = lambda _, __: None

    @property
    def sampler(self) -> Sampler:
        """DDIM in 50 steps, or in T where there are fewer."""
        return usual_sampler(self.loaded.settings)

    @property
    def T(self) -> int:
        return self.loaded.model.path.T

    def samples(
        self,
        words: str = "sampling",
        *,
        count: int | None = None,
        loaded: Loaded | None = None,
        sampler: Sampler | None = None,
        from_data: bool = False,
    ) -> Samples:
        """The first samples, in the network's units. Each argument is the one thing that is changed.

        from_data: start from real images dissolved up to T rather than from pure noise.
        """
        loaded, count = self.loaded if loaded is None else loaded, self.count if count is None else count
        real = spread(real_images(self.prepared)[0], self.count)
        condition = self.prepared.dataset.condition(real)
        origin = None
        if from_data:
            origin = Origin(self.prepared.dataset.x_0(real[np.arange(count) % len(real)]), self.T)
        given = self.run.condition() if condition is None else condition
        request = self.run.request(loaded, given, count=count, seed=self.seed, origin=origin)
        chosen = self.sampler if sampler is None else sampler
        return sample(
            loaded.model, chosen, request, lambda share, _: self.progress(share, words), keep_on="cpu"
        )

    def in_steps(self, steps: int) -> Sampler:
        """The usual sampler in another number of steps."""
        return replace(self.sampler, steps=steps)


def real_images(prepared: Prepared) -> tuple[NDArray[np.int64], str]:
    """The held-out images, or the training images where too few are held out; and which of the two."""
    split, many = prepared.split, noun_of(prepared.dataset.shape).many
    if len(split.held_out) >= FEWEST_HELD_OUT:
        return split.held_out, f"held-out {many}"
    return split.training, f"training {many}"


def compared(samples: Samples, prepared: Prepared) -> Compared:
    """Samples, in the network's units, beside real images, both in the data's units."""
    places, of_data = real_images(prepared)
    dataset = prepared.dataset
    data = dataset.gather(spread(places, max(REFERENCES, len(samples))))
    scale = Scale.of(dataset.units, data)
    values: NDArray[Any] = dataset.units.decode(samples)
    is_levels = isinstance(dataset.units, Levels)
    return Compared(spread_of(values, scale), spread_of(data, scale), scale, is_levels, of_data)
