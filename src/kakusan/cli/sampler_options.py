"""The flags of a sampler: its own dataclass fields, their help the docstrings below them.

Samplers need torch, which takes a second to import. So --help alone does without them, and --sampler NAME --help shows
the options of this one.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import Field, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import tyro

from kakusan.cli.arguments import parse
from kakusan.cli.choices import asks_for_help, value_of
from kakusan.config.documented import docstrings, summary
from kakusan.config.section import AUTO
from kakusan.config.settings import CONSISTENCY
from kakusan.errors import SettingsError

if TYPE_CHECKING:
    from kakusan.run import Run
    from kakusan.samplers import Sampler

Command = TypeVar("Command")

USUAL = "ddim"


def parse_with_sampler(
    command: type[Command], arguments: Sequence[str], prog: str, examples: Sequence[str], usual: str = USUAL
) -> Command:
    """The command of these arguments, with the options of the sampler that they name, or of the usual one.

    Raises SettingsError as `parse` does, for a sampler that there is not, and for a flag that only others have.
    """
    name = value_of("--sampler", arguments)
    chosen = "" if name is None else f"--sampler {name}"
    return parse(with_sampler(command, arguments, usual), arguments, prog, examples, kind_chosen=chosen)


def with_sampler(command: type[Command], arguments: Sequence[str], usual: str = USUAL) -> type[Command]:
    """The command with the flags of the sampler that the arguments name, or of the usual one; none where that is auto.

    Raises SettingsError for a sampler that there is not, and for a flag that only others have.
    """
    name = value_of("--sampler", arguments)
    if name is None and asks_for_help(arguments):
        return command
    from kakusan.config.section import named
    from kakusan.samplers import SAMPLERS

    name = name or usual
    if name == AUTO:
        _refuse_others(name, [], arguments)
        return command
    kind = named(SAMPLERS, name, "--sampler")
    own = own_options(kind)
    _refuse_others(name, [*own], arguments)
    hints, words = get_type_hints(kind, include_extras=True), docstrings(kind)
    flags: list[Any] = [
        (each, Annotated[hints[each], tyro.conf.arg(help=words.get(each, f"Of {name}."))], field.default)
        for each, field in own.items()
    ]
    chosen, steps = ", ".join(SAMPLERS), kind.usual_steps() or "all T"
    kind_of_steps = get_type_hints(command)["steps"]
    flags += [
        ("sampler", Annotated[str, tyro.conf.arg(help=f"There are: {chosen}. {summary(kind)}")], name),
        ("steps", Annotated[kind_of_steps, tyro.conf.arg(help=f"Denoising steps; default: {steps}.")], None),
    ]
    return make_dataclass(
        command.__name__,
        flags,
        bases=(command,),
        frozen=True,
        kw_only=True,
        namespace={"__doc__": command.__doc__},
    )


def parse_for_run(
    command: type[Command], arguments: Sequence[str], prog: str, examples: Sequence[str]
) -> Command:
    """`parse_with_sampler` of a command about a run, whose own sampler is the usual one where it was distilled."""
    parsed = parse_with_sampler(command, arguments, prog, examples)
    run: Path = vars(parsed)["run"]
    if value_of("--sampler", arguments) is not None or not _is_distilled(run):
        return parsed
    return parse_with_sampler(command, [*arguments, "--sampler", CONSISTENCY], prog, examples)


def _is_distilled(run: Path) -> bool:
    """Whether a run's config.toml says so, as far as it can be read; quick, and without torch."""
    try:
        config = tomllib.loads((run / "config.toml").read_text("utf-8"))
    except (OSError, ValueError):  # said where the run is opened
        return False
    training = config.get("training")
    return isinstance(training, dict) and training.get("loss") == CONSISTENCY


def options_in(command: object, name: str) -> dict[str, Any]:
    """The sampler's own options that are given in a command of `with_sampler`."""
    values = {each: getattr(command, each) for each in own_flags(name)}
    return {each: value for each, value in values.items() if value is not None}


def own_flags(name: str) -> list[str]:
    """The names of the options that the sampler of this name has to itself; none of auto."""
    from kakusan.samplers import SAMPLERS

    return [] if name == AUTO else [*own_options(SAMPLERS[name])]


def sampler_of(command: object, run: "Run", usual: str = AUTO) -> "Sampler":
    """The sampler of a command's --sampler, --steps, --spacing and --times, as `Run.sampler` decides on them.

    Raises SettingsError for flags that contradict each other, and what `Run.sampler` raises.
    """
    given = {name: vars(command)[name] for name in ("sampler", "steps", "spacing", "times")}
    name, times = given["sampler"] or usual, given["times"]
    for flag in ("steps", "spacing"):
        if times is not None and given[flag] is not None:
            raise SettingsError(
                f"--{flag} and --times both say which times are visited", f"leave out --{flag}"
            )
    return run.sampler(
        name, steps=given["steps"], spacing=given["spacing"], at=times, **options_in(command, name)
    )


def own_options(kind: type[Any]) -> dict[str, Field[Any]]:
    """The fields of a sampler beyond those of all samplers."""
    from kakusan.samplers import Sampler

    common = {field.name for field in fields(Sampler)}
    return {field.name: field for field in fields(kind) if field.name not in common}


def _refuse_others(name: str, own: Sequence[str], arguments: Sequence[str]) -> None:
    from kakusan.samplers import SAMPLERS

    for argument in arguments:
        flag = argument.partition("=")[0]
        option = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
        having = [other for other, kind in SAMPLERS.items() if option in own_options(kind)]
        if flag.startswith("--") and having and option not in own:
            raise SettingsError(
                f"the {name} sampler has no {flag}", *(f"it belongs to --sampler {other}" for other in having)
            )
