"""The headers of a folder's images, and the one form that all images will take."""

import statistics
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from kakusan.config.settings import DataSettings, given
from kakusan.data.dataset import BadFile, Progress
from kakusan.data.image_files import LOSSY, BadPictureError, Header, NotAnImageError, read_header
from kakusan.data.listing import ImageFile, Listing
from kakusan.data.space import in_pixels

SCALED = "scaled and cropped to"
"""In a note: the images were of other sizes."""
SIZE_ADVICE = " (--data.size changes that)"
"""The end of such a note on training data."""
SIDES = (8, 16, 32, 64)
"""The sides to choose from where the images do not agree on a size."""
LARGEST_SHARED = 256
"""Up to this side, a size that all images share is taken as it is; beyond, it is hardly meant."""
BLOCK = 32
"""Files a task: few enough for steady progress, enough to hide the cost of a task."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Form:
    """The form that every image is brought to."""

    height: int
    width: int
    channels: int


@dataclass(frozen=True)
class Scan:
    """A folder's images by their headers."""

    files: tuple[ImageFile, ...]
    headers: tuple[Header, ...]
    """One for each file."""
    bad: tuple[BadFile, ...]
    ignored: int
    looked_into: int
    """The number of files that were opened, the bad and the ignored ones included."""

    def form(self, options: DataSettings) -> Form:
        """As asked for; where nothing is asked, as the images are, if they share a size."""
        height, width = options.height_and_width or self._size()
        grey = all(header.is_grey for header in self.headers)
        return Form(height, width, given(options.channels) or (1 if grey else 3))

    def notes(self, options: DataSettings) -> tuple[str, ...]:
        """Notes on what is done to the images, and on what was chosen without being asked, in sentences."""
        notes = []
        height, width = options.height_and_width or self._size()
        if self._shared_size() != (height, width):
            advice = "" if options.size != "auto" else SIZE_ADVICE
            notes.append(f"{self._sizes_in_words()}; {SCALED} {in_pixels(height, width)}{advice}")
        changed = Counter(name for header in self.headers for name in header.conversions if name in LOSSY)
        if changed:
            notes.append("converted: " + ", ".join(f"{name} ({n:,})" for name, n in changed.most_common()))
        if self.ignored:
            notes.append(f"not images, and ignored: {self.ignored:,}")
        return tuple(notes)

    def _sizes_in_words(self) -> str:
        sizes = {(header.height, header.width) for header in self.headers}
        return f"the images have {f'{len(sizes)} sizes' if len(sizes) > 1 else f'the size {in_pixels(*sizes.pop())}'}"

    def _size(self) -> tuple[int, int]:
        shared = self._shared_size()
        if shared is not None and max(shared) <= LARGEST_SHARED:
            return shared
        middle = statistics.median_low(min(header.width, header.height) for header in self.headers)
        side = max((side for side in SIDES if side <= middle), default=SIDES[0])
        return side, side

    def _shared_size(self) -> tuple[int, int] | None:
        sizes = {(header.height, header.width) for header in self.headers}
        return sizes.pop() if len(sizes) == 1 else None


def scan(listing: Listing, progress: Progress) -> Scan:
    """Read the headers of all files."""
    files, headers, bad, ignored = [], [], list(listing.bad), listing.ignored
    total = 2 * len(listing.files)
    with closing(in_threads(_header_of, listing.files)) as results:
        for done, (file, found) in enumerate(zip(listing.files, results, strict=True), 1):
            if found is None:
                ignored += 1
            elif isinstance(found, BadFile):
                bad.append(found)
            else:
                files.append(file)
                headers.append(found)
            if done % BLOCK == 0:
                progress(done, total)
    return Scan(tuple(files), tuple(headers), tuple(bad), ignored, len(listing.files))


def _header_of(file: ImageFile) -> Header | BadFile | None:
    try:
        return read_header(file.path)
    except BadPictureError as error:
        return BadFile(file.name, str(error))
    except NotAnImageError:
        return None


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> Generator[Result, None, None]:
    """The results in the items' order. Pillow decodes outside of the interpreter's lock, so threads help.

    To be closed where the caller leaves early: an interrupt must not wait for a million files.
    """
    blocks = [items[start : start + BLOCK] for start in range(0, len(items), BLOCK)]
    with _pillows_warnings():
        executor = ThreadPoolExecutor()
        try:
            for results in executor.map(lambda block: [work(item) for item in block], blocks):
                yield from results
        finally:
            executor.shutdown(cancel_futures=True)


class PixelBudget:
    """A bound on the pixels that all threads together may be decoding: an image more waits, unless it is alone."""

    def __init__(self, most: int) -> None:
        self._most, self._taken, self._changed = most, 0, threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + pixels <= self._most)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


@contextmanager
def _pillows_warnings() -> Iterator[None]:
    """A bomb becomes an error. What Pillow can live with, such as odd EXIF, is not worth a word."""
    with warnings.catch_warnings():  # of the whole process: so here, and not in the threads
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
