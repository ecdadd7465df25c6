"""Re-planning: never dearer than afresh, never more moves than the afresh plan matched, and a way whose states hold."""

import random
from collections import Counter

import pytest

import igniter_opt as ig
from igniter_opt.data.plan import Placement, Plan, PlanGpu
from igniter_opt.options import SolveOptions
from igniter_opt.verify import verify
from tests.support.changes import changed, counted_moves, greedy_moves
from tests.support.synthetic import random_instance, random_profile

CHANGES = 200
# In files of tests that take so long the whole is asked for; a sample runs always.
ALWAYS = 24


def running(seed: int) -> tuple[random.Random, ig.Instance, Plan] | None:
    rng = random.Random(seed)
    profiles = [random_profile(rng, f"card{k}", unit=10.0, memory=rng.random() < 0.5) for k in range(rng.randint(1, 2))]
    rule = rng.choice(["half", "deadline"])
    replicas = 2 if rng.random() < 0.3 else None
    instance = random_instance(rng, profiles, rng.randint(2, 6), slo_rule=rule, max_replicas=replicas)
    try:
        return rng, instance, ig.solve(instance, "patterns", time_limit=5).plan
    except ig.InfeasibleError:
        return None


def cases() -> list[object]:
    return [pytest.param(seed, marks=[pytest.mark.slow] if seed >= ALWAYS else []) for seed in range(CHANGES)]


@pytest.mark.parametrize("seed", cases())
def test_a_random_change(seed: int) -> None:
    found = running(seed)
    if found is None:
        pytest.skip("no plan exists")
    rng, instance, old = found
    new = changed(rng, instance)
    options = SolveOptions(time_limit=5)
    try:
        afresh = ig.solve(new, "patterns", time_limit=5)
    except ig.InfeasibleError:
        with pytest.raises(ig.InfeasibleError):
            ig.replan(old, new, "patterns", options=options)
        return
    result = ig.replan(old, new, "patterns", options=options)
    assert verify(result.plan).ok
    assert result.cost <= afresh.cost + 1e-9
    assert result.disruption.moves <= greedy_moves(old, afresh.plan)
    assert result.disruption.moves == counted_moves(old, result.plan)
    assert result.disruption.bound is not None
    assert result.disruption.bound <= result.disruption.weighted + 1e-9
    check_migration(old, result.plan)


Key = tuple[str, str, str, int, float, int]


def servers(plan: Plan) -> Counter[Key]:
    return Counter(
        (gpu.name, p.workload, p.model, p.batch, p.share_percent, p.queue_delay_us or 0)
        for gpu in plan.gpus
        for p in gpu.placements
    )


def check_migration(old: Plan, new: Plan) -> None:
    """Take the steps by hand, from the old plan's servers to the new one's, and judge every state by `verify`."""
    migration = new.migration
    assert migration is not None
    planned: dict[Key, float] = {}
    for key, placement in (entry for plan in (old, new) for gpu in plan.gpus for entry in keyed(gpu)):
        planned[key] = min(placement.rate_rps, planned.get(key, placement.rate_rps))
    present, gap = servers(old), set[str]()
    both = {entry.name for entry in old.instance.workloads} & {entry.name for entry in new.instance.workloads}
    for step in migration.steps:
        assert step.holds, step
        start, stop = (Counter(server.key for server in some) for some in (step.start, step.stop))
        before, beside = present, present + start
        assert stop <= beside
        present = beside - stop
        for rates in step.holds:
            judge(old, new, beside, before, planned, rates, step.short)
            judge(old, new, beside, present, planned, rates, step.short)
            judge(old, new, present, present, planned, rates, step.short)
        gap = both - {key[1] for key in present}
        assert set(step.gap) == gap
    assert present == servers(new)
    assert not gap


def keyed(gpu: PlanGpu) -> list[tuple[Key, Placement]]:
    return [
        ((gpu.name, p.workload, p.model, p.batch, p.share_percent, p.queue_delay_us or 0), p) for p in gpu.placements
    ]


def judge(
    old: Plan,
    new: Plan,
    there: Counter[Key],
    serving: Counter[Key],
    planned: dict[Key, float],
    rates: str,
    short: tuple[str, ...],
) -> None:
    """Put what is there on one plan of all GPUs, at the rates that are said to hold, and have it verified."""
    kinds = {gpu.name: gpu.type for gpu in (*old.gpus, *new.gpus)}
    asked = [{entry.name: entry for entry in plan.instance.workloads} for plan in (old, new)]
    weight: Counter[str] = Counter()

    def of_plan(key: Key) -> float:
        # Where neither plan has it, it is one of the new plan's, on another GPU for the time being.
        passing = (p.rate_rps for gpu in new.gpus for other, p in keyed(gpu) if other[1:] == key[1:])
        return planned[key] if key in planned else next(passing)

    for key, count in serving.items():
        weight[key[1]] += count * of_plan(key)  # type: ignore[assignment]
    workloads, placements = {}, {}
    for number, (key, count) in enumerate(there.items()):
        gpu, name, model, batch, share, _ = key
        sides = [side[name] for side in asked if name in side]
        least = min(side.rate_rps for side in sides)
        total = {"running": sides[0].rate_rps, "next": sides[-1].rate_rps, "lesser": least, "own": least}
        for copy in range(count):
            used = copy < serving[key]
            rate = of_plan(key)
            if used:
                rate *= max(1.0, least / weight[name]) if rates == "own" else total[rates] / weight[name]
            # The stricter promise of the two plans would be too much for a server of the other.
            slo = max(side.slo_ms for side in sides)
            alone = f"s{number}-{copy}"
            workloads[alone] = sides[0].model_copy(
                update={"name": alone, "model": model, "rate_rps": rate, "slo_ms": slo, "max_replicas": None}
            )
            placements.setdefault(gpu, []).append(
                Placement(
                    workload=alone,
                    replica=1,
                    model=model,
                    batch=batch,
                    share_percent=share,
                    rate_rps=rate,
                    predicted_latency_ms=0.0,
                    predicted_throughput_rps=0.0,
                )
            )
    gpus = tuple(PlanGpu(name=gpu, type=kinds[gpu], placements=tuple(found)) for gpu, found in placements.items())
    instance = new.instance.model_copy(update={"workloads": tuple(workloads.values())})
    idle = {f"s{n}-{c}" for n, (key, count) in enumerate(there.items()) for c in range(serving[key], count)}
    idle |= {f"s{n}-{c}" for n, (key, count) in enumerate(there.items()) for c in range(count) if key[1] in short}
    wrong = [
        entry
        for entry in verify(new.model_copy(update={"instance": instance, "gpus": gpus, "migration": None})).violations
        if entry.kind in ("share", "memory")
        # Under rule deadline a server's queue delay is not that of the rate, which other tests look at.
        or (entry.kind in ("latency", "throughput") and instance.slo_rule == "half" and not of_idle(entry.where, idle))
    ]
    assert not [entry for entry in wrong if entry.where != "solver"], (rates, wrong)


def of_idle(where: str, idle: set[str]) -> bool:
    return where.partition("/")[2].partition("#")[0] in idle
