"""The page of samples given y: of images, signals, points and volumes, with a truth and without, judged or not."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY
from torch import Tensor
from well_formed import WellFormed

from kakusan.cli import main
from kakusan.data.units import Levels, Real, Units, scale_and_mean
from kakusan.evaluation.calibration import calibrate, judge
from kakusan.evaluation.options import CalibrationOptions
from kakusan.operators import Linear, Mask
from kakusan.pages.restore import of_calibration, page_of, picture_of, render
from kakusan.pages.restore.gather import _numbers
from kakusan.pages.restore.shades import Shades
from kakusan.posterior import MMPS, Measurement
from kakusan.run import Posterior, Run
from kakusan.samplers import DDIM


def normals(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.Generator(np.random.Philox(seed)).standard_normal(shape))


class Sum(Linear):
    """One number of each sample."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1).sum(1, keepdim=True)


class Rows(Linear):
    """The sums along the last axis, without the channels: of an image a vector, of a signal a number for each."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.sum(-1, keepdim=True).flatten(1)


REAL = Real((3.0,), (2.0,), shown=2.5)
CASES: list[tuple[tuple[int, ...], Units]] = [
    ((1, 12, 12), Levels(256)),
    ((3, 6, 9), Levels(2)),
    ((2, 5, 5), Real((0.0, 9.0), (1.0, 4.0), shown=2.5)),
    ((1, 40), REAL),
    ((2, 17), Levels(17)),
    ((2,), Real((0.5, 0.2), (0.8, 0.4), shown=2.5)),
    ((1, 4, 6, 6), REAL),
]


def restored(shape: tuple[int, ...], units: Units, operator: Any, n: int = 1, **given: Any) -> Posterior:
    scale, mean = scale_and_mean(units)
    truth = 0.5 * normals(1, n, *shape).float()
    asked = Measurement(operator, torch.zeros(1, *operator.measured_shape(shape)), 0.3, shape, scale, mean)
    y = operator(asked.data(truth.double()))
    measurement = Measurement(operator, y, 0.3, shape, scale, mean)
    samples = truth[:, None] + 0.1 * normals(2, n, 5, *shape).float()
    kept = {"measurement": measurement, "samples": samples, "truth": truth, **given}
    return Posterior(run="field", layout="auto", units=units, **kept)


@pytest.mark.parametrize(("shape", "units"), CASES)
@pytest.mark.parametrize("kind", [Sum, Rows, Mask])
def test_every_kind_of_sample_and_of_measurement_has_a_page(
    shape: tuple[int, ...], units: Units, kind: type
) -> None:
    known = torch.arange(int(np.prod(shape))).view(shape) % 2 == 0
    operator = Mask(known) if kind is Mask else kind()
    found = restored(shape, units, operator, n=2)
    html = render(page_of(found, command=("kakusan", "restore", "/home/me/field")))
    WellFormed(html)
    assert "/home/me" not in html
    assert "kakusan restore RUN --calibrate" in html
    picture = picture_of(found)
    assert min(picture.size) > 30


def test_strings_are_escaped_and_samples_that_miss_y_are_told() -> None:
    found = restored((1, 12, 12), Levels(256), Mask(torch.ones(12, 12, dtype=torch.bool)))
    page = page_of(found)
    assert len(page.warnings) == 2  # a deviation of 0.1 is 13 levels, and the noise is 0.3
    assert page.warnings[0].startswith("100 % of the samples miss what was measured")
    assert page.warnings[1].startswith("Samples leave the levels 0 to 255")  # 5 % of N(0, 1/4) are beyond 1
    own = Posterior(
        run="<b>&", layout="auto", units=found.units, measurement=found.measurement, samples=found.samples
    )
    html = render(page_of(own, command=("kakusan", "<script>")))
    assert "<b>" not in html
    assert "<script>" not in html
    assert "Truth" not in html


@pytest.mark.parametrize(
    ("method", "effective", "words"),
    [
        ("gibbs", 5.3, ""),
        ("gibbs", 2.8, "a quarter of the 16 chains"),
        ("gibbs", 1.2, "hardly more than one"),
        ("smc", 2.8, ""),
    ],
)
def test_few_effective_chains_are_told(method: str, effective: float, words: str) -> None:
    about = {"method": method, "options": {"particles": 16}, "effective_particles": [[effective]]}
    found = restored((1, 12), REAL, Sum(), about=about)
    of_chains = [each for each in found.warnings if "effective" in each or "weights" in each]
    assert len(of_chains) == bool(words)
    assert not words or words in of_chains[0]


def test_exact_measurements_and_missing_values_have_a_page() -> None:
    found = restored((1, 12, 12), REAL, Mask(torch.ones(12, 12, dtype=torch.bool)))
    y = found.measurement.y.clone()
    y[..., :3] = float("nan")
    assert found.truth is not None
    samples = found.truth[:, None].expand_as(found.samples).clone()
    samples[..., :2] = float("nan")
    exact = Measurement(found.measurement.operator, y, 0.0, (1, 12, 12), 2.0, 3.0)
    page = page_of(Posterior(run="r", layout="auto", units=REAL, measurement=exact, samples=samples))
    assert page.facts["Misfit"] == "y was measured exactly, and is kept"
    assert not page.residuals
    assert page.blocks[0].panels[0].caption == "25 % not measured"
    WellFormed(render(page))


def test_a_calibration_has_its_verdict_charts_and_table_on_the_page(tmp_path: Path) -> None:
    assert main(["train", "digits", "--steps", "3", "--run", str(tmp_path / "digits"), *TINY]) == 0
    run = Run.open(tmp_path / "digits")
    method = MMPS(sampler=DDIM(steps=3, eta=1.0), solver_steps=1)
    options = CalibrationOptions(images=6, count=4, scored=2)
    known = torch.arange(64).view(8, 8) % 3 == 0
    found = calibrate(run, Mask(known), 1.0, method, options)
    page = page_of(of_calibration(run, found), found)
    assert page.title == "Does the spread hold the truth?"
    assert page.facts["Method"] == "mmps"
    html = render(page)
    WellFormed(html)
    assert html.count('<svg class="chart"') == 3
    assert html.index("Is the spread right?") < html.index("Measured, and restored")
    assert page.judgement is not None
    for name, value, _ in page.judgement.rows:
        assert name in html
        assert value in html
    assert page.judgement.words[0].lower() in html.lower()
    assert page.more == "The first 4 of 6 are shown."
    numbers = found.about["numbers"]
    assert len(numbers) == 6
    assert set(numbers) <= set(run.prepared().split.held_out.tolist())
    assert f"they have the numbers {', '.join(f'{number:,}' for number in numbers)} of the data" in html
    generator = np.random.Generator(np.random.Philox(0))
    coins = judge(generator.integers(0, 2, (20, 19, 50)), (generator.random((20, 50)) < 0.02).astype(float))
    of_coins = page_of(of_calibration(run, found), replace(found, judged=coins))
    assert of_coins.judgement is not None
    assert not of_coins.judgement.holds
    assert "truth at 1 where 40 to 60 % of samples are" in render(of_coins)


def test_many_numbers_of_held_out_samples_are_cut_short_on_the_page() -> None:
    assert _numbers(range(40)).endswith("38, 39")
    assert _numbers(range(1000, 1100)).endswith("1,039, ..., 1,099 (all are in the record)")


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (1, "A single sample has no spread"),
        (4, "near the least and the largest of 4 samples"),
        (20, "a twentieth of them lies below the quantile of 5 %"),
    ],
)
def test_a_page_says_of_quantiles_what_so_many_samples_allow(count: int, says: str) -> None:
    found = restored((1, 12, 12), Levels(256), Mask(torch.ones(12, 12, dtype=torch.bool)))
    page = page_of(replace(found, samples=found.samples[:, :1].expand(-1, count, -1, -1, -1)))
    assert says in page.reading
    titles = {panel.title for panel in page.blocks[0].panels}
    assert ({"Deviation", "5 % quantile", "95 % quantile"} <= titles) == (count > 1)
    assert ("before they are rounded to levels" in page.reading) == (count > 1)


def test_noise_that_was_fitted_and_the_names_of_files_are_on_the_page() -> None:
    about = {
        "operator": "mask:/home/me/m.png",
        "noise": "auto",
        "fitted_noise": {"sigma": 0.25, "error": 0.013, "words": "noise of deviation 0.25 +- 0.013"},
        "files": {"/home/me/m.png": "ab12"},
    }
    found = restored((1, 40), REAL, Sum(), about=about)
    page = page_of(
        found, command=("kakusan", "restore", "/home/me/field", "--operator", "mask:/home/me/m.png")
    )
    assert page.facts["Fitted"] == "noise of deviation 0.25 +- 0.013"
    html = render(page)
    assert "m.png (SHA-256 ab12)" in html
    assert "/home/me" not in html


def shown(png: bytes) -> Any:
    """The bytes of a small picture of one 12x12 image, a pixel a pixel."""
    with Image.open(io.BytesIO(png)) as picture:
        side = picture.width // 12
        return np.asarray(picture.convert("L"))[side // 2 :: side, side // 2 :: side][:12, :12].astype(int)


@pytest.mark.parametrize("has_truth", [True, False])
def test_pictures_of_real_data_share_a_scale_that_samples_far_off_leave_alone(has_truth: bool) -> None:
    line = torch.linspace(-0.5, 0.5, 144).view(1, 1, 12, 12)
    samples = line[None] + 0.001 * normals(2, 1, 5, 1, 12, 12).float()
    far = samples.clone()
    far[0, 0, 0, 6, 6] = 1000.0 if has_truth else 1.0
    operator = Mask(torch.ones(12, 12, dtype=torch.bool))
    truth = line if has_truth else None
    usual = restored((1, 12, 12), REAL, operator, samples=samples, truth=truth)
    y = usual.measurement.data(line.double())
    measured = replace(usual.measurement, y=y)
    usual, with_one = (replace(usual, measurement=measured, samples=each) for each in (samples, far))
    block, other = page_of(usual).blocks[0], page_of(with_one).blocks[0]
    by_title = {panel.title: panel for panel in block.panels}
    names = ["Measured", "Mean", *["Truth"] * has_truth]
    for name in names:
        picture = shown(by_title[name].png)
        assert abs(picture[0, 0]) <= 2  # the least is black and the largest white
        assert abs(picture[-1, -1] - 255) <= 2
        assert abs(picture - shown(by_title["Mean"].png)).max() <= 2
    assert block.scale == other.scale
    grids = [np.asarray(picture_of(each).convert("L")).astype(int) for each in (usual, with_one)]
    assert all(picture.min() <= 2 and picture.max() >= 253 for picture in grids)
    assert np.median(abs(grids[0] - grids[1])) <= 2
    assert "black and white are 2 and 4, or beyond" in block.scale.replace("2.001", "2").replace("3.999", "4")
    assert block.scale in render(page_of(usual))
    deviation = next(panel for panel in other.panels if panel.title == "Deviation")
    assert ", the largest " in deviation.caption
    assert np.median(shown(deviation.png)) > 60


def test_levels_keep_their_own_scale() -> None:
    found = restored((1, 12, 12), Levels(256), Mask(torch.ones(12, 12, dtype=torch.bool)))
    assert not page_of(found).blocks[0].scale


def test_each_channel_has_the_ends_of_its_scale() -> None:
    shades = Shades.between(torch.tensor([[[[-1.0, 1.0]], [[0.0, 2.0]]]]), Real((0.0, 9.0), (1.0, 4.0), 2.5))
    assert "-1 and 1 in channel 1; 9 and 17 in channel 2" in shades.words
    assert shades.of(torch.tensor([[[[1.0]], [[2.0]]]])).flatten().tolist() == [1, 1]
    flat = Shades.between(torch.full((1, 1, 2, 2), float("nan")), REAL)
    assert flat.half == (0.25,)
