"""Work of a CUDA device as one graph: the host asks for it once, rather than for each of its hundreds of kernels.

A small network's kernels take less time than Python needs to ask for them. A graph is what they did when it was
captured: the same kernels on the same memory, so that all that changes from one time to the next has to lie there.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from kakusan.shapes import Condition

Result = TypeVar("Result")

PLAIN = 3
"""Times that work is done as it is before it is captured: libraries choose and load their kernels at first."""


class Replayed(Generic[Result]):
    """Work that reads its inputs from tensors of its own and leaves its results in the same ones each time.

    The first few times it is done as it is, with the same bits; then it is captured. It must not wait for the device,
    nor look at a value there. A result is good until the next call.
    """

    def __init__(self, work: Callable[[], Result], device: torch.device, *, plain: int = PLAIN) -> None:
        self._work, self._device, self._plain = work, device, plain
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Result

    def __call__(self) -> Result:
        with torch.cuda.device(self._device):
            return self._called()

    def _called(self) -> Result:
        if self._plain > 0:
            self._plain -= 1
            return self._aside()
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._result = self._work()
            self._graph = graph
        self._graph.replay()
        return self._result

    def _aside(self) -> Result:
        """On another stream than the default one, which no capture may use, so that memory is laid out for it."""
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            result = self._work()
        here.wait_stream(aside)
        return result


KEPT = 2
"""Shapes of a network's calls that are kept captured."""


class ReplayedCalls:
    """Calls of a network without gradients; those whose shapes come again are captured."""

    def __init__(self) -> None:
        self._calls: dict[Any, _Call | None] = {}

    def __call__(
        self,
        call: Callable[..., Tensor],
        network: nn.Module,
        mode: object,
        x: Tensor,
        time: Tensor,
        condition: Condition | None,
    ) -> Tensor:
        """The answer of `call`, which asks this network, with its weights of now, in this mode."""
        key = (mode, _form(x), _form(time), _forms(condition), network.training, _place(network))
        if key not in self._calls:
            while len(self._calls) >= KEPT:
                del self._calls[next(iter(self._calls))]
            self._calls[key] = None
            return call(x, time, condition)
        if (found := self._calls[key]) is None:
            found = self._calls[key] = _Call(call, x, time, condition)
        return found(x, time, condition)

    def __deepcopy__(self, memo: Any) -> "ReplayedCalls":
        return ReplayedCalls()  # graphs know the memory of the other network


class _Call:
    """A call whose inputs have memory of their own."""

    def __init__(
        self, call: Callable[..., Tensor], x: Tensor, time: Tensor, condition: Condition | None
    ) -> None:
        self._inputs = [
            x.clone(),
            time.clone(),
            *([] if condition is None else [t.clone() for _, t in condition.tensors()]),
        ]
        names = () if condition is None else tuple(name for name, _ in condition.tensors())

        def work() -> Tensor:
            x, time, *given = self._inputs
            return call(x, time, Condition(**dict(zip(names, given, strict=True))) if names else None)

        self._replayed = Replayed(work, x.device, plain=1)

    def __call__(self, x: Tensor, time: Tensor, condition: Condition | None) -> Tensor:
        given = () if condition is None else (tensor for _, tensor in condition.tensors())
        torch._foreach_copy_(self._inputs, [x, time, *given])
        return self._replayed().clone()


def _form(x: Tensor) -> tuple[Any, ...]:
    return tuple(x.shape), x.stride(), x.dtype, x.device


def _forms(condition: Condition | None) -> tuple[Any, ...]:
    return () if condition is None else tuple((name, _form(tensor)) for name, tensor in condition.tensors())


def _place(network: nn.Module) -> tuple[Any, ...]:
    """Another one where the weights have been moved, or cast."""
    first = next(network.parameters())
    return first.data_ptr(), first.dtype
