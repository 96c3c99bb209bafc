"""A model's folder as strangers write it: what is in it, read as data and never run.

Two layouts are known: parts in folders of their own (``unet/``, ``scheduler/``) and, older, all files side by side.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import safetensors
import safetensors.torch
from torch import Tensor

from kakusan.errors import ModelError, quoted
from kakusan.interop.diffusers.keys import Config, brief, shown
from kakusan.interop.diffusers.schedulers import ALL_SCHEDULERS, NETWORK, PIPELINES
from kakusan.storage.unpickling import read_bin

INDEX = "model_index.json"
NETWORK_FOLDER, SCHEDULER_FOLDER = "unet", "scheduler"
CONFIG = "config.json"
SCHEDULER_CONFIG = "scheduler_config.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
"""The better one first."""
ABOUT_OURS = "kakusan.json"
"""The file, in a folder written by kakusan, of what the format of diffusers has no place for."""

LONGEST_TEXT = 16 << 20
"""Bytes of a configuration; ten thousand betas take 300,000."""


@dataclass(frozen=True)
class Found:
    """The parts of a model's folder, the texts read and the weights not yet."""

    home: Path
    """The folder of the network, where its weights lie too."""
    unet: Config
    scheduler: Config
    about: Path
    """kakusan.json, if it is there."""

    @property
    def weights(self) -> Path:
        """The file of the weights. Raises ModelError where there is none, with what is there instead."""
        paths = [self.home / name for name in WEIGHTS]
        for path in paths:
            if path.is_file():
                return path
        variants = sorted(self.home.glob("diffusion_pytorch_model.*.safetensors"))
        rename = [f"to take {variants[0].name}, rename it to {WEIGHTS[0]}"] if len(variants) == 1 else []
        raise ModelError(f"{self.home} has no {' and no '.join(WEIGHTS)}", *rename, _list_of(self.home))


def find(folder: Path) -> Found:
    """The model in this folder. Raises ModelError where there is none that is known here."""
    if not _is_folder(folder):
        raise ModelError(
            f"there is no folder {folder}" if not folder.exists() else f"{folder} is a file, not a folder",
            f"a model is a folder with {INDEX} in it, or a name on the hub, hf:owner/name, not an address",
        )
    if (folder / "config.toml").is_file():
        raise ModelError(
            f"{folder} is a run of kakusan already", f"to use it: kakusan sample {quoted(folder)}"
        )
    _check_index(folder)
    parts = folder / NETWORK_FOLDER
    home = parts if (parts / CONFIG).is_file() else folder
    if not (home / CONFIG).is_file():
        raise ModelError(
            f"{folder} is no model: it has neither {NETWORK_FOLDER}/{CONFIG} nor {CONFIG}", _list_of(folder)
        )
    return Found(
        home=home,
        unet=_of_class(read_json(home / CONFIG), home / CONFIG, (NETWORK,)),
        scheduler=_scheduler(folder),
        about=folder / ABOUT_OURS,
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError) as error:  # too long, a NUL
        raise ModelError(f"{str(path)!r:.200} is no path: {error}") from error


def _check_index(folder: Path) -> None:
    """A pipeline of other parts, such as a decoder of latents, is another model."""
    if not (folder / INDEX).is_file():
        return
    index = _of_class(read_json(folder / INDEX), folder / INDEX, tuple(PIPELINES.values()))
    known = {NETWORK_FOLDER: (NETWORK,), SCHEDULER_FOLDER: ALL_SCHEDULERS}
    for part, value in index.items():
        if part.startswith("_"):
            continue
        if not (isinstance(value, list) and len(value) == 2 and value[1] in known.get(part, ())):
            raise ModelError(
                f"{brief(part)} = {shown(value)} of {folder / INDEX} is not supported",
                "known here: " + ", ".join(f"{name} ({' or '.join(kinds)})" for name, kinds in known.items()),
            )


def _scheduler(folder: Path) -> Config:
    paths = [folder / SCHEDULER_FOLDER / SCHEDULER_CONFIG, folder / SCHEDULER_CONFIG]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        above = folder.resolve().parent
        raise ModelError(
            f"{folder} has no {SCHEDULER_FOLDER}/{SCHEDULER_CONFIG}: a network alone does not say which process it "
            "was trained for",
            f"copy the {SCHEDULER_CONFIG} that belongs to it into the folder",
            f"or is this meant: {above}" if (above / INDEX).is_file() else _list_of(folder),
        )
    return _of_class(read_json(path, with_minus_infinity=True), path, ALL_SCHEDULERS)


def _of_class(config: Config, path: Path, known: tuple[str, ...]) -> Config:
    """Names of classes are compared with those that are known, and never looked up."""
    name = config.get("_class_name")
    if name not in known:
        raise ModelError(
            f"_class_name = {shown(name)} of {path} is not supported", f"known here: {', '.join(known)}"
        )
    return config


def _list_of(folder: Path) -> str:
    names = sorted(brief(path.name) for path in folder.iterdir())
    return f"there is: {', '.join(names[:12])}{', ...' * (len(names) > 12)}" if names else "it is empty"


def read_json(path: Path, *, with_minus_infinity: bool = False) -> dict[str, Any]:
    """A JSON object of sane size, all its numbers finite. Raises ModelError for anything else.

    with_minus_infinity: -Infinity may be one, as diffusers writes a bound that there is not.
    """
    try:
        if (size := path.stat().st_size) > LONGEST_TEXT:
            raise ModelError(f"{path} has {size:,} bytes, which no configuration needs")
        constant = _minus_infinity if with_minus_infinity else _refuse_constant
        content = json.loads(path.read_bytes(), parse_constant=constant)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a configuration: it holds {shown(content)}")
    return content


def _minus_infinity(name: str) -> float:
    if name != "-Infinity":
        _refuse_constant(name)
    return -math.inf


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _refuse_pointer(path: Path) -> None:
    """A clone without Git LFS has small texts in the place of large files."""
    try:
        with path.open("rb") as file:
            begins = file.read(40)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    if begins.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} is a pointer of Git LFS, not the weights", "to fetch them: git lfs pull")


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a .safetensors file, or of a .bin file, which is opened in a process of its own."""
    _refuse_pointer(path)
    if path.suffix == ".bin":
        return read_bin(path)
    try:
        return dict(safetensors.torch.load_file(path))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path} is no safetensors file, or a damaged one: {error}") from error
