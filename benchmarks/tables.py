"""The tables of speed, written anew from benchmarks/results.jsonl alone: python benchmarks/tables.py.

A page has places for them, between `<!-- begin: NAME -->` and `<!-- end -->`; what stands there is replaced by what the
newest line of a script says. The picture docs/speed.png is drawn from the same lines. tests/docs holds that the pages
are what this script would write.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from measuring import Figures, in_words, leave, table
from speed_picture import write_picture

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.jsonl"
PAGES = (ROOT / "benchmarks" / "README.md", ROOT / "README.md")
PICTURE = ROOT / "docs" / "speed.png"
PLACE = re.compile(r"(<!-- begin: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
WORKS = {"forward": "forward", "step": "training step"}
NETWORKS = {"demo": "the demo's network", "28x28": "for 28x28, chosen unasked", "cifar10": "CIFAR-10's"}


@dataclass(frozen=True)
class Result:
    """A line of results.jsonl: what a script found, and where that comes from."""

    command: str
    commit: str
    day: str
    figures: Figures

    @property
    def source(self) -> str:
        """Command, commit and day, as a sentence."""
        return f"`{self.command}` at {self.commit}, {self.day}."


Results: TypeAlias = Mapping[str, Result]
"""The newest result of each script, by its name without .py."""


def newest(lines: str) -> Results:
    """The newest line of each script; each line is newer than those above it."""
    results = (Result(**json.loads(line)) for line in lines.splitlines())
    return {result.command.split()[0].removesuffix(".py"): result for result in results}


def filled(page: str, results: Results) -> str:
    """A page with its places filled. Raises KeyError for a place of another name."""
    return PLACE.sub(lambda place: f"{place[1]}{PLACES[place[2]](results)}\n{place[3]}", page)


def of_script(name: str, write: Callable[[Figures], str]) -> Callable[[Results], str]:
    """A text on the figures of one script, with their source below; or a line where there are none yet."""

    def text(results: Results) -> str:
        if name not in results:
            return f"Not measured yet: `python benchmarks/{name}.py`."
        return f"{write(results[name].figures)}\n\n{results[name].source}"

    return text


# What several tables say


def milliseconds(spread: Mapping[str, float], per: int = 1) -> str:
    """The median with its quartiles."""
    median, low, high = (1000 * spread[name] / per for name in ("median", "low", "high"))
    return f"{_digits(median)} ({_digits(low)} to {_digits(high)})"


def _digits(value: float) -> str:
    """Three or more digits, thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percent(share: float, digits: int = 0) -> str:
    """57 %."""
    return f"{100 * share:.{digits}f} %"


def network(parameters: int, shape: Sequence[int]) -> str:
    """1.1 M, 16x16x1."""
    channels, *sides = shape
    return f"{parameters / 1e6:.1f} M, {'x'.join(map(str, (*sides, channels)))}"


def named(contenders: Mapping[str, Any], word: str) -> Any:
    """The first contender whose name has this word. Raises StopIteration where none has."""
    return next(found for name, found in contenders.items() if word in name)


# A table for each script


def beside_diffusers(figures: Figures) -> str:
    """Forward and training step on the CPU."""
    rows = [row for each in figures.values() for work in WORKS for row in _of_work(each, work)]
    head = ("network, images", "work", "", "ms (quartiles)", "images/s", "speed", "GFLOP/s", "of the limit")
    apart = max(each["differences"]["fp32"] for each in figures.values())
    (machine, *_) = (each["machine"] for each in figures.values())
    version = next(
        (f"; diffusers {each['diffusers']}" for each in figures.values() if "diffusers" in each), ""
    )
    limits = "; ".join(
        f"{network(each['parameters'], each['shape'])}: "
        + " and ".join(f"{each['limit'][work] / 1e9:,.0f}" for work in WORKS)
        for each in figures.values()
    )
    return (
        f"{table(head, rows)}\n\n{in_words(machine)}{version}. Speed is in units of diffusers as"
        f" shipped. The answers in float32 are {apart:.1e} of the largest value apart at most. The limit, GFLOP/s of"
        f" 3x3 convolutions alone in the same minutes, forward and with both backward passes: {limits}."
    )


def _of_work(figures: Figures, work: str) -> list[tuple[str, ...]]:
    contenders, batch = figures["seconds"][work], figures["batch_size"]
    shipped, about = (
        named(contenders, "shipped")["median"],
        network(figures["parameters"], figures["shape"]),
    )
    return [
        (
            f"{about}, {batch}",
            WORKS[work],
            name,
            milliseconds(spread),
            _digits(batch / spread["median"]),
            f"{shipped / spread['median']:.2f}",
            f"{figures['flop'][work] / spread['median'] / 1e9:,.0f}",
            percent(figures["flop"][work] / spread["median"] / figures["limit"][work]),
        )
        for name, spread in contenders.items()
    ]


def memory(figures: Figures) -> str:
    """Peak memory of a training on the CPU."""
    rows = [
        (
            f"{network(each['parameters'], case['shape'])}, {case['batch_size']}",
            name,
            f"{each['precision']}, {each['parts_at_once']}, {each['micro_batches']}",
            *(f"{each[part] / 1e6:,.0f}" for part in ("after_imports", "peak", "training")),
            f"{each['training'] / named(case['memory'], 'shipped')['training']:.2f}",
        )
        for case in figures.values()
        for name, each in case["memory"].items()
    ]
    head = (
        "network, images", "", "precision, parts at once, micro-batches", "MB after imports", "at the peak",
        "of the training", "of diffusers' as shipped",
    )  # fmt: skip
    return table(head, rows)


def peers(figures: Figures) -> str:
    """A training step of other libraries' networks."""
    rows = [
        (
            f"{network(each['parameters'], case['shape'])}, {case['batch_size']}",
            name,
            each["precision"],
            milliseconds(each["seconds"]),
            f"{each['flop'] / 1e9:,.0f}",
            f"{each['flop'] / each['seconds']['median'] / 1e9:,.0f}",
            _digits(case["batch_size"] / each["seconds"]["median"]),
        )
        for case in figures["cases"].values()
        for name, each in case["contenders"].items()
    ]
    head = (
        "network, images",
        "",
        "precision",
        "ms a step (quartiles)",
        "GFLOP a step",
        "GFLOP/s",
        "images/s",
    )
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    return f"{table(head, rows)}\n\n{in_words(figures['machine'])}; {versions}."


def gpu(figures: Figures) -> str:
    """Training and sampling on a GPU."""
    limits, cases = figures["limit"], {name: figures[name] for name in NETWORKS if name in figures}
    rows = [row for case in cases.values() for row in _of_gpu(case, limits)]
    head = (
        "network", "", "training, images/s", "of the limit", "GiB", "sampling, image-steps/s", "of the limit",
        "ms a call of 1 image",
    )  # fmt: skip
    batch = next(iter(cases.values()))["batch_size"]
    return (
        f"{table(head, rows)}\n\n{figures['device']}, torch {figures['torch']}; steps of {batch} images. The limit,"
        f" TFLOP/s of bf16 3x3 convolutions alone: {limits['training'] / 1e12:,.0f} with both backward passes,"
        f" {limits['sampling'] / 1e12:,.0f} forward."
    )


PASSES = 3
"""Times that the FLOP of a forward are spent in a training step."""
STEPS = 50
"""Calls in a sampling of `gpu.py`."""


def _of_gpu(case: Figures, limits: Mapping[str, float]) -> list[tuple[str, ...]]:
    flop, about = case["flop_of_an_image"], network(case["parameters"], case["shape"])
    rows: list[tuple[str, ...]] = []
    for name, step in case["training_seconds"].items():
        rate = case["batch_size"] / step["median"]
        walks = case["sampled"] * STEPS / case["sampling_seconds"][name]["median"]
        rows.append(
            (
                about,
                name,
                f"{rate:,.0f}",
                percent(PASSES * flop * rate / limits["training"], 1),
                f"{case['memory'][name] / 2**30:.2f}",
                f"{walks:,.0f}",
                percent(flop * walks / limits["sampling"], 1),
                f"{1000 * case['single_seconds'][name]['median'] / STEPS:.2f}",
            )
        )
    return rows


def shared_machine(figures: Figures) -> str:
    """Whole trainings beside other work."""
    ways = {
        "as it comes": "parts at once (as it comes)",
        "all threads in every operation": "`--machine.workers 1`",
    }
    cases = ("alone", "two at once", "beside a loop", "beside a long training")
    rows = [
        (words, *(f"{figures['seconds'][way][case]['median']:.1f}" for case in cases))
        for way, words in ways.items()
    ]
    return (
        f"{table(('seconds', *cases), rows)}\n\nThe whole command `kakusan train digits --steps {figures['steps']}`;"
        f" {in_words(figures['machine'])}."
    )


def overhead(figures: Figures) -> str:
    """A step's share outside of network, optimizer and average."""
    step, start = figures["step"], figures["start"]
    share, parts = step["overhead_share"], step["parts_seconds"]
    slowest = sorted((name for name in parts if name not in WORK), key=lambda name: -parts[name])[:2]
    row = (
        f"{step['parameters']:,}",
        f"{step['batch_size']}",
        milliseconds(step["step_seconds"]),
        percent(share["median"], 1),
        ", ".join(f"{name} {1000 * parts[name]:.1f}" for name in slowest),
        f"{start['until_first_step_begins']:.1f}",
    )
    head = (
        "parameters", "images a step", "ms a step (quartiles)", "beside network, optimizer, average", "most of it, ms",
        f"s to the first step, {figures['images']:,} files",
    )  # fmt: skip
    return f"{table(head, [row])}\n\n{in_words(figures['machine'])}."


WORK = ("network", "backward", "optimizer", "average")
"""Parts of a step that it is for."""


# The README's


def in_short(results: Results) -> str:
    """The rows of all scripts that compare with diffusers, for the README."""
    parts = {"versus_diffusers": _short_speed, "memory_beside_diffusers": _short_memory, "gpu": _short_gpu}
    rows = [row for name, of in parts.items() if name in results for row in of(results[name].figures)]
    return table(("", "kakusan", "diffusers, as shipped", "diffusers, tuned by us"), rows)


WORDS = ("kakusan", "shipped", "tuned")


def _short_speed(figures: Figures) -> list[tuple[str, ...]]:
    return [
        (
            f"{NETWORKS[name]}, {each['parameters'] / 1e6:.1f} M, {each['batch_size']} images: {WORKS[work]}",
            *(f"{_digits(1000 * named(each['seconds'][work], word)['median'])} ms" for word in WORDS),
        )
        for name, each in figures.items()
        for work in WORKS
    ]


def _short_memory(figures: Figures) -> list[tuple[str, ...]]:
    return [
        (
            f"{NETWORKS[name]}, {case['batch_size']} images: peak memory of training",
            *(f"{named(case['memory'], word)['training'] / 1e6:,.0f} MB" for word in WORDS),
        )
        for name, case in figures.items()
    ]


def _short_gpu(figures: Figures) -> list[tuple[str, ...]]:
    return [
        (
            f"{figures['device']}: {NETWORKS[name]}, {case['parameters'] / 1e6:.1f} M, training",
            *(
                f"{case['batch_size'] / named(case['training_seconds'], word)['median']:,.0f} images/s"
                for word in WORDS
            ),
        )
        for name, case in figures.items()
        if name in NETWORKS
    ]


PLACES: dict[str, Callable[[Results], str]] = {
    "versus_diffusers": of_script("versus_diffusers", beside_diffusers),
    "memory_beside_diffusers": of_script("memory_beside_diffusers", memory),
    "other_peers": of_script("other_peers", peers),
    "gpu": of_script("gpu", gpu),
    "shared_machine": of_script("shared_machine", shared_machine),
    "training_overhead": of_script("training_overhead", overhead),
    "speed": in_short,
}
"""The places that a page may have."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    asked = parser.parse_args(arguments)
    results = newest(asked.results.read_text("utf-8"))
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8"), results), "utf-8")
    write_picture({name: result.figures for name, result in results.items()}, PICTURE)
    return 0


if __name__ == "__main__":
    leave(main)
