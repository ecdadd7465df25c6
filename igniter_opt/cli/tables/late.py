"""What random arrivals make of plans whose rule assumes a constant rate, and the option that plans for them."""

from typing import TYPE_CHECKING

from igniter_opt.base.text import counted, rounded
from igniter_opt.data.arrivals import either
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import Plan
from igniter_opt.data.slo_rule import percentile_rules
from igniter_opt.slo.rules import rule_of

if TYPE_CHECKING:
    from igniter_opt.compare import Comparison

# What most bursty or fast workloads need under a rule on percentiles.
_REPLICAS = 3


def late_line(plan: Plan) -> str | None:
    """Say which part of the requests would be late; None under rules that plan for random arrivals."""
    if rule_of(plan.instance).has_percentile:
        return None
    from igniter_opt.simulation.glance import late_at_a_glance

    found = late_at_a_glance(plan)
    if found is None:
        return None
    simulated = counted(found.of, "workload")
    simulated = simulated if found.workloads == found.of else f"{found.workloads:,} of {simulated}"
    return _line(found.arrivals, _percent(found.ratio), "requests", simulated, [plan.instance])


def late_line_of(comparison: "Comparison") -> str | None:
    """Say it of the cheapest plan that holds of every instance, from the comparison's own simulations."""
    found: dict[str, tuple[float, float, str, Instance]] = {}
    for row in comparison.rows:
        result = comparison.results.get((row.instance, row.method))
        if result is None or row.simulated_violation_ratio is None or row.status == "violates":
            continue
        if not rule_of(result.plan.instance).has_percentile:
            own = (result.cost, row.simulated_violation_ratio, row.simulated_arrivals or "", result.plan.instance)
            if row.instance not in found or own[0] < found[row.instance][0]:
                found[row.instance] = own
    if not found:
        return None
    ratios = [ratio for _, ratio, _, _ in found.values()]
    least, most = _percent(min(ratios)), _percent(max(ratios))
    share = most if least == most else f"{least.removesuffix(' %')} to {most}"
    arrivals = either(dict.fromkeys(words for _, _, words, _ in found.values()))
    workloads = counted(sum(len(instance.workloads) for *_, instance in found.values()), "workload")
    plans = "the cheapest plan's requests" if len(found) == 1 else "the cheapest plans' requests"
    return _line(arrivals, share, plans, workloads, [instance for *_, instance in found.values()])


def _line(arrivals: str, share: str, requests: str, simulated: str, instances: list[Instance]) -> str:
    # In slices a workload may have as many as it takes, unless it says how many.
    shared = [instance for instance in instances if not instance.cut_types]
    whole = any(entry.max_replicas is None for instance in shared for entry in instance.workloads)
    replicas = f" --max-replicas {_REPLICAS}" if whole else ""
    return (
        f"under {arrivals} about {share} of {requests} would be late (simulated, {simulated});"
        f" --slo-rule {percentile_rules()}{replicas} plans for them"
    )


def _percent(ratio: float) -> str:
    value = 100.0 * ratio
    return f"{rounded(value, 0 if value >= 10.0 else 1)} %"
