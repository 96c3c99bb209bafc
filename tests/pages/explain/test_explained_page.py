"""The page: complete in itself, well formed, the same numbers at every stop, and nothing computed by its script."""

import base64
import hashlib
import io
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from PIL import Image
from well_formed import WellFormed

from kakusan.pages.explain.content import Story
from kakusan.pages.explain.equations import EQUATIONS
from kakusan.pages.explain.gather import tell
from kakusan.pages.explain.images import png_uri
from kakusan.pages.explain.moment import Moment
from kakusan.pages.explain.numbers import shown
from kakusan.pages.explain.page import render
from kakusan.pages.explain.subject import Subject, bundled

HOSTILE = "<script>alert(1)</script>\"'><img src=http://evil.example onerror=alert(1)> {{ 7 * 7 }} &amp;"


def page_of(story: Story) -> str:
    return render(story, [("Again", "kakusan explain")], "kakusan.")


class Page(WellFormed):
    """With its text."""

    def __init__(self, html: str) -> None:
        self.text: dict[str, str] = {}
        super().__init__(html)

    def handle_data(self, data: str) -> None:
        where = self.open[-1] if self.open else ""
        if where == "script":
            where += dict(self.tags[-1][1]).get("type") or ""
        self.text[where] = self.text.get(where, "") + data

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text["scriptapplication/json"])
        return found


@pytest.fixture(scope="module")
def page(story: Story) -> Page:
    return Page(page_of(story))


def test_nothing_is_fetched_from_anywhere(story: Story, points: Story) -> None:
    for each in (story, points):
        html = page_of(each)
        assert "https://" not in html
        assert html.replace("http://www.w3.org/2000/svg", "").count("http://") == 0  # a name, not an address
        for tag, attributes in Page(html).tags:
            for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, name)
        assert "url(" not in Page(html).text["style"]
        assert "@import" not in Page(html).text["style"]


def test_only_the_one_script_is_allowed(page: Page) -> None:
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.text["script"].encode()).digest()).decode()
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert len(page.all("script")) == 2
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_the_script_computes_nothing(page: Page) -> None:
    assert "Math" not in page.text["script"]


def test_every_equation_is_typeset_with_its_function(page: Page) -> None:
    articles = [attributes["id"] for attributes in page.all("article")]
    assert articles == [equation.anchor for equation in EQUATIONS]
    starts = [place for place, (tag, _) in enumerate(page.tags) if tag == "article"] + [len(page.tags)]
    for start, stop in pairwise(starts):
        tags = [tag for tag, _ in page.tags[start:stop]]
        assert tags.count("math") >= 2
        assert "code" in tags
    names = page.text["code"].replace("\n", "")
    for equation in EQUATIONS:
        assert all(f"kakusan.{name}" in names for name in equation.functions)


def test_there_are_data_for_every_stop(page: Page, story: Story) -> None:
    told = page.told
    assert told["t"] == [stop.t for stop in story.stops]
    slider = page.all("input")[0]
    assert (slider["max"], slider["value"]) == (str(len(story.stops) - 1), str(story.asked))
    live = {a["data-n"] for _, a in page.tags if "data-n" in a} - set(story.always) - {"L_0()", "who"}
    assert live <= set(told["names"])
    assert all(len(texts) == len(told["names"]) for texts in told["texts"])
    changing = {a["data-p"] for _, a in page.tags if "data-p" in a} - set(story.pictures)
    assert all(changing <= set(pictures) for pictures in told["pictures"])
    for attributes in page.all("g"):
        assert set(attributes) <= {"class", "data-marks"}


def test_the_numbers_of_each_stop_are_recomputed_ones(page: Page, subject: Subject) -> None:
    told = page.told
    place = told["t"].index(10)
    texts = dict(zip(told["names"], told["texts"][place], strict=True))
    numbers = Moment(subject.model, subject.schedule, subject.x_0, 10).numbers()
    for name, value in numbers.items():
        if "gap" not in name:  # differences of rounding
            assert texts[name] == shown(value), name


def test_what_is_shown_first_is_the_asked_t(page: Page, story: Story) -> None:
    told = page.told
    texts = dict(zip(told["names"], told["texts"][story.asked], strict=True))
    assert texts["t"] == "30"
    first = next(attributes["src"] for attributes in page.all("img") if attributes.get("data-p") == "x_t")
    assert first == told["pictures"][story.asked]["x_t"]


def test_pictures_are_png_of_the_image_s_size(story: Story) -> None:
    for uri in (*story.pictures.values(), *story.now.pictures.values()):
        with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))) as image:
            assert image.size == (8, 8)
            image.load()


def test_a_picture_holds_the_bytes_given() -> None:
    import numpy as np

    for channels in (1, 3):
        shades = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
        content = base64.b64decode(png_uri(shades).removeprefix("data:image/png;base64,"))
        with Image.open(io.BytesIO(content)) as image:
            assert np.array_equal(np.asarray(image).reshape(5, 7, channels), shades)


def test_points_are_drawn_as_clouds(points: Story) -> None:
    page = Page(page_of(points))
    assert not page.all("img")
    paths = [attributes for attributes in page.all("path") if "data-part" in attributes]
    assert {attributes["data-part"] for attributes in paths} == {"0", "1"}
    assert all((attributes["d"] or "").startswith("M") for attributes in paths)
    assert all(picture.count("|") == 1 for name, picture in points.now.pictures.items() if "bell" not in name)


def test_strings_from_outside_are_only_ever_text(story: Story) -> None:
    hostile = replace(story, image=HOSTILE, facts={HOSTILE: HOSTILE}, remark=HOSTILE, warnings=(HOSTILE,))
    tame = replace(story, facts={"a": "a"}, remark="a", warnings=("a",))
    assert [tag for tag, _ in Page(page_of(hostile)).tags] == [tag for tag, _ in Page(page_of(tame)).tags]


def test_ids_are_unique(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_lines_without_their_numbers_are_hidden() -> None:
    page = Page(page_of(tell(bundled("digits", T=10), 1)))
    hidden = [attributes for _, attributes in page.tags if "hidden" in attributes]
    assert len(hidden) >= 3  # the numbers of (6) and their agreement, its picture, those of (12)
    assert all("data-whole" in attributes for attributes in hidden)


def test_the_same_story_is_the_same_page(story: Story) -> None:
    assert page_of(story) == page_of(story)


def test_colours_are_defined_in_both_modes(page: Page) -> None:
    light, _, dark = page.text["style"].partition("prefers-color-scheme: dark")
    for name in ("ground", "ink", "muted", "rule", "ghost", "accent", "second", "code"):
        assert f"--{name}:" in light
        assert f"--{name}:" in dark.partition("}")[0]
