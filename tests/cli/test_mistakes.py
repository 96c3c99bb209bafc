"""What is typed and is not there: one line that says so, and what to do."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import tyro

from kakusan.cli import COMMANDS, main
from kakusan.cli.arguments import parse
from kakusan.cli.evaluate import Evaluate
from kakusan.cli.instead import INSTEAD
from kakusan.cli.mistakes import flags_of
from kakusan.cli.sample import Sample
from kakusan.cli.train import Train
from kakusan.config.loading import flat
from kakusan.config.settings import Settings
from kakusan.errors import SettingsError


def told(line: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The words of a command that cannot be read."""
    assert main(line.split()) == 2
    words = capsys.readouterr()
    assert words.out == ""
    return words.err.splitlines()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train digits --wandb", ["kakusan train has no option --wandb", "read_json("]),
        ("train digits --gpus 2", ["no option --gpus", "--machine.device"]),
        ("train digits --lr 1e-3", ["no option --lr", "--training.learning-rate"]),
        ("sample runs/x --cfg=3", ["kakusan sample has no option --cfg", "--guidance of kakusan sample"]),
        ("sample runs/x --image-to-image", ["no option --image-to-image", "kakusan edit RUN --from"]),
        ("evaluate runs/x --fid", ["no option --fid", "evaluate RUN --distance"]),
        ("train digits --stepz 3", ["no option --stepz", "did you mean --steps?"]),
        ("train digits --batch-size 3", ["no option --batch-size", "did you mean --training.batch-size?"]),
        ("train digits --network.widht 3", ["no option --network.widht", "--network.width"]),
        ("train digits --weights-from x", ["no option --weights-from"]),
        ("train", ["kakusan train needs DATA", "such as: kakusan train kanji"]),
        ("sample runs/a runs/b", ["kakusan sample can do nothing with 'runs/b'"]),
        ("train digits --steps abc", ["--steps takes a whole number, not 'abc'"]),
        ("train digits --steps", ["--steps needs a whole number"]),
        ("train digits --training.minutes 5m", ["--training.minutes takes a number or auto, not '5m'"]),
        ("train digits --training.betas 0.9", ["--training.betas needs 2 numbers"]),
        (
            "sample runs/x --sampler ancestral --odd",
            ["--odd", "see: kakusan sample --sampler ancestral --help"],
        ),
        ("export runs/x", ["kakusan export needs TARGET", "such as: kakusan export runs/"]),
        (
            "sample runs/x --spacing odd",
            [
                "--spacing knows no 'odd'",
                "there are: entropic, karras, leading, linspace, log-snr, quadratic, trailing",
            ],
        ),
    ],
)
def test_a_mistake_is_named_first_and_then_the_way_out(
    line: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    problem, *advice = told(line, capsys)
    assert problem.startswith("error: ")
    assert words[0] in problem
    assert all(word in "\n".join(advice) for word in words[1:])
    assert advice[-1].startswith(f"  see: kakusan {line.split()[0]} ")
    assert advice[-1].endswith("--help")


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("inpaint", "kakusan edit RUN --from a.png --mask kept.png"),
        ("inpaint", "kakusan restore RUN"),
        ("super-resolution", "kakusan restore RUN --observed y.png"),
        ("tensorboard", "metrics.jsonl"),
        ("eval", "it is: kakusan evaluate RUN"),
        ("sampel", "did you mean: kakusan sample"),
        ("help nosuch", "see: kakusan --help"),
        ("help cfg-scale", "--guidance of kakusan sample"),
    ],
)
def test_a_command_that_is_not_there_is_answered_in_a_line(
    line: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    problem, *rest = told(line, capsys)
    assert problem == f"error: there is no command {line.split()[-1]!r}"
    assert len(rest) == 1
    assert advice in rest[0]


def test_help_of_a_command_is_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["help", "sample"])
    assert stop.value.code == 0
    assert "usage: kakusan sample" in capsys.readouterr().out


def test_what_is_here_is_not_sent_elsewhere() -> None:
    for kind in (Train, Sample, Evaluate):
        assert not set(flags_of(kind)) & set(INSTEAD)
    assert not set(COMMANDS) & set(INSTEAD)
    assert all("\n" not in line and len(line) <= 110 for line in INSTEAD.values())


def test_flags_are_those_that_can_be_typed() -> None:
    flags = set(flags_of(Train))
    assert {name.replace("_", "-") for name in flat(Settings())} - flags == {"data.source"}
    assert {"from", "run", "steps"} < flags
    assert not {"source", "weights-from"} & flags


def test_without_the_hook_of_the_parser_its_own_words_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @dataclass(frozen=True)
    class Plain:
        """A command."""

        run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
        """A folder."""

    with pytest.raises(SettingsError, match="kakusan plain needs RUN"):
        parse(Plain, [], "plain", ["kakusan plain a"])
    monkeypatch.delattr("tyro._errors.on_parse_error")
    with pytest.raises(SystemExit) as stop:
        parse(Plain, [], "plain", ["kakusan plain a"])
    assert stop.value.code == 2
    assert "RUN" in capsys.readouterr().err
