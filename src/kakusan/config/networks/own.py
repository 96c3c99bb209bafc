"""A module given to `kakusan.train` in Python: the record of it in a run. Nothing is built from this."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, NoReturn

import tyro

from kakusan.config.networks.base import WIDEST, NetworkOptions
from kakusan.config.section import Auto, Range
from kakusan.errors import SettingsError

if TYPE_CHECKING:
    from kakusan.networks.interface import Interface

OWN = "own"
RATE = 1e-3
"""AdamW's step for a network of which nothing is known."""


@dataclass(frozen=True)
class OwnOptions(NetworkOptions):
    """The network, a module given to `kakusan.train` in Python, which has no options here."""

    dimensions: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)

    kind: str = OWN
    width: Annotated[int | Auto, Range(1, WIDEST), tyro.conf.Suppress] = 1
    module: Annotated[str, tyro.conf.Suppress] = ""
    """The name of its class, for people. No code is ever looked up by it."""
    parameters: Annotated[int, tyro.conf.Suppress] = 0
    """Number of its parameters."""
    signature: Annotated[str, tyro.conf.Suppress] = ""
    """The SHA-256 of the names, types and shapes of its state, by which it is known again."""

    @property
    def usual_rate(self) -> float:
        return RATE

    def build(self, of: "Interface") -> NoReturn:  # noqa: ARG002
        raise SettingsError(
            "a network of kind own is a module, which only Python can give",
            "kakusan.train(data, network=module): see docs/python.md",
        )
