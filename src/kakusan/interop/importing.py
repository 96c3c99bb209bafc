"""Their models in: a folder or a name on the hub becomes a run that all commands work on."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from kakusan import durable
from kakusan.assembly import DataRecord, build_denoiser, build_network, build_schedule, environment
from kakusan.checkpoints import Checkpoint
from kakusan.config import checked, to_mapping
from kakusan.errors import KakusanError, ModelError
from kakusan.interop import hub
from kakusan.interop.diffusers import Translated, scheduler_config, translated, unet_config
from kakusan.interop.folder import Found, find, read_weights
from kakusan.interop.weights import joined
from kakusan.launching import free_folder
from kakusan.maths.units import Levels
from kakusan.networks import UNet
from kakusan.opened import Run
from kakusan.resolve import DataFacts, resolve, resolve_samples
from kakusan.runs import RunFolder
from kakusan.settings import (
    DataSettings,
    MachineSettings,
    NetworkSettings,
    ProcessSettings,
    Settings,
    TrainingSettings,
)
from kakusan.task import frozen_settings

Say = Callable[[str], None]


@dataclass(frozen=True)
class Origin:
    """Where a model came from, as its run remembers it."""

    source: str
    folder: Path
    revision: str = ""
    """The commit, of a name on the hub."""

    @property
    def name(self) -> str:
        return self.source.removeprefix(hub.PREFIX).partition("@")[0].rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class Imported:
    """The run, and what a user should know of how the model was read."""

    run: Run
    parameters: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class AboutData:
    """What kakusan.json says of the data."""

    name: str
    shape: tuple[int, int, int]
    units: dict[str, Any]
    class_names: tuple[str, ...]
    fingerprint: str


def import_model(
    source: str | Path,
    run: Path | str | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    say: Say = lambda _: None,
) -> Imported:
    """A run from a folder of diffusers, or from hf:owner/name[@revision]; by default in runs/NAME.

    size: height and width of its images, for models that do not say. Nothing of the folder is run; pickled weights are
    opened in a process of their own. Raises ModelError for what is not known here, by key and value.
    """
    origin = _origin(str(source), say)
    target = Path(run) if run is not None else free_folder(origin.name.replace(".", "-"))
    size = (size, size) if isinstance(size, int) else size
    RunFolder.refuse_what_is_there(target)
    found, model = _understood(origin.folder)
    say(f"reading {found.weights}")
    theirs = read_weights(found.weights)
    ours, notes = _as_exported(found, model)
    settings, record = ours or _settings(model, size, origin.name)
    with _telling_notes(model):
        weights = joined(_empty_network(settings, record), theirs)
    notes = (*model.notes, *notes, *_about_types(theirs))
    record |= {
        "source": "",
        "notes": [f"imported from {origin.source}", *notes],
        "imported": {
            "source": origin.source,
            "revision": origin.revision,
            "scheduler": model.scheduler,
            "weights": found.weights.name,
            "sha256": _sha256(found.weights),
        },
    }
    _write(target, settings, record, weights)
    parameters = sum(tensor.numel() for tensor in weights.values())
    return Imported(Run.open(target), parameters, notes)


def _origin(source: str, say: Say) -> Origin:
    if not source.startswith(hub.PREFIX):
        folder = Path(source).expanduser()
        return Origin(str(folder.resolve()), folder)
    fetched = hub.fetch(hub.HubName.parse(source), say, check=_understood)
    return Origin(source, fetched.folder, fetched.revision)


@contextmanager
def _telling_notes(model: Translated) -> Iterator[None]:
    """Weights that do not fit may be due to how the configuration was read."""
    try:
        yield
    except ModelError as error:
        raise ModelError(error.problem, *error.advice, *model.notes) from error


def _understood(folder: Path) -> tuple[Found, Translated]:
    """What the texts of a folder say. Raises ModelError for what is not known here, before weights are looked at."""
    found = find(folder)
    return found, translated(found.unet, found.scheduler)


def _settings(model: Translated, size: tuple[int, int] | None, name: str) -> tuple[Settings, dict[str, Any]]:
    """All that a run is told, and what it remembers of data that were never seen here: 256 levels on [-1, 1]."""
    if model.size is None and size is None:
        raise ModelError(
            "sample_size = null: the model does not say how large its images are", "say it: --size 64"
        )
    if model.size is not None and size not in (None, model.size):
        raise ModelError(
            f"the model's images are {model.size[0]} x {model.size[1]} (height, width)", "leave --size out"
        )
    height, width = size or model.size or (0, 0)
    shape = (model.channels, height, width)
    record = {
        "name": name,
        "count": 0,
        "shape": list(shape),
        "units": Levels(256).to_state(),
        "class_names": [str(number) for number in range(model.classes)],
        "fingerprint": "",
        "bad_files": [],
        "held_out": [],
    }
    settings = Settings(
        data=DataSettings(labels=model.classes > 0),
        process=model.process,
        network=model.network,
        training=TrainingSettings(steps=0),
        machine=MachineSettings(precision="fp32"),  # as they compute: the same numbers
    )
    settings = resolve(checked(settings), DataFacts(shape, is_points=False, is_levels=True))
    return replace(settings, samples=resolve_samples(settings.samples, 0)), record


def _as_exported(
    found: Found, model: Translated
) -> tuple[tuple[Settings, dict[str, Any]] | None, tuple[str, ...]]:
    """What kakusan.json says of a model that we wrote: believed where, written again, it is the model of the folder."""
    if found.about is None:
        return None, ()
    try:
        network = msgspec.convert(found.about["network"], NetworkSettings)
        process = msgspec.convert(found.about["process"], ProcessSettings)
        data = DataRecord.read(asdict(msgspec.convert(found.about["data"], AboutData)))
        learned = process.variance == "learned"
        unet = unet_config(network, data.shape, classes=len(data.class_names), learned=learned)
        scheduler = scheduler_config(process, build_schedule(process), model.scheduler)
        said = translated(unet, scheduler)
        whole = replace(said, network=network, process=process, size=data.shape[1:])
        settings, record = _settings(whole, None, data.name)
    except (KakusanError, msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
        return None, (f"kakusan.json is passed over: {error}",)
    if said != model:
        return None, ("kakusan.json is passed over: it speaks of another model than the folder's own files",)
    return (settings, record | {"units": data.units.to_state(), "class_names": list(data.class_names)}), ()


def _empty_network(settings: Settings, record: dict[str, Any]) -> UNet:
    """The network without its weights: names and shapes. What cannot be is refused here, before anything is made."""
    data = DataRecord.read(record)
    with torch.device("meta"):
        machine = replace(settings.machine, device="meta")
        network = build_network(replace(settings, machine=machine), data)
    build_denoiser(settings, network, data.units)
    assert isinstance(network, UNet)
    return network


def _about_types(theirs: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in theirs.values()} - {"float32"}
    return (f"weights of {', '.join(sorted(types))} are kept as float32",) if types else ()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(
    target: Path, settings: Settings, record: dict[str, Any], weights: dict[str, torch.Tensor]
) -> None:
    """The run, whole or not there: made beside its place and then renamed."""
    with durable.telling(f"cannot make the run {target}", target.parent):
        durable.make_folders(target.parent)
        for leftover in target.parent.glob(f".importing-{target.name}-*"):
            durable.remove_tree(leftover)
    unfinished = target.with_name(f".importing-{target.name}-{os.getpid()}")
    checkpoint = Checkpoint(
        step=0,
        tensors={"model": weights, "ema": weights},
        state={
            "images_seen": 0,
            "seed": settings.training.seed,
            "settings": frozen_settings(settings),
            "data_fingerprint": "",
            "environment": environment(settings.machine),
        },
    )
    try:
        made = RunFolder.create(unfinished, to_mapping(settings), environment(settings.machine), record)
        made.save(checkpoint)
        with durable.telling(f"cannot make the run {target}", target.parent):
            durable.rename(unfinished, target)
            durable.sync_folder(target.parent)
    except BaseException:
        with suppress(OSError):
            durable.remove_tree(unfinished)
        raise
