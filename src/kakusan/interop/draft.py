"""The draft of an imported run: its settings, and its record of data that are not here."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from kakusan.config.facts import DataFacts
from kakusan.config.networks.unet import UNFOLDED
from kakusan.config.resolve import resolve, resolve_for
from kakusan.config.settings import DataSettings, MachineSettings, Settings, TrainingSettings
from kakusan.data.record import DataRecord
from kakusan.data.units import Levels
from kakusan.errors import ModelError
from kakusan.interop.diffusers.config import Translated
from kakusan.networks import UNet
from kakusan.training.build import build_model, build_network

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Draft:
    """Settings, and the record of the data."""

    settings: Settings
    record: dict[str, Any]

    @property
    def data(self) -> DataRecord:
        return DataRecord.read(self.record)


def drafted(model: Translated, size: Size | None, name: str) -> Draft:
    """The run of this model. Its images count as 256 levels on [-1, 1]; size: theirs, where the model does not say it.

    Raises ModelError where neither does, SettingsError for numbers out of their range.
    """
    height, width = _agreed(model.size, size)
    shape = (model.channels, height, width)
    record = {
        "name": name,
        "count": 0,
        "shape": list(shape),
        "units": Levels(256).to_state(),
        "class_names": [str(number) for number in range(model.classes)],
        "fingerprint": "",
        "bad_files": [],
        "held_out": [],
    }
    settings = Settings(
        data=DataSettings(labels=model.classes > 0),
        process=model.process,
        network=model.network,
        training=TrainingSettings(accumulation=1),
        machine=MachineSettings(
            precision="fp32", layout="contiguous"
        ),  # as they compute: the nearest numbers
    )
    facts = DataFacts(shape, is_levels=True)
    settings = resolve_for(resolve(settings, facts), facts, 0, UNFOLDED[0])
    return Draft(settings, record)


def _agreed(said: Size | None, asked: Size | None) -> Size:
    if said is None and asked is None:
        raise ModelError(
            "sample_size = null: the model does not say how large its images are", "say it: --size 64"
        )
    if said is not None and asked not in (None, said):
        raise ModelError(f"the model's images are {said[0]} x {said[1]} (height, width)", "leave --size out")
    if asked is not None and not all(1 <= side <= 65_536 for side in asked):
        raise ModelError(f"a size is 1 to 65,536 pixels, not {asked[0]} x {asked[1]}")
    agreed = asked or said
    assert agreed is not None
    return agreed


def empty_network(draft: Draft) -> UNet:
    """The network without its weights: names and shapes alone, so that nothing is allocated for an untrusted file.

    Raises SettingsError for what cannot be, in the network or in the process.
    """
    settings = replace(draft.settings, machine=replace(draft.settings.machine, device="meta"))
    with torch.device("meta"):
        network = build_network(settings, draft.data)
    build_model(settings, network, draft.data.units)
    assert isinstance(network, UNet)
    return network
