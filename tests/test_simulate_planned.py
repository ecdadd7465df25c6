"""Plans are simulated under the arrivals that they were made for, unless told otherwise."""

from pathlib import Path

import numpy as np
import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import parse_json
from igniter_opt.compare import compare
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.plan import Plan, plan_from_data, plan_json
from igniter_opt.simulate import simulate
from igniter_opt.simulation.results import Simulation
from igniter_opt.solve import solve

BURSTY = Arrivals("gamma", burstiness=4.0)
# Enough for differences between kinds of arrivals.
FEW = {"requests": 4000, "seeds": 2}


@pytest.fixture(scope="module")
def three() -> Plan:
    return solve(read_instance("igniter-three"), "igniter").plan


def planned_for(plan: Plan, *arrivals: Arrivals | None, common: Arrivals | None = None) -> Plan:
    """Return the plan as read from a file that names arrivals, for all workloads or for each."""
    own = arrivals or (None,) * len(plan.instance.workloads)
    workloads = tuple(
        entry.model_copy(update={"arrivals": a}) for entry, a in zip(plan.instance.workloads, own, strict=True)
    )
    instance = plan.instance.model_copy(update={"arrivals": common, "workloads": workloads})
    text = plan_json(plan.model_copy(update={"instance": instance}))
    return plan_from_data(parse_json(text, "plan.json"), "plan.json")


def trace_of(folder: Path, rate: float, requests: int = 3000) -> Path:
    path = folder / "trace.csv"
    gaps = np.random.default_rng(1).gamma(0.25, 4.0, requests)
    times = np.cumsum(gaps) - gaps[0]
    times *= (requests - 1) / rate / times[-1]
    path.write_text("\n".join(f"{time:.9f}" for time in times))
    return path


@pytest.mark.parametrize("neighbours", ["full", "actual"])
def test_gamma(three: Plan, neighbours: str) -> None:
    planned = planned_for(three, common=BURSTY)
    found = simulate(planned, **FEW, neighbours=neighbours)  # type: ignore[arg-type]
    assert found.to_dict() == simulate(three, BURSTY, **FEW, neighbours=neighbours).to_dict()  # type: ignore[arg-type]
    assert found.settings["burstiness"] == 4.0
    assert found.violation_ratio > simulate(planned, "poisson", **FEW).violation_ratio + 0.05  # type: ignore[arg-type]


def test_a_plan_that_says_nothing_is_simulated_under_poisson_arrivals(three: Plan) -> None:
    found = simulate(three, **FEW)  # type: ignore[arg-type]
    assert found.to_dict() == simulate(three, "poisson", **FEW).to_dict()  # type: ignore[arg-type]
    assert found.to_dict()["arrivals"] == "poisson"
    assert simulate(planned_for(three, common=BURSTY), "poisson", **FEW).to_csv() == found.to_csv()  # type: ignore[arg-type]


def test_every_workload_has_its_own(three: Plan) -> None:
    modulated = Arrivals("mmpp", burst_ratio=8.0, burst_seconds=0.5)
    found = simulate(planned_for(three, None, BURSTY, modulated), **FEW)  # type: ignore[arg-type]
    for number, arrivals in enumerate((Arrivals(), BURSTY, modulated)):
        alone = simulate(three, arrivals, **FEW)  # type: ignore[arg-type]
        assert found.workloads[number].to_dict() == alone.workloads[number].to_dict()
    assert found.settings["arrivals"] == "mixed"
    names = [workload.name for workload in three.instance.workloads]
    assert found.settings["arrivals_by_workload"] == {
        names[0]: "Poisson arrivals", names[1]: BURSTY.words, names[2]: modulated.words,
    }  # fmt: skip


def test_a_trace(three: Plan, tmp_path: Path) -> None:
    """At the rate of a workload a planned trace is the same as one that is given; others are scaled."""
    workload = three.instance.workloads[1]
    path = trace_of(tmp_path, workload.rate_rps)
    recorded = Arrivals("trace", file=str(path)).planned([])
    planned = planned_for(three, common=recorded)
    path.unlink()
    found = simulate(planned)
    path = trace_of(tmp_path, workload.rate_rps)
    given = simulate(three, "trace", traces=[(entry.name, path) for entry in three.instance.workloads])
    assert found.settings["requests"] is None
    assert found.settings["trace"] == str(path)
    assert found.settings["runs"] == 1
    assert _value(found, 1, "percentile_ms") == pytest.approx(_value(given, 1, "percentile_ms"))
    for number, entry in enumerate(planned.instance.workloads):
        assert found.workloads[number].requests == 3000
        assert _value(found, number, "offered_rps") == pytest.approx(entry.rate_rps, rel=1e-3)
    assert found.to_dict() == simulate(three, Arrivals("trace", file=str(path))).to_dict()


@pytest.mark.parametrize("neighbours", ["full", "actual"])
def test_a_trace_beside_drawn_requests(three: Plan, tmp_path: Path, neighbours: str) -> None:
    workload = three.instance.workloads[1]
    recorded = Arrivals("trace", file=str(trace_of(tmp_path, 100.0))).planned([])
    planned = planned_for(three, None, recorded, BURSTY)
    found = simulate(planned, **FEW, neighbours=neighbours)  # type: ignore[arg-type]
    assert found.workloads[1].requests == 3000 * (1 if neighbours == "full" else 2)
    if neighbours == "full":
        assert found.workloads[0].to_dict() == simulate(three, **FEW).workloads[0].to_dict()  # type: ignore[arg-type]
        assert found.settings["requests"] == 4000
    else:
        # The others go on as long as the trace, an eleventh of it as warm-up.
        expected = three.instance.workloads[0].rate_rps * 2999 / workload.rate_rps * 2 * 10 / 11
        assert found.workloads[0].requests == pytest.approx(expected, rel=0.05)


def test_comparisons_simulate_under_the_arrivals_of_plans() -> None:
    instance = read_instance("igniter-three")
    for arrivals, words in ((None, "Poisson arrivals"), (BURSTY, "gamma arrivals (burstiness 4)")):
        rows = compare(
            instance, ["bestfit", "igniter"], slo_rule="p99", max_replicas=2, arrivals=arrivals, requests=4000
        )
        for row in rows.rows:
            assert row.simulated_arrivals == words
            plan = rows.results[instance.name, row.method].plan
            same = simulate(plan, arrivals or "poisson", requests=4000, seeds=1)
            assert row.simulated_violation_ratio == same.violation_ratio
            assert row.simulated_worst_p99_over_slo == same.worst_p99_over_slo


def _value(found: Simulation, number: int, name: str) -> float:
    return found.workloads[number].estimates[name].value


def test_a_number_of_requests_where_all_are_recorded(three: Plan, tmp_path: Path) -> None:
    """It would say nothing; comparisons, whose number is for what is drawn, leave it out."""
    # As few as a percentile is read from.
    recorded = Arrivals("trace", file=str(trace_of(tmp_path, 100.0, requests=1000))).planned([])
    with pytest.raises(InputError, match="all workloads have recorded requests"):
        simulate(planned_for(three, common=recorded), requests=4000)
    assert simulate(planned_for(three, common=recorded), "poisson", requests=4000, seeds=1).settings["requests"] == 4000
    assert simulate(planned_for(three, None, recorded, BURSTY), **FEW).settings["requests"] == 4000  # type: ignore[arg-type]
    instance = planned_for(three, common=recorded).instance
    rows = compare(instance, ["bestfit"], slo_rule="p99", max_replicas=2, requests=4000).rows
    assert rows[0].simulated_violation_ratio is not None
