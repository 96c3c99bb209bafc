"""The same numbers on every device that is here: skipped where there is only a CPU."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import kakusan as kk
from kakusan.config.machine import set_machine
from kakusan.diffusion.likelihood import variational_bound
from kakusan.randomness import Purpose, normals, words
from kakusan.run import Run
from kakusan.samplers import SamplingRequest, sample

OTHERS = [
    name
    for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()))
    if there
]
pytestmark = pytest.mark.skipif(not OTHERS, reason="there is only a CPU here")
DEVICES = OTHERS or ["cuda"]
STEPS = 30
FLAGS = [
    "--steps", str(STEPS), "--machine.precision", "fp32", "--network.width", "16", "--network.groups", "4",
    "--samples.count", "4", "--samples.steps", "3", "--training.batch-size", "32", "--training.decay", "constant",
]  # fmt: skip


def kakusan(*arguments: str) -> str:
    """What a command prints; it must succeed."""
    command = [sys.executable, "-m", "kakusan", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("devices")
    for device in ("cpu", *DEVICES):
        kakusan("train", "digits", "--run", str(base / device), "--machine.device", device, *FLAGS)
    return {device: base / device for device in ("cpu", *DEVICES)}


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("device", DEVICES)
def test_random_words_are_equal_and_normals_differ_by_a_rounding(device: str) -> None:
    indices = torch.arange(64)
    here = words(3, Purpose.NOISE, 5, indices, 40)
    assert torch.equal(words(3, Purpose.NOISE, 5, indices.to(device), 40).cpu(), here)
    drawn, there = (
        normals(3, Purpose.NOISE, 5, indices.to(where), (3, 8, 8)).cpu() for where in ("cpu", device)
    )
    assert torch.allclose(drawn, there, rtol=2e-7, atol=0)  # one unit in the last place of float32


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_goes_the_same_way(device: str, runs: dict[str, Path]) -> None:
    here, there = losses(runs["cpu"]), losses(runs[device])
    assert here == pytest.approx(there, rel=1e-3)  # float32 sums in another order, through 30 steps of Adam


@pytest.mark.parametrize("device", DEVICES)
def test_samples_of_one_checkpoint_are_the_same_images(device: str, runs: dict[str, Path]) -> None:
    run = Run.open(runs["cpu"])
    set_machine(run.settings.machine)
    images = []
    for where in ("cpu", device):
        denoiser = run.load(device=where, precision="fp32").model
        x_0 = kk.sample(denoiser, kk.DDIM(steps=10), count=32, shape=run.data.shape, device=where)
        images.append(run.data.units.decode(x_0))
    differs = abs(images[0].astype(int) - images[1].astype(int))
    assert (differs <= 1).all()  # 17 levels
    assert (differs > 0).mean() < 1e-3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("terms", [None, 20])
def test_the_bound_is_the_same(device: str, terms: int | None, runs: dict[str, Path]) -> None:
    run = Run.open(runs["cpu"])
    x_0 = torch.randint(0, 17, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 8 - 1
    here, there = (
        variational_bound(run.load(device=where, precision="fp32").model, x_0.to(where), terms=terms)
        for where in ("cpu", device)
    )
    assert torch.equal(here.t, there.t)
    assert torch.allclose(here.total, there.total, rtol=1e-4)  # the network's float32
    assert torch.allclose(here.L_T, there.L_T, rtol=1e-12)


@pytest.mark.parametrize("device", DEVICES)
def test_oracles_answer_there(device: str) -> None:
    schedule = kk.Linear(T=50)
    x_0 = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    oracles: list[Any] = [
        kk.oracles.GaussianOracle(schedule, 0.1, 0.5),
        kk.oracles.FiniteSetOracle(schedule, x_0),
    ]
    t = torch.tensor([1.0, 10.0, 30.0, 50.0], dtype=torch.float64)
    for oracle in oracles:
        here, there = oracle.predict(x_0, t), oracle.predict(x_0.to(device), t)
        assert torch.allclose(here.x_0, there.x_0.cpu(), atol=1e-5)
        assert there.x_0.device.type == device


@pytest.mark.parametrize("device", DEVICES)
def test_every_loss_and_way_to_draw_t_trains_there(device: str, tmp_path: Path) -> None:
    for name, flags in {
        "bound": [
            "--process.variance",
            "learned",
            "--training.loss",
            "bound",
            "--training.times",
            "importance",
        ],
        "hybrid": ["--process.variance", "learned"],
        "weighted": ["--training.loss", "weighted"],
        "min-snr": ["--training.loss", "min-snr", "--process.zero-terminal-snr"],
    }.items():
        kakusan("train", "digits", "--run", str(tmp_path / name), "--machine.device", device, *FLAGS, *flags)
        found = json.loads(
            kakusan("evaluate", str(tmp_path / name), "--images", "4", "--terms", "9", "--json")
        )
        assert found["parts"]["held-out"]["bits_per_dim"] > 0


@pytest.mark.parametrize("device", DEVICES)
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(
    device: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    """To rounding, since some of a GPU's backward kernels add in no fixed order; on a CPU it is exact."""
    flags = list(FLAGS)
    flags[1] = str(STEPS // 2)
    run = tmp_path / "halves"
    kakusan("train", "digits", "--run", str(run), "--machine.device", device, *flags)
    kakusan("resume", str(run), "--steps", str(STEPS))
    assert losses(run)[-1] == pytest.approx(losses(runs[device])[-1], rel=2e-2)


CUDA = pytest.mark.skipif("cuda" not in OTHERS, reason="there is no CUDA device here")
BF16 = [*FLAGS[:2], *FLAGS[4:], "--machine.device", "cuda"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    found = Run.open(run)
    return {name: value.cpu() for name, value in found.load(weights="model").network.state_dict().items()}


@CUDA
@pytest.mark.parametrize(
    "choice",
    [["--network.dropout", "0"], ["--network.dropout", "0.2"], ["--training.optimizer", "muon"]],
    ids=["plain", "dropout", "muon"],
)
def test_a_resumed_training_of_graphs_is_exact(choice: list[str], tmp_path: Path) -> None:
    """Kernels add in a fixed order, and graphs repeat what the first steps did one by one."""
    flags = [
        *BF16, *choice, "--training.warmup", "2", "--training.ema", "0.9", "--log.every", "5",
    ]  # fmt: skip
    kakusan("train", "digits", "--run", str(tmp_path / "whole"), *flags)
    flags[1] = str(STEPS // 2)
    kakusan("train", "digits", "--run", str(tmp_path / "halves"), *flags)
    kakusan("resume", str(tmp_path / "halves"), "--steps", str(STEPS))
    whole, halves = (weights(tmp_path / name) for name in ("whole", "halves"))
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
    assert losses(tmp_path / "whole") == losses(tmp_path / "halves")


@CUDA
def test_graphs_and_kernels_train_as_the_plain_path_does(tmp_path: Path) -> None:
    found = {}
    for name, flags in {
        "all": [],
        "no graphs": ["--machine.graphs", "False"],
        "no kernels": ["--machine.kernels", "False"],
        "neither": ["--machine.graphs", "False", "--machine.kernels", "False"],
    }.items():
        for precision in ("fp32", "bf16"):
            run = tmp_path / f"{name} {precision}"
            kakusan("train", "digits", "--run", str(run), *BF16, "--machine.precision", precision, *flags)
            found[name, precision] = losses(run)[-1]
    for (name, precision), loss in found.items():
        rounding = 2e-3 if precision == "fp32" else 2e-2  # through 30 steps of Adam
        assert loss == pytest.approx(found["neither", "fp32"], rel=rounding), name


@CUDA
def test_replayed_calls_give_the_same_samples(runs: dict[str, Path]) -> None:
    """More than two micro-batches, so that the graph is used, and one that is smaller."""
    loaded = Run.open(runs["cpu"]).load(device="cuda", precision="bf16")
    assert loaded.network.replayed is not None
    images = {}
    for replayed in (True, False):
        if not replayed:
            loaded.network.replayed = None  # type: ignore[assignment]
        request = SamplingRequest(count=72, shape=(1, 8, 8), device="cuda", micro_batch=16)
        images[replayed] = sample(loaded.model, kk.DDIM(steps=10), request)
    assert torch.equal(images[True], images[False])
