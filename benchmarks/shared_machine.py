"""Trainings that share their cores: python benchmarks/shared_machine.py.

Seconds of the whole command `kakusan train digits --steps 60`: alone, two of them at once, and beside another program,
a loop that keeps one core busy or a long training. Once as it comes, with parts of the batch at once, and once with all
threads in every operation (`--machine.workers 1`).
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from measuring import Figures, Spread, in_words, interleaved, leave, machine, report, table

KAKUSAN = (sys.executable, "-m", "kakusan")
WAYS: Mapping[str, Sequence[str]] = {
    "as it comes": (),
    "all threads in every operation": ("--machine.workers", "1"),
}
LOOP = (sys.executable, "-c", "while True: pass")
ENDLESS = 10**7
"""Steps of the training beside which the others run: it is ended from outside."""


class Trainings:
    """Trainings of a few steps, each in a folder of its own."""

    def __init__(self, folder: Path, steps: int) -> None:
        self._folder, self._steps, self._begun = folder, steps, 0

    def begin(self, *flags: str, steps: int | None = None) -> subprocess.Popen[bytes]:
        self._begun += 1
        run = str(self._folder / f"run{self._begun}")
        length = str(self._steps if steps is None else steps)
        command = (*KAKUSAN, "train", "digits", "--run", run, "--steps", length, *flags)
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def at_once(self, count: int, *flags: str) -> None:
        """Begin so many, and wait until all are done."""
        begun = [self.begin(*flags) for _ in range(count)]
        codes = [each.wait() for each in begun]
        if any(codes):
            raise RuntimeError("a training ended with an error: run the command by hand to see it")

    def beside(self, other: Callable[[], "subprocess.Popen[bytes]"], *flags: str) -> None:
        """One, while another program runs."""
        with running(other):
            self.at_once(1, *flags)


@contextmanager
def running(begin: Callable[[], "subprocess.Popen[bytes]"]) -> Iterator[None]:
    """A context in which another program runs."""
    other = begin()
    try:
        yield
    finally:
        other.terminate()
        other.wait()


def actions(trainings: Trainings, flags: Sequence[str]) -> dict[str, Callable[[], None]]:
    """What is timed, by its name."""

    def loop() -> subprocess.Popen[bytes]:
        return subprocess.Popen(LOOP)

    long = partial(trainings.begin, *flags, steps=ENDLESS)
    return {
        "alone": partial(trainings.at_once, 1, *flags),
        "two at once": partial(trainings.at_once, 2, *flags),
        "beside a loop": partial(trainings.beside, loop, *flags),
        "beside a long training": partial(trainings.beside, long, *flags),
    }


def shown(figures: Figures) -> str:
    """The figures for people."""
    rows = []
    for way, found in figures["seconds"].items():
        alone = found["alone"]["median"]
        for name, spread in found.items():
            each = f"{spread['median']:.1f} ({spread['low']:.1f} to {spread['high']:.1f})"
            rows.append((way, name, each, f"{spread['median'] / alone:.2f}"))
    head = f"kakusan train digits --steps {figures['steps']}: seconds, medians of {figures['repeats']} with quartiles"
    return f"{in_words(figures['machine'])}\n\n{head}\n\n{table(('threads', 'beside', 'seconds', 'of alone'), rows)}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="of each training (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as there:
        trainings = Trainings(Path(there), asked.steps)
        named = {
            (way, name): action
            for way, flags in WAYS.items()
            for name, action in actions(trainings, flags).items()
        }
        timed = interleaved({str(key): action for key, action in named.items()}, asked.repeats, warm=0)
        spreads = dict(zip(named, (vars(Spread.of(each)) for each in timed.values()), strict=True))
        found = {way: {name: spread for (of, name), spread in spreads.items() if of == way} for way in WAYS}
        figures = {"steps": asked.steps, "repeats": asked.repeats, "seconds": found, "machine": machine()}
    return report(figures, shown(figures), as_json=asked.json)


if __name__ == "__main__":
    leave(main)
