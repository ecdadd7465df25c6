"""Plain arithmetic that compiled code may call.

Python and NumPy call it as it is. It is marked here, and not in `base.compiled`, because that imports numba, which
takes a while and which few commands need.
"""

import inspect
from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable[..., object])

_MARKED: list[Callable[..., object]] = []


def compilable(function: Function) -> Function:
    """Mark a function as one that `base.compiled` compiles into whatever compiled code calls it."""
    _MARKED.append(function)
    return function


def marked() -> tuple[Callable[..., object], ...]:
    """All functions marked so far, in the order they were."""
    return tuple(_MARKED)


def is_marked(value: object) -> bool:
    """Whether a value is such a function."""
    return inspect.isfunction(value) and value in _MARKED
