"""The data of a run: opened and divided when it begins, opened again as they were then."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from kakusan.config.facts import DataFacts
from kakusan.config.settings import DataSettings, Settings
from kakusan.data import Dataset, Past, Split, as_asked, divide, open_data
from kakusan.data.conditions import VectorForm, in_form
from kakusan.data.dataset import Progress, silent
from kakusan.data.heldout import form_of, packed
from kakusan.data.record import DataRecord
from kakusan.data.space import upgraded
from kakusan.data.units import Levels, Real
from kakusan.errors import DataError, RunError
from kakusan.shapes import Condition

EXAMPLES = 36
"""Conditions that a run keeps."""


@dataclass(frozen=True)
class Prepared:
    """The inputs of a training: data that are open and divided, perhaps a network."""

    dataset: Dataset
    split: Split
    past: Past | None = None
    """The images that the first weights come from, where these are another run's."""
    notes: tuple[str, ...] = ()
    """Notes on how they were divided, in sentences, where it was not a plain draw."""
    network: nn.Module | None = None
    """The module to train, where the settings do not build one: see `kakusan.training.own`."""

    def for_a_trial(self) -> "Prepared":
        """The same with a copy of the network, whose training leaves no trace."""
        return replace(self, network=deepcopy(self.network))

    @property
    def facts(self) -> DataFacts:
        dataset = self.dataset
        is_levels = isinstance(dataset.units, Levels)
        count = len(self.split.training)
        return DataFacts(dataset.shape, is_levels, count, dataset.layout)


def prepare_data(
    settings: Settings,
    progress: Progress = silent,
    past: Past | None = None,
    *,
    in_memory: Dataset | None = None,
    write_cache: bool = True,
) -> Prepared:
    """Open the data of these settings and put the held-out part aside: nothing that the past was trained on.

    write_cache: decoded images may be kept where the settings name a cache, which is read in any case.

    Raises DataError, SettingsError.
    """
    dataset = _opened(settings.data, progress, in_memory, write_cache=write_cache)
    if len(dataset) > 1 and (dataset.hashes == dataset.hashes[0]).all():
        count = len(dataset)
        raise DataError(
            f"all {count:,} images of {dataset.name} are equal: there is nothing to learn in them"
        )
    held_out = settings.data.held_out
    aside = int(held_out) if held_out >= 1 else held_out
    form = form_of(dataset.shape, dataset.units.to_state())
    if past is not None and not past.unknown and past.form != form:  # hashes of other forms say nothing
        past = Past(form, unknown=f"its images are of {past.form}, these of {form}")
    divided = divide(dataset, aside, settings.training.seed, past, flip=settings.data.flip)
    return Prepared(dataset, divided.split, past, divided.notes)


def _opened(
    options: DataSettings, progress: Progress, in_memory: Dataset | None, *, write_cache: bool = True
) -> Dataset:
    """The data that the settings name, or those that are in memory already."""
    if in_memory is not None:
        return as_asked(in_memory, options)
    return open_data(options.source, options, progress, write_cache=write_cache)


def reopen_data(
    settings: Settings,
    record: dict[str, Any],
    progress: Progress = silent,
    *,
    in_memory: Dataset | None = None,
    write_cache: bool = False,
) -> Prepared:
    """The data of a run, in its units and divided as when it began. Raises RunError if they have changed since.

    A cache that the settings name is only read: they may come from elsewhere. Who trains the run may write it too.
    """
    if in_memory is None and not settings.data.source:
        raise _not_named("imported" in record)
    links = settings.data.follow_links is not False  # runs from before there was a choice followed them
    options = replace(settings.data, follow_links=links)
    found = _opened(options, progress, in_memory, write_cache=write_cache)
    dataset = found.known_as(record["fingerprint"])
    if dataset is None:
        raise RunError(
            f"the data {settings.data.source or 'in memory'} are not those that the run began with",
            f"what has changed: {_change(record, found)}",
            "bring them back, or begin another run on them as they are: kakusan train DATA --from RUN",
        )
    dataset = _in_units_of(record, dataset)
    held_out = np.array(record["held_out"], dtype=np.int64)
    training = np.setdiff1d(np.arange(len(dataset)), held_out, assume_unique=True)
    return Prepared(dataset, Split(training=training, held_out=held_out))


def example_condition(prepared: Prepared) -> Condition | None:
    """The condition of samples where nothing is asked for: that of some held-out images, evenly spread.

    None where they come with classes alone, or with nothing. Where masks are all else that they come with, masks alone.
    """
    dataset, split = prepared.dataset, prepared.split
    if dataset.vectors is None and dataset.pairs is None:
        if not dataset.masked:
            return None
        dataset = replace(dataset, labels=None, class_names=())
    indices = split.held_out if len(split.held_out) else split.training
    places = np.linspace(0, len(indices) - 1, min(EXAMPLES, len(indices))).astype(np.int64)
    return dataset.condition(indices[places])


def _not_named(imported: bool) -> RunError:
    """The error of a run whose settings name no data."""
    others = "to measure it on others: kakusan evaluate RUN --data DATA"
    if imported:
        return RunError(
            "the run was imported: the images it was trained on are not known here",
            others,
            "to train it further: kakusan train DATA --from RUN",
        )
    return RunError(
        "the run was trained from Python, on data in memory, which are not here",
        "to go on, in Python, with the same data: kakusan.Run.open(RUN).resume(data=data)",
        others,
    )


def _change(record: dict[str, Any], dataset: Dataset) -> str:
    """The change of the data since a run's record: counts and shapes, or else that it is the contents."""
    bad = len(record.get("bad_files", ()))
    then_and_now = {
        "images": (record.get("count"), len(dataset)),
        "shape": (upgraded(tuple(record.get("shape", ()))), dataset.shape),
        "files that cannot be read": (bad, len(dataset.bad_files)),
    }
    changes = [f"{name}: then {then}, now {now}" for name, (then, now) in then_and_now.items() if then != now]
    return "; ".join(changes) or f"as many images as then, {len(dataset)}, but others in their place or order"


def _in_units_of(record: dict[str, Any], dataset: Dataset) -> Dataset:
    """With the normalization that the run began with, which another version may have fitted otherwise."""
    units = DataRecord.read(record).units
    fits = type(units) is type(dataset.units) and not (
        isinstance(units, Real) and len(units.mean) != dataset.shape[0]
    )
    if dataset.vectors is not None and record.get("vectors"):
        form = VectorForm.from_state(record["vectors"])
        dataset = replace(dataset, vectors=in_form(dataset.vectors, form, dataset.name))
    return replace(dataset, units=units) if fits else dataset


def data_record(prepared: Prepared) -> dict[str, Any]:
    """The record of a run's data: enough to sample without them, and to know them again."""
    dataset = prepared.dataset
    return {
        "name": dataset.name,
        "source": dataset.source,
        "count": len(dataset),
        "shape": list(dataset.shape),
        "units": dataset.units.to_state(),
        "class_names": list(dataset.class_names),
        **({} if dataset.vectors is None else {"vectors": dataset.vectors.form.to_state()}),
        **({} if dataset.pairs is None else {"pairs": dataset.pairs.form.to_state()}),
        **({"masked": True, "missing": dataset.missing} if dataset.masked else {}),
        "fingerprint": dataset.fingerprint,
        "notes": [*dataset.notes, *prepared.notes],
        "bad_files": [{"name": bad.name, "reason": bad.reason} for bad in dataset.bad_files],
        "held_out": prepared.split.held_out.tolist(),
        "image_hashes": packed(dataset.rounded_hashes),
        **({} if prepared.past is None else {"past": prepared.past.to_state()}),
    }


def doubt_of_held_out(record: dict[str, Any]) -> str:
    """The reason to doubt that the run was not trained on its held-out images; empty where there is none."""
    if "past" in record:
        return str(record["past"].get("unknown", ""))
    if "weights_from" in record:  # of an older version
        return f"it was not checked what {Path(record['weights_from']['run']).name} was trained on"
    return ""
