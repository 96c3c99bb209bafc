"""What a run can be told: one frozen typed tree. Every field is a flag of its dotted name
(`config/loading.py` reads them).

"auto" (TOML has no null) means that the data or the machine decide, once, at the start: `config/resolve.py`. A run's
config.toml holds the answers, so no later command has to be told again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args, get_type_hints

import tyro

from kakusan.errors import SettingsError

Auto: TypeAlias = Literal["auto"]

Value = TypeVar("Value", int, float)
Given = TypeVar("Given")

MOST_LEVELS, WIDEST = 16, 65_536
"""Of a network: how many levels, and the channels of one."""


class Range(NamedTuple):
    """The least and the greatest value of a setting."""

    low: float
    high: float


Layout: TypeAlias = Literal["auto", "channels-last", "channels-first", "single-channel"]
"""Where the channels of an array stand: (n, h, w, c), (n, c, h, w), or nowhere: (n, h, w)."""
Kind: TypeAlias = Literal["points", "signal", "image", "volume"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The space of a sample, by its number of axes beside the channels: 0 to 3."""


def named(table: Mapping[str, Any], name: str, setting: str) -> Any:
    """The entry of this name. Raises SettingsError with those there are."""
    if name not in table:
        raise SettingsError(f"{setting} knows no {name!r}", f"there are: {', '.join(table)}")
    return table[name]


def answered(value: Value | Auto) -> Value:
    """The number that a setting's "auto" came to."""
    assert value != "auto"
    return value


def given(value: Given | Auto) -> Given | None:
    """The value of a setting, or None where it is "auto"."""
    return None if value == "auto" else value


@cache
def _ranges(section: type) -> dict[str, Range]:
    hints = get_type_hints(section, include_extras=True)
    return {name: mark for name, hint in hints.items() for mark in get_args(hint) if isinstance(mark, Range)}


class Section:
    """A part of the settings. Raises SettingsError for the first value that is out of its range."""

    def __post_init__(self) -> None:
        section: type = type(self)
        for name, (low, high) in _ranges(section).items():
            value, title = getattr(self, name), section.__name__.removesuffix("Settings").lower()
            if value != "auto" and not low <= value <= high:
                raise SettingsError(f"{title}.{name} must be {low:g} to {high:g}, not {value}")


@dataclass(frozen=True)
class DataSettings(Section):
    """What to learn from."""

    source: Annotated[str, tyro.conf.Suppress] = ""
    """A bundled name, a folder of images, a .npy, .npz, IDX or CIFAR-10 binary file (the DATA of the command)."""
    size: int | tuple[int, int] | Auto = "auto"
    """Height and width to bring a folder's images to; auto: their own, or a size near their median."""
    channels: int | Auto = "auto"
    """1 (grey) or 3 (colour) for a folder; auto: grey if all images are."""
    kind: Kind | Auto = "auto"
    """What an array file holds: points (n, 2), signals (n, length) or with channels, images, or volumes (n, d, h, w) or
    with channels; auto: by its axes, which is stated."""
    layout: Layout = "auto"
    """Axes of an array file: channels-last (n, h, w, c), channels-first (n, c, h, w), single-channel (n, h, w) or
    (n, length). auto: the channels are the axis of at most 4, the last if two are; refused where none is."""
    levels: int | Auto = "auto"
    """Values that whole numbers may take, 0..levels-1; auto: 256 unless the file says otherwise."""
    range: tuple[float, float] | Auto = "auto"
    """Float data: low and high, mapped to -1 and 1; auto: mean and deviation per channel, fitted."""
    labels: bool = False
    """Learn the classes too: subfolders, or the labels in the file."""
    label_dropout: Annotated[float, Range(0, 1)] = 0.1
    """With classes: share of images shown without their label, so that the network also knows images of no class."""
    held_out: Annotated[float, Range(0, math.inf)] = 0.1
    """Share (below 1) or number of images put aside and never trained on."""
    flip: bool = False
    """Mirror half of the images left to right. Not for writing."""
    bad_share: Annotated[float, Range(0, 1)] = 0.01
    """Share of a folder's images that may be unreadable; they are named and left out."""
    follow_links: bool | Auto = "auto"
    """Follow links to folders outside of a folder of images; auto: no. Links to files are always read."""
    cache: str = ""
    """A folder to keep decoded images in, read by memory map; empty: they are held in memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.held_out >= 1 and self.held_out != int(self.held_out):
            problem = "data.held_out is a share below 1 or a whole number of images"
            raise SettingsError(f"{problem}, not {self.held_out}")
        if (sides := self.height_and_width) is not None and min(sides) < 1:
            raise SettingsError(f"data.size must be at least 1 pixel, not {self.size}")
        if self.range != "auto" and not self.range[0] < self.range[1]:
            raise SettingsError(f"a data range goes from low to high, not {self.range[0]} to {self.range[1]}")
        if self.channels != "auto" and self.channels < 1:
            raise SettingsError(f"there is at least 1 channel, not {self.channels}")
        if self.layout not in get_args(Layout):
            raise SettingsError(
                f"there is no layout {self.layout!r}", f"there are: {', '.join(get_args(Layout))}"
            )
        if self.levels != "auto" and not 2 <= self.levels <= 256:
            raise SettingsError(
                f"levels must be 2 to 256, not {self.levels}", "they are counted: black and white are 2"
            )
        if isinstance(self.size, int):
            object.__setattr__(self, "size", (self.size, self.size))

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """The size that is asked for; None: that of the data."""
        return (self.size, self.size) if isinstance(self.size, int) else given(self.size)


@dataclass(frozen=True)
class ProcessSettings(Section):
    """The diffusion process."""

    path: str = "vp"
    """Path from data to noise: vp (variance-preserving, by a schedule of betas), flow (straight lines: flow matching)
    or edm (noise of deviation sigma-min to sigma-max is added)."""
    schedule: str = "auto"
    """Of the path vp: linear, cosine, sigmoid, scaled-linear, sigmoid-betas, or given (by process.betas); auto: cosine,
    or linear where its betas are set; none for other paths."""
    T: Annotated[int, Range(1, 100_000)] = 1000
    """Number of noise levels."""
    beta_1: float | Auto = "auto"
    """First beta of a linear schedule; auto: 1e-4 x 1000/T."""
    beta_T: float | Auto = "auto"
    """Last beta of a linear schedule; auto: 0.02 x 1000/T."""
    betas: tuple[float, ...] = ()
    """beta_1, ..., beta_T one by one, for the schedule "given"."""
    zero_terminal_snr: bool = False
    """Stretch the schedule so that it ends in pure noise (Lin et al. 2024); for v and x_0, not for eps."""
    sigma_min: Annotated[float, Range(1e-9, 1e9)] = 0.002
    """Of the path edm: deviation of the noise at t = 1."""
    sigma_max: Annotated[float, Range(1e-9, 1e9)] = 80.0
    """Of the path edm: deviation of the noise at t = T."""
    rho: Annotated[float, Range(1, 100)] = 7.0
    """Of the path edm: sigma^(1/rho) is linear in t."""
    predicts: str = "auto"
    """Prediction target: noise (eps), clean data (x_0), velocity (v), eps - x_0 (flow) or EDM's mixture (edm); auto: v,
    or that of the path; x_0 for a transformer."""
    variance: str = "fixed-large"
    """sigma^2 of a reverse step: fixed-large (beta), fixed-small (beta~) or learned (between them)."""
    sigma_1: str = "beta~_2"
    """sigma^2 of the step that ends at the data: beta~_2 (as Ho et al.) or beta_1."""
    clip: bool | Auto = "auto"
    """Hold the guess of x_0 to its range in sampling; auto: yes for level data, never for real data."""
    clip_range: Annotated[float, Range(1e-6, 1e6)] = 1.0
    """The largest size of a clipped guess; level data lie in [-1, 1]."""
    spacing: str = "trailing"
    """Which times a sampling in fewer steps visits: trailing (from T on), leading (down to 1) or linspace (both)."""


@dataclass(frozen=True)
class NetworkSettings(Section):
    """The network. auto: by the size of the images, the device and the length of the training."""

    kind: Literal["auto", "unet", "mlp", "transformer"] = "auto"
    """unet for images, mlp for points; transformer, of large patches, for images of 64 pixels and more on a small
    machine. auto: unet or mlp."""
    width: Annotated[int | Auto, Range(1, 65_536)] = "auto"
    """Channels at the first level; of a transformer's tokens."""
    multipliers: tuple[int, ...] | Auto = "auto"
    """Width of each level, in units of `width`; each level halves the resolution."""
    widths: tuple[int, ...] = ()
    """Channels of each level one by one, in place of `width` and `multipliers`."""
    blocks: Annotated[int | Auto, Range(1, 64)] = "auto"
    """Residual blocks a level (one more on the way up); of a transformer: all there are."""
    attention: tuple[int, ...] | Auto = "auto"
    """Levels with attention, 0 being the full resolution."""
    up_attention: tuple[int, ...] | Literal["same"] = "same"
    """Levels with attention on the way up, where they are others."""
    middle: Literal["attention", "blocks", "none"] = "attention"
    """What is at the lowest resolution: blocks with attention, without it, or nothing."""
    middle_norm: bool = True
    """Normalize before the attention of the middle."""
    middle_scale: Annotated[float, Range(1e-6, 1e6)] = 1.0
    """Divisor of the residual sums of the middle."""
    heads: Annotated[int, Range(1, 1024)] = 1
    """Attention heads, which share the channels; a transformer takes 1 for as many as head widths of 64 make."""
    head_width: Annotated[int, Range(0, 65_536)] = 0
    """Channels of a head, and as many heads as fit; 0: `heads` decides."""
    groups: Annotated[int | Auto, Range(1, 65_536)] = "auto"
    """Groups of a normalization."""
    norm_eps: Annotated[float, Range(0, 1)] = 1e-6
    """What normalizations add to the variance."""
    scale_shift: bool = False
    """The time scales and shifts the second normalization of a block, rather than being added before it."""
    pad_all_sides: bool = False
    """Pad all sides before the resolution is halved, rather than the right and the bottom."""
    frequency_shift: Annotated[float, Range(-1e6, 1e6)] = 1.0
    """Which frequencies tell the time: 1 as Ho et al., 0 as Vaswani et al."""
    cos_first: bool = False
    """Cosines before sines."""
    time_width: Annotated[int, Range(0, 1_048_576)] = 0
    """Width of the time's embedding; 0: four times the first level's."""
    null_label: bool = True
    """With classes: a further label for no class at all."""
    dropout: Annotated[float | Auto, Range(0, 0.99)] = "auto"
    """Dropout in the residual blocks; auto: more, the more often each image is seen."""
    patch: Annotated[int | Auto, Range(1, 64)] = "auto"
    """Side of the pixel squares that are folded into channels before the network and unfolded after it; auto: 1, or
    more where the images are too large for the device; of a transformer: as many as make 64 tokens, elsewhere than on
    a CPU 256, at the most."""
    bottleneck: Annotated[int, Range(0, 65_536)] = 0
    """Of a transformer: channels through which the values of a patch come in; 0: all at once, which learns sooner."""
    mlp_ratio: Annotated[float, Range(0.01, 100)] = 4.0
    """Of a transformer: width of an MLP's hidden layer, in units of `width`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, levels in (("multipliers", given(self.multipliers) or ()), ("widths", self.widths)):
            if len(levels) > MOST_LEVELS or max(levels, default=1) > WIDEST:
                raise SettingsError(f"network.{name} is at most {MOST_LEVELS} numbers of at most {WIDEST:,}")


@dataclass(frozen=True)
class TrainingSettings(Section):
    """Algorithm 1."""

    steps: Annotated[int | Auto, Range(0, 10**9)] = "auto"
    """Optimizer steps; auto: what --training.minutes buys."""
    minutes: Annotated[float | Auto, Range(0.01, 10**6)] = "auto"
    """Length of the training, measured and fixed as a number of steps; auto: 30, unless steps are given."""
    loss: str = "auto"
    """simple, weighted (Eq. 12), bound, hybrid, min-snr or velocity; auto: simple, hybrid where the variance is
    learned, velocity for a transformer that predicts x_0."""
    min_snr_gamma: Annotated[float, Range(1e-6, math.inf)] = 5.0
    """Where min-snr stops to weigh by the signal-to-noise ratio."""
    batch_size: Annotated[int | Auto, Range(1, 10**6)] = "auto"
    """Images a step; auto: 64 on a CPU, 128 elsewhere."""
    accumulation: Annotated[int | Auto, Range(1, 10**6)] = "auto"
    """Micro-batches that a batch is split into: less memory, same step; auto: by the memory that a step needs."""
    times: str = "stratified"
    """How t is drawn: uniform, stratified over the batch, or importance (where losses are large,
    once there are ten for each t)."""
    learning_rate: Annotated[float | Auto, Range(0, 10)] = "auto"
    """Step size of AdamW; auto: smaller for wide networks, for long trainings and for fine-tuning."""
    warmup: Annotated[int | Auto, Range(0, 10**9)] = "auto"
    """Steps over which the learning rate rises to its value; auto: a twentieth of all, and 500 at most."""
    decay: str = "linear"
    """Factor on the rate over all steps, warm-up included: constant, or linear or cosine from 1 towards 0."""
    weight_decay: Annotated[float, Range(0, 10)] = 0.0
    """AdamW's weight decay, on all parameters: those of normalizations, biases and embeddings too."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's memories."""
    clip_norm: Annotated[float, Range(1e-9, math.inf)] = 1.0
    """Largest norm of the gradient."""
    ema: Annotated[float | Auto, Range(0, 1)] = "auto"
    """Decay of the averaged weights that sampling uses; auto: a memory of a tenth of the training."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """All randomness of a run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= beta < 1 for beta in self.betas):
            raise SettingsError(f"training.betas must be 0 to below 1, not {self.betas}")


@dataclass(frozen=True)
class LogSettings(Section):
    """Lines in metrics.jsonl."""

    every: Annotated[int, Range(1, 10**9)] = 20
    """Steps between two lines."""


@dataclass(frozen=True)
class SamplesSettings(Section):
    """Sample grids during training."""

    every: Annotated[int | Auto, Range(1, 10**9)] = "auto"
    """Steps between two grids; auto: eight in all, and every 100 at most."""
    count: Annotated[int, Range(1, 4096)] = 36
    """Images a grid."""
    steps: Annotated[int, Range(1, 100_000)] = 25
    """DDIM steps."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """The same noise each time, so that the grids show progress."""


@dataclass(frozen=True)
class CheckpointSettings(Section):
    """When to save, and what to keep."""

    every: Annotated[int, Range(1, 10**9)] = 1000
    """Steps between two checkpoints."""
    minutes: Annotated[float, Range(0.01, 10**6)] = 5.0
    """Save, too, when this long has passed since the last one."""
    keep: Annotated[int, Range(1, 1000)] = 2
    """Newest good checkpoints that stay."""
    keep_every: Annotated[int, Range(0, 10**9)] = 0
    """Steps whose multiples stay for good; 0: none."""


@dataclass(frozen=True)
class MachineSettings(Section):
    """What depends on the machine; recorded, and repeated by a resume."""

    device: str = "auto"
    """cpu, cuda or mps; auto: the fastest there is."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of convolutions and products; all else is float32. auto: bf16 where the hardware has it."""
    layout: Literal["auto", "contiguous", "channels-last"] = "auto"
    """Memory layout of the network."""
    threads: Annotated[int | Auto, Range(1, 4096)] = "auto"
    """Threads on a CPU; auto: as many as cores."""
    micro_batch: int = 64
    """Images at a time in sampling, a multiple of 16."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.micro_batch % 16 or self.micro_batch < 16:
            raise SettingsError(
                f"machine.micro_batch must be a multiple of 16, not {self.micro_batch}",
                "other shapes let an image depend on its neighbours in the last bit",
            )


@dataclass(frozen=True)
class Settings:
    """Everything that a run can be told."""

    data: DataSettings = field(default_factory=DataSettings)
    process: ProcessSettings = field(default_factory=ProcessSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    log: LogSettings = field(default_factory=LogSettings)
    samples: SamplesSettings = field(default_factory=SamplesSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    machine: MachineSettings = field(default_factory=MachineSettings)


BUDGETS = ("training.steps", "training.minutes")
CHANGEABLE = (*BUDGETS, "samples.", "checkpoint.")
"""Settings that a run may change after its start: its length, on which nothing but a falling learning rate depends,
and its cadence."""

RANGES = {
    f"{s}.{name}": r for s, kind in get_type_hints(Settings).items() for name, r in _ranges(kind).items()
}
"""Of the settings that have one, by their dotted names."""
