"""Samplers: ways from noise to image. One paper a file; a new one is a class and a line in `SAMPLERS`."""

from typing import Any

from kakusan.config.settings import named
from kakusan.errors import SettingsError
from kakusan.samplers.adams_bashforth import AdamsBashforth
from kakusan.samplers.ancestral import Ancestral
from kakusan.samplers.base import Sampler, State
from kakusan.samplers.consistency import Consistency
from kakusan.samplers.ddim import DDIM
from kakusan.samplers.dpmpp import DPMpp2M, DPMpp3M, DPMppSDE2M
from kakusan.samplers.edits import Inversion
from kakusan.samplers.inversion import invert, slerp
from kakusan.samplers.ipndm import IPNDM
from kakusan.samplers.karras import EDMSampler, Heun
from kakusan.samplers.sa_solver import SASolver
from kakusan.samplers.sampling import (
    Drawn,
    Latents,
    Moment,
    Origin,
    Recorder,
    SamplingRequest,
    draw,
    of_classes,
    sample,
    spread_over,
)
from kakusan.samplers.spacings import SPACINGS
from kakusan.samplers.unipc import UniPC
from kakusan.samplers.walk import NoiseSource, SeededNoise, Snapshot, visited, walk

SAMPLERS: dict[str, type[Sampler]] = {
    "ancestral": Ancestral,
    "ddim": DDIM,
    "dpmpp-2m": DPMpp2M,
    "dpmpp-3m": DPMpp3M,
    "dpmpp-sde-2m": DPMppSDE2M,
    "unipc": UniPC,
    "sa-solver": SASolver,
    "adams-bashforth": AdamsBashforth,
    "ipndm": IPNDM,
    "heun": Heun,
    "edm": EDMSampler,
    "consistency": Consistency,
}


def sampler_named(name: str, T: int, setting: str = "sampler", **options: Any) -> Sampler:
    """The sampler of this name with those of the options that are not None; its usual number of steps, or T if fewer.

    Raises SettingsError for a name that is not in the table, and for an option that the sampler lacks.
    """
    kind = named(SAMPLERS, name, setting)
    given = {key: value for key, value in options.items() if value is not None}
    if unknown := set(given) - set(kind.__dataclass_fields__):
        raise SettingsError(f"the {name} sampler has no option {min(unknown)!r}")
    if kind.usual_steps() is not None and "at" not in given:
        given.setdefault("steps", min(kind.usual_steps(), T))
    sampler: Sampler = kind(**given)
    return sampler


def as_sampler(sampler: object, T: int) -> Sampler:
    """The sampler itself, or the one of this name in its usual number of steps. Raises TypeError for other things."""
    if isinstance(sampler, str):
        return sampler_named(sampler, T, "sampler")
    if not isinstance(sampler, Sampler):
        names = ", ".join(SAMPLERS)
        raise TypeError(f"a sampler is a value such as DDIM(steps=50), or a name ({names}), not {sampler!r}")
    return sampler


def name_of(sampler: Sampler) -> str:
    """The name in `SAMPLERS`, as the command line has it, or that of the class of a sampler that is not there."""
    names = {kind: name for name, kind in SAMPLERS.items()}
    return names.get(type(sampler), type(sampler).__name__)


__all__ = [
    "DDIM",
    "IPNDM",
    "SAMPLERS",
    "SPACINGS",
    "AdamsBashforth",
    "Ancestral",
    "Consistency",
    "DPMpp2M",
    "DPMpp3M",
    "DPMppSDE2M",
    "Drawn",
    "EDMSampler",
    "Heun",
    "Inversion",
    "Latents",
    "Moment",
    "NoiseSource",
    "Origin",
    "Recorder",
    "SASolver",
    "Sampler",
    "SamplingRequest",
    "SeededNoise",
    "Snapshot",
    "State",
    "UniPC",
    "as_sampler",
    "draw",
    "invert",
    "name_of",
    "of_classes",
    "sample",
    "sampler_named",
    "slerp",
    "spread_over",
    "visited",
    "walk",
]
