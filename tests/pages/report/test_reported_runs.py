"""What the terminal and the page say of real small runs: nothing good without evidence."""

import json
from pathlib import Path

import numpy as np
import pytest

from kakusan.cli import main
from kakusan.pages.report.gather import in_units, tell
from kakusan.run import Run

WORDS = (
    "--network.width 8 --network.multipliers 1 1 --network.blocks 1 --network.attention 1 --process.T 20",
    "--training.warmup 500 --samples.count 2 --samples.steps 2 --log.every 2 --machine.threads 1 --machine.device cpu",
)
FLAGS = " ".join(WORDS).split()


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run on 40 images that ends in the middle of its warm-up, and what its log and the terminal said."""
    folder = tmp_path_factory.mktemp("noise")
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    np.save(folder / "forty.npy", images)
    line = ["train", str(folder / "forty.npy"), "--run", str(folder / "run"), "--steps", "4", *FLAGS]
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("kakusan.storage.run_folder.RunFolder.log", lambda _, text: said.append(text))
        assert main(line) == 0
    return folder / "run", "\n".join(said)


def test_the_terminal_says_first_that_hardly_anything_was_learned(noise: tuple[Path, str]) -> None:
    _, said = noise
    assert "Has hardly learned yet: 4 steps" in said
    assert "the learning rate was still warming up (over 500 steps)" in said
    assert said.index("Has hardly learned") < said.index("trained in")
    assert "no sign of overfitting" not in said
    assert " ± " in said.rpartition("trained in")[2]


def test_the_report_of_noise_says_so_first_and_nothing_good(noise: tuple[Path, str]) -> None:
    page = (noise[0] / "report.html").read_text("utf-8")
    assert page.index("Has hardly learned yet: 4 steps") < page.index("<main>")
    assert "no sign of" not in page
    assert "noise copies nothing" in page


def test_an_evaluation_of_noise_says_nothing_of_memorizing(
    noise: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(noise[0]), "--images", "4"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Has hardly learned yet: 4 steps" in said
    assert "which says nothing of overfitting" in said
    assert "no sign" not in said


def test_a_run_that_began_from_an_unknown_past_is_never_called_free_of_memorizing(
    noise: tuple[Path, str], tmp_path: Path
) -> None:
    """As an older version left it: no hashes, and a parent."""
    run = Run.open(noise[0])
    record = run.files.data
    path = noise[0] / "data.json"
    old = path.read_bytes()
    try:
        path.write_text(json.dumps({**record, "weights_from": {"run": str(tmp_path / "gone"), "step": 4}}))
        story = tell(Run.open(noise[0]))
        assert any("was not checked what" in warning for warning in story.warnings)
        assert story.copying is not None
        assert story.copying.doubt
        assert story.gap is not None
        assert story.gap.gap is not None
        assert story.gap.gap.doubt
    finally:
        path.write_bytes(old)


def test_the_page_names_the_data_and_not_the_folders_of_its_maker(noise: tuple[Path, str]) -> None:
    page = (noise[0] / "report.html").read_text("utf-8")
    assert "forty.npy" in page
    assert str(noise[0].parent) not in page.replace(str(noise[0]), "")


def test_real_channels_are_shown_one_by_one_with_their_range_in_the_units_of_the_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fields = np.stack([rng.normal(288.1, 6.4, (40, 8, 8)), rng.normal(101325, 900, (40, 8, 8))], -1)
    np.save(tmp_path / "weather.npy", fields.astype(np.float32))
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "weather.npy"), "--run", str(run), "--steps", "1", *FLAGS]) == 0
    story = tell(Run.open(run))
    temperature, pressure = story.channels
    assert (temperature.name, pressure.name) == (
        "Channel 0 of 2, counted from 0",
        "Channel 1 of 2, counted from 0",
    )
    assert 271 < float(temperature.low) < 273  # 288.1 - 2.5 x 6.4
    assert 303 < float(temperature.high) < 305
    assert 98_900 < float(pressure.low.replace(",", "")) < 99_300
    page = (run / "report.html").read_text("utf-8")
    assert page.index(temperature.name) < page.index(temperature.high)


@pytest.mark.parametrize(
    ("value", "step", "words"),
    [
        (101325.004, 0.025, "101,325.0040"),
        (288.1, 16, "288.1"),
        (5e4, 3e3, "50,000"),
        (3e-12, 1e-12, "3e-12"),
        (-0.5, 2.5, "-0.50"),
    ],
)
def test_numbers_have_the_digits_that_their_spread_asks_for(value: float, step: float, words: str) -> None:
    assert in_units(value, step) == words
