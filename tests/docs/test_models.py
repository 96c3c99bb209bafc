"""docs/models.md: every key of theirs and every setting of ours in its tables is one, and none is left out."""

import re
from pathlib import Path

from kakusan.config.loading import known_names
from kakusan.config.networks import UNetOptions
from kakusan.config.settings import ProcessSettings
from kakusan.diffusion.schedules import Linear
from kakusan.interop.diffusers.config import unet_config
from kakusan.interop.diffusers.schedulers import scheduler_config

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
NETWORK = UNetOptions(
    width=32,
    multipliers=(1, 2),
    blocks=2,
    attention=(1,),
    groups=8,
    time_width=64,
    dropout=0.0,
    patch=1,
)


def written() -> set[str]:
    """The keys that an export writes."""
    unet = unet_config(NETWORK, (3, 32, 32), classes=0, learned=False)
    schedulers = (
        scheduler_config(ProcessSettings(predicts="eps"), Linear(), kind) for kind in ("ddpm", "ddim")
    )
    return {key for config in (unet, *schedulers) for key in config if not key.startswith("_")}


def test_every_key_of_theirs_is_explained() -> None:
    ignored = {"dynamic_thresholding_ratio", "sample_max_value"}  # they belong to thresholding
    assert {key for key in written() - ignored if f"`{key}`" not in TEXT} == set()


def test_every_setting_of_ours_is_one() -> None:
    named = set(re.findall(r"`((?:network|process)\.\w+)`", TEXT))
    assert len(named) > 25
    assert named <= known_names()
