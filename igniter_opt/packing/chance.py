"""Random numbers in compiled code: numba's generators are long, and here only once."""

import numpy as np

from igniter_opt.base.compilable import compilable


@compilable
def below(most: int) -> int:
    """Return one of 0 .. most - 1 at random."""
    return np.random.randint(0, most)


@compilable
def chance() -> float:
    """Draw a random number between 0 and 1."""
    return np.random.random()


@compilable
def seeded(seed: int) -> None:
    """Begin anew with this seed."""
    np.random.seed(seed)
