"""Samples of a run given what was measured, with their moments, their misfit and the warnings in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kakusan.config.settings import Layout
from kakusan.data.saving import in_layout
from kakusan.data.units import Levels, Units, scale_and_mean
from kakusan.errors import SettingsError
from kakusan.operators import Fourier
from kakusan.posterior import Measurement
from kakusan.posterior.misfit import Misfit, loudest, misfit, moved_within, one_sided
from kakusan.posterior.noise import Gaussian
from kakusan.run.truth import BesideTruth, beside
from kakusan.shapes import Samples

FEWEST = 1.5
"""Effective particles, in the mean over samples, below which a filter has hardly chosen."""
ZEROS = 0.1
"""Share of frequencies that are exactly 0 from which on it is told; the imaginary parts of a few always are."""
OF_METHODS = {
    "diffpir": "; its weight says how near to y it keeps",
    "dps": "; it does not look at the size of the noise, and its step size says how near to y it keeps",
}
"""More words on a misfit, of methods that have a reason of their own for it."""
OF_CHAINS = 0.25
"""Share of the chains of split Gibbs below which modes have doubtful shares: mixtures whose intervals of 90 %
hold have 0.38 and 0.40, one of 800 dimensions whose hold 55 % has 0.2 (docs/restore.md)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """Samples given y, as a run drew them: `Run.restore` makes one."""

    run: str
    """Name of the run."""
    units: Units
    layout: Layout
    """Axes of arrays, as of the data."""
    measurement: Measurement
    """n of them, in the network's units."""
    samples: Samples
    """(n, count, channels, *space), in the network's units; nan where there is no value."""
    truth: Samples | None = None
    """(n, channels, *space), where it is known."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """All that it takes to draw them again, as plain values."""
    doubts: Sequence[str] = ()
    """Warnings that were there before any was drawn."""

    def __repr__(self) -> str:
        n, count = self.samples.shape[:2]
        return f"<Posterior of {self.run}: {count} samples of each of {n} measurements>"

    @cached_property
    def misfit(self) -> Misfit:
        """Of all samples, before levels are rounded; missing values count as the mean of the data."""
        return misfit(self.measurement, self.samples)

    @property
    def words(self) -> tuple[str, ...]:
        """What was found, in sentences: the noise where it was fitted, how well the samples fit y, and the warnings."""
        fitted = self.about.get("fitted_noise")
        found = [fitted["words"] if fitted else self._share_in_words]
        found += [self.misfit_in_words, self.particles_in_words]
        found += [self.beside_truth.words] if self.beside_truth else []
        return tuple(dict.fromkeys(words for words in (*found, *self.warnings) if words))

    @property
    def _share_in_words(self) -> str:
        """The deviation of a noise that was named as a share, in the units of y; else nothing."""
        named, law = str(self.about.get("noise")), self.measurement.law
        if not named.endswith("%") or not isinstance(law, Gaussian):
            return ""
        return (
            f"noise of {named} is a deviation of {float(torch.as_tensor(law.sigma)):.4g}, in the units of y"
        )

    @cached_property
    def beside_truth(self) -> BesideTruth | None:
        """How near the samples are to the truth, levels as they are saved; None where it is not known."""
        if self.truth is None:
            return None
        truth = in_layout(self.units.decode(self.truth.cpu()), self.layout)
        return beside(self.decode(), truth, self.units.levels if isinstance(self.units, Levels) else None)

    @property
    def particles_in_words(self) -> str:
        """How many particles were effective, of methods that have any; else nothing."""
        if self.effective is None:
            return ""
        return (
            f"{self.effective:.1f} of {self.about['options']['particles']} particles of a sample were effective where"
            " they were fewest"
        )

    @property
    def effective(self) -> float | None:
        """The least effective number of particles on the way to a sample, in the mean of all; None: there are none."""
        found = self.about.get("effective_particles")
        return None if found is None else float(np.mean(found))

    @property
    def _few_particles(self) -> str:
        if self.effective is None or (particles := self.about["options"]["particles"]) == 1:
            return ""
        if self.effective >= FEWEST:
            if self.about["method"] != "gibbs" or self.effective >= OF_CHAINS * particles:
                return ""
            return (
                f"less than a quarter of the {particles} chains were effective: modes far apart may have wrong shares,"
                " and the spread may be too narrow; take more particles or iterations"
            )
        return (
            "the weights of the particles rest on hardly more than one at some step, and the spread may be wrong: take"
            " more steps or particles"
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on why the samples may be wrong: what was known before they were drawn, and what they show."""
        found = (
            *self.doubts,
            self._misfit_of_method,
            self._loudest,
            self._to_one_side,
            self._zeros,
            self._beyond_levels,
            self._few_particles,
        )
        return tuple(words for words in found if words)

    @property
    def _misfit_of_method(self) -> str:
        words = self.misfit.words
        return words + OF_METHODS.get(str(self.about.get("method")), "") if words else ""

    @cached_property
    def _to_one_side(self) -> str:
        """A warning where y less A(x) is as large as noise, but its mean is not that of noise, as of y in other units
        whose noise was fitted."""
        mean = 0.0 if self.misfit.words else one_sided(self.measurement, self.samples)
        return (
            f"what is left of y lies to one side, by {mean:+.2g} deviations of the noise in the mean: y may be in other"
            " units than the data, or of another operator"
            if mean
            else ""
        )

    @cached_property
    def _zeros(self) -> str:
        """A warning where frequencies that count as measured are exactly 0, as in a file of which a part was not."""
        y, known = self.measurement.y, self.measurement.known
        zeros, count = int(((y == 0) & known).sum()), int(known.sum())
        if not isinstance(self.measurement.operator, Fourier) or zeros <= ZEROS * count:
            return ""
        return (
            f"{zeros:,} of {count:,} values of y that count as measured are exactly 0: the mask may have frequency 0 in"
            " the middle, where here it is first (numpy.fft.ifftshift brings it there); nan says what was not measured"
        )

    @cached_property
    def misfit_in_words(self) -> str:
        """Chi-square by degree of freedom in a line; of what was measured exactly, whether samples keep it as saved."""
        found = self.misfit
        if found.degrees.any() or not found.is_kept or not isinstance(self.units, Levels):
            return found.line
        saved = self.units.encode(self.units.decode(self.samples.nan_to_num(0).flatten(0, 1)))
        rounded = misfit(self.measurement, saved.view_as(self.samples))
        if rounded.is_kept:
            return found.line
        return (
            f"{found.line} before rounding: of samples as levels, A(x) is up to {rounded.off.max():.3g} away"
        )

    @cached_property
    def _loudest(self) -> str:
        """A warning where a few values of y make up the misfit: codes of missing values, or dead pixels."""
        if not self.misfit.degrees.any():
            return ""
        count, value = loudest(self.measurement, self.samples)
        if not count:
            return ""
        return (
            f"the misfit is that of {count:,} of {int(self.measurement.known.sum()):,} values of y, most of all of"
            f" {value:g}: if that is no measured value, nan says so"
        )

    @cached_property
    def _beyond_levels(self) -> str:
        """A warning where samples leave the range of the levels to fit y."""
        if not isinstance(self.units, Levels):
            return ""
        top = self.units.levels - 1
        moved, share = moved_within(self.measurement, self.samples.nan_to_num(0), 2 / top)
        if not share:
            return ""
        return (
            f"samples leave the levels 0 to {top} to fit y: kept within, as they are saved, A(x) moves by up to"
            f" {moved:.3g}, beyond the noise at {max(100 * share, 1):.0f} % of the values; y may be in other units, or"
            " hold what levels cannot give"
        )

    def as_json(self) -> dict[str, Any]:
        """All of `about`, with how well the samples fit y, and the warnings."""
        found = self.misfit
        return {
            **self.about,
            "misfit": {"chi_square": found.chi_square.tolist(), "degrees": found.degrees.tolist()},
            **({"beside_truth": self.beside_truth.as_json()} if self.beside_truth else {}),
            "words": list(self.words),
            "warnings": list(self.warnings),
        }

    def truth_of(self, k: int) -> Samples | None:
        """(1, channels, *space)."""
        return None if self.truth is None else self.truth[k : k + 1].cpu()

    def decode(self) -> NDArray[Any]:
        """The samples in the units and axes of the data, (n, count, ...): levels are whole numbers, uint8."""
        flat = in_layout(self.units.decode(self.samples.flatten(0, 1)), self.layout)
        return flat.reshape(*self.samples.shape[:2], *flat.shape[1:])

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of the samples of each measurement, in the units and axes of the data, (n, ...).

        Levels are neither rounded before nor kept within their range, as those that `decode` gives are.
        """
        return self._in_data(self.samples.double().mean(1))

    @property
    def deviation(self) -> NDArray[np.float64]:
        """Of the samples of each measurement, likewise; nan of a single sample."""
        return self._in_data(deviation_of(self.samples, 1), is_spread=True)

    def quantile(self, share: float | int) -> NDArray[np.float64]:
        """A quantile of the samples, from 0 to 1, likewise: 0.05 and 0.95 hold nine tenths between them.

        Raises SettingsError for any other share, and for several.
        """
        given: object = share
        if not isinstance(given, Real) or not 0 <= float(given) <= 1:
            raise SettingsError(
                f"the share of a quantile is one number from 0 to 1, not {given!r}",
                "several are asked for one by one",
            )
        return self._in_data(self.samples.double().quantile(float(share), dim=1))

    def _in_data(self, x: Samples, *, is_spread: bool = False) -> NDArray[np.float64]:
        scale, mean = (torch.as_tensor(v, dtype=torch.float64) for v in scale_and_mean(self.units))
        laid = [v.view(-1, *[1] * (x.ndim - 2)) if v.ndim else v for v in (scale, mean)]
        values = x * laid[0] + (0 if is_spread else laid[1])
        found: NDArray[np.float64] = in_layout(values.movedim(1, -1).numpy(), self.layout)
        return found


def deviation_of(samples: Samples, dim: int) -> Samples:
    """Of samples along this axis, float64; nan of a single one, without torch's warning."""
    x = samples.double()
    return x.std(dim) if x.shape[dim] > 1 else torch.full_like(x.select(dim, 0), float("nan"))
