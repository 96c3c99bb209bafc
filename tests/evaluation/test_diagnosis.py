"""Diagnoses of runs whose truth is known: networks that are exact denoisers, or exact ones with one known fault."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import TINY
from torch import Tensor, nn

import kakusan as kk
from kakusan.cli import main
from kakusan.config.settings import ProcessSettings
from kakusan.data import Batches
from kakusan.data.units import Levels, Real
from kakusan.diffusion.oracles import GaussianOracle, MixtureOracle
from kakusan.diffusion.paths import Path as DiffusionPath
from kakusan.errors import NumbersError, SettingsError
from kakusan.evaluation.diagnosis.broken import by_noise_level, ranges
from kakusan.evaluation.diagnosis.causes import _other_end, causes_of
from kakusan.evaluation.diagnosis.colours import Compared, Scale, are_right, differences, spread_of
from kakusan.evaluation.diagnosis.drawing import Drawing, compared
from kakusan.evaluation.diagnosis.finding import Health
from kakusan.training.build import build_schedule
from kakusan.training.knowledge import MEAN, NETWORK, SPECTRUM, WHITE, Level

PATTERN = np.where(np.random.default_rng(1).random((8, 8, 1)) < 0.5, -1.0, 1.0)
WIDTH = 0.1
"""Deviation of the images about the pattern and about its negative."""
SETTINGS: dict[str, Any] = {
    "process.T": 50,
    "process.predicts": "x_0",
    "process.schedule": "cosine",
    "data.held_out": 128,
    "training.steps": 2,
    "training.batch_size": 16,
    "training.warmup": 0,
    "training.learning_rate": 1e-9,
    "training.decay": "constant",
    "machine.threads": 1,
    "machine.device": "cpu",
    "machine.precision": "fp32",
    "samples.count": 2,
    "samples.steps": 2,
    "log.every": 1,
}


def pictures(count: int = 512) -> NDArray[np.float64]:
    """In real units: the pattern or its negative, with a little noise, 6.4 about 288.1."""
    rng = np.random.default_rng(0)
    signs = np.where(np.arange(count) % 2, 1.0, -1.0).reshape(-1, 1, 1, 1)
    return np.asarray(288.1 + 6.4 * (signs * PATTERN + WIDTH * rng.normal(size=(count, 8, 8, 1))))


class Exact(nn.Module):
    """The exact denoiser of such pictures, or of pictures that are all brighter by a shift, which can be learned."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))
        units = kk.open_data(pictures()).units
        assert isinstance(units, Real)
        known = units.encode(288.1 + 6.4 * np.stack([PATTERN, -PATTERN]))
        variance = torch.full((2,), float((6.4 * WIDTH / units.scale[0]) ** 2))
        path: DiffusionPath = kk.Cosine(T=50)
        self.oracle = MixtureOracle(path, torch.ones(2), known, variance)

    def forward(self, x_t: Tensor, time: Tensor, condition: kk.Condition | None = None) -> Tensor:  # noqa: ARG002
        t = time.double() + 1
        a = self.oracle.path.at(t)[0].float().view(-1, 1, 1, 1)
        return self.oracle.predict(x_t - a * self.shift, t).x_0 + self.shift


def trained(folder: Path, network: nn.Module, images: Any = None, **changes: Any) -> kk.Run:
    settings = {**SETTINGS, **{name.replace("__", "."): value for name, value in changes.items()}}
    data = pictures() if images is None else images
    return kk.train(data, network=network, run=folder, settings=settings, progress=False)


@pytest.mark.usefixtures("full_counts")
def test_an_exact_denoiser_is_well_in_every_respect(tmp_path: Path) -> None:
    found = trained(tmp_path / "run", Exact()).diagnose(count=128, progress=False)
    assert (found.broken.answer, found.broken.health) == ("no", Health.WELL)
    assert (found.colours.answer, found.colours.question) == ("yes", "Are the values right?")
    assert found.copies.answer == "no sign of it"
    assert found.done.answer == "not known"  # two steps show no trend
    levels = found.broken.figures["by_t"]
    assert (levels[0]["first"], levels[-1]["last"], len(levels)) == (1, 50, 10)
    assert all(level["losses"][NETWORK] < 1.02 * level["losses"][level["best"]] for level in levels)
    assert json.loads(json.dumps(found.as_json()))["colours"]["answer"] == "yes"
    assert str(found).count("\n") == 3


def test_a_network_whose_values_are_shifted_is_named_so_with_the_size_of_the_shift(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", Exact(shift=0.5))
    found = run.diagnose(count=128, progress=False)
    assert (found.colours.answer, found.colours.health) == ("no", Health.FAULT)
    scale = run.data.units.scale[0] if isinstance(run.data.units, Real) else math.nan
    figures = found.colours.figures
    shift = figures["samples"]["mean"][0] - figures["data"]["mean"][0]
    assert shift == pytest.approx(0.5 * scale, abs=0.3)  # which pattern is drawn
    assert "The mean is" in found.colours.text
    assert "Cause unknown" in found.colours.text
    assert found.broken.health is Health.FAULT  # the mean image is nearer where little is seen
    assert "worse than knowing only" in found.broken.text


def test_an_average_that_lags_behind_is_named_as_the_cause(tmp_path: Path) -> None:
    """Adam takes steps of the learning rate: after 20 of 0.05 the weights have lost a shift of 1, their average not."""
    changes = {"training__steps": 20, "training__learning_rate": 0.05, "training__ema": 0.99}
    found = trained(tmp_path / "run", Exact(shift=1.0), **changes).diagnose(count=128, progress=False)
    assert found.colours.answer == "no"
    assert "the averaged weights are too young" in found.colours.text


def dark(count: int = 512) -> NDArray[np.uint8]:
    """Images of one brightness each, most of them dark."""
    rng = np.random.default_rng(0)
    x = -0.6 + 0.25 * rng.normal(size=(count, 1, 1, 1)) + 0.05 * rng.normal(size=(count, 8, 8, 1))
    return np.asarray(np.rint(np.clip(127.5 * (x + 1), 0, 255)), dtype=np.uint8)


class Brightness(nn.Module):
    """The exact denoiser of a Gaussian with the mean and the covariance of the dark images."""

    def __init__(self, path: DiffusionPath) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))
        x = (torch.from_numpy(dark()).double() / 127.5 - 1).flatten(1)
        mean = x.mean(0).view(1, 8, 8)
        self.oracle = GaussianOracle(path, mean, torch.cov(x.T))

    def forward(self, x_t: Tensor, time: Tensor, condition: kk.Condition | None = None) -> Tensor:  # noqa: ARG002
        return self.oracle.predict(x_t, time.double() + 1).x_0 + 0 * self.nothing


def test_signal_that_is_left_at_T_is_named_as_the_cause_of_wrong_colours(tmp_path: Path) -> None:
    path = kk.Linear(T=50, beta_1=1e-4, beta_T=0.02)  # alpha_bar_T = 0.6
    changes = {"process__schedule": "linear", "process__beta_1": 1e-4, "process__beta_T": 0.02}
    run = trained(tmp_path / "run", Brightness(path), dark(), **changes)
    found = run.diagnose(count=128, progress=False)
    assert (found.colours.question, found.colours.answer) == ("Are the colours right?", "no")
    assert "Likely cause: the schedule leaves signal at T" in found.colours.text
    assert found.colours.text.count("Likely cause") == 1
    assert "--process.zero-terminal-snr" in found.colours.text


def test_a_learned_schedule_that_leaves_signal_is_advised_what_it_takes() -> None:
    learned = _other_end(ProcessSettings(schedule="learned", log_snr_T=-3.0))
    assert learned == "a lower --process.log-snr-T, which was -3"
    with pytest.raises(SettingsError, match="is not stretched"):
        build_schedule(ProcessSettings(schedule="learned", zero_terminal_snr=True))
    assert "--process.zero-terminal-snr" in _other_end(ProcessSettings(schedule="cosine"))


class Fragile(nn.Module):
    """Its second layer breaks at the seventh call while it trains, for the image in the middle of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))
        self.breaks = Breaks()

    def forward(self, x_t: Tensor, time: Tensor, condition: kk.Condition | None = None) -> Tensor:  # noqa: ARG002
        out: Tensor = self.last(self.breaks(self.second(self.first(x_t))))
        return out


class Breaks(nn.Module):
    """A layer that remembers in its state how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        self.get_buffer("calls").add_(1)
        hole = torch.zeros(len(x), 1, 1, 1)
        hole[len(x) // 2] = math.nan if self.get_buffer("calls") == 7 else 0.0
        return x + hole


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> kk.Run:
    folder = tmp_path_factory.mktemp("broken") / "run"
    with pytest.raises(NumbersError, match="step 7"):
        trained(folder, Fragile(), training__steps=12, training__batch_size=4, checkpoint__every=5)
    return kk.Run.open(folder, network=Fragile())


def broken_split(run: kk.Run) -> NDArray[np.int64]:
    """Its training images."""
    return np.setdiff1d(np.arange(512), run.files.data["held_out"])


def test_a_step_that_was_not_finite_is_replayed_to_its_layer_and_its_image(broken: kk.Run) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in broken.folder.rglob("*"))
    found = broken.diagnose(count=32, data=pictures(), progress=False)
    first = found.broken.figures["first"]
    assert (found.broken.answer, found.broken.health) == ("yes", Health.FAULT)
    assert (first["step"], first["what"]) == (7, "the output of layer breaks (Breaks)")
    batch = Batches(kk.open_data(pictures()), broken_split(broken), 4, seed=0).at(6)
    assert first["images"] == (int(batch.indices[2]),)
    assert (
        "stopped at step 7, whose numbers were not finite; the last checkpoint is of step 5"
        in found.broken.text
    )
    assert f"for 1 of the 4 images of the batch: number {first['images'][0]}" in found.broken.text
    assert before == sorted((path, path.stat().st_mtime_ns) for path in broken.folder.rglob("*"))


def test_a_report_does_not_replay_and_says_who_does(broken: kk.Run) -> None:
    page = broken.report(progress=False).read_text("utf-8")
    assert "The training stopped at step 7" in page
    assert "It cannot be replayed, to see which layer and which images it was" in page
    assert "It cannot be replayed" in broken.diagnose(count=32, progress=False).broken.text
    assert page.index("Is it broken?") < page.index("<main>")


def level(first: int, last: int, network: float, **changes: Any) -> Level:
    losses = {NETWORK: network, WHITE: 1.0, SPECTRUM: 0.5, MEAN: 0.8}
    usual = {
        "best": SPECTRUM,
        "difference": network - 0.5,
        "standard_error": 0.005,
        "degrees": 100,
        "explained": 0.5,
    }
    return Level(first, last, losses, **{**usual, **changes})


def test_where_the_network_is_no_better_is_said_in_ranges_of_t() -> None:
    well = [level(101 * k + 1, 101 * (k + 1), 0.3) for k in range(10)]
    assert by_noise_level(well, "").answer == "no"
    poor = [*well[:2], level(203, 303, 0.5), level(304, 404, 0.6), *well[4:]]
    found = by_noise_level(poor, "")
    assert found.answer == "in part"
    assert (
        "For t = 203 to 303 the network is no better than knowing only mean and power spectrum" in found.text
    )
    assert "For t = 304 to 404 the network is worse than knowing only mean and power spectrum" in found.text
    assert "(loss 0.6, where that gives 0.5)" in found.text
    assert by_noise_level([level(1, 50, 0.6), level(51, 100, 0.6)], "").answer == "yes"
    gaussian = by_noise_level([level(1, 50, 0.5), level(51, 100, 0.5)], "")
    assert gaussian.answer == "not known"  # where the data are Gaussian, that is the best there is
    assert "nobody can know more" in gaussian.text
    hidden = [*well[:-1], level(910, 1010, 0.5, explained=0.01)]  # nobody knows more there
    assert by_noise_level(hidden, "").answer == "no"
    worse = [*well[:-1], level(910, 1010, 0.6, explained=0.01)]
    assert by_noise_level(worse, "").answer == "in part"
    lost = [*well[:-1], level(910, 1010, math.nan, difference=math.nan)]
    assert "not finite for t = 910 to 1,010" in by_noise_level(lost, "").text
    few = [level(1, 10, 0.49, standard_error=0.1, degrees=3)]
    assert by_noise_level(few, "").answer == "too few to tell"
    assert by_noise_level(few, "Has hardly learned yet.").text == "Has hardly learned yet."
    assert "train for longer before" in by_noise_level(poor, "", still_falls=True).text
    assert "on training images it is ahead everywhere" in by_noise_level(poor, "", knows_training=True).text
    assert ranges([*well[:2], well[5], level(1011, 1011, 0.3)]) == "1 to 202, 506 to 606, 1,011"


def test_the_figures_of_colours_are_those_of_images_with_errors_of_images() -> None:
    rng = np.random.default_rng(0)
    bright = rng.normal(0, 10, (400, 1, 1, 2))
    values = np.array([100.0, 150.0]) + bright + rng.normal(0, 3, (400, 8, 8, 2))
    scale = Scale(np.tile(np.linspace(0, 255, 11), (2, 1)))
    found = spread_of(values, scale)
    assert found.mean == pytest.approx(values.mean((0, 1, 2)), abs=1e-9)
    assert found.deviation == pytest.approx(values.std((0, 1, 2)), abs=1e-9)
    assert found.mean_error == pytest.approx(values.mean((1, 2)).std(0, ddof=1) / 20, abs=1e-9)
    assert found.shares.sum(1) == pytest.approx([1, 1])
    own = [spread_of(values[k::8], scale).deviation for k in range(8)]  # 50 images each
    assert found.deviation_error == pytest.approx(np.std(own, 0) / np.sqrt(8), rel=0.6)  # eight draws: 27 %


def test_missing_values_count_nowhere() -> None:
    values = np.random.default_rng(0).normal(5, 2, (50, 4, 4, 1))
    holes = values.copy()
    holes[:, 0] = np.nan
    scale = Scale.of(Real((5.0,), (2.0,)), holes)
    rest = spread_of(values[:, 1:], scale)
    found = spread_of(holes, scale)
    for name in ("mean", "mean_error", "deviation", "deviation_error", "shares", "shares_error"):
        assert getattr(found, name) == pytest.approx(getattr(rest, name)), name


def test_equal_laws_are_called_right_and_a_shift_of_a_few_per_cent_is_not() -> None:
    def judged(shift: float, count: int = 400, seed: int = 1) -> Compared:
        draws = [np.random.default_rng(k).integers(0, 256, (count, 4, 4, 3)) for k in (0, seed)]
        scale = Scale.of(Levels(256), draws[0])
        ours = np.clip(draws[1] * (1 - shift / 255) + shift * np.array([1, 0, 0]), 0, 255)
        return Compared(spread_of(ours, scale), spread_of(draws[0], scale), scale, True, "held-out images")

    assert [are_right(judged(0, seed=seed)).answer for seed in range(1, 6)] == ["yes"] * 5
    assert are_right(judged(0, count=8)).answer == "too few to tell"
    assert are_right(judged(40)).answer == "no"
    assert "In channel 0 the mean is" in are_right(judged(40)).text
    found = judged(40)
    assert found.off[0].weight == max(
        each.weight for each in differences(found.samples, found.data, found.scale) if each.is_off
    )


def test_what_has_hardly_learned_needs_no_other_cause(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", Exact(shift=0.5))
    drawing = Drawing(run, run.load(), run.prepared(), 64)
    samples = drawing.samples()
    causes = causes_of(drawing, samples, compared(samples, run.prepared()), "Has hardly learned yet.")
    assert causes == ("Likely cause: short training, since the network has hardly learned yet.",)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(SettingsError, match="at least 32"):
        kk.Run.diagnose(object(), count=4)  # type: ignore[arg-type]


def test_the_command_prints_four_answers_or_json(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    run = tmp_path / "run"
    assert main(["train", str(data), "--run", str(run), "--steps", "4", *TINY]) == 0
    capsys.readouterr()
    assert main(["diagnose", str(run), "--count", "32"]) == 0
    said = capsys.readouterr().out
    for question in ("Is it broken?", "Is it done?", "Does it copy, or will it?", "Are the colours right?"):
        assert question in said
    assert "Has hardly learned yet: 4 steps" in said
    assert "loss for t from" in said
    assert main(["diagnose", str(run), "--count", "32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["step"] == 4
    assert {found[name]["health"] for name in ("broken", "done", "copies", "colours")} <= {
        each.value for each in Health
    }
    shared = tmp_path / "moved.npz"
    shared.write_bytes(data.read_bytes())
