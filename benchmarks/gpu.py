"""Training and sampling on a CUDA GPU beside diffusers, with the same weights: python benchmarks/gpu.py.

For each network: a training step (ours as `kakusan train` takes it, with its data, noise, average and log sums; theirs
with images that lie on the device, noise, squared error, backward and AdamW, and no average), 50 steps of DDIM, a call
for one image alone, and the memory of a training. diffusers runs as shipped, float32, and tuned: autocast to bfloat16,
channels-last, the fused AdamW; compiled too with --compile. The answers are compared first. The limit is what 3x3
convolutions alone reach here in the same minutes. By turns, medians; under 8 minutes.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import NOISE_IMAGES, Figures, Spread, leave, report, table, training_on_noise
from torch import Tensor
from torch.nn import functional as F
from versus_diffusers import Theirs, flop_of_forward

from kakusan.config.machine import resolve_machine
from kakusan.config.networks import UNetOptions
from kakusan.config.settings import MachineSettings
from kakusan.networks import UNet
from kakusan.samplers import DDIM, SamplingRequest, sample
from kakusan.training.clocks import convolution_limit
from kakusan.training.loop import check_finite, take_step
from kakusan.training.state import Task

MOMENT = 0.25
"""Seconds of a measurement."""
STEPS = 50
"""Of DDIM."""
PASSES = {"sampling": 1, "training": 3}
LIMITS = ((128, 128, 32), (128, 256, 16), (128, 256, 32), (64, 512, 16))
"""Batch, channels and side of convolutions: the best of them is the limit."""


@dataclass(frozen=True)
class Case:
    """A network, the images it is for, how many a step and how many in a sampling."""

    shape: tuple[int, int, int]
    batch_size: int = 128
    sampled: int = 256
    preset: str | None = None


CASES = {
    "demo": Case((1, 16, 16), preset="demo"),
    "28x28": Case((1, 28, 28)),
    "cifar10": Case((3, 32, 32), preset="cifar10"),
}
WAYS: dict[str, dict[str, Any]] = {
    "kakusan": {},
    "kakusan, no graphs": {"graphs": False},
    "kakusan, no kernels": {"kernels": False},
    "kakusan, fp32": {"precision": "fp32"},
}


# Ours


def task_of(case: Case, device: str, way: dict[str, Any]) -> Task:
    """A training as `kakusan train` would set it up, on noise."""
    return training_on_noise(case.shape, case.batch_size, preset=case.preset, way={"device": device, **way})


class Ours:
    """A training of ours, and a sampling with its network."""

    def __init__(
        self, case: Case, device: str, way: dict[str, Any], weights: dict[str, Tensor] | None
    ) -> None:
        self.case, self.device, self.task = case, device, task_of(case, device, way)
        network = self.task.network
        assert isinstance(network, UNet)
        if weights is not None:
            fused = network.fused_parts()
            names = {name: fused.get(name, {name: slice(None)}) for name, _ in network.named_parameters()}
            network.load_state_dict(
                {name: torch.cat([weights[part] for part in rows]) for name, rows in names.items()}
            )

    def step(self) -> None:
        self.task.network.train()
        torch.use_deterministic_algorithms(mode=True, warn_only=True)  # as `set_machine` has it
        take_step(self.task.state, self.task.batches, self.task.loss, self.task.settings.training)

    def answer(self, x: Tensor, t: Tensor) -> Tensor:
        self.task.network.eval()
        with torch.no_grad():
            return self.task.model.denoiser.output(x, t.double().cpu() + 1)[0]

    def sample(self, count: int) -> Tensor:
        self.task.network.eval()
        request = SamplingRequest(
            count=count, shape=self.case.shape, device=self.device, micro_batch=max(16, count)
        )
        return sample(self.task.model, DDIM(steps=STEPS), request)


# Theirs


class Peer:
    """The same network in diffusers, in a plain loop."""

    def __init__(
        self,
        case: Case,
        device: str,
        options: UNetOptions,
        weights: dict[str, Tensor],
        *,
        tuned: bool,
        compiled: bool,
    ) -> None:
        import diffusers

        schedulers: Any = diffusers
        self.case, self.device = case, device
        self.network = Theirs(options, case.shape[0])
        self.network.model.load_state_dict(weights)
        self.network.to(device)
        self.layout = torch.channels_last if tuned else torch.contiguous_format
        if tuned:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=tuned)
        self.call: Callable[..., Tensor] = torch.compile(self.network) if compiled else self.network
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, fused=tuned or None)
        self.noising = schedulers.DDPMScheduler()
        self.scheduler = schedulers.DDIMScheduler()
        self.images = torch.rand(NOISE_IMAGES, *case.shape, device=device) * 2 - 1
        self.generator = torch.Generator(device).manual_seed(0)

    def _drawn(self, *shape: int) -> Tensor:
        noise = torch.randn(*shape, device=self.device, generator=self.generator)
        return noise.contiguous(memory_format=self.layout)

    def step(self) -> None:
        self.network.train()
        torch.use_deterministic_algorithms(mode=False)
        count = self.case.batch_size
        chosen = torch.randint(NOISE_IMAGES, (count,), device=self.device, generator=self.generator)
        x_0, noise = (
            self.images[chosen].contiguous(memory_format=self.layout),
            self._drawn(count, *self.case.shape),
        )
        t = torch.randint(1000, (count,), device=self.device, generator=self.generator)
        x_t = self.noising.add_noise(x_0, noise, t)
        with self.autocast:
            out = self.call(x_t, t)
        F.mse_loss(out.float(), noise).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()

    def answer(self, x: Tensor, t: Tensor) -> Tensor:
        self.network.eval()
        with torch.no_grad(), self.autocast:
            return self.call(x.contiguous(memory_format=self.layout), t).float()

    def sample(self, count: int) -> Tensor:
        self.network.eval()
        x = self._drawn(count, *self.case.shape)
        self.scheduler.set_timesteps(STEPS)
        for t in self.scheduler.timesteps.to(self.device):
            x = self.scheduler.step(self.answer(x, t), t, x).prev_sample
        return x


# What is measured


def finished(device: str) -> None:
    """Wait for the device."""
    if device != "cpu":
        torch.cuda.synchronize()


def seconds_of(action: Callable[[], object], device: str, times: int) -> float:
    """Seconds of one of several calls in a row."""
    finished(device)
    begun = time.perf_counter()
    for _ in range(times):
        action()
    finished(device)
    return (time.perf_counter() - begun) / times


def by_turns(actions: dict[str, Callable[[], object]], device: str, repeats: int, warm: int = 6) -> Figures:
    """Seconds of each, in turn; as often in a row as a moment allows."""
    times = {}
    for name, action in actions.items():
        seconds_of(action, device, warm)
        times[name] = max(1, round(MOMENT / seconds_of(action, device, 1)))
    rounds = [
        {name: seconds_of(action, device, times[name]) for name, action in actions.items()}
        for _ in range(repeats)
    ]
    return {name: vars(Spread.of([each[name] for each in rounds])) for name in actions}


@contextmanager
def counting(device: str, found: dict[str, float], name: str) -> Iterator[None]:
    """The most memory that was held at once, in bytes, goes to this name."""
    gc.collect()
    if device == "cpu":
        yield
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield
    finished(device)
    found[name] = float(torch.cuda.max_memory_reserved())


def makers_of(
    case: Case, device: str, ways: Sequence[str], *, compiled: bool
) -> tuple[Theirs, dict[str, Callable[[], Ours | Peer]]]:
    """diffusers' network, and what makes each contender with its weights."""
    options = task_of(case, device, {}).settings.network
    assert isinstance(options, UNetOptions)
    empty = Theirs(options, case.shape[0])
    weights = empty.model.state_dict()
    peers = {"as shipped": (False, False), "tuned": (True, False)}
    if compiled:
        peers["compiled"] = (True, True)

    def ours(name: str) -> Ours:
        return Ours(case, device, WAYS[name], weights)

    def theirs(name: str) -> Peer:
        tuned, compiled = peers[name]
        return Peer(case, device, options, weights, tuned=tuned, compiled=compiled)

    return empty, {
        **{name: partial(ours, name) for name in ways},
        **{f"diffusers, {name}": partial(theirs, name) for name in peers},
    }


def memory_of(makers: dict[str, Callable[[], Ours | Peer]], device: str) -> dict[str, float]:
    """The most memory that a training of each, alone, holds at once, in bytes."""
    found: dict[str, float] = {}
    for name, make in makers.items():
        with counting(device, found, name):
            alone = make()
            for _ in range(8):
                alone.step()
            finished(device)
        del alone
    return found


def measure(case: Case, device: str, repeats: int, *, compiled: bool, ways: Sequence[str]) -> Figures:
    """All figures of one network."""
    torch.manual_seed(0)
    empty, makers = makers_of(case, device, ways, compiled=compiled)
    memory = memory_of(makers, device)
    contenders = {name: make() for name, make in makers.items()}
    x, t = torch.randn(16, *case.shape, device=device), torch.linspace(0, 999, 16, device=device).round()
    answers = {name: each.answer(x, t) for name, each in contenders.items()}
    expected = answers["diffusers, as shipped"]
    training = by_turns({name: each.step for name, each in contenders.items()}, device, repeats)
    for each in contenders.values():
        if isinstance(each, Ours):
            check_finite(each.task.state)
    some = 2 if device == "cpu" else case.sampled
    sampling, single = (
        by_turns({name: partial(each.sample, count) for name, each in contenders.items()}, device, repeats, 1)
        for count in (some, 1)
    )
    return {
        "parameters": sum(p.numel() for p in empty.parameters()), "shape": list(case.shape),
        "batch_size": case.batch_size, "sampled": some, "flop_of_an_image": flop_of_forward(empty, case.shape),
        "apart": {name: float((a - expected).norm() / expected.norm()) for name, a in answers.items()},
        "memory": memory, "training_seconds": training, "sampling_seconds": sampling, "single_seconds": single,
    }  # fmt: skip


# What people see


def shown(name: str, figures: Figures, limits: Figures) -> str:
    """The figures of a network for people."""
    batch, sampled, flop = figures["batch_size"], figures["sampled"], figures["flop_of_an_image"]
    rows = []
    for who, step in figures["training_seconds"].items():
        rate = batch / step["median"]
        walks = sampled * STEPS / figures["sampling_seconds"][who]["median"]
        call = figures["single_seconds"][who]["median"] / STEPS
        rows.append(
            (
                who,
                f"{rate:,.0f}",
                f"{rate * flop * PASSES['training'] / limits['training']:.0%}",
                f"{walks:,.0f}",
                f"{walks * flop / limits['sampling']:.0%}",
                f"{1000 * call:.2f}",
                f"{figures['memory'].get(who, 0) / 2**30:.2f}",
                f"{figures['apart'][who]:.1e}",
            )
        )
    shape = "x".join(map(str, figures["shape"]))
    head = (
        "", "training, images/s", "of the limit", "sampling, image-steps/s", "of the limit", "ms a call of 1",
        "GiB, training", "answers apart",
    )  # fmt: skip
    return f"{name}: {figures['parameters']:,} parameters, {shape}, batches of {batch}\n{table(head, rows)}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="demo,28x28,cifar10", help="default: %(default)s")
    parser.add_argument("--ways", default=";".join(WAYS), help="of ours, with ; between them")
    parser.add_argument("--repeats", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--compile", action="store_true", help="let diffusers be compiled too (minutes)")
    parser.add_argument(
        "--device", default="cuda", help="cpu is for a trial of the script (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="a file for the figures")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("there is no CUDA device here")
        return 0
    names, ways = asked.cases.split(","), asked.ways.split(";")
    machine = resolve_machine(MachineSettings(device=asked.device, precision="bf16"))
    limits = vars(convolution_limit(machine, LIMITS if asked.device != "cpu" else LIMITS[:1]))
    where = "cpu" if asked.device == "cpu" else torch.cuda.get_device_name()
    figures: Figures = {
        "device": where, "torch": torch.__version__, "limit": limits,
    }  # fmt: skip
    told = [f"{where}, torch {torch.__version__}; limit {limits['sampling'] / 1e12:.0f} TFLOP/s forward,"
            f" {limits['training'] / 1e12:.0f} with backward"]  # fmt: skip
    for name in names:
        begun = time.perf_counter()
        figures[name] = measure(CASES[name], asked.device, asked.repeats, compiled=asked.compile, ways=ways)
        told.append(shown(name, figures[name], limits) + f"\n{time.perf_counter() - begun:.0f} s")
        print(told[-1], flush=True)
        if asked.out:
            asked.out.write_text(json.dumps(figures), "utf-8")
        gc.collect()
    return report(figures, "\n\n".join(told), as_json=asked.json)


if __name__ == "__main__":
    leave(main)
