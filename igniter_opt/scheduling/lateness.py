"""What it meant where a plan did not keep all: requests that would have been late, by simulation.

Only steps that the predictor says something is missed in are simulated; in the others all promises are kept. Under
rules about constant arrivals these are what comes, so that what is late is late for the forecast, not by chance; under
rules on a percentile what the instance says. A server that cannot keep up falls behind for as long as the step lasts:
as many requests are simulated as a step has, up to a limit.
"""

from typing import NamedTuple

from igniter_opt.data.arrivals import ArrivalKind
from igniter_opt.data.slo_rule import has_percentile
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import drafts_from_plan, make_plan
from igniter_opt.problem.start_plans import at_rates
from igniter_opt.scheduling.outcome import Scheduled
from igniter_opt.simulate import simulate

# Requests of a workload in a step that are simulated at most.
MOST_REQUESTS = 20_000


class LateRequests(NamedTuple):
    """Requests in all, those late by simulation, and in how many steps something was missed."""

    requests: float
    late: float
    steps: int

    @property
    def part(self) -> float:
        """Which part of the requests is late."""
        return self.late / self.requests if self.requests else 0.0


def late_requests(found: Scheduled, most: int = MOST_REQUESTS) -> LateRequests:
    """Simulate the steps in which a schedule misses something at the rates that came."""
    step_s = found.demand.step_s
    late, missed = 0.0, 0
    for step, over in enumerate(found.over):
        if not over:
            continue
        missed += 1
        plan, rates = found.plans[step], found.real[step].tolist()
        workloads = [
            workload.model_copy(update={"rate_rps": rate})
            for workload, rate in zip(found.instance.workloads, rates, strict=True)
        ]
        instance = found.instance.model_copy(update={"workloads": tuple(workloads)}).with_options(headroom=0.0)
        problem = Problem(instance, plan.solver.margin, plan.solver.confidence)
        real = make_plan(problem, at_rates(problem, drafts_from_plan(problem, plan)), method="draft", status="violates")
        arrivals: ArrivalKind | None = None if has_percentile(instance.slo_rule) else "constant"
        requests = int(max(100.0, min(most, max(rates) * step_s)))
        simulated = simulate(real, arrivals, requests=requests, seeds=1, warm_up=0)
        ratio = {entry.workload: entry.estimates["violation_ratio"].value for entry in simulated.workloads}
        late += sum(ratio[w.name] * rate * step_s for w, rate in zip(found.instance.workloads, rates, strict=True))
    return LateRequests(float(found.real.sum()) * step_s, late, missed)
