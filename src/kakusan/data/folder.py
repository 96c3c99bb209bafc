"""A folder of images, decoded once into one array of bytes. Nothing in the folder is ever changed."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kakusan.config.settings import DataSettings
from kakusan.data.cache import CacheFile, Decoded
from kakusan.data.dataset import BadFile, Dataset, Progress
from kakusan.data.image_files import (
    FORMATS_IN_WORDS,
    MOST_PIXELS,
    BadPictureError,
    Header,
    NotAnImageError,
    read_pixels,
)
from kakusan.data.labels import classes_if, classes_of_folders
from kakusan.data.listing import ImageFile, Listing, list_files
from kakusan.data.rows import Rows, RowsInFile, RowsInMemory
from kakusan.data.scan import BLOCK, SCALED, Form, PixelBudget, Scan, in_threads, scan
from kakusan.data.tables import read_table, table_beside
from kakusan.data.units import Levels
from kakusan.errors import DataError, SettingsError, printable

NAMED = 5


def read_folder(
    root: Path, options: DataSettings, progress: Progress, *, write_cache: bool = True
) -> Dataset:
    """All images below a folder. Raises DataError if there are fewer than two, or too many cannot be read."""
    listing = list_files(root, follow_links=options.follow_links is True)
    return _read(root, listing, options, progress, lambda: scan(listing, progress), write_cache=write_cache)


def read_and_scan_folder(root: Path, options: DataSettings, progress: Progress) -> tuple[Dataset, Scan]:
    """The same, with what the headers say, even where the pixels come from a cache."""
    listing = list_files(root, follow_links=options.follow_links is True)
    found = scan(listing, progress)
    return _read(root, listing, options, progress, lambda: found, write_cache=True), found


def _read(
    root: Path,
    listing: Listing,
    options: DataSettings,
    progress: Progress,
    find: Callable[[], Scan],
    *,
    write_cache: bool,
) -> Dataset:
    _check(options)
    try:
        decoded = _decoded(root, listing, options, progress, find, write_cache=write_cache)
    except DataError as error:
        raise DataError(error.problem, *error.advice, *_on_links(listing)) from error
    return _dataset(root, decoded, listing, options)


def _decoded(
    root: Path,
    listing: Listing,
    options: DataSettings,
    progress: Progress,
    find: Callable[[], Scan],
    *,
    write_cache: bool,
) -> Decoded:
    """From the cache, into the cache, or in memory."""
    cache = None
    if options.cache:
        cache = CacheFile.of(Path(options.cache), root.resolve(), options, listing.key)
        if (kept := cache.load()) is not None:
            _check_enough(root, len(kept.names), kept.bad, listing.ignored, options.bad_share)
            return kept
    if cache is not None and write_cache:
        return _decode_into(cache, root, find(), options, progress)
    return _decode_in_memory(root, find(), options, progress)


def _decode_in_memory(root: Path, found: Scan, options: DataSettings, progress: Progress) -> Decoded:
    _check_enough(
        root, len(found.files), found.bad, found.ignored, 1.0
    )  # all that is bad is told at once, below
    form = found.form(options)
    rows = RowsInMemory((len(found.files), form.height, form.width, form.channels))
    return _decode(root, found, options, rows, progress)


def _decode_into(
    cache: CacheFile, root: Path, found: Scan, options: DataSettings, progress: Progress
) -> Decoded:
    _check_enough(
        root, len(found.files), found.bad, found.ignored, 1.0
    )  # all that is bad is told at once, below
    form = found.form(options)
    try:
        cache.forget()
        with RowsInFile(cache.path, (len(found.files), form.height, form.width, form.channels)) as rows:
            decoded = _decode(root, found, options, rows, progress)
        cache.describe(decoded)
    except OSError as error:
        raise DataError(
            f"the cache {cache.path} cannot be written: {error.strerror or error}",
            "name another folder with --data.cache, or leave it out",
        ) from error
    return decoded


def _check(options: DataSettings) -> None:
    if options.channels not in ("auto", 1, 3):
        raise SettingsError(f"images of a folder have 1 channel (grey) or 3 (colour), not {options.channels}")
    if options.levels not in ("auto", 256):
        raise SettingsError(f"images of a folder have 256 levels, not {options.levels}")
    if options.range != "auto":
        raise SettingsError("a data range is for arrays of floats, not for a folder of images")


def _decode(root: Path, found: Scan, options: DataSettings, rows: Rows, progress: Progress) -> Decoded:
    form, bad = found.form(options), list(found.bad)
    names: list[str] = []
    total = found.looked_into + len(found.files)

    budget = PixelBudget(MOST_PIXELS)

    def pixels(item: tuple[ImageFile, Header]) -> NDArray[np.uint8] | BadFile:
        file, header = item
        with budget.of(header.width * header.height):
            return _pixels_of(file, form)

    block: list[NDArray[np.uint8]] = []
    with closing(in_threads(pixels, list(zip(found.files, found.headers, strict=True)))) as results:
        for done, (file, result) in enumerate(zip(found.files, results, strict=True), 1):
            if isinstance(result, BadFile):
                bad.append(result)
            else:
                names.append(file.name)
                block.append(result)
            if done % BLOCK == 0 or done == len(found.files):
                _flush(block, rows)
                progress(found.looked_into + done, total)
    bad.sort(key=lambda file: file.name)
    _check_enough(root, len(names), bad, found.ignored, options.bad_share)
    return Decoded(rows.finish(), tuple(names), tuple(bad), found.notes(options))


def _flush(block: list[NDArray[np.uint8]], rows: Rows) -> None:
    if block:
        rows.append(np.stack(block))
        block.clear()


def _pixels_of(file: ImageFile, form: Form) -> NDArray[np.uint8] | BadFile:
    try:
        return read_pixels(file.path, form.height, form.width, form.channels)
    except BadPictureError as error:
        return BadFile(file.name, str(error))
    except NotAnImageError:
        return BadFile(file.name, "it changed while it was read")


def _check_enough(root: Path, good: int, bad: Sequence[BadFile], ignored: int, share: float) -> None:
    named = [f"{file.name}: {file.reason}" for file in bad[:NAMED]]
    if len(bad) > NAMED:
        named.append(f"and {len(bad) - NAMED} more")
    if len(bad) > 1 and len(bad) > share * (good + len(bad)):
        enough = math.ceil(100 * len(bad) / (good + len(bad))) / 100
        raise DataError(
            f"{len(bad)} of the {good + len(bad)} images in {root} cannot be read",
            *named,
            f"mend them or take them away, or go on without them: --data.bad-share {enough:g}",
        )
    if good < 2:
        there = "holds no images" if good == 0 else "holds a single image, and at least 2 are needed"
        raise DataError(
            f"{root} {there}",
            *named,
            f"read are {FORMATS_IN_WORDS}"
            + (f"; other entries, passed over: {ignored:,}" if ignored else ""),
        )


def _on_links(listing: Listing) -> tuple[str, ...]:
    """A note on links that were not followed; empty where there are none."""
    if not listing.links:
        return ()
    some = ", ".join(map(printable, listing.links[:NAMED])) + (", ..." if len(listing.links) > NAMED else "")
    plural = "s" * (len(listing.links) > 1)
    return (
        f"{len(listing.links)} link{plural} to folders outside not followed ({some}): --data.follow-links True follows",
    )


def _dataset(root: Path, decoded: Decoded, listing: Listing, options: DataSettings) -> Dataset:
    classes = classes_if(options.labels, lambda: classes_of_folders(decoded.names, str(root)))
    table = table_beside(root) if options.vectors else None
    resolved = root.resolve()
    return Dataset(
        name=resolved.name,
        images=decoded.images,
        units=Levels(256),
        labels=None if classes is None else classes.labels,
        class_names=() if classes is None else classes.names,
        captions=tuple(map(printable, decoded.names)),
        source=str(resolved),
        bad_files=decoded.bad,
        notes=(*decoded.notes, *_on_links(listing)),
        scaled=options.size == "auto" and any(SCALED in note for note in decoded.notes),
        vectors=None if table is None else read_table(table, decoded.names),
    )
