"""The two pages of the derivation hold what they say: every equation has its function or its test, every name and link
leads somewhere, every figure is computed anew, and English and Japanese tell the same.

The rule: a function is the function of an equation if and only if the first paragraph of its docstring ends with
"Eq. (n)."; all other docstrings mention equations in other words.
"""

import ast
import importlib
import inspect
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from documents import FENCE as BLOCK
from documents import blocks
from torch import Tensor

from kakusan.config.settings import CheckpointSettings, DataSettings
from kakusan.diffusion.forward import posterior_variance, step_variance
from kakusan.diffusion.gaussians import Gaussian
from kakusan.diffusion.likelihood import BITS, prior_term
from kakusan.diffusion.schedules import Cosine, Linear, NoiseSchedule
from kakusan.diffusion.variances import SIGMA_1
from kakusan.evaluation.diagnosis.done import MATTERS
from kakusan.networks import UNet
from kakusan.pages.explain.equations import EQUATIONS as EXPLAINED
from kakusan.samplers import SAMPLERS
from kakusan.samplers.auto import CALLS, NOISE, NOISY_FROM
from kakusan.training.ema import EMA
from kakusan.training.losses import Hybrid, MinSNR, eps_weight
from kakusan.training.stopping import IN_A_ROW, PATIENCE, WORTHWHILE
from kakusan.training.timesteps import REMEMBERED

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PAGES = {"en": ROOT / "docs" / "derivation.md", "ja": ROOT / "docs" / "derivation.ja.md"}

EQUATIONS = range(1, 14)
IDENTITIES = {2, 6, 9, 10}
KINDS = {"definition": "Function", "定義": "Function", "identity": "Test", "恒等式": "Test"}
PREFIXES = {"Function": "Function", "関数": "Function", "Test": "Test", "テスト": "Test"}
OWN = re.compile(r"Eq\. \((\d+)\)\.$")

DISPLAY = re.compile(r"^\$\$\n(.*?)\n\$\$$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"\$([^$\n]+)\$")
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
CODE = re.compile(r"`([^`\n]+)`")

every_page = pytest.mark.parametrize("language", PAGES)


@cache
def page(language: str) -> str:
    return PAGES[language].read_text("utf-8")


def without_formulas(text: str) -> str:
    """Prose, links and names."""
    return INLINE.sub("", DISPLAY.sub("", FENCE.sub("", text)))


# Equations


@dataclass(frozen=True)
class Claim:
    """What a page says of an equation: that a function computes it, or that a test holds it."""

    number: int
    kind: str
    name: str
    target: str


@cache
def claims(language: str) -> tuple[Claim, ...]:
    """In the order of the page: the line that follows each numbered equation."""
    words = "|".join(PREFIXES)
    pattern = re.compile(
        rf"\\tag\{{(\d+)\}}\n\$\$\n\n\*\*({words}):\*\* \[`([^`]+)`\]\(([^)]+)\)$", re.MULTILINE
    )
    return tuple(
        Claim(int(number), PREFIXES[word], name, target)
        for number, word, name, target in pattern.findall(page(language))
    )


def tags(language: str) -> list[int]:
    return [int(number) for number in re.findall(r"\\tag\{(\d+)\}", page(language))]


@cache
def docstrings() -> dict[str, str]:
    """The first paragraph of each function, method and class of the library; "" where it has no docstring."""
    found = {}
    for path in sorted((SOURCE / "kakusan").rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for name, node in _defined(ast.parse(path.read_text("utf-8")), module):
            paragraph = (ast.get_docstring(node) or "").split("\n\n")[0]
            found[name] = " ".join(paragraph.split())
    return found


Defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _defined(tree: ast.AST, within: str) -> Iterator[tuple[str, Defined]]:
    for node in ast.iter_child_nodes(tree):
        inside = within
        if isinstance(node, Defined):
            inside = f"{within}.{node.name}"
            yield inside, node
        yield from _defined(node, inside)


def resolved(name: str) -> object:
    """The object of a dotted name. Raises ImportError or AttributeError where there is none."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return found
    raise ImportError(name)


def functions_of(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    }


def linked(language: str, target: str) -> Path:
    return (PAGES[language].parent / target.partition("#")[0]).resolve()


@every_page
def test_each_equation_has_one_tag_and_names_one_function_or_one_test(language: str) -> None:
    assert tags(language) == list(EQUATIONS)
    assert [claim.number for claim in claims(language)] == list(EQUATIONS)
    for claim in claims(language):
        assert claim.kind == ("Test" if claim.number in IDENTITIES else "Function"), claim


@every_page
def test_each_definition_is_a_function_that_can_be_imported_and_says_so(language: str) -> None:
    for claim in claims(language):
        if claim.kind == "Function":
            function = resolved(claim.name)
            assert inspect.isfunction(function)
            paragraph = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
            assert paragraph.endswith(f"Eq. ({claim.number})."), claim


@every_page
def test_each_identity_is_a_test_that_exists(language: str) -> None:
    for claim in claims(language):
        if claim.kind == "Test":
            assert claim.name.startswith("test_")
            assert claim.name in functions_of(linked(language, claim.target)), claim


def test_no_other_docstring_claims_an_equation() -> None:
    claimed = {name: int(own[1]) for name, first in docstrings().items() if (own := OWN.search(first))}
    assert claimed == {claim.name: claim.number for claim in claims("en") if claim.kind == "Function"}


@every_page
def test_the_table_at_the_end_says_the_same_as_the_text(language: str) -> None:
    row = re.compile(
        r"^\| \[\((\d+)\)\]\((#[^)]+)\) \| [^|]+ \| (\S+) \| \[`([^`]+)`\]\(([^)]+)\) \|$", re.MULTILINE
    )
    rows = row.findall(page(language))
    assert [Claim(int(number), KINDS[kind], name, target) for number, _, kind, name, target in rows] == list(
        claims(language)
    )
    for number, anchor, *_ in rows:
        assert anchor.startswith(f"#{number}-")


# English and Japanese


def displays(language: str) -> list[str]:
    """The formulas that stand by themselves, without the words in them."""
    return [re.sub(r"\\text\{[^}]*\}", r"\\text", formula) for formula in DISPLAY.findall(page(language))]


def headings(language: str) -> list[tuple[str, str]]:
    return re.findall(r"^(#+) (.+)$", FENCE.sub("", page(language)), re.MULTILINE)


def test_both_languages_have_the_same_equations_functions_and_tests() -> None:
    assert claims("en") == claims("ja")
    assert displays("en") == displays("ja")


def test_both_languages_say_to_type_the_same() -> None:
    """Commands and Python but for their comments; pseudocode is in words."""
    for name in ("", "python"):
        codes = [[uncommented(block) for block in blocks(PAGES[language], name)] for language in PAGES]
        if not name:
            codes = [[code for code in each if "kakusan" in code] for each in codes]
        assert codes[0] == codes[1]
    assert len(BLOCK.findall(page("en"))) == len(BLOCK.findall(page("ja")))


def uncommented(block: str) -> list[str]:
    """The lines of a block, of their comments the values of expressions alone."""
    return [re.sub(r" +# (True(?=:|$)|-?[\d.]+(?=:|$))?.*", r"  # \1", line) for line in block.splitlines()]


def test_titles_are_those_of_explain() -> None:
    explained = [equation for equation in EXPLAINED if equation.number in EQUATIONS]
    assert len(explained) == len(EQUATIONS)
    for equation in explained:
        for language, title in (("en", equation.title), ("ja", equation.term)):
            assert f"({equation.number}) {title}" in [found for _, found in headings(language)]


# Python


@every_page
def test_the_python_of_the_page_runs_and_gives_the_values_that_stand_behind_it(language: str) -> None:
    names: dict[str, object] = {}
    compared = 0
    for block in blocks(PAGES[language], "python"):
        lines = block.splitlines()
        for statement in ast.parse(block).body:
            code = "\n".join(lines[statement.lineno - 1 : statement.end_lineno])
            said = re.search(r"  # (True|-?\d[\d.]*)(?=$|:)", code)
            if said is None or not isinstance(statement, ast.Expr):
                exec(code, names)
                continue
            value = float(eval(code, names))
            assert value == 1 if said[1] == "True" else float(f"{value:.3g}") == float(said[1]), code
            compared += 1
    assert compared >= 10


def test_the_picture_of_the_chain_is_what_its_script_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    __import__("chain_picture")
    assert (ROOT / "docs" / "chain.svg").read_text("utf-8") == sys.modules["chain_picture"].svg()


def test_both_languages_have_the_same_sections_and_links() -> None:
    levels = [
        [(mark, re.match(r"\(\d+\)|", title)) for mark, title in headings(language)] for language in PAGES
    ]
    english, japanese = ([(mark, start[0] if start else "") for mark, start in part] for part in levels)
    assert english == japanese
    names = [
        sorted(name for name, target in LINK.findall(page(language)) if target.startswith("../"))
        for language in PAGES
    ]
    assert names[0] == names[1]


# Names and links


def anchors(language: str) -> set[str]:
    """As GitHub makes them of headings."""
    kept = (re.sub(r"[^\w\- ]", "", title.lower()) for _, title in headings(language))
    return {"#" + title.replace(" ", "-") for title in kept}


@every_page
def test_every_link_leads_somewhere(language: str) -> None:
    for text, target in LINK.findall(without_formulas(page(language))):
        if target.startswith("#"):
            assert target in anchors(language), target
            continue
        path = linked(language, target)
        assert path.is_file(), target
        assert path.is_relative_to(ROOT), target
        if text.startswith("`test_"):
            assert text.strip("`") in functions_of(path), text
        elif text.startswith("`kakusan."):
            assert path == _home(text.strip("`")), text


def _home(name: str) -> Path:
    """The file of the module that a dotted name begins with."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        return Path(str(module.__file__)).resolve()
    raise ImportError(name)


@every_page
def test_every_name_in_backticks_is_one_of_the_library_or_of_its_tests(language: str) -> None:
    tests = {name for path in (ROOT / "tests").rglob("test_*.py") for name in functions_of(path)}
    for name in CODE.findall(without_formulas(page(language))):
        if name.startswith(("kakusan ", "--")):
            continue  # a command or a flag: test_commands
        bare = name.partition("(")[0]
        if bare.startswith("kakusan."):
            assert resolved(bare) is not None, name
        else:
            assert bare in tests or any(known.endswith(f".{bare}") for known in docstrings()), name


@every_page
def test_every_name_of_the_library_is_a_link(language: str) -> None:
    linked_names = {text.strip("`") for text, _ in LINK.findall(page(language))}
    for name in CODE.findall(without_formulas(page(language))):
        assert name in linked_names or name.startswith(("kakusan ", "--")), name


# What GitHub makes of it


@every_page
def test_formulas_hold_nothing_that_github_would_take_for_markdown(language: str) -> None:
    text = FENCE.sub("", page(language))
    assert text.count("$$") == 2 * len(DISPLAY.findall(text))
    for formula in [*DISPLAY.findall(text), *INLINE.findall(DISPLAY.sub("", text))]:
        assert not re.search(r"(?<![0-9A-Za-z])_", formula), f"may begin an emphasis: {formula}"
        assert not re.search(r"[*<>~|`#]|\]\(", formula), formula
        assert not re.search(r"\\[^A-Za-z]", formula.replace("\\\\\n", "")), f"loses a backslash: {formula}"
        for left, right in (("{", "}"), (r"\left", r"\right")):
            assert formula.count(left) == formula.count(right), formula
    for formula in DISPLAY.findall(text):
        assert not re.search(r"^\s*([-+] |=+$|\d+[.)] |$)", formula, re.MULTILINE), (
            f"begins a list: {formula}"
        )
    assert all(line.count("$") % 2 == 0 for line in text.split("\n")), "a formula goes over the end of a line"
    for before, after in re.findall(r"(.|^)\$[^$\n]+\$(.|$)", DISPLAY.sub("", text), re.MULTILINE):
        assert before in ("", " "), f"no formula is seen right after {before!r}"
        assert not re.match(r"[0-9A-Za-z]", after)


@every_page
def test_formulas_by_themselves_stand_between_empty_lines(language: str) -> None:
    lines = page(language).split("\n")
    fences = [number for number, line in enumerate(lines) if line == "$$"]
    for start, stop in zip(fences[::2], fences[1::2], strict=True):
        assert lines[start - 1] == lines[stop + 1] == ""


# Figures


SCHEDULE = Linear(T=1000)
OTHER = Cosine(T=1000)
SHOWN_TIMES = (1, 2, 10, 100, 500, 1000)


def shown(value: float) -> str:
    """Three digits: 0.0102, 9999, 4.04 \\cdot 10^{-5}. What is nearly 1 is not called 1."""
    if 0.99 < value < 1:
        return f"{value:.5f}".rstrip("0") if value < 0.999995 else f"1 - {shown(1 - value)}"
    if value == 0 or 1e-3 <= value < 1e3:
        return f"{value:.3g}"
    if value >= 1e3:
        return f"{value:.0f}"
    digits, _, power = f"{value:.2e}".partition("e")
    factor = f"{float(digits):g} \\cdot " if float(digits) != 1 else ""
    return f"{factor}10^{{{int(power)}}}"


READ = json.loads((ROOT / "benchmarks" / "bits.json").read_text("utf-8"))
"""The figures of docs/bits.png, by the variance."""


def at(table: Tensor, t: int) -> float:
    return float(table[t])


@dataclass(frozen=True)
class Figures:
    """One schedule in numbers; tables begin at t = 0."""

    beta: Tensor
    alpha_bar: Tensor
    snr: Tensor
    beta_tilde: Tensor
    weight: Tensor
    constant: Tensor


@cache
def figures(schedule: NoiseSchedule = SCHEDULE) -> Figures:
    """From the functions of the library, at every t. The weight and C are those of sigma^2 = beta, C in bits."""
    t = torch.arange(1, schedule.T + 1).double()
    beta, beta_tilde = step_variance(schedule, t, t - 1), posterior_variance(schedule, t, t - 1)
    mean = torch.zeros(len(t), 1, dtype=torch.float64)
    with_0 = [
        torch.cat([torch.zeros(1, dtype=torch.float64), column.flatten()])
        for column in (
            beta_tilde,
            eps_weight(schedule, beta, t),
            Gaussian(mean, beta_tilde[:, None]).kl(Gaussian(mean, beta[:, None])) * BITS,
        )
    ]
    alpha_bar = schedule.alpha_bar
    return Figures(schedule.beta, alpha_bar, alpha_bar / (1 - alpha_bar), *with_0)


def row(t: int, schedule: NoiseSchedule = SCHEDULE) -> str:
    """A line of the table of figures."""
    f = figures(schedule)
    alpha_bar = at(f.alpha_bar, t)
    values = [
        at(f.beta, t),
        alpha_bar,
        math.sqrt(alpha_bar),
        math.sqrt(1 - alpha_bar),
        at(f.snr, t),
        at(f.beta_tilde, t) / at(f.beta, t),
        at(f.weight, t),
    ]
    constant = at(f.constant, t)
    tiny = r"\lt 10^{-9}" if constant < 1e-9 else shown(constant)  # below, rounding has its say
    cells = [f"${cell}$" for cell in (t, *map(shown, values), tiny)]
    return "| " + " | ".join(cells if t > 1 else [*cells[:-1], "–"]) + " |"


def rows() -> list[str]:
    """Both tables."""
    return [row(t, schedule) for schedule in (SCHEDULE, OTHER) for t in SHOWN_TIMES]


@cache
def sentences() -> tuple[str, ...]:
    """Every figure in the text, in its formula; these are the same in both languages."""
    f = figures()
    one, end = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.tensor([1000.0, 980.0], dtype=torch.float64)
    root = math.sqrt(at(f.alpha_bar, 1000))
    sigma_1 = SIGMA_1["beta~_2"](SCHEDULE, *_last_step())
    twenty_steps = float(step_variance(SCHEDULE, end[:1], end[1:]))
    even = int((f.snr < 1).nonzero()[0])
    last_capped = int((f.snr > MinSNR().gamma).nonzero()[-1])
    constant = round(
        1 - at(f.alpha_bar, 1000) ** (1 / 1000), 2
    )  # the constant beta that ends as the linear schedule
    kept = (1 - constant) ** torch.arange(1001, dtype=torch.float64)
    return (
        rf"\beta_t = {constant:g}",
        rf"\sqrt{{{constant:g}}} \cdot 127.5 = {math.sqrt(constant) * 255 / 2:g}",
        rf"$t = {int((kept < 0.5).nonzero()[0])}$",
        rf"\beta_t = {at(f.beta, 1):.4f}",
        rf"\sum_{{t=1}}^{{1000}} \beta_t = {float(f.beta.sum()):.4g}",
        rf"\beta_1 = {at(f.beta, 1):.4f}",
        rf"\beta_{{1000}} = {shown(at(f.beta, 1000))}",
        rf"$t = {even}$",
        rf"\bar\alpha_{{1000}} \approx {shown(at(f.alpha_bar, 1000))}",
        rf"\sqrt{{\bar\alpha_{{1000}}}} \approx {shown(root)}",
        rf"\tilde\beta_2 / \beta_2 \approx {shown(at(f.beta_tilde, 2) / at(f.beta, 2))}",
        rf"\tilde\beta_{{100}} / \beta_{{100}} \approx {shown(at(f.beta_tilde, 100) / at(f.beta, 100))}",
        *(rf"L_T \approx {shown(float(prior_term(each, one)) * BITS)}" for each in (SCHEDULE, OTHER)),
        rf"\frac{{1}}{{d \log 2}} \sum_{{t=2}}^{{1000}} C_t \approx {shown(float(f.constant[2:].sum()))}",
        *(rf"${shown(at(f.weight, t))}$" for t in (1, 2, 1000)),
        rf"\sqrt{{\beta_1}} \cdot 127.5 = {math.sqrt(at(f.beta, 1)) * 255 / 2:.4g}",
        rf"\tilde\beta_2 \approx {shown(float(sigma_1))}",
        rf"\log_2 256 = {math.log(256) * BITS:g}",
        rf"1 - \bar\alpha_{{1000}} / \bar\alpha_{{980}} \approx {shown(twenty_steps)}",
        rf"20 \cdot {shown(at(f.beta, 1000))} = {shown(20 * at(f.beta, 1000))}",
        rf"L_{{\mathrm{{simple}}}} + {Hybrid().share:g} L_{{\mathrm{{VLB}}}}",
        rf"\gamma = {MinSNR().gamma:g}",
        rf"$t = {last_capped}$",
        *more_sentences(),
    )


@cache
def more_sentences() -> tuple[str, ...]:
    """Figures of the divergence, of the cosine schedule, of a picture and of other pages."""
    f, cosine, large = figures(), figures(OTHER), READ["fixed-large"]
    end, ten = at(cosine.snr, 1000), torch.full((1, 1), 10.0, dtype=torch.float64)
    zero, one = torch.zeros_like(ten), torch.ones_like(ten)
    costs = [float(Gaussian(zero, one).kl(Gaussian(zero, variance))) for variance in (ten, 1 / ten)]
    tail = large["bits_per_dim"] - large["rate"]["150"]
    return (
        *(f"${shown(cost)}$" for cost in costs),
        rf"\mathrm{{SNR}}(1000) \approx {shown(end)}",
        rf"1 / \sqrt{{\mathrm{{SNR}}}} \approx {shown(end**-0.5)}",
        f"{at(f.snr, 1000) ** -0.5:.0f}",
        rf"$t = {int((cosine.snr > MinSNR().gamma).nonzero()[-1])}$",
        *(f"${shown(READ[variance]['bits_per_dim'])}$" for variance in ("fixed-large", "fixed-small")),
        f"${shown(large['bits_by_t']['2'])}$",
        f"$C_2 = {shown(at(cosine.constant, 2))}$",
        f"${shown(float(cosine.constant[2:].sum()))}$",
        f"${large['distortion']['150']:.3f}$",
        f"${shown(large['rate']['150'])}$",
        f"${shown(tail)}$",
        *(f"${figure}$" for figures_there in QUOTED.values() for figure in figures_there),
        f"{sum(p.numel() for p in UNet(channels=3).parameters()) / 1e6:.1f}",
    )


QUOTED = {
    "README.md": ("3.089", "3.197", "2.799", "2.831"),
    "docs/recipe.md": ("5.6", "3.15", "4.183", "3.854"),
}
"""Figures that another page measures."""


def test_figures_of_other_pages_stand_there() -> None:
    for name, there in QUOTED.items():
        text = (ROOT / name).read_text("utf-8")
        assert all(figure in text for figure in there)
    clipped, not_clipped = (
        float(re.search(rf"\| fixed-small{words} \|.*?\| ([\d.]+) ±", README)[1])  # type: ignore[index]
        for words in ("", ", x_0 not clipped")
    )
    assert not_clipped - clipped == pytest.approx(0.2, abs=0.025)  # "a fifth of a bit"


README = (ROOT / "README.md").read_text("utf-8")


def test_the_picture_of_the_bound_is_as_it_is_read() -> None:
    large, small = READ["fixed-large"], READ["fixed-small"]
    cosine = figures(OTHER)
    assert (large["data"], large["schedule"], large["levels"], large["T"]) == ("kanji", "cosine", 2, 1000)
    for t in (2, 3, 10, 30):  # "nearly all C_t"
        assert 0.8 < at(cosine.constant, t) / large["bits_by_t"][str(t)] < 1.01
    assert large["bits_by_t"]["500"] > 5 * large["bits_by_t"]["150"]  # "the hump"
    for read in (large, small):
        assert f"{read['bits_per_dim']:.3f} ± {read['standard_error']:.3f}" in README
    assert large["bits_per_dim"] - small["bits_per_dim"] > 0.85 * float(cosine.constant[2:].sum())


@every_page
def test_every_figure_is_what_the_library_computes(language: str) -> None:
    for sentence in sentences():
        assert sentence in page(language), sentence
    for line in rows():
        assert line in page(language)


@every_page
def test_there_are_no_other_figures(language: str) -> None:
    figure = re.compile(r"(?:\d+(?:\.\d+)? \\cdot )?10\^\{-?\d+\}|\d+\.\d+")
    known = {number for text in (*sentences(), *rows()) for number in figure.findall(text)}
    sections = r"section 4\.3|4\.3 節"
    assert set(figure.findall(re.sub(sections, "", FENCE.sub("", page(language))))) <= known


def test_what_the_text_says_of_its_figures_in_words_is_so() -> None:
    f = figures()
    assert 0.5 < float(f.constant[2:4].sum() / f.constant[2:].sum()) < 0.55  # "a little more than half"
    assert f.weight[1:].argmax() == 0  # "cares most for the faintest noise"
    assert (f.beta_tilde[1:] < f.beta[1:]).all()
    assert 0.39 < float(f.beta[981:].sum()) < 0.4  # "close to"
    assert (f.snr[1:].diff() < 0).all()
    shares = [float((each.snr[1:] < 1).double().mean()) for each in (f, figures(OTHER))]
    assert shares == pytest.approx([0.74, 0.5], abs=0.01)  # "three quarters", "half of its levels"
    assert at(f.beta, 1000) / at(f.beta, 1) == pytest.approx(200)  # "two hundred times as large"
    assert (1 - at(f.beta, 1)) ** 500 > 0.95  # "most of the image": sqrt(alpha_bar_1000) of a constant beta_1
    assert REMEMBERED == 10  # "the last ten losses"
    assert DataSettings().condition_dropout == 0.1  # "one training sample in ten"
    assert (CALLS, NOISY_FROM, NOISE, len(SAMPLERS)) == (
        10,
        8,
        0.5,
        12,
    )  # "ten calls", "from eight", "half", "eleven"
    assert (MATTERS, WORTHWHILE, PATIENCE, IN_A_ROW) == (1.0, 0.01, 0.25, 3)
    assert (CheckpointSettings().every, CheckpointSettings().minutes) == (1000, 5.0)
    assert EMA(torch.nn.Linear(1, 1), 0.999).decay_at(0) == 0.1  # "a tenth at first"
    short = Linear(T=1, beta_1=0.25)
    assert (
        float(SIGMA_1["beta~_2"](short, *_last_step())) == 0.25
    )  # "at T = 1 there is no beta~_2, and it is beta_1"


def _last_step() -> tuple[Tensor, Tensor]:
    return torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
