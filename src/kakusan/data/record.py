"""data.json of a run, read back and checked: it may have been edited, or be of another program."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import msgspec

from kakusan.data.conditions import PairForm, VectorForm
from kakusan.data.missing import in_percent
from kakusan.data.space import is_points, upgraded
from kakusan.data.units import Real, Units, units_from_state
from kakusan.errors import RunError


@dataclass(frozen=True)
class DataRecord:
    """`data_record`, read back."""

    name: str
    shape: tuple[int, ...]
    """(channels, ...) of a sample."""
    units: Units
    class_names: tuple[str, ...]
    fingerprint: str
    vectors: VectorForm | None = None
    pairs: PairForm | None = None
    masked: bool = False
    """Whether values were missing, so that the network takes a mask of those that are there."""
    missing: float | None = None
    """Their share of all; None where it is not known, as in runs of older versions."""

    @property
    def is_conditional(self) -> bool:
        """Whether samples come with classes, vectors or images."""
        return bool(self.class_names) or self.vectors is not None or self.pairs is not None

    @property
    def has_examples(self) -> bool:
        """Whether samples come with more than classes, of which the run then keeps some."""
        return self.vectors is not None or self.pairs is not None

    @property
    def inputs(self) -> tuple[tuple[int, int], int, int]:
        """The sizes for a network: (channels, classes), numbers of a vector, channels of an image condition."""
        numbers = 0 if self.vectors is None else len(self.vectors.names)
        channels = 0 if self.pairs is None else self.pairs.shape[0]
        return (self.shape[0], len(self.class_names)), numbers, channels

    def inputs_in_words(self) -> str:
        """The conditions: "vectors of 2 numbers and images of 1 channel"."""
        _, numbers, channels = self.inputs
        parts = [f"vectors of {numbers} numbers"] * bool(numbers)
        parts += [f"condition images of {channels} channels"] * bool(channels)
        parts += ["a mask of missing values"] * self.masked
        return " and ".join(parts) or "neither vectors nor condition images"

    def missing_in_words(self) -> str:
        """The share of missing values, and what becomes of them; empty where none is masked."""
        share = "some" if self.missing is None else in_percent(self.missing)
        return f"{share} of the values: learned from those that are there" if self.masked else ""

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "DataRecord":
        """Raises RunError where it is not as kakusan writes it: another program's file, or one that was edited."""
        try:
            stored = msgspec.convert(record, _Stored)
            _check_held_out(stored)
            _check_shape(stored.shape)
            return cls(
                name=stored.name,
                shape=upgraded(stored.shape),
                units=_units(stored),
                class_names=stored.class_names,
                fingerprint=stored.fingerprint,
                vectors=None if stored.vectors is None else VectorForm.from_state(stored.vectors),
                pairs=None if stored.pairs is None else PairForm.from_state(stored.pairs),
                masked=stored.masked,
                missing=stored.missing,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise RunError("the run's data.json is not one that kakusan wrote", why) from error


Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Side: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=65_536)]


class _Imported(msgspec.Struct, frozen=True):
    """The origin of an imported model."""

    source: str
    revision: str | None = None
    scheduler: str | None = None


class _Parent(msgspec.Struct, frozen=True):
    """The run that a training began from."""

    run: str
    step: Count
    scheduler: str | None = None


class _Stored(msgspec.Struct, frozen=True):
    """data.json, with its types; what a foreign model's record may lack has a value."""

    name: str
    shape: Annotated[tuple[Side, ...], msgspec.Meta(min_length=1, max_length=4)]
    units: dict[str, Any]
    class_names: tuple[str, ...]
    fingerprint: str
    source: str = ""
    count: Count = 0
    held_out: tuple[Count, ...] = ()
    bad_files: tuple[dict[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    imported: _Imported | None = None
    weights_from: _Parent | None = None
    vectors: dict[str, Any] | None = None
    pairs: dict[str, Any] | None = None
    masked: bool = False
    missing: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None


def _check_shape(shape: tuple[int, ...]) -> None:
    if is_points(shape) and shape != (2,):
        raise ValueError(
            f"shape is {list(shape)}: points have 2 values, other samples channels and 1 to 3 sides"
        )


def _check_held_out(stored: _Stored) -> None:
    aside = stored.held_out
    if len(set(aside)) < len(aside) or max(aside, default=-1) >= stored.count:
        raise ValueError(f"held_out is no list of different images of the {stored.count:,} that there are")


def _units(stored: _Stored) -> Units:
    units, channels = units_from_state(stored.units), stored.shape[0]
    if isinstance(units, Real) and not len(units.mean) == len(units.scale) == channels:
        raise ValueError(
            f"units has {len(units.mean)} means and {len(units.scale)} scales for {channels} channels"
        )
    return units
