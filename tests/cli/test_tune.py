"""kakusan tune, and samples at the times that it finds; the sampler that is taken where none is named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

import kakusan as kk
from kakusan.cli import main
from kakusan.errors import RunError, SettingsError
from kakusan.evaluation.best import find_best_steps
from kakusan.evaluation.options import TuneOptions
from kakusan.interop import exporting
from kakusan.run.choosing import costs_of_steps
from kakusan.storage.times import TIMES, TimesFile


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "digits", "--run", str(folder), "--steps", "4", *TINY]) == 0
    return folder


def drawn(run: Path, out: Path, *flags: str) -> tuple[Any, dict[str, Any]]:
    assert main(["sample", str(run), "--count", "4", "--out", str(out), *flags]) == 0
    about: dict[str, Any] = json.loads(Path(f"{out}.json").read_text("utf-8"))
    return out.read_bytes(), about


def test_the_best_sampler_is_taken_and_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, about = drawn(run, tmp_path / "a.png")
    assert (about["sampler"], about["steps"], about["spacing"]) == ("sa-solver", 10, "entropic")
    assert "sampler: sa-solver, 10 steps, at times by this run's errors" in " ".join(
        capsys.readouterr().err.split()
    )
    _, about = drawn(run, tmp_path / "c.png", "--spacing", "trailing")
    assert (about["sampler"], about["steps"], about["spacing"]) == ("sa-solver", 10, "trailing")
    _, about = drawn(run, tmp_path / "b.png", "--sampler", "auto", "--steps", "7")
    assert (about["sampler"], about["steps"], about["eta"]) == ("sa-solver", 7, 0.0)


def test_noise_is_taken_from_eight_calls_on(run: Path) -> None:
    opened = kk.Run.open(run)
    found = [
        opened.sampler(steps=calls, spacing=spacing) for calls in (7, 8) for spacing in (None, "trailing")
    ]
    assert [getattr(sampler, "eta", None) for sampler in found] == [0.0, 0.0, 0.5, 0.5]


def test_tuned_times_are_kept_and_taken(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["tune", str(run), "--calls", "4", "5", "--count", "16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [times["calls"] for times in found] == [4, 5]
    assert all(times["error"] <= times["before"] for times in found)
    assert found == json.loads((run / TIMES).read_text("utf-8"))["tuned"]
    _, about = drawn(run, tmp_path / "a.png", "--steps", "tuned:5")
    assert (about["spacing"], about["at"], about["steps"]) == ("tuned", found[1]["at"], 5)
    by_itself, about = drawn(run, tmp_path / "b.png", "--steps", "5")  # --sampler auto takes them
    assert about["at"] == found[1]["at"]
    again, _ = drawn(
        run, tmp_path / "c.png", "--sampler", "sa-solver", "--eta", "0", "--times", *map(str, found[1]["at"])
    )
    assert by_itself == again
    _, about = drawn(run, tmp_path / "d.png", "--sampler", "unipc", "--steps", "5")
    assert (about["at"], about["spacing"]) == (None, "trailing")  # a sampler by name is as it says


def test_the_twin_in_python_does_the_same(run: Path) -> None:
    (found,) = kk.Run.open(run).tune(6, count=16, progress=False)
    assert kk.Run.open(run).sampler(steps=6).at == found.at
    assert kk.Run.open(run).sampler(steps="tuned:6").at == found.at
    assert kk.Run.open(run).sampler("unipc", steps=6).at is None


def test_times_of_older_weights_are_not_taken_unasked(run: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    shutil.copytree(run, later)
    kk.Run.open(later).tune(5, count=16, progress=False)
    kk.Run.open(later).resume(steps=6, progress=False)
    opened = kk.Run.open(later)
    assert opened.sampler(steps=5) == kk.samplers.SASolver(
        steps=5, spacing="trailing", eta=0.0
    )  # errors, too, are of step 4
    assert opened.sampler(steps="tuned:5").spacing == "tuned"
    assert opened.warnings[-1].endswith("tuned at step 4, and the weights are of step 6")
    assert opened.sampler("ddim", steps=4, spacing="entropic").spacing == "entropic"
    assert "entropic times were measured at step 4, and the weights are of step 6" in opened.warnings[-1]
    opened.report(progress=False)
    assert kk.Run.open(later).sampler(steps=5).spacing == "entropic"


def test_a_sampler_that_is_a_value_takes_no_options(run: Path) -> None:
    with pytest.raises(SettingsError, match="has its own steps"):
        kk.Run.open(run).sampler(kk.DDIM(steps=5), steps=3)


def test_a_tuning_takes_the_place_of_the_last_of_its_kind(run: Path) -> None:
    for seed in ("1", "2"):
        assert main(["tune", str(run), "--calls", "3", "--count", "16", "--seed", seed]) == 0
    assert main(["tune", str(run), "--calls", "3", "--count", "16", "--sampler", "ddim"]) == 0
    tuned = json.loads((run / TIMES).read_text("utf-8"))["tuned"]
    assert [times["sampler"] for times in tuned if times["calls"] == 3] == ["sa-solver", "ddim"]
    opened = kk.Run.open(run)
    assert type(opened.sampler("ddim", steps="tuned:3")).__name__ == "DDIM"
    assert type(opened.sampler("sa-solver", steps="tuned:3")).__name__ == "SASolver"
    with pytest.raises(RunError, match="tuned for 3 calls of unipc"):
        opened.sampler("unipc", steps="tuned:3")


def test_entropic_times_follow_errors_that_were_measured(run: Path, tmp_path: Path) -> None:
    (run / TIMES).unlink(missing_ok=True)
    with pytest.raises(RunError, match="have not been measured"):
        kk.Run.open(run).sampler("ddim", steps=4, spacing="entropic")
    assert main(["tune", str(run), "--entropic", "--count", "16"]) == 0
    _, about = drawn(run, tmp_path / "a.png", "--sampler", "ddim", "--steps", "4", "--spacing", "entropic")
    assert about["spacing"] == "entropic"
    assert about["at"][0] == 20
    assert about["steps"] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "--steps", "tuned:19"], "no times that were tuned for 19 calls"),
        (["sample", "--steps", "many"], "is no number of steps"),
        (["sample", "--steps", "0"], "is no number of steps"),
        (["sample", "--steps", "tuned:"], "is no number of steps"),
        (["sample", "--steps", "21"], "more than the T = 20"),
        (["sample", "--steps", "tuned:4", "--spacing", "karras"], "both say which times"),
        (["sample", "--eta", "0.5"], "the auto sampler has no --eta"),
        (["tune", "--sampler", "ancestral", "--calls", "4"], "cannot be tuned"),
        (["tune", "--sampler", "dpmpp-sde-2m"], "cannot be tuned"),
        (["tune", "--sampler", "nobody"], "knows no 'nobody'"),
        (["tune", "--calls", "21"], "more than the T = 20"),
        (["tune", "--calls", "0"], "at least 1 call"),
    ],
)
def test_what_cannot_be_is_said(
    run: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    command, *flags = arguments
    assert main([command, str(run), *flags]) in (2, 4)
    assert words in capsys.readouterr().err


def test_a_broken_file_of_times_is_an_error_with_advice(run: Path) -> None:
    opened = kk.Run.open(run)
    for content in ("{", "[1]", '{"tuned": [3]}', '{"tuned": [{"at": 3}]}'):
        (run / TIMES).write_text(content)
        with pytest.raises(RunError, match="remove it"):
            opened.sampler(steps=4)
    (run / TIMES).unlink()


def test_options_belong_to_a_sampler_that_is_named(run: Path) -> None:
    opened = kk.Run.open(run)
    with pytest.raises(SettingsError, match="belong to a sampler that is named"):
        opened.sampler(eta=0.5)
    assert opened.sampler("ddim", eta=0.5, steps=4) == kk.DDIM(steps=4, eta=0.5, spacing="trailing")


@pytest.fixture(scope="module")
def tuned(run: Path) -> tuple[float, ...]:
    assert main(["tune", str(run), "--entropic", "--count", "16"]) == 0
    return kk.Run.open(run).tune(6, count=16, progress=False)[0].at


def test_all_commands_know_tuned_and_entropic_times(
    run: Path, tuned: tuple[float, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn(run, tmp_path / "seed.npz")
    edit = ["edit", str(run), "--from", str(tmp_path / "seed.npz"), "--sampler", "auto"]
    for flags, spacing in (("--steps tuned:6", "tuned"), ("--spacing entropic --steps 6", "entropic")):
        out = tmp_path / f"{spacing}.npz"
        assert main([*edit, *flags.split(), "--out", str(out)]) == 0
        about = json.loads(Path(f"{out}.json").read_text("utf-8"))
        assert (about["spacing"], about["steps"]) == (spacing, 6)
        capsys.readouterr()
        distance = ["evaluate", str(run), "--distance", "--count", "32", "--seeds", "1", "--json"]
        assert main([*distance, *flags.split()]) == 0
        walk = json.loads(capsys.readouterr().out)["about"]["walk"]
        assert (walk["sampler"], walk["spacing"]) == ("sa-solver", spacing)
        assert (walk["at"] == list(tuned)) == (spacing == "tuned")
        assert kk.Run.open(run).editor(kk.Run.open(run).sampler(steps="tuned:6")).sampler.at == tuned


def test_an_export_has_the_times_or_says_that_it_cannot(
    run: Path,
    tuned: tuple[float, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The table beside the network; to trace that takes long, and is tested elsewhere."""
    monkeypatch.setattr(exporting, "onnx_model", lambda *_, **__: b"")
    monkeypatch.setattr(exporting, "largest_difference", lambda *_, **__: 0.0)
    flags = ["--sampler", "auto", "--steps", "tuned:6"]
    assert main(["export", str(run), "--to", "onnx", *flags, str(tmp_path / "onnx")]) == 0
    table = json.loads((tmp_path / "onnx" / "sampler.json").read_text("utf-8"))
    assert [row["time"] + 1 for row in table["steps"]] == pytest.approx(tuned)
    assert table["sampler"]["spacing"] == "tuned"
    times = ["--sampler", "ddim", "--times", "20", "7.5", "2"]
    assert main(["export", str(run), "--to", "onnx", *times, str(tmp_path / "times")]) == 0
    table = json.loads((tmp_path / "times" / "sampler.json").read_text("utf-8"))
    assert [row["time"] + 1 for row in table["steps"]] == [20, 7.5, 2]
    kk.Run.open(run).tune(6, sampler="unipc", count=16, progress=False)
    for given, words in (
        (flags, "no scheduler that pipelines can use and that walks as sa-solver does"),
        (["--sampler", "unipc", "--steps", "tuned:6"], "spaces times in ways of its own"),
        (times, "no word for given times"),
        (["--sampler", "ddim", "--spacing", "karras"], "no word for karras times"),
    ):
        capsys.readouterr()
        assert main(["export", str(run), *given, str(tmp_path / "theirs")]) == 4
        said = capsys.readouterr().err
        assert words in said
        assert "any sampler: --to onnx" in said or "any times: --to onnx" in said
    leading = ["--sampler", "ddim", "--spacing", "leading", str(tmp_path / "leading")]
    assert main(["export", str(run), *leading]) == 0
    scheduler = json.loads((tmp_path / "leading/scheduler/scheduler_config.json").read_text("utf-8"))
    assert scheduler["timestep_spacing"] == "leading"


def test_times_that_are_given_have_no_other_name(run: Path, tuned: tuple[float, ...], tmp_path: Path) -> None:
    """Though the automatic sampler would have taken tuned ones."""
    _, about = drawn(run, tmp_path / "a.png", "--times", "20", "9", "3")
    assert (about["at"], about["spacing"]) == ([20, 9, 3], None)
    with pytest.raises(SettingsError, match="leave no steps and no spacing"):
        kk.Run.open(run).sampler(at=tuned, steps=3)


def test_the_best_steps_are_measured_once_and_taken_by_the_ancestral_sampler(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / TIMES).unlink(missing_ok=True)
    with pytest.raises(RunError, match="have not been measured"):
        kk.Run.open(run).sampler(steps="best:5")
    capsys.readouterr()
    assert main(["tune", str(run), "--best", "3", "5", "--count", "16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(best["steps"], len(best["at"])) for best in found] == [(3, 3), (5, 5)]
    assert all(best["bits"] <= best["trailing"] for best in found)
    stored = json.loads((run / TIMES).read_text("utf-8"))["steps"][0]
    assert len(stored["errors"]) == len(stored["decoders"]) == 20  # levels: the decoder is measured
    _, about = drawn(run, tmp_path / "a.png", "--steps", "best:5")
    assert (about["sampler"], about["spacing"], about["at"]) == ("ancestral", "best", found[1]["at"])
    opened = kk.Run.open(run)
    assert opened.sampler("ancestral", steps="best:20").at == tuple(range(20, 0, -1))
    with pytest.raises(SettingsError, match="of the ancestral sampler, not of ddim"):
        opened.sampler("ddim", steps="best:5")
    with pytest.raises(SettingsError, match="both say which times"):
        opened.sampler(steps="best:5", spacing="trailing")
    with pytest.raises(SettingsError, match="do not fit"):
        opened.sampler(steps="best:21")
    assert main(["tune", str(run), "--best", "21"]) == 2


def test_the_cost_of_all_steps_is_the_bound_of_the_run(run: Path) -> None:
    """Of the same images, with other noise: within a few standard errors of the bound's steps and decoder."""
    opened = kk.Run.open(run)
    (best,) = find_best_steps(opened, TuneOptions(best=(20,), count=64))
    (part,) = opened.evaluate(images=64, split="held-out", memorizer=False, progress=False).parts
    bits = part.bound.total - part.bound.L_T
    assert best.bits == pytest.approx(best.trailing, rel=1e-12)  # the same steps, added in another order
    assert best.bits == pytest.approx(float(bits.mean()), abs=4 * float(bits.std()) / 8)
    stored = TimesFile(opened.folder).step_errors()
    assert stored is not None
    assert costs_of_steps(opened, stored)[0, 1] >= 0


def test_best_steps_of_older_weights_are_told_of(run: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    shutil.copytree(run, later)
    find_best_steps(kk.Run.open(later), TuneOptions(best=(4,), count=16))
    kk.Run.open(later).resume(steps=6, progress=False)
    opened = kk.Run.open(later)
    opened.sampler(steps="best:4")
    assert "are those of step 4, and the weights are of step 6" in opened.warnings[-1]


def test_two_tunings_at_once_are_refused() -> None:
    with pytest.raises(SettingsError, match="two tunings"):
        TuneOptions(best=(4,), entropic=True)
    with pytest.raises(SettingsError, match="at least 1 step"):
        TuneOptions(best=(0,))
