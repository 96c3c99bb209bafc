"""Images of a seed: image k is the same image whatever the count, the order and the split over commands.

The work is done in micro-batches of one fixed shape, a multiple of 16, since then a network's output for an image
does not depend on its slot or its neighbours. A last, smaller micro-batch is padded with `exact` only; without it
the images in it may differ in the last bit from those of a larger count.
Moments of a sampling are kept as they pass by (`Recorder`): what a film is made of, without a second sampling.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import torch

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.paths import Path
from kakusan.errors import SettingsError
from kakusan.samplers.base import AnyModel, Sampler
from kakusan.samplers.walk import SeededNoise, Snapshot, visited, walk
from kakusan.shapes import Condition, Samples, times_like, with_gaps

MOST_NUMBERS = 1 << 62
"""Numbers are int64; this leaves room for what pads a micro-batch."""


@dataclass(frozen=True, eq=False)
class Origin:
    """Images that a sampling starts from, each with noise added up to time t (SDEdit, Meng et al. 2022)."""

    images: Samples
    t: float | int

    def start(self, path: Path, noises: SeededNoise, rows: torch.Tensor) -> Snapshot:
        """x_t of some of them. The noise that would be x_T if there were no images is that in x_t."""
        noise = noises.start()
        x_0 = self.images.to(noise)[rows.to(noise.device)]
        return Snapshot(self.t, q_marginal(path, x_0, times_like(self.t, x_0)).reparametrize(noise))


@dataclass(frozen=True, eq=False)
class Latents:
    """x_t that a sampling goes on from as they are: those of an inversion, or what lies between two of them."""

    images: Samples
    t: float | int

    def __repr__(self) -> str:
        return f"<Latents {tuple(self.images.shape)} at t = {self.t:g}>"

    def start(self, path: Path, noises: SeededNoise, rows: torch.Tensor) -> Snapshot:  # noqa: ARG002
        """x_t of some of them."""
        device = noises.indices.device
        return Snapshot(self.t, self.images.to(device)[rows.to(device)])


@dataclass(frozen=True, kw_only=True, eq=False)
class SamplingRequest:
    """Images number first, ..., first + count - 1 of a seed.

    Raises SettingsError for counts, numbers and micro-batches that cannot be, ValueError for an origin of other shape.
    """

    count: int
    shape: tuple[int, ...]
    """(channels, height, width)."""
    seed: int = 0
    first: int = 0
    condition: Condition | None = None
    """Conditions of the samples, in turn: image k is given row k % len(condition)."""
    micro_batch: int = 64
    """Images that go through the network at once, a multiple of 16."""
    exact: bool = False
    """The same to the last bit for any count: the last micro-batch is padded."""
    device: str = "cpu"
    origin: Origin | Latents | None = None
    """Images or x_t to start from, one for each."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.first < 0:
            raise SettingsError(
                f"a sampling needs a count of at least 1 from number 0 on, not {self.count} from {self.first}"
            )
        if self.first + self.count > MOST_NUMBERS:
            raise SettingsError(f"images are numbered below 2^62, not up to {self.first + self.count - 1}")
        if self.micro_batch < 16 or self.micro_batch % 16:
            raise SettingsError(f"a sampling's micro-batch is a multiple of 16, not {self.micro_batch}")
        if self.origin is not None and tuple(self.origin.images.shape) != (self.count, *self.shape):
            raise ValueError(
                f"images to start from have shape {tuple(self.origin.images.shape)}, not {(self.count, *self.shape)}"
            )


@dataclass(frozen=True)
class Drawn:
    """A moment of a sampling: which of the requested images (offsets from the first), and where their walk stands."""

    offsets: range
    still: Snapshot
    done: float  # share of the whole request


def draw(model: AnyModel | Denoiser, sampler: Sampler, request: SamplingRequest) -> Iterator[Drawn]:
    """Sample what is requested, micro-batch by micro-batch; each still is yielded. Those with t = 0 are done.

    Values that a mask hides are nan in what is yielded.
    """
    origin, count, size = request.origin, request.count, request.micro_batch
    steps = len(visited(sampler, model.path, None if origin is None else origin.t)) - 1
    for begin in range(0, count, size):
        kept = min(size, count - begin)
        places = torch.arange(size if request.exact else kept, device=request.device) + begin
        indices = places + request.first
        noises = SeededNoise(request.seed, indices, request.shape)
        start = None
        if origin is not None:
            start = origin.start(model.path, noises, places.clamp(max=count - 1))
        given = given_in(request.condition, indices)
        stills = walk(sampler, model, noises, given, start=start)
        for step, still in enumerate(stills):
            shown = _shown(still, kept, given)
            yield Drawn(range(begin, begin + kept), shown, (begin + kept * step / steps) / count)


def _shown(still: Snapshot, kept: int, given: Condition | None) -> Snapshot:
    """The first samples of a still, nan where their mask says that nothing is there."""
    mask = None if given is None or given.mask is None else given.mask[:kept]
    x_0 = None if still.x_0 is None else with_gaps(still.x_0[:kept], mask)
    return Snapshot(still.t, with_gaps(still.x[:kept], mask), x_0)


def given_in(condition: Condition | None, indices: torch.Tensor) -> Condition | None:
    """The rows of a condition that images of these numbers are given, on their device."""
    return None if condition is None else condition.to(indices.device).rows(indices % len(condition))


def of_classes(label: int | tuple[int, ...] | None) -> Condition | None:
    """The condition of one class, or of several in turn."""
    if label is None:
        return None
    return Condition(label=torch.tensor(label if isinstance(label, tuple) else (label,)))


def sample(
    model: AnyModel | Denoiser,
    sampler: Sampler,
    request: SamplingRequest,
    progress: Callable[[float, str], None] = lambda _, __: None,
    *,
    keep_on: str | None = None,
    watch: Callable[[Drawn], None] = lambda _: None,
) -> Samples:
    """The requested images, in the network's units, nan where a mask hides a value. Algorithm 2.

    progress: called after each step with the share that is done and the time t. keep_on: the device on which images
    that are done wait for the others; None: their own. watch: called with each moment, in the order of `draw`.
    Raises SettingsError for more steps than the schedule has.
    """
    finished = []
    for drawn in draw(model, sampler, request):
        progress(drawn.done, f"t = {drawn.still.t}")
        watch(drawn)
        if drawn.still.t == 0:
            finished.append(drawn.still.x.to(keep_on or drawn.still.x.device))
    return torch.cat(finished)


@dataclass(frozen=True)
class Moment:
    """x_t of some samples, and the prediction of x_0 with which the sampler goes on; at t = 0 both are the sample.

    It is that made of x_t itself, but where a step asks twice or corrects itself (Heun, EDM, UniPC, SA-Solver): then
    the newest.
    """

    t: float | int
    x: Samples
    x_0: Samples


def spread_over(moments: int, count: int) -> list[int]:
    """So many places of a walk of so many moments, evenly spread, the first and the last among them.

    Raises SettingsError for more than there are, and for fewer than 2.
    """
    if not 2 <= count <= moments:
        raise SettingsError(
            f"a walk of {moments - 1} steps has {moments} moments to show, from noise to sample, not {count}",
            f"take 2 to {moments} frames, or another number of steps",
        )
    return [round(i * (moments - 1) / (count - 1)) for i in range(count)]


@dataclass
class Recorder:
    """Keeps the first `count` samples at these places of their walk, on the CPU: the watcher of a `sample`."""

    count: int
    places: Collection[int]
    """From 0, x_T, to the number of steps, the sample."""
    _kept: dict[int, list[Moment]] = field(default_factory=dict)
    _before: Drawn | None = None
    _place: int = -1

    def __call__(self, drawn: Drawn) -> None:
        """Look at a moment. What was seen one step before is kept now: only this step brings its prediction."""
        before = self._before
        is_same = before is not None and before.offsets == drawn.offsets
        if before is not None and is_same and drawn.still.x_0 is not None:
            self._keep(before, drawn.still.x_0)
        self._place = self._place + 1 if is_same else 0
        self._before = drawn
        if drawn.still.t == 0:
            self._keep(drawn, drawn.still.x)

    def _keep(self, drawn: Drawn, x_0: Samples) -> None:
        rows = self.count - drawn.offsets.start
        if rows > 0 and self._place in self.places:
            moment = Moment(drawn.still.t, drawn.still.x[:rows].cpu(), x_0[:rows].cpu())
            self._kept.setdefault(self._place, []).append(moment)

    def moments(self) -> Iterator[Moment]:
        """All samples together at each of the places, from noise to sample."""
        for _, parts in sorted(self._kept.items()):
            x, x_0 = (torch.cat([getattr(part, name) for part in parts]) for name in ("x", "x_0"))
            yield Moment(parts[0].t, x, x_0)
