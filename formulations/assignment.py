"""Formulation `assignment`: one binary per (item, configuration, GPU slot); compact and exact.

Derivation
----------
*Sets.* Items t = 1..N: one per workload i, or, where max_replicas allows more, one per (i, κ, q): the q-th of
κ equal replicas. Slots j = (g, s): the s-th GPU of type g. Configurations c of item t on type g: (batch,
share), with the constants of `igniter_opt.problem.configurations`: share ``r`` (in units), power ``p``, cache use
``c``, traffic ``t``, memory ``m``, and the row ``A + K Δ + E (C - c) + E' (T - t) ≤ D φ(P)``.

*Variables.* ``x[t,c,j]``: item t has configuration c on slot j. ``u[t,j] = Σ_c x[t,c,j]``. ``y[j]``: slot j
is used. ``w[j]``: two or more items are on j. ``z[i,κ]``: workload i has κ replicas. Continuous, defined by
equations: ``n_j, C_j, P_j, Δ_j``.

*Objective.* (1) least ``Σ price_g(j) y[j]``; (2) at that cost, least ``Σ r x``.

*Constraints* (names as in the code)::

    replicas        Σ_κ z[i,κ] = 1
    assign          Σ_j u[t,j] = z[i,κ]                          (= 1 without alternatives)
    share           Σ r x[.,.,j] ≤ U y[j]                        U = units in 100 percent
    memory          Σ m x[.,.,j] ≤ memory_g y[j]                 (where known)
    count_def       n_j = Σ_t u[t,j]
    cache_def       C_j = Σ c x[.,.,j]
    traffic_def     T_j = Σ t x[.,.,j]                           (only where some t is not 0)
    power_def       P_j = idle_g y[j] + Σ p x[.,.,j]
    company         n_j ≤ y[j] + (n_max - 1) w[j],  2 w[j] ≤ n_j
    delay_def       Δ_j = α (n_j - y[j]) + (α + β) w[j]
    capped_row      (A + K Δ_j + E (C_j - c) + E' (T_j - t)) / D ≤ f0 + f1 P_j + M' (1 - Σ_{c' ∈ H(c)} x[t,c',j])
    uncapped_row    (A + K Δ_j + E (C_j - c) + E' (T_j - t)) / D ≤ 1           + M  (1 - Σ_{c' ∈ H(c)} x[t,c',j])

`delay_def` is exact: Δ(n) is 0 for n = 0 (y = w = 0) and n = 1 (y = 1, w = 0), and α n + β for n ≥ 2
(y = w = 1). As φ(P) = min(1, f0 + f1 P), the requirement is the two rows together: nothing is approximated.

*Lifted rows.* H(c) ∋ c holds every configuration c' of the item whose own row is at least as hard:
K/D, E/D, E'/D and ``(A - E c - E' t)/D`` of c' are no less than those of c. With Δ, C, T ≥ 0 its left side is then at
least that of c everywhere, so whenever c' is chosen the row of c holds too and may be enforced. At most one
x of an item is 1, so the sum is 0 or 1.

*Tight M.* ``n_max, C_max, T_max, P_max`` are the largest aggregates of any GPU whose shares fit in 100 percent (one
configuration per item; a knapsack over share units). M is the left side at (Δ(n_max), C_max, T_max) less the right
side at its least, so the row is void when no x in H(c) is 1. Rows with M ≤ 0 always hold and are left out.

*Fewer configurations.* Beyond dominance (`Configurations.undominated`): if c's row holds even with the
largest aggregates that fit beside its share, then c replaces every configuration of the item with no less
share, power, cache use, traffic and memory.

*Cuts.* ``conflict``: Σ_{t∈S} u[t,j] ≤ |S| - 1 for sets S proven to fit on no GPU of the type
(`igniter_opt.problem.conflicts`). ``cut_off``: cost ≤ that of a known plan. ``least_cost``: cost ≥ a bound known
beforehand (`igniter_opt.problem.bounds`: least total share). ``pair_share``:
Σ_c r x[t,c,j] ≥ r1 u[t,j] + (r2 - r1)(u[t,j] + u[s,j] - 1), where r1 is t's least share alone and r2 its
least share beside s.

*Symmetry.* GPUs of a type are interchangeable. Number the used ones by their smallest item (items sorted by
descending least share): then item t is on slot s > 1 only if a smaller item is on slot s - 1 (``order``), and
t is on no slot s > t. Any plan can be renumbered so, hence no cost is lost.

The reductions, lifting, M, and conflict cuts compare a set of placements with its subsets, so they need a
monotone model (`interference.is_monotone`); without one, all configurations stay but those whose row fails at any
aggregates, H(c) = {c}, M is taken from plain bounds on the aggregates, and there are no conflict or pair cuts.

The cost bound is the MIP's dual bound, less HiGHS's tolerances, rounded up by `costs.PriceGrid.round_up`.

*Costs too near together.* A MIP in floating point cannot tell apart costs that differ by less than its tolerances,
as those of GPUs at 3.06 and 3.060001. Where such a cost lies below the best plan's, the vectors of GPU counts from the
bound to that plan's cost are listed, with costs as exact integers, and the objective becomes the position of a
vector's cost among theirs::

    one_vector      Σ_k v[k] = 1
    within_vector   Σ_{j of type g} y[j] ≤ Σ_k count[k,g] v[k]
    rank            least Σ_k position(cost[k]) v[k]

Every plan that is not excluded yet has one of these vectors, and positions are whole numbers, which tolerances far
below 1 do not confuse.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyomo.environ as pyo

from igniter_opt.formulations.assignment_data import Item, Slot, harder_rows, require_places, sorted_items, type_data
from igniter_opt.physics.interference import added_delay, clock_line, clock_ratio
from igniter_opt.physics.parameters import HardwareCoefficients
from igniter_opt.physics.rows import LinearRow
from igniter_opt.problem.configurations import Configurations, Problem
from igniter_opt.problem.draft import Draft, DraftGpu

# Start values and decoded solutions: a binary counts as 1 above this.
_HALF = 0.5
# Rows on the cost leave this much (relative) to rounding.
_COST_SLACK = 1e-9
# Replicas of one workload have equal rates, up to this relative difference.
_SAME_RATE = 1e-9


class Assignment:
    """The formulation for one problem and a number of GPU slots per type.

    Parameters
    ----------
    problem
        Workloads that no configuration can serve must have been ruled out before.
    slots
        GPUs of each type that a plan may use; enough for an optimal plan.
    check
        Called every now and then while the model is built; may raise to give up.

    Raises
    ------
    InfeasibleError
        Some workload meets its requirements in no company.
    """

    def __init__(self, problem: Problem, slots: Sequence[int], check: Callable[[], None] = lambda: None) -> None:
        self.problem = problem
        self.check = check
        self.items = sorted_items(problem)
        self.slots = [Slot(g, k) for g, number in enumerate(slots) for k in range(number)]
        self.types = {g: type_data(problem, self.items, g, check) for g, number in enumerate(slots) if number}
        require_places(problem, self.items, self.types.values())
        self.vectors: list[tuple[int, ...]] = []
        self.model = pyo.ConcreteModel(name="assignment")
        self._variables()
        self._constraints()
        self._cuts()

    def _configurations(self, item: int, slot: Slot) -> Configurations | None:
        return self.types[slot.gpu_type].configurations[item]

    def _hardware(self, slot: Slot) -> HardwareCoefficients:
        return self.problem.coefficients[slot.gpu_type].hardware

    # ---- variables ----------------------------------------------------------------------------------

    def _variables(self) -> None:
        m = self.model
        slots = range(len(self.slots))
        # By symmetry (docstring), item t is only on the first t + 1 slots of a type.
        self.places = [
            (t, j)
            for t in range(len(self.items))
            for j in slots
            if self.slots[j].position <= t and self._configurations(t, self.slots[j]) is not None
        ]
        self.on_slot: list[list[int]] = [[] for _ in slots]
        for t, j in self.places:
            self.on_slot[j].append(t)
        limits = [self.types[slot.gpu_type].limits for slot in self.slots]
        m.y = pyo.Var(slots, domain=pyo.Binary)
        m.w = pyo.Var(slots, domain=pyo.Binary)
        m.u = pyo.Var(self.places, domain=pyo.Binary)
        m.x = pyo.Var([(t, c, j) for t, j in self.places for c in range(self._count(t, j))], domain=pyo.Binary)
        m.n = pyo.Var(slots, bounds=lambda _, j: (0, limits[j].count))
        m.C = pyo.Var(slots, bounds=lambda _, j: limits[j].cache)
        self.with_traffic = [j for j in slots if limits[j].traffic != (0.0, 0.0)]
        m.T = pyo.Var(self.with_traffic, bounds=lambda _, j: limits[j].traffic)
        m.P = pyo.Var(slots, bounds=lambda _, j: limits[j].power)
        m.delay = pyo.Var(slots, bounds=lambda _, j: limits[j].delay)
        counts = {(item.workload, item.replicas) for item in self.items}
        workloads_with_choice = {i for i, replicas in counts if (i, replicas + 1) in counts or replicas > 1}
        m.z = pyo.Var([pair for pair in sorted(counts) if pair[0] in workloads_with_choice], domain=pyo.Binary)

    def _count(self, item: int, slot: int) -> int:
        found = self._configurations(item, self.slots[slot])
        return 0 if found is None else len(found)

    def _sum(self, item: int, slot: int, weights: Iterable[float]) -> pyo.Expression:
        x = self.model.x
        return pyo.quicksum(weight * x[item, c, slot] for c, weight in enumerate(weights))

    def _total(self, slot: int, attribute: str) -> pyo.Expression:
        """Sum of one property of the chosen configurations over all items on a slot."""
        return pyo.quicksum(
            self._sum(t, slot, getattr(self._configurations(t, self.slots[slot]), attribute).tolist())
            for t in self.on_slot[slot]
        )

    # ---- constraints --------------------------------------------------------------------------------

    def _constraints(self) -> None:
        m, problem = self.model, self.problem
        slots = range(len(self.slots))
        with_choice = sorted({pair[0] for pair in m.z})
        m.replicas = pyo.Constraint(
            with_choice, rule=lambda _, i: pyo.quicksum(m.z[pair] for pair in m.z if pair[0] == i) == 1
        )
        places_of: list[list[int]] = [[] for _ in self.items]
        for t, j in self.places:
            places_of[t].append(j)

        def assign(_: object, t: int) -> pyo.Expression:
            item = self.items[t]
            needed = m.z[item[:2]] if item[:2] in m.z else 1
            return pyo.quicksum(m.u[t, j] for j in places_of[t]) == needed

        m.assign = pyo.Constraint(range(len(self.items)), rule=assign)
        m.choose = pyo.Constraint(
            self.places, rule=lambda _, t, j: self._sum(t, j, [1.0] * self._count(t, j)) == m.u[t, j]
        )
        m.used = pyo.Constraint(self.places, rule=lambda _, t, j: m.u[t, j] <= m.y[j])
        m.share = pyo.Constraint(
            slots,
            rule=lambda _, j: self._total(j, "level") <= self._hardware(self.slots[j]).share_levels * m.y[j],
        )
        memory = [problem.gpu_types[slot.gpu_type].memory_limit_mib for slot in self.slots]
        m.memory = pyo.Constraint(
            [j for j in slots if memory[j] is not None],
            rule=lambda _, j: self._total(j, "memory_mib") <= memory[j] * m.y[j],
        )
        m.count_def = pyo.Constraint(
            slots, rule=lambda _, j: m.n[j] == pyo.quicksum(m.u[t, j] for t in self.on_slot[j])
        )
        m.cache_def = pyo.Constraint(slots, rule=lambda _, j: m.C[j] == self._total(j, "cache"))
        m.traffic_def = pyo.Constraint(self.with_traffic, rule=lambda _, j: m.T[j] == self._total(j, "traffic"))
        m.power_def = pyo.Constraint(
            slots,
            rule=lambda _, j: m.P[j] == self._hardware(self.slots[j]).idle_power_w * m.y[j] + self._total(j, "power_w"),
        )
        most = [self.types[slot.gpu_type].limits.count for slot in self.slots]
        m.company_least = pyo.Constraint(slots, rule=lambda _, j: m.n[j] <= m.y[j] + (most[j] - 1) * m.w[j])
        m.company_most = pyo.Constraint(slots, rule=lambda _, j: 2 * m.w[j] <= m.n[j])

        def delay(_: object, j: int) -> pyo.Expression:
            hardware = self._hardware(self.slots[j])
            both = hardware.delay_slope + hardware.delay_intercept
            return m.delay[j] == hardware.delay_slope * (m.n[j] - m.y[j]) + both * m.w[j]

        m.delay_def = pyo.Constraint(slots, rule=delay)
        self._rows()

    def _rows(self) -> None:
        """The two rows of every configuration, lifted, with tight M (see the derivation)."""
        m = self.model
        m.uncapped_row = pyo.ConstraintList()
        m.capped_row = pyo.ConstraintList()
        for gpu_type, data in self.types.items():
            hardware = self.problem.coefficients[gpu_type].hardware
            intercept, slope = clock_line(hardware)
            here = [j for j, slot in enumerate(self.slots) if slot.gpu_type == gpu_type]
            least_cap = intercept + min(slope * data.limits.power[0], slope * data.limits.power[1])
            for t, found in enumerate(data.configurations):
                if found is None or not here:
                    continue
                rows = found.linear_rows()
                _, largest = data.limits.left_side(found)
                harder = harder_rows(rows, lift=self.problem.monotone[gpu_type])
                self.check()
                for c in range(len(found)):
                    row = LinearRow(*(float(terms[c]) for terms in rows))
                    for j in here:
                        if (t, j) not in m.u:
                            continue
                        left = row.at(m.delay[j], m.C[j], m.T[j] if j in m.T else 0.0)
                        chosen = pyo.quicksum(m.x[t, k, j] for k in harder[c])
                        if (big_m := float(largest[c]) - 1.0) > 0:
                            m.uncapped_row.add(left <= 1.0 + big_m * (1 - chosen))
                        if slope != 0 and (big_m := float(largest[c]) - least_cap) > 0:
                            m.capped_row.add(left <= intercept + slope * m.P[j] + big_m * (1 - chosen))

    def _cuts(self) -> None:
        m = self.model
        m.conflict = pyo.ConstraintList()
        m.pair_share = pyo.ConstraintList()
        m.order = pyo.ConstraintList()
        for j, slot in enumerate(self.slots):
            self.check()
            data = self.types[slot.gpu_type]
            here = set(self.on_slot[j])
            for conflict in data.conflicts:
                if here.issuperset(conflict):
                    m.conflict.add(pyo.quicksum(m.u[t, j] for t in conflict) <= len(conflict) - 1)
            for (t, s), level in data.beside.items():
                if t in here and s in here:
                    found = data.configurations[t]
                    alone = int(found.level.min()) if found is not None else 0
                    levels = self._sum(t, j, found.level.tolist() if found is not None else [])
                    m.pair_share.add(levels >= alone * m.u[t, j] + (level - alone) * (m.u[t, j] + m.u[s, j] - 1))
            if slot.position > 0:
                before = set(self.on_slot[j - 1])
                for t in self.on_slot[j]:
                    smaller = [s for s in before if s < t]
                    m.order.add(m.u[t, j] <= pyo.quicksum(m.u[s, j - 1] for s in smaller))
                m.order.add(m.y[j] <= m.y[j - 1])

    # ---- objectives ---------------------------------------------------------------------------------

    def minimise_cost(self, units: Sequence[int], least: int, most: int | None) -> None:
        """Set the first objective: cost in steps of the price grid, scaled so that the dearest GPU costs 1.

        Parameters
        ----------
        units
            Price of each type in steps.
        least, most
            A valid lower bound, and the cost of a known plan (None if there is none), in steps.
        """
        m = self.model
        self.cost_scale = max(units)
        m.scaled_cost = pyo.Expression(
            expr=pyo.quicksum(units[slot.gpu_type] / self.cost_scale * m.y[j] for j, slot in enumerate(self.slots))
        )
        m.cost = pyo.Objective(expr=m.scaled_cost)
        m.least_cost = pyo.Constraint(expr=m.scaled_cost >= least / self.cost_scale * (1 - _COST_SLACK))
        if most is not None:
            m.cut_off = pyo.Constraint(expr=m.scaled_cost <= most / self.cost_scale * (1 + _COST_SLACK))

    def minimise_rank(self, vectors: Sequence[tuple[int, tuple[int, ...]]]) -> list[int]:
        """Replace the first objective by the position of the cost among these costs, which are returned in order.

        Parameters
        ----------
        vectors
            Costs in steps with GPU counts per type; a plan may use no other GPUs than those of one vector.
        """
        m = self.model
        ranks = sorted({cost for cost, _ in vectors})
        self.vectors = [counts for _, counts in vectors]
        number = range(len(vectors))
        m.vector = pyo.Var(number, domain=pyo.Binary)
        m.one_vector = pyo.Constraint(expr=pyo.quicksum(m.vector[k] for k in number) == 1)

        def within(_: object, gpu_type: int) -> pyo.Expression:
            used = pyo.quicksum(m.y[j] for j, slot in enumerate(self.slots) if slot.gpu_type == gpu_type)
            return used <= pyo.quicksum(counts[gpu_type] * m.vector[k] for k, counts in enumerate(self.vectors))

        m.within_vector = pyo.Constraint(list(self.types), rule=within)
        m.cost.deactivate()
        m.cost_rank = pyo.Expression(
            expr=pyo.quicksum(ranks.index(cost) * m.vector[k] for k, (cost, _) in enumerate(vectors))
        )
        m.rank = pyo.Objective(expr=m.cost_rank)
        return ranks

    def minimise_share(self, most: int, rank: int | None = None) -> None:
        """Set the second objective, total share in percent, among plans that cost at most `most` steps.

        Parameters
        ----------
        rank
            Position of that cost, after `minimise_rank`.
        """
        m = self.model
        m.cost.deactivate()
        if rank is None:
            m.at_cost = pyo.Constraint(expr=m.scaled_cost <= most / self.cost_scale * (1 + _COST_SLACK))
        else:
            m.rank.deactivate()
            m.at_cost = pyo.Constraint(expr=m.cost_rank <= rank)
        m.total_share = pyo.Objective(
            expr=pyo.quicksum(
                self._hardware(slot).share_unit_percent * self._total(j, "level") for j, slot in enumerate(self.slots)
            )
        )

    def forbid(self, gpu_type: int, chosen: Sequence[tuple[int, int]]) -> None:
        """Exclude GPUs that carry exactly these (item, configuration) pairs, on every slot of the type."""
        m = self.model
        if not hasattr(m, "excluded"):
            m.excluded = pyo.ConstraintList()
        items = {t for t, _ in chosen}
        for j, slot in enumerate(self.slots):
            if slot.gpu_type == gpu_type and items <= set(self.on_slot[j]):
                present = pyo.quicksum(m.x[t, c, j] for t, c in chosen)
                others = pyo.quicksum(m.u[t, j] for t in self.on_slot[j] if t not in items)
                m.excluded.add(present - others <= len(chosen) - 1)

    # ---- plans to values and back -------------------------------------------------------------------

    def start_from(self, gpus: Sequence[DraftGpu]) -> dict[int, float] | None:
        """Return the value of every variable (by id) for a feasible plan, or None if it does not fit.

        A plan does not fit when it uses more slots than there are, or replicas of unequal rate, or more of
        them than allowed. With a monotone model, a configuration that was reduced away is replaced by one that
        was kept for it.
        """
        replicas = Counter(draft.workload for gpu in gpus for draft in gpu.placements)
        index = {item: t for t, item in enumerate(self.items)}
        placed: list[tuple[int, list[int], list[Draft]]] = []
        for gpu in gpus:
            items = []
            for draft in gpu.placements:
                count = replicas[draft.workload]
                item = index.get(Item(draft.workload, count, draft.replica))
                rate = self.problem.workloads[draft.workload].rate_rps / count
                if item is None or abs(draft.rate_rps - rate) > _SAME_RATE * rate:
                    return None
                items.append(item)
            placed.append((gpu.gpu_type, items, gpu.placements))
        placed.sort(key=lambda entry: min(entry[1]))
        free = {g: iter([j for j, s in enumerate(self.slots) if s.gpu_type == g]) for g in self.types}
        chosen: dict[int, list[tuple[int, int]]] = {}
        for gpu_type, items, drafts in placed:
            slot = next(free.get(gpu_type, iter(())), None)
            found = None if slot is None else self._kept_configurations(gpu_type, items, drafts)
            if slot is None or found is None:
                return None
            chosen[slot] = found
        return self._values(chosen)

    def _kept_configurations(
        self, gpu_type: int, items: list[int], drafts: list[Draft]
    ) -> list[tuple[int, int]] | None:
        """Find each placement's configuration, or a kept one that is no worse for the neighbours."""
        hardware = self.problem.coefficients[gpu_type].hardware
        delay = float(added_delay(hardware, len(items)))
        current = np.array([self._contribution(gpu_type, t, draft) for t, draft in zip(items, drafts, strict=True)])
        chosen = []
        for k, t in enumerate(items):
            found = self.types[gpu_type].configurations[t]
            if found is None:
                return None
            _, power, cache, traffic, _ = current.sum(axis=0) - current[k]
            draft = drafts[k]
            exact = np.flatnonzero((found.batch == draft.batch) & (found.level == draft.level))
            if exact.size or not self.problem.monotone[gpu_type]:
                if exact.size == 0:
                    return None
                chosen.append((t, int(exact[0])))
                continue
            contributions = np.column_stack([found.level, found.power_w, found.cache, found.traffic, found.memory_mib])
            ratio = clock_ratio(hardware, hardware.idle_power_w + power + found.power_w)
            needed = found.needed_ms(delay, cache, traffic)
            suits = np.all(contributions <= current[k], axis=1) & (needed <= found.limit_ms * ratio)
            if not suits.any():
                return None
            best = int(np.flatnonzero(suits)[np.argmin(found.level[suits])])
            current[k] = contributions[best]
            chosen.append((t, best))
        return chosen

    def _contribution(self, gpu_type: int, item: int, draft: Draft) -> tuple[float, float, float, float, float]:
        every = self.problem.every_configuration(draft.workload, gpu_type, self.items[item].replicas)
        at = np.flatnonzero((every.batch == draft.batch) & (every.level == draft.level))[0]
        return (
            float(every.level[at]),
            float(every.power_w[at]),
            float(every.cache[at]),
            float(every.traffic[at]),
            float(every.memory_mib[at]),
        )

    def _values(self, chosen: dict[int, list[tuple[int, int]]]) -> dict[int, float]:
        m = self.model
        values = {id(variable): 0.0 for variable in m.component_data_objects(pyo.Var)}
        for j, pairs in chosen.items():
            slot = self.slots[j]
            hardware = self._hardware(slot)
            count, cache, traffic, power = len(pairs), 0.0, 0.0, hardware.idle_power_w
            for t, c in pairs:
                found = self._configurations(t, slot)
                if found is None or (t, j) not in m.u:
                    raise AssertionError("a start uses a place that the model lacks")
                values[id(m.x[t, c, j])] = values[id(m.u[t, j])] = 1.0
                cache += float(found.cache[c])
                traffic += float(found.traffic[c])
                power += float(found.power_w[c])
                item = self.items[t]
                if (item.workload, item.replicas) in m.z:
                    values[id(m.z[item.workload, item.replicas])] = 1.0
            values[id(m.y[j])] = 1.0
            values[id(m.w[j])] = float(count > 1)
            values[id(m.n[j])] = float(count)
            values[id(m.C[j])] = cache
            if j in m.T:
                values[id(m.T[j])] = traffic
            values[id(m.P[j])] = power
            values[id(m.delay[j])] = float(added_delay(hardware, count))
        if self.vectors:
            used = Counter(self.slots[j].gpu_type for j in chosen)
            vector = self.vectors.index(tuple(used[g] for g in range(len(self.problem.gpu_types))))
            values[id(m.vector[vector])] = 1.0
        return values

    def chosen(self, values: dict[int, float]) -> list[tuple[Slot, list[tuple[int, int]]]]:
        """Return the used slots with their (item, configuration) pairs."""
        m = self.model
        pairs: list[list[tuple[int, int]]] = [[] for _ in self.slots]
        for (t, c, j), variable in m.x.items():
            if values[id(variable)] > _HALF:
                pairs[j].append((t, c))
        return [(slot, found) for slot, found in zip(self.slots, pairs, strict=True) if found]

    def drafts(self, chosen: list[tuple[Slot, list[tuple[int, int]]]]) -> list[DraftGpu]:
        """Turn chosen configurations into a draft plan."""
        gpus = []
        for slot, pairs in chosen:
            placements = []
            for t, c in pairs:
                item, found = self.items[t], self._configurations(t, slot)
                assert found is not None  # noqa: S101 (x exists only where the item has configurations)
                rate = self.problem.workloads[item.workload].rate_rps / item.replicas
                placements.append(Draft(item.workload, item.number, int(found.batch[c]), int(found.level[c]), rate))
            gpus.append(DraftGpu(slot.gpu_type, placements))
        return gpus
