"""Decoded images of a folder, kept on disk between runs: a .npy file, and a .json file that says of what.

There is one pair of files for each folder and form. It is stale, and made anew, as soon as a file of the
folder has another name, size or time, or the rules of decoding have changed.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings, given
from kakusan.data.dataset import BadFile
from kakusan.errors import SettingsError

RULES = 1
"""To be raised with every change of what decoding yields."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """A folder's images, the file each comes from, and what is to be said of the others."""

    images: NDArray[np.uint8]
    names: tuple[str, ...]
    bad: tuple[BadFile, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CacheFile:
    """The cache file of the decoded images of one folder, in one form."""

    path: Path
    key: str

    @classmethod
    def of(cls, cache: Path, root: Path, options: DataSettings, listing_key: str) -> "CacheFile":
        """Raises SettingsError if the cache would lie in the data."""
        cache = cache.expanduser().resolve()
        if cache.is_relative_to(root):
            raise SettingsError(
                f"the cache {cache} lies inside of the data", "choose a folder outside of them"
            )
        form = f"{root}\0{options.height_and_width}\0{given(options.channels)}"
        name = f"{root.name}-{hashlib.sha256(form.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}.npy"
        return cls(cache / name, f"{RULES} {PIL.__version__} {listing_key}")

    def load(self) -> Decoded | None:
        """The cached images, or None if there are none, or they are stale or damaged."""
        if not (self._about.is_file() and self.path.is_file()):  # a pipe would block whoever opens it
            return None
        try:
            about = json.loads(self._about.read_text(encoding="utf-8"))
            if about["key"] != self.key:
                return None
            images = np.load(self.path, mmap_mode="r", allow_pickle=False)
            bad = tuple(BadFile(name, reason) for name, reason in about["bad"])
            decoded = Decoded(images, tuple(about["names"]), bad, tuple(about["notes"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        is_whole = images.ndim == 4 and images.dtype == np.uint8 and len(images) == len(decoded.names)
        return decoded if is_whole else None

    def forget(self) -> None:
        """Before the images are written: their description must never be older than they are."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._about.unlink(missing_ok=True)

    def describe(self, decoded: Decoded) -> None:
        """After the images are written."""
        about = {
            "key": self.key,
            "names": decoded.names,
            "bad": [(file.name, file.reason) for file in decoded.bad],
            "notes": decoded.notes,
        }
        self._about.write_text(json.dumps(about), encoding="utf-8")

    @property
    def _about(self) -> Path:
        return self.path.with_suffix(".json")
