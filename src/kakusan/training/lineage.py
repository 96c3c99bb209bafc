"""The lineage of weights: the images trained on, and those held out, by content, for trainings that begin from them."""

from pathlib import Path
from typing import Any

import numpy as np

from kakusan.config.settings import Settings
from kakusan.data import Past
from kakusan.data.dataset import Progress, silent
from kakusan.data.heldout import Hashes, form_of, unpacked
from kakusan.errors import KakusanError, RunError
from kakusan.storage.run_folder import RunFolder
from kakusan.training.prepare import reopen_data


def past_of(parent: RunFolder, settings: Settings, progress: Progress = silent) -> Past:
    """The images behind the weights of a run, those of its own parents too. settings: the run's.

    A run of an older version has no hashes of its images: then its data are opened, where they are as they were.
    Raises RunError where data.json is none of kakusan's.
    """
    record = parent.data
    form = form_of(tuple(record["shape"]), record["units"])
    if "imported" in record:
        return Past(form, unknown=f"{parent.folder.resolve().name} was imported")
    try:
        earlier = _earlier(record, form)
        hashes = _hashes(record, settings, progress)
    except KakusanError as error:
        source = settings.data.source
        return Past(form, unknown=error.problem.replace(source or " ", Path(source).name or " "))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{parent.folder / 'data.json'} is not one that kakusan wrote", f"its hashes: {error}"
        ) from error
    is_held_out = np.zeros(len(hashes), np.bool_)
    is_held_out[record["held_out"]] = True
    trained = np.union1d(hashes[~is_held_out], earlier.trained)
    held_out = np.setdiff1d(np.union1d(hashes[is_held_out], earlier.held_out), trained)
    return Past(form, trained, held_out, earlier.unknown)


def _earlier(record: dict[str, Any], form: str) -> Past:
    """The images behind the run's own first weights, as far as they are known."""
    if "past" in record:
        earlier = Past.from_state(record["past"])
        if earlier.form == form or earlier.unknown:
            return earlier
        return Past(form, unknown=f"images of {earlier.form} cannot be compared with those of {form}")
    if "weights_from" in record:
        return Past(form, unknown="the parent began from another run, whose images it does not know")
    return Past(form)


def _hashes(record: dict[str, Any], settings: Settings, progress: Progress) -> Hashes:
    if "image_hashes" not in record:
        return reopen_data(settings, record, progress).dataset.rounded_hashes
    hashes = unpacked(record["image_hashes"])
    if len(hashes) != record["count"]:
        raise ValueError(f"{len(hashes)} for {record['count']} images")
    return hashes
