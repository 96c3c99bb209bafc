"""Checks of annotations at run time, made once for each combination of shapes and types that a function meets.

Whether a call keeps to its annotations depends on the shapes and types of its arguments and of its result alone, and a
walk makes thousands of calls with the same ones, each of which would cost more to check than to answer.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import jaxtyping
import numpy as np
from torch import Tensor

CHECKED = jaxtyping.jaxtyped


def kind(value: Any) -> Any:
    """All of a value that an annotation can ask for, as a key."""
    if isinstance(value, Tensor | np.ndarray):
        return type(value), value.shape, value.dtype
    if isinstance(value, str):
        return value  # a word may be one of a few
    if isinstance(value, tuple | list):
        return type(value), *map(kind, value)
    if isinstance(value, dict):
        return dict, *((name, kind(one)) for name, one in value.items())
    length = getattr(value, "T", None)  # which shapes are written with: a table has self.T entries
    return (type(value), length) if isinstance(length, int) else type(value)


def jaxtyped(fn: Any = None, *, typechecker: Any) -> Any:
    """As `jaxtyping.jaxtyped`, for a function or a dataclass."""
    if fn is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if inspect.isclass(fn):
        if dataclasses.is_dataclass(fn) and "__init__" in vars(fn):
            fn.__init__ = jaxtyped(fn.__init__, typechecker=typechecker)  # type: ignore[method-assign]
        return fn
    return (
        once_a_kind(fn, typechecker) if isinstance(fn, FunctionType) else CHECKED(fn, typechecker=typechecker)
    )


def once_a_kind(plain: FunctionType, typechecker: Any) -> Callable[..., Any]:
    """A function that is checked where its arguments or its result have a kind that it has not been checked for."""
    answer: list[Any] = []

    def answering(*_: Any, **__: Any) -> Any:
        return answer.pop()

    # with the names that the annotations are written with
    twin = FunctionType(answering.__code__, plain.__globals__, plain.__name__, closure=answering.__closure__)

    @functools.cache
    def checked() -> Callable[..., Any]:
        """Made at the first call: most functions have none in a test."""
        made: Callable[..., Any] = CHECKED(plain, typechecker=typechecker)
        return made

    @functools.cache
    def checks_answer() -> Callable[..., Any]:
        made: Callable[..., Any] = CHECKED(functools.wraps(plain)(twin), typechecker=typechecker)
        return made

    known: dict[Any, set[Any]] = {}

    @functools.wraps(plain)
    def call(*arguments: Any, **named: Any) -> Any:
        asked = kind(arguments), kind(named)
        if asked not in known:
            result = checked()(*arguments, **named)
            known.setdefault(asked, set()).add(kind(result))
            return result
        result = plain(*arguments, **named)
        answered = kind(result)
        if answered not in known[asked]:
            answer[:] = [result]
            checks_answer()(*arguments, **named)
            known[asked].add(answered)
        return result

    return call
