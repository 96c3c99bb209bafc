"""The text: thirteen equations in order, in any width, with and without a terminal."""

import io
import json

import pytest
from rich.cells import cell_len
from rich.console import Console

from kakusan.errors import SettingsError
from kakusan.pages.explain.content import Story
from kakusan.pages.explain.equations import EQUATIONS
from kakusan.pages.explain.gather import stops, tell
from kakusan.pages.explain.numbers import shown
from kakusan.pages.explain.subject import bundled, time_of
from kakusan.pages.explain.text import as_json, show
from kakusan.pages.explain.typeset import plain


def told(story: Story, **options: object) -> str:
    out = io.StringIO()
    show(story, Console(file=out, highlight=False, **options))  # type: ignore[arg-type]
    return out.getvalue()


def test_all_equations_stand_in_order_with_formula_and_functions(story: Story) -> None:
    text = told(story, width=96)
    places = [text.index(f"({number:}) {EQUATIONS[number - 1].title}") for number in range(1, 14)]
    assert places == sorted(places)
    words = " ".join(text.split())
    for equation in EQUATIONS:
        assert plain(equation.symbols[0].split("&")[0].strip()) in text
        for name in equation.functions:
            assert f"kakusan.{name}" in words
    assert "q(x_t | x_{t−1}) = N(√(1−β_t) x_{t−1}, β_t I)" in text
    assert words.count("Identity, tested.") == 7


def test_the_numbers_shown_are_those_computed(story: Story) -> None:
    text = told(story, width=96)
    beta, root = story.now.numbers["beta"], story.now.numbers["root_alpha"]
    assert f"t = 30:  q(x_30 | x_29) = N({shown(root)} x_29, {shown(beta)} I)" in text
    assert f"{shown(story.always['evidence'])} ≤ {shown(story.always['evidence_bound'])}" in text


@pytest.mark.parametrize("width", [80, 96, 140])
def test_no_line_is_wider_than_asked_or_ends_in_spaces(story: Story, points: Story, width: int) -> None:
    for each in (story, points):
        for line in told(each, width=width).splitlines():
            assert cell_len(line) <= min(width, 96), line
            assert line == line.rstrip()


def test_without_a_terminal_there_are_no_control_codes(story: Story) -> None:
    text = told(story)
    assert "\x1b" not in text
    assert "▀" not in text


def test_a_terminal_with_colours_shows_the_image(story: Story) -> None:
    coloured = told(story, force_terminal=True, color_system="truecolor", width=90)
    plain_one = told(story, force_terminal=True, color_system="truecolor", width=90, no_color=True)
    assert coloured.count("▀") == 3 * 8 * 8 / 2
    assert "▀" not in plain_one


def test_points_have_no_picture_in_a_terminal(points: Story) -> None:
    assert "▀" not in told(points, force_terminal=True, color_system="truecolor", width=90)


def test_where_a_number_does_not_exist_its_line_is_left_out() -> None:
    text = told(tell(bundled("digits", T=10), 1), width=96)
    assert "—" not in text
    assert "At t = 1 there is nothing to turn around" in text


def test_json_holds_numbers_and_null_where_there_is_none(story: Story) -> None:
    found = as_json(story)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [equation["number"] for equation in found["equations"]] == [*range(1, 14), *[None] * 8]
    assert found["failed"] == []
    for equation in found["equations"]:
        for name in equation["numbers"]:
            assert name in found["numbers"]
    assert found["numbers"]["alpha_bar"] == story.alpha_bar[30]


@pytest.mark.parametrize("T", [1, 2, 41, 1000])
def test_the_slider_stops_at_both_ends_and_at_the_asked_t(T: int) -> None:
    for t in {1, (T + 1) // 2, T}:
        found = stops(T, t)
        assert {1, t, T} <= set(found)
        assert found == tuple(sorted(set(found)))
        assert len(found) <= 45


@pytest.mark.parametrize("t", [0, 51, -3])
def test_t_lies_within_the_schedule(t: int) -> None:
    with pytest.raises(SettingsError, match="t must be 1 to 50"):
        time_of(bundled("digits", T=50), t)
    assert time_of(bundled("digits", T=50), None) == 25


def test_an_image_is_found_by_its_number_and_by_its_character() -> None:
    by_name = bundled("kanji", image="拡")
    number = by_name.image.removesuffix(")").rpartition(" ")[2]
    assert bundled("kanji", image=number).x_0.equal(by_name.x_0)
    assert bundled("kanji").image.startswith("散")


@pytest.mark.parametrize("image", ["6355", "nothing", "-1"])
def test_an_image_that_is_not_there_is_an_error(image: str) -> None:
    with pytest.raises(SettingsError, match="there is no image"):
        bundled("kanji", image=image)
