"""Whether config.toml and data.json of a run are those that its checkpoint was trained with.

A checkpoint is hashed and holds the settings, and a SHA-256 of each part of data.json that its weights depend on.
Checked wherever weights of a run are loaded, before the text beside them is trusted.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from kakusan.config.loading import flat, foreign, usual_for
from kakusan.config.settings import CHANGEABLE, RENAMED, Settings
from kakusan.errors import RunError
from kakusan.storage.checkpoints import Checkpoint
from kakusan.storage.run_folder import CONFIG, DATA, RunFolder

DESCRIPTIVE = frozenset({"name", "source", "notes", "bad_files", "imported", "weights_from"})
"""Of data.json: what is for people, and may be edited."""
FREE = ("machine.", "data.source")
"""Settings that may change between two uses: the machine, and where the data lie, which their fingerprint covers."""
DATA_HASHES = "data_sha256"

OF_OLD = {
    "machine.workers": 1,
    "machine.graphs": False,
    "machine.kernels": False,
    "training.optimizer": "adamw",
}
"""Settings of checkpoints from before there were such."""


def frozen_settings(settings: Settings) -> dict[str, Any]:
    """The settings that a run may not change after its start, by dotted name, as JSON has them."""
    others = foreign(settings)
    return {
        name: _as_json(value)
        for name, value in flat(settings).items()
        if name not in others and not name.startswith((*CHANGEABLE, "data.cache"))
    }


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def data_hashes(record: Mapping[str, Any]) -> dict[str, str]:
    """The SHA-256 of each part of data.json but for the descriptive ones: shape, units, classes, what is held out."""
    parts = {
        name: json.dumps(value, sort_keys=True) for name, value in record.items() if name not in DESCRIPTIVE
    }
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in parts.items()}


def require_agreement(run: RunFolder, settings: Settings, checkpoint: Checkpoint) -> None:
    """Raises RunError where a text was changed since: the weights would mean something else.

    settings: those of config.toml as they stand there, before any flag.
    """
    changed = {
        name: pair
        for name, pair in changed_settings(settings, checkpoint).items()
        if not name.startswith(FREE)
    }
    if changed:
        raise RunError(
            f"the checkpoint of step {checkpoint.step} was trained with other settings than "
            f"{run.folder / CONFIG} has now",
            *(f"{name}: it has {had}, {CONFIG} says {has}" for name, (had, has) in changed.items()),
            f"write into {CONFIG} what it has",
        )
    known, found = checkpoint.state.get(DATA_HASHES) or {}, data_hashes(run.data)  # older ones have none
    strange = [name for name, sha256 in known.items() if found.get(name) != sha256]
    if strange:
        raise RunError(
            f"{run.folder / DATA} is not the one that the checkpoint of step {checkpoint.step} was trained with",
            f"changed since: {', '.join(strange)}",
            f"bring the {DATA} of this run back, from a copy",
        )


def changed_settings(settings: Settings, checkpoint: Checkpoint) -> dict[str, tuple[Any, Any]]:
    """Name -> (what the checkpoint has, what is set now), where they differ."""
    stored = checkpoint.state.get("settings")
    if not isinstance(stored, dict):
        raise RunError(f"the checkpoint of step {checkpoint.step} does not hold its settings")
    now = frozen_settings(settings)
    # older ones lack newer settings, which had no effect; the kind of their data is that of the shape in data.json
    renamed: dict[str, Any] = {RENAMED.get(str(name), str(name)): x for name, x in stored.items()}
    usual = {name: _as_json(value) for name, value in usual_for(settings).items()}
    was = {**usual, "data.kind": now["data.kind"], **OF_OLD, **renamed}
    return {name: (was[name], value) for name, value in now.items() if was[name] != value}


@contextmanager
def fitting(run: RunFolder, checkpoint: Checkpoint) -> Iterator[None]:
    """Turn what PyTorch says of tensors that do not fit a network into a RunError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, KeyError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise RunError(
            f"the checkpoint of step {checkpoint.step} of {run.folder} does not fit the network of its {CONFIG}",
            *(lines[1:4] or lines),
        ) from error
