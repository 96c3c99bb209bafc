"""Their models in: a folder or a name on the hub becomes a run that all commands work on."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from kakusan.config.loading import to_mapping
from kakusan.config.machine import environment
from kakusan.errors import ModelError
from kakusan.interop import hub
from kakusan.interop.diffusers.config import Translated, translated
from kakusan.interop.diffusers.folder import Found, find, read_weights
from kakusan.interop.diffusers.weights import joined
from kakusan.interop.draft import Draft, drafted, empty_network
from kakusan.interop.native import as_exported
from kakusan.run import Run
from kakusan.storage import durable
from kakusan.storage.agreement import DATA_HASHES, data_hashes, frozen_settings
from kakusan.storage.checkpoints import Checkpoint
from kakusan.storage.run_folder import RunFolder
from kakusan.training.launch import free_folder

Say = Callable[[str], None]


@dataclass(frozen=True)
class Origin:
    """The origin of a model, as its run records it."""

    source: str
    folder: Path
    revision: str = ""
    """The commit, of a name on the hub."""

    @property
    def name(self) -> str:
        on_hub = self.source.removeprefix(hub.PREFIX).partition("@")[0] if self.revision else self.source
        return Path(on_hub).name


@dataclass(frozen=True)
class Imported:
    """The run, and notes for the user on how the model was read."""

    run: Run
    parameters: int
    notes: tuple[str, ...]


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
    ours, notes = as_exported(found.about, model, size)
    draft = ours or drafted(model, size, origin.name)
    with _telling_notes(model):
        weights = joined(empty_network(draft), theirs)
    notes = (*model.notes, *notes, *_about_types(theirs))
    draft.record.update(
        {
            "source": "",
            "notes": [f"imported from {origin.source}", *notes],
            "imported": {
                "source": origin.source,
                "revision": origin.revision,
                "scheduler": model.scheduler,
                "weights": found.weights.name,
                "sha256": durable.sha256_of(found.weights),
            },
        }
    )
    _write(target, draft, weights)
    parameters = sum(tensor.numel() for tensor in weights.values())
    return Imported(Run.open(target), parameters, notes)


def _origin(source: str, say: Say) -> Origin:
    if not source.startswith(hub.PREFIX):
        try:
            folder = Path(source).expanduser()
            return Origin(str(folder.resolve()), folder)
        except (RuntimeError, OSError, ValueError) as error:  # no such user, too long, a NUL
            raise ModelError(f"{source!r:.200} is no path: {error}") from error
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
    """The configuration of a folder, before weights are read. Raises ModelError for what is not known here."""
    found = find(folder)
    return found, translated(found.unet, found.scheduler)


def _about_types(theirs: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in theirs.values()} - {"float32"}
    return (f"weights of {', '.join(sorted(types))} are kept as float32",) if types else ()


def _write(target: Path, draft: Draft, weights: dict[str, torch.Tensor]) -> None:
    """The run, whole or not there."""
    settings = draft.settings
    checkpoint = Checkpoint(
        step=0,
        tensors={"model": weights, "ema": weights},
        state={
            "images_seen": 0,
            "seed": settings.training.seed,
            "settings": frozen_settings(settings),
            "data_fingerprint": "",
            DATA_HASHES: data_hashes(draft.record),
            "environment": environment(settings.machine),
        },
    )
    telling = durable.os_errors_as_run_errors(f"cannot make the run {target}", target.parent)
    with telling, durable.whole_folder(target, "importing") as unfinished:
        made = RunFolder.create(unfinished, to_mapping(settings), environment(settings.machine), draft.record)
        made.save(checkpoint)
