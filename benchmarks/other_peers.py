"""A training step beside networks of other libraries, on the CPU: python benchmarks/other_peers.py.

Their networks are others than ours: the U-Nets of denoising-diffusion-pytorch and of smalldiffusion, in the width that
comes nearest to our number of parameters. So images/s say little, and GFLOP/s, counted in each network, are what can be
compared: how much of the machine each one uses. Each runs as it ships: float32, forward, squared error, backward,
torch's Adam; ours is a step of `kakusan train`, with its data, noise and average. By turns, medians. The packages:
`pip install 'kakusan[peers]'`.
"""

import argparse
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

import torch
from measuring import Figures, Spread, in_words, interleaved, leave, machine, report, table, training_on_noise
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from kakusan.training.loop import take_step
from kakusan.training.step import backward, drawn

PACKAGES = {
    "denoising_diffusion_pytorch": "denoising-diffusion-pytorch",
    "smalldiffusion": "smalldiffusion",
}
"""Module and distribution."""
WARM = 1


@dataclass(frozen=True)
class Case:
    """Images, (channels, height, width), and which network of ours is for them."""

    shape: tuple[int, int, int]
    preset: str | None = None
    levels: int = 4
    """Of the others' networks: as often as the side can be halved."""


CASES = {"28x28": Case((1, 28, 28), levels=3), "cifar10": Case((3, 32, 32), "cifar10")}


# Their networks


def is_there(module: str) -> bool:
    """Whether a package can be imported here."""
    if importlib.util.find_spec(module) is None:
        return False
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        _name_operators()
    importlib.import_module(module)
    return True


def _name_operators() -> None:
    """Let torchvision be imported where its operators were compiled for another build of torch.

    Both packages import it for their data sets, and it asks for the names of these two; no network here uses them.
    """
    global _named  # for as long as the library lives
    library: Any = torch.library.Library
    _named = library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        _named.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_named: Any = None


def of_lucidrains(case: Case, width: int) -> nn.Module:
    """The U-Net of denoising-diffusion-pytorch."""
    unet: Any = importlib.import_module("denoising_diffusion_pytorch").Unet
    network: nn.Module = unet(
        dim=width, channels=case.shape[0], dim_mults=tuple(2**level for level in range(case.levels))
    )
    return network


def of_smalldiffusion(case: Case, width: int) -> nn.Module:
    """The U-Net of smalldiffusion."""
    unet: Any = importlib.import_module("smalldiffusion").Unet
    channels, side, _ = case.shape
    multipliers = (1, *(2,) * (case.levels - 1))
    network: nn.Module = unet(side, channels, channels, ch=width, ch_mult=multipliers)
    return network


NETWORKS: dict[str, tuple[Callable[[Case, int], nn.Module], Sequence[int]]] = {
    "denoising_diffusion_pytorch": (of_lucidrains, range(32, 97, 4)),
    "smalldiffusion": (of_smalldiffusion, range(32, 193, 32)),
}
"""What makes the network of a package, and the widths it may have: its normalizations ask for multiples."""


def nearest(module: str, case: Case, parameters: int) -> nn.Module:
    """The network whose number of parameters is nearest to this one."""
    make, widths = NETWORKS[module]
    with torch.device("meta"):
        sizes = {width: parameters_of(make(case, width)) for width in widths}
    return make(case, min(widths, key=lambda width: abs(sizes[width] - parameters)))


def parameters_of(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


class Theirs:
    """A training of another library's network, in a plain loop."""

    def __init__(self, network: nn.Module, case: Case, batch_size: int) -> None:
        self.network = network.train()
        self.optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
        self.x_t, self.noise = torch.randn(2, batch_size, *case.shape)
        self.time = 1 + torch.arange(batch_size).float() * 998 / batch_size

    def gradient(self) -> None:
        """Forward, squared error and backward."""
        answer: Tensor = self.network(self.x_t, self.time)
        torch.autograd.backward(F.mse_loss(answer, self.noise))

    def step(self) -> None:
        self.gradient()
        self.optimizer.step()
        self.optimizer.zero_grad()


class Ours:
    """A step of `kakusan train`."""

    def __init__(self, case: Case, batch_size: int, threads: int | None, precision: str) -> None:
        way = {"device": "cpu", "threads": threads or "auto", "precision": precision}
        self.task = training_on_noise(
            case.shape, batch_size, preset=case.preset, accumulation="auto", way=way
        )
        self.network = self.task.network.train()

    def gradient(self) -> None:
        """Of one micro-batch in one part, whose FLOP the whole batch needs so many times."""
        task = self.task
        fed = drawn(task.state, task.batches, task.settings.training, 0, 0)
        backward(task.state, task.loss, fed, task.settings.training)
        task.state.optimizer.zero_grad()

    def step(self) -> None:
        take_step(self.task.state, self.task.batches, self.task.loss, self.task.settings.training)


# What is measured


def flop_of(gradient: Callable[[], object]) -> int:
    """A multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        gradient()
    return int(counter.get_total_flops())


def measure(case: Case, batch_size: int, repeats: int, threads: int | None, there: Sequence[str]) -> Figures:
    """All figures of one kind of images."""
    ours = Ours(case, batch_size, threads, "auto")
    parameters, machine_settings = parameters_of(ours.network), ours.task.settings.machine
    contenders: dict[str, Ours | Theirs] = {f"kakusan, {machine_settings.precision}": ours}
    if machine_settings.precision != "fp32":
        contenders["kakusan, fp32"] = Ours(case, batch_size, threads, "fp32")
    for module in there:
        contenders[PACKAGES[module]] = Theirs(nearest(module, case, parameters), case, batch_size)
    times = interleaved({name: each.step for name, each in contenders.items()}, repeats, WARM)
    return {
        "shape": list(case.shape),
        "batch_size": batch_size,
        "contenders": {
            name: {
                "parameters": parameters_of(each.network),
                "precision": each.task.settings.machine.precision if isinstance(each, Ours) else "fp32",
                "flop": flop_of(each.gradient)
                * (int(each.task.settings.training.accumulation) if isinstance(each, Ours) else 1),
                "seconds": vars(Spread.of(times[name])),
            }
            for name, each in contenders.items()
        },
    }


# What people see


def shown(figures: Figures) -> str:
    """The figures for people."""
    rows = [
        (
            "x".join(map(str, case["shape"])),
            name,
            f"{each['parameters']:,}",
            f"{1000 * each['seconds']['median']:,.0f}",
            f"{each['flop'] / 1e9:,.0f}",
            f"{each['flop'] / each['seconds']['median'] / 1e9:,.0f}",
            f"{case['batch_size'] / each['seconds']['median']:,.1f}",
        )
        for case in figures["cases"].values()
        for name, each in case["contenders"].items()
    ]
    head = ("images", "", "parameters", "ms a step", "GFLOP a step", "GFLOP/s", "images/s")
    return (
        f"Other networks of about as many parameters: GFLOP/s is the comparison.\n{in_words(figures['machine'])}\n"
        f"{table(head, rows)}"
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES), help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="of everything (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="default: one for each core")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    there = [module for module in PACKAGES if is_there(module)]
    if not there:
        print(f"there is nothing to compare with: none of {', '.join(PACKAGES.values())} is installed"
              " (pip install 'kakusan[peers]')")  # fmt: skip
        return 0
    measured = partial(
        measure, batch_size=asked.batch_size, repeats=asked.repeats, threads=asked.threads, there=there
    )
    figures = {
        "cases": {name: measured(CASES[name]) for name in asked.cases.split(",")},
        "versions": {PACKAGES[module]: metadata.version(PACKAGES[module]) for module in there},
        "machine": machine(),
    }
    return report(figures, shown(figures), as_json=asked.json)


if __name__ == "__main__":
    leave(main)
