"""The page: complete in itself, well formed, escaped, and with any part of the story missing."""

import base64
import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image
from well_formed import WellFormed

from kakusan.data.builtin import kanji
from kakusan.data.rendering import encode_png
from kakusan.data.space import POINTS, SIGNALS, VOLUMES, Noun
from kakusan.evaluation.diagnosis.finding import Finding, Health
from kakusan.pages.report import Copying, FilmStrip, Forward, Neighbour, SampleGrid, Story, render
from kakusan.pages.report.content import Channel, Distances, Histogram, Power
from kakusan.pages.report.page import copy_verdict, show
from kakusan.pages.seal import seal
from kakusan.training.verdicts import loss_gap

HOSTILE = "<script>alert(1)</script>\"'><img src=http://evil.example onerror=alert(1)> {{ 7 * 7 }} &amp;"
PARTS = [field.name for field in dataclasses.fields(Story) if field.name != "title"]


def png(grey: int = 0, width: int = 8) -> bytes:
    return encode_png(Image.new("L", (width, 8), grey))


def rows(count: int = 40) -> list[dict[str, Any]]:
    return [
        {"step": 10 * i, "loss": 1 / i, "loss_by_t": [1 / (i + k) for k in range(10)], "gradient_norm": 0.5}
        | {"learning_rate": 2e-4, "images_per_second": 600.0}
        | ({"held_out_loss": 1.1 / i} if i % 10 == 0 else {})
        for i in range(1, count + 1)
    ]


def story(name: str = "拡") -> Story:
    """Every part filled; every string from outside is `name`."""
    neighbours = [
        Neighbour(
            png=png(1), nearest_png=png(2), ratio=ratio, caption=name + str(ratio), nearest_caption=name
        )
        for ratio in (0.2, 0.9)
    ]
    table = np.linspace(1, 0, 101).tolist()
    return Story(
        title=name,
        subtitle=name,
        facts={name: name},
        warnings=[name],
        samples=SampleGrid(png=png(3), caption=name),
        forward=Forward(png=png(4), times=[0, 50, 100], alpha_bar=[1, 0.5, 1e-5], table=table, caption=name),
        film=FilmStrip(png=png(5), times=[100, 50, 1], caption=name),
        metrics=rows(),
        T=100,
        copying=Copying(
            samples=neighbours,
            held_out=neighbours,
            sample_rate=0.5,
            held_out_rate=0.25,
            sample_ratios=[0.2, 0.9, 0.1, 1],
            held_out_ratios=[0.2, 0.9, 0.5, 0.6],
        ),
        distances=Distances(
            rows=[(name, name, name)],
            moments=[(name, [name, name])],
            columns=[name, name],
            real=name,
            reference=name,
            words=name,
            frequency=[0.1, 0.2, 0.5],
            powers=[Power(name=name, samples=[3, 1, 0.5], samples_error=[0.1, 0.1, 0.1], real=[3, 1, 0.1])],
        ),
        commands=[(name, name)],
        settings={"data": {"name": name, "deep": {name: [name, name]}}, name: name},
        environment={name: name},
        footer=name,
    )


class Page(WellFormed):
    """With its text."""

    def __init__(self, html: str) -> None:
        self.text = ""
        self.style = ""
        super().__init__(html)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.text += data


def test_nothing_is_fetched_from_anywhere() -> None:
    page = Page(render(story(HOSTILE)))
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, name)
    assert "url(" not in page.style
    assert "@import" not in page.style


def test_scripts_are_absent_and_forbidden() -> None:
    page = Page(render(story(HOSTILE)))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "embed", "base", "form"})
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.split("; ")[:3] == ["default-src 'none'", "style-src 'unsafe-inline'", "img-src data:"]


def test_names_from_outside_are_only_ever_text() -> None:
    tame, hostile = Page(render(story("x"))), Page(render(story(HOSTILE)))
    assert [tag for tag, _ in tame.tags] == [tag for tag, _ in hostile.tags]
    assert [list(attributes) for _, attributes in tame.tags] == [list(a) for _, a in hostile.tags]
    assert hostile.text.count(HOSTILE) >= 15


def test_the_pictures_are_the_bytes_given() -> None:
    sources = [attributes["src"] or "" for attributes in Page(render(story())).all("img")]
    shown = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources]
    assert shown == [png(3), png(4), png(5), *(png(1), png(2)) * 4]


def test_every_picture_has_words_and_a_size_so_that_nothing_jumps() -> None:
    page = Page(render(story()))
    assert all(a["alt"] and a["width"] == "8" and a["height"] == "8" for a in page.all("img"))
    assert all(a.get("aria-label") for a in page.all("svg"))


def test_only_what_must_be_magnified_is_drawn_with_hard_edges() -> None:
    large = dataclasses.replace(story(), samples=SampleGrid(png=png(width=800), caption=""))
    classes = [attributes.get("class") for attributes in Page(render(large)).all("img")]
    assert classes[0] is None
    assert set(classes[1:]) == {"sharp"}


def test_a_transparent_picture_gets_no_frame() -> None:
    points = encode_png(Image.new("RGBA", (480, 480)))
    html = render(dataclasses.replace(story(), samples=SampleGrid(png=points, caption="")))
    assert Page(html).all("img")[0]["class"] == "clear"


@pytest.mark.parametrize("missing", PARTS)
def test_any_part_may_be_missing(missing: str) -> None:
    parts: dict[str, Any] = {part: getattr(story(), part) for part in PARTS if part != missing}
    page = Page(render(Story(title="拡散", **parts)))
    assert "拡散" in page.text
    assert "None" not in page.text


def test_a_title_alone_is_a_page() -> None:
    page = Page(render(Story(title="digits")))
    assert "digits" in page.text
    assert not page.all("section")
    assert not page.all("img")


def test_all_parts_have_their_sections_in_order() -> None:
    ids = [attributes["id"] for attributes in Page(render(story())).all("section")]
    assert ids == ["forward", "film", "training", "copying", "distances", "commands", "details"]


def test_the_same_story_is_the_same_page() -> None:
    assert render(story()) == render(story())


def test_ids_are_unique() -> None:
    ids = [attributes["id"] for _, attributes in Page(render(story())).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_colour_variable_that_is_used_is_defined_in_both_modes() -> None:
    style = Page(render(story())).style
    light, dark = style.split("prefers-color-scheme: dark")[0], style.split("prefers-color-scheme: dark")[1]
    for name in ("ground", "ink", "muted", "rule", "accent", "second", "code"):
        assert f"--{name}:" in light
        assert f"--{name}:" in dark.split("}")[0]


def test_the_seal_is_stamped_from_the_bundled_kanji() -> None:
    images = dict(zip(kanji().captions, kanji().images[..., 0], strict=True))
    strokes = re.findall(r"M(\d+) (\d+)h(\d+)v1", seal())
    stamped = np.zeros((42, 24), dtype=int)
    for x, y, length in (map(int, stroke) for stroke in strokes):
        stamped[y, x : x + length] += 1
    assert np.array_equal(stamped[4:20, 4:20], images["拡"])
    assert np.array_equal(stamped[22:38, 4:20], images["散"])
    assert stamped.sum() == images["拡"].sum() + images["散"].sum()


def test_only_pictures_in_png_are_taken() -> None:
    with pytest.raises(ValueError, match="PNG"):
        render(Story(title="", samples=SampleGrid(png=b"GIF89a", caption="")))


def test_the_loss_is_named_with_its_held_out_twin_and_the_equation_only_where_it_holds() -> None:
    page = Page(render(story()))
    assert "(12)" in page.text
    assert "0.0275 on held-out" in " ".join(page.text.split())  # 1.1 / 40
    alike = [*rows(), {"step": 400, "training_loss": 0.02, "held_out_loss": 0.03}]
    measured = " ".join(Page(render(dataclasses.replace(story(), metrics=alike))).text.split())
    assert "It ends at 0.0200 on training images and 0.0300 on held-out ones, measured with" in measured
    other = Page(render(dataclasses.replace(story(), predicts="v")))
    assert "(12)" not in other.text
    assert "in the form of v" in other.text


@pytest.mark.parametrize(
    ("samples", "held_out", "count", "memorizes"),
    [(0.0, 0.0, 240, False), (0.01, 0.0, 240, False), (0.1, 0.01, 240, True), (0.1, 0.0, 20, False)],
)
def test_the_verdict_weighs_the_difference_against_chance(
    samples: float, held_out: float, count: int, *, memorizes: bool
) -> None:
    ratios = [0.5] * count
    copying = Copying(
        sample_rate=samples, held_out_rate=held_out, sample_ratios=ratios, held_out_ratios=ratios
    )
    assert ("has begun to memorize" in copy_verdict(copying).replace("\n", " ")) == memorizes


def judged(sample_rate: float, held_out: int, *, doubt: str = "", shortfall: str = "") -> str:
    copying = Copying(
        sample_rate=sample_rate,
        held_out_rate=0.0,
        sample_ratios=[0.5] * 64,
        held_out_ratios=[0.5] * held_out,
        doubt=doubt,
    )
    return copy_verdict(copying, shortfall)


def test_no_sign_of_memorizing_is_said_only_where_there_is_evidence() -> None:
    assert "no sign of memorizing" in judged(0.0, 64)
    assert "too few images to tell" in judged(0.0, 4)
    assert "hardly learned yet" in judged(0.0, 64, shortfall="Has hardly learned yet: 60 steps.")
    doubtful = judged(0.0, 64, doubt="the parent was imported")
    assert doubtful.endswith("may have been trained on those: the parent was imported.")
    for words in (judged(0.0, 4), judged(0.0, 64, shortfall="Has hardly learned yet."), doubtful):
        assert "no sign" not in words


def test_a_page_begins_with_what_has_hardly_been_learned() -> None:
    words = "Has hardly learned yet: 60 steps, the learning rate was still warming up."
    page = Page(render(dataclasses.replace(story(), shortfall=words)))
    text = " ".join(page.text.split())
    assert words in text
    assert text.index(words) < text.index("From image to noise")
    assert "no sign of memorizing" not in text
    assert words not in Page(render(story())).text


def test_the_gap_of_the_losses_stands_beside_them_with_its_error_and_its_verdict() -> None:
    line = {"step": 400, "training_loss": 0.02, "held_out_loss": 0.021}
    line |= {"gap_standard_error": 0.0002, "compared_images": 180}
    told = dataclasses.replace(story(), metrics=[*rows(), line], gap=loss_gap([line]))
    text = " ".join(Page(render(told)).text.split())
    assert (
        "On 180 images of each, with the same times and noise, the gap is 5.0 ± 1.0 %: a slight sign" in text
    )
    early = " ".join(
        Page(render(dataclasses.replace(told, shortfall="Has hardly learned yet."))).text.split()
    )
    assert "the gap is 5.0 ± 1.0 %." in early


def test_a_page_opens_with_the_diagnosis_and_says_nothing_of_it_twice() -> None:
    text = f"Copies, {HOSTILE}"
    findings = [
        Finding(f"Is it {k}?", health, "so so", (text, f"Figure {k}.")) for k, health in enumerate(Health)
    ]
    told = dataclasses.replace(story(), shortfall="Has hardly learned yet.", diagnosis=findings)
    html = render(told)
    page = Page(html)
    head = html[: html.index("<main>")]
    for k, _ in enumerate(Health):
        assert head.index(f"Is it {k}?") < head.index(f"Figure {k}.")
    assert HOSTILE in page.text
    assert "So so." in page.text
    assert "Has hardly learned yet." not in page.text  # the diagnosis says so
    assert "noise copies nothing" not in page.text
    assert "noise copies nothing" in Page(render(dataclasses.replace(told, diagnosis=()))).text


def test_without_held_out_images_there_is_no_verdict() -> None:
    assert "nothing to compare" in copy_verdict(Copying(sample_rate=0.0))
    assert copy_verdict(Copying()) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "none"), (True, "true"), (0.0001, "0.0001"), ((1, 2.5), "1, 2.5"), ([], "none"), ("a", "a")],
)
def test_settings_read_as_a_person_would_write_them(value: Any, text: str) -> None:
    assert show(value) == text


def channel(*, is_shaded: bool = True, training: tuple[float, ...] = (0.5, 0.5)) -> Channel:
    spread = Histogram(edges=[0.0, 1.0, 2.0], samples=[0.25, 0.75], training=training)
    ends = {"low": "-1.5", "high": "2.5", "lowest": "-3", "highest": "4"}
    return Channel(name="Channel 0", png=png(), is_shaded=is_shaded, histogram=spread, **ends)


def test_a_channel_has_its_ends_and_its_histogram() -> None:
    page = Page(render(dataclasses.replace(story(), channels=[channel()])))
    text = " ".join(page.text.split())
    assert "which value is black" in text
    assert "values of the samples of as many training images" in text
    assert any("How the values are spread" in (a["aria-label"] or "") for a in page.all("svg"))
    heights = " ".join(
        Page(render(dataclasses.replace(story(), channels=[channel(is_shaded=False)]))).text.split()
    )
    assert "which value is black" not in heights
    assert "Lower edge -1.5, upper edge 2.5" in heights
    gone = Page(render(dataclasses.replace(story(), channels=[channel(training=())]))).text
    assert "of as many training" not in gone


@pytest.mark.parametrize("noun", [POINTS, SIGNALS, VOLUMES])
def test_the_page_calls_samples_by_their_name(noun: Noun) -> None:
    line = {"step": 400, "training_loss": 0.02, "held_out_loss": 0.021}
    line |= {"gap_standard_error": 0.0002, "compared_images": 180}
    told = dataclasses.replace(
        story(), noun=noun, metrics=[*rows(), line], gap=loss_gap([line]), next_words="", channels=[channel()]
    )
    page = Page(render(told))
    words = " ".join([page.text, *(str(value) for _, a in page.tags for value in a.values())])
    assert not re.findall(r"\bimages?\b(?![/-])", words.replace("image/", ""))
    text = " ".join(page.text.split())
    assert f"From {noun.one} to noise" in text
    assert f"dissolves {noun.a} in noise" in text
    assert f"{noun.many.capitalize()} per second" in text
    assert f"On 180 {noun.many} of each" in text


def test_wide_pictures_stand_one_above_the_other() -> None:
    wide = [
        Neighbour(
            png=png(1, width=20), nearest_png=png(2, width=20), ratio=0.9, caption="a", nearest_caption="b"
        )
    ]
    copying = Copying(samples=wide, sample_rate=0.0, sample_ratios=[0.9])
    page = Page(render(dataclasses.replace(story(), copying=copying)))
    assert [a["class"] for a in page.all("div") if "pairs" in (a.get("class") or "")] == ["pairs wide"]
    assert "each above its nearest training image" in page.text
    assert "each beside its nearest training image" in Page(render(story())).text
