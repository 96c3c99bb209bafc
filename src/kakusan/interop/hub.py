"""Names like ``hf:google/ddpm-cifar10-32``: the few files of a model on the Hugging Face hub that are needed.

A name is first resolved to a commit, and only files of that commit are taken: what a run says of its origin stays
true. The list of files is not trusted. It is only searched for the names below, so that nothing else is
ever requested, and no name from there becomes a local path.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kakusan.errors import ModelError
from kakusan.interop.diffusers.folder import (
    ABOUT_OURS,
    CONFIG,
    INDEX,
    LONGEST_TEXT,
    NETWORK_FOLDER,
    SCHEDULER_CONFIG,
    SCHEDULER_FOLDER,
    WEIGHTS,
)

PREFIX = "hf:"
EXAMPLE = "a model on the hub is named like hf:google/ddpm-cifar10-32, or hf:google/ddpm-cifar10-32@main"
BY_HAND = "or download it by hand, and name its folder"
TOKEN = "set HF_TOKEN to a token of an account that may read it"
PATIENCE = 30.0  # seconds until the hub answers

TEXTS = (
    INDEX,
    CONFIG,
    SCHEDULER_CONFIG,
    f"{NETWORK_FOLDER}/{CONFIG}",
    f"{SCHEDULER_FOLDER}/{SCHEDULER_CONFIG}",
    ABOUT_OURS,
)
WEIGHTS_LIKE = re.compile(r"\.(safetensors|bin|pt|pth|ckpt|msgpack|onnx|index\.json)$")

_WORD = r"(?![-.])[A-Za-z0-9._-]+(?<![-.])"
_NAME = re.compile(rf"({_WORD}/{_WORD})(?:@([A-Za-z0-9][A-Za-z0-9._/+-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubName:
    """A model on the hub: its owner and name, and a branch, a tag or a commit."""

    repository: str
    revision: str | None = None
    """None for the branch that its owner made the first."""

    @classmethod
    def parse(cls, text: str) -> "HubName":
        """``hf:owner/name`` or ``hf:owner/name@revision``. Raises ModelError for anything else."""
        named = _NAME.fullmatch(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else None
        if named is None or len(text) > 200 or ".." in text or "--" in named[1] or named[1].endswith(".git"):
            raise ModelError(f"{text[:200]!r} names no model on the hub", EXAMPLE)
        return cls(named[1], named[2])

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Fetched:
    """The local folder of a model's files, and their commit."""

    folder: Path
    """In the hub's cache, which others read too: not to be changed."""
    repository: str
    revision: str
    """The commit, in full."""


def fetch(
    name: HubName,
    say: Callable[[str], None] = lambda _: None,
    check: Callable[[Path], object] = lambda _: None,
) -> Fetched:
    """Download what is needed of a model and is not in the cache yet.

    say: called with each file and its size. check: called with the folder before the weights; it may raise.
    Raises ModelError where the model is not there, may not be read or is of another kind, and where the hub is
    out of reach.
    """
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise ModelError("hf: names need huggingface_hub", "pip install 'kakusan[hf]'") from error

    with _telling(name):
        commit, sizes = _listing(name)
        *texts, weights = _needed(name, sizes)
        for text in texts:
            if (sizes[text] or 0) > LONGEST_TEXT:
                raise ModelError(f"{text} of {name} has {sizes[text]:,} bytes, which no configuration needs")

        def folder_with(file: str) -> Path:
            if hub.try_to_load_from_cache(name.repository, file, revision=commit) is None:
                say(f"downloading {file}" + (f" ({sizes[file]:,} bytes)" if sizes[file] else ""))
            path = Path(hub.hf_hub_download(name.repository, file, revision=commit))
            return path.parents[file.count("/")]

        for text in texts:
            folder = folder_with(text)
        check(folder)
        folder_with(weights)
    return Fetched(folder, name.repository, commit)


def _listing(name: HubName) -> tuple[str, dict[str, int | None]]:
    """The commit that a name stands for now, and the sizes of its files, where they are known."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(name.repository, revision=name.revision, files_metadata=True, timeout=PATIENCE)
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit):
        raise ModelError(f"{name} was not found: what answered names no commit", _reach())
    return commit, {
        str(file.rfilename): file.size if isinstance(file.size, int) else None for file in info.siblings or ()
    }


def _needed(name: HubName, listed: Mapping[str, object]) -> list[str]:
    """The files to take: all that are short, and one file of weights, which is the last.

    The weights stand beside the network's configuration, in a folder ``unet`` or at the top.
    """
    homes = [home for home in (f"{NETWORK_FOLDER}/", "") if f"{home}{CONFIG}" in listed]
    if not homes:
        raise ModelError(
            f"{name} is no diffusion model: it has neither {NETWORK_FOLDER}/{CONFIG} nor {CONFIG}",
            _there(listed),
        )
    weights = [f"{homes[0]}{file}" for file in WEIGHTS if f"{homes[0]}{file}" in listed]
    if not weights:
        raise ModelError(
            f"{name} has no weights in one file and full precision: {homes[0]}{WEIGHTS[0]}", _there(listed)
        )
    return [*(file for file in TEXTS if file in listed), weights[0]]


def _there(listed: Mapping[str, object]) -> str:
    """A few of the names in a list, weights before others, fit to be shown."""
    fit = sorted(file for file in listed if file.isprintable() and len(file) < 120)
    shown = [file for file in fit if WEIGHTS_LIKE.search(file)] or fit
    return f"there is: {', '.join(shown[:8])}{', ...' * (len(shown) > 8)}" if shown else "it is empty"


@contextmanager
def _telling(name: HubName) -> Iterator[None]:
    """Turn what goes wrong between here and the hub into a ModelError."""
    from huggingface_hub.errors import HfHubHTTPError

    # its bases are OSError and the root of the HTTP library's errors, whichever library that is
    no_hub: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, ValueError, KeyError, TypeError)
    try:
        yield
    except no_hub as error:  # the last three: an answer that is not a hub's
        raise _told(name, error) from error


def _told(name: HubName, error: Exception) -> ModelError:
    from huggingface_hub import constants, errors

    at = f"no revision {name.revision!r}" if name.revision else "no commit yet"
    page = "its page on the hub lists what there is"
    known: tuple[tuple[type[Exception], str, tuple[str, ...]], ...] = (
        (
            errors.GatedRepoError,
            f"{name} is open only to those who asked for it",
            (f"ask on its page, then {TOKEN}", BY_HAND),
        ),
        (errors.RevisionNotFoundError, f"{PREFIX}{name.repository} has {at}", (page,)),
        (
            errors.RepositoryNotFoundError,
            f"{name} was not found: no such model, or a private one",
            (EXAMPLE, f"for a private one, {TOKEN}"),
        ),
        (
            errors.OfflineModeIsEnabled,
            f"{name} was not looked for: HF_HUB_OFFLINE keeps off the network",
            ("unset HF_HUB_OFFLINE", BY_HAND),
        ),
        (errors.HfHubHTTPError, f"{name} was refused by the hub: {_first_line(error)}", (TOKEN, BY_HAND)),
    )
    for kind, problem, advice in known:
        if isinstance(error, kind):
            return ModelError(problem, *advice)
    if isinstance(error, (ValueError, KeyError, TypeError)):
        return ModelError(
            f"{name} was not downloaded: what answered does not speak as a hub does", _reach(), BY_HAND
        )
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
        room = f"the files go to {constants.HF_HUB_CACHE} (HF_HOME)"
        return ModelError(f"{name} was not downloaded: {_first_line(error)}", room)
    return ModelError(f"{name} was not downloaded: {_first_line(error)}", _reach(), BY_HAND)


def _first_line(error: BaseException) -> str:
    """The message of an error's root cause, in one short line."""
    while error.__cause__ is not None and str(error.__cause__):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "".join(letter for letter in (lines or [type(error).__name__])[0] if letter.isprintable())[:160]


def _reach() -> str:
    from huggingface_hub import constants

    return f"check that {constants.ENDPOINT} (HF_ENDPOINT) can be reached from here"
