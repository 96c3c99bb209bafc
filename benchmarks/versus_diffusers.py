"""Our U-Net beside diffusers' UNet2DModel with the same weights: python benchmarks/versus_diffusers.py [--cifar].

Forward (as in sampling) and a training step (forward, squared error, backward, AdamW), on the CPU, by turns: A B A B.
diffusers runs as shipped (float32, AdamW as torch has it), and tuned as well as we could: of bfloat16 and float32,
channels-last or not, and compiled with --compile, what is fastest here in a short trial, with the fused AdamW. The
answers are compared first. Beside it: how fast 3x3 convolutions alone run in the same minutes, in bfloat16 where
the processor has it, which is what all of it could at best come to. FLOP are counted in diffusers' network; ours
needs fewer for the same numbers.
"""

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, Literal, TypeAlias

import torch
from measuring import Figures, Spread, in_words, interleaved, leave, machine, report, table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from kakusan.config.facts import DataFacts
from kakusan.config.loading import settings_for
from kakusan.config.machine import set_machine
from kakusan.config.networks import UNetOptions
from kakusan.config.networks.unet import UNFOLDED
from kakusan.config.resolve import resolve, resolve_for
from kakusan.config.settings import Settings, answered
from kakusan.data.record import DataRecord
from kakusan.data.units import Levels
from kakusan.networks import UNet
from kakusan.training.build import build_network
from kakusan.training.clocks import convolution_limit

Action: TypeAlias = Callable[[], object]

TRIAL, WARM = 3, 2
PASSES = {"forward": 1, "step": 3}
"""How often the FLOP of a forward are spent: backward they are needed for the data and for the weights."""


# The two networks


@dataclass(frozen=True)
class Case:
    """A network, the images it is for, and how many of them at once."""

    settings: Settings
    shape: tuple[int, int, int]
    batch_size: int

    @classmethod
    def of(cls, preset: str, shape: tuple[int, int, int], batch_size: int, threads: int | None) -> "Case":
        """The network of a preset, as a run on the CPU would resolve it; the machine is set up as for that run."""
        settings = settings_on_cpu(preset, shape, threads)
        set_machine(settings.machine)
        return cls(settings, shape, batch_size)

    def question(self) -> tuple[Tensor, Tensor]:
        """Images as the batches bring them, height by width by channels in memory; and times."""
        channels, height, width = self.shape
        x_t = torch.randn(self.batch_size, height, width, channels).permute(0, 3, 1, 2)
        return x_t, torch.arange(self.batch_size).float() * 1000 / self.batch_size

    def ours(self, weights: dict[str, Tensor]) -> UNet:
        """Our network with diffusers' weights."""
        network = build_network(self.settings, DataRecord("", self.shape, Levels(256), (), ""))
        assert isinstance(network, UNet)
        fused = network.fused_parts()
        names = {name: fused.get(name, {name: slice(None)}) for name, _ in network.named_parameters()}
        joined = {name: torch.cat([weights[part] for part in rows]) for name, rows in names.items()}
        network.load_state_dict(joined)
        return network


def settings_on_cpu(preset: str, shape: tuple[int, int, int], threads: int | None) -> Settings:
    """The settings of a preset, as a run on the CPU would resolve them, with all threads in every operation."""
    settings = settings_for("", preset=preset)
    machine = replace(settings.machine, device="cpu", threads=threads or "auto", workers=1)
    facts = DataFacts(shape, is_levels=True)
    resolved = resolve(replace(settings, machine=machine), facts)
    return resolve_for(resolved, facts, answered(resolved.training.steps), UNFOLDED[0])


class Theirs(nn.Module):
    """diffusers' network of the same shape; squares of pixels are folded into channels outside of it."""

    def __init__(self, settings: UNetOptions, channels: int) -> None:
        super().__init__()
        import diffusers

        assert settings.width != "auto"
        assert settings.multipliers != "auto"
        if settings.heads != 1:
            raise SystemExit("UNet2DModel has heads of one width at all levels: compare networks of one head")
        unet: Any = diffusers.UNet2DModel
        self.patch = answered(settings.patch)
        inner = channels * self.patch**2
        self.model: nn.Module = unet(
            in_channels=inner,
            out_channels=inner,
            block_out_channels=[settings.width * multiplier for multiplier in settings.multipliers],
            layers_per_block=settings.blocks,
            down_block_types=kinds(settings, "DownBlock2D"),
            up_block_types=kinds(settings, "UpBlock2D")[::-1],
            attention_head_dim=None,
            norm_num_groups=settings.groups,
            norm_eps=1e-6,
            freq_shift=1,
            flip_sin_to_cos=False,
            downsample_padding=0,
            dropout=settings.dropout,
        )

    def forward(self, x_t: Tensor, time: Tensor) -> Tensor:
        answer: Tensor = self.model(F.pixel_unshuffle(x_t, self.patch), time).sample
        return F.pixel_shuffle(answer, self.patch)


def kinds(settings: UNetOptions, plain: str) -> list[str]:
    """diffusers' names of the levels: with attention or without."""
    return [f"Attn{plain}" if i in settings.attention else plain for i, _ in enumerate(settings.multipliers)]


# One network, run in one way


@dataclass(frozen=True)
class Way:
    """How a network is run."""

    precision: Literal["fp32", "autocast", "bf16"] = "fp32"
    """bf16: the weights too, which is for forward alone."""
    layout: Literal["as it comes", "contiguous", "channels-last"] = "contiguous"
    compiled: bool = False
    fused: bool = True
    """AdamW as one kernel."""

    def __str__(self) -> str:
        return ", ".join([self.precision, self.layout, *(["compiled"] if self.compiled else [])])


class Contender:
    """A network of its own, run in one way on the same images."""

    def __init__(self, network: nn.Module, way: Way, question: tuple[Tensor, Tensor]) -> None:
        x_t, self.time = question
        layouts = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
        if way.layout in layouts:
            x_t = x_t.contiguous(memory_format=layouts[way.layout])
            network = network.to(memory_format=layouts[way.layout])  # type: ignore[call-overload]
        dtype = torch.bfloat16 if way.precision == "bf16" else torch.float32
        self.network, self.x_t = network.to(dtype), x_t.to(dtype)
        self.run: Callable[..., Any] = torch.compile(self.network) if way.compiled else self.network
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=way.precision == "autocast")
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=way.fused or None)

    def forward(self) -> Tensor:
        """The answer, as a sampler asks for it."""
        self.network.eval()
        with torch.no_grad(), self.autocast:
            answer: Tensor = self.run(self.x_t, self.time)
        return answer.float()

    def step(self) -> None:
        """A step on the simple loss; the images stand for the noise too."""
        self.network.train()
        with self.autocast:
            answer: Tensor = self.run(self.x_t, self.time)
        torch.autograd.backward(F.mse_loss(answer.float(), self.x_t))
        self.optimizer.step()
        self.optimizer.zero_grad()


class Match:
    """Both networks with one set of weights, which are diffusers' own initial ones: none of them is zero."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.case, self.question = case, case.question()
        self.weights = self.empty().model.state_dict()

    def empty(self) -> Theirs:
        network = self.case.settings.network
        assert isinstance(network, UNetOptions)
        return Theirs(network, self.case.shape[0])

    def ours(self, *, bf16: bool) -> Contender:
        way = Way("autocast" if bf16 else "fp32", "as it comes")
        return Contender(self.case.ours(self.weights), way, self.question)

    def theirs(self, way: Way) -> Contender:
        network = self.empty()
        network.model.load_state_dict(self.weights)
        return Contender(network, way, self.question)


# What is measured


def differences(match: Match, *, bf16: bool) -> Figures:
    """How far the answers are apart: the largest difference over the largest value."""
    expected = match.theirs(Way()).forward()
    ours = {"fp32": match.ours(bf16=False), **({"bf16": match.ours(bf16=True)} if bf16 else {})}
    largest = expected.abs().max()
    return {name: float((each.forward() - expected).abs().max() / largest) for name, each in ours.items()}


def ways_to_try(work: str, *, bf16: bool, compiled: bool) -> list[Way]:
    """What one might do to make diffusers faster."""
    best: Literal["bf16", "autocast", "fp32"] = (
        ("bf16" if work == "forward" else "autocast") if bf16 else "fp32"
    )
    ways = [Way("fp32", "channels-last"), Way(best), Way(best, "channels-last")]
    return ways + ([Way(best, compiled=True), Way(best, "channels-last", compiled=True)] if compiled else [])


def compete(match: Match, work: str, repeats: int, *, bf16: bool, compiled: bool) -> Figures:
    """Seconds of one kind of work for all contenders, by turns."""
    trial = {str(way): way for way in ways_to_try(work, bf16=bf16, compiled=compiled)}
    tried = interleaved({name: getattr(match.theirs(way), work) for name, way in trial.items()}, TRIAL, WARM)
    best = min(tried, key=lambda name: Spread.of(tried[name]).median)
    contenders = {
        f"kakusan, {'bf16' if bf16 else 'fp32'}": match.ours(bf16=bf16),
        "kakusan, fp32": match.ours(bf16=False),
        "diffusers, as shipped (fp32)": match.theirs(Way(fused=False)),
        f"diffusers, tuned ({best})": match.theirs(trial[best]),
    }
    times = interleaved({name: getattr(each, work) for name, each in contenders.items()}, repeats, WARM)
    return {name: vars(Spread.of(values)) for name, values in times.items()}


def flop_of(match: Match) -> int:
    """Of a forward of the whole batch through diffusers' network; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        match.theirs(Way()).forward()
    return int(counter.get_total_flops())


def flop_of_forward(network: Theirs, shape: tuple[int, int, int]) -> int:
    """Of one image's forward through diffusers' network."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *shape), torch.zeros(1))
    return int(counter.get_total_flops())


def measure(case: Case, repeats: int, *, compiled: bool) -> Figures:
    """All figures of one network."""
    bf16 = case.settings.machine.precision == "bf16"
    match = Match(case)
    forward = flop_of(match)
    seconds = {work: compete(match, work, repeats, bf16=bf16, compiled=compiled) for work in PASSES}
    limit = convolution_limit(case.settings.machine)
    return {
        "parameters": sum(weight.numel() for weight in match.weights.values()),
        "shape": list(case.shape),
        "batch_size": case.batch_size,
        "differences": differences(match, bf16=bf16),
        "flop": {work: forward * passes for work, passes in PASSES.items()},
        "seconds": seconds,
        "limit_precision": "bf16" if bf16 else "fp32",
        "limit": {"forward": limit.sampling, "step": limit.training},
        "diffusers": metadata.version("diffusers"),
        "machine": machine(),
    }


# What people see


def shown(figures: Figures) -> str:
    """The figures for people."""
    channels, height, width = figures["shape"]
    apart = ", ".join(f"{name} {value:.1e}" for name, value in figures["differences"].items())
    lines = [
        f"{figures['parameters']:,} parameters, {figures['batch_size']} images of {height} x {width} x {channels};"
        f" {in_words(figures['machine'])}",
        f"answers apart from diffusers', of the largest value: {apart}",
    ]
    for work, title in (("forward", "forward"), ("step", "training step")):
        limit = figures["limit"][work] / 1e9
        lines += [
            f"\n{title}; {figures['limit_precision']} 3x3 convolutions alone: {limit:.0f} GFLOP/s",
            table(
                ("", "ms", "quartiles", "images/s", "speed", "GFLOP/s", "of the limit"), rows(figures, work)
            ),
        ]
    return "\n".join(lines)


def rows(figures: Figures, work: str) -> list[tuple[str, ...]]:
    """One for each contender; the speed is in units of diffusers as shipped."""
    contenders = figures["seconds"][work]
    shipped = next(each["median"] for name, each in contenders.items() if "shipped" in name)
    found: list[tuple[str, ...]] = []
    for name, each in contenders.items():
        median, rate = each["median"], figures["flop"][work] / each["median"]
        found.append(
            (
                name,
                f"{1000 * median:.1f}",
                f"{1000 * each['low']:.1f} to {1000 * each['high']:.1f}",
                f"{figures['batch_size'] / median:,.1f}",
                f"{shipped / median:.2f}",
                f"{rate / 1e9:.0f}",
                f"{rate / figures['limit'][work]:.0%}",
            )
        )
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cifar", action="store_true", help="the 35.7 M network of CIFAR-10 too, 8 images at once"
    )
    parser.add_argument("--compile", action="store_true", help="let diffusers try torch.compile (minutes)")
    parser.add_argument(
        "--batch-size", type=int, default=128, help="for the demo's network (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=11, help="of everything (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="default: one for each core")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    if importlib.util.find_spec("diffusers") is None:
        print("there is nothing to compare with: diffusers is not installed (pip install 'kakusan[bench]')")
        return 0
    cases = {"demo": Case.of("demo", (1, 16, 16), asked.batch_size, asked.threads)}
    if asked.cifar:
        cases["cifar10"] = Case.of("cifar10", (3, 32, 32), 8, asked.threads)
    figures = {name: measure(case, asked.repeats, compiled=asked.compile) for name, case in cases.items()}
    text = "\n\n".join(f"{name}: {shown(found)}" for name, found in figures.items())
    return report(figures, text, as_json=asked.json)


if __name__ == "__main__":
    leave(main)
