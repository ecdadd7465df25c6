from hypothesis import given
from hypothesis import strategies as st

from igniter_opt import read_instance, solve, verify
from igniter_opt.base.files import parse_json
from igniter_opt.data.plan import plan_from_data, plan_json
from igniter_opt.slo.rules import RULES


def test_settings_of_every_rule() -> None:
    assert RULES["half"].queue_delay_us(25.0, 150.0, 4) == 12_500
    assert RULES["deadline"].queue_delay_us(25.0, 500.0, 4) == 6_000
    assert RULES["deadline"].queue_delay_us(25.0, 500.0, 1) == 0


@given(st.floats(1e-6, 1e9), st.floats(1e-6, 1e9), st.integers(1, 64))
def test_delays_are_long_enough_and_no_longer(slo: float, rate: float, batch: int) -> None:
    """A batch fills within `deadline`'s delay, and `half` leaves half the SLO, to a microsecond."""
    fill, half = (batch - 1) * 1e6 / rate, slo * 500.0
    delay = RULES["deadline"].queue_delay_us(slo, rate, batch)
    assert fill * (1 - 1e-8) <= delay <= fill + 1
    delay = RULES["half"].queue_delay_us(slo, rate, batch)
    assert half - 1 <= delay <= half * (1 + 1e-8)


def test_plans_carry_the_delay_and_verify_checks_it() -> None:
    plan = solve(read_instance("igniter-table3"), "igniter", slo_rule="deadline").plan
    workloads = {workload.name: workload for workload in plan.instance.workloads}
    for gpu in plan.gpus:
        for p in gpu.placements:
            slo_ms = workloads[p.workload].slo_ms
            assert p.queue_delay_us == RULES["deadline"].queue_delay_us(slo_ms, p.rate_rps, p.batch)
    data = parse_json(plan_json(plan), "text")
    first = data["gpus"][0]["placements"][0]
    first["queue_delay_us"] += 1
    violations = verify(plan_from_data(data, "text")).violations
    assert [entry.kind for entry in violations] == ["queue-delay"]
    assert "rule deadline assumes" in violations[0].message


def test_plans_without_the_delay_still_read_and_hold() -> None:
    data = parse_json(plan_json(solve(read_instance("igniter-three"), "igniter").plan), "text")
    for gpu in data["gpus"]:
        for p in gpu["placements"]:
            del p["queue_delay_us"]
    plan = plan_from_data(data, "text")
    assert verify(plan).ok
    assert "queue_delay_us" not in plan_json(plan)
