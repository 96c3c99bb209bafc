"""The optimizers by their names. A new one is a function beside these and a line in the table.

`training.step.update` asks two things of an optimizer, as torch's fused ones have them: it divides gradients by its
attribute `grad_scale`, and where `found_inf` is 1 it changes nothing, both without a wait for the device. And one thing
of its groups of parameters: `moments`, the names of the tensors in the shape of a parameter that its state holds.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import adamw as torch_adamw

from kakusan.config.parallel import at_once, dealt
from kakusan.config.settings import TrainingSettings, answered

EPS = 1e-8
"""Added to the root of AdamW's second moment."""
OF_ADAMW = ("exp_avg", "exp_avg_sq")
"""AdamW's moments, as torch calls them."""
MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of s, s^3 and s^5, which a singular value s becomes in an iteration: steep at 0, then near 1 (Jordan et al. 2024)."""
SMALLEST_NORM = 1e-7
"""A matrix whose gradients are smaller has no direction worth a step."""
ADAMWS_SIZE = 0.2
"""Root mean square of AdamW's steps, in units of the rate (Liu et al. 2025, section 2.2)."""
LARGEST_VECTORS = 4
"""Rows or columns of a weight that is no matrix yet, but a few vectors: the way from or to a few channels."""
VALUES = {"cpu": 1 << 18}
"""Of matrices of one shape that are made orthogonal together: on a CPU as many as its cache holds."""
VALUES_ELSEWHERE = 1 << 24


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, for matrices (Jordan et al. 2024), AdamW for all else.

    A matrix moves by an orthogonal one, so that it moves alike in all directions, in those of small gradients too. Such
    a step is scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982), whose learning rates and weight decay
    then fit both. What is no matrix are vectors, on which orthogonality says nothing.

    matrices: weights that are matrices when flattened to (out, in * kernel).
    """

    grad_scale: Tensor | None = None
    """A number that the next step divides gradients by."""
    found_inf: Tensor | None = None
    """1 where the next step must change nothing, to the bit, whatever the gradients are; else 0."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        momentum: float = MOMENTUM,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "momentum": momentum, "moments": ("momentum",)},
            {"params": list(others), "betas": betas, "moments": OF_ADAMW},
        ]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Move all parameters that have a gradient."""
        matrices, others = self.param_groups
        self._move_matrices(matrices)
        self._move_others(others)

    def _move_matrices(self, group: dict[str, Any]) -> None:
        """By batches of one shape; on a CPU several at once."""
        batches = list(_batches(_with_gradient(group)))
        on_cpu = all(batch[0].device.type == "cpu" for batch in batches)

        def move(part: Sequence[Sequence[nn.Parameter]]) -> None:
            with torch.no_grad():
                for batch in part:
                    self._move_batch(batch, group)

        at_once(move, dealt(batches) if on_cpu else [batches])

    def _move_batch(self, batch: Sequence[nn.Parameter], group: dict[str, Any]) -> None:
        """Matrices of one shape."""
        moments = [self._state(p, group)["momentum"] for p in batch]
        weight, moment = torch.stack(list(batch)), torch.stack(moments)
        gradient = torch.stack([_gradient(p) for p in batch])
        if self.grad_scale is not None:
            gradient = gradient / self.grad_scale
        moved = moment.lerp(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(moved, group["momentum"])  # Nesterov's look
        direction = orthogonal(ahead.flatten(2))
        size = ADAMWS_SIZE * math.sqrt(max(direction.shape[1:]))
        kept = weight * (1 - group["lr"] * group["weight_decay"])
        stepped = kept - (group["lr"] * size) * direction.reshape(weight.shape)
        if self.found_inf is not None:
            good = self.found_inf == 0
            moved, stepped = torch.where(good, moved, moment), torch.where(good, stepped, weight)
        torch._foreach_copy_(moments, moved.unbind())
        torch._foreach_copy_(list(batch), stepped.unbind())

    def _move_others(self, group: dict[str, Any]) -> None:
        parameters = _with_gradient(group)
        states = [self._state(p, group) for p in parameters]
        beta_1, beta_2 = group["betas"]
        torch_adamw.adamw(
            list(parameters),
            [_gradient(p) for p in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            grad_scale=self.grad_scale,
            found_inf=self.found_inf,
            amsgrad=False,
            beta1=beta_1,
            beta2=beta_2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPS,
            maximize=False,
        )

    def _state(self, parameter: nn.Parameter, group: dict[str, Any]) -> dict[str, Tensor]:
        """Zeros at first; AdamW counts its steps, which orthogonal ones, of one size from the first on, need not."""
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state.update({name: torch.zeros_like(parameter) for name in group["moments"]})
            if group["moments"] == OF_ADAMW:
                state["step"] = torch.zeros((), device=parameter.device)
        return state


Matrices = Float[Tensor, "batch rows columns"]


def orthogonal(x: Matrices) -> Matrices:
    """Matrices of the same singular vectors, whose singular values are about 1: by Newton and Schulz's iteration.

    In five iterations values from 1/500 of the norm on come to 0.68 to 1.20, smaller ones to less.

    An iteration multiplies by a polynomial of X X^T, and all of these commute. So their product is formed, of small
    squares, and the long X is multiplied twice in all: half the time for 3x3 kernels on a CPU, about that of bfloat16.
    It has to be float32: bfloat16 rounds the squares of small singular values away, and iterations enlarge the rest.
    """
    if x.shape[-2] > x.shape[-1]:
        return orthogonal(x.mT).mT
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp(min=SMALLEST_NORM)
    square = torch.bmm(wide, wide.mT)
    product = factor = _factor(square)
    for _ in range(ITERATIONS - 1):
        square = torch.bmm(factor, torch.bmm(factor, square))
        factor = _factor(square)
        product = torch.bmm(factor, product)
    return torch.bmm(product, wide).to(x.dtype)


def _factor(square: Matrices) -> Matrices:
    """a + b X X^T + c (X X^T)^2, which an iteration multiplies X by."""
    a, b, c = COEFFICIENTS
    factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor


def matrices_of(network: nn.Module) -> list[nn.Parameter]:
    """The weights that map many channels to many.

    Not so a table of embeddings: each of its rows is looked up by itself and none is mixed with another, and an
    orthogonal step would move the rows of classes that are not in the batch.
    """
    tables = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    return [p for p in network.parameters() if _is_matrix(p) and id(p) not in tables]


def _is_matrix(weight: nn.Parameter) -> bool:
    rows, columns = (weight.shape[0], math.prod(weight.shape[1:])) if weight.ndim > 1 else (0, 0)
    return min(rows, columns) > LARGEST_VECTORS


def _with_gradient(group: dict[str, Any]) -> list[nn.Parameter]:
    return [p for p in group["params"] if p.grad is not None]


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _batches(matrices: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Those of one shape and type together, so many that they are not too large; the largest first."""

    def form(p: nn.Parameter) -> tuple[Any, ...]:
        return -p.numel(), *p.shape, str(p.dtype)

    for _, alike in groupby(sorted(matrices, key=form), key=form):
        members = list(alike)
        most = VALUES.get(members[0].device.type, VALUES_ELSEWHERE)
        size = max(1, most // members[0].numel())
        yield from (members[begin : begin + size] for begin in range(0, len(members), size))


# By name


def adamw_of(network: nn.Module, training: TrainingSettings, device: torch.device) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), torch's own as one kernel, for all parameters."""
    return torch.optim.AdamW(
        [{"params": list(network.parameters()), "moments": OF_ADAMW}],
        lr=answered(training.learning_rate),
        betas=training.betas,
        eps=EPS,
        weight_decay=training.weight_decay,
        fused=True,
        capturable=device.type == "cuda",
    )


def muon_of(network: nn.Module, training: TrainingSettings, device: torch.device) -> torch.optim.Optimizer:  # noqa: ARG001
    """`Muon`, for the network's matrices."""
    matrices = matrices_of(network)
    known = {id(p) for p in matrices}
    return Muon(
        matrices,
        [p for p in network.parameters() if id(p) not in known],
        lr=answered(training.learning_rate),
        betas=training.betas,
        weight_decay=training.weight_decay,
    )


OPTIMIZERS: dict[str, Callable[[nn.Module, TrainingSettings, torch.device], torch.optim.Optimizer]] = {
    "adamw": adamw_of,
    "muon": muon_of,
}


def moments_in_all(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all moments, once there are such."""
    return sum(
        len(group.get("moments", ())) * p.numel() * p.element_size()
        for group in optimizer.param_groups
        for p in group["params"]
    )
