"""The file of compressed images: data, not code. Every byte is under a checksum, and every number has a range.

MAGIC, a msgpack array of what is needed to read it but for the weights, the first 8 bytes of the SHA-256 of both. A
file that another program made on purpose may hold other images than it says, or none: it is refused, or read, and
never run.
"""

import hashlib
import math
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from kakusan.errors import DataError
from kakusan.evaluation.coding.calibration import GROUPINGS
from kakusan.evaluation.coding.stack import LOWEST, STATE_BYTES, WORD_BYTES, Stack

MAGIC = b"kakusan\x01"
"""With the number of the format."""
CHECK = 8
DIGEST = 16
MOST_IMAGES = 1 << 24
MOST_BYTES = 1 << 32
LONGEST_NAME = 1024
"""Bytes of a name: so many of each image are unpacked at the most."""
RESERVED = frozenset('\\:*?"<>|')
"""Letters that some system reads as no part of a name."""

Whole = Annotated[int, Meta(ge=1, le=1 << 32)]
Digest = Annotated[bytes, Meta(min_length=DIGEST, max_length=DIGEST)]
Check = Annotated[bytes, Meta(min_length=CHECK, max_length=CHECK)]


class Packed(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Compressed images, and all that is needed to read them but the weights."""

    model: Digest
    """SHA-256, its first 16 bytes, of the weights, the path and what the network's output means."""
    step: Annotated[int, Meta(ge=0, le=1 << 62)]
    """Of the checkpoint."""
    made_with: Annotated[str, Meta(max_length=100)]
    """Version of torch and kind of processor."""
    fingerprint: Check
    """Of what the network gives here: another machine may round otherwise, and would read other images."""
    threads: Annotated[int, Meta(ge=1, le=1024)]
    """Of torch, while coding: sums depend on their number."""
    shape: Annotated[tuple[Whole, ...], Meta(min_length=1, max_length=4)]
    """Of an image, channels first."""
    levels: Annotated[int, Meta(ge=2, le=256)]
    count: Annotated[int, Meta(ge=1, le=MOST_IMAGES)]
    """Images."""
    pace: Annotated[int, Meta(ge=1, le=255)]
    """Images that have to be there before one more is coded at the same time."""
    times: Annotated[tuple[Whole, ...], Meta(min_length=1, max_length=1000)]
    """Of the chain, rising."""
    grouping: Annotated[int, Meta(ge=0, lt=len(GROUPINGS))]
    errors: bytes
    """A byte for each group at each time."""
    names: bytes
    """Of the files that the images come from, zlib; empty where there are none."""
    state: Annotated[bytes, Meta(min_length=STATE_BYTES, max_length=STATE_BYTES)]
    words: bytes
    """The images: 32-bit words, little-endian, the newest last."""

    def __post_init__(self) -> None:
        """Raises ValueError where fields are at odds."""
        if not all(a < b for a, b in pairwise(self.times)):
            raise ValueError("its times do not rise")
        if len(self.errors) != len(self.times) * GROUPINGS[self.grouping].count:
            raise ValueError("its errors do not fit its times")
        if len(self.words) % WORD_BYTES or int.from_bytes(self.state, "little") < LOWEST:
            raise ValueError("its images are cut off")
        if math.prod(self.shape) > 1 << 28:
            raise ValueError("its images are too large")

    @property
    def codes(self) -> tuple[bytes, ...]:
        """The errors of each time."""
        count = GROUPINGS[self.grouping].count
        return tuple(self.errors[start : start + count] for start in range(0, len(self.errors), count))

    def stack(self) -> Stack:
        """The stack that the images are on; it has no other bits than its own."""
        words = memoryview(self.words)
        older = [
            int.from_bytes(words[i : i + WORD_BYTES], "little") for i in range(0, len(words), WORD_BYTES)
        ]
        return Stack(int.from_bytes(self.state, "little"), older, seed=None)

    def to_bytes(self) -> bytes:
        content = MAGIC + msgspec.msgpack.encode(self)
        return content + _check(content)


def stored(stack: Stack) -> tuple[bytes, bytes]:
    """(state, words) of a stack, as `Packed` has them."""
    words = b"".join(word.to_bytes(WORD_BYTES, "little") for word in stack.words)
    return stack.state.to_bytes(STATE_BYTES, "little"), words


def read_file(path: Path) -> Packed:
    """The content of this file, as `read` gives it. Raises DataError where it cannot be read, too."""
    try:
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path} is larger than any file that kakusan compresses")
        return read(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def read(content: bytes, name: str) -> Packed:
    """The content of a file of this name. Raises DataError where it is damaged, of a newer version, or no such file."""
    if not content.startswith(MAGIC):
        if content.startswith(MAGIC[:-1]):
            raise DataError(f"{name} was made by a newer kakusan", "upgrade: pip install --upgrade kakusan")
        raise DataError(
            f"{name} holds no images that kakusan compressed", "to make one: kakusan compress RUN DATA"
        )
    body, check = content[:-CHECK], content[-CHECK:]
    if len(body) <= len(MAGIC) or _check(body) != check:
        raise DataError(
            f"{name} is damaged: its checksum is not that of its content",
            "copy it anew from where it came from",
        )
    try:
        return msgspec.msgpack.decode(body[len(MAGIC) :], type=Packed)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{name} cannot be understood: {error}") from error


def _check(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:CHECK]


def packed_names(names: Sequence[str]) -> bytes:
    """The names of files in a few bytes."""
    return zlib.compress("\0".join(names).encode("utf-8", "surrogatepass"), 9) if names else b""


def names_in(packed: Packed, file: str) -> tuple[str, ...]:
    """The names, each a path below a folder. Raises DataError for what could lead out of it, or is no list of names."""
    if not packed.names:
        return ()
    unpack = zlib.decompressobj()
    try:
        text = unpack.decompress(packed.names, packed.count * LONGEST_NAME).decode("utf-8")
    except (zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{file} is damaged: its names cannot be read") from error
    names = tuple(text.split("\0"))
    if len(names) != packed.count or not unpack.eof or not all(map(stays_inside, names)):
        raise DataError(f"{file} has names that are no names of its {packed.count:,} images")
    return names


def stays_inside(name: str) -> bool:
    """Whether a name is that of a file below the folder that it is put into, on any system."""
    is_odd = len(name) > LONGEST_NAME or not name.isprintable() or not RESERVED.isdisjoint(name)
    return not is_odd and all(part and not part.endswith((".", " ")) for part in name.split("/"))
