"""Samplers: ways from noise to image. One paper a file; a new one is a class and a line in `SAMPLERS`."""

from typing import Any

from kakusan.config.settings import named
from kakusan.errors import SettingsError
from kakusan.samplers.ancestral import Ancestral
from kakusan.samplers.base import SPACINGS, Sampler, State
from kakusan.samplers.ddim import DDIM
from kakusan.samplers.sampling import Drawn, Origin, SamplingRequest, draw, of_classes, sample
from kakusan.samplers.walk import NoiseSource, SeededNoise, Snapshot, visited, walk

SAMPLERS: dict[str, type[Sampler]] = {"ancestral": Ancestral, "ddim": DDIM}


def sampler_named(name: str, T: int, setting: str = "--sampler", **options: Any) -> Sampler:
    """The sampler of this name with those of the options that are not None; its usual number of steps, or T if fewer.

    Raises SettingsError for a name that is not in the table, and for an option that the sampler lacks.
    """
    kind = named(SAMPLERS, name, setting)
    given = {key: value for key, value in options.items() if value is not None}
    if unknown := set(given) - set(kind.__dataclass_fields__):
        raise SettingsError(f"the {name} sampler has no --{min(unknown)}")
    if kind.usual_steps() is not None:
        given.setdefault("steps", min(kind.usual_steps(), T))
    sampler: Sampler = kind(**given)
    return sampler


def as_sampler(sampler: object, T: int) -> Sampler:
    """The sampler itself, or the one of this name in its usual number of steps. Raises TypeError for other things."""
    if isinstance(sampler, str):
        return sampler_named(sampler, T, "sampler")
    if not isinstance(sampler, Sampler):
        names = ", ".join(SAMPLERS)
        raise TypeError(f"a sampler is DDIM(steps=50), Ancestral() or a name ({names}), not {sampler!r}")
    return sampler


__all__ = [
    "DDIM",
    "SAMPLERS",
    "SPACINGS",
    "Ancestral",
    "Drawn",
    "NoiseSource",
    "Origin",
    "Sampler",
    "SamplingRequest",
    "SeededNoise",
    "Snapshot",
    "State",
    "as_sampler",
    "draw",
    "of_classes",
    "sample",
    "sampler_named",
    "visited",
    "walk",
]
