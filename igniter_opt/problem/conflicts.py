"""Sets of items that no single GPU can carry together, proven by a least-fixed-point argument.

An item is one replica of a workload. For a set S on one GPU type, give every member its *ideal point*: the
least share, power, cache use and traffic over its configurations, each taken separately. If any feasible
placement of S exists, every member's neighbours have at least the sum of the others' ideal points, so (the
model being monotone) a configuration that violates its row against those sums, or whose share exceeds what
the others' least shares leave, is in no feasible placement of S. Dropping such configurations raises the
ideal points; repeat until nothing changes. A member without configurations, or least shares over 100 percent,
proves S infeasible; so does a superset of S, because removing placements never hurts. The converse does not
hold: a set that passes may still be infeasible, hence nothing is concluded from passing.

`packing.sets.least_point` asks the same of one set in compiled code: this form asks it of all sets at once without
compiling, for the assignment formulation, and stands in a room below.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.physics.interference import added_delay, clock_ratio
from igniter_opt.physics.parameters import HardwareCoefficients
from igniter_opt.physics.rows import needed
from igniter_opt.problem.configurations import Configurations

_SETS_AT_ONCE = 2_000_000
# A row is called violated only by more than this (relative), so that rounding never proves anything.
_PROOF_GUARD = 1e-9


class SetCheck:
    """Ideal-point bounds for sets of items on one GPU type with a monotone model.

    Parameters
    ----------
    items
        Configurations of every item; None where the type cannot serve it.
    """

    def __init__(
        self,
        hardware: HardwareCoefficients,
        items: Sequence[Configurations | None],
        memory_limit: float | None,
    ) -> None:
        self.hardware = hardware
        self.memory_limit = np.inf if memory_limit is None else memory_limit
        width = max((len(entry) for entry in items if entry is not None), default=1)
        shape = (len(items), width)
        self._possible = np.zeros(shape, dtype=bool)
        self._level = np.full(shape, np.inf)
        self._power, self._cache, self._traffic, self._memory = (np.full(shape, np.inf) for _ in range(4))
        # Row of each configuration divided by D: a + k Δ + e C_others + e' T_others ≤ φ(P).
        self._base, self._kernels, self._cache_row, self._traffic_row = (np.zeros(shape) for _ in range(4))
        for position, entry in enumerate(items):
            if entry is None:
                continue
            at = (position, slice(0, len(entry)))
            self._possible[at] = True
            self._level[at] = entry.level
            self._power[at] = entry.power_w
            self._cache[at] = entry.cache
            self._traffic[at] = entry.traffic
            self._memory[at] = entry.memory_mib
            self._base[at] = entry.base_ms / entry.limit_ms
            self._kernels[at] = entry.kernels / entry.limit_ms
            self._cache_row[at] = entry.cache_ms / entry.limit_ms
            self._traffic_row[at] = entry.traffic_ms / entry.limit_ms

    def least_levels(self, sets: IntArray) -> FloatArray:
        """Least share level of every member beside the others.

        Parameters
        ----------
        sets
            Item indices, shape (sets, members); members of one set are distinct.

        Returns
        -------
        FloatArray
            Shape (sets, members); infinite for all members of a set that is proven infeasible.
        """
        chunk = max(1, _SETS_AT_ONCE // (sets.shape[1] * self._level.shape[1]))
        return np.concatenate([self._fixed_point(sets[k : k + chunk]) for k in range(0, len(sets), chunk)])

    def _fixed_point(self, sets: IntArray) -> FloatArray:
        result = np.full(sets.shape, np.inf)
        alive = np.arange(len(sets))
        possible = self._possible[sets]
        delay = float(added_delay(self.hardware, sets.shape[1]))
        while alive.size:
            members = sets[alive]
            level, power, cache, traffic, memory = (
                np.where(possible, table[members], np.inf)
                for table in (self._level, self._power, self._cache, self._traffic, self._memory)
            )
            least = level.min(axis=2)
            ideals = (least, *(table.min(axis=2) for table in (power, cache, traffic, memory)))
            with np.errstate(invalid="ignore"):
                room, load, cached, moved, used = ((ideal.sum(axis=1)[:, None] - ideal)[:, :, None] for ideal in ideals)
                ratio = clock_ratio(self.hardware, self.hardware.idle_power_w + load + power)
                left = needed(
                    self._base[members], self._kernels[members], delay,
                    self._cache_row[members], cached, self._traffic_row[members], moved,
                )  # fmt: skip
                stays = possible & (left <= ratio + _PROOF_GUARD)
                stays &= level <= self.hardware.share_levels - room
                stays &= memory <= self.memory_limit - used + _PROOF_GUARD * used
            feasible = stays.any(axis=2).all(axis=1)
            settled = feasible & (stays == possible).all(axis=(1, 2))
            result[alive[settled]] = least[settled]
            going = feasible & ~settled
            alive, possible = alive[going], stays[going]
        return result


def minimal_conflicts(check: SetCheck, items: Sequence[int], largest: int, most: int) -> list[tuple[int, ...]]:
    """Find inclusion-minimal sets of items proven to fit on no GPU together.

    Parameters
    ----------
    items
        Items that can each be alone on a GPU.
    largest
        Sizes 2 to `largest` are examined.
    most
        Sizes with more sets than this are left out.
    """
    found: list[tuple[int, ...]] = []
    for size in range(2, largest + 1):
        candidates = (
            [
                chosen
                for chosen in combinations(items, size)
                if not any(set(conflict) <= set(chosen) for conflict in found)
            ]
            if len(found) < most
            else []
        )
        if not candidates or len(candidates) > most:
            break
        levels = check.least_levels(np.array(candidates))
        found += [chosen for chosen, proven in zip(candidates, np.isinf(levels[:, 0]), strict=True) if proven]
    return found
