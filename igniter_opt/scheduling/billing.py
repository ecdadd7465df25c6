"""What GPUs are billed for: from the start-up before the first step of a lease to the end of its last one.

A lease is a run of consecutive steps in which there is a GPU of one name; it is billed for ``k`` steps and the start-up
before them, rounded up to whole units of the billing granularity.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# What a sum of times may be off by rounding, relative to a billing unit.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Billing:
    """How GPUs are billed (seconds).

    Attributes
    ----------
    step_s
        Length of a step.
    startup_s
        How long before its first step a GPU is rented.
    unit_s
        Leases are billed for whole multiples of this; 0 for by the second.
    """

    step_s: float
    startup_s: float = 0.0
    unit_s: float = 0.0

    def billed_s(self, steps: int) -> float:
        """Return the seconds billed for a lease of so many steps."""
        seconds = steps * self.step_s + self.startup_s
        if not self.unit_s:
            return seconds
        return math.ceil(seconds / self.unit_s - _ROUNDING) * self.unit_s

    @property
    def start_s(self) -> float:
        """Seconds that a lease costs beyond its steps: exactly where steps are whole units, else those of one step."""
        return self.billed_s(1) - self.step_s

    @property
    def least_start_s(self) -> float:
        """Seconds that every lease costs beyond its steps at least.

        A lease of k steps is billed for at least ``k step + startup``. Where a step is a whole number of units, that
        is ``k step`` and the start-up, rounded up by itself.
        """
        if self.unit_s and abs(self.step_s / self.unit_s - round(self.step_s / self.unit_s)) < _ROUNDING:
            return self.billed_s(1) - self.step_s
        return self.startup_s


@dataclass(frozen=True)
class Lease:
    """A GPU's name and type, its first step, and how many steps it is there."""

    gpu: str
    type: str
    first: int
    steps: int


def leases(steps: Sequence[Iterable[tuple[str, str]]]) -> list[Lease]:
    """Return the leases of the GPUs (name and type) that there are in every step."""
    found: list[Lease] = []
    running: dict[tuple[str, str], int] = {}
    for step, gpus in enumerate([*map(set, steps), set()]):
        for gpu in sorted(running.keys() - gpus):
            first = running.pop(gpu)
            found.append(Lease(*gpu, first, step - first))
        for gpu in sorted(gpus - running.keys()):
            running[gpu] = step
    return sorted(found, key=lambda lease: (lease.first, lease.gpu))
