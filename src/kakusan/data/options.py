"""What one may ask of data when opening them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from kakusan.errors import SettingsError

BAD_SHARE = 0.01

Layout: TypeAlias = Literal["auto", "channels-last", "channels-first", "single-channel"]
"""Where the channels of an array stand: (n, h, w, c), (n, c, h, w), or nowhere: (n, h, w). Signals have no h."""
CHANNELS_LAST: Final = "channels-last"
CHANNELS_FIRST: Final = "channels-first"
SINGLE_CHANNEL: Final = "single-channel"
LAYOUTS = get_args(Layout)


@dataclass(frozen=True)
class DataOptions:
    """How data are read. The defaults suit any source."""

    size: int | tuple[int, int] | None = None
    """A side or (height, width) that images of a folder are brought to; None: their own where they agree."""
    labels: bool = False
    """Take classes from the subfolders of a folder, or from the labels of an array."""
    range: tuple[float, float] | None = None
    """Of float data: the values that become -1 and 1; None: fitted to mean 0 and deviation 1 per channel."""
    channels: int | None = None
    """1 (grey) or 3 (colour) for a folder; None: grey where all its images are."""
    layout: Layout = "auto"
    """Of an array file: where its channels stand; auto: by the rule of `data.layout`."""
    levels: int | None = None
    """Of arrays of whole numbers: how many values there are, 0..levels-1; None: what the file says, or 256."""
    bad_share: float = BAD_SHARE
    """Of a folder's images: more than this share unreadable (and more than one) is an error."""
    cache: Path | None = None
    """A folder for the decoded images of image folders, memory-mapped; None: they are held in memory."""
    write_cache: bool = True
    """Whether the cache is made where it is missing or stale; otherwise it is only read."""
    follow_links: bool = False
    """Of a folder: whether links to folders outside of a folder of images are followed."""

    def __post_init__(self) -> None:
        sides = self.height_and_width
        if sides is not None and min(sides) < 1:
            raise SettingsError(f"a size is at least 1 pixel, not {self.size}")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise SettingsError(f"a data range goes from low to high, not {self.range[0]} to {self.range[1]}")
        if self.channels is not None and self.channels < 1:
            raise SettingsError(f"there is at least 1 channel, not {self.channels}")
        if self.layout not in LAYOUTS:
            raise SettingsError(f"there is no layout {self.layout!r}", f"there are: {', '.join(LAYOUTS)}")
        if not 0 <= self.bad_share <= 1:
            raise SettingsError(f"a share of bad files is 0 to 1, not {self.bad_share}")
        if self.levels is not None and not 2 <= self.levels <= 256:
            raise SettingsError(
                f"levels must be 2 to 256, not {self.levels}", "they are counted: black and white are 2"
            )

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        return (self.size, self.size) if isinstance(self.size, int) else self.size
