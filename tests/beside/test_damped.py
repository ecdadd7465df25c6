"""Problems with less interference: the problem itself at all of it, and a bound at none."""

import pytest

from igniter_opt import GpuType, Instance, Workload, solve
from igniter_opt.base.stop import StopRequest
from igniter_opt.beside.damped import DampedProblem, undisturbed
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance_files import read_instance
from igniter_opt.methods import METHODS, ExactMethod
from igniter_opt.options import SolveOptions
from igniter_opt.problem.bounds import price_grid
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.exact_outcome import Outcome
from igniter_opt.slo.percentile import queues

TABLE3 = read_instance("igniter-table3").with_options("p99", 3)
CARDS = read_instance("cards-table3").with_options("p99", 3, coefficients="igniter")


def solved(problem: Problem) -> Outcome:
    row = METHODS["patterns"]
    assert isinstance(row, ExactMethod)
    return row.search(problem, None, SolveOptions(time_limit=20), StopRequest(), lambda _: None)


def test_all_of_the_interference_is_the_problem() -> None:
    whole, damped = Problem(TABLE3), DampedProblem(TABLE3, 0.0, 1.0)
    for workload in range(4):
        one, other = (problem.configurations(workload, 0, 2) for problem in (whole, damped))
        assert one is not None
        assert other is not None
        assert (one.batch == other.batch).all()
        assert one.limit_ms == pytest.approx(other.limit_ms, rel=1e-12)


def test_less_interference_never_costs_more() -> None:
    costs = [solved(DampedProblem(TABLE3, 0.0, part)).lower_units for part in (0.0, 0.5, 1.0)]
    assert costs == sorted(costs)
    assert costs[-1] == solved(Problem(TABLE3)).lower_units


@pytest.mark.parametrize("instance", [TABLE3, CARDS], ids=lambda entry: entry.name)
def test_nothing_that_holds_alone_is_missing(instance: Instance) -> None:
    """The bound's problem has a configuration at every level at which the exact queue of some batch holds alone."""
    free = undisturbed(instance, 0.0)
    for g, coefficients in enumerate(free.coefficients):
        shares = coefficients.hardware.shares()
        for number, workload in enumerate(instance.workloads[:6]):
            least = free.least_level(number, g, 2)
            model = coefficients.models[workload.model]
            below = (coefficients.hardware.share_levels if least is None else least - 1) - 1
            if below < coefficients.hardware.least_level - 1:
                continue
            for batch in range(1, model.max_batch + 1):
                queue = queues(
                    coefficients, [coefficients.index(workload.model)], [batch], [float(shares[below])],
                    [workload.rate_rps / 2],
                )[0]  # fmt: skip
                holds = queue.settles and queue.percentile_ms(0.99) <= workload.slo_ms
                assert not holds, (workload.name, batch, shares[below])


def test_bursts_and_margins_reach_the_bound() -> None:
    calm, bursty = (
        undisturbed(entry, 0.0).least_level(0, 0, 2)
        for entry in (TABLE3, TABLE3.with_options(arrivals=Arrivals("gamma", burstiness=4)))
    )
    wide = undisturbed(TABLE3, 0.5).least_level(0, 0, 2)
    assert calm is not None
    assert bursty is not None
    assert wide is not None
    assert calm < bursty
    assert calm < wide


def test_a_bound_is_below_every_plan() -> None:
    """Small instances by exact solves with all of the interference, whose plans hold beside actual neighbours, too."""
    for seed in range(4):
        instance = Instance(
            name="small",
            slo_rule="p99",
            gpu_types=[GpuType(name="V100", profile="v100", price_per_hour=3.06)],
            workloads=[
                Workload(name=f"w{k}", model=model, slo_ms=20 + 5 * (k + seed) % 30, rate_rps=40 + 30 * (seed + k) % 90)
                for k, model in enumerate(("vgg19", "ssd", "resnet50", "alexnet"))
            ],
        )
        bound = price_grid(Problem(instance)).cost(solved(undisturbed(instance, 0.0)).lower_units)
        assert float(bound) <= solve(instance, time_limit=10).cost
