"""Options of paths, schedules, losses and samplers: each is a flag, reaches its part, and is refused by the others."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest

from kakusan.cli import main
from kakusan.cli.mistakes import flags_of
from kakusan.cli.sample import Sample
from kakusan.cli.sampler_options import own_options, with_sampler
from kakusan.config.documented import docstrings
from kakusan.config.facts import DataFacts
from kakusan.config.loading import from_mapping, to_mapping
from kakusan.config.own_options import extended
from kakusan.config.resolve import resolve
from kakusan.config.section import Of, options, ranges
from kakusan.config.settings import ProcessSettings, TrainingSettings
from kakusan.diffusion.schedules import Given, NoiseSchedule
from kakusan.diffusion.tables import PATHS, SCHEDULES
from kakusan.errors import SettingsError
from kakusan.samplers import SAMPLERS
from kakusan.training.build import GIVEN, build_path
from kakusan.training.launch import upgraded
from kakusan.training.tables import LOSSES

FACTS = DataFacts((1, 8, 8), is_levels=True, count=100)
TABLES: dict[tuple[str, str], Mapping[str, Any]] = {
    ("process", "path"): PATHS,
    ("process", "schedule"): {**SCHEDULES, GIVEN: Given},
    ("training", "loss"): {name: type(loss) for name, loss in LOSSES.items()},
}
"""By section and choice: what its names stand for."""
ENTRIES = [(section, choice, name) for (section, choice), table in TABLES.items() for name in table]
SECTIONS: dict[str, type] = {"process": ProcessSettings, "training": TrainingSettings}
NUMBERS = [
    (section, name, of)
    for section, kind in SECTIONS.items()
    for name, of in options(kind).items()
    if name in ranges(kind) or name.startswith("beta")
]
"""Options that are numbers, with what they belong to."""


def having(section: str, choice: str, name: str) -> dict[str, Of]:
    """The options of a section where this is chosen: declared, or brought by its class."""
    kind: type = type(extended(SECTIONS[section](), {choice: name}))
    return options(kind)


def unusual(section: str, name: str) -> Any:
    """A value in the range of an option, and not the usual one."""
    low, high = ranges(SECTIONS[section]).get(name, (0.0, 0.5))
    return [0.1] * 1000 if name == "betas" else min(max(0.123, low + 0.1), high)


@pytest.mark.parametrize(("section", "choice", "name"), ENTRIES)
def test_every_field_of_a_part_is_a_setting_that_reaches_it(section: str, choice: str, name: str) -> None:
    part = TABLES[section, choice][name]
    if part is NoiseSchedule:  # whose options are those of the schedules
        return
    own = {each.name for each in fields(part) if each.init and each.name != "T"}
    marks = having(section, choice, name).items()
    marked = {of.called or key for key, of in marks if of.choice == choice and name in of.kinds}
    assert own == marked, f"config/settings.py declares {name}, and not each of its options, marked with Of"


@pytest.mark.parametrize(("section", "choice", "name"), ENTRIES)
def test_the_help_names_every_entry_and_shows_the_options_of_the_chosen_one_alone(
    section: str, choice: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["train", f"--{section}.{choice}", name, "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert name in shown.partition(f"--{section}.{choice} ")[2].partition(" --")[0]
    for key, of in having(section, choice, name).items():
        if of.choice == choice:
            flag = re.search(rf"--{section}.{key.replace('_', '-')}[ ,]", shown)
            assert (flag is not None) == (name in of.kinds)


@pytest.mark.parametrize(("section", "name", "of"), NUMBERS)
def test_an_option_of_what_was_not_chosen_is_refused_and_not_written(section: str, name: str, of: Of) -> None:
    other = next(each for each in TABLES[section, of.choice] if each not in of.kinds)
    settings = from_mapping({section: {of.choice: other, name: unusual(section, name)}}, "here")
    with pytest.raises(
        SettingsError, match=rf"{section}.{name} belongs to {section}.{of.choice} {of.kinds[0]}"
    ):
        resolve(settings, FACTS)
    assert name not in to_mapping(from_mapping({section: {of.choice: other}}, "here"))[section]


@pytest.mark.parametrize(("section", "name", "of"), [each for each in NUMBERS if each[2].choice != "path"])
def test_an_option_chooses_where_the_choice_is_open(section: str, name: str, of: Of) -> None:
    resolved = resolve(from_mapping({section: {name: unusual(section, name)}}, "here"), FACTS)
    assert getattr(getattr(resolved, section), of.choice) == of.kinds[0]


def test_a_path_has_the_options_that_were_given() -> None:
    process = ProcessSettings(path="edm", sigma_min=0.01, sigma_max=50.0, rho=5.0, T=100)
    path: Any = build_path(process)
    assert (path.T, path.sigma_min, path.sigma_max, path.rho) == (100, 0.01, 50.0, 5.0)
    schedule: Any = build_path(ProcessSettings(schedule="sigmoid", start=0.0, tau=0.7, T=100))
    assert (schedule.start, schedule.end, schedule.tau) == (0.0, 3.0, 0.7)


def test_options_of_a_preset_yield_to_another_choice() -> None:
    preset = ProcessSettings(path="flow", schedule="linear", beta_1=0.01)
    assert preset.yielded(frozenset({"process.path"})) == ProcessSettings(path="flow")
    assert preset.yielded(frozenset({"process.beta_1"})).beta_1 == 0.01
    assert ProcessSettings(path="edm", rho=3.0).yielded(()).rho == 3.0


@pytest.mark.parametrize("name", SAMPLERS)
def test_options_of_a_sampler_are_flags_with_their_docstrings(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--sampler", name, "--help"]
    own = own_options(SAMPLERS[name])
    assert {each.replace("_", "-") for each in own} <= set(flags_of(with_sampler(Sample, arguments)))
    assert set(own) <= set(docstrings(SAMPLERS[name]))
    with pytest.raises(SystemExit):
        main(["sample", *arguments])
    shown = capsys.readouterr().out
    assert f"Denoising steps; default: {SAMPLERS[name].usual_steps() or 'all T'}." in shown
    for other, kind in SAMPLERS.items():
        assert other in shown
        for option in own_options(kind):
            flag = re.search(rf"--{option.replace('_', '-')}[ ,]", shown)
            assert (flag is not None) == (option in own)
            if option not in own:
                with pytest.raises(SettingsError, match=f"the {name} sampler has no --{option}"):
                    with_sampler(Sample, ["--sampler", name, f"--{option}", "1"])


def test_an_old_config_of_points_loses_the_options_of_the_unet_and_keeps_its_mistakes() -> None:
    config = {"network": {"kind": "mlp", "width": 8, "multipliers": [1], "heads": 1, "depht": 3}}
    assert upgraded(config, {})["network"] == {"kind": "mlp", "width": 8, "depht": 3}
    kept = {"network": {"kind": "unet", "multipliers": [1]}}
    assert upgraded(kept, {}) == kept
