"""Dropout whose draws may come from a generator of the thread: parts of a batch that are computed at once drop alike
whichever comes first."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Thread(threading.local):
    """Per thread: the generator that its dropout draws from; None: torch's own."""

    generator: torch.Generator | None = None


_thread = _Thread()


@contextmanager
def dropout_seed(seed: int) -> Iterator[None]:
    """A context in which the dropout of this thread is a function of the seed, whatever other threads draw."""
    _thread.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _thread.generator = None


def has_dropout(network: nn.Module) -> bool:
    """Whether anything is dropped in training."""
    kinds = nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d | nn.AlphaDropout
    return any(
        isinstance(module, kinds) or getattr(getattr(module, "style", None), "dropout", 0)
        for module in network.modules()
    )


def dropout(x: Tensor, share: float) -> Tensor:
    """Inverted dropout in training: a share of the values becomes 0, the others grow by 1 / (1 - share).

    It draws from torch's own generator or, within `dropout_seed`, from that of the thread: the same for the same seed.
    """
    if _thread.generator is None:
        return F.dropout(x, share)
    return x * torch.empty_like(x).bernoulli_(1 - share, generator=_thread.generator).div_(1 - share)


@contextmanager
def repeating(device: torch.device) -> Iterator[Callable[[], None]]:
    """A context with a function that takes dropout back to where it stood: from there on, the same is dropped again.

    device: of the features. Within a CUDA graph, whose draws are its own, there is no way back.
    """
    if (generator := _thread.generator) is not None:
        state = generator.get_state()
        yield lambda: _set(generator, state)
    else:
        own: Any = {"cuda": torch.cuda, "mps": torch.mps}.get(device.type, torch)
        state = own.get_rng_state()
        yield lambda: own.set_rng_state(state)


def _set(generator: torch.Generator, state: Tensor) -> None:
    generator.set_state(state)
