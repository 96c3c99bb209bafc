"""What a sampler costs beside its network calls, and ten calls beside a thousand of DDPMPipeline.

    python benchmarks/few_calls_speed.py arithmetic       each sampler's own work in a step, beside a network call
    python benchmarks/few_calls_speed.py pipeline RUN     64 images in 10 calls, beside DDPMPipeline in all T steps

arithmetic: on the 35.7 M network of Ho et al. 2020 for CIFAR-10, 16 images at once; the steps of a walk are timed with
a denoiser whose guess is there at once, the network's call by itself, both as medians of one run.
pipeline: the same weights, exported to diffusers, which runs as shipped, once; ours is a median. Neither loads them.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import Spread, leave, machine, seconds, table
from versus_diffusers import settings_on_cpu

from kakusan.config.machine import set_machine
from kakusan.data.record import DataRecord
from kakusan.data.units import Levels
from kakusan.diffusion.denoiser import Denoiser
from kakusan.diffusion.model import Model
from kakusan.diffusion.paths import Path as NoisePath
from kakusan.diffusion.prediction import Prediction
from kakusan.interop.exporting import Wish, export_model
from kakusan.run import Run
from kakusan.samplers import SAMPLERS, Sampler, SeededNoise, sample, walk
from kakusan.shapes import Condition, Samples, Times, times_like
from kakusan.training.build import build_model, build_network

SHAPE, BATCH = (3, 32, 32), 16
STEPS = 10
REPEATS = 7
IMAGES = 64


class Known(Denoiser):
    """A denoiser whose guess costs nothing: the same each time."""

    def __init__(self, path: NoisePath, like: Samples) -> None:
        self.path = path
        self._guess = Prediction(like, like, None)

    def predict(self, x_t: Samples, t: Times, condition: Condition | None = None) -> Prediction:  # noqa: ARG002
        return self._guess


def sampler_seconds(sampler: Sampler, model: Model[Denoiser]) -> float:
    """Of a step, without its network calls; noise is drawn as in any walk."""
    noises = SeededNoise(0, torch.arange(BATCH), SHAPE)

    def whole() -> None:
        for _ in walk(sampler, model, noises):
            pass

    whole()
    return Spread.of([seconds(whole) for _ in range(REPEATS)]).median / STEPS


def arithmetic() -> str:
    """A table of all samplers."""
    settings = settings_on_cpu("cifar10", SHAPE, None)
    set_machine(settings.machine)
    units = Levels(256)
    network = build_network(settings, DataRecord("", SHAPE, units, (), "")).eval()
    real = build_model(settings, network, units)
    x, t = torch.randn(BATCH, *SHAPE), times_like(500, torch.empty(BATCH, *SHAPE))
    with torch.no_grad():
        real.predict(x, t)
        call = Spread.of([seconds(lambda: real.predict(x, t)) for _ in range(REPEATS)]).median
    known = Model(Known(real.path, x), clip=real.clip)
    rows = []
    for name, kind in SAMPLERS.items():
        own = sampler_seconds(kind(steps=STEPS, spacing="trailing"), known)
        rows.append([name, f"{1e3 * own:.2f}", f"{own / call:.2%}"])
    about = f"a call of the network: {1e3 * call:.0f} ms ({BATCH} images), {machine()['processor']}"
    return table(["sampler", "ms a step", "of a call"], rows) + "\n\n" + about


def pipeline(folder: Path) -> str:
    """Seconds of both, and how many times as fast ours is."""
    from diffusers import DDPMPipeline  # the peer alone needs it

    run = Run.open(folder)
    set_machine(run.settings.machine)
    run.sample(IMAGES)  # what is compiled or measured once is, by now
    loaded, sampler = run.load(), run.sampler()
    request = run.request(loaded, run.condition(), count=IMAGES)
    ours = Spread.of([seconds(lambda: sample(loaded.model, sampler, request)) for _ in range(REPEATS)]).median
    with tempfile.TemporaryDirectory() as target:
        exported = export_model(run, "diffusers", Path(target) / "model", Wish(scheduler="ddpm"))
        pipelines: Any = DDPMPipeline
        peer = pipelines.from_pretrained(str(exported.path))
        peer.set_progress_bar_config(disable=True)
        begun = time.perf_counter()
        peer(batch_size=IMAGES, num_inference_steps=run.settings.process.T, output_type="np")
        theirs = time.perf_counter() - begun
    return (
        f"{IMAGES} images of {run.folder.name}: {type(sampler).__name__} in 10 calls {ours:.3f} s;"
        f" DDPMPipeline in {run.settings.process.T:,} {theirs:.1f} s: {theirs / ours:.0f} times"
    )


def main(arguments: Sequence[str]) -> int:
    """Measure one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("arithmetic")
    commands.add_parser("pipeline").add_argument("run", type=Path)
    given = parser.parse_args(arguments)
    print(arithmetic() if given.command == "arithmetic" else pipeline(given.run))
    return 0


if __name__ == "__main__":
    leave(main)
