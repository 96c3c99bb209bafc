"""Weights by the names of diffusers and of kakusan: products computed at once here are joined and taken apart."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.errors import ModelError
from kakusan.interop.diffusers.config import todays_name
from kakusan.interop.diffusers.keys import brief
from kakusan.networks import UNet
from kakusan.networks.layers import sinusoids

SCHEDULE = "log_snr."
"""Of the parameters of a schedule that was learned with the network, which are the scheduler's there."""
TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""Types of weights that are taken in, all as float32."""


def joined(network: UNet, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of diffusers by kakusan's names, float32. Raises ModelError for missing ones, others and other shapes."""
    theirs = _todays(theirs)
    wanted = _their_shapes(network)
    if lost := [name for name in wanted if name not in theirs]:
        raise ModelError(f"the weights lack {_some(lost)}", "the configuration speaks of another network")
    if left := [name for name in theirs if name not in wanted]:
        raise ModelError(f"the weights hold {_some(left)}, of which the configuration says nothing")
    for name, shape in wanted.items():
        _check(name, theirs[name], shape)
    fused = network.fused_parts()
    return {
        name: torch.cat([theirs[part] for part in fused.get(name, (name,))]).float()
        for name, _ in network.named_parameters()
    }


def _todays(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        if (today := todays_name(name)) in renamed:
            raise ModelError(f"the weights hold {brief(today)} twice, by its old name and by today's")
        renamed[today] = tensor
    return renamed


def separated(network: UNet, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of kakusan by the names of diffusers: the inverse of `joined`, without a learned schedule."""
    fused = network.fused_parts()
    names = (name for name, _ in network.named_parameters() if not name.startswith(SCHEDULE))
    parts = {name: fused.get(name, {name: slice(None)}) for name in names}
    return {
        part: ours[name][rows].detach().float().cpu().contiguous()
        for name, theirs in parts.items()
        for part, rows in theirs.items()
    }


def embedded_times(denoiser: NetworkDenoiser, network: UNet) -> dict[str, Tensor]:
    """A table of embeddings for t = 1..T, as diffusers has for networks that learn one, in place of sinusoids of t.

    A network that is told the log-SNR gets the same numbers by it, row by row.
    """
    t, made = torch.arange(1, denoiser.path.T + 1, dtype=torch.float64), network.time_embedding
    waves = sinusoids(denoiser.time(t).float(), made.width, made.shift, cos_first=made.cos_first)
    return {"time_proj.weight": waves.contiguous()}


def _their_shapes(network: UNet) -> dict[str, tuple[int, ...]]:
    fused = network.fused_parts()
    shapes: dict[str, tuple[int, ...]] = {}
    for name, parameter in network.named_parameters():
        for part, rows in fused.get(name, {name: slice(0, len(parameter))}).items():
            shapes[part] = (rows.stop - rows.start, *parameter.shape[1:])
    return shapes


def _check(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ModelError(f"{name} has the shape {tuple(tensor.shape)}; by the configuration it is {shape}")
    if tensor.dtype not in TYPES:
        known = ", ".join(map(str, TYPES))
        raise ModelError(f"{name} is of {tensor.dtype}, which is not taken in", f"known here: {known}")
    if not torch.isfinite(tensor.float()).all():  # also where float32 is too small for it
        raise ModelError(f"{name} is not finite: such weights are not taken in")


def _some(names: list[str]) -> str:
    return ", ".join(map(brief, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
