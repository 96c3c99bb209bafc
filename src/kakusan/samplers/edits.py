"""Edits of images by a model: variations, from a noise level on; x_T by inversion, and back; what lies between two.

All are samplings with another start, requested as any: image k of a seed is the same whatever the count.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from kakusan.diffusion.paths import Path
from kakusan.errors import SettingsError
from kakusan.samplers.base import AnyModel, Sampler
from kakusan.samplers.ddim import DDIM
from kakusan.samplers.inversion import invert, slerp
from kakusan.samplers.sampling import Latents, Origin, SamplingRequest, given_in, sample
from kakusan.samplers.walk import SeededNoise, Snapshot
from kakusan.shapes import Samples

Made: TypeAlias = Float[Tensor, "made channels *space"]
"""Samples, in another number than those that they are made of."""
Progress = Callable[[float, str], None]


def start_of(sampler: Sampler, path: Path, strength: float | int) -> float | int | None:
    """The time from which an edit of this strength repeats the walk; None for strength 0: from nowhere.

    strength: the share of the steps that is repeated, rounded down, as in diffusers: of 50 steps with 0.6 the last 30.
    Raises SettingsError outside of 0 to 1, and for less than a step.
    """
    if not 0 <= strength <= 1:
        raise SettingsError(
            f"the strength of an edit is 0 to 1, not {strength}", "0 keeps the image, 1 forgets it"
        )
    times = sampler.times(path)
    steps = len(times) - 1
    repeated = math.floor(
        steps * strength + 1e-9
    )  # 0.29 of 100 steps are 29, and 28.999... in floating point
    if strength and not repeated:
        raise SettingsError(
            f"strength {strength} of {steps} steps is not a whole one",
            f"take {1 / steps:.2g} or more, or more steps",
        )
    return times[steps - repeated] if repeated else None


def variation_of(
    images: Samples, strength: float | int, sampler: Sampler, path: Path, request: SamplingRequest
) -> SamplingRequest | None:
    """The request of images that have noise added and are walked on from there (SDEdit, Meng et al. 2022).

    Sample k of the request is of image k % len(images). strength: see `start_of`; 0: None, the images stay as they are.
    1: all steps, from noise alone, so that images are forgotten, and samples are those of their numbers.
    """
    t = start_of(sampler, path, strength)
    if t is None:
        return None
    given = in_turn(images, request.count).nan_to_num(0)
    return replace(request, origin=None if strength == 1 else Origin(given, t))


def in_turn(images: Samples, count: int) -> Made:
    """So many: image k % len(images) at place k."""
    return images[torch.arange(count) % len(images)]


def inverted(
    model: AnyModel,
    sampler: Sampler,
    request: SamplingRequest,
    images: Samples,
    rounds: int = 1,
    progress: Progress = lambda _, __: None,
) -> Latents:
    """The noise that DDIM makes these images of, at the first time of the sampler: `invert`, in micro-batches.

    request: of as many images. Raises SettingsError for a sampler other than DDIM without fresh noise.
    """
    if not isinstance(sampler, DDIM) or sampler.eta:
        raise SettingsError(
            "an inversion is that of DDIM without fresh noise", "take the sampler ddim with eta 0"
        )
    times = sampler.times(model.path)
    size, found = request.micro_batch, []
    for begin in range(0, len(images), size):
        part = images[begin : begin + size].nan_to_num(0).to(request.device)
        places = torch.arange(begin, begin + len(part), device=request.device) + request.first
        still = Snapshot(0, part)
        for step, still in enumerate(
            invert(model, part, times, given_in(request.condition, places), rounds=rounds)
        ):
            done = (begin + len(part) * step / (len(times) - 1)) / len(images)
            progress(done, f"t = {still.t}")
        found.append(still.x.cpu())
    return Latents(torch.cat(found), times[0])


def drawn_from(
    model: AnyModel,
    sampler: Sampler,
    request: SamplingRequest,
    latents: Latents,
    progress: Progress = lambda _, __: None,
) -> Samples:
    """The samples to which the walk leads from here, as many as there are."""
    request = replace(request, count=len(latents.images), origin=latents)
    return sample(model, sampler, request, progress, keep_on="cpu")


def noise_of(model: AnyModel, sampler: Sampler, request: SamplingRequest, seeds: Sequence[int]) -> Latents:
    """x_T of the image number `first` of each of these seeds."""
    number = torch.tensor([request.first])
    noise = [SeededNoise(seed, number, request.shape).start() for seed in seeds]
    return Latents(model.path.x_T(torch.cat(noise)), sampler.times(model.path)[0])


def between(ends: Latents, frames: int) -> Latents:
    """Latents on the arc between two, which are its ends (`slerp`). Raises SettingsError for fewer than 2 frames."""
    if frames < 2:
        raise SettingsError(
            f"between two images there are 2 frames or more, not {frames}", "such as 9 frames"
        )
    a, b = ends.images[:1], ends.images[1:2]
    return Latents(slerp(a, b, [i / (frames - 1) for i in range(frames)]), ends.t)


@dataclass(frozen=True, eq=False)
class Inversion:
    """Images, the noise that DDIM makes of them, and what it makes of that on the way back."""

    images: Samples
    latents: Latents
    back: Samples

    def __repr__(self) -> str:
        return f"<Inversion of {tuple(self.images.shape)}: {self.latents}>"
