"""A check of annotations that is made once for each kind of call misses no kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import shape_checks
import torch
from beartype import beartype
from jaxtyping import Float, Float64, TypeCheckError
from torch import Tensor

Made = TypeVar("Made", bound=Callable[..., Any])
Pair = tuple[Float[Tensor, " n"], Float[Tensor, " n"]]


def checked(made: Made) -> Made:
    found: Made = shape_checks.jaxtyped(made, typechecker=beartype)
    return found


@checked
def shortened(x: Float[Tensor, " n"], by: int) -> Float[Tensor, " n"]:
    """Right for 0 alone."""
    return x[by:]


@checked
def paired(pair: Pair) -> Float[Tensor, " n"]:
    return pair[0] + pair[1]


@checked
@dataclass(frozen=True)
class Table:
    T: int
    start: Float[Tensor, ""]

    @checked
    def betas(self, entries: int) -> Float64[Tensor, " {self.T}"]:
        return torch.zeros(entries, dtype=torch.float64)


@checked
def answered(x: "Float[Tensor, ' n']", y: "Float[Tensor, ' n']") -> "Float[Tensor, ' n']":
    return x + y


def test_a_result_is_checked_though_its_arguments_were_met_before() -> None:
    x = torch.zeros(3)
    for _ in range(2):
        assert shortened(x, 0).shape == (3,)
        with pytest.raises(TypeCheckError, match="return value"):
            shortened(x, 1)
    assert shortened(x, 0).shape == (3,)


def test_shapes_types_and_numbers_are_told_apart() -> None:
    x, y = torch.zeros(3), torch.zeros(4)
    for _ in range(2):
        assert answered(x, x).shape == (3,)
        assert answered(y, y).shape == (4,)
        for wrong in ((x, y), (x, x.long()), (x, x[None]), (x, None)):
            with pytest.raises(TypeCheckError):
                answered(*wrong)


def test_what_lies_in_a_tuple_is_looked_at() -> None:
    x, y = torch.zeros(3), torch.zeros(4)
    assert paired((x, x)).shape == (3,)
    with pytest.raises(TypeCheckError):
        paired((x, y))
    with pytest.raises(TypeCheckError):
        paired((x, x, x))  # type: ignore[arg-type]


def test_the_length_of_a_table_is_that_of_its_owner() -> None:
    start = torch.tensor(0.0)
    for _ in range(2):
        assert Table(3, start).betas(3).shape == (3,)
        assert Table(4, start).betas(4).shape == (4,)
        with pytest.raises(TypeCheckError):
            Table(4, start).betas(3)


def test_the_fields_of_a_dataclass_are_checked() -> None:
    Table(3, torch.tensor(0.0))
    with pytest.raises(TypeCheckError):
        Table(3, torch.zeros(2))


def test_errors_pass_as_they_are_and_names_stay() -> None:
    with pytest.raises(TypeError, match="missing"):
        shortened(torch.zeros(3))  # type: ignore[call-arg]
    assert shortened.__doc__ == "Right for 0 alone."
    assert shortened(x=torch.zeros(2), by=0).shape == (2,)


def test_the_hook_checks_this_way() -> None:
    from kakusan.diffusion.gaussians import Gaussian

    assert Gaussian.kl.__code__ is shortened.__code__
    with pytest.raises(TypeCheckError):
        Gaussian(torch.zeros(2, 1), "a word")  # type: ignore[arg-type]
