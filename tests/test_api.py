"""Whole runs from Python: on data in memory, in a few settings, with progress, and mistakes in clear words."""

import io
import json
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import kakusan as kk
from kakusan import api
from kakusan.cli import main
from kakusan.config.settings import DataSettings
from kakusan.errors import DataError, KakusanError, RunError, SettingsError
from kakusan.run import shown as shown_training
from kakusan.samplers import sampler_named
from kakusan.storage.run_folder import RunFolder
from kakusan.training.launch import steps_after
from kakusan.training.trainer import Stepped

TINY: dict[str, Any] = {
    "process.T": 20,
    "network.width": 8,
    "network.multipliers": (1, 1),
    "network.blocks": 1,
    "network.attention": (),
    "training.batch_size": 4,
    "training.warmup": 0,
    "training.decay": "constant",  # so that a run may grow longer, bit for bit
    "training.learning_rate": 1e-3,
    "training.ema": 0.9,
    "machine.threads": 1,
    "machine.device": "cpu",
    "samples.count": 2,
    "samples.steps": 2,
    "log.every": 1,
}


def pictures(count: int = 12) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def weights(run: kk.Run) -> dict[str, torch.Tensor]:
    return run.load(weights="model").network.state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> kk.Run:
    return kk.train(pictures(), steps=3, settings=TINY, run=tmp_path_factory.mktemp("runs") / "array")


def test_an_array_trains_as_the_file_that_holds_it_does(run: kk.Run, tmp_path: Path) -> None:
    np.save(tmp_path / "pictures.npy", pictures())
    from_file = kk.train(tmp_path / "pictures.npy", steps=3, settings=TINY, run=tmp_path / "file")
    assert same(weights(run), weights(from_file))
    assert run.files.data["fingerprint"] == from_file.files.data["fingerprint"]
    assert run.settings.data.source == run.files.data["source"] == ""


def test_an_array_a_tensor_and_a_data_set_are_the_same_data() -> None:
    array = np.random.default_rng(1).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    tensor = torch.from_numpy(array).permute(0, 3, 1, 2)
    opened = kk.open_data(array)
    assert kk.open_data(tensor).fingerprint == opened.fingerprint == kk.open_data(opened).fingerprint
    assert kk.open_data(array[..., 0]).shape == (1, 8, 8)
    assert kk.open_data(torch.zeros(5, 3, 8, 9).uniform_(generator=torch.Generator())).shape == (3, 8, 9)
    assert kk.open_data(torch.zeros(5, 2).normal_(generator=torch.Generator())).is_points


@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy, kk.open_data])
def test_every_form_of_data_in_memory_trains(form: Any, tmp_path: Path) -> None:
    data = form(pictures()[..., 0])
    trained = kk.train(data, steps=1, settings=TINY, run=tmp_path / "run")
    assert trained.sample(2, kk.DDIM(steps=2)).shape == (2, 1, 8, 8)


def test_labels_of_an_array_are_learned(tmp_path: Path) -> None:
    labels = ["odd", "even"] * 6
    trained = kk.train(pictures(), labels=labels, steps=2, settings=TINY, run=tmp_path / "run")
    assert trained.data.class_names == ("even", "odd")
    assert trained.settings.data.labels
    by_name, by_number = (trained.sample(2, kk.DDIM(steps=2), label=label) for label in ("odd", 1))
    assert by_name.equal(by_number)


def test_a_run_on_data_in_memory_goes_on_with_the_same_data_bit_for_bit(tmp_path: Path) -> None:
    whole = kk.train(pictures(), steps=4, settings=TINY, run=tmp_path / "whole")
    parts = kk.train(pictures(), steps=2, settings=TINY, run=tmp_path / "parts")
    parts = kk.train(pictures(), steps=3, run=parts.folder)
    parts = kk.Run.open(parts.folder).resume(steps=4, data=torch.from_numpy(pictures()).permute(0, 3, 1, 2))
    assert same(weights(whole), weights(parts))
    assert parts.resume(steps=5).files.steps[-1] == 5  # it still has its data


def test_a_run_on_data_in_memory_refuses_others_and_says_how_to_give_them(
    run: kk.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunError, match="not those that the run began with"):
        kk.train(pictures()[::-1], steps=4, run=run.folder)
    with pytest.raises(RunError, match="not those that the run began with"):
        kk.Run.open(run.folder).resume(steps=4, data=pictures(13))
    with pytest.raises(RunError, match=r"resume\(data=data\)"):
        kk.Run.open(run.folder).resume(steps=4)
    assert main(["resume", str(run.folder), "--steps", "4"]) == 4
    assert "on data in memory" in capsys.readouterr().err


def test_commands_use_a_run_on_data_in_memory_without_them(
    run: kk.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(run.folder), "--count", "2", "--out", str(tmp_path / "new.png")]) == 0
    assert main(["report", str(run.folder)]) == 0
    np.save(tmp_path / "others.npy", pictures())
    quick = ["--images", "2", "--terms", "4", "--out", str(tmp_path / "e"), "--json"]
    assert main(["evaluate", str(run.folder), *quick]) == 4
    assert "evaluate RUN --data DATA" in capsys.readouterr().err
    assert main(["evaluate", str(run.folder), "--data", str(tmp_path / "others.npy"), *quick]) == 0


def test_a_record_says_all_that_it_takes_to_sample_the_same_again(run: kk.Run) -> None:
    loaded, sampler = run.load(), kk.DDIM(steps=3, eta=0.5, spacing="linspace")
    shares: list[float] = []
    x_0, record = run.sample_with_record(
        loaded,
        sampler,
        run.request(loaded, None, count=18, seed=5, first=2),
        lambda share, _: shares.append(share),
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1
    numbers = {name: record[name] for name in ("count", "seed", "first", "exact")}
    named = sampler_named(
        record["sampler"], 20, **{name: record[name] for name in ("steps", "eta", "spacing")}
    )
    assert run.sample(sampler=named, **numbers).equal(x_0)
    assert (record["checkpoint"], record["weights"], record["rounded"]) == (3, "ema", True)
    assert json.loads(json.dumps(record)) == record


def test_a_run_can_be_evaluated_and_reported_from_python(run: kk.Run) -> None:
    appraisal = run.evaluate(images=2, terms=4)
    assert [part.name for part in appraisal.parts] == ["training", "held-out"]
    others = kk.Run.open(run.folder).evaluate(images=2, terms=4, data=pictures(5))
    assert [part.name for part in others.parts] == ["array"]
    assert "training images" in run.report().read_text("utf-8")
    with pytest.raises(TypeError, match="tems"):
        run.evaluate(tems=4)


def test_fine_tuning_works_on_data_in_memory(run: kk.Run, tmp_path: Path) -> None:
    child = kk.train(pictures(20), steps=1, settings=TINY, weights_from=run.folder, run=tmp_path / "child")
    assert child.files.data["weights_from"]["step"] == 3


def test_settings_are_given_by_their_dotted_names_and_checked(tmp_path: Path) -> None:
    made = kk.train(
        "two-moons", steps=1, settings={"process.T": 30, "machine.threads": 1}, run=tmp_path / "a"
    )
    assert (made.settings.process.T, made.settings.training.steps) == (30, 1)
    with pytest.raises(SettingsError, match=r"did you mean network\.width"):
        kk.train("two-moons", steps=1, settings={"network.widht": 8}, run=tmp_path / "b")
    with pytest.raises(SettingsError, match="dotted"):
        kk.train("two-moons", steps=1, settings={"width": 8}, run=tmp_path / "b")
    with pytest.raises(RunError, match="asked for 40, it has 30"):
        kk.train("two-moons", settings={"process.T": 40}, run=tmp_path / "a")
    whole = replace(kk.settings_for("two-moons"), machine=replace(made.settings.machine))
    assert kk.train("two-moons", settings=whole, steps=2, run=tmp_path / "c").settings.training.steps == 2


def test_progress_is_shown_where_it_is_wished(
    run: kk.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kk.train(pictures(), steps=1, settings=TINY, run=tmp_path / "silent")
    assert capsys.readouterr().err == ""  # neither a terminal nor a notebook
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=100)
    for module in (api, shown_training):
        monkeypatch.setattr(module, "console", lambda: terminal)
    kk.train(pictures(), steps=1, settings=TINY, run=tmp_path / "seen", progress=True)
    run.sample(2, kk.DDIM(steps=2), progress=True)
    denoiser = run.model()
    kk.sample(denoiser, kk.DDIM(steps=2), count=2, shape=(1, 8, 8), progress=True)
    assert shown.getvalue().count("sampling 2 images") >= 2
    assert "step 1 of 1" in shown.getvalue()
    length = len(shown.getvalue())
    run.sample(2, kk.DDIM(steps=2), progress=False)
    assert len(shown.getvalue()) == length


def test_ctrl_c_in_python_saves_first_and_the_same_call_goes_on(tmp_path: Path) -> None:
    def interrupt(event: Any) -> None:
        if isinstance(event, Stepped) and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    call: dict[str, Any] = {"settings": TINY, "run": tmp_path / "run"}
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        kk.train(pictures(), steps=6, watch=interrupt, **call)
    assert signal.getsignal(signal.SIGINT) is handler
    assert kk.Run.open(tmp_path / "run").files.steps == [3]
    whole = kk.train(pictures(), steps=6, settings=TINY, run=tmp_path / "whole")
    assert same(weights(kk.train(pictures(), steps=6, **call)), weights(whole))


def test_training_in_a_thread_listens_to_no_signals(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(kk.train, pictures(), steps=1, settings=TINY, run=tmp_path / "run").result()
    assert made.files.steps[-1] == 1


def test_the_settings_of_a_call_say_how_its_data_are_read(tmp_path: Path) -> None:
    black_and_white = pictures() // 128
    reals = pictures() / 255
    first = np.moveaxis(np.repeat(pictures(), 8, 3), 3, 1)
    for name, data, settings in (
        ("levels", black_and_white, {"data.levels": 2}),
        ("range", reals, {"data.range": (0.0, 1.0)}),
        ("layout", first, {"data.layout": "channels-first"}),
    ):
        run = kk.train(data, steps=1, settings={**TINY, **settings}, run=tmp_path / name)
        units = run.data.units
        assert {
            "levels": getattr(units, "levels", 0) == 2,
            "range": getattr(units, "mean", ()) == (0.5,),
            "layout": run.data.shape == (8, 8, 8),
        }[name]
        assert run.resume(steps=2, data=data).files.steps[-1] == 2


def test_a_sampler_may_be_named(run: kk.Run) -> None:
    assert run.sample(4, "ddim").equal(run.sample(4, kk.DDIM(steps=20)))
    assert run.sample(4, "ancestral").equal(run.sample(4, kk.Ancestral()))
    with pytest.raises(SettingsError, match="there are: ancestral, ddim"):
        run.sample(4, "dpm")


def test_mistakes_are_named(run: kk.Run) -> None:
    wrong: Any = kk.DDIM
    with pytest.raises(TypeError, match="DDIM"):
        run.sample(4, wrong)
    with pytest.raises(TypeError, match="a name"):
        kk.sample(run.model(), wrong, count=1, shape=(1, 8, 8))
    with pytest.raises(ValueError, match="for samples of 1 channels, and these have 3"):
        kk.sample(run.model(), kk.DDIM(steps=2), count=1, shape=(3, 8, 8))
    with pytest.raises(SettingsError, match="take 20 steps or fewer") as error:
        run.sample(4, kk.DDIM(steps=5000))
    assert "--" not in str(error.value)
    with pytest.raises(TypeError, match="count and shape"):
        kk.sample(run.model(), kk.DDIM(steps=2))
    with pytest.raises(TypeError, match="both images and t"):
        run.sample(images=torch.zeros(2, 1, 8, 8))
    with pytest.raises(DataError, match="complex64"):
        kk.train(np.zeros((5, 8, 8), dtype=np.complex64))


def test_runs_and_data_sets_are_shown_in_a_line(run: kk.Run, tmp_path: Path) -> None:
    assert repr(run) == f"<Run {run.folder}: array, step 3 of 3>"
    assert repr(kk.open_data(pictures())) == "<Dataset array: 12 images, 1 channel of 8x8, 256 levels>"
    broken = kk.train(pictures(), steps=1, settings=TINY, run=tmp_path / "broken")
    (broken.folder / "data.json").unlink()
    assert "data.json" in repr(kk.Run.open(broken.folder))


def test_one_image_some_and_those_of_a_mask_are_asked_for_alike() -> None:
    data = kk.open_data(pictures())
    assert data.x_0(5).equal(data.x_0([5]))
    assert data.x_0(np.arange(12) < 3).equal(data.x_0(range(3)))


def test_samples_start_from_images(run: kk.Run) -> None:
    images = kk.open_data(pictures()).x_0(range(3))
    near, far = (run.sample(images=images, t=t, sampler=kk.DDIM(steps=20)) for t in (1, 19))
    assert near.shape == images.shape
    assert (near - images).abs().mean() < (far - images).abs().mean()
    one = run.sample(images=images[1:2], t=19, first=1, sampler=kk.DDIM(steps=20), exact=True)
    assert one.allclose(far[1:2], atol=1e-5)  # image 1 of the seed, in other company


class Pairs(torch.utils.data.Dataset[Any]):
    """A data set in PyTorch's manner that never raises IndexError."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index % len(self.items)]


def test_a_data_set_of_pytorch_is_data_like_an_array() -> None:
    array = pictures()
    tensors = torch.from_numpy(array).permute(0, 3, 1, 2)
    known = kk.open_data(array)
    for data in (
        torch.utils.data.TensorDataset(tensors),
        torch.utils.data.TensorDataset(tensors, torch.arange(12) % 2),
        Pairs([*tensors]),
        Pairs([(Image.fromarray(image[..., 0]), index % 2) for index, image in enumerate(array)]),
    ):
        assert np.array_equal(kk.open_data(data).images.squeeze(), known.images.squeeze())
    labelled = kk.open_data(
        torch.utils.data.TensorDataset(tensors, torch.arange(12) % 2), DataSettings(labels=True)
    )
    assert labelled.class_names == ("0", "1")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (Pairs([torch.zeros(1, 8, 8), torch.zeros(1, 8, 9)]), "have 2 shapes"),
        (Pairs([{"image": torch.zeros(1, 8, 8)}]), "yields dict"),
        (torch.utils.data.DataLoader(Pairs([torch.zeros(1, 8, 8)])), "not DataLoader"),
        ((image for image in pictures()), "not generator"),
        (None, "not NoneType"),
    ],
)
def test_what_holds_no_images_of_one_form_is_refused(data: Any, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        kk.open_data(data)


def test_a_tensor_whose_channels_seem_to_come_last_is_told() -> None:
    (note,) = kk.open_data(torch.rand(20, 8, 8, 3)).notes
    assert "read as 8 channels of 8x3" in note
    assert "channels-last" in note


def test_images_to_start_from_are_in_the_networks_units(run: kk.Run) -> None:
    levels = torch.from_numpy(pictures(2)).permute(0, 3, 1, 2)
    for images in (levels, levels.float()):
        with pytest.raises(TypeError, match=r"run\.data\.units\.encode"):
            run.sample(images=images, t=5)


def test_warnings_and_notes_that_nobody_sees_go_to_pythons_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kk.train(pictures() // 4, steps=1, settings=TINY, run=tmp_path / "run", progress=False)
    said = "\n".join(record.message for record in caplog.records if record.name == "kakusan")
    assert "uses only 0..63 of 256 levels" in said
    assert "11 images are few" in said


def test_a_run_goes_on_for_minutes_at_its_own_speed(run: kk.Run, tmp_path: Path) -> None:
    folder = tmp_path / "longer"
    shutil.copytree(run.folder, folder)
    lines = [{**line, "images_per_second": 8.0} for line in run.files.metrics()]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    done, batch = run.files.steps[-1], run.settings.training.batch_size
    assert batch != "auto"
    assert steps_after(RunFolder.open(folder), 0.5) == done + int(30 * 0.95 * 8 / batch)
    with pytest.raises(SettingsError, match="two lengths"):
        kk.Run.open(folder).resume(steps=9, minutes=1.0, data=pictures())
    with pytest.raises(SettingsError, match="above 0"):
        steps_after(RunFolder.open(folder), 0)


def test_what_a_run_gives_is_short_to_look_at(run: kk.Run) -> None:
    """Networks and tensors are not spelled out."""
    editor = run.editor(kk.DDIM(steps=3))
    inversion = editor.invert(kk.open_data(pictures()).x_0(range(2)))
    loaded = run.load()
    bound = run.evaluate(images=2, terms=3, memorizer=False, progress=False)
    for thing in (run, run.files, loaded, loaded.model, editor, inversion, inversion.latents, bound):
        assert len(repr(thing)) < 300
        assert "\n" not in repr(thing)
    assert "step 3: DDIM(steps=3" in repr(editor)
    assert "(2, 1, 8, 8)" in repr(inversion)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda run: run.sampler(steps="many"),
        lambda run: run.sampler("nobody"),
        lambda run: run.sampler("ddim", order=3),
        lambda run: run.sampler("ddim", steps=3, at=(5, 2)),
        lambda run: run.sample(2, label="1+2:x", progress=False),
        lambda run: run.compare(samplers="ddim", steps=3, count=32, guidance="much", progress=False),
        lambda run: run.compare(samplers=(), progress=False),
        lambda run: run.tune(3, count=2, progress=False),
        lambda run: run.editor("unipc").invert(kk.open_data(pictures()).x_0(range(1))),
        lambda run: run.editor(kk.DDIM(steps=3)).between_seeds(1, 2, frames=1),
        lambda run: kk.export_model(run, "onnx", "model.onnx"),
    ],
)
def test_mistakes_in_python_are_told_by_the_names_of_arguments(run: kk.Run, mistake: Any) -> None:
    with pytest.raises(KakusanError) as caught:
        mistake(run)
    assert "--" not in caught.value.problem
