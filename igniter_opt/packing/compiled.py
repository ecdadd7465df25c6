"""Compilation of hot loops by numba, kept on disk so that only the first run ever pays for it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function when it is first called.

    The machine code is cached where ``NUMBA_CACHE_DIR`` says; else in the virtual environment; else beside the module,
    or in the user's cache folder; where none of them can be written it is made anew in every process. (In an
    environment it is not kept beside the module because pip would leave it there, and a folder of the package's name
    hides an editable installation made later.) Arithmetic keeps IEEE order (no fast-math), so results do not depend on
    it.
    """
    given = numba.config.CACHE_DIR
    if not given and sys.prefix != sys.base_prefix:
        numba.config.CACHE_DIR = str(Path(sys.prefix) / "var" / "cache" / "igniter-opt")
    try:
        # The place is settled here, so that other users of numba keep theirs.
        made: Function = numba.njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # no place for a cache
        made = numba.njit(error_model="numpy")(function)
    finally:
        numba.config.CACHE_DIR = given
    return made
