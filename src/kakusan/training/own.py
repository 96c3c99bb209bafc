"""A network of one's own: the record of a module in a run, and whether a module is the one on record.

A run's folder holds weights and no code: the module comes from the caller, each time, and is known by the names, types
and shapes of its state.
"""

import hashlib
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from kakusan.config.networks import NetworkOptions
from kakusan.config.networks.own import OwnOptions
from kakusan.diffusion.denoiser import NetworkDenoiser
from kakusan.errors import RunError, SettingsError
from kakusan.shapes import Condition, Samples

CALLED = "it is called with (x_t, time, condition), time = t - 1, and gives a tensor of the shape of x_t"
HOW = "in Python, with the module: kakusan.Run.open(RUN, network=module).sample(), .evaluate(), .report(), .resume()"


def own_settings(network: nn.Module) -> OwnOptions:
    """The entries of config.toml on a module. Raises SettingsError where it cannot be trained or stored."""
    _require_learning(network)
    return OwnOptions(
        module=type(network).__name__,
        parameters=sum(p.numel() for p in network.parameters()),
        signature=signature(network),
    )


def signature(network: nn.Module) -> str:
    """The SHA-256 of the names, types and shapes of all that its state holds, in hexadecimal."""
    lines = [
        f"{name} {value.dtype} {tuple(value.shape)}\n" for name, value in sorted(network.state_dict().items())
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def known_again(network: nn.Module | None, settings: NetworkOptions) -> nn.Module:
    """The module, if it is the one that these settings describe. Raises RunError where it is missing, or another."""
    if network is None:
        raise RunError(f"the network is not built from settings, and not here: {_described(settings)}", HOW)
    if not isinstance(settings, OwnOptions):
        raise RunError(
            f"a network of your own was given, and these weights are of a {settings.kind}",
            "leave it out: network=None",
        )
    _require_learning(network)
    if signature(network) != settings.signature:
        raise RunError(
            f"the network is not the one of this run: {_described(own_settings(network))},"
            f" where the run has {_described(settings)}",
            "names, types and shapes in its state_dict() are others; to train it: another run",
        )
    return network


def require_answers(denoiser: NetworkDenoiser, x_t: Samples, given: Condition | None, outputs: int) -> None:
    """Call the module once without a condition and, where samples come with one, once with it.

    outputs: how many numbers answer for a value of x_t. Raises SettingsError where the module raises anything, and for
    answers of another shape.
    """
    wanted = (outputs * x_t.shape[1], *x_t.shape[2:])
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for condition in (None,) if given is None else (None, given):
            shape = _answered(denoiser, x_t, condition)
            if shape != (len(x_t), *wanted):
                raise SettingsError(
                    f"the network gives {shape[1:]} for a sample of {tuple(x_t.shape[1:])}, where {wanted} is wanted",
                    CALLED,
                    "where process.variance is learned, and only there, twice as many channels",
                )


def _answered(denoiser: NetworkDenoiser, x_t: Samples, condition: Condition | None) -> tuple[int, ...]:
    """The shape of its answer."""
    shapes: list[tuple[int, ...]] = []

    def noting(*inputs: Any) -> Tensor:
        output: Tensor = denoiser.network(*inputs)
        shapes.append(tuple(output.shape))
        return output

    try:
        replace(denoiser, network=noting).output(x_t, torch.ones(len(x_t), dtype=torch.float64), condition)
    except Exception as error:
        if shapes and len(shapes[0]) == x_t.ndim:  # it has answered: its shape says more
            return shapes[0]
        problem = f"the network cannot be used: {type(error).__name__}: {error}"
        raise SettingsError(problem, CALLED) from error
    return shapes[0]


def _described(settings: NetworkOptions) -> str:
    if not isinstance(settings, OwnOptions) or not settings.module:
        return "no module was given"
    return f"a {settings.module} with {settings.parameters:,} parameters"


def _require_learning(network: nn.Module) -> None:
    """Raises SettingsError where the module has nothing to learn, or a state that is not made of tensors."""
    if not isinstance(network, nn.Module):
        raise SettingsError(f"a network is a torch.nn.Module, not {type(network).__name__}", CALLED)
    name = type(network).__name__
    if lazy := [key for key, p in (*network.named_parameters(), *network.named_buffers()) if is_lazy(p)]:
        raise SettingsError(f"{name} does not know the shape of {lazy[0]} yet", "call it once before")
    if not any(p.requires_grad for p in network.parameters()):
        raise SettingsError(
            f"{name} has no parameter to learn", "requires_grad is False for all, or there are none"
        )
    if strange := [key for key, value in network.state_dict().items() if not isinstance(value, Tensor)]:
        raise SettingsError(
            f"the state of {name} holds more than tensors: {strange[0]}",
            "a checkpoint stores tensors alone: register buffers in place of get_extra_state()",
        )
    if whole := [key for key, p in network.named_parameters() if not p.is_floating_point()]:
        raise SettingsError(f"the parameter {whole[0]} of {name} is not real", "make it a buffer")
