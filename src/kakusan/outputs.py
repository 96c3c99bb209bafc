"""Samples on disk: a grid, a folder of pictures, or an array in the data's own units."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kakusan import durable
from kakusan.errors import SettingsError
from kakusan.maths.units import Levels, Units
from kakusan.pictures import encode_png, grid, save_folder
from kakusan.shapes import Images


def refuse_to_overwrite(out: Path) -> None:
    """Raises SettingsError if something is there. Asked before the work, not after it."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SettingsError(f"{out} is there already", "name another --out, or say --overwrite")


def save_samples(
    x_0: Images, units: Units, out: Path, about: Mapping[str, Any], *, raw: bool, first: int
) -> None:
    """Write images where `out` says: NAME.png a grid, NAME.npz an array, else a folder of PNG files by number.

    Levels are rounded to the nearest and held to their range, which `about["outside"]` counts; raw (npz alone) is the
    network's units, untouched. What `about` says goes beside it, as JSON.
    """
    if raw and out.suffix != ".npz":
        raise SettingsError(
            "--raw keeps the network's units, which a picture cannot", "name an .npz: --out samples.npz"
        )
    with durable.telling(f"cannot write {out}", out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".png":
            durable.atomic_write(out, encode_png(grid(x_0, units)))
        elif out.suffix == ".npz":
            durable.atomic_write(out, _npz(x_0, units, raw=raw))
        elif out.suffix:
            raise SettingsError(
                f"samples are not written as {out.suffix}", "name a .png, an .npz or a folder"
            )
        else:
            save_folder(units.to_bytes(x_0), out, first=first)
        durable.atomic_write(sidecar(out), (json.dumps(about, indent=2) + "\n").encode())


def sidecar(out: Path) -> Path:
    """Where it is written how an output was made."""
    return out.with_name(out.name + ".json")


def _npz(x_0: Images, units: Units, *, raw: bool) -> bytes:
    arrays: dict[str, Any] = {}
    if raw:
        arrays["images"] = np.ascontiguousarray(x_0.cpu().permute(0, 2, 3, 1).numpy())
    else:
        arrays["images"] = units.decode(x_0)
        if isinstance(units, Levels):
            arrays["levels"] = np.array(units.levels)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
