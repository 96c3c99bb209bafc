"""What one may ask of data when opening them."""

from dataclasses import dataclass
from pathlib import Path

from kakusan.errors import SettingsError

BAD_SHARE = 0.01


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
    levels: int | None = None
    """Of uint8 arrays: how many values there are, 0..levels-1; None: what the file says, or 256."""
    bad_share: float = BAD_SHARE
    """Of a folder's images: more than this share unreadable (and more than one) is an error."""
    cache: Path | None = None
    """A folder for the decoded images of image folders, memory-mapped; None: they are held in memory."""

    def __post_init__(self) -> None:
        sides = self.height_and_width
        if sides is not None and min(sides) < 1:
            raise SettingsError(f"a size is at least 1 pixel, not {self.size}")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise SettingsError(f"a data range goes from low to high, not {self.range[0]} to {self.range[1]}")
        if self.channels is not None and self.channels < 1:
            raise SettingsError(f"there is at least 1 channel, not {self.channels}")
        if self.levels is not None and not 2 <= self.levels <= 256:
            raise SettingsError(f"levels must be 2 to 256, not {self.levels}")

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        return (self.size, self.size) if isinstance(self.size, int) else self.size
