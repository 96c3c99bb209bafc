"""docs/extending.md at work: its files as they stand, its lines in the tables, the contract tests, a truth of each."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import extensions
import numpy as np
import pytest
import torch
from tiny import VALUES

import kakusan as kk
from kakusan.cli import main
from kakusan.config.loading import from_mapping, to_mapping
from kakusan.data import open_data
from kakusan.data.measuring import operator_named
from kakusan.diffusion.oracles import GaussianOracle
from kakusan.diffusion.tables import PARAMETRIZATIONS, SCHEDULES
from kakusan.errors import DataError, SettingsError
from kakusan.samplers import SAMPLERS, Sampler
from kakusan.samplers.base import State
from kakusan.shapes import times_like
from kakusan.training.build import build_path
from kakusan.training.losses import Simple

TESTS = Path(__file__).parents[1]
CONTRACTS = {
    "samplers/test_samplers.py": ("Midpoint", "TwoStep"),
    "config/test_choices.py": ("midpoint", "two-step", "shifted-cosine", "geometric", "sigmoid-weighted"),
    "diffusion/test_schedules.py": ("tables_have", "signal_only_falls", "between_whole_times_the_signal"),
    "diffusion/test_forward.py": ("shifted-cosine",),
    "diffusion/test_likelihood.py": ("shifted-cosine",),
    "diffusion/test_oracles.py": ("shifted-cosine",),
    "diffusion/test_paths.py": ("Geometric",),
    "diffusion/test_parametrizations.py": ("score",),
    "training/test_losses.py": ("score", "sigmoid-weighted"),
    "training/test_loop.py": ("sigmoid-weighted",),
    "training/test_validation.py": ("sigmoid-weighted",),
    "networks/test_every_network.py": ("conv-stack",),
    "data/test_measuring.py": ("slopes", "slopes:2"),
}
"""The tests that read the tables, and how they call what the page adds; those of schedules draw from all in turn."""
F = torch.float64


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """All that the page defines, while it is in the tables."""
    with pytest.MonkeyPatch.context() as patch:
        yield extensions.install(tmp_path_factory.mktemp("extending"), patch)


def test_each_file_of_the_page_has_a_line_in_a_table_and_is_new() -> None:
    weights = {"kakusan.networks.conv_stack"}  # whose line is that of its options
    assert len(extensions.files()) == len(extensions.lines()) + len(weights)
    assert {name for name, _ in extensions.lines()} == {*extensions.TABLES}
    for module in extensions.files():
        assert not (TESTS.parent / "src" / f"{module.replace('.', '/')}.py").exists()
    said = re.findall(r"`([A-Z]+)`, `src/(kakusan/[\w/]+)\.py`", extensions.PAGE.read_text("utf-8"))
    homes = {name: home.replace("/", ".").removesuffix(".__init__") for name, home in said}
    assert homes == extensions.TABLES


def test_the_contract_tests_hold_of_them(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    options = [
        "-p",
        "extensions",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
        "-rp",
        "-c",
        str(TESTS.parent / "pyproject.toml"),
    ]
    options += ["-k", " or ".join(dict.fromkeys(name for each in CONTRACTS.values() for name in each))]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(str(TESTS / file) for file in CONTRACTS)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
    for file, called in CONTRACTS.items():
        for name in called:
            assert re.search(rf"^PASSED .*{file}.*{name}", ran.stdout, re.MULTILINE), (file, name)


def unused(k: int = 0) -> torch.Tensor:
    raise AssertionError(f"noise {k} was not needed")


def error_of(sampler: Sampler, path: kk.Path, steps: int) -> float:
    """Of a point one deviation above the mean of x_t at t = 0.8 T, walked to t = 0.2 T in even steps."""
    model = kk.Model(GaussianOracle(path, 0.3, 0.04))
    times = [path.T * (0.8 - 0.6 * i / steps) for i in range(steps + 1)]
    state = State(one_above(path, times[0]))
    for t, s in pairwise(times):
        state = sampler.step(model, state, times_like(t, state.x), times_like(s, state.x), unused)
    return abs(float(state.x - one_above(path, times[-1])))


def one_above(path: kk.Path, t: float) -> torch.Tensor:
    """Where the probability flow has such a point at t, for Gaussian data of mean 0.3 and deviation 0.2."""
    a, b = path.at(torch.tensor([t], dtype=F))
    return (a * 0.3 + (a.square() * 0.04 + b.square()).sqrt()).view(1, 1)


@pytest.mark.parametrize("path", [kk.Linear(), kk.Cosine(), kk.FlowMatching()], ids=repr)
@pytest.mark.parametrize("name", ["midpoint", "two-step"])
def test_the_samplers_are_of_second_order(names: dict[str, Any], name: str, path: kk.Path) -> None:
    """Twice the steps, a quarter of the error; DDIM's halves, and is larger."""
    del names
    options: dict[str, Any] = {"second_at": 1.0} if name == "midpoint" else {}
    sampler = SAMPLERS[name](**options)
    coarse, fine = (error_of(sampler, path, steps) for steps in (100, 200))
    assert 3.8 < coarse / fine < 4.2  # 4 in the limit
    assert 1.9 < error_of(kk.DDIM(), path, 100) / error_of(kk.DDIM(), path, 200) < 2.1
    assert fine < error_of(kk.DDIM(), path, 200) / 20


def test_the_midpoint_is_at_least_as_good_as_heun(names: dict[str, Any]) -> None:
    midpoint, heun = names["Midpoint"](), names["Midpoint"](second_at=1.0)
    assert error_of(midpoint, kk.Linear(), 100) < error_of(heun, kk.Linear(), 100) / 2


def test_the_samplers_begin_at_pure_noise_too(names: dict[str, Any]) -> None:
    oracle = GaussianOracle(kk.FlowMatching(T=1000), 0.3, 0.04)
    for name in ("midpoint", "two-step"):
        x = kk.sample(oracle, SAMPLERS[name](steps=50), count=4096, shape=(1, 1, 1), micro_batch=4096)
        assert float(x.mean()) == pytest.approx(
            0.3, abs=0.02
        )  # 4.5 deviations of the mean of 4,096, and a bias
        assert float(x.std()) == pytest.approx(0.2, abs=0.02)
    with pytest.raises(SettingsError, match="second_at"):
        names["Midpoint"](second_at=0.0)


def test_the_schedule_is_the_cosine_shifted(names: dict[str, Any]) -> None:
    """At T / 2 the cosine's SNR is 1, and four times the side divides it by 16."""
    schedule = names["ShiftedCosine"](T=1000, side=256.0)
    assert float(schedule.alpha_bar[500]) == pytest.approx(1 / 17, rel=1e-12)
    plain = names["ShiftedCosine"](T=1000, side=64.0)
    t = torch.arange(1, 900, dtype=F)
    assert torch.allclose(plain.alpha_bar[1:900], (t / 1000 * torch.pi / 2).cos().square(), rtol=1e-11)
    with pytest.raises(SettingsError, match="counted in pixels"):
        names["ShiftedCosine"](side=0.0)


def test_the_path_is_geometric(names: dict[str, Any]) -> None:
    a, b = names["Geometric"](T=5, sigma_min=0.01, sigma_max=100.0).at(
        torch.tensor([0, 0.5, 1, 2, 3, 4, 5], dtype=F)
    )
    assert a.eq(1).all()
    assert b.tolist() == pytest.approx([0, 0.005, 0.01, 0.1, 1, 10, 100], rel=1e-12)


def test_the_parametrization_is_the_score(names: dict[str, Any]) -> None:
    """x_t - a x_0 = b eps, and grad log N(x_t; a x_0, b^2) = -(x_t - a x_0) / b^2."""
    del names
    x_0, eps, a, b = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=F)
    a, b = a.abs(), b.abs()
    x_t = a * x_0 + b * eps
    score = PARAMETRIZATIONS["score"].target(x_0.view(3, 1), eps.view(3, 1), a, b)
    assert torch.allclose(score.flatten(), -(x_t - a * x_0) / b**2, rtol=1e-12)
    guess = PARAMETRIZATIONS["score"].guess(score, x_t.view(3, 1), a, b)
    assert torch.allclose(torch.stack(guess).flatten(1), torch.stack([x_0, eps]), rtol=1e-9)
    with pytest.raises(SettingsError, match="score says nothing of x_0"):
        kk.NetworkDenoiser(torch.nn.Identity(), kk.FlowMatching(), "score")


def test_the_loss_is_that_of_eps_times_a_sigmoid(names: dict[str, Any]) -> None:
    x_0, noise = torch.randn(2, 4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    t, path = torch.tensor([1, 300, 600, 1000], dtype=F), kk.Linear()
    log_snr = torch.logit(path.alpha_bar_at(t))
    network = Zeros()
    for_eps = kk.Model(kk.NetworkDenoiser(network, path, "eps"))
    expected = torch.sigmoid(1.5 - log_snr).float() * Simple().per_image(for_eps, x_0, t, noise)
    loss = names["SigmoidWeighted"](sigmoid_bias=1.5)
    assert torch.allclose(loss.per_image(for_eps, x_0, t, noise), expected, rtol=1e-5)  # float32


class Zeros(torch.nn.Module):
    """A network that says nothing."""

    def forward(self, x_t: torch.Tensor, time: torch.Tensor, condition: object = None) -> torch.Tensor:
        del time, condition
        return torch.zeros_like(x_t)


def test_points_are_read_and_what_is_none_is_one_error(names: dict[str, Any], tmp_path: Path) -> None:
    del names
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("# x, y\n0.5,-1.25\n3,4\n-1,0.125\n", "utf-8")
    data = open_data(good)
    assert data.images.tolist() == [[0.5, -1.25], [3.0, 4.0], [-1.0, 0.125]]
    assert data.is_points
    for text in ("x,y\n1,2\n", "1,2\n3\n", "1,nan\n2,3\n"):
        bad.write_text(text, "utf-8")
        with pytest.raises(DataError, match=r"bad\.csv"):
            open_data(bad)
    (tmp_path / "x.bin").write_bytes(b"none")
    with pytest.raises(DataError, match=r"\.csv files of points"):
        open_data(tmp_path / "x.bin")


def test_slopes_are_those_of_a_plane_and_lead_back_to_it(names: dict[str, Any]) -> None:
    """Of a plane they are its gradient; the least squares of all slopes know a surface up to its level."""
    row, column = torch.meshgrid(torch.arange(5, dtype=F), torch.arange(6, dtype=F), indexing="ij")
    operator = operator_named("slopes:2", (1, 5, 6))
    y = operator((0.5 * row - 3 * column)[None, None])
    assert y[0, 0, :3].eq(0.5).all()
    assert y[0, 1, :, :4].eq(-3).all()
    assert y[0, 0, 3:].eq(0).all()
    whole = operator_named("slopes", (1, 5, 6))
    matrix = torch.stack([whole(unit.view(1, 1, 5, 6)).flatten() for unit in torch.eye(30, dtype=F)], dim=1)
    assert int(torch.linalg.matrix_rank(matrix)) == 29
    assert names["Slopes"](2) == operator
    with pytest.raises(SettingsError, match=r"slopes:0: .* at least 1 pixel"):
        operator_named("slopes:0", (1, 5, 6))
    with pytest.raises(SettingsError, match="did you mean slopes"):
        operator_named("slops", (1, 5, 6))


def test_options_go_through_files_and_are_refused_with_others(names: dict[str, Any]) -> None:
    table = {
        "process": {"schedule": "shifted-cosine", "side": 96.0},
        "training": {"loss": "sigmoid-weighted", "sigmoid_bias": 1.0},
    }
    settings = from_mapping(table, "here")
    assert from_mapping(to_mapping(settings), "here") == settings
    assert build_path(settings.process) == names["ShiftedCosine"](T=1000, side=96.0)
    with pytest.raises(SettingsError, match=r"unknown setting process\.side"):
        from_mapping({"process": {"schedule": "cosine", "side": 96.0}}, "here")
    with pytest.raises(SettingsError, match=r"process\.side in here: Expected `float`"):
        from_mapping({"process": {"schedule": "shifted-cosine", "side": "wide"}}, "here")
    both = from_mapping({"process": {"path": "geometric", "sigma_max": 50.0}}, "here")
    assert build_path(both.process) == names["Geometric"](T=1000, sigma_max=50.0)
    assert "rho" not in to_mapping(both)["process"]
    assert "shifted-cosine" in SCHEDULES


@pytest.fixture(scope="module")
def run(names: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny training with everything that the page adds but for its path."""
    del names
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert main(command(folder)) == 0
    return folder


OWN = (
    "--network.kind conv-stack --network.layers 2 --network.width 8 --process.schedule shifted-cosine"
    " --process.side 96 --process.predicts score --training.loss sigmoid-weighted --training.sigmoid-bias 1"
)


def command(folder: Path, *more: str) -> list[str]:
    """That training."""
    general = [
        word for name, value in VALUES.items() if "network" not in name for word in (f"--{name}", value)
    ]
    return ["train", "digits", "--run", str(folder), "--steps", "4", *general, *OWN.split(), *more]


def test_a_training_takes_them_from_the_command_line_and_stores_them(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tomllib.loads((run / "config.toml").read_text("utf-8"))
    process, training = config["process"], config["training"]
    assert (process["schedule"], process["side"], process["predicts"]) == ("shifted-cosine", 96.0, "score")
    assert (training["loss"], training["sigmoid_bias"]) == ("sigmoid-weighted", 1.0)
    assert config["network"] == {"kind": "conv-stack", "width": 8, "null_label": True, "layers": 2}
    opened = kk.Run.open(run)
    assert repr(opened.model().path) == "ShiftedCosine(T=20, side=96.0)"
    assert main(command(run)) == 0  # at its last step already
    capsys.readouterr()
    assert main(command(run, "--process.side", "97")) != 0
    assert "process.side: asked for 97.0, it has 96.0" in capsys.readouterr().err


@pytest.mark.parametrize("sampler", ["midpoint", "two-step"])
def test_samples_are_drawn_from_the_command_line(run: Path, tmp_path: Path, sampler: str) -> None:
    words = "--steps 5 --count 2" + " --second-at 0.7" * (sampler == "midpoint")
    out = ["--out", str(tmp_path / "x.npz")]
    assert main(["sample", str(run), "--sampler", sampler, *words.split(), *out]) == 0
    with np.load(tmp_path / "x.npz") as stored:
        assert stored["images"].shape == (2, 8, 8, 1)


def test_points_of_a_csv_file_are_learned_on_the_new_path(names: dict[str, Any], tmp_path: Path) -> None:
    del names
    np.savetxt(tmp_path / "points.csv", np.random.default_rng(0).normal(size=(64, 2)), delimiter=",")
    folder = tmp_path / "run"
    words = "--steps 4 --process.T 20 --process.path geometric --process.sigma-max 50 --network.width 8"
    words += " --machine.threads 1 --training.batch-size 4"
    assert main(["train", str(tmp_path / "points.csv"), "--run", str(folder), *words.split()]) == 0
    assert repr(kk.Run.open(folder).model().path) == "Geometric(T=20, sigma_min=0.002, sigma_max=50.0)"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("sample --sampler midpoint", ("--second-at", "0.5 in the middle (midpoint)")),
        ("train --process.schedule shifted-cosine", ("--process.side", "Side of the images in pixels")),
        ("train --process.path geometric", ("--process.sigma-min", "vp, flow, edm, geometric")),
        ("train --process.predicts score", ("eps, x_0, v, flow, edm, score",)),
        (
            "train --training.loss sigmoid-weighted",
            ("--training.sigmoid-bias", "The log-SNR at which the weight is a half"),
        ),
        ("train --network.kind conv-stack", ("--network.layers", "each sees one pixel further")),
    ],
)
def test_the_help_shows_them(
    names: dict[str, Any], capsys: pytest.CaptureFixture[str], words: str, shown: tuple[str, ...]
) -> None:
    del names
    with pytest.raises(SystemExit):
        main([*words.split(), "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for each in shown:
        assert each in said
