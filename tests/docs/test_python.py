"""docs/python.md is a program: its blocks are run one after the other, and what it says of them is so."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from documents import ROOT, run_page

import kakusan as kk
from kakusan.cli.instead import INSTEAD

PAGE = ROOT / "docs" / "python.md"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Everything that the page defines, after all of its blocks have run; its runs lie in the current folder."""
    with run_page(PAGE, tmp_path_factory.mktemp("python")) as found:
        yield found


def test_every_example_runs(names: dict[str, Any]) -> None:
    assert names["run"].files.steps[-1] == 12
    assert repr(names["run"]).endswith("runs/pictures: array, step 12 of 12>")
    assert names["page"].name == "report.html"
    assert all(
        names[name].isfinite().all() for name in ("images", "variations", "guided", "filled", "blurred")
    )


def test_a_walk_from_a_snapshot_ends_where_the_whole_walk_does(names: dict[str, Any]) -> None:
    assert names["end"].x.equal(names["snapshots"][-1].x)


def test_the_ends_of_an_interpolation_are_the_samples_of_their_numbers(names: dict[str, Any]) -> None:
    for place, number in ((0, 3), (-1, 8)):
        one = kk.sample(names["model"], kk.DDIM(steps=20), count=1, shape=(1, 8, 8), first=number, exact=True)
        assert names["between"].x[place].allclose(one[0], atol=0.1)  # bfloat16 in another batch


def test_guidance_of_scale_1_is_none_and_more_leads_away_from_the_guess_for_no_class(
    names: dict[str, Any],
) -> None:
    x, t, label = (
        torch.randn(2, 1, 8, 8),
        torch.full((2,), 50.0).double(),
        kk.Condition(label=torch.tensor([0, 1])),
    )
    of = names["run"].model(precision="fp32")
    named, free = of.denoiser.predict(x, t, label), of.denoiser.predict(x, t)
    once, thrice = (kk.Guided(of.denoiser, scale).predict(x, t, label) for scale in (1.0, 3.0))
    assert once.x_0.allclose(named.x_0, atol=1e-5)
    assert (thrice.x_0 - free.x_0).allclose(3 * (named.x_0 - free.x_0), atol=1e-5)
    alpha_bar = of.path.alpha_bar[50].float()
    assert (alpha_bar.sqrt() * thrice.x_0 + (1 - alpha_bar).sqrt() * thrice.eps).allclose(x, atol=1e-4)


def test_two_steps_of_memory_come_nearer_to_the_truth_as_the_page_says(names: dict[str, Any]) -> None:
    found = names["found"]
    assert round(found["DDIM"], 2) == 0.43
    assert round(found["TwoStep"], 2) == 0.48


def test_inpainting_keeps_what_is_known(names: dict[str, Any]) -> None:
    known = names["data"].x_0(0)[..., :4].expand(4, -1, -1, -1)
    assert names["filled"][..., :4].equal(known)
    assert not names["filled"][0, ..., 4:].equal(names["filled"][1, ..., 4:])


def test_the_pages_that_other_words_are_sent_to_are_there() -> None:
    pages = {page for line in INSTEAD.values() for page in re.findall(r"docs/\S+\.md", line)}
    assert pages
    assert all((ROOT / page).is_file() for page in pages)
