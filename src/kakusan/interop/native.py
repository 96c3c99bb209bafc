"""kakusan.json: the properties of a model that diffusers' files have no place for.

Names of classes, levels, the null label, the size before padding. The text of a folder is not trusted:
it counts only if, written again, it gives the very configuration beside it.
"""

from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from kakusan.config.networks import UNetOptions
from kakusan.config.settings import ProcessSettings
from kakusan.data.record import DataRecord
from kakusan.data.space import legacy
from kakusan.errors import KakusanError, ModelError
from kakusan.interop.diffusers.config import Translated, translated, unet_config
from kakusan.interop.diffusers.folder import read_json
from kakusan.interop.diffusers.keys import brief
from kakusan.interop.diffusers.schedulers import scheduler_config
from kakusan.interop.draft import Draft, Size, drafted, empty_network
from kakusan.run import Loaded, Run
from kakusan.training.build import build_schedule


@dataclass(frozen=True)
class Units:
    """`maths.units`, as JSON has them."""

    kind: str
    levels: int | None = None
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    shown: float | None = None


@dataclass(frozen=True)
class Data:
    """The training data of a model."""

    name: str
    shape: tuple[int, int, int]
    units: Units
    class_names: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True)
class About:
    """The content of kakusan.json."""

    network: UNetOptions
    process: ProcessSettings
    data: Data


def about(run: Run, loaded: Loaded) -> dict[str, Any]:
    """The properties of a model beyond its weights, ready for JSON."""
    data = run.data
    return {
        "kakusan": metadata.version("kakusan"),
        "step": loaded.step,
        "weights": loaded.weights,
        "network": asdict(loaded.settings.network),
        "process": asdict(loaded.settings.process),
        "data": {
            "name": data.name,
            "shape": list(legacy(data.shape)),
            "units": data.units.to_state(),
            "class_names": list(data.class_names),
            "fingerprint": data.fingerprint,
        },
    }


def believed(text: dict[str, Any], model: Translated) -> Draft:
    """The run that was exported. Raises KakusanError or ValidationError where this is another model, or none."""
    said = msgspec.convert(text, About)
    data = _data(said.data)
    channels, *size = data.shape
    theirs = replace(
        model, network=said.network, process=said.process, channels=channels, size=(size[0], size[1])
    )
    draft = drafted(theirs, None, data.name)
    draft.record.update(units=data.units.to_state(), class_names=list(data.class_names))
    empty_network(draft)
    network, process = draft.settings.network, draft.settings.process
    learned = process.variance == "learned"
    channels, height, width = data.shape  # as `Data` checks
    unet = unet_config(network, (channels, height, width), classes=len(data.class_names), learned=learned)
    again = translated(unet, scheduler_config(process, build_schedule(process), model.scheduler))
    if model.sampler:  # whose scheduler has no place for the range of guesses that are not held to it
        again = replace(again, sampler=model.sampler, notes=model.notes)
        if not process.clip:
            again = replace(again, process=replace(again.process, clip_range=model.process.clip_range))
    if again != model:
        raise ModelError("it speaks of another model than the folder's own files")
    return draft


def _data(said: Data) -> DataRecord:
    units = {key: value for key, value in asdict(said.units).items() if value not in (None, ())}
    names = [brief(name) for name in said.class_names]
    return DataRecord.read(
        {
            "name": brief(said.name),
            "shape": said.shape,
            "units": units,
            "class_names": names,
            "fingerprint": "",
        }
    )


def as_exported(path: Path, model: Translated, size: Size | None) -> tuple[Draft | None, tuple[str, ...]]:
    """The run that kakusan.json describes, or nothing and why it was passed over."""
    if not path.is_file():
        return None, ()
    try:
        draft = believed(read_json(path), model)
    except (KakusanError, msgspec.ValidationError) as error:
        return None, (f"kakusan.json is passed over: {brief(str(error).splitlines()[0])}",)
    if size not in (None, draft.data.shape[1:]):
        height, width = draft.data.shape[1:]
        raise ModelError(f"the model's images are {height} x {width} (height, width)", "leave --size out")
    return draft, ()
