"""Decompressed images on the disk: an array, or PNG files by their names."""

import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kakusan.data.rendering import encode_png, numbered
from kakusan.errors import SettingsError
from kakusan.evaluation.coding.container import Packed, names_in
from kakusan.evaluation.coding.reading import targets
from kakusan.storage import durable

IMAGE_AXES = 3


@dataclass(frozen=True, eq=False)
class Unpacked:
    """Images (n, ..., channels) of so many levels, and the paths of their files, if they have names."""

    images: NDArray[np.uint8]
    levels: int
    paths: tuple[PurePosixPath, ...]

    @classmethod
    def of(cls, packed: Packed, images: NDArray[np.uint8], name: str) -> "Unpacked":
        """images: (n, channels, ...), of a file of this name. Raises DataError where its names are none."""
        paths = targets(names_in(packed, name), name)
        return cls(np.moveaxis(images, 1, -1), packed.levels, tuple(paths))

    def save(self, out: Path) -> None:
        """Write an .npz, or a folder of .png. Raises RunError where the system refuses."""
        with durable.os_errors_as_run_errors(f"cannot write {out}", out.parent):
            durable.make_folders(out.parent)
            if out.suffix:
                durable.atomic_write(out, self._npz())
                return
            paths = [out / path for path in self.paths] or numbered(out, range(len(self.images)))
            for folder in dict.fromkeys(path.parent for path in paths):
                durable.make_folders(folder)
            pictures = np.rint(self.images * (255 / (self.levels - 1))).astype(np.uint8)
            durable.atomic_writes(
                (path, encode_png(Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)))
                for path, image in zip(paths, pictures, strict=True)
            )

    def _npz(self) -> bytes:
        buffer = io.BytesIO()
        arrays = {"images": np.ascontiguousarray(self.images), "levels": np.array(self.levels)}
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()


def check_target(out: Path, shape: tuple[int, ...]) -> None:
    """Raises SettingsError where images of this shape (channels, ...) cannot be written there."""
    if out.exists():
        raise SettingsError(f"{out} is there already", "name a new file or folder")
    if out.suffix not in ("", ".npz"):
        raise SettingsError(f"images are not written as {out.suffix}", "name an .npz, or a folder")
    if not out.suffix and (len(shape) != IMAGE_AXES or shape[0] not in (1, 3)):
        raise SettingsError("these make no PNG files", "name an .npz: decompressed.npz")
