"""A module of one's own: trained in place, resumed bit for bit, known again by its state; no code is in the folder."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import kakusan as kk
from kakusan.cli import main
from kakusan.errors import RunError, SettingsError
from kakusan.training.own import signature
from kakusan.training.trainer import Began, Stepped

STEPS = 8
SETTINGS: dict[str, Any] = {
    "process.T": 20,
    "training.batch_size": 4,
    "training.accumulation": 2,
    "machine.threads": 1,
    "machine.device": "cpu",
    "machine.precision": "fp32",
    "samples.count": 2,
    "samples.steps": 2,
    "checkpoint.every": 3,
    "checkpoint.snapshots": (4,),
}
LABELS = ["left", "right"] * 6


class Net(nn.Module):
    """All that modules have: their own `channels`, buffers, tied, frozen and unused weights, dropout, batch norm."""

    def __init__(self, width: int = 6, out: int = 1) -> None:
        super().__init__()
        self.channels = width
        self.first = nn.Conv2d(2, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.2)
        self.middle = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.tied = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.tied.weight = self.middle.weight
        self.last = nn.Conv2d(width, out, 3, padding=1)
        self.frozen = nn.Parameter(torch.full((1, width, 1, 1), 0.5), requires_grad=False)
        self.unused = nn.Linear(2, 2)
        self.classes = nn.Embedding(3, width)
        self.register_buffer("scale", torch.tensor(1 / 19.0))

    def forward(self, x_t: Tensor, time: Tensor, condition: kk.Condition | None = None) -> Tensor:
        of_time = (time * self.get_buffer("scale")).view(-1, 1, 1, 1).expand(-1, 1, *x_t.shape[2:])
        h = self.drop(torch.relu(self.norm(self.first(torch.cat([x_t, of_time], 1)))))
        h = h + self.tied(torch.relu(self.middle(h))) * self.frozen
        if condition is not None and condition.label is not None:
            rows = condition.label + 1
            rows = rows if condition.dropped is None else rows.masked_fill(condition.dropped, 0)
            h = h + self.classes(rows)[:, :, None, None]
        out: Tensor = self.last(h)
        return out


def net(**options: int) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(**options)


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def trained(images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> tuple[kk.Run, Net]:
    network, folder = net(), tmp_path_factory.mktemp("own") / "run"
    return train(images, network, folder, steps=STEPS), network


def train(images: Any, network: Any, folder: Path, **options: Any) -> kk.Run:
    call = {"labels": LABELS, "settings": SETTINGS, "run": folder, "progress": False, **options}
    return kk.train(images, network=network, **call)


def left(run: kk.Run) -> dict[str, bytes]:
    """All tensors of the last checkpoint and of the snapshots."""
    last = run.files.checkpoint_path(run.files.steps[-1])
    paths = [*last.glob("*.safetensors"), *run.files.snapshots.glob("*/*.safetensors")]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths}


def interrupt_after(step: int) -> Callable[[Any], None]:
    def watch(event: Any) -> None:
        if isinstance(event, Stepped) and event.step == step:
            raise InterruptedError

    return watch


# Training and coming back


def test_it_is_trained_in_place_and_ends_with_the_weights_of_the_last_step(
    trained: tuple[kk.Run, Net],
) -> None:
    run, network = trained
    stored = run.files.load(pytest.fail, parts=["model", "ema"]).tensors
    assert all(value.equal(stored["model"][name]) for name, value in network.state_dict().items())
    before = net().state_dict()
    assert not network.first.weight.equal(before["first.weight"])
    assert network.frozen.equal(before["frozen"])
    assert network.tied.weight is network.middle.weight
    assert stored["ema"].keys() == before.keys()  # buffers too
    assert stored["ema"]["norm.running_mean"].equal(network.norm.get_buffer("running_mean"))
    early = run.files.load_snapshot(4).tensors["ema"]
    assert early["first.weight"].dtype == early["tied.weight"].dtype == torch.float16
    assert (
        early["scale"].dtype == early["frozen"].dtype == torch.float32
    )  # exact: not learned, perhaps a table


@pytest.mark.parametrize("at", [1, 2, 5])
def test_an_interrupted_training_goes_on_bit_for_bit_whatever_weights_the_module_has(
    at: int, trained: tuple[kk.Run, Net], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    network, folder = net(), tmp_path / "run"
    with pytest.raises(InterruptedError):
        train(images, network, folder, steps=STEPS, watch=interrupt_after(at))
    assert kk.Run.open(folder).files.steps == ([0] if at < 3 else [0, 3])
    if at == 2:
        again = train(images, network, folder)  # as it was left
    else:
        opened = kk.Run.open(folder, network=Net())
        again = opened.resume(data=images, labels=LABELS, progress=False)
    assert left(again) == left(trained[0])


def test_a_run_goes_on_with_the_module_that_it_has_or_is_given(
    images: NDArray[np.uint8], tmp_path: Path
) -> None:
    short = train(images, net(), tmp_path / "run", steps=2)
    assert short.resume(steps=3, progress=False).files.steps[-1] == 3
    opened = kk.Run.open(short.folder)
    longer = opened.resume(steps=4, data=images, labels=LABELS, network=Net(), progress=False)
    assert longer.files.steps[-1] == 4
    assert longer.sample(1, kk.DDIM(steps=2)).isfinite().all()


def test_a_budget_of_minutes_times_copies_and_leaves_the_module_as_it_was(
    images: NDArray[np.uint8], tmp_path: Path
) -> None:
    network = net()
    before = copy.deepcopy(network.state_dict())

    def first(event: Any) -> None:
        if isinstance(event, Began):
            assert all(value.equal(before[name]) for name, value in network.state_dict().items())
            raise InterruptedError

    settings = {name: value for name, value in SETTINGS.items() if name != "training.accumulation"}
    with pytest.raises(InterruptedError):
        train(images, network, tmp_path / "run", minutes=0.01, settings=settings, watch=first)


def test_weights_of_another_run_are_where_it_begins(
    trained: tuple[kk.Run, Net], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    network = Net()
    tuned = train(images, network, tmp_path / "run", steps=1, weights_from=trained[0].folder)
    begun = tuned.files.load(pytest.fail, step=0, parts=["model"]).tensors["model"]
    averages = trained[0].files.load(pytest.fail, parts=["ema"]).tensors["ema"]
    assert all(value.equal(averages[name]) for name, value in begun.items())


# Using it


def test_samples_bounds_reports_and_guidance_work_with_the_module(
    trained: tuple[kk.Run, Net], images: NDArray[np.uint8]
) -> None:
    run, network = trained
    module = Net()
    weights = copy.deepcopy(module.state_dict())
    opened = kk.Run.open(run.folder, network=module)
    x_0 = opened.sample(2, kk.DDIM(steps=4), label="left")
    assert x_0.equal(run.sample(2, kk.DDIM(steps=4), label="left"))
    early = kk.Guidance(2.0, guide="early")
    assert not opened.sample(2, kk.DDIM(steps=4), label="left", guidance=early).equal(x_0)
    measured = opened.evaluate(data=images, images=2, terms=4, memorizer=False)
    assert measured.parts[0].bound.mean > 0
    assert opened.report(progress=False).exists()
    assert all(value.equal(weights[name]) for name, value in module.state_dict().items())  # copies were asked
    assert network.first.weight.requires_grad


def test_config_toml_says_what_the_module_is_and_the_folder_holds_no_code(
    trained: tuple[kk.Run, Net],
) -> None:
    run, network = trained
    stored = run.files.config["network"]
    assert (stored["kind"], stored["module"]) == ("own", "Net")
    assert stored["parameters"] == sum(p.numel() for p in network.parameters())
    assert stored["signature"] == signature(Net())
    known = {".toml", ".json", ".jsonl", ".safetensors", ".png", ".html", ""}
    assert {path.suffix for path in run.folder.rglob("*") if path.is_file()} <= known


def test_without_the_module_there_is_one_error_that_says_how(
    trained: tuple[kk.Run, Net], capsys: pytest.CaptureFixture[str]
) -> None:
    run = kk.Run.open(trained[0].folder)
    described = f"a Net with {sum(p.numel() for p in trained[1].parameters()):,} parameters"
    with pytest.raises(RunError) as error:
        run.sample(2)
    assert described in error.value.problem
    assert "kakusan.Run.open(RUN, network=module)" in error.value.advice[0]
    for command in ("sample", "report", "explain", "export"):
        target = [str(run.folder / "out")] if command == "export" else []
        assert main([command, str(run.folder), *target]) == 4
        said = capsys.readouterr().err
        assert described in said
        assert "Run.open(RUN, network=module)" in said


def test_another_module_is_not_taken_for_it(trained: tuple[kk.Run, Net], data: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not the one of this run"):
        kk.Run.open(trained[0].folder, network=net(width=7)).sample(2)
    small = {**SETTINGS, "network.width": 8}
    built = kk.train(data, steps=1, settings=small, run=tmp_path / "built", progress=False)
    with pytest.raises(RunError, match="of a unet"):
        kk.Run.open(built.folder, network=net()).sample(2)


# Modules that cannot be trained


class Lacking(Net):
    """Knows nothing of conditions."""

    def forward(self, x_t: Tensor, time: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x_t, time)


class Cropping(Net):
    """Loses a row."""

    def forward(self, x_t: Tensor, time: Tensor, condition: kk.Condition | None = None) -> Tensor:
        return super().forward(x_t, time, condition)[..., 1:]


class Extra(Net):
    """Would have a checkpoint store what is no tensor."""

    def get_extra_state(self) -> object:
        return {"code": 1}


WRONG: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "no module": (lambda: len, {}, "is a torch.nn.Module, not builtin_function_or_method"),
    "nothing to learn": (lambda: net().requires_grad_(requires_grad=False), {}, "no parameter to learn"),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(1, 3)), {}, "does not know the shape of 0.weight yet"),
    "more than tensors": (Extra, {}, "the state of Extra holds more than tensors: _extra_state"),
    "no condition": (Lacking, {}, "the network cannot be used: TypeError"),
    "cropped": (Cropping, {}, r"gives \(1, 8, 7\) for a sample of \(1, 8, 8\), where \(1, 8, 8\) is wanted"),
    "three channels": (lambda: net(out=3), {}, r"gives \(3, 8, 8\) for .* \(1, 8, 8\) is wanted"),
    "twice": (lambda: net(out=2), {}, r"gives \(2, 8, 8\) for .* \(1, 8, 8\) is wanted"),
    "once": (net, {"process.variance": "learned"}, r"gives \(1, 8, 8\) for .* \(2, 8, 8\) is wanted"),
    "two networks": (net, {"network.width": 8}, "network.width is for a network that is built"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_before_there_is_a_folder(
    name: str, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    make, settings, words = WRONG[name]
    with pytest.raises(SettingsError, match=words):
        train(images, make(), tmp_path / "run", steps=2, settings={**SETTINGS, **settings})
    assert not (tmp_path / "run").exists()


def test_twice_the_channels_are_taken_where_the_variance_is_learned(
    images: NDArray[np.uint8], tmp_path: Path
) -> None:
    settings = {**SETTINGS, "process.variance": "learned"}
    run = train(images, net(out=2), tmp_path / "run", steps=2, settings=settings)
    assert run.sample(2, kk.Ancestral(steps=4)).isfinite().all()


def test_the_command_line_cannot_train_one(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(data), "--run", str(tmp_path / "run"), "--steps", "1", "--network.kind", "own"]
    assert main(command) == 4
    said = capsys.readouterr().err
    assert "no module was given" in said
    assert "in Python" in said
