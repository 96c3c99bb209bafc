"""What `kakusan evaluate` measures, on real small runs."""

import contextlib
import csv
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import kakusan as kk
from kakusan.api import Run
from kakusan.cli import main
from kakusan.cli.evaluate import _rate_table, _rows, _verdict
from kakusan.config.loading import with_values
from kakusan.diffusion.flow import FlowOptions, exact_likelihood
from kakusan.diffusion.forward import posterior_weights
from kakusan.diffusion.likelihood import VariationalBound, variational_bound
from kakusan.diffusion.model import Model
from kakusan.diffusion.oracles import FiniteSetOracle
from kakusan.diffusion.prediction import Prediction
from kakusan.diffusion.variances import Analytic
from kakusan.errors import DataError, RunError, SettingsError
from kakusan.evaluation.bound import BoundReport, Part, _offset, measure_bound, telling_times
from kakusan.evaluation.options import BoundOptions
from kakusan.evaluation.plots import report_png
from kakusan.randomness import Purpose, normals
from kakusan.shapes import Condition
from kakusan.training.prepare import reopen_data
from kakusan.training.validation import spread

T = 40
SMALL = {
    "process.T": T,
    "network.width": 8,
    "network.groups": 4,
    "training.steps": 12,
    "training.batch_size": 16,
    "samples.count": 2,
    "samples.steps": 2,
    "machine.threads": 1,
    "machine.device": "cpu",
}


def trained(folder: Path, source: str = "digits", **values: Any) -> Run:
    settings = with_values(kk.settings_for(source), {**SMALL, **values})
    return kk.train(source, run=folder, settings=settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("report") / "run")


def answer(run: Run, **question: Any) -> BoundReport:
    return run.evaluate(progress=False, **{"images": 6, **question})


def part(report: BoundReport, name: str) -> Part:
    return next(part for part in report.parts if part.name == name)


def test_the_figures_are_those_of_the_library(run: Run) -> None:
    """Evaluated through the run, and by hand from its data, its network and the function of the equation."""
    held_out = part(answer(run), "held-out")
    x_0 = held_out.dataset.x_0(held_out.numbers)
    by_hand = variational_bound(run.load(precision="fp32").model, x_0, numbers=held_out.numbers.tolist())
    assert torch.equal(by_hand.total, held_out.bound.total)
    assert set(held_out.numbers) <= set(run.files.data["held_out"])


def test_the_same_question_has_the_same_answer_and_an_image_keeps_its_figure_in_any_company(run: Run) -> None:
    whole, again, alone = answer(run), answer(run), answer(run, images=1)
    assert json.dumps(whole.as_json()) == json.dumps(again.as_json())
    assert whole.as_json() != answer(run, seed=1).as_json()
    first = part(alone, "held-out")
    known = dict(
        zip(
            part(whole, "held-out").numbers.tolist(),
            part(whole, "held-out").bound.total.tolist(),
            strict=True,
        )
    )
    assert first.bound.total[0].item() == known[int(first.numbers[0])]


def test_each_piece_of_the_work_is_named_and_goes_from_0_to_1(run: Run) -> None:
    seen: dict[str, list[float]] = {}
    options = BoundOptions(images=2, terms=9)
    report = measure_bound(run, options, progress=lambda share, what: seen.setdefault(what, []).append(share))
    assert [*seen] == [
        "the bound of training images",
        "the bound of held-out images",
        "how near to memorizing",
    ]
    for shares in seen.values():
        assert shares == sorted(shares)
        assert 0 <= shares[0] <= shares[-1] <= 1
    assert seen["the bound of training images"][-1] == 1
    assert json.dumps(report.as_json()) == json.dumps(answer(run, images=2, terms=9).as_json())


def test_rate_rises_to_the_bound_and_distortion_falls_to_the_data(run: Run) -> None:
    training = part(answer(run), "training")
    rate = training.rate
    assert len(rate) == T + 1
    assert rate[0] == pytest.approx(training.bound.mean, rel=1e-12)  # x_0 is known: everything is spent
    assert rate[T] == pytest.approx(float(training.bound.L_T.mean()), rel=1e-12)
    assert (
        np.diff(rate) <= 0
    ).all()  # divergences are not negative; digits have probabilities, so L_0 is not either
    assert training.distortion[0] < training.distortion[-1]
    assert training.spent.sum() + rate[T] == pytest.approx(rate[0], rel=1e-12)


def test_some_of_the_terms_say_nearly_the_same(run: Run) -> None:
    whole, some = (part(answer(run, terms=terms, images=40), "training") for terms in (None, 21))
    assert some.bound.t.shape[1] == 21
    error = float(some.bound.standard_error.square().sum().sqrt()) / 40
    assert abs(some.bound.mean - whole.bound.mean) < 4 * error
    assert some.rate[0] == pytest.approx(some.bound.mean, rel=1e-12)


def test_the_memorizer_is_as_far_away_as_by_hand(run: Run) -> None:
    found = part(answer(run), "training")
    t = list(found.near)[10]
    images = torch.from_numpy(_training(run)).permute(0, 3, 1, 2).double() / 8 - 1
    x_0 = found.dataset.x_0(found.numbers)
    noise = normals(0, Purpose.EVALUATION, t, torch.from_numpy(found.numbers), (1, 8, 8))
    denoiser = run.load(precision="fp32").model
    alpha_bar = float(denoiser.path.alpha_bar_at(torch.tensor([float(t)]).double()))
    x_t = alpha_bar**0.5 * x_0.double() + (1 - alpha_bar) ** 0.5 * noise
    distance = (x_t[:, None] - alpha_bar**0.5 * images).square().flatten(2).sum(2)
    known = torch.softmax(-distance / (2 * (1 - alpha_bar)), 1) @ images.flatten(1)
    guess = denoiser.predict(x_t.float(), torch.full((len(x_0),), float(t), dtype=torch.float64)).x_0
    by_hand = (guess.double().flatten(1) - known).square().mean().sqrt()
    assert found.near[t] == pytest.approx(float(by_hand), rel=1e-4)  # x_t in float32
    assert len(found.near) == 20


def test_a_network_that_knows_the_images_by_heart_is_found_out(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memorizer in place of the network: no distance from itself, and few bits for training images alone."""
    plain = Run.load

    def by_heart(self: Run, **options: Any) -> Any:
        loaded = plain(self, **options)
        images = torch.from_numpy(_training(self)).permute(0, 3, 1, 2) / 8 - 1
        memorizer = FiniteSetOracle(loaded.model.path, images.float())
        return replace(loaded, model=Model(memorizer, levels=17))  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "load", by_heart)
    found = answer(run, images=12)
    training, held_out = part(found, "training"), part(found, "held-out")
    assert max([*training.near.values(), *held_out.near.values()]) < 1e-6
    gap = held_out.bound.mean - training.bound.mean
    assert gap > 4 * (held_out.bound.mean_standard_error + training.bound.mean_standard_error)


def _training(run: Run) -> np.ndarray[Any, Any]:
    dataset = kk.open_data("digits")
    training = np.setdiff1d(np.arange(len(dataset)), run.files.data["held_out"])
    return np.asarray(dataset.images[training], dtype=np.float32)


def test_the_analytic_variance_is_stored_in_the_run_and_beats_the_fixed_ones(run: Run) -> None:
    with pytest.raises(RunError, match="has not been estimated"):
        run.load(variance="analytic")
    best = answer(run, variance="analytic", split="training", images=40)
    loaded = run.load(variance="analytic")
    assert isinstance(loaded.model.variance, Analytic)
    errors = loaded.model.variance.errors
    assert errors[0] == 0
    assert (errors[1:] > 0).all()
    assert best.about["variance"] == best.about["sigma_1"] == "analytic"
    # it is the best isotropic variance on its own images; these are others of the same law, hence the slack
    for other in ("fixed-large", "fixed-small"):
        worse = answer(run, variance=other, split="training", images=40)
        assert (
            part(best, "training").bound.L_steps.mean() < part(worse, "training").bound.L_steps.mean() + 0.01
        )
    assert run.sample(2, kk.Ancestral(steps=4)).isfinite().all()


def test_no_other_variance_has_a_smaller_bound_for_the_errors_it_was_made_from() -> None:
    """For one step, E KL as a function of sigma^2 has its minimum at beta~ + w^2 E|x_0 - x_0_hat|^2."""
    schedule = kk.Linear(T=10)
    t = torch.tensor([6.0], dtype=torch.float64)
    errors = torch.linspace(0, 0.5, 11, dtype=torch.float64)
    best = Analytic(errors).of(
        schedule, t, t - 1, "beta~_2", Prediction(torch.zeros(1, 1), torch.zeros(1, 1))
    )
    tilde = kk.q_posterior(schedule, torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), t, t - 1).variance
    weight = posterior_weights(schedule, t, t - 1)[1]

    def divergence(variance: torch.Tensor) -> float:
        distance = weight.square() * errors[6]
        return float(0.5 * (tilde / variance - 1 - (tilde / variance).log() + distance / variance))

    assert divergence(best) < min(divergence(best * 1.01), divergence(best / 1.01))


def test_other_data_are_measured_in_the_units_of_the_run(run: Run, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 17, (5, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=images, levels=np.array(17))
    odd = answer(run, data=tmp_path / "noise.npz")
    assert [p.name for p in odd.parts] == ["noise.npz"]
    assert odd.parts[0].bound.mean > part(answer(run), "held-out").bound.mean  # noise is odd
    np.savez(tmp_path / "large.npz", images=np.zeros((5, 9, 8, 1), dtype=np.uint8), levels=np.array(17))
    with pytest.raises(DataError, match="are 9x8"):
        answer(run, data=tmp_path / "large.npz")
    np.savez(tmp_path / "bytes.npz", images=images)
    with pytest.raises(DataError, match=r"of 256 levels, those of .* of 17"):
        answer(run, data=tmp_path / "bytes.npz")


def test_real_data_have_a_density_of_their_own(tmp_path: Path) -> None:
    small = {name: value for name, value in SMALL.items() if not name.startswith("network.")}
    settings = with_values(kk.settings_for("two-moons"), {**small, "network.width": 16})
    run = kk.train("two-moons", run=tmp_path / "points", settings=settings)
    found = answer(run, images=8)
    assert found.about["levels"] is None
    assert found.about["clip"] is None
    assert found.about["unit_of_distortion"] == "the network's units"
    with pytest.raises(SettingsError, match="no bounds"):
        answer(run, clip=True)


def test_a_run_with_labels_is_asked_with_them(tmp_path: Path, data: Path) -> None:
    run = trained(tmp_path / "labels", str(data), **{"data.labels": True, "data.held_out": 0.0})
    assert [p.name for p in answer(run).parts] == ["training"]
    with pytest.raises(SettingsError, match="held no images out"):
        answer(run, split="held-out")


def test_a_learned_variance_is_used_and_others_can_take_its_place(tmp_path: Path) -> None:
    run = trained(tmp_path / "learned", **{"process.variance": "learned"})
    assert run.settings.training.loss == "hybrid"
    assert answer(run).about["variance"] == "learned"
    assert answer(run, variance="fixed-small").about["variance"] == "fixed-small"
    assert run.sample(2, kk.Ancestral(steps=4)).isfinite().all()


def test_the_command_prints_a_table_and_writes_figures_a_picture_and_each_image(
    run: Run, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.csv"
    done = kakusan("evaluate", str(run.folder), "--images", "5", "--per-image", str(scores))
    for words in (
        "bits/dim",
        "L_T",
        "L_0",
        "held-out (5 images)",
        "rate and distortion",
        "sigma_1^2 = beta~_2",
        "clipped",
    ):
        assert words in done.stdout
    base = run.folder / "evaluation" / "step-00000012-images-5"
    figures = json.loads(base.with_suffix(".json").read_text())
    assert figures["parts"]["training"]["images"] == 5
    assert len(figures["parts"]["training"]["bits_by_t"]) == T
    assert base.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(scores.read_text("utf-8").splitlines()))
    assert len(rows) == 10
    totals = [float(row["bits_per_dim"]) for row in rows]
    assert totals == sorted(totals, reverse=True)
    by_split = [float(row["bits_per_dim"]) for row in rows if row["split"] == "held-out"]
    assert np.mean(by_split) == pytest.approx(figures["parts"]["held-out"]["bits_per_dim"], rel=1e-6)


def test_the_command_answers_programs_in_json(run: Run, tmp_path: Path) -> None:
    flags = ("--images", "3", "--terms", "9", "--no-memorizer", "--json", "--out", str(tmp_path / "x.json"))
    found = json.loads(kakusan("evaluate", str(run.folder), *flags).stdout)
    assert found["terms"] == 9
    assert found["out"] == [str(tmp_path / "x.json"), str(tmp_path / "x.png")]
    assert found["parts"]["held-out"]["distance_from_memorizer"] == {}


def test_bad_questions_get_one_clear_error(run: Run) -> None:
    cases = {
        ("--images", "0"): "at least 1 image",
        ("--terms", "2"): "take 3 or more",
        ("--out", "."): "is a folder",
    }
    for flags, words in cases.items():
        done = kakusan("evaluate", str(run.folder), *flags, code=2)
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert "is not a run" in kakusan("evaluate", "nowhere", code=4).stderr


@dataclass(frozen=True)
class Done:
    """What a command wrote."""

    stdout: str
    stderr: str


def kakusan(*arguments: str, code: int = 0) -> Done:
    """A command in this process, which saves a start of Python; warnings are errors here too."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        returned = main(list(arguments))
    assert returned == code, err.getvalue()
    return Done(out.getvalue(), err.getvalue())


def made(
    t: list[list[int]], weight: list[list[float]], bits: list[list[float]], errors: list[list[float]]
) -> Part:
    """A part whose terms are known, of a process with T = 3; L_T is 0.5 and 0.7."""
    table = [torch.tensor(column, dtype=torch.float64) for column in (weight, bits, errors)]
    bound = VariationalBound(
        t=torch.tensor(t),
        weight=table[0],
        sampling_variance=torch.full_like(table[0], 0.02),
        bits=table[1],
        squared_error=table[2],
        L_T=torch.tensor([0.5, 0.7] * len(t), dtype=torch.float64)[: len(t)],
        T=3,
        variance="fixed-large",
        sigma_1="beta~_2",
        clip=1.0,
        levels=17,
    )
    return Part("held-out", kk.open_data("digits"), np.array([4, 9]), bound, {})


WHOLE = made(
    [[1, 2, 3]] * 2, [[1, 1, 1]] * 2, [[3, 2, 1], [5, 4, 3]], [[0.01, 0.04, 0.16], [0.03, 0.14, 0.56]]
)
SOME = made([[1, 2], [1, 3]], [[1, 2]] * 2, [[3, 2], [5, 3]], [[0.01, 0.04], [0.03, 0.16]])


def test_rate_and_distortion_of_known_terms() -> None:
    assert WHOLE.rate.tolist() == pytest.approx([0.6 + 4 + 3 + 2, 0.6 + 3 + 2, 0.6 + 2, 0.6])
    assert WHOLE.distortion.tolist() == pytest.approx([0.02**0.5, 0.3, 0.6])
    assert WHOLE.bits_by_t.tolist() == [4, 3, 2]
    assert [WHOLE.distortion_at(t) for t in (1, 2, 3)] == pytest.approx(WHOLE.distortion.tolist())
    assert SOME.rate.tolist() == pytest.approx([0.6 + 4 + 2 + 3, 0.6 + 2 + 3, 0.6 + 3, 0.6])  # weight 2 each
    assert SOME.bits_by_t.tolist() == [4, 2, 3]
    assert SOME.bound.mean == pytest.approx(9.6)


def test_the_figures_are_in_levels_and_their_errors_those_of_a_mean() -> None:
    figures = BoundReport((SOME,), {}, kk.Levels(17)).as_json()["parts"]["held-out"]
    assert figures["distortion"] == pytest.approx([8 * 0.02**0.5, 8 * 0.2, 8 * 0.4])
    assert figures["terms_standard_error"] == pytest.approx(
        (4 * 0.02) ** 0.5 / 2
    )  # of the mean of two images
    assert (figures["L_T"], figures["L_steps"], figures["L_0"]) == pytest.approx((0.6, 5, 4))
    assert (
        _offset(kk.Real((0.0, 0.0), (2.0, 8.0))) == 2
    )  # a value spread twice as wide has a density half as high


def test_the_tables_and_the_verdict_say_what_the_figures_say() -> None:
    report = BoundReport(
        (replace(WHOLE, name="training"), WHOLE), {"T": 3, "unit_of_distortion": "levels"}, kk.Levels(17)
    )
    columns = [list(column.cells) for column in _rate_table(report).columns]
    assert columns[0] == ["3", "2", "1", "0"]
    assert columns[1] == ["0.6000", "2.6000", "5.6000", "9.6000"]
    assert columns[2] == ["4.800", "2.400", "1.131", "0"]
    assert [column.footer for column in _rate_table(report).columns][1:3] == [
        "training\nrate",
        "training\nRMSE",
    ]
    rows = list(_rows(SOME))
    assert rows[0][0] == 4
    assert rows[0][3:] == pytest.approx(
        (0.5 + 4 + 3, 0.2, 4.30265 * 0.2, 0.5, 4, 3), rel=1e-5
    )  # total, standard error, half of 95 % with two degrees of freedom, L_T, L_steps, L_0


def judged(shift: float, images: int, *, hardly_learned: str = "", doubt: str = "") -> str:
    """The sentence on held-out images that need `shift` bits/dim more; images differ by 2."""
    terms = [[4.0 + i % 2, 3, 2] for i in range(images)]
    training = replace(
        made([[1, 2, 3]] * images, [[1, 1, 1]] * images, terms, [[0.1] * 3] * images),
        numbers=np.arange(images),
    )
    held_out = replace(training, bound=replace(training.bound, bits=training.bound.bits + shift / 3))
    return _verdict(training, held_out, {"hardly_learned": hardly_learned, "held_out_doubt": doubt})


def test_the_verdict_on_bits_is_given_only_where_there_are_enough_images() -> None:
    assert judged(15, 4000).startswith("held-out images need 15.0000 bits/dim more")
    assert judged(15, 4000).endswith(": a sign of overfitting")
    assert judged(0.07, 4000).endswith(": a slight sign of overfitting")
    assert judged(15, 4).endswith(": a sign of overfitting")
    assert "0.1000 bits/dim fewer" in judged(-0.1, 4000)
    assert judged(-0.1, 4000).endswith(": no sign of overfitting")
    assert judged(-0.1, 5).endswith(": too few images to tell; ask for more --images")
    assert "standard error" not in judged(1, 1)
    assert "too few images to tell" in judged(1, 1)


def test_the_verdict_on_bits_says_nothing_without_evidence() -> None:
    assert "no sign" not in judged(0, 4000, hardly_learned="Has hardly learned yet")
    doubtful = judged(0, 4000, doubt="the parent was imported")
    assert doubtful.endswith("may have been trained on the held-out images (the parent was imported)")
    assert judged(15, 4000, doubt="the parent was imported").endswith(": a sign of overfitting")


def test_the_memorizer_is_compared_where_x_t_neither_shows_nor_hides_x_0() -> None:
    t = np.arange(1, 101)
    errors = (t / 100) ** 2  # the root is t / 100
    part = made([t.tolist()] * 2, [[1] * 100] * 2, [[1] * 100] * 2, [errors.tolist()] * 2)
    part = replace(part, bound=replace(part.bound, T=100))
    assert telling_times([part]) == (20, 60)


def test_what_is_asked_is_what_is_measured(run: Run) -> None:
    plain = answer(run)
    split = [part.numbers for part in plain.parts]
    held_out = np.array(sorted(run.files.data["held_out"]))
    assert (split[1][0], split[1][-1]) == (held_out[0], held_out[-1])  # spread over all of the split
    for change in ({"sigma_1": "beta_1"}, {"clip": False}, {"weights": "model"}):
        other = answer(run, **change)
        stated = {"clip": None} if "clip" in change else change
        assert {name: other.about[name] for name in stated} == stated
        assert other.parts[1].bound.mean != plain.parts[1].bound.mean
    by_hand = run.load(weights="model", precision="fp32").model
    numbers = plain.parts[1].numbers
    expected = variational_bound(by_hand, plain.parts[1].dataset.x_0(numbers), numbers=numbers.tolist())
    assert torch.equal(answer(run, weights="model").parts[1].bound.total, expected.total)
    found = json.loads(kakusan("evaluate", str(run.folder), "--images", "2", "--clip", "no", "--json").stdout)
    assert found["clip"] is None


def test_the_analytic_variance_comes_from_training_images_for_these_weights_and_this_clipping(
    tmp_path: Path,
) -> None:
    run = trained(tmp_path / "run")
    answer(run, variance="analytic", images=1)
    prepared = reopen_data(run.settings, run.files.data)
    numbers = spread(prepared.split.training, 128)
    denoiser = run.load(precision="fp32").model
    bound = variational_bound(denoiser, prepared.dataset.x_0(numbers), numbers=numbers.tolist())
    errors = run.files.analytic({"step": 12, "weights": "ema", "clip": 1.0, "precision": "fp32"})
    assert errors is not None
    assert errors[1:] == pytest.approx(bound.squared_error.mean(0).tolist(), rel=1e-12)
    for other in ({"clip": False}, {"weights": "model"}):
        with pytest.raises(RunError, match="has not been estimated"):
            run.load(variance="analytic", precision="fp32", **other)


def test_analytic_errors_of_another_precision_are_not_taken_for_ours_and_old_ones_count_as_fp32(
    tmp_path: Path,
) -> None:
    run = trained(tmp_path / "run")
    errors = [0.0] + [0.5] * run.settings.process.T
    key = run.load(precision="fp32").analytic_key
    run.files.save_analytic({**key, "precision": "bf16"}, errors, {})
    assert run.files.analytic(key) is None
    (run.folder / "analytic.json").unlink()
    old = {name: value for name, value in key.items() if name != "precision"}
    run.files.save_analytic(old, errors, {})
    assert run.files.analytic(key) == errors
    run.load(variance="analytic", precision="fp32")
    run.load(
        variance="analytic", precision="bf16"
    )  # whose own are not there: any errors give a valid variance


def test_images_with_labels_are_measured_with_their_own(tmp_path: Path, data: Path) -> None:
    run = trained(
        tmp_path / "labels", str(data), **{"data.labels": True, "data.held_out": 0.0, "training.steps": 30}
    )
    found = answer(run).parts[0]
    assert found.dataset.labels is not None
    labels = torch.from_numpy(found.dataset.labels[found.numbers])
    denoiser, x_0 = run.load(precision="fp32").model, found.dataset.x_0(found.numbers)
    own, swapped = (
        variational_bound(
            denoiser, x_0, numbers=found.numbers.tolist(), condition=Condition(label=condition)
        ).total
        for condition in (labels, 1 - labels)
    )
    assert torch.equal(found.bound.total, own)
    assert not torch.equal(own, swapped)


def test_one_image_a_split_says_nothing_of_memorizing(run: Run) -> None:
    done = kakusan("evaluate", str(run.folder), "--images", "1", "--terms", "9")
    assert "(1 image)" in done.stdout
    assert "says nothing of overfitting" in done.stdout
    found = kakusan("evaluate", str(run.folder), "--images", "1", "--terms", "9", "--json").stdout
    assert "NaN" not in found
    assert json.loads(found)["terms"] == 9


def test_other_images_are_measured_where_the_training_images_have_gone(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "first.npz", images=images)
    np.savez(tmp_path / "second.npz", images=images[:3])
    run = trained(tmp_path / "run", str(tmp_path / "first.npz"))
    (tmp_path / "first.npz").unlink()
    found = answer(run, data=tmp_path / "second.npz")
    assert len(found.parts[0].numbers) == 3
    assert found.parts[0].near == {}
    with pytest.raises(DataError):
        answer(run)


def test_classes_of_other_images_go_by_their_names(tmp_path: Path) -> None:
    def folder(name: str, classes: str) -> Path:
        for place, kind in enumerate("abc"):
            for k in range(6 if kind in classes else 0):
                path = tmp_path / name / kind / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture = np.random.default_rng(10 * place + k).integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(picture).save(path)
        return tmp_path / name

    labelled = {"data.labels": True, "data.held_out": 0.0, "training.steps": 30}
    run = trained(tmp_path / "run", str(folder("all", "abc")), **labelled)
    known = dict(zip("abc", range(3), strict=True))
    found = answer(run, data=folder("some", "bc")).parts[0]
    assert found.dataset.labels is not None
    assert set(found.dataset.labels.tolist()) == {known["b"], known["c"]}
    (tmp_path / "some" / "c").rename(tmp_path / "some" / "d")
    with pytest.raises(DataError, match="class 'd'"):
        answer(run, data=tmp_path / "some")
    for path in (tmp_path / "some").glob("*/*.png"):
        path.rename(tmp_path / "some" / f"{path.parent.name}{path.name}")
    for empty in (tmp_path / "some" / "b", tmp_path / "some" / "d"):
        empty.rmdir()
    assert answer(run, data=tmp_path / "some").parts[0].dataset.labels is None  # the null label


def test_a_name_that_looks_like_a_formula_is_a_name(run: Run, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 17, (3, 8, 8, 1), dtype=np.uint8)
    path = tmp_path / "cost$_{x$y.npz"
    np.savez(path, images=images, levels=np.array(17))
    assert report_png(answer(run, data=path)).startswith(b"\x89PNG")


@pytest.mark.parametrize("memorizer", [True, False])
def test_the_fourth_chart_shows_the_error_by_t_where_no_memorizer_is_compared(
    run: Run, memorizer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    report = answer(run, memorizer=memorizer, terms=9)
    report_png(report)
    chart = drawn[0].axes[3]
    assert ("by heart" in chart.get_title()) is memorizer
    assert bool(chart.patches) is memorizer  # the band of times that tell something
    lines = {str(line.get_label()): line.get_ydata() for line in chart.get_lines()}
    nearness = {label for label in lines if "memorizer" in label}
    assert nearness == (
        {"held-out: from the memorizer's guess"} if memorizer else set()
    )  # both know training images
    own = [f"{name}: from $x_0$" if memorizer else name for name in ("training", "held-out")]
    assert set(own) <= set(lines)
    for label, each in zip(own, report.parts, strict=True):
        error = each.distortion * report.scale
        assert np.array_equal(np.asarray(lines[label]), error[np.isfinite(error)])


def test_figures_nearer_to_the_likelihood_stand_beside_the_bound(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = tmp_path / "closer", tmp_path / "scores.csv"
    flags = ["--images", "3", "--exact", "--samples", "2", "--tolerance", "0.01", "--no-memorizer"]
    assert main(["evaluate", str(run.folder), *flags, "--out", str(out), "--per-image", str(table)]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "importance-weighted, K = 2" in words
    assert "exact, probability flow" in words
    assert "Dormand-Prince 5(4) to 0.01, 2 probes for the trace; to the data: the decoder of L_0" in words
    written = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert written["samples"] == 2
    assert (written["exact"]["t_min"], written["exact"]["trace"]) == (1, 2)
    for name in ("training", "held-out"):
        figures = written["parts"][name]
        assert figures["importance_weighted"]["bits_per_dim"] <= figures["importance_weighted"]["single_walk"]
        assert 1 <= figures["importance_weighted"]["effective_walks"] <= 2
        assert figures["exact"]["standard_error"] > figures["exact"]["probes_standard_error"] > 0
        assert figures["exact"]["network_calls"] > 7
    head, *rows = csv.reader(table.read_text("utf-8").splitlines())
    assert head[-2:] == ["weighted", "exact"]
    assert all(len(row) == len(head) for row in rows)


def test_the_exact_likelihood_of_a_run_is_that_of_the_library_and_shares_the_noise_of_L_0(run: Run) -> None:
    held_out = part(answer(run, images=3, exact=True, probes=1), "held-out")
    x_0 = held_out.dataset.x_0(held_out.numbers)
    model, numbers = run.load(precision="fp32").model, held_out.numbers.tolist()
    by_hand = exact_likelihood(model, x_0, FlowOptions(probes=1), numbers=numbers)
    assert held_out.exact is not None
    assert held_out.exact.total.tolist() == pytest.approx(by_hand.total.tolist(), rel=1e-6)


def test_details_of_a_likelihood_that_was_not_asked_for_are_refused() -> None:
    with pytest.raises(SettingsError, match="probes belongs to the exact likelihood"):
        BoundOptions(probes=2)
    with pytest.raises(SettingsError, match="1 sample or more"):
        BoundOptions(samples=0)
