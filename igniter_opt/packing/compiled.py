"""Compilation of hot loops by numba, kept on disk so that only the first run ever pays for it."""

from collections.abc import Callable
from typing import TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function when it is first called.

    The machine code is cached beside the module, or in the user's cache folder; where neither can be written it
    is made anew in every process. Arithmetic keeps IEEE order (no fast-math), so results do not depend on it.
    """
    try:
        made: Function = numba.njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # no place for a cache
        made = numba.njit(error_model="numpy")(function)
    return made
