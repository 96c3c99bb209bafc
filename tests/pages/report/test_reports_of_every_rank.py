"""Reports of runs on signals and volumes: the same parts as those of images."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kakusan.cli import main
from kakusan.data.lines import HEIGHT, STILL, WIDTH
from kakusan.pages.report import Story
from kakusan.pages.report.gather import tell
from kakusan.run import Run

WORDS = (
    "--network.width 8 --network.multipliers 1 1 --network.blocks 1 --network.attention 1 --process.T 20 --steps 2",
    "--samples.count 2 --samples.steps 2 --log.every 2 --machine.threads 1 --machine.device cpu",
)
FLAGS = " ".join(WORDS).split()


def trained(folder: Path, array: np.ndarray, *flags: str) -> Path:
    np.save(folder / "data.npy", array)
    run = folder / "run"
    assert main(["train", str(folder / "data.npy"), "--run", str(run), *FLAGS, *flags]) == 0
    return run


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    t, rng = np.linspace(0, 6, 32), np.random.default_rng(0)
    phases = rng.uniform(0, 6, (40, 1))
    waves = np.stack([np.sin(t + phases), 0.5 * np.cos(2 * t + phases)], -1)
    return trained(tmp_path_factory.mktemp("signals"), waves, "--data.layout", "channels-last")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shades = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 8, 1), dtype=np.uint8)
    return trained(tmp_path_factory.mktemp("volumes"), shades)


def size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as picture:
        return picture.size


def check_parts(story: Story) -> None:
    assert story.samples is not None
    assert story.film is not None
    assert story.forward is not None
    assert story.copying is not None
    assert len(story.copying.samples) == 12
    assert len(story.copying.sample_ratios) == 64
    assert len(story.copying.held_out) == 4
    assert story.forward.times[0] == 0
    assert (
        story.forward.caption
        == f"The {story.noun.one} at t = 0 is {story.noun.one} " + (story.forward.caption.rpartition(" ")[2])
    )


def test_a_report_of_signals_has_every_part_in_line_plots(signals: Path) -> None:
    story = tell(Run.open(signals))
    check_parts(story)
    assert story.facts["Signals"] == "36 to train on, 4 held out; length 32, 2 channels"
    assert story.film is not None
    assert story.copying is not None
    assert size(story.film.png) == (6 * (STILL + 8) - 8, 2 * HEIGHT + 8)
    assert size(story.copying.samples[0].png) == size(story.copying.samples[0].nearest_png) == (WIDTH, HEIGHT)
    assert [channel.is_shaded for channel in story.channels] == [False, False]
    for channel in story.channels:
        assert channel.histogram is not None
        assert sum(channel.histogram.samples) == pytest.approx(1)
        assert sum(channel.histogram.training) == pytest.approx(1)
        assert channel.histogram.edges[0] < 0 < channel.histogram.edges[-1]


def test_a_report_of_volumes_has_every_part_in_slices(volumes: Path) -> None:
    story = tell(Run.open(volumes))
    check_parts(story)
    assert story.facts["Volumes"] == "36 to train on, 4 held out; 8x8x8, 1 channel"
    assert story.film is not None
    assert story.copying is not None
    times = len(story.film.times)
    assert size(story.film.png) == (times * (64 + 8) - 8, 2 * 64 + 8)  # one slice
    assert size(story.copying.samples[0].png) == (8 * (32 + 2) - 2, 32)
    assert not story.channels  # levels


def test_the_page_of_a_run_speaks_of_its_samples(signals: Path, volumes: Path) -> None:
    for folder, many in ((signals, "signals"), (volumes, "volumes")):
        page = (folder / "report.html").read_text("utf-8")
        assert f"trained on 36 {many}" in page
        assert f"New {many}" in page
        assert f"the training {many}" in " ".join(page.split())


@pytest.mark.parametrize("kind", ["signals", "volumes"])
def test_samples_are_saved_as_an_array_or_a_picture_and_not_as_a_folder(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = request.getfixturevalue(kind)
    line = ["sample", str(run), "--count", "3", "--steps", "2"]
    assert main([*line, "--out", str(tmp_path / "new.npz")]) == 0
    assert main([*line, "--out", str(tmp_path / "new.png")]) == 0
    capsys.readouterr()
    assert main([*line, "--out", str(tmp_path / "new")]) == 2
    assert f"{kind} make no PNG files" in capsys.readouterr().err
    with np.load(tmp_path / "new.npz") as stored:
        shape = json.loads((run / "data.json").read_text())["shape"]
        assert stored["images"].shape == (3, *shape[1:], shape[0])
