"""The options of each network: a frozen value that is the section [network] and builds what it describes.

A new network is its weights in `kakusan.networks`, its options in a file here, and a line in `NETWORKS`.
"""

from collections.abc import Collection

from kakusan.config.facts import KINDS, DataFacts
from kakusan.config.networks.base import NetworkOptions
from kakusan.config.networks.mlp import MLPOptions
from kakusan.config.networks.own import OWN, OwnOptions
from kakusan.config.networks.transformer import TransformerOptions
from kakusan.config.networks.unet import UNetOptions
from kakusan.config.section import AUTO, named
from kakusan.errors import SettingsError

__all__ = [
    "NETWORKS",
    "MLPOptions",
    "NetworkOptions",
    "TransformerOptions",
    "UNetOptions",
    "choose",
    "settled",
]

NETWORKS: dict[str, type[NetworkOptions]] = {
    "unet": UNetOptions,
    "mlp": MLPOptions,
    "transformer": TransformerOptions,
}
"""Options by the kind of network; of two that are for the same data, the first is what "auto" comes to."""


def choose(
    current: NetworkOptions, kind: str | None, options: Collection[str], where: str = ""
) -> NetworkOptions:
    """The network that is meant by a kind, where one is named, and by the names of options laid over the current one.

    Another kind than the current one begins with its defaults. Where none is named, the first kind that has all of the
    options is chosen. Raises SettingsError for options of another kind, or of no single one.
    """
    if kind is not None and kind != current.kind:
        current = named({AUTO: NetworkOptions, **NETWORKS, OWN: OwnOptions}, kind, "network.kind")()
    known = [name for name in options if any(name in other.names() for other in NETWORKS.values())]
    if current.kind == AUTO and not current.names().issuperset(known):
        return current.turned_into(_first_kind(known, where))
    for name in known:
        if name not in current.names():
            raise _belongs(name, current.kind, where)
    return current


def _first_kind(options: Collection[str], where: str) -> type[NetworkOptions]:
    """The first kind that has all of these options. Raises SettingsError where there is none."""
    for network in NETWORKS.values():
        if network.names().issuperset(options):
            return network
    own = next(name for name in options if name not in NetworkOptions.names())
    first = having(own)[0]
    other = next(name for name in options if name not in NETWORKS[first].names())
    raise _belongs(other, first, where)


def having(option: str) -> list[str]:
    """The kinds that have an option of this name."""
    return [kind for kind, network in NETWORKS.items() if option in network.names()]


def _belongs(option: str, kind: str, where: str) -> SettingsError:
    kinds = having(option)
    problem = f"network.{option}{where} belongs to {' and '.join(kinds)}, not to {kind}"
    return SettingsError(problem, "leave it out", *_advice(kinds))


def _advice(kinds: Collection[str]) -> tuple[str, ...]:
    return tuple(f"for {kind}: --network.kind {kind}" for kind in kinds)


def settled(network: NetworkOptions, facts: DataFacts) -> NetworkOptions:
    """The same, of the first kind that is for such data where none is chosen. Raises SettingsError for a misfit."""
    fitting = [kind for kind, each in NETWORKS.items() if facts.dimensions in each.dimensions]
    if network.kind == AUTO and fitting:
        network = network.turned_into(NETWORKS[fitting[0]])
    if facts.dimensions in network.dimensions:
        return network
    raise SettingsError(f"network.kind {network.kind} does not fit these data", *purposes())


def purposes() -> tuple[str, ...]:
    """The purpose of each kind: "unet is for signals, images, volumes"."""
    plural = [kind if kind.endswith("s") else f"{kind}s" for kind in KINDS]
    return tuple(
        f"{kind} is for {', '.join(plural[rank] for rank in network.dimensions)}"
        for kind, network in NETWORKS.items()
    )
