"""Noise in words."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kakusan.data.units import Levels, Real
from kakusan.errors import KakusanError
from kakusan.posterior import Gaussian, Poisson, Student, Unknown
from kakusan.run.noise import noise_named

MEASURED = (2, 3, 4)


def test_each_word_is_its_noise(tmp_path: Path) -> None:
    levels, real = Levels(), Real((0.0, 5.0), (3.0, 4.0))
    for text, units, sigma in (("0.05", levels, 0.05), ("0", levels, 0), ("5%", levels, 12.75)):
        found = noise_named(text, units, MEASURED)
        assert isinstance(found, Gaussian)
        assert found.sigma == pytest.approx(sigma)
    found = noise_named("10%", real, MEASURED)
    assert isinstance(found, Gaussian)
    assert found.sigma == pytest.approx(0.1 * np.sqrt(12.5))
    assert noise_named("auto", levels, MEASURED) == Unknown()
    assert noise_named("poisson:0.5", levels, MEASURED) == Poisson(0.5)
    assert noise_named("student:0.1:3", levels, MEASURED) == Student(0.1, 3)
    deviations = np.random.default_rng(0).random((3, 4, 2))
    np.save(tmp_path / "map.npy", deviations)
    found = noise_named(str(tmp_path / "map.npy"), levels, MEASURED)
    assert isinstance(found, Gaussian)
    assert np.array_equal(torch.as_tensor(found.sigma), np.moveaxis(deviations, -1, 0))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("-1", "a noise of -1 cannot be: a deviation is at least 0"),
        ("nan", "cannot be"),
        ("-5%", "cannot be"),
        ("loud", "is no noise"),
        ("posson:2", "did you mean poisson:GAIN"),
        ("poisson", "did you mean poisson:GAIN"),
        ("poisson:0", "gain"),
        ("student:1:-1", "above 0"),
        ("five%", "is no noise"),
        ("nowhere.npy", "nowhere.npy cannot be read"),
        ("wrong.npy", r"has shape \(4, 4\), and a map of deviations is of what was measured: \(3, 4, 2\)"),
        ("below.npy", "negative"),
    ],
)
def test_what_is_no_noise_is_one_clear_error(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("wrong.npy", np.ones((4, 4)))
    np.save("below.npy", -np.ones((3, 4, 2)))
    with pytest.raises(KakusanError, match=says):
        noise_named(text, Levels(), MEASURED)
