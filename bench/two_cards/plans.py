"""Plans for `bench.two_cards`: what is deployed first, what it changes to under load, and what the guard is to mend.

Run: python -m bench.two_cards.plans --output FOLDER [--cards N] [--slowed X]

Per two cards there are ten workloads, one of which a whole card cannot carry, so that it has two replicas. They are
planned by rule p99 for Poisson arrivals, on H200s as they are served: the shipped profile, with what Triton's Python
backend adds (`bench.loop.overhead`, measured on an H100), and with an allowance taken off the SLOs for the way to the
servers and back. `solve` proves the cost; where its plan has the replicas on one card, `replan --keep` makes one of the
same cost that has them on different cards.

Then demand changes: on the first card it rises, elsewhere it falls, as far as `replan` finds a way without a gap. The
last part is one workload with more demand than planned, such that the guard, on paper, finds room for it on another
card only. ``--slowed 8`` slows all down eight times, for the emulated models of a small machine.
"""

import argparse
import json
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import igniter_opt as ig
from bench.instances import scaled_profile
from bench.loop.plans import served
from bench.provenance import RESULTS, commit, machine, today
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.plan import Placement, Plan, PlanGpu
from igniter_opt.guard.choose import repair, with_place
from igniter_opt.options import SolveOptions
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import drafts_from_plan, make_plan
from igniter_opt.replan import Replanned, ReplanTerms
from igniter_opt.verify import verify

OVERHEAD = RESULTS / "served-overhead-2026-11-24.json"
PRICE_PER_HOUR = 7.912
ALLOWANCE_MS = 2.0
# Of the margin.
CONFIDENCE = 0.9
# How demand may rise for so many workloads of the first card, tried in this order; for so many of others it falls.
RISES, FALL = (1.4, 1.5, 1.6, 1.3, 1.2), 0.8
RISING, FALLING = 3, 1
# Percent of the first card, and of others, that shares are raised to.
FILLED = (90.0, 68.0)
# What is sent of a workload for the guard to mend, over what its server can carry on paper.
OVERLOAD = 1.1


class Offered(NamedTuple):
    """A workload: model, SLO in ms (the allowance included), rate in req/s, most replicas."""

    name: str
    model: str
    slo_ms: float
    rate_rps: float
    replicas: int | None = None


WORKLOADS = (
    Offered("alex", "alexnet", 11.0, 700.0),
    Offered("res", "resnet50", 25.0, 300.0),
    Offered("vgg", "vgg19", 36.0, 200.0),
    Offered("vit", "vit_b_16", 30.0, 200.0),
    Offered("bert", "bert_base", 20.0, 220.0),
    Offered("eff", "efficientnet_b0", 15.0, 1600.0, replicas=2),
    Offered("alex2", "alexnet", 16.0, 450.0),
    Offered("res2", "resnet50", 35.0, 190.0),
    Offered("vit2", "vit_b_16", 45.0, 150.0),
    Offered("bert2", "bert_base", 30.0, 170.0),
)


def instance(cards: int, slowed: float = 1.0) -> Instance:
    """Return the workloads for so many cards; for an odd one, half of them more."""
    overhead = json.loads(OVERHEAD.read_text("utf-8"))["models"]
    profile = served(ig.read_profile("h200"), overhead)
    if slowed != 1.0:
        profile = scaled_profile(profile, f"{profile.name}-slowed", time=slowed, power=1.0)
    offered = [(pair, entry) for pair in range(cards // 2) for entry in WORKLOADS]
    offered += [(cards // 2, entry) for entry in WORKLOADS[: len(WORKLOADS) // 2] if cards % 2]
    return Instance(
        name="several-cards",
        slo_rule="p99",
        gpu_types=(GpuType(name="H200", profile=profile, price_per_hour=PRICE_PER_HOUR, count=cards),),
        workloads=tuple(
            Workload(
                name=entry.name if pair == 0 else f"{entry.name}-{pair + 1}",
                model=entry.model,
                slo_ms=(entry.slo_ms - ALLOWANCE_MS) * slowed,
                rate_rps=entry.rate_rps / slowed,
                max_replicas=entry.replicas,
            )
            for pair, entry in offered
        ),
    )


def first_plan(wanted: Instance, time_limit: float) -> Plan:
    """Return a plan of proven cost that has replicas on different cards, and uses shares that are left."""
    # As a number: a slowed profile has the margins of the card's own.
    margin = ig.read_profile("h200").margin_at(CONFIDENCE)
    plan = ig.solve(wanted, time_limit=time_limit, margin=margin).plan
    several = [name for name, cards in cards_of(plan).items() if len(cards) > 1]
    options = SolveOptions(time_limit=time_limit)
    found = ig.replan(_spread(plan, several), wanted, terms=ReplanTerms(keep=tuple(several)), options=options).plan
    if found.solver.cost_per_hour > plan.solver.cost_per_hour:
        raise SystemExit("no plan of the same cost was found that has replicas on different cards")
    return _filled(found.model_copy(update={"migration": None}))


def _filled(plan: Plan) -> Plan:
    """Give the tightest placements more of the share that is left: least shares leave no server room beside them."""
    problem = Problem(plan.instance, plan.solver.margin, plan.solver.confidence)
    for number, gpu in enumerate(plan.gpus):
        unit = problem.coefficients[0].hardware.share_unit_percent
        while plan.gpus[number].total_share_percent + unit <= FILLED[min(number, 1)]:
            checks = [check for check in verify(plan).placements if check.gpu == gpu.name]
            tightest = min(checks, key=lambda check: check.slack_ms / check.limit_ms)
            plan = with_place(plan, (tightest.workload, tightest.replica), gpu.name, tightest.share_percent + unit)
    made = make_plan(
        problem,
        drafts_from_plan(problem, plan),
        method=plan.solver.method,
        status=plan.solver.status,
        lower_bound=Decimal(str(plan.solver.lower_bound_per_hour)),
    )
    if not verify(made).ok:
        raise SystemExit("with more share the plan does not hold, which a monotone model excludes")
    names = [gpu.model_copy(update={"name": old.name}) for gpu, old in zip(made.gpus, plan.gpus, strict=True)]
    return made.model_copy(update={"gpus": tuple(names)})


def cards_of(plan: Plan) -> dict[str, list[str]]:
    """Return on which GPUs every workload's replicas are."""
    found: dict[str, list[str]] = {}
    for gpu in plan.gpus:
        for placement in gpu.placements:
            found.setdefault(placement.workload, []).append(gpu.name)
    return found


def _spread(plan: Plan, several: list[str]) -> Plan:
    """Spread placements over the GPUs, replicas over different ones, whether or not they hold there."""
    load: dict[str, list[Placement]] = {gpu.name: [] for gpu in plan.gpus}
    placements = [p for gpu in plan.gpus for p in gpu.placements]
    for placement in sorted(placements, key=lambda p: (p.workload not in several, -p.share_percent)):
        able = [g for g in load if all(p.workload != placement.workload for p in load[g])]
        load[min(able, key=lambda g: sum(p.share_percent for p in load[g]))].append(placement)
    gpus = [PlanGpu(name=gpu.name, type=gpu.type, placements=tuple(load[gpu.name])) for gpu in plan.gpus]
    return plan.model_copy(update={"gpus": tuple(gpus)})


class Overload(NamedTuple):
    """A placement for the guard: it is sent `factor` times its rate, and finds its share on another GPU."""

    workload: str
    factor: float
    gpu: str
    to_gpu: str
    share_percent: float


def overload(plan: Plan) -> Overload | None:
    """Return a workload with one replica that the guard would move to another GPU, were it sent too much."""
    found = []
    for gpu in sorted(plan.gpus, key=lambda entry: -entry.total_share_percent):
        for placement in gpu.placements:
            if len(cards_of(plan)[placement.workload]) == 1 and (entry := _moved(plan, gpu, placement)) is not None:
                found.append(entry)
    return min(found, key=lambda entry: entry.factor, default=None)


def _moved(plan: Plan, gpu: PlanGpu, placement: Placement) -> Overload | None:
    factor = round(OVERLOAD * placement.predicted_throughput_rps / placement.rate_rps, 2)
    key = placement.workload, placement.replica
    choice = repair(plan, key, {key: 0.0}, rate_rps=factor * placement.rate_rps)
    if choice is None or choice.gpu == gpu.name:
        return None
    return Overload(placement.workload, factor, gpu.name, choice.gpu, choice.share_percent)


def changed(plan: Plan, rise: float) -> Instance:
    """Return the instance with more demand for the largest workloads of the first card, and less for others."""
    factors: dict[str, float] = {}
    for number, gpu in enumerate(plan.gpus):
        alone = [p for p in gpu.placements if len(cards_of(plan)[p.workload]) == 1]
        alone.sort(key=lambda placement: -placement.share_percent)
        changing = alone[:RISING] if number == 0 else alone[:FALLING]
        factors |= {placement.workload: rise if number == 0 else FALL for placement in changing}
    workloads = [
        entry.model_copy(update={"rate_rps": round(entry.rate_rps * factors.get(entry.name, 1.0), 2)})
        for entry in plan.instance.workloads
    ]
    return plan.instance.model_copy(update={"workloads": tuple(workloads)})


def next_plan(plan: Plan, time_limit: float) -> tuple[Replanned, float, Overload | None]:
    """Return the plan for changed rates, by how much they rose, and what the guard is to mend then."""
    best = None
    for rise in RISES:
        try:
            found = ig.replan(plan, changed(plan, rise), options=SolveOptions(time_limit=time_limit))
        except ig.InfeasibleError:
            continue
        gaps = any(step.gap or step.short for step in found.migration.steps)
        counts = {name: len(cards) for name, cards in cards_of(plan).items()}
        alike = counts == {name: len(cards) for name, cards in cards_of(found.plan).items()}
        guarded = overload(found.plan)
        print(f"rise {rise:g}: {found.disruption!r}, gaps {gaps}, guard {guarded}")
        if gaps or not alike or not found.changed:
            continue
        if guarded is not None:
            return found, rise, guarded
        best = best or (found, rise, guarded)
    if best is None:
        raise SystemExit("no change of demand was found that leads to another plan without a gap")
    return best


def write_plans(folder: Path, cards: int, slowed: float = 1.0, time_limit: float = 40.0) -> None:
    """Make all plans and write them."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = first_plan(instance(cards, slowed), time_limit)
    found, rise, guarded = next_plan(plan, time_limit)
    ig.write_plan(plan, folder / "plan.json")
    ig.write_plan(found.plan, folder / "next.json")
    about: dict[str, Any] = {
        "command": f"python -m bench.two_cards.plans --cards {cards} --slowed {slowed:g}",
        "date": today(),
        "machine": machine(),
        "commit": commit(),
        "cards": cards,
        "slowed": slowed,
        "rise": rise,
        "fall": FALL,
        "overload": None if guarded is None else guarded._asdict(),
    }
    (folder / "plans.json").write_text(json.dumps(about, indent=1) + "\n")


def main() -> None:
    """Make the plans, and show them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cards", type=int, default=2)
    parser.add_argument("--slowed", type=float, default=1.0)
    options = parser.parse_args()
    write_plans(options.output, options.cards, options.slowed)
    for name in ("plan", "next"):
        plan = ig.read_plan(options.output / f"{name}.json")
        print(name, plan.solver.status, plan.solver.cost_per_hour, plan.solver.lower_bound_per_hour)
        for gpu in plan.gpus:
            placed = {f"{p.workload}#{p.replica}": (p.batch, round(p.share_percent, 1)) for p in gpu.placements}
            print(f"  {gpu.name} {gpu.total_share_percent:.1f} %: {placed}")
        for step in () if plan.migration is None else plan.migration.steps:
            start, stop = ([server.placement for server in some] for some in (step.start, step.stop))
            print(f"  start {start}, stop {stop}; holds at {step.holds}")


if __name__ == "__main__":
    main()
