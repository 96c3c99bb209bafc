"""What a network can be asked for, and the advice where it cannot."""

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


def check_widths(width: int, multipliers: tuple[int, ...], groups: int) -> None:
    """Every level has channels that the groups share evenly."""
    check_sinusoids(width)
    check_positive(groups=groups)
    if not multipliers or min(multipliers) < 1:
        raise SettingsError(
            f"multipliers are {multipliers}", "give one number of 1 or more for each level, such as (1, 2, 2)"
        )
    if multipliers[0] != 1:
        raise SettingsError(
            f"multipliers begin with {multipliers[0]}", "the first level has `width` channels: begin with 1"
        )
    for multiplier in multipliers:
        check_shared(width * multiplier, "groups", groups, f"width {width} times multiplier {multiplier}")


def check_attention(attention: tuple[int, ...], levels: list[int], heads: int) -> None:
    """The levels with attention exist, and their heads (and those of the middle) share the channels evenly."""
    check_positive(heads=heads)
    for level in attention:
        if not 0 <= level < len(levels):
            raise SettingsError(
                f"attention at level {level}, but there are {len(levels)} multipliers, hence levels",
                f"give levels from 0, the full resolution, to {len(levels) - 1}, the lowest",
            )
        check_shared(levels[level], "heads", heads, f"attention at level {level}")
    check_shared(levels[-1], "heads", heads, "attention in the middle")


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
