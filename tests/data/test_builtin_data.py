"""The data that ship: what they are, that they are as their sources are, and that no byte of them has changed."""

import gzip
import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from kakusan.data import DATASETS, open_data
from kakusan.data.builtin import digits, kanji
from kakusan.data.toys import swiss_roll, two_moons
from kakusan.data.units import Levels, Real

SCRIPTS = Path(__file__).parents[2] / "scripts"
KANJI_SHA256 = "6496e6d04273de1fbef7b1326c0127dbfb02ba2dd0c357a8505b1ac9424e7c48"
DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sha256(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_the_bundled_kanji_are_these_bytes() -> None:
    data = kanji()
    assert sha256(data.images.tobytes(), "".join(data.captions).encode()) == KANJI_SHA256


def test_the_bundled_digits_are_these_bytes() -> None:
    data = digits()
    assert data.labels is not None
    assert sha256(data.images.tobytes(), data.labels.astype(np.uint8).tobytes()) == DIGITS_SHA256


def test_the_kanji_are_the_two_levels_of_jis_x_0208_each_once() -> None:
    data = kanji()
    assert data.images.shape == (6355, 16, 16, 1)
    assert data.units == Levels(2)
    assert set(np.unique(data.images)) == {0, 1}
    assert len(set(data.captions)) == 6355 == 2965 + 3390
    assert data.captions[0] + data.captions[2964] + data.captions[2965] + data.captions[-1] == "亜腕弌熙"


def test_a_kanji_is_drawn_where_its_strokes_are() -> None:
    data = kanji()
    ichi = data.images[data.captions.index("一"), :, :, 0]  # one horizontal stroke
    assert ichi.sum(axis=1).argmax() in range(6, 10)
    assert (ichi.sum(axis=1) > 0).sum() <= 3
    ni = data.images[data.captions.index("二"), :, :, 0]  # two strokes, the lower one longer
    rows = np.flatnonzero(ni.sum(axis=1) > 8)
    assert len(rows) == 2
    assert ni[rows[0]].sum() < ni[rows[1]].sum()
    kawa = data.images[data.captions.index("川"), :, :, 0]  # three strokes that go down
    assert sorted(kawa.sum(axis=0))[-3] >= 10


def test_the_name_of_the_package_is_always_held_out() -> None:
    data = kanji()
    assert "".join(data.captions[index] for index in data.reserved) == "拡散"


def test_the_digits_have_17_levels_and_ten_classes_of_like_size() -> None:
    data = digits()
    assert data.images.shape == (1797, 8, 8, 1)
    assert data.units == Levels(17)
    assert (data.images.min(), data.images.max()) == (0, 16)
    assert data.labels is not None
    assert np.bincount(data.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_kanji_can_be_rebuilt_from_the_font() -> None:
    build = script("build_kanji")
    if not build.FONT.exists():
        pytest.skip(f"{build.FONT} is not here: apt-get install xfonts-shinonome")
    bitmaps, characters = build.kanji_of(gzip.decompress(build.FONT.read_bytes()))
    assert np.array_equal(bitmaps, kanji().images[..., 0])
    assert tuple(characters) == kanji().captions


def test_the_digits_can_be_rebuilt_from_scikit_learns_copy(tmp_path: Path) -> None:
    build = script("build_digits")
    source = build.installed_source()
    if source is None:
        pytest.skip("scikit-learn, which carries digits.csv.gz, is not installed")
    build.build(source, tmp_path / "digits.npz")
    rebuilt = np.load(tmp_path / "digits.npz")
    assert np.array_equal(rebuilt["images"], digits().images[..., 0])
    assert np.array_equal(rebuilt["labels"], np.asarray(digits().labels))


def test_the_digits_are_read_from_lines_of_64_levels_and_a_digit() -> None:
    build = script("build_digits")
    data = digits()
    assert data.labels is not None
    rows = np.concatenate((data.images.reshape(1797, 64), data.labels[:, None]), axis=1)
    images, labels = build.digits_of("\n".join(",".join(map(str, row)) for row in rows))
    assert np.array_equal(images, data.images[..., 0])
    assert np.array_equal(labels, data.labels)


def test_two_moons_are_half_circles_blurred_by_the_stated_noise() -> None:
    data = two_moons()
    assert data.labels is not None
    points = data.images.reshape(-1, 2).astype(np.float64)
    upper, lower = points[data.labels == 0], points[data.labels == 1]
    for moon, centre in ((upper, (0, 0)), (lower, (1, 0.5))):
        radii = np.hypot(*(moon - centre).T)
        assert abs(radii.mean() - 1) < 0.005  # 5000 radii of deviation 0.05: 0.0007, and noise^2 / 2 of bias
        assert abs(radii.std() - 0.05) < 0.003
    assert upper[:, 1].min() > -0.3
    assert lower[:, 1].max() < 0.8


def test_the_swiss_roll_lies_along_its_spiral() -> None:
    points = swiss_roll(noise=0.0).images.reshape(-1, 2).astype(np.float64)
    radii, angles = np.hypot(*points.T), np.arctan2(points[:, 1], points[:, 0])
    turns = (radii * 4.5 * np.pi - angles) / (2 * np.pi)
    assert np.abs(turns - np.round(turns)).max() < 1e-5  # float32
    assert 1 / 3 <= radii.min() < 0.34
    assert 0.99 < radii.max() <= 1


def test_the_toys_are_points_of_mean_0_and_deviation_1_for_the_network() -> None:
    for data in (two_moons(), swiss_roll()):
        x_0 = data.x_0(np.arange(len(data)))
        assert x_0.shape == (10_000, 2)
        assert data.is_points
        assert isinstance(data.units, Real)
        assert x_0.mean(0).abs().max() < 1e-5
        assert (x_0.std(0) - 1).abs().max() < 1e-3


@pytest.mark.parametrize("name", DATASETS)
def test_every_built_in_set_opens_under_its_name_and_twice_the_same(name: str) -> None:
    first, second = open_data(name), open_data(name)
    assert first.name == name
    assert first.fingerprint == second.fingerprint
    assert first.source
    assert first.labels is None
    assert first.captions == () or len(first.captions) == len(first)
    assert DATASETS[name].description
    assert first.x_0(np.arange(4)).shape == (4, *first.shape)
