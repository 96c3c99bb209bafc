"""The settings of a run: one frozen typed tree. Every field is a flag of its dotted name
(`config/loading.py` reads them).

"auto" (TOML has no null) means that the data or the machine decide, once, at the start: `config/resolve.py`. A run's
config.toml holds the answers, so no later command needs them again.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_type_hints

import tyro

from kakusan.config.facts import KINDS, Kind, Layout
from kakusan.config.networks import NetworkOptions
from kakusan.config.section import Auto, Of, Range, Section, Table, answered, given, named, ranges
from kakusan.errors import SettingsError

__all__ = [
    "BUDGETS",
    "CHANGEABLE",
    "KINDS",
    "RANGES",
    "CheckpointSettings",
    "DataSettings",
    "Kind",
    "Layout",
    "LogSettings",
    "MachineSettings",
    "ProcessSettings",
    "SamplesSettings",
    "Settings",
    "TrainingSettings",
    "answered",
    "given",
    "named",
]

NEVER, WHEN_DONE = "never", "when-done"
REWIND = "rewind"
LEARNED = "learned"
"""The schedule, and the variance, that are trained with the network."""
WITH_ENDS = ("linear", "scaled-linear", "sigmoid-betas")
"""Schedules that run from beta_1 to beta_T."""
PATHS = Table("kakusan.diffusion.tables:PATHS", ("vp", "flow", "edm"))
SCHEDULES = Table(
    "kakusan.diffusion.tables:SCHEDULES",
    ("linear", "cosine", "sigmoid", "scaled-linear", "sigmoid-betas", "learned", "given", "none"),
)
TARGETS = Table(
    "kakusan.diffusion.tables:PARAMETRIZATIONS",
    ("eps", "x_0", "v", "flow", "edm"),
    has_options=False,
)
CONSISTENCY = "consistency"
"""The loss, and the sampler, of models of one to four calls."""
LOSSES = Table(
    "kakusan.training.tables:LOSSES",
    ("simple", "weighted", "bound", "hybrid", "min-snr", "velocity", CONSISTENCY),
)


@dataclass(frozen=True)
class DataSettings(Section):
    """The training data."""

    source: Annotated[str, tyro.conf.Suppress] = ""
    """A bundled name, a folder of images, a .npy, .npz, IDX or CIFAR-10 binary file (the DATA of the command)."""
    size: int | tuple[int, int] | Auto = "auto"
    """Height and width to scale and centre-crop a folder's images to; auto: theirs, or a square near the median."""
    channels: int | Auto = "auto"
    """1 (grey) or 3 (colour) for a folder; auto: grey if all images are."""
    kind: Kind | Auto = "auto"
    """Kind of the samples in an array file: points (n, 2), signals (n, length) or with channels, images, or volumes
    (n, d, h, w) or with channels; auto: by its axes, which is stated."""
    layout: Layout = "auto"
    """Axes of an array file: channels-last (n, h, w, c), channels-first (n, c, h, w), single-channel (n, h, w) or
    (n, length). auto: the channels are the axis of at most 4, the last if two are; refused where none is."""
    levels: int | Auto = "auto"
    """Values that whole numbers may take, 0..levels-1; auto: 256 unless the file says otherwise."""
    range: tuple[float, float] | Auto = "auto"
    """Float data: low and high, mapped to -1 and 1; auto: mean and deviation per channel, fitted."""
    missing: Literal["refuse", "mask"] = "refuse"
    """Treatment of missing values (NaN) in arrays of real numbers: refuse them, or mask: learn from the values that are
    there, with the mask as an input of the network."""
    labels: bool = False
    """Learn the classes too: subfolders, or the labels that a data file holds."""
    condition_dropout: Annotated[float, Range(0, 1)] = 0.1
    """With classes, vectors or pairs: probability of dropping them from a sample in training, so that the network also
    models samples without a condition (classifier-free guidance)."""
    vectors: bool = False
    """Learn the numbers that describe each sample too: `vectors` (and `vector_names`) of an .npz, or a CSV file in a
    folder of images or beside it (file name, numbers)."""
    pairs: bool = False
    """Learn samples given an image each: `conditions` of an .npz."""
    condition_from: str = ""
    """Learn samples given an image each, those of this folder, by the names of DATA's (or of an array, in order)."""
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

    path: Annotated[str, PATHS] = "vp"
    """Path from data to noise: vp (variance-preserving, by a schedule of betas), flow (straight lines: flow matching)
    or edm (noise of deviation sigma-min to sigma-max is added)."""
    schedule: Annotated[str, SCHEDULES, Of("path", ("vp",))] = "auto"
    """Of the path vp: linear, cosine, sigmoid, scaled-linear, sigmoid-betas, learned (with the network, on the bound)
    or given (by process.betas); auto: cosine, or linear where its betas are set; none for other paths."""
    T: Annotated[int, Range(1, 100_000)] = 1000
    """Number of noise levels."""
    beta_1: Annotated[float | Auto, Of("schedule", WITH_ENDS)] = "auto"
    """First beta of a linear schedule; auto: 1e-4 x 1000/T."""
    beta_T: Annotated[float | Auto, Of("schedule", WITH_ENDS)] = "auto"
    """Last beta of a linear schedule; auto: 0.02 x 1000/T."""
    betas: Annotated[tuple[float, ...], Of("schedule", ("given",), "values")] = ()
    """beta_1, ..., beta_T one by one, for the schedule "given"."""
    s: Annotated[float, Of("schedule", ("cosine",)), Range(0, 1)] = 0.008
    """Of the schedule cosine: the share of its way that it begins at, so that the first betas are not too small."""
    start: Annotated[float, Of("schedule", ("sigmoid",)), Range(-100, 100)] = -3.0
    """Of the schedule sigmoid: where on the sigmoid it begins."""
    end: Annotated[float, Of("schedule", ("sigmoid",)), Range(-100, 100)] = 3.0
    """Of the schedule sigmoid: where on the sigmoid it ends."""
    tau: Annotated[float, Of("schedule", ("sigmoid",)), Range(1e-3, 1e3)] = 1.0
    """Of the schedule sigmoid: its temperature."""
    beta_max: Annotated[float, Of("schedule", ("cosine", "sigmoid")), Range(1e-6, 1)] = 0.999
    """Of the schedules cosine and sigmoid: the largest beta."""
    log_snr_1: Annotated[float, Of("schedule", (LEARNED,)), Range(-20, 20)] = 13.3
    """Of the schedule learned: the log-SNR at t = 1 that its training begins with, in nats."""
    log_snr_T: Annotated[float, Of("schedule", (LEARNED,)), Range(-20, 20)] = -5.0
    """Of the schedule learned: the log-SNR at T that its training begins with."""
    zero_terminal_snr: Annotated[bool, Of("path", ("vp",))] = False
    """Stretch the schedule so that it ends in pure noise (Lin et al. 2024); for v and x_0, not for eps."""
    sigma_min: Annotated[float, Of("path", ("edm",)), Range(1e-9, 1e9)] = 0.002
    """Of the path edm: deviation of the noise at t = 1."""
    sigma_max: Annotated[float, Of("path", ("edm",)), Range(1e-9, 1e9)] = 80.0
    """Of the path edm: deviation of the noise at t = T."""
    rho: Annotated[float, Of("path", ("edm",)), Range(1, 100)] = 7.0
    """Of the path edm: sigma^(1/rho) is linear in t."""
    predicts: Annotated[str, TARGETS] = "auto"
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
    """Times that a sampling in fewer steps visits: trailing (from T on), leading (down to 1) or linspace (both)."""


@dataclass(frozen=True)
class TrainingSettings(Section):
    """Algorithm 1."""

    steps: Annotated[int | Auto, Range(0, 10**9)] = "auto"
    """Optimizer steps; auto: what --training.minutes buys."""
    minutes: Annotated[float | Auto, Range(0.01, 10**6)] = "auto"
    """Length of the training, measured and fixed as a number of steps; auto: 30, unless steps are given."""
    stop: Literal["never", "when-done"] = "never"
    """End before the last step: never, or when-done: where the held-out loss is known to fall no more, at three
    measurements in a row, by less than 1 % over the last quarter of the steps so far; the averaged weights it ends with
    are those of its lowest."""
    on_nan: Literal["stop", "rewind"] = "stop"
    """Response to a loss or gradient that is not finite: stop, or rewind: go back to the last checkpoint of
    checkpoint.every, or to the start where there is none, with half the rate, three times in a run at most."""
    loss: Annotated[str, LOSSES] = "auto"
    """simple, weighted (Eq. 12), bound, hybrid, min-snr, velocity or consistency (that of `kakusan distill`); auto:
    simple, hybrid where the variance is learned, bound where the schedule is, velocity for a transformer that predicts
    x_0."""
    min_snr_gamma: Annotated[float, Of("loss", ("min-snr",), "gamma"), Range(1e-6, math.inf)] = 5.0
    """Of the loss min-snr: where it stops to weigh by the signal-to-noise ratio."""
    hybrid_share: Annotated[float, Of("loss", ("hybrid",), "share"), Range(1e-9, 1e9)] = 0.001
    """Of the loss hybrid: the weight of the bound, which teaches the variance."""
    largest_weight: Annotated[float, Of("loss", ("velocity",)), Range(1e-6, 1e12)] = 400.0
    """Of the loss velocity: the largest weight of an error of x_0, which is 1 + SNR."""
    first_gap: Annotated[float, Of("loss", (CONSISTENCY,)), Range(1e-4, 1)] = 0.5
    """Of the loss consistency: the share of the noise by which two guesses differ at the first step."""
    last_gap: Annotated[float, Of("loss", (CONSISTENCY,)), Range(1e-4, 1)] = 1 / 64
    """Of the loss consistency: the same at the last step; between them it falls evenly in its logarithm."""
    smoothing: Annotated[float, Of("loss", (CONSISTENCY,)), Range(1e-6, 10)] = 0.001
    """Of the loss consistency: the distance of two guesses below which it counts squared, in the network's units."""
    batch_size: Annotated[int | Auto, Range(1, 10**6)] = "auto"
    """Images a step; auto: 64 on a CPU, 128 elsewhere."""
    accumulation: Annotated[int | Auto, Range(1, 10**6)] = "auto"
    """Micro-batches that a batch is split into: less memory, same step; auto: by the memory that a step needs."""
    times: str = "auto"
    """Distribution of t in training: uniform, stratified over the batch, importance (where losses are large, once
    there are ten for each t), or decoder (t = 1 for an eighth of the batch, rounded up); auto: stratified, or decoder
    where the schedule is learned."""
    optimizer: str = "auto"
    """adamw, or muon: weights that are matrices move by orthogonal steps (Jordan et al. 2024), which cost a little and
    lead further, all others by AdamW; auto: adamw."""
    learning_rate: Annotated[float | Auto, Range(0, 10)] = "auto"
    """Step size of AdamW, and of muon, whose steps are as large; auto: smaller for wide networks, for long trainings
    and for fine-tuning."""
    warmup: Annotated[int | Auto, Range(0, 10**9)] = "auto"
    """Steps over which the learning rate rises to its value; auto: a twentieth of all, and 500 at most."""
    decay: str = "linear"
    """Factor on the rate over all steps, warm-up included: constant, or linear or cosine from 1 towards 0."""
    weight_decay: Annotated[float, Range(0, 10)] = 0.0
    """Weight decay, apart from the gradient (AdamW's), on all parameters: those of normalizations, biases and
    embeddings too."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's betas: decay of the first and second moment."""
    clip_norm: Annotated[float, Range(1e-9, math.inf)] = 1.0
    """Largest norm of the gradient."""
    ema: Annotated[float | Auto, Range(0, 1)] = "auto"
    """Decay of the averaged weights that sampling uses; auto: a memory of a tenth of the training."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Seed of all randomness of a run."""

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
    """Steps between two grids; auto: eight in all (32 where training.stop is
    when-done), and every 200 at most."""
    count: Annotated[int, Range(1, 4096)] = 36
    """Images a grid."""
    steps: Annotated[int, Range(1, 100_000)] = 25
    """DDIM steps; of models of one to four calls (the loss consistency) two, of theirs."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """The same noise each time, so that the grids show progress."""


@dataclass(frozen=True)
class CheckpointSettings(Section):
    """Checkpoints: the times to save, and what is kept."""

    every: Annotated[int, Range(1, 10**9)] = 1000
    """Steps between two checkpoints."""
    minutes: Annotated[float, Range(0.01, 10**6)] = 5.0
    """Save, too, when this long has passed since the last one."""
    keep: Annotated[int, Range(1, 1000)] = 2
    """Newest good checkpoints that stay."""
    keep_every: Annotated[int, Range(0, 10**9)] = 0
    """Steps whose multiples stay for good; 0: none."""
    snapshots: tuple[int, ...] | Literal["auto", "none"] = "auto"
    """Steps whose averaged weights stay for good, in half precision, as weak models for autoguidance
    (`kakusan sample --guide early`); auto: at a 16th, an 8th, a quarter and half of the training, from step 100 on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.snapshots, tuple) and min(self.snapshots, default=1) < 1:
            problem = "checkpoint.snapshots are steps, which count from 1"
            raise SettingsError(f"{problem}: not {min(self.snapshots)}", "to keep none: none")

    @property
    def snapshot_steps(self) -> tuple[int, ...]:
        """The steps of snapshots; none where they are still to be settled."""
        return self.snapshots if isinstance(self.snapshots, tuple) else ()


@dataclass(frozen=True)
class MachineSettings(Section):
    """Settings that depend on the machine; recorded, and repeated by a resume."""

    device: str = "auto"
    """cpu, cuda or mps; auto: the fastest there is."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of convolutions and products; all else is float32. auto: bf16 where the hardware has it."""
    layout: Literal["auto", "contiguous", "channels-last"] = "auto"
    """Memory layout of the network."""
    threads: Annotated[int | Auto, Range(1, 4096)] = "auto"
    """Threads on a CPU; auto: as many as cores, or fewer where OMP_NUM_THREADS says so."""
    workers: Annotated[int | Auto, Range(1, 4096)] = "auto"
    """Parts of a batch that are computed at once on a CPU, each on its share of the threads: where other programs use
    the cores too, much faster than all threads in every operation. auto: one for each thread, while a batch has 16
    images for each; 1: none, up to a seventh faster for small networks where nothing else runs."""
    graphs: bool | Auto = "auto"
    """Repeat a training step, and a call of the network in sampling, as one CUDA graph, which hundreds of kernels need
    not be asked for one by one; auto: on a CUDA device."""
    kernels: bool | Auto = "auto"
    """GroupNorm and SiLU as one kernel, and the noise as another (Triton); auto: on a CUDA device where it is."""
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
    """All settings of a run."""

    data: DataSettings = field(default_factory=DataSettings)
    process: ProcessSettings = field(default_factory=ProcessSettings)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    log: LogSettings = field(default_factory=LogSettings)
    samples: SamplesSettings = field(default_factory=SamplesSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    machine: MachineSettings = field(default_factory=MachineSettings)

    @property
    def is_distilled(self) -> bool:
        """Whether the network says where trajectories end, for one to four calls, not the mean of what x_t may be."""
        return self.training.loss == CONSISTENCY

    def require_own(self, chosen: Collection[str] | None = None) -> None:
        """Raises SettingsError for an option of what was not chosen: see `Section.require_own`."""
        for _, section in sections(self):
            section.require_own(chosen)


BUDGETS = ("training.steps", "training.minutes")
RENAMED = {"data.label_dropout": "data.condition_dropout"}
"""Settings of older versions, by their dotted names, and what they are called now."""
CHANGEABLE = (*BUDGETS, "training.stop", "training.on_nan", "samples.", "checkpoint.")
"""Settings that a run may change after its start: its length, on which nothing but a falling learning rate depends,
its cadence, and what it does where its numbers are not finite."""

RANGES = {
    f"{s}.{name}": r for s, kind in get_type_hints(Settings).items() for name, r in ranges(kind).items()
}
"""Ranges of the settings that have one, by their dotted names; those of one kind of network stand with its options."""


def sections(settings: Settings) -> Iterator[tuple[str, Any]]:
    """The parts of the settings by their names, in order."""
    for name in get_type_hints(Settings):
        yield name, getattr(settings, name)
