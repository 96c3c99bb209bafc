"""Checks of the sizes of a network, with the advice where they do not fit."""

import math
from collections.abc import Sequence

from kakusan.errors import SettingsError


def check_positive(**counts: int) -> None:
    """Each of these counts is at least 1."""
    for name, count in counts.items():
        if count < 1:
            raise SettingsError(f"{name} is {count}", f"{name} counts something: give 1 or more")


def check_sinusoids(width: int) -> None:
    """The width can carry the time as sines and cosines."""
    if width < 4 or width % 2:
        raise SettingsError(
            f"width is {width}", "give an even number of 4 or more: half are sines, half cosines"
        )


def check_frequencies(width: int, shift: float) -> None:
    """There are sines and cosines of ``width`` channels, and their frequencies are finite."""
    if not -math.inf < shift < width // 2:
        raise SettingsError(
            f"{width} channels have {width // 2} frequencies, too few for a frequency shift of {shift:g}",
            "give more channels to the first level, or a smaller shift",
        )


def check_multipliers(multipliers: tuple[int, ...]) -> None:
    """Each level has a width in units of the first one's."""
    if not multipliers or min(multipliers) < 1:
        raise SettingsError(
            f"multipliers are {multipliers}", "give one number of 1 or more for each level, such as (1, 2, 2)"
        )
    if multipliers[0] != 1:
        raise SettingsError(
            f"multipliers begin with {multipliers[0]}", "the first level has `width` channels: begin with 1"
        )


def check_levels(levels: list[int], groups: int) -> None:
    """Every level has channels that the groups share evenly."""
    check_positive(groups=groups)
    for level, channels in enumerate(levels):
        check_positive(channels=channels)
        check_shared(channels, "groups", groups, f"level {level}")


def check_attention(attention: Sequence[int], levels: list[int], heads: int, head_width: int) -> None:
    """The levels with attention exist, and its heads fit into their channels."""
    for level in attention:
        if not 0 <= level < len(levels):
            raise SettingsError(
                f"attention at level {level}, but there are {len(levels)} multipliers, hence levels",
                f"give levels from 0, the full resolution, to {len(levels) - 1}, the lowest",
            )
        check_heads(levels[level], heads, head_width, f"attention at level {level}")


def check_heads(channels: int, heads: int, head_width: int, where: str) -> None:
    """Heads share the channels evenly, or are no wider than all of them."""
    check_positive(heads=heads)
    if not head_width:
        check_shared(channels, "heads", heads, where)
    elif not 0 < head_width <= channels:
        raise SettingsError(
            f"{where}: {channels} channels hold no head of {head_width}",
            "give a smaller head width, or 0 to let the number of heads decide",
        )


def check_chances(dropout: float, classes: int) -> None:
    """The dropout is a probability below 1, and the number of classes no less than 0."""
    if not 0 <= dropout < 1:
        raise SettingsError(
            f"dropout is {dropout}", "it is the share of values set to zero: 0 or more, below 1"
        )
    if classes < 0:
        raise SettingsError(f"classes is {classes}", "give the number of labels, or 0 for a network without")


def check_shared(channels: int, name: str, count: int, where: str) -> None:
    """``count`` groups or heads share ``channels`` evenly."""
    if channels % count:
        divisors = [str(n) for n in range(1, min(channels, 64) + 1) if channels % n == 0]
        raise SettingsError(
            f"{where}: {channels} channels cannot be shared evenly by {count} {name}",
            f"{name} that fit there: {', '.join(divisors)}",
        )
