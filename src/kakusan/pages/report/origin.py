"""The origin of a run for its report: its data, its parent, the process and the machine, in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kakusan.config.settings import ProcessSettings
from kakusan.data.space import Noun, size_in_words
from kakusan.errors import quoted
from kakusan.pages.report.content import Story
from kakusan.run import Loaded, Run


@dataclass(frozen=True)
class Origin:
    """The origin of the weights, and what can be done with them for that reason."""

    words: str
    facts: dict[str, str]
    commands: tuple[tuple[str, str], ...] = ()
    next_words: str = ""
    detail_words: str = Story.detail_words
    sections: tuple[str, ...] | None = None
    """Of the settings; None: all."""


def origin_of(run: Run, loaded: Loaded, noun: Noun) -> Origin:
    """The origin of these weights: trained here, or imported."""
    record, size, many = run.files.data, size_in_words(run.data.shape), noun.many
    again = f"gives the same {many} for the same seed."
    if imported := record.get("imported"):
        facts = {
            "Data": f"not known here: imported from {named(imported['source'])}",
            many.capitalize(): size,
        }
        return Origin(
            "trained elsewhere and imported",
            facts,
            next_words=f"The run {again}",
            detail_words="The network and its process, as they were imported. How it was trained is not known here.",
            sections=("network", "process", "machine"),
        )
    held_out, parent = len(record["held_out"]), record.get("weights_from")
    count = f"{record['count'] - held_out:,}"
    return Origin(
        words=f"trained on {count} {many}",
        facts={
            "Data": _data(record),
            many.capitalize(): f"{count} to train on, {held_out:,} held out; {size}",
            **({"Missing": missing} if (missing := run.data.missing_in_words()) else {}),
            "Steps": f"{loaded.step:,} of {run.settings.training.batch_size} {many}",
            **run.unplanned(loaded.step),
            **({"Began as": f"{named(parent['run'])}, step {parent['step']:,}"} if parent else {}),
        },
        commands=(
            ("Go on training", f"kakusan resume {quoted(run.folder)} --steps {2 * loaded.step}"),
            (f"How many bits {noun.a} takes", f"kakusan evaluate {quoted(run.folder)}"),
        ),
        next_words=f"The run goes on exactly where it stopped, and {again}",
    )


def _data(record: Mapping[str, Any]) -> str:
    """The name, and where it comes from if that is more than a path."""
    source = named(record["source"])
    return record["name"] if source == record["name"] else f"{record['name']}: {source}"


def named(source: str) -> str:
    """The last part of an absolute path, and all else as it is: a page may be shown to others."""
    return Path(source).name if Path(source).is_absolute() else source


def named_words(text: str) -> str:
    """Words of an operator, of a noise or of a command, of absolute paths in them the last part: mask:known.png."""
    words = [named(text)] if Path(text).is_absolute() else text.split(" ")
    return " ".join(":".join(map(named, word.split(":"))) for word in words)


def shown(key: str, value: Any) -> Any:
    """A setting as a page has it: of files the names, and hashes."""
    if key == "files":
        return ", ".join(f"{named(path)} (SHA-256 {digest})" for path, digest in value.items())
    return named_words(value) if isinstance(value, str) else value


PATH_WORDS = {
    "flow": "flow matching (a = 1 - t/T, b = t/T)",
    "edm": "EDM path (a = 1, b = sigma)",
}


def process_in_words(process: ProcessSettings) -> str:
    """The schedule, and what is unusual in it."""
    ends = ", ending in pure noise" * process.zero_terminal_snr
    if process.path != "vp":
        words = PATH_WORDS.get(process.path, f"path {process.path}")
        return f"{words}, T = {process.T}, variance {process.variance}"
    return f"{process.schedule} schedule, T = {process.T}{ends}, variance {process.variance}"


def device_in_words(machine: Mapping[str, Any]) -> str:
    """The device, with processor and threads."""
    return f"{machine.get('device')} ({machine.get('processor')}, {machine.get('threads')} threads)"
