"""Distances between sets of features: known laws, other computations, degenerate cases."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from kakusan.cli import main
from kakusan.data.batches import Split
from kakusan.errors import DataError, NumbersError, SettingsError
from kakusan.evaluation.distances import DENSE_NEIGHBOURS, NEIGHBOURS, kernel_distance, support
from kakusan.evaluation.features import features_of, from_file
from kakusan.evaluation.options import DistanceOptions
from kakusan.evaluation.quality import Quality, figures_of
from kakusan.evaluation.references import Statistics, within
from kakusan.run import Run

Array = NDArray[np.float64]


def normal(seed: int, n: int, d: int = 4, mean: float = 0.0) -> Array:
    return np.random.default_rng(seed).normal(mean, 1, (n, d))


def by_loops(x: Array, y: Array) -> float:
    """The unbiased squared MMD (Gretton et al. 2012, Eq. 4), term by term."""
    n, d = x.shape

    def k(a: Array, b: Array) -> float:
        return float((a @ b / d + 1) ** 3)

    total = sum(
        k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i])
        for i in range(n)
        for j in range(n)
        if i != j
    )
    return float(total / (n * (n - 1)))


def test_the_kernel_distance_is_that_of_its_definition() -> None:
    x, y = normal(0, 20), normal(1, 20, mean=0.5)
    assert kernel_distance(x, y).value == pytest.approx(by_loops(x, y), rel=1e-12)


def test_its_mean_is_0_for_equal_laws_and_its_error_covers() -> None:
    """Of shifted laws the mean over many draws lies within 2 errors of a draw in about 95 % of the draws."""
    equal = [kernel_distance(normal(2 * i, 100), normal(2 * i + 1, 100)).value for i in range(200)]
    assert abs(np.mean(equal)) < 4 * np.std(equal) / np.sqrt(200)  # one false alarm in 16,000
    draws = [kernel_distance(normal(2 * i, 200), normal(2 * i + 1, 200, mean=0.5)) for i in range(300)]
    truth = np.mean([each.value for each in draws])
    covered = np.mean([abs(each.value - truth) < 1.96 * each.standard_error for each in draws])
    assert 0.90 < covered < 0.98  # binomial of 300 at 0.95: 4 deviations are 0.05


def test_fewer_rows_of_one_are_met_by_as_many_of_the_other() -> None:
    x, y = normal(0, 50), normal(1, 99)
    assert kernel_distance(x, y).value == kernel_distance(x, y[np.linspace(0, 98, 50).astype(int)]).value


def slow_support(x: Array, y: Array) -> tuple[float, float, float, float]:
    def reach(z: Array, k: int) -> list[float]:
        return [sorted(np.linalg.norm(z - row, axis=1))[k] for row in z]

    near, dense, of_x = reach(y, NEIGHBOURS), reach(y, DENSE_NEIGHBOURS), reach(x, NEIGHBOURS)
    between = np.array([[np.linalg.norm(a - b) for b in y] for a in x])
    return (
        float(np.mean([any(between[i] <= near) for i in range(len(x))])),
        float(np.mean([any(between[:, j] <= of_x) for j in range(len(y))])),
        float((between <= dense).sum() / (DENSE_NEIGHBOURS * len(x))),
        float(np.mean([any(between[:, j] <= dense[j]) for j in range(len(y))])),
    )


def test_support_is_that_of_its_definition() -> None:
    x, y = normal(0, 40, 3, mean=0.7), normal(1, 60, 3)
    found = support(x, y)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(
        slow_support(x, y), abs=1e-12
    )


def test_support_of_extremes() -> None:
    y = normal(1, 200)
    itself = support(y, y)
    assert (itself.precision, itself.recall, itself.coverage) == (1, 1, 1)
    far = support(y + 100, y)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    point = support(np.repeat(y[:1], 200, 0), y)  # one image again and again: all of them are real
    assert point.precision == 1
    assert point.recall < 0.05
    assert point.coverage < 0.2


def test_a_common_offset_changes_nothing() -> None:
    x, y = normal(0, 40), normal(1, 60)
    assert vars(support(x + 1e6, y + 1e6)) == pytest.approx(
        vars(support(x, y)), abs=0.03
    )  # 1e6 costs 6 digits of 16


@pytest.mark.parametrize("measure", [kernel_distance, support])
def test_what_is_no_set_of_features_is_refused(measure: object) -> None:
    assert callable(measure)
    with pytest.raises(DataError, match="rows"):
        measure(normal(0, 20, 3), normal(1, 20, 4))
    with pytest.raises(DataError, match="rows"):
        measure(normal(0, 20)[0], normal(1, 20))
    with pytest.raises(NumbersError, match="finite"):
        measure(normal(0, 20) * np.nan, normal(1, 20))


def test_too_few_rows_have_no_reach() -> None:
    with pytest.raises(SettingsError, match="more than 5"):
        support(normal(0, 5), normal(1, 50))


def test_one_feature_and_the_fewest_rows_are_enough() -> None:
    x, y = normal(0, 6, 1), normal(1, 6, 1)
    assert vars(support(x, y)).values() == pytest.approx(slow_support(x, y), abs=1e-12)
    assert kernel_distance(x[:3], y[:3]).value == pytest.approx(by_loops(x[:3], y[:3]), rel=1e-12)


def test_rows_of_low_rank_are_no_trouble() -> None:
    x, y = (np.repeat(normal(seed, 30, 1), 50, 1) for seed in (0, 1))  # 50 equal features
    alone = support(x[:, :1], y[:, :1])
    assert vars(support(x, y)) == pytest.approx(
        vars(alone), abs=1e-12
    )  # distances grow by sqrt(50), all of them


def test_equal_sets_have_no_distance_and_no_error() -> None:
    found = kernel_distance(normal(0, 50), normal(0, 50))
    assert (found.value, found.standard_error) == (0, 0)


def test_the_interval_of_a_figure_over_seeds_covers_at_its_level() -> None:
    """Of three seeds, of samples of a known Gaussian against one reference, as a measurement has them."""
    reference = Statistics(np.zeros(3), np.eye(3), "a normal law")
    generator = np.random.default_rng(0)

    def seed() -> dict[str, float]:
        return figures_of(generator.normal(0.3, 1.2, (60, 3)), reference)

    truth = np.mean([seed()["frechet"] for _ in range(20_000)])
    hits = []
    for _ in range(1000):
        of = quality(tuple(seed() for _ in range(3))).figures["frechet"]
        assert of["mean"] is not None
        assert of["half_width_95"] is not None
        hits.append(abs(of["mean"] - truth) < of["half_width_95"])
    assert 0.92 < np.mean(hits) < 0.98  # binomial of 1000 at 0.95: 4 deviations are 0.028


def quality(by_seed: tuple[dict[str, float], ...]) -> Quality:
    return Quality({}, by_seed, None, {}, {}, None)


def test_one_seed_has_no_interval() -> None:
    of = quality(({"frechet": 2.0},)).figures["frechet"]
    assert of == {"mean": 2.0, "deviation": None, "half_width_95": None, "real": None}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("distances") / "digits"
    small = [
        "--network.width",
        "16",
        "--samples.count",
        "4",
        "--samples.steps",
        "2",
        "--machine.threads",
        "1",
    ]
    assert main(["train", "digits", "--steps", "20", "--run", str(run), *small]) == 0
    return run


def test_features_are_the_same_each_time(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kakusan.evaluation.features.STEPS", 10)
    prepared = Run.open(digits).prepared()
    first, again = (features_of(prepared.dataset, prepared.split.training) for _ in range(2))
    assert first.name == again.name
    assert first.name.startswith("autoencoder ")
    x = prepared.dataset.x_0([0, 1, 2])
    assert np.array_equal(first(x), again(x))


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """An ONNX file: 64 values of a sample, in a row, times a matrix."""
    n = helper.make_tensor_value_info
    weights = numpy_helper.from_array(normal(0, 64, 8).astype(np.float32), "w")
    nodes = [helper.make_node("Flatten", ["x"], ["row"]), helper.make_node("MatMul", ["row", "w"], ["y"])]
    inputs, outputs = [n("x", TensorProto.FLOAT, ["n", 1, 8, 8])], [n("y", TensorProto.FLOAT, ["n", 8])]
    graph = helper.make_graph(nodes, "features", inputs, outputs, [weights])
    path = tmp_path / "features.onnx"
    path.write_bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9
        ).SerializeToString()
    )
    return path


def test_the_command_shows_samples_beside_real_images(
    digits: Path, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--distance", "--count", "40", "--seeds", "2", "--steps", "2", "--features", str(network)]
    assert main(["evaluate", str(digits), *flags, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["about"]["features"].startswith("features.onnx ")
    assert told["about"]["count"] == 40
    assert len(told["by_seed"]) == 2
    of = told["figures"]["frechet"]
    assert of["mean"] > 2 * of["real"]  # 20 steps teach nothing
    assert Path(told["out"]).exists()
    assert main(["evaluate", str(digits), *flags, "--reference", "held-out"]) == 0
    shown = capsys.readouterr().out
    assert "Fréchet distance" in shown
    assert "training images (40)" in shown


def test_features_of_a_file_are_its_rows(digits: Path, network: Path) -> None:
    x = Run.open(digits).prepared().dataset.x_0([0, 1, 2])
    expected = x.flatten(1).numpy() @ normal(0, 64, 8).astype(np.float32)
    assert np.allclose(from_file(network)(x), expected, atol=1e-4)  # float32 sums of 64
    with pytest.raises(DataError, match="does not take samples of shape"):
        from_file(network)(torch.zeros(3, 1, 9, 8))


def test_classes_are_what_features_are_learned_from(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kakusan.evaluation.features.STEPS", 30)
    prepared = Run.open(digits).prepared()
    labels = (prepared.dataset.x_0(range(len(prepared.dataset))).flatten(1).mean(1) > -0.4).long().numpy()
    labelled = replace(prepared.dataset, labels=labels, class_names=("dark", "bright"))
    features = features_of(labelled, prepared.split.training)
    assert features.name.startswith("classifier ")
    rows = features(labelled.x_0(prepared.split.held_out))
    bright = labels[prepared.split.held_out] == 1
    apart = rows[bright].mean(0) - rows[~bright].mean(0)
    assert np.linalg.norm(apart) > 3 * rows.std(0).mean()  # the classes lie apart, of which it was told


def test_too_few_real_images_are_refused(digits: Path) -> None:
    dataset = Run.open(digits).prepared().dataset
    few = Split(training=np.arange(50), held_out=np.arange(50, 55))
    with pytest.raises(SettingsError, match="5 held-out images, too few"):
        within(dataset, few, DistanceOptions(reference="held-out"))
    alone = within(dataset, few, DistanceOptions())
    assert (alone.count, alone.others) == (1000, None)


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.onnx").write_bytes(b"odd")
    with pytest.raises(SettingsError, match="no network of features"):
        from_file(tmp_path / "odd.onnx")
