"""The README's Python is a program: its blocks run one after the other, and what it says of them is so."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from documents import ROOT, run_page
from tiny import TINY

from kakusan.cli import main

README = ROOT / "README.md"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """After all blocks; the run that they train is there already, and short: the same line again has nothing to do."""
    folder = tmp_path_factory.mktemp("readme")
    steps_of_a_sampling = ("--process.T", "50")  # as many as the README asks for
    run = ["--run", str(folder / "runs" / "digits"), "--steps", "2"]
    assert main(["train", "digits", *run, *TINY, *steps_of_a_sampling]) == 0
    with run_page(README, folder) as found:
        yield found


def test_a_run_gives_levels_as_the_readme_says(names: dict[str, Any]) -> None:
    assert names["run"].files.steps[-1] == 2
    levels = names["levels"]
    assert (levels.shape, levels.dtype) == ((64, 8, 8, 1), np.uint8)
    assert levels.max() <= 16


def test_a_bound_has_the_parts_that_the_readme_names(names: dict[str, Any]) -> None:
    bound = names["bound"]
    assert (bound.T, bound.bits.shape) == (50, (8, 50))
    parts = bound.L_T + bound.bits.sum(1) + bound.L_0
    assert bound.total.shape == (8,)
    assert parts.shape == bound.total.shape


def test_the_exact_denoiser_gives_the_figures_in_the_comments(names: dict[str, Any]) -> None:
    images, bits, truth = (names[name] for name in ("images", "bits", "truth"))
    assert images.shape == (1000, 1, 4, 4)
    # 16,000 independent values of deviation 0.5: the mean is known to 0.004, the deviation to 0.003
    assert images.mean().item() == pytest.approx(0.3, abs=0.02)
    assert images.std().item() == pytest.approx(0.5, abs=0.015)
    assert truth.item() == pytest.approx(1.05, abs=0.05)
    assert bits.item() == pytest.approx(truth.item(), abs=0.03)  # each term is of one draw of noise
