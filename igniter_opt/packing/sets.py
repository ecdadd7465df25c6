"""Which sets of items one GPU can carry: exact, compiled.

*Ideal points.* For a set S, every member gets the least share, power, cache use, traffic and memory over its
configurations, each taken separately. In any feasible placement of S a member's neighbours take at least the sum
of the others' ideal points, so (the model being monotone) a configuration that fails beside those sums is in no
feasible placement of S. Dropping such configurations raises the ideal points; repeat until nothing changes. A
member without configurations proves S infeasible, and every superset of S with it (`least_point`).

*Choosing.* Beginning at the ideal points, every member takes its first (least share) configuration that holds
beside the others' present ones, until all hold together (`choose`): that proves S feasible. If it gives no
answer, one member's configurations are tried one by one (`place`), with a limit on the number of trials; beyond
it the answer is "unknown", which is never taken for a proof of anything.
"""

import numpy as np

from igniter_opt.base.arrays import RecordArray, record_type
from igniter_opt.base.compilable import compilable
from igniter_opt.base.compiled import compiled, part
from igniter_opt.packing.items import MUCH, PackedItems
from igniter_opt.physics.rows import clock, needed

INFEASIBLE, FEASIBLE, UNKNOWN = 0, 1, -1
# A row is taken for violated only above PROOF_GUARD, and for held only below -HOLD_GUARD, relative to D.
PROOF_GUARD = 1e-9
HOLD_GUARD = 1e-12
_ROUNDS = 60

# A set's members: `index` is an item's, which may occur several times; `fixed` is the only configuration to consider,
# or -1; `chosen` is the configuration that the check chose; the rest are the ideal points.
MEMBER = record_type(("index", "fixed", "chosen"), ("level", "power_w", "cache", "memory_mib", "traffic"))


def new_members(size: int) -> RecordArray:
    """Work space for sets of up to so many items, none fixed."""
    members = np.zeros(size, dtype=MEMBER)
    members["fixed"] = -1
    return members


@compilable
def least_point(
    packed: PackedItems,
    gpu: int,
    units: int,
    members: RecordArray,
    size: int,
    company: int,
    cache_floor: float,
    power_floor: float,
    traffic_floor: float,
) -> bool:
    """Raise the ideal points of a set to their fixed point; False if the set is proven infeasible.

    Parameters
    ----------
    gpu, units
        GPU type; share levels that the set may take in all.
    members, size
        ``MEMBER``; the set is ``members[:size]``, whose ideal points are filled in.
    company
        Number of items on the GPU in the end, at least `size`.
    cache_floor, power_floor, traffic_floor
        Lower bounds on the GPU's total cache use, power (W) and traffic in the end.
    """
    card = packed.cards[gpu]
    if company > card.most:
        return False
    delay = packed.delay_ms[gpu, company]
    for k in range(size):
        own = members[k]
        if own.fixed >= 0:
            row = packed.rows[own.fixed]
            own.level, own.power_w, own.cache = float(row.level), row.power_w, row.cache
            own.memory_mib, own.traffic = row.memory_mib, row.traffic
        else:
            item = packed.items[gpu, own.index]
            own.level, own.power_w, own.cache = item.level, item.power_w, item.cache
            own.memory_mib, own.traffic = item.memory_mib, item.traffic
    changed = True
    while changed:
        changed = False
        levels, power_sum, cache_sum, memory_sum, traffic_sum = 0.0, card.idle_power_w, 0.0, 0.0, 0.0
        for k in range(size):
            own = members[k]
            levels += own.level
            power_sum += own.power_w
            cache_sum += own.cache
            memory_sum += own.memory_mib
            traffic_sum += own.traffic
        if levels > units:
            return False
        for k in range(size):
            own = members[k]
            room = units - (levels - own.level)
            other_power = power_sum - own.power_w
            other_cache = cache_sum - own.cache
            other_traffic = traffic_sum - own.traffic
            memory_room = card.memory_limit_mib - (memory_sum - own.memory_mib) + PROOF_GUARD * memory_sum
            level, power, cache, memory, traffic = MUCH, MUCH, MUCH, MUCH, MUCH
            item = packed.items[gpu, own.index]
            start, end = item.first, item.end
            if own.fixed >= 0:
                start, end = own.fixed, own.fixed + 1
            for c in range(start, end):
                row = packed.rows[c]
                if row.level > room:
                    break
                if row.memory_mib > memory_room:
                    continue
                ratio = clock(card.clock_intercept, card.clock_slope, max(other_power + row.power_w, power_floor))
                left = needed(
                    row.alone, row.kernels, delay,
                    row.sensitivity, max(other_cache, cache_floor - row.cache),
                    row.traffic_sensitivity, max(other_traffic, traffic_floor - row.traffic),
                )  # fmt: skip
                if left > ratio + PROOF_GUARD:
                    continue
                level = min(level, float(row.level))
                power = min(power, row.power_w)
                cache = min(cache, row.cache)
                memory = min(memory, row.memory_mib)
                traffic = min(traffic, row.traffic)
            if level >= MUCH:
                return False
            if (
                level > own.level
                or power > own.power_w
                or cache > own.cache
                or memory > own.memory_mib
                or traffic > own.traffic
            ):
                changed = True
                levels += level - own.level
                power_sum += power - own.power_w
                cache_sum += cache - own.cache
                memory_sum += memory - own.memory_mib
                traffic_sum += traffic - own.traffic
                own.level, own.power_w, own.cache = level, power, cache
                own.memory_mib, own.traffic = memory, traffic
    return True


@part
def choose(packed: PackedItems, gpu: int, units: int, members: RecordArray, size: int) -> int:
    """Choose a configuration for every member: FEASIBLE (in ``chosen``), INFEASIBLE (proven) or UNKNOWN."""
    if not least_point(packed, gpu, units, members, size, size, 0.0, 0.0, 0.0):
        return INFEASIBLE
    card = packed.cards[gpu]
    delay = packed.delay_ms[gpu, size]
    levels, power_sum, cache_sum, memory_sum, traffic_sum = 0, card.idle_power_w, 0.0, 0.0, 0.0
    for k in range(size):
        own = members[k]
        own.chosen = -1
        levels += int(own.level)
        power_sum += own.power_w
        cache_sum += own.cache
        memory_sum += own.memory_mib
        traffic_sum += own.traffic
    for _ in range(_ROUNDS):
        settled = True
        for k in range(size):
            own = members[k]
            now = own.chosen
            own_level, own_power, own_cache = int(own.level), own.power_w, own.cache
            own_memory, own_traffic = own.memory_mib, own.traffic
            if now >= 0:
                row = packed.rows[now]
                own_level, own_power, own_cache = row.level, row.power_w, row.cache
                own_memory, own_traffic = row.memory_mib, row.traffic
            other_power, other_cache = power_sum - own_power, cache_sum - own_cache
            other_traffic = traffic_sum - own_traffic
            room = units - (levels - own_level)
            memory_room = card.memory_limit_mib - (memory_sum - own_memory)
            item = packed.items[gpu, own.index]
            start, end = item.first, item.end
            if own.fixed >= 0:
                start, end = own.fixed, own.fixed + 1
            best, best_level, best_weight = -1, 1 << 40, 1e300
            for c in range(start, end):
                row = packed.rows[c]
                if row.level > room or row.level > best_level:
                    break
                if row.memory_mib > memory_room:
                    continue
                ratio = clock(card.clock_intercept, card.clock_slope, other_power + row.power_w)
                left = needed(
                    row.alone, row.kernels, delay,
                    row.sensitivity, other_cache, row.traffic_sensitivity, other_traffic,
                )  # fmt: skip
                # Of equal shares the one that burdens the neighbours least.
                weight = 0.1 * row.power_w + row.cache + row.traffic
                if left <= ratio - HOLD_GUARD and weight < best_weight:
                    best, best_level, best_weight = c, row.level, weight
            if best < 0:
                return UNKNOWN
            if best != now:
                settled = False
                row = packed.rows[best]
                levels += row.level - own_level
                power_sum += row.power_w - own_power
                cache_sum += row.cache - own_cache
                memory_sum += row.memory_mib - own_memory
                traffic_sum += row.traffic - own_traffic
                own.chosen = best
        if settled:
            # The sums were updated step by step; judge the outcome by fresh ones.
            return FEASIBLE if holds(packed, gpu, units, members, size) else UNKNOWN
    return UNKNOWN


@part
def holds(packed: PackedItems, gpu: int, units: int, members: RecordArray, size: int) -> bool:
    """Whether the members' chosen configurations hold beside each other."""
    card = packed.cards[gpu]
    levels, power, cache, memory, traffic = 0, card.idle_power_w, 0.0, 0.0, 0.0
    for k in range(size):
        row = packed.rows[members[k].chosen]
        levels += row.level
        power += row.power_w
        cache += row.cache
        memory += row.memory_mib
        traffic += row.traffic
    if levels > units or memory > card.memory_limit_mib:
        return False
    ratio = clock(card.clock_intercept, card.clock_slope, power)
    delay = packed.delay_ms[gpu, size]
    for k in range(size):
        row = packed.rows[members[k].chosen]
        left = needed(
            row.alone, row.kernels, delay,
            row.sensitivity, cache - row.cache, row.traffic_sensitivity, traffic - row.traffic,
        )  # fmt: skip
        if left > ratio - HOLD_GUARD:
            return False
    return True


@compiled
def place(packed: PackedItems, gpu: int, units: int, members: RecordArray, size: int, trials: int) -> int:
    """Decide whether a set is feasible: FEASIBLE (in ``chosen``), INFEASIBLE (proven), or UNKNOWN after `trials`.

    Branches over the configurations of one member after the other, depth first; ``fixed`` is work space.
    """
    for k in range(size):
        members[k].fixed = -1
    depth, left = -1, trials
    unknown = False
    while True:
        answer = choose(packed, gpu, units, members, size)
        if answer == FEASIBLE or (answer == INFEASIBLE and depth < 0):
            return answer
        if answer == UNKNOWN and depth + 1 < size:
            depth += 1
            members[depth].fixed = packed.items[gpu, members[depth].index].first
        else:
            # UNKNOWN with everything fixed: within the guards of holding; no proof either way.
            unknown = unknown or answer == UNKNOWN
            members[depth].fixed += 1
        # Back to the last member that has a configuration left.
        while depth >= 0 and members[depth].fixed >= packed.items[gpu, members[depth].index].end:
            members[depth].fixed = -1
            depth -= 1
            if depth >= 0:
                members[depth].fixed += 1
        if depth < 0:
            return UNKNOWN if unknown else INFEASIBLE
        if left <= 0:
            return UNKNOWN
        left -= 1
