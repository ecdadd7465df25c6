"""Cards under MIG as an integer program: geometries, and the slices that workloads take.

Derivation
----------
*Geometries.* γ is a choice of slices that one card of type g(γ) can be cut into, with n[s,γ] slices of kind s; a kind
belongs to a type. Only choices that no other contains matter (`physics.sharing.geometries`): what a smaller one yields
a larger one yields, too, at the same price.

*Slices.* Workload i has a capacity T[i,s] on a slice of kind s (`problem.slices`), and is served by β[s] slices of
every kind iff Σ_s T[i,s] β[s] ≥ R_i: loads in proportion to capacities are within them. A *bundle* of i is such a β
from which no slice can be taken away. Workloads that ask for the same are one class k of m_k workloads, with one list
of bundles::

    least    Σ price_g(γ) y[γ]
    supply   Σ_k Σ_β β[s] λ[k,β]  ≤  Σ_γ n[s,γ] y[γ]      for every kind s
    cover    Σ_β λ[k,β] = m_k                              for every class k
    count    Σ_{γ on g} y[γ] ≤ count_g                     where counted
    y, λ whole numbers ≥ 0

*Nothing is lost.* Any plan gives a solution of the same cost: cut every card by a geometry that contains its slices,
and take slices away from every workload until what is left is a bundle. Conversely a solution is a plan: the slices of
a card are put where its geometry has them (`physics.sharing.layout`). So the program's optimum is the least cost, and
any lower bound on the program bounds every plan. Of two kinds of one type of which a workload gains nothing from the
larger, the larger is left out: the smaller one can stand wherever the larger can (fewer slots and sevenths, and more
starts).

*Many slices.* A class whose bundles are more than `MOST_BUNDLES` has, for every workload i of it, whole numbers x[i,s]
with Σ_s T[i,s] x[i,s] ≥ R_i in their place, in the supply rows like β.

*Total share*, the second objective, is Σ over slices taken of their sevenths; bundles have the least.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import highspy
import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.formulations.highs import Columns, integer_program
from igniter_opt.physics.mig_cards import Slice
from igniter_opt.problem.slices import CutGpu, SliceProblem, SliceUse
from igniter_opt.slo.rule import TOLERANCE

MOST_BUNDLES = 2_000
_ENOUGH = 1.0 - TOLERANCE
Counts = tuple[int, ...]


class ProgramColumn(NamedTuple):
    """A column: its price in units of the dearest card, its total share in percent, its entries by row.

    `meaning` says what is chosen: ``("geometry", number)``, ``("bundle", class, counts)`` or ``("slice", workload,
    kind)``; others are a caller's own.
    """

    cost: float
    share: float
    entries: dict[int, float]
    meaning: tuple[object, ...]


class SliceProgram:
    """Rows and columns; callers may add more of either before `program`.

    Parameters
    ----------
    prices
        Of one card of every type that MIG cuts, in units of the dearest card's.
    partial
        Whether workloads may be served otherwise, by columns that a caller adds to `cover`.

    Attributes
    ----------
    classes
        Workloads that ask for the same.
    cover, supply, count
        Row of every class, of every kind of slice, and of every counted type.
    """

    def __init__(self, problem: SliceProblem, prices: Sequence[float], *, partial: bool = False) -> None:
        self.problem = problem
        self.columns: list[ProgramColumn] = []
        self.lower: list[float] = []
        self.upper: list[float] = []
        groups: dict[Hashable, list[int]] = {}
        for number, workload in enumerate(problem.workloads):
            groups.setdefault(problem.instance.demand_of(workload), []).append(number)
        self.classes = list(groups.values())
        self.supply = [self.row(0.0, np.inf) for _ in problem.kinds]
        self.cover = [self.row(float(len(members)), float(len(members))) for members in self.classes]
        self.count = {
            g: self.row(-np.inf, float(gpu.count)) for g, gpu in enumerate(problem.gpu_types) if gpu.count is not None
        }
        for number, (gpu_type, counts) in enumerate(problem.geometries):
            entries = {self.supply[kind]: float(n) for kind, n in enumerate(counts) if n}
            if gpu_type in self.count:
                entries[self.count[gpu_type]] = 1.0
            self.columns.append(ProgramColumn(prices[gpu_type], 0.0, entries, ("geometry", number)))
        for position, members in enumerate(self.classes):
            if not partial or problem.servable(members[0]):
                self._slices_of(position, members)

    def row(self, lower: float, upper: float) -> int:
        """Add a row; return its number."""
        self.lower.append(lower)
        self.upper.append(upper)
        return len(self.lower) - 1

    def _slices_of(self, position: int, members: Sequence[int]) -> None:
        found = bundles(self.problem, members[0])
        if found is not None:
            for counts in found:
                entries = {self.supply[kind]: -float(n) for kind, n in enumerate(counts) if n}
                entries[self.cover[position]] = 1.0
                self.columns.append(ProgramColumn(0.0, self._share(counts), entries, ("bundle", position, counts)))
            return
        limit = self.problem.most_slices(members[0])
        capacity, rate = self.problem.capacity[members[0]], self.problem.workloads[members[0]].rate_rps
        for workload in members:
            # Of the workload's rate, so that a solver's tolerance is one of it.
            enough = self.row(0.0, np.inf)
            few = None if limit is None else self.row(-np.inf, float(limit))
            self.columns.append(
                ProgramColumn(0.0, 0.0, {self.cover[position]: 1.0, enough: -_ENOUGH}, ("served", workload))
            )
            for kind in useful_kinds(self.problem, workload):
                entries = {self.supply[kind]: -1.0, enough: float(capacity[kind]) / rate}
                if few is not None:
                    entries[few] = 1.0
                one = self.problem.kinds[kind].slice.share_percent
                self.columns.append(ProgramColumn(0.0, one, entries, ("slice", workload, kind)))

    def _share(self, counts: Counts) -> float:
        return sum(n * kind.slice.share_percent for n, kind in zip(counts, self.problem.kinds, strict=True))

    def program(self, *, by_share: bool = False, budget: float | None = None) -> highspy.HighsLp:
        """Return the program for HiGHS: least cost, or least total share within a cost."""
        lower, upper = list(self.lower), list(self.upper)
        columns = [dict(column.entries) for column in self.columns]
        if budget is not None:
            for entries, column in zip(columns, self.columns, strict=True):
                if column.cost:
                    entries[len(lower)] = column.cost
            lower.append(-np.inf)
            upper.append(budget * (1.0 + 1e-9))
        cost = np.array([column.share if by_share else column.cost for column in self.columns])
        start = np.concatenate([[0], np.cumsum([len(entries) for entries in columns])])
        rows = np.array([row for entries in columns for row in sorted(entries)], dtype=np.int64)
        values = np.array([entries[row] for entries in columns for row in sorted(entries)], dtype=np.float64)
        return integer_program(cost, Columns(len(lower), start, rows, values), np.array(lower), np.array(upper))

    def cards(self, values: Sequence[int]) -> list[CutGpu]:
        """Return the cards of a solution, with the slices that its workloads take."""
        chosen: list[tuple[int, Counts]] = []
        taken: list[list[Counts]] = [[] for _ in self.classes]
        counted: dict[int, list[int]] = {}
        for column, times in zip(self.columns, values, strict=True):
            match column.meaning:
                case ("geometry", int(number)):
                    chosen += [self.problem.geometries[number]] * times
                case ("bundle", int(position), counts):
                    taken[position] += [counts] * times  # type: ignore[list-item]
                case ("slice", int(workload), int(kind)):
                    counted.setdefault(workload, [0] * len(self.problem.kinds))[kind] += times
        uses: list[SliceUse] = []
        for members, served in zip(self.classes, taken, strict=True):
            own = [tuple(counted[workload]) for workload in members if workload in counted]
            served += [counts for counts in own if self.problem.suffices(members[0], counts)]
            # The last ones of a class: the first may be served otherwise.
            for workload, counts in zip(reversed(members), served, strict=False):
                uses += self.problem.loads(workload, _without_spare(self.problem, workload, counts))
        return self.problem.cut(uses, chosen)


def _without_spare(problem: SliceProblem, workload: int, counts: Sequence[int]) -> list[int]:
    """Take away slices without which a workload's rate is still carried, the largest first."""
    left = list(counts)
    for kind in sorted(range(len(left)), key=lambda number: -problem.kinds[number].slice.sevenths):
        while left[kind]:
            left[kind] -= 1
            if not problem.suffices(workload, left):
                left[kind] += 1
                break
    return left


def bundles(problem: SliceProblem, workload: int, most: int = MOST_BUNDLES) -> list[Counts] | None:
    """Return all bundles of a workload; None where they are more than `most`."""
    kinds = useful_kinds(problem, workload)
    capacity, rate = problem.capacity[workload], problem.workloads[workload].rate_rps * _ENOUGH
    order = sorted(kinds, key=lambda kind: -float(capacity[kind]))
    limit = problem.most_slices(workload)
    found: list[Counts] = []
    counts = [0] * len(problem.kinds)

    def extend(position: int, missing: float, left: float) -> Iterator[None]:
        """Fill up with kinds of ever smaller capacity: what is full with the last one added has none to spare."""
        for later in range(position, len(order)):
            kind = order[later]
            if left < 1 or left * float(capacity[kind]) < missing:
                return
            counts[kind] += 1
            now = missing - float(capacity[kind])
            if now <= 0.0:
                found.append(tuple(counts))
                yield
            else:
                yield from extend(later, now, left - 1)
            counts[kind] -= 1

    for _ in extend(0, rate, np.inf if limit is None else float(limit)):
        if len(found) > most:
            return None
    return found


def useful_kinds(problem: SliceProblem, workload: int) -> list[int]:
    """Return the kinds of slices that carry a workload, without those that a smaller one replaces."""
    capacity = problem.capacity[workload]
    able = [kind for kind in range(len(problem.kinds)) if capacity[kind] > 0.0]
    return [kind for kind in able if not any(_replaces(problem, capacity, other, kind) for other in able)]


def _replaces(problem: SliceProblem, capacity: FloatArray, small: int, large: int) -> bool:
    one, other = problem.kinds[small], problem.kinds[large]
    return (
        small != large
        and one.gpu_type == other.gpu_type
        and bool(capacity[small] >= capacity[large])
        and _stands_in(one.slice, other.slice)
    )


def _stands_in(small: Slice, large: Slice) -> bool:
    """Whether a slice can begin wherever another one does, and is smaller."""
    return (
        set(large.starts) <= set(small.starts)
        and (small.slots, small.sevenths) != (large.slots, large.sevenths)
        and small.slots <= large.slots
        and small.sevenths <= large.sevenths
    )
