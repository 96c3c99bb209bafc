"""The command line. This file answers `kakusan`, `--help` and `--version` at once; each command is a module of its own.

Exit codes: 0 well; 1 a bug (with its traceback), or standard output that cannot be written (with a line); 2 usage or
settings; 3 data; 4 checkpoint or run folder; 5 numbers that are not finite; 128 + n on signal n, after saving; 141
where the reader of the output has gone.
"""

import difflib
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module, metadata

from kakusan.cli.instead import instead_of
from kakusan.errors import KakusanError, SettingsError
from kakusan.terminal.signals import Stopped, stopping
from kakusan.terminal.streams import OutputLost, guarded

COMMANDS = {
    "demo": "train on the kanji that ship with kakusan, sample, report: a few minutes on two cores",
    "plan": "what `train DATA` would do here, and what it is likely to come to; nothing is trained",
    "train": "train on DATA: a bundled name, a folder of images, .npz, .npy, IDX; no other flag is needed",
    "resume": "go on with a RUN exactly where it stopped; --minutes M trains it for longer",
    "distill": "a RUN becomes a model of one to four calls; at the end, what that costs is measured",
    "sample": "new images from a RUN: a grid .png, a folder of .png, or .npz",
    "tune": "the best times for few steps of a RUN, kept in it",
    "edit": "variations of an image, its noise and back, what lies between two, by the model of a RUN",
    "restore": "samples of x given a measurement: fill in, deblur, more pixels, scans; do the error bars hold?",
    "compare": "samplers, steps, weights of guidance or RUNs side by side: a picture, distances, times",
    "evaluate": "how many bits an image takes, and at which noise level: the bound of a RUN",
    "compress": "images in as few bytes as a RUN knows of them, without loss",
    "decompress": "and back, to the last bit",
    "diagnose": "is a RUN broken, is it done, does it copy, are the colours right: in words, with figures",
    "report": "one self-contained HTML page about a RUN",
    "explain": "the thirteen equations in symbols, in numbers and in pictures; with a RUN or without",
    "import": "a run from a model trained elsewhere: a folder of diffusers, or hf:owner/name",
    "export": "the model of a RUN for other programs: diffusers, ONNX, safetensors",
    "data": "what is in DATA: counts, sizes, bad files, duplicates, a contact sheet",
    "bench": "how fast this machine trains and samples with the network for DATA; nothing is trained",
    "doctor": "versions, devices, what is missing",
}

MODULES = {"import": "importing", "export": "exporting"}
"""Commands whose name cannot be that of a module, or reads badly as one."""

EXAMPLES = (
    ("kakusan demo", "see it work"),
    ("kakusan explain", "see how it works, equation by equation"),
    ("kakusan data photos/", "look before you train"),
    ("kakusan plan photos/ --minutes 60", "what an hour would come to"),
    ("kakusan train photos/ --minutes 60", "train; Ctrl-C saves"),
    ("kakusan resume runs/photos", "go on"),
    ("kakusan sample runs/photos --count 64 --out new.png", "new images"),
    ("kakusan edit runs/photos --from cat.jpg", "variations of a picture"),
    ("kakusan restore runs/photos --observed y.png --operator mask:m.png", "fill in what is hidden"),
    ("kakusan diagnose runs/photos", "is it broken, done, copying, the right colours"),
    ("kakusan evaluate runs/photos --images 20 --terms 60", "how many bits they take"),
    ("kakusan import ddpm-cat-256/", "go on from a model of diffusers"),
    ("kakusan export runs/photos photos-model/", "and back"),
)

PATIENT_SPINS = 200_000
"""Spins of a thread of GNU OpenMP that waits, before it sleeps. By default it spins for minutes: as fast on a
quiet machine, but a hundred times slower where another program needs the same cores."""


def usage() -> str:
    """The usage text of `kakusan`: its commands, and examples."""
    commands = "\n".join(f"  {name:<8} {line}" for name, line in COMMANDS.items())
    examples = "\n".join(f"  {line:<51}  {word}" for line, word in EXAMPLES)
    return (
        "kakusan (拡散, diffusion): train, sample, measure and explain denoising diffusion models\n\n"
        f"usage: kakusan COMMAND ...        kakusan COMMAND --help says more\n\n{commands}\n\nexamples\n{examples}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code says how it went."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("GOMP_SPINCOUNT", str(PATIENT_SPINS))
    with guarded(), stopping():
        try:
            try:
                return _answered(arguments)
            finally:
                sys.stdout.flush()
        except OutputLost as lost:
            lost.tell()
            return lost.exit_code


def _answered(arguments: list[str]) -> int:
    try:
        return _dispatch(arguments)
    except KakusanError as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt as stop:
        print("\nstopped", file=sys.stderr)
        return stop.exit_code if isinstance(stop, Stopped) else 130


def _dispatch(arguments: list[str]) -> int:
    if len(arguments) == 2 and arguments[0] == "help":
        arguments = [arguments[1], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"kakusan {metadata.version('kakusan')}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        elsewhere = instead_of(name)
        advice = elsewhere or (f"did you mean: kakusan {near[0]}" if near else "see: kakusan --help")
        raise SettingsError(f"there is no command {name!r}", advice)
    _do_without_a_temporary_folder()
    code: int = import_module(f"kakusan.cli.{MODULES.get(name, name)}").main(rest)
    return code


def _do_without_a_temporary_folder() -> None:
    """Name a temporary folder even where none can be written: torch asks for its name, and nothing here needs it."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = os.environ.get("TMPDIR", "/tmp")


def _complain(error: KakusanError) -> None:
    print(f"error: {error.problem}", file=sys.stderr)
    for line in error.advice:
        print(f"  {line}", file=sys.stderr)
