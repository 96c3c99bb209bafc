"""What a run can be told: one frozen typed tree. Every field is a flag of its dotted name
(`config/loading.py` reads them).

"auto" (TOML has no null) means that the data or the machine decide, once, at the start: `config/resolve.py`. A run's
config.toml holds the answers, so no later command has to be told again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

import tyro

from kakusan.errors import SettingsError

Auto: TypeAlias = Literal["auto"]

Value = TypeVar("Value", int, float)
Given = TypeVar("Given")

Layout: TypeAlias = Literal["auto", "channels-last", "channels-first", "single-channel"]
"""Where the channels of an array stand: (n, h, w, c), (n, c, h, w), or nowhere: (n, h, w). Signals have no h."""


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


@dataclass(frozen=True)
class DataSettings:
    """What to learn from."""

    source: Annotated[str, tyro.conf.Suppress] = ""
    """A bundled name, a folder of images, a .npy, .npz, IDX or CIFAR-10 binary file (the DATA of the command)."""
    size: int | tuple[int, int] | Auto = "auto"
    """Height and width to bring a folder's images to; auto: their own, or a size near their median."""
    channels: int | Auto = "auto"
    """1 (grey) or 3 (colour) for a folder; auto: grey if all images are."""
    layout: Layout = "auto"
    """Axes of an array file: channels-last (n, h, w, c), channels-first (n, c, h, w), single-channel (n, h, w) or
    (n, length). auto: the channels are the axis of at most 4, the last if two are; refused where none is."""
    levels: int | Auto = "auto"
    """Values that whole numbers may take, 0..levels-1; auto: 256 unless the file says otherwise."""
    range: tuple[float, float] | Auto = "auto"
    """Float data: low and high, mapped to -1 and 1; auto: mean and deviation per channel, fitted."""
    labels: bool = False
    """Learn the classes too: subfolders, or the labels in the file."""
    label_dropout: float = 0.1
    """With classes: share of images shown without their label, so that the network also knows images of no class."""
    held_out: float = 0.1
    """Share (below 1) or number of images put aside and never trained on."""
    flip: bool = False
    """Mirror half of the images left to right. Not for writing."""
    bad_share: float = 0.01
    """Share of a folder's images that may be unreadable; they are named and left out."""
    follow_links: bool | Auto = "auto"
    """Follow links to folders outside of a folder of images; auto: no. Links to files are always read."""
    cache: str = ""
    """A folder to keep decoded images in, read by memory map; empty: they are held in memory."""

    def __post_init__(self) -> None:
        """Raises SettingsError for what no data can have."""
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

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """The size that is asked for; None: that of the data."""
        return (self.size, self.size) if isinstance(self.size, int) else given(self.size)


@dataclass(frozen=True)
class ProcessSettings:
    """The diffusion process."""

    schedule: str = "auto"
    """linear, cosine, sigmoid, scaled-linear, sigmoid-betas, or given (by process.betas); auto: cosine, or linear
    where its betas are set."""
    T: int = 1000
    """Number of noise levels."""
    beta_1: float | Auto = "auto"
    """First beta of a linear schedule; auto: 1e-4 x 1000/T."""
    beta_T: float | Auto = "auto"
    """Last beta of a linear schedule; auto: 0.02 x 1000/T."""
    betas: tuple[float, ...] = ()
    """beta_1, ..., beta_T one by one, for the schedule "given"."""
    zero_terminal_snr: bool = False
    """Stretch the schedule so that it ends in pure noise (Lin et al. 2024); for v and x_0, not for eps."""
    predicts: str = "auto"
    """What the network says: eps, x_0 or v; auto: v."""
    variance: str = "fixed-large"
    """sigma^2 of a reverse step: fixed-large (beta), fixed-small (beta~) or learned (between them)."""
    sigma_1: str = "beta~_2"
    """sigma^2 of the step that ends at the data: beta~_2 (as Ho et al.) or beta_1."""
    clip: bool | Auto = "auto"
    """Hold the guess of x_0 to its range in sampling; auto: yes for level data, never for real data."""
    clip_range: float = 1.0
    """The largest size of a clipped guess; level data lie in [-1, 1]."""
    spacing: str = "trailing"
    """Which times a sampling in fewer steps visits: trailing (from T on), leading (down to 1) or linspace (both)."""


@dataclass(frozen=True)
class NetworkSettings:
    """The network. auto: by the size of the images, the device and the length of the training."""

    kind: Literal["auto", "unet", "mlp"] = "auto"
    """unet for images, mlp for points."""
    width: int | Auto = "auto"
    """Channels at the first level."""
    multipliers: tuple[int, ...] | Auto = "auto"
    """Width of each level, in units of `width`; each level halves the resolution."""
    widths: tuple[int, ...] = ()
    """Channels of each level one by one, in place of `width` and `multipliers`."""
    blocks: int | Auto = "auto"
    """Residual blocks a level (one more on the way up)."""
    attention: tuple[int, ...] | Auto = "auto"
    """Levels with attention, 0 being the full resolution."""
    up_attention: tuple[int, ...] | Literal["same"] = "same"
    """Levels with attention on the way up, where they are others."""
    middle: Literal["attention", "blocks", "none"] = "attention"
    """What is at the lowest resolution: blocks with attention, without it, or nothing."""
    middle_norm: bool = True
    """Normalize before the attention of the middle."""
    middle_scale: float = 1.0
    """Divisor of the residual sums of the middle."""
    heads: int = 1
    """Attention heads, which share the channels."""
    head_width: int = 0
    """Channels of a head, and as many heads as fit; 0: `heads` decides."""
    groups: int | Auto = "auto"
    """Groups of a normalization."""
    norm_eps: float = 1e-6
    """What normalizations add to the variance."""
    scale_shift: bool = False
    """The time scales and shifts the second normalization of a block, rather than being added before it."""
    pad_all_sides: bool = False
    """Pad all sides before the resolution is halved, rather than the right and the bottom."""
    frequency_shift: float = 1.0
    """Which frequencies tell the time: 1 as Ho et al., 0 as Vaswani et al."""
    cos_first: bool = False
    """Cosines before sines."""
    time_width: int = 0
    """Width of the time's embedding; 0: four times the first level's."""
    null_label: bool = True
    """With classes: a further label for no class at all."""
    dropout: float | Auto = "auto"
    """Dropout in the residual blocks; auto: more, the more often each image is seen."""
    patch: int | Auto = "auto"
    """Side of the pixel squares that are folded into channels before the network and unfolded after it; auto: 1, or
    more where the images are too large for the device."""


@dataclass(frozen=True)
class TrainingSettings:
    """Algorithm 1."""

    steps: int | Auto = "auto"
    """Optimizer steps; auto: what --training.minutes buys."""
    minutes: float | Auto = "auto"
    """Length of the training, measured and fixed as a number of steps; auto: 30, unless steps are given."""
    loss: str = "auto"
    """simple, weighted (Eq. 12), bound, hybrid or min-snr; auto: simple, or hybrid where the variance is learned."""
    min_snr_gamma: float = 5.0
    """Where min-snr stops to weigh by the signal-to-noise ratio."""
    batch_size: int | Auto = "auto"
    """Images a step; auto: 64 on a CPU, 128 elsewhere."""
    accumulation: int | Auto = "auto"
    """Micro-batches that a batch is split into: less memory, same step; auto: by the memory that a step needs."""
    times: str = "stratified"
    """How t is drawn: uniform, stratified over the batch, or importance (where losses are large,
    once there are ten for each t)."""
    learning_rate: float | Auto = "auto"
    """Step size of AdamW; auto: smaller for wide networks, for long trainings and for fine-tuning."""
    warmup: int | Auto = "auto"
    """Steps over which the learning rate rises to its value; auto: a twentieth of all, and 500 at most."""
    decay: str = "linear"
    """Factor on the rate over all steps, warm-up included: constant, or linear or cosine from 1 towards 0."""
    weight_decay: float = 0.0
    """AdamW's weight decay, on all parameters: those of normalizations, biases and embeddings too."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's memories."""
    clip_norm: float = 1.0
    """Largest norm of the gradient."""
    ema: float | Auto = "auto"
    """Decay of the averaged weights that sampling uses; auto: a memory of a tenth of the training."""
    seed: int = 0
    """All randomness of a run."""


@dataclass(frozen=True)
class LogSettings:
    """Lines in metrics.jsonl."""

    every: int = 20
    """Steps between two lines."""


@dataclass(frozen=True)
class SamplesSettings:
    """Sample grids during training."""

    every: int | Auto = "auto"
    """Steps between two grids; auto: eight in all, and every 100 at most."""
    count: int = 36
    """Images a grid."""
    steps: int = 25
    """DDIM steps."""
    seed: int = 0
    """The same noise each time, so that the grids show progress."""


@dataclass(frozen=True)
class CheckpointSettings:
    """When to save, and what to keep."""

    every: int = 1000
    """Steps between two checkpoints."""
    minutes: float = 5.0
    """Save, too, when this long has passed since the last one."""
    keep: int = 2
    """Newest good checkpoints that stay."""
    keep_every: int = 0
    """Steps whose multiples stay for good; 0: none."""


@dataclass(frozen=True)
class MachineSettings:
    """What depends on the machine; recorded, and repeated by a resume."""

    device: str = "auto"
    """cpu, cuda or mps; auto: the fastest there is."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of convolutions and products; all else is float32. auto: bf16 where the hardware has it."""
    layout: Literal["auto", "contiguous", "channels-last"] = "auto"
    """Memory layout of the network."""
    threads: int | Auto = "auto"
    """Threads on a CPU; auto: as many as cores."""
    micro_batch: int = 64
    """Images at a time in sampling, a multiple of 16."""


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

MOST_LEVELS, WIDEST = 16, 65_536
"""Of a network: how many levels, and the channels of one."""

RANGES: dict[str, tuple[float, float]] = {
    "data.label_dropout": (0, 1),
    "samples.seed": (0, 2**63 - 1),
    "data.held_out": (0, math.inf),
    "data.bad_share": (0, 1),
    "process.T": (1, 100_000),
    "process.clip_range": (1e-6, 1e6),
    "network.width": (1, 65_536),
    "network.blocks": (1, 64),
    "network.heads": (1, 1024),
    "network.groups": (1, 65_536),
    "network.head_width": (0, 65_536),
    "network.norm_eps": (0, 1),
    "network.middle_scale": (1e-6, 1e6),
    "network.frequency_shift": (-1e6, 1e6),
    "network.time_width": (0, 1_048_576),
    "network.dropout": (0, 0.99),
    "network.patch": (1, 64),
    "training.steps": (0, 10**9),  # 0 for what was imported, and never for a training
    "training.minutes": (0.01, 10**6),
    "training.batch_size": (1, 10**6),
    "training.accumulation": (1, 10**6),
    "training.learning_rate": (0, 10),
    "training.warmup": (0, 10**9),
    "training.weight_decay": (0, 10),
    "training.min_snr_gamma": (1e-6, math.inf),
    "training.clip_norm": (1e-9, math.inf),
    "training.ema": (0, 1),
    "training.seed": (0, 2**63 - 1),
    "log.every": (1, 10**9),
    "samples.every": (1, 10**9),
    "samples.count": (1, 4096),
    "samples.steps": (1, 100_000),
    "checkpoint.every": (1, 10**9),
    "checkpoint.minutes": (0.01, 10**6),
    "checkpoint.keep": (1, 1000),
    "checkpoint.keep_every": (0, 10**9),
    "machine.threads": (1, 4096),
}
