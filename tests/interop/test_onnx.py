"""A model leaves as ONNX, its sampler as a table, and a script beside them that needs nothing of ours."""

import json
import math
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import kakusan.interop.onnx
from kakusan.data.units import Levels
from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.diffusion.forward import posterior_variance, posterior_weights, step_variance
from kakusan.diffusion.model import Model
from kakusan.diffusion.schedules import Linear, ZeroTerminalSNR
from kakusan.diffusion.variances import Analytic, Variance
from kakusan.errors import ModelError
from kakusan.interop.onnx.model import TOLERANCE, largest_difference, onnx_model
from kakusan.interop.onnx.table import sampler_table, traced
from kakusan.networks import PointMLP, Transformer, UNet
from kakusan.samplers import (
    DDIM,
    IPNDM,
    SAMPLERS,
    AdamsBashforth,
    Ancestral,
    Consistency,
    DPMpp2M,
    DPMpp3M,
    DPMppSDE2M,
    EDMSampler,
    Heun,
    Sampler,
    SASolver,
    SeededNoise,
    State,
    UniPC,
    walk,
)
from kakusan.shapes import Condition, Samples, Times

Shape = tuple[int, int, int]
Doubles = NDArray[np.float64]
SOURCE = Path(str(kakusan.interop.onnx.__file__)).parent


def with_random_weights(network: nn.Module) -> nn.Module:
    """None of them zero, so that each has its say; products keep their inputs' size, normalizations are around 1."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in network.named_parameters():
        scale = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1
        weight.data = scale * torch.randn(weight.shape, generator=generator) + ("norm" in name)
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Exported:
    network: nn.Module
    shape: Shape
    classes: bool
    model: bytes


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "labels, attention, an odd size": (
        lambda: UNet(
            channels=1, width=8, multipliers=(1, 2), blocks=1, attention=(0,), heads=2, groups=4, classes=3
        ),
        (1, 7, 5),
    ),
    "patches, a learned variance, an odd size": (
        lambda: UNet(
            channels=3, out_channels=6, width=8, multipliers=(1, 2), blocks=1, attention=(), groups=4, patch=2
        ),
        (3, 5, 9),
    ),
    "attention over many pixels": (
        lambda: UNet(channels=1, width=4, multipliers=(1,), blocks=1, attention=(), groups=2),
        (1, 33, 32),
    ),
    "all that other models do otherwise": (
        lambda: UNet(
            channels=1,
            widths=(8, 12),
            blocks=1,
            attention=(1,),
            up_attention=(0,),
            head_width=5,
            middle_norm=False,
            middle_scale=1.5,
            groups=4,
            norm_eps=1e-4,
            scale_shift=True,
            pad_all_sides=True,
            frequency_shift=0.0,
            cos_first=True,
            time_width=20,
            classes=3,
            null_label=False,
        ),
        (1, 6, 4),
    ),
    "a transformer, labels, an odd size": (
        lambda: Transformer(channels=3, width=16, blocks=2, heads=2, patch=4, bottleneck=8, classes=3),
        (3, 7, 9),
    ),
    "points with labels": (lambda: PointMLP(width=8, depth=1, classes=2), (2, 1, 1)),
}


@cache
def export(name: str) -> Exported:
    build, shape = NETWORKS[name]
    network = with_random_weights(build())
    classes = any(isinstance(module, nn.Embedding) for module in network.modules())
    return Exported(network, shape, classes, onnx_model(network, shape, classes=classes))


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request: pytest.FixtureRequest) -> Exported:
    return export(request.param)


def inputs_of(exported: Exported, batch: int) -> tuple[torch.Tensor, ...]:
    x_t = torch.randn(batch, *exported.shape, generator=torch.Generator().manual_seed(batch))
    inputs = (x_t, torch.linspace(0, 999, batch), torch.arange(batch) % 2)
    return inputs if exported.classes else inputs[:2]


def answer_of(exported: Exported, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """What our network gives for the inputs of the model."""
    x_t, time, *labels = inputs
    out: torch.Tensor = exported.network(x_t, time, Condition(label=labels[0]) if labels else None)
    return out


def test_the_model_has_standard_operators_only_and_nothing_of_this_machine(exported: Exported) -> None:
    model = onnx.load_from_string(exported.model)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 20)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert str(SOURCE.parents[2]).encode() not in exported.model


def test_inputs_and_output_have_their_names_and_types_and_a_batch_of_any_size(exported: Exported) -> None:
    graph = onnx.load_from_string(exported.model).graph
    said = {
        value.name: (
            value.type.tensor_type.elem_type,
            [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim],
        )
        for value in (*graph.input, *graph.output)
    }
    channels, *size = exported.shape
    out_channels = answer_of(exported, inputs_of(exported, 1)).shape[1]
    labels = {"label": (onnx.TensorProto.INT64, ["batch"])} if exported.classes else {}
    assert said == {
        "x_t": (onnx.TensorProto.FLOAT, ["batch", channels, *size]),
        "time": (onnx.TensorProto.FLOAT, ["batch"]),
        **labels,
        "output": (onnx.TensorProto.FLOAT, ["batch", out_channels, *size]),
    }


def test_onnxruntime_says_the_words_of_our_network_for_any_batch(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported.model, providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        inputs = inputs_of(exported, batch)
        feeds = {name: value.numpy() for name, value in zip(("x_t", "time", "label"), inputs, strict=False)}
        word = answer_of(exported, inputs)
        assert word.abs().max() > 0.1
        (theirs,) = session.run(["output"], feeds)
        assert theirs.dtype == np.float32
        assert float((torch.from_numpy(theirs) - word).abs().max()) < TOLERANCE  # float32 in another order
    assert largest_difference(exported.model, exported.network, exported.shape, classes=exported.classes) < (
        TOLERANCE
    )


@pytest.fixture(scope="module")
def points() -> Exported:
    return export("points with labels")


def test_the_difference_tells_of_another_weight_and_of_one_that_is_not_finite(points: Exported) -> None:
    build, shape = NETWORKS["points with labels"]
    other = with_random_weights(build())
    weight = next(table.weight for table in other.modules() if isinstance(table, nn.Embedding))
    weight.data[1] += 0.1
    assert largest_difference(points.model, other, shape, classes=True) > TOLERANCE
    weight.data[1] = math.nan
    assert largest_difference(points.model, other, shape, classes=True) == math.inf


def test_the_export_is_silent_and_leaves_the_network_as_it_was(
    points: Exported, capfd: pytest.CaptureFixture[str]
) -> None:
    network = with_random_weights(NETWORKS["points with labels"][0]()).to(torch.bfloat16).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    model = onnx_model(network, points.shape, classes=True)
    assert capfd.readouterr() == ("", "")
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert largest_difference(model, network, points.shape, classes=True) < TOLERANCE  # both in float32


def test_missing_packages_and_too_many_weights_are_refused_with_advice(
    points: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.device("meta"):
        large = nn.Linear(30_000, 20_000)  # 2.4 GB, of which none is in memory
    with pytest.raises(ModelError, match=r"2\.4 GB"):
        onnx_model(large, (1, 1, 1), classes=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"pip install 'kakusan\[onnx\]'"):
        onnx_model(points.network, points.shape, classes=True)


# The table of a sampler

SIZE: Shape = (1, 2, 3)
T = 100
ERRORS = torch.linspace(0, 0.3, T + 1, dtype=torch.float64)
WALKS: dict[str, tuple[Sampler, Variance | str]] = {
    "ddim": (DDIM(steps=10), "fixed-large"),
    "ddim, learned variance": (DDIM(steps=10), "learned"),
    "ddim, eta 1": (DDIM(steps=10, eta=1.0), "fixed-large"),
    "ancestral, large": (Ancestral(), "fixed-large"),
    "ancestral, small": (Ancestral(steps=10), "fixed-small"),
    "ancestral, analytic": (Ancestral(steps=10), Analytic(ERRORS)),
    **{
        name: (sampler, "fixed-large")
        for name, sampler in {
            "2m": DPMpp2M(steps=10),
            "3m": DPMpp3M(steps=10),
            "3m, published": DPMpp3M(steps=10, published=True, lower_order_final=True),
            "sde-2m": DPMppSDE2M(steps=10),
            "sde-2m, eta 0.5": DPMppSDE2M(steps=10, eta=0.5),
            "sa-solver": SASolver(steps=10),
            "sa-solver of order 3": SASolver(steps=10, order=3, eta=1.0),
            "unipc": UniPC(steps=10),
            "unipc of order 3": UniPC(steps=10, order=3),
            "unip": UniPC(steps=10, order=3, corrector=False),
            "unipc, lower orders at the end": UniPC(steps=10, order=3, lower_order_final=True),
            "adams-bashforth": AdamsBashforth(steps=10, order=4),
            "ipndm": IPNDM(steps=10),
            "heun": Heun(steps=6),
            "edm": EDMSampler(steps=6),
            "times between whole ones": UniPC(at=(99.5, 40.25, 11.5, 3.75)),
        }.items()
    },
}
TWO_CALLS = (Heun, EDMSampler)


def toy(x_t: torch.Tensor, time: torch.Tensor, condition: None = None) -> torch.Tensor:  # noqa: ARG001
    return torch.from_numpy(formula(x_t.numpy(), time.double().view(-1, 1, 1, 1).numpy()))


def formula(x_t: Doubles, time: Doubles | float) -> Doubles:
    """Any smooth function will do, if it is nowhere linear."""
    word: Doubles = 0.9 * np.tanh(x_t + 0.3 * np.sin(time))
    return word


@dataclass(frozen=True)
class DoubleNoise(SeededNoise):
    """Ours in float64: then the network's word, which is always float32, is all that is rounded."""

    def start(self) -> Samples:
        return super().start().double()

    def draw(self, step: int, k: int = 0) -> Samples:
        return super().draw(step, k).double()


NOISES = DoubleNoise(3, torch.arange(4), SIZE)


def walked(denoiser: Model[NetworkDenoiser], sampler: Sampler) -> Doubles:
    *_, last = walk(sampler, denoiser, NOISES)
    return np.asarray(last.x.numpy())


def replayed(table: dict[str, Any], ordinals: list[int]) -> Doubles:
    """What anybody would make of the table; ordinals: the step that a row's noise is of."""
    x: Doubles = NOISES.start().numpy()
    before: list[tuple[Doubles, Doubles]] = []
    for ordinal, step in zip(ordinals, table["steps"], strict=True):
        x_0 = step["guess"][0] * x + step["guess"][1] * formula(x, step["time"])
        if table["clip"] is not None:
            x_0 = x_0.clip(-table["clip"], table["clip"])
        there = step["next"][0] * x_0 + step["next"][1] * x + step["noise"] * NOISES.draw(ordinal).numpy()
        for back, (of_x_0, of_x) in enumerate(step.get("past", []), start=1):
            there = there + of_x_0 * before[-back][0] + of_x * before[-back][1]
        before.append((x_0, x))
        x = there
    return x


def assert_same_walk(denoiser: Model[NetworkDenoiser], sampler: Sampler) -> None:
    """To 1e-5: our network's word is rounded to float32, 6e-8, and at T an error in eps is 1 / a, here 100, in x_0."""
    table = json.loads(json.dumps(sampler_table(denoiser, sampler, SIZE), allow_nan=False))
    expected = walked(denoiser, sampler)
    ordinals = [row.ordinal for row in traced(denoiser, sampler)]
    assert np.abs(replayed(table, ordinals) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("clip", [None, 0.8])
@pytest.mark.parametrize("predicts", ["eps", "x_0", "v"])
@pytest.mark.parametrize("name", WALKS)
def test_the_table_leads_where_the_sampler_leads(name: str, predicts: str, clip: float | None) -> None:
    sampler, variance = WALKS[name]
    assert_same_walk(Model(NetworkDenoiser(toy, Linear(T=T), predicts), variance, clip=clip), sampler)


@pytest.mark.parametrize("predicts", ["x_0", "v"])
@pytest.mark.parametrize("sampler", [DDIM(steps=10), DDIM(steps=10, eta=1.0), Ancestral(steps=10)])
def test_the_table_of_a_schedule_that_ends_in_pure_noise(sampler: Sampler, predicts: str) -> None:
    schedule = ZeroTerminalSNR(of=Linear(T=T))
    assert_same_walk(Model(NetworkDenoiser(toy, schedule, predicts), clip=1.0), sampler)
    assert_same_walk(Model(NetworkDenoiser(toy, schedule, predicts)), sampler)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_that_ships_has_a_table(name: str) -> None:
    sampler = SAMPLERS[name](steps=4)
    table = sampler_table(Model(NetworkDenoiser(toy, Linear(T=T), "v"), clip=1.0), sampler, SIZE)
    assert table["sampler"]["steps"] == 4
    assert len(table["steps"]) == (7 if isinstance(sampler, TWO_CALLS) else 4)
    assert table["format"] == (1 if isinstance(sampler, DDIM | Ancestral | Consistency) else 2)
    assert ("past" in table["steps"][-2]) == (table["format"] == 2)


def test_the_numbers_of_2m_are_those_of_its_paper() -> None:
    """Lu et al. 2022b, Algorithm 2: D = (1 + 1 / 2r) x_0 - x_0' / 2r, x_s = b_s / b_t x_t - a_s (e^-h - 1) D."""
    schedule = Linear(T=T)
    rows = sampler_table(Model(NetworkDenoiser(toy, schedule, "v")), DPMpp2M(steps=5), SIZE)["steps"]
    before, t, s = (torch.tensor([float(time)], dtype=torch.float64) for time in (80, 60, 40))
    (_, b_t), (a_s, b_s) = schedule.at(t), schedule.at(s)
    h = schedule.half_log_snr(s) - schedule.half_log_snr(t)
    r = (schedule.half_log_snr(t) - schedule.half_log_snr(before)) / h
    of_d = -a_s * torch.expm1(-h)
    assert rows[2]["next"] == pytest.approx([float(of_d * (1 + 1 / (2 * r))), float(b_s / b_t)], rel=1e-12)
    assert rows[2]["past"] == [[pytest.approx(float(-of_d / (2 * r)), rel=1e-12), 0.0]]


def test_the_numbers_are_those_of_the_papers_to_the_last_digits() -> None:
    schedule = Linear(T=T)
    denoiser = Model(NetworkDenoiser(toy, schedule, "v"))
    ancestral, ddim = (sampler_table(denoiser, sampler(steps=10), SIZE) for sampler in (Ancestral, DDIM))
    for (t, s), one, other in zip(
        pairwise(range(T, -1, -T // 10)), ancestral["steps"], ddim["steps"], strict=True
    ):
        at, to = (torch.tensor([float(time)], dtype=torch.float64) for time in (t, s))
        a, a_s = (math.sqrt(float(schedule.alpha_bar[time])) for time in (t, s))
        b, b_s = math.sqrt(1 - a * a), math.sqrt(1 - a_s * a_s)
        of_x_t, of_x_0 = posterior_weights(schedule, at, to)  # Ho et al. 2020, Eq. 7
        sigma = math.sqrt(float(step_variance(schedule, at, to))) if s else 0.0
        assert one["time"] == other["time"] == t - 1
        assert one["guess"] == other["guess"] == pytest.approx([a, -b], rel=1e-12)  # Salimans & Ho 2022
        assert one["next"] == pytest.approx([float(of_x_0), float(of_x_t)], rel=1e-12)
        assert one["noise"] == pytest.approx(sigma, rel=1e-12)
        assert other["next"] == pytest.approx(
            [a_s - b_s * a / b, b_s / b], rel=1e-12
        )  # Song et al. 2021, Eq. 12
        assert other["noise"] == 0


def test_the_table_says_what_it_is_of() -> None:
    denoiser = Model(NetworkDenoiser(toy, Linear(T=T), "v"), clip=1.0)
    table = sampler_table(denoiser, DDIM(steps=10, eta=0.5), (3, 28, 20))
    assert table["format"] == 1
    assert table["sampler"].items() >= {"name": "ddim", "steps": 10, "eta": 0.5}.items()
    said = {name: table[name] for name in ("predicts", "T", "channels", "height", "width", "clip")}
    assert said == {"predicts": "v", "T": T, "channels": 3, "height": 28, "width": 20, "clip": 1.0}
    variance = posterior_variance(Linear(T=T), *(torch.tensor([n], dtype=torch.float64) for n in (100, 90)))
    assert table["steps"][0]["noise"] == pytest.approx(0.5 * math.sqrt(float(variance)), rel=1e-12)
    assert sampler_table(denoiser, Ancestral(), (3, 28, 20))["sampler"]["steps"] == T


def test_a_learned_variance_is_refused_where_the_sampler_needs_it() -> None:
    denoiser = Model(NetworkDenoiser(toy, Linear(T=T)), variance="learned")
    with pytest.raises(ModelError, match="take the sampler ddim"):
        sampler_table(denoiser, Ancestral(), SIZE)


class WithMomentum(DDIM):
    """Looks back at the guess before."""

    def step(self, model: Any, state: State, t: Times, s: Times, noise: Any) -> State:
        there = super().step(model, state, t, s, noise)
        before = there.x_0 if state.x_0 is None else state.x_0
        assert there.x_0 is not None
        assert before is not None
        return replace(there, x=there.x + 1e-6 * (there.x_0 - before))


class AsksTwice(DDIM):
    """Asks the network again where it arrives, as methods of second order do."""

    def step(self, model: Any, state: State, t: Times, s: Times, noise: Any) -> State:
        there = super().step(model, state, t, s, noise)
        return there if bool((s == 0).all()) else super().step(model, State(there.x), s, s / 2, noise)


class Bends(DDIM):
    """Is not linear."""

    def step(self, model: Any, state: State, t: Times, s: Times, noise: Any) -> State:
        return State(super().step(model, state, t, s, noise).x.tanh())


class DrawsTwice(DDIM):
    """Takes two draws of noise in a step."""

    def step(self, model: Any, state: State, t: Times, s: Times, noise: Any) -> State:
        there = super().step(model, state, t, s, noise)
        return State(there.x + 0.1 * noise() + 0.1 * noise(1))


class ChurnsFirst(EDMSampler):
    """Adds noise to what the walk begins with."""

    def step(self, model: Any, state: State, t: Times, s: Times, noise: Any) -> State:
        return super().step(model, replace(state, x=state.x + noise()), t, s, noise)


@pytest.mark.parametrize("sampler", [WithMomentum(steps=5), AsksTwice(steps=5)])
def test_a_sampler_of_ones_own_that_looks_back_or_asks_twice_has_a_table(sampler: Sampler) -> None:
    assert_same_walk(Model(NetworkDenoiser(toy, Linear(T=T), "v"), clip=1.0), sampler)


@pytest.mark.parametrize("sampler", [Bends(steps=5), DrawsTwice(steps=5), ChurnsFirst(steps=5)])
def test_a_sampler_whose_steps_are_no_fixed_sums_is_refused(sampler: Sampler) -> None:
    with pytest.raises(ModelError, match=type(sampler).__name__):
        sampler_table(Model(NetworkDenoiser(toy, Linear(T=T)), clip=1.0), sampler, SIZE)


# The example beside the model

CLASSES = ["one", "two", "three"]


@pytest.fixture(scope="module")
def images() -> Exported:
    return export("labels, attention, an odd size")


class OurNoise:
    """Stands in for NumPy's generator, with the draws of a walk of ours."""

    def __init__(self, noises: SeededNoise, ordinals: list[int]) -> None:
        self.noises, self.ordinals = noises, iter(ordinals)

    def standard_normal(self, shape: tuple[int, ...], dtype: type) -> NDArray[np.float32]:
        drawn: NDArray[np.float32] = self.noises.draw(next(self.ordinals)).numpy()
        assert drawn.shape == shape
        assert drawn.dtype == dtype
        return drawn


@dataclass(frozen=True)
class Folder:
    """An exported model with its table and the example."""

    path: Path
    denoiser: Model[NetworkDenoiser]
    sampler: Sampler
    noises: SeededNoise

    @staticmethod
    def write(path: Path, images: Exported, sampler: Sampler, null_label: int | None = 3) -> "Folder":
        denoiser = Model(NetworkDenoiser(images.network, Linear(T=T), "v"), clip=1.0)
        table = sampler_table(denoiser, sampler, images.shape)
        table |= {"classes": CLASSES if images.classes else [], "null_label": null_label, "levels": 256}
        (path / "model.onnx").write_bytes(images.model)
        (path / "sampler.json").write_text(json.dumps(table), "utf-8")
        shutil.copy(SOURCE / "sample_onnx.py", path / "sample.py")
        return Folder(path, denoiser, sampler, SeededNoise(5, torch.arange(4), images.shape))

    @property
    def ordinals(self) -> list[int]:
        """The steps that the noise of the rows is of."""
        return [row.ordinal for row in traced(self.denoiser, self.sampler)]

    def theirs(self, label: Any = None) -> NDArray[np.float32]:
        script = runpy.run_path(str(self.path / "sample.py"))
        sampled: NDArray[np.float32] = script["sample"](
            self.noises.start().numpy(), OurNoise(self.noises, self.ordinals), label
        )
        return sampled

    def ours(self, labels: torch.Tensor | None = None) -> NDArray[np.float32]:
        *_, last = walk(
            self.sampler, self.denoiser, self.noises, None if labels is None else Condition(label=labels)
        )
        return np.asarray(last.x.numpy())


RUN = [
    DDIM(steps=5),
    DDIM(steps=5, eta=1.0),
    *(kind(steps=5) for kind in SAMPLERS.values() if kind is not DDIM),
]


@pytest.mark.parametrize("sampler", RUN, ids=repr)
def test_the_example_makes_our_images_from_our_noise(
    images: Exported, sampler: Sampler, tmp_path: Path
) -> None:
    folder = Folder.write(tmp_path, images, sampler)
    for label, labels in ((None, None), (1, torch.full((4,), 1)), (np.arange(4), torch.arange(4))):
        theirs, expected = folder.theirs(label), folder.ours(labels)
        assert theirs.dtype == np.float32
        assert np.abs(theirs - expected).max() < 1e-4  # 5 words that differ by 1e-6 or less


def test_the_example_takes_all_classes_in_turn_where_there_is_no_label_for_none(
    images: Exported, tmp_path: Path
) -> None:
    folder = Folder.write(tmp_path, images, DDIM(steps=2), null_label=None)
    assert np.abs(folder.theirs() - folder.ours(torch.tensor([0, 1, 2, 0]))).max() < 1e-4


def test_the_example_leaves_aside_what_the_network_says_of_the_variance(tmp_path: Path) -> None:
    folder = Folder.write(tmp_path, export("patches, a learned variance, an odd size"), DDIM(steps=5), None)
    assert np.abs(folder.theirs() - folder.ours()).max() < 1e-4


def test_the_example_runs_by_itself_without_torch_and_kakusan(images: Exported, tmp_path: Path) -> None:
    Folder.write(tmp_path, images, DDIM(steps=2))
    alone = (
        "import runpy, sys; sys.modules.update(kakusan=None, torch=None, onnx=None);"
        "sys.argv = ['sample.py', '6', '1']; runpy.run_path('sample.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", alone], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    x = np.load(tmp_path / "samples.npy")
    assert (x.shape, x.dtype) == ((6, 1, 7, 5), np.float32)
    shown = Levels(256).to_bytes(torch.from_numpy(x))[..., 0]  # 2 rows of 3 images of height 7, width 5
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size == (15, 14)
        assert np.array_equal(np.asarray(picture), shown.reshape(2, 3, 7, 5).swapaxes(1, 2).reshape(14, 15))


def test_the_example_says_how_it_is_used(
    images: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Folder.write(tmp_path, images, DDIM(steps=2)).path / "sample.py"
    for word, code in (("--help", None), ("many", "COUNT is 1 or more")):
        monkeypatch.setattr(sys, "argv", ["sample.py", word])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(script), run_name="__main__")
        said = capsys.readouterr().out + str(stop.value.code)
        assert "python sample.py [COUNT] [SEED]" in said
        assert (code or "") in said
        assert (stop.value.code is None) == (code is None)
