"""The benchmarks of speed in one run: python benchmarks/bench.py [--full].

Each script runs in a process of its own. Its figures are appended to benchmarks/results.jsonl, a line each with the
commit, the day and the machine; its table goes to the terminal. --full adds trainings by the clock, which take hours.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from measuring import Figures, leave

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
QUICK: tuple[tuple[str, ...], ...] = (
    ("versus_diffusers.py", "--cifar", "--repeats", "7"),
    ("memory_beside_diffusers.py",),
    ("other_peers.py", "--repeats", "3"),
    ("training_overhead.py", "--images", "2000"),
    ("shared_machine.py", "--repeats", "1"),
)
ON_CUDA: tuple[tuple[str, ...], ...] = (("gpu.py", "--repeats", "3"),)
FULL: tuple[tuple[str, ...], ...] = (("transformer.py", "--minutes", "3"), ("automatic.py",))


def commit() -> str:
    """The commit of the sources, with a plus where files differ from it; empty outside of a repository."""
    told = subprocess.run(
        ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--abbrev=12"],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip()


def result_of(command: Sequence[str]) -> Figures | None:
    """The figures of a script, and where they come from; None where it says that it cannot measure here.

    Raises CalledProcessError where it ends with an error.
    """
    words = [sys.executable, str(HERE / command[0]), *command[1:], "--json"]
    told = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    if not told.startswith("{"):
        print(told, end="", flush=True)
        return None
    figures: Figures = json.loads(told)
    day = datetime.now(UTC).date().isoformat()
    return {"command": " ".join(command), "commit": commit(), "day": day, "figures": figures}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the trainings by the clock too: hours")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where results go (default: %(default)s)")
    asked = parser.parse_args(arguments)
    on_cuda = ON_CUDA if torch.cuda.is_available() else ()
    for command in (*QUICK, *on_cuda, *(FULL if asked.full else ())):
        print(f"\n{' '.join(command)}", flush=True)
        result = result_of(command)
        if result is None:
            continue
        with asked.out.open("a", encoding="utf-8") as results:
            results.write(json.dumps(result, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    leave(main)
