"""The settings: one frozen typed tree, to and from TOML. Every field is a flag of its dotted name.

"auto" (TOML has no null) means that the data or the machine decide, once, at the start: `resolve.py`. A run's
config.toml holds the answers, so no later command has to be told again.
"""

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import tyro

from kakusan.errors import SettingsError

Auto: TypeAlias = Literal["auto"]


@dataclass(frozen=True)
class DataSettings:
    """What to learn from."""

    source: Annotated[str, tyro.conf.Suppress] = ""
    """A bundled name, a folder of images, a .npy, .npz, IDX or CIFAR-10 binary file (the DATA of the command)."""
    size: int | tuple[int, int] | Auto = "auto"
    """Height and width to bring a folder's images to; auto: their own, or a size near their median."""
    channels: int | Auto = "auto"
    """1 (grey) or 3 (colour) for a folder; auto: grey if all images are."""
    levels: int | Auto = "auto"
    """Values that a byte may take, 0..levels-1; auto: 256 unless the file says otherwise."""
    range: tuple[float, float] | Auto = "auto"
    """Float data: low and high, mapped to -1 and 1; auto: mean and deviation per channel, fitted."""
    labels: bool = False
    """Learn the classes too: subfolders, or the labels in the file."""
    label_dropout: float = 0.1
    """Share of images trained without their label, for guidance."""
    held_out: float = 0.1
    """Share (below 1) or number of images put aside and never trained on."""
    flip: bool = False
    """Mirror half of the images left to right. Not for writing."""
    cache: str = ""
    """A folder to keep decoded images in, read by memory map; empty: they are held in memory."""


@dataclass(frozen=True)
class ProcessSettings:
    """The diffusion process."""

    schedule: str = "linear"
    """linear, cosine, sigmoid or scaled-linear."""
    T: int = 1000
    """Number of noise levels."""
    beta_1: float | Auto = "auto"
    """First beta of a linear schedule; auto: 1e-4 x 1000/T."""
    beta_T: float | Auto = "auto"
    """Last beta of a linear schedule; auto: 0.02 x 1000/T."""
    zero_terminal_snr: bool = False
    """Stretch the schedule so that it ends in pure noise (Lin et al. 2024); for v and x_0, not for eps."""
    predicts: str = "eps"
    """What the network says: eps, x_0 or v."""
    variance: str = "fixed-large"
    """sigma^2 of a reverse step: fixed-large (beta), fixed-small (beta~) or learned (between them)."""
    sigma_1: str = "beta~_2"
    """sigma^2 of the step that ends at the data: beta~_2 (as Ho et al.) or beta_1."""
    clip: bool | Auto = "auto"
    """Hold the guess of x_0 to [-1, 1] in sampling; auto: yes for level data, never for real data."""


@dataclass(frozen=True)
class NetworkSettings:
    """The network. auto: by the size of the images."""

    kind: Literal["auto", "unet", "mlp"] = "auto"
    """unet for images, mlp for points."""
    width: int | Auto = "auto"
    """Channels at the first level."""
    multipliers: tuple[int, ...] | Auto = "auto"
    """Width of each level, in units of `width`; each level halves the resolution."""
    blocks: int = 2
    """Residual blocks a level (one more on the way up)."""
    attention: tuple[int, ...] | Auto = "auto"
    """Levels with attention, 0 being the full resolution; the middle always has it."""
    heads: int = 1
    """Attention heads."""
    groups: int | Auto = "auto"
    """Groups of a normalization."""
    dropout: float = 0.0
    """Dropout in the residual blocks."""
    patch: int = 1
    """Side of the pixel squares that are folded into channels before the network and unfolded after it."""


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
    batch_size: int = 128
    """Images a step."""
    accumulation: int = 1
    """Micro-batches that a batch is split into: less memory, same step."""
    times: str = "uniform"
    """How t is drawn: uniform, stratified over the batch, or importance (where losses are large,
    once there are ten for each t)."""
    learning_rate: float = 2e-4
    """Step size of AdamW."""
    warmup: int = 500
    """Steps over which the learning rate rises to its value."""
    decay: str = "constant"
    """The rate after that: constant, linear or cosine (both to 0 at the last step)."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's memories."""
    clip_norm: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the averaged weights that sampling uses."""
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

RANGES: dict[str, tuple[float, float]] = {
    "data.label_dropout": (0, 1),
    "samples.seed": (0, 2**63 - 1),
    "data.held_out": (0, math.inf),
    "process.T": (1, 100_000),
    "network.width": (1, 65_536),
    "network.blocks": (1, 64),
    "network.heads": (1, 1024),
    "network.groups": (1, 1024),
    "network.dropout": (0, 0.99),
    "network.patch": (1, 64),
    "training.steps": (1, 10**9),
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


@dataclass(frozen=True)
class Asked:
    """Settings, and the dotted names of those that somebody chose; the rest come from presets, and may yield."""

    settings: Settings
    chosen: frozenset[str] = frozenset()


def flat(settings: Settings) -> dict[str, Any]:
    """Dotted names and values, in order."""
    sections = dataclasses.asdict(settings)
    return {
        f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()
    }


def to_mapping(settings: Settings) -> dict[str, Any]:
    """Plain nested tables, ready for TOML."""
    mapping = dataclasses.asdict(settings)
    return {s: {k: list(v) if isinstance(v, tuple) else v for k, v in t.items()} for s, t in mapping.items()}


def from_mapping(mapping: Mapping[str, Any], where: str, base: Settings | None = None) -> Settings:
    """Settings of nested tables laid over a base. Raises SettingsError on unknown keys and wrong types or values."""
    merged = to_mapping(base or Settings())
    entries = list(_entries(mapping, merged, where))
    for section, name, value in entries:
        merged[section][name] = value
    names = {f"{section}.{name}" for section, name, value in entries if value != "auto"}
    for budget, other in (BUDGETS, BUDGETS[::-1]):  # the budget of this layer, not the one below it
        if budget in names and other not in names:
            merged["training"][other.partition(".")[2]] = "auto"
    try:
        settings = msgspec.convert(merged, Settings)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$.")
        raise SettingsError(f"{place.rstrip('`') or 'a setting'} in {where}: {problem}") from error
    return checked(settings)


def _entries(
    mapping: Mapping[str, Any], known: Mapping[str, Any], where: str
) -> Iterator[tuple[str, str, Any]]:
    for section, values in mapping.items():
        if section not in known:
            raise _unknown(section, known, where)
        if not isinstance(values, Mapping):
            raise SettingsError(
                f"{section} in {where} is a section, not a value", f"write [{section}] and its keys below"
            )
        for name, value in values.items():
            if name not in known[section]:
                names = [f"{s}.{n}" for s, table in known.items() for n in table]
                raise _unknown(f"{section}.{name}", names, where)
            yield section, name, value


def _unknown(name: str, known: Any, where: str) -> SettingsError:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return SettingsError(
        f"unknown setting {name} in {where}", *([f"did you mean {', '.join(near)}?"] if near else [])
    )


def checked(settings: Settings) -> Settings:
    """The same settings, every number within its range. Raises SettingsError for the first that is not."""
    size = settings.data.size
    if isinstance(size, int):
        settings = with_values(settings, {"data.size": (size, size)})
    values = flat(settings)
    if size != "auto" and min(values["data.size"]) < 1:
        raise SettingsError(f"data.size must be at least 1 pixel, not {size}")
    held_out = settings.data.held_out
    if held_out >= 1 and held_out != int(held_out):
        raise SettingsError(f"data.held_out is a share below 1 or a whole number of images, not {held_out}")
    if not all(0 <= beta < 1 for beta in settings.training.betas):
        raise SettingsError(f"training.betas must be 0 to below 1, not {settings.training.betas}")
    for name, (low, high) in RANGES.items():
        value = values[name]
        if value != "auto" and not low <= value <= high:
            raise SettingsError(f"{name} must be {low:g} to {high:g}, not {value}")
    if settings.machine.micro_batch % 16 or settings.machine.micro_batch < 16:
        raise SettingsError(
            f"machine.micro_batch must be a multiple of 16, not {settings.machine.micro_batch}",
            "other shapes let an image depend on its neighbours in the last bit",
        )
    return settings


def with_values(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """The same settings with other values for these dotted names."""
    sections: dict[str, dict[str, Any]] = {}
    for dotted, value in values.items():
        section, _, name = dotted.partition(".")
        sections.setdefault(section, {})[name] = value
    changed = {
        name: dataclasses.replace(getattr(settings, name), **fields) for name, fields in sections.items()
    }
    return dataclasses.replace(settings, **changed)


def presets() -> dict[str, str]:
    """The presets that ship with the package, and the text of each."""
    folder = resources.files("kakusan") / "presets"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {f.name.removesuffix(".toml"): f.read_text("utf-8") for f in files}


def from_preset(name: str, base: Settings | None = None) -> Settings:
    """The settings of a preset laid over a base. Raises SettingsError if there is none of this name."""
    known = presets()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        raise SettingsError(
            f"there is no preset {name!r}",
            *([f"did you mean {near[0]}?"] if near else []),
            f"presets: {', '.join(known)}",
        )
    return from_mapping(tomllib.loads(known[name]), f"preset {name}", base)


def from_file(path: Path, base: Settings | None = None) -> Settings:
    """The settings of a TOML file laid over a base. Raises SettingsError if it cannot be read."""
    try:
        mapping = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    return from_mapping(mapping, str(path), base)


def settings_for(source: str, *, preset: str | None = None, file: Path | None = None) -> Settings:
    """The settings of a training on this source: the preset (by default the one of its name), then the file.

    preset "none" starts from the plain defaults. Raises SettingsError for what is unknown or out of range.
    """
    settings = Settings(data=DataSettings(source=source))
    if preset is None:
        preset = source if source in presets() else "none"
    if preset != "none":
        settings = from_preset(preset, settings)
    return settings if file is None else from_file(file, settings)


def chosen_in(mapping: Mapping[str, Any]) -> frozenset[str]:
    """The dotted names that nested tables set, save for budgets: those are chosen on the command line only."""
    names = {f"{section}.{name}" for section, table in mapping.items() for name in table}
    return frozenset(names - set(BUDGETS))


def differences(asked: Asked, stored: Settings) -> dict[str, tuple[Any, Any]]:
    """What was chosen and is not what a run has: name -> (asked, stored). "auto" asks for nothing."""
    wanted, had = flat(checked(asked.settings)), flat(stored)
    return {
        name: (wanted[name], had[name])
        for name in wanted
        if name in asked.chosen
        and not name.startswith(CHANGEABLE)
        and wanted[name] not in ("auto", had[name])
    }
