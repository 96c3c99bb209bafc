"""Images of a seed: image k is the same image whatever the count, the order and the split over commands.

The work is done in micro-batches of one fixed shape, a multiple of 16, since then a network's output for an image
does not depend on its slot or its neighbours. A last, smaller micro-batch is padded with `exact` only; without it
the images in it may differ in the last bit from those of a larger count.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.forward import q_marginal
from kakusan.diffusion.paths import Path
from kakusan.errors import SettingsError
from kakusan.samplers.base import AnyModel, Sampler
from kakusan.samplers.walk import SeededNoise, Snapshot, visited, walk
from kakusan.shapes import Labels, Samples, times_like

MOST_NUMBERS = 1 << 62
"""Numbers are int64; this leaves room for what pads a micro-batch."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which images are wanted: numbers first, ..., first + count - 1 of a seed.

    label: one class for all of them, or several in turn: image k is of class label[k % len(label)].
    """

    count: int
    shape: tuple[int, int, int]
    seed: int = 0
    first: int = 0
    label: int | tuple[int, ...] | None = None
    micro_batch: int = 64
    exact: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.count < 1 or self.first < 0:
            raise SettingsError(
                f"a sampling needs a count of at least 1 from number 0 on, not {self.count} from {self.first}"
            )
        if self.first + self.count > MOST_NUMBERS:
            raise SettingsError(f"images are numbered below 2^62, not up to {self.first + self.count - 1}")
        if self.micro_batch < 16 or self.micro_batch % 16:
            raise SettingsError(f"a sampling's micro-batch is a multiple of 16, not {self.micro_batch}")


@dataclass(frozen=True)
class Drawn:
    """A moment of a sampling: which of the ordered images (offsets from the first), and where their walk stands."""

    offsets: range
    still: Snapshot
    done: float  # share of the whole order


@dataclass(frozen=True, eq=False)
class Origin:
    """Images that a sampling starts from, each with noise added up to time t (SDEdit, Meng et al. 2022)."""

    images: Samples
    t: int

    def noised(self, path: Path, noises: SeededNoise, rows: torch.Tensor) -> Snapshot:
        """x_t of some of them. The noise that would be x_T if there were no images is that in x_t."""
        noise = noises.start()
        x_0 = self.images.to(noise)[rows.to(noise.device)]
        return Snapshot(self.t, q_marginal(path, x_0, times_like(self.t, x_0)).reparametrize(noise))


def draw(
    model: AnyModel | Denoiser, sampler: Sampler, order: Order, origin: Origin | None = None
) -> Iterator[Drawn]:
    """Sample an order, micro-batch by micro-batch; each still is shown. A still with t = 0 holds finished images."""
    if origin is not None and tuple(origin.images.shape) != (order.count, *order.shape):
        raise ValueError(
            f"images to start from have shape {tuple(origin.images.shape)}, not {(order.count, *order.shape)}"
        )
    steps = len(visited(sampler, model.path, None if origin is None else origin.t)) - 1
    for begin in range(0, order.count, order.micro_batch):
        kept = min(order.micro_batch, order.count - begin)
        places = torch.arange(order.micro_batch if order.exact else kept, device=order.device) + begin
        indices = places + order.first
        noises = SeededNoise(order.seed, indices, order.shape)
        start = None
        if origin is not None:
            start = origin.noised(model.path, noises, places.clamp(max=order.count - 1))
        stills = walk(sampler, model, noises, _condition(order.label, indices), start=start)
        for step, still in enumerate(stills):
            shown = Snapshot(still.t, still.x[:kept], None if still.x_0 is None else still.x_0[:kept])
            yield Drawn(range(begin, begin + kept), shown, (begin + kept * step / steps) / order.count)


def _condition(label: int | tuple[int, ...] | None, indices: torch.Tensor) -> Labels | None:
    if label is None:
        return None
    turn = torch.tensor(label if isinstance(label, tuple) else (label,), device=indices.device)
    return turn[indices % len(turn)]


def sample(
    model: AnyModel | Denoiser,
    sampler: Sampler,
    *,
    count: int,
    shape: tuple[int, int, int],
    seed: int = 0,
    first: int = 0,
    label: int | tuple[int, ...] | None = None,
    micro_batch: int = 64,
    exact: bool = False,
    device: str = "cpu",
    origin: Origin | None = None,
    watch: Callable[[float], None] = lambda _: None,
) -> Samples:
    """Images number first, ..., first + count - 1 of a seed, in the network's units. Algorithm 2.

    origin: images to start from; watch: called with the share that is done after each step.
    Raises SettingsError for a micro_batch that is no multiple of 16, or more steps than the schedule has.
    """
    order = Order(
        count=count,
        shape=shape,
        seed=seed,
        first=first,
        label=label,
        micro_batch=micro_batch,
        exact=exact,
        device=device,
    )
    finished = []
    for drawn in draw(model, sampler, order, origin):
        watch(drawn.done)
        if drawn.still.t == 0:
            finished.append(drawn.still.x)
    return torch.cat(finished)
