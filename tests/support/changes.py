"""Random changes of demand, and a plain count of what a new plan does to servers: nothing of the code under test."""

import random
from collections import Counter

from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import Plan


def changed(rng: random.Random, instance: Instance) -> Instance:
    """Some rates and SLOs are others, a workload may go and another come."""
    workloads = []
    for workload in instance.workloads:
        update: dict[str, float] = {}
        if rng.random() < 0.5:
            update["rate_rps"] = round(workload.rate_rps * rng.uniform(0.5, 1.3), 1)
        if rng.random() < 0.1:
            update["slo_ms"] = round(workload.slo_ms * rng.uniform(0.9, 1.5), 2)
        workloads.append(workload.model_copy(update=update))
    if len(workloads) > 1 and rng.random() < 0.2:
        workloads.pop(rng.randrange(len(workloads)))
    if rng.random() < 0.2:
        like = rng.choice(workloads)
        workloads.append(like.model_copy(update={"name": "new", "rate_rps": round(like.rate_rps * 0.7, 1)}))
    return instance.model_copy(update={"workloads": tuple(workloads)})


def greedy_moves(old: Plan, new: Plan) -> int:
    """Moves of a new plan whose GPUs are matched to the old one's greedily: the pair with most in common first."""
    before = {gpu.name: Counter(p.workload for p in gpu.placements) for gpu in old.gpus}
    after = {gpu.name: Counter(p.workload for p in gpu.placements) for gpu in new.gpus}
    types = {gpu.name: gpu.type for gpu in old.gpus}
    left = dict(before)
    stayed: Counter[str] = Counter()
    waiting = {gpu.name: gpu.type for gpu in new.gpus}
    while waiting:
        pairs = [
            (sum((after[name] & left[other]).values()), name, other)
            for name, kind in waiting.items()
            for other in left
            if types[other] == kind
        ]
        if not pairs:
            break
        _, name, other = max(pairs)
        stayed += after[name] & left[other]
        del waiting[name], left[other]
    had: Counter[str] = sum(before.values(), Counter())
    has: Counter[str] = sum(after.values(), Counter())
    return sum(min(had[name], has[name]) - stayed[name] for name in has)


def counted_moves(old: Plan, new: Plan) -> int:
    """Moves between plans whose GPUs are called alike where they are the same."""
    before = {gpu.name: Counter(p.workload for p in gpu.placements) for gpu in old.gpus}
    after = {gpu.name: Counter(p.workload for p in gpu.placements) for gpu in new.gpus}
    stayed: Counter[str] = sum((after[name] & before.get(name, Counter()) for name in after), Counter())
    had: Counter[str] = sum(before.values(), Counter())
    has: Counter[str] = sum(after.values(), Counter())
    return sum(min(had[name], has[name]) - stayed[name] for name in has)
