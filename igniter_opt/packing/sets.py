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

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.compiled import compiled
from igniter_opt.packing.items import PackedItems
from igniter_opt.physics.rows import clock, needed

INFEASIBLE, FEASIBLE, UNKNOWN = 0, 1, -1
# A row is taken for violated only above PROOF_GUARD, and for held only below -HOLD_GUARD, relative to D.
PROOF_GUARD = 1e-9
HOLD_GUARD = 1e-12
_ROUNDS = 60


@compiled
def least_point(
    packed: PackedItems,
    gpu: int,
    units: int,
    members: IntArray,
    size: int,
    company: int,
    cache_floor: float,
    power_floor: float,
    traffic_floor: float,
    fixed: IntArray,
    point: FloatArray,
) -> bool:
    """Raise the ideal points of a set to their fixed point; False if the set is proven infeasible.

    Parameters
    ----------
    gpu, units
        GPU type; share levels that the set may take in all.
    members, size
        Items of the set are ``members[:size]``; an item may occur several times.
    company
        Number of items on the GPU in the end, at least `size`.
    cache_floor, power_floor, traffic_floor
        Lower bounds on the GPU's total cache use, power (W) and traffic in the end.
    fixed
        For each member the only configuration to consider, or -1; shape (size,).
    point
        Filled with the ideal points, shape (5, size): level, power, cache, memory, traffic.
    """
    if company > packed.most[gpu]:
        return False
    delay = packed.delay_ms[gpu, company]
    for k in range(size):
        item = members[k]
        level, power, cache, memory, traffic = 1e18, 1e18, 1e18, 1e18, 1e18
        start, end = packed.first[gpu, item], packed.first[gpu, item + 1]
        if fixed[k] >= 0:
            start, end = fixed[k], fixed[k] + 1
        for c in range(start, end):
            level = min(level, float(packed.level[c]))
            power = min(power, packed.power_w[c])
            cache = min(cache, packed.cache[c])
            memory = min(memory, packed.memory_mib[c])
            traffic = min(traffic, packed.traffic[c])
        point[0, k], point[1, k], point[2, k], point[3, k], point[4, k] = level, power, cache, memory, traffic
    changed = True
    while changed:
        changed = False
        levels, power_sum, cache_sum, memory_sum, traffic_sum = 0.0, packed.idle_power_w[gpu], 0.0, 0.0, 0.0
        for k in range(size):
            levels += point[0, k]
            power_sum += point[1, k]
            cache_sum += point[2, k]
            memory_sum += point[3, k]
            traffic_sum += point[4, k]
        if levels > units:
            return False
        for k in range(size):
            item = members[k]
            room = units - (levels - point[0, k])
            other_power = power_sum - point[1, k]
            other_cache = cache_sum - point[2, k]
            other_traffic = traffic_sum - point[4, k]
            memory_room = packed.memory_limit_mib[gpu] - (memory_sum - point[3, k]) + PROOF_GUARD * memory_sum
            level, power, cache, memory, traffic = 1e18, 1e18, 1e18, 1e18, 1e18
            start, end = packed.first[gpu, item], packed.first[gpu, item + 1]
            if fixed[k] >= 0:
                start, end = fixed[k], fixed[k] + 1
            for c in range(start, end):
                if packed.level[c] > room:
                    break
                if packed.memory_mib[c] > memory_room:
                    continue
                total_power = max(other_power + packed.power_w[c], power_floor)
                ratio = clock(packed.clock_intercept[gpu], packed.clock_slope[gpu], total_power)
                left = needed(
                    packed.base[c], packed.kernels[c], delay,
                    packed.sensitivity[c], max(other_cache, cache_floor - packed.cache[c]),
                    packed.traffic_sensitivity[c], max(other_traffic, traffic_floor - packed.traffic[c]),
                )  # fmt: skip
                if left > ratio + PROOF_GUARD:
                    continue
                level = min(level, float(packed.level[c]))
                power = min(power, packed.power_w[c])
                cache = min(cache, packed.cache[c])
                memory = min(memory, packed.memory_mib[c])
                traffic = min(traffic, packed.traffic[c])
            if level > 1e17:
                return False
            if (
                level > point[0, k]
                or power > point[1, k]
                or cache > point[2, k]
                or memory > point[3, k]
                or traffic > point[4, k]
            ):
                changed = True
                levels += level - point[0, k]
                power_sum += power - point[1, k]
                cache_sum += cache - point[2, k]
                memory_sum += memory - point[3, k]
                traffic_sum += traffic - point[4, k]
                point[0, k], point[1, k], point[2, k], point[3, k], point[4, k] = level, power, cache, memory, traffic
    return True


@compiled
def choose(
    packed: PackedItems,
    gpu: int,
    units: int,
    members: IntArray,
    size: int,
    fixed: IntArray,
    point: FloatArray,
    chosen: IntArray,
) -> int:
    """Choose a configuration for every member: FEASIBLE, INFEASIBLE (proven) or UNKNOWN.

    Parameters
    ----------
    point
        Work space, shape (5, size) at least.
    chosen
        Filled with configuration indices when FEASIBLE.
    """
    if not least_point(packed, gpu, units, members, size, size, 0.0, 0.0, 0.0, fixed, point):
        return INFEASIBLE
    delay = packed.delay_ms[gpu, size]
    levels, power_sum, cache_sum, memory_sum, traffic_sum = 0, packed.idle_power_w[gpu], 0.0, 0.0, 0.0
    for k in range(size):
        chosen[k] = -1
        levels += int(point[0, k])
        power_sum += point[1, k]
        cache_sum += point[2, k]
        memory_sum += point[3, k]
        traffic_sum += point[4, k]
    for _ in range(_ROUNDS):
        settled = True
        for k in range(size):
            item = members[k]
            now = chosen[k]
            if now >= 0:
                own_level, own_power = packed.level[now], packed.power_w[now]
                own_cache, own_memory, own_traffic = packed.cache[now], packed.memory_mib[now], packed.traffic[now]
            else:
                own_level, own_power = int(point[0, k]), point[1, k]
                own_cache, own_memory, own_traffic = point[2, k], point[3, k], point[4, k]
            other_power, other_cache = power_sum - own_power, cache_sum - own_cache
            other_traffic = traffic_sum - own_traffic
            room = units - (levels - own_level)
            memory_room = packed.memory_limit_mib[gpu] - (memory_sum - own_memory)
            start, end = packed.first[gpu, item], packed.first[gpu, item + 1]
            if fixed[k] >= 0:
                start, end = fixed[k], fixed[k] + 1
            best, best_level, best_weight = -1, 1 << 40, 1e300
            for c in range(start, end):
                if packed.level[c] > room or packed.level[c] > best_level:
                    break
                if packed.memory_mib[c] > memory_room:
                    continue
                ratio = clock(packed.clock_intercept[gpu], packed.clock_slope[gpu], other_power + packed.power_w[c])
                left = needed(
                    packed.base[c], packed.kernels[c], delay,
                    packed.sensitivity[c], other_cache, packed.traffic_sensitivity[c], other_traffic,
                )  # fmt: skip
                # Of equal shares the one that burdens the neighbours least.
                weight = 0.1 * packed.power_w[c] + packed.cache[c] + packed.traffic[c]
                if left <= ratio - HOLD_GUARD and weight < best_weight:
                    best, best_level, best_weight = c, packed.level[c], weight
            if best < 0:
                return UNKNOWN
            if best != now:
                settled = False
                levels += packed.level[best] - own_level
                power_sum += packed.power_w[best] - own_power
                cache_sum += packed.cache[best] - own_cache
                memory_sum += packed.memory_mib[best] - own_memory
                traffic_sum += packed.traffic[best] - own_traffic
                chosen[k] = best
        if settled:
            # The sums were updated step by step; judge the outcome by fresh ones.
            return FEASIBLE if holds(packed, gpu, units, members, size, chosen) else UNKNOWN
    return UNKNOWN


@compiled
def holds(packed: PackedItems, gpu: int, units: int, members: IntArray, size: int, chosen: IntArray) -> bool:
    """Whether chosen configurations hold beside each other."""
    levels, power, cache, memory, traffic = 0, packed.idle_power_w[gpu], 0.0, 0.0, 0.0
    for k in range(size):
        c = chosen[k]
        levels += packed.level[c]
        power += packed.power_w[c]
        cache += packed.cache[c]
        memory += packed.memory_mib[c]
        traffic += packed.traffic[c]
    if levels > units or memory > packed.memory_limit_mib[gpu]:
        return False
    ratio = clock(packed.clock_intercept[gpu], packed.clock_slope[gpu], power)
    delay = packed.delay_ms[gpu, size]
    for k in range(size):
        c = chosen[k]
        left = needed(
            packed.base[c], packed.kernels[c], delay,
            packed.sensitivity[c], cache - packed.cache[c], packed.traffic_sensitivity[c], traffic - packed.traffic[c],
        )  # fmt: skip
        if left > ratio - HOLD_GUARD:
            return False
    return True


@compiled
def place(
    packed: PackedItems,
    gpu: int,
    units: int,
    members: IntArray,
    size: int,
    trials: int,
    fixed: IntArray,
    point: FloatArray,
    chosen: IntArray,
) -> int:
    """Decide whether a set is feasible: FEASIBLE (with `chosen`), INFEASIBLE (proven), or UNKNOWN after `trials`.

    Branches over the configurations of one member after the other, depth first; `fixed`, `point` and `chosen`
    are work space of lengths `size`, (5, size), `size`.
    """
    for k in range(size):
        fixed[k] = -1
    answer = choose(packed, gpu, units, members, size, fixed, point, chosen)
    if answer != UNKNOWN:
        return answer
    depth, left = 0, trials
    unknown = False
    fixed[0] = packed.first[gpu, members[0]]
    while depth >= 0:
        if fixed[depth] >= packed.first[gpu, members[depth] + 1]:
            fixed[depth] = -1
            depth -= 1
            if depth >= 0:
                fixed[depth] += 1
            continue
        if left <= 0:
            return UNKNOWN
        left -= 1
        answer = choose(packed, gpu, units, members, size, fixed, point, chosen)
        if answer == FEASIBLE:
            return FEASIBLE
        if answer == UNKNOWN and depth + 1 < size:
            depth += 1
            fixed[depth] = packed.first[gpu, members[depth]]
            continue
        # UNKNOWN with everything fixed: within the guards of holding; no proof either way.
        unknown = unknown or answer == UNKNOWN
        fixed[depth] += 1
    return UNKNOWN if unknown else INFEASIBLE
