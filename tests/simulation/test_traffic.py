"""The traffic that simulations, measurements and rehearsals share."""

from pathlib import Path

import numpy as np
import pytest

from igniter_opt import InputError
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import parse_instance
from igniter_opt.measure.options import MeasureOptions, schedules
from igniter_opt.simulation.traffic import Traffic, arrivals_words


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text("timestamp\n0.0\n0.5\n2.0\n")
    return path


def test_constant_arrivals_stay_constant_unless_told_otherwise() -> None:
    assert Traffic().way_to_split == "random"
    assert Traffic(arrivals=Arrivals("constant")).way_to_split == "round-robin"
    assert Traffic(arrivals=Arrivals("constant"), split="random").way_to_split == "random"


def test_a_trace_is_read_at_the_scale(trace: Path) -> None:
    traffic = Traffic(arrivals=Arrivals("trace"), traces=[(None, trace)], scale=2.0)
    recorded = traffic.recorded({"A": 10.0}, None)
    assert recorded["A"].tolist() == [0, 0.25e9, 1e9]
    with pytest.raises(InputError, match="W"):
        Traffic(arrivals=Arrivals("trace"), traces=[("W", trace)]).recorded({"A": 10.0}, None)


def test_other_arrivals_are_not_recorded() -> None:
    assert Traffic().recorded({"A": 10.0}, None) == {}


def test_a_measurement_sends_the_trace_that_a_simulation_reads(trace: Path) -> None:
    options = MeasureOptions(
        arrivals=Arrivals("trace"), traces=[(None, trace)], scale=2.0, warm_up_s=0.0, duration_s=10.0
    )
    assert isinstance(options, Traffic)
    (schedule,) = schedules([("A", [4.0])], options, ["A"])
    recorded = options.recorded({"A": 4.0}, None)
    assert np.array_equal(schedule.times_ns, recorded["A"])


def instance_of(tmp_path: Path, common: str = "", own: str = "") -> Instance:
    """Two workloads, A and B; B may have arrivals of its own."""
    text = f"name: two\n{common}\ngpu_types: [{{name: V100, profile: v100, price_per_hour: 1}}]\nworkloads:\n"
    text += "  - {name: A, model: alexnet, slo_ms: 15, rate_rps: 100}\n"
    return parse_instance(text + f"  - {{name: B, model: alexnet, slo_ms: 15, rate_rps: 50{own}}}\n", "two", tmp_path)


def test_arrivals_are_as_planned_unless_told_otherwise(tmp_path: Path) -> None:
    names, plain = ["A", "B"], instance_of(tmp_path)
    assert Traffic().arrivals_of(names, None) == Traffic().arrivals_of(names, plain) == dict.fromkeys(names, Arrivals())
    mixed = instance_of(tmp_path, "arrivals: {kind: gamma}", ", arrivals: {kind: mmpp}")
    assert Traffic().arrivals_of(names, mixed) == {"A": Arrivals("gamma"), "B": Arrivals("mmpp")}
    assert Traffic(arrivals=Arrivals()).arrivals_of(names, mixed) == dict.fromkeys(names, Arrivals())


def test_settings_say_what_arrivals_there_are(tmp_path: Path) -> None:
    names = ["A", "B"]
    assert Traffic().settings(names, instance_of(tmp_path)) == {"arrivals": "poisson"}
    bursty = instance_of(tmp_path, "arrivals: {kind: gamma}", ", arrivals: {kind: gamma, burstiness: 4}")
    assert Traffic().settings(names, bursty) == {"arrivals": "gamma", "burstiness": 4.0}
    settings = Traffic().settings(names, instance_of(tmp_path, own=", arrivals: {kind: mmpp, burst_ratio: 3}"))
    words = "mmpp arrivals (burst ratio 3, burst seconds 1)"
    assert settings == {"arrivals": "mixed", "arrivals_by_workload": {"A": "Poisson arrivals", "B": words}}
    assert arrivals_words(settings) == f"Poisson arrivals or {words}"


def test_planned_traces_have_the_rates_of_their_workloads(tmp_path: Path) -> None:
    """A trace of 10 req/s: in the plan A has 100, B is drawn; a scale of 2 doubles them."""
    (tmp_path / "ten.csv").write_text("\n".join(f"{3 + 0.1 * k:.1f}" for k in range(1001)))
    plan = instance_of(tmp_path, "arrivals: {kind: trace, file: ten.csv}", ", arrivals: {kind: gamma}")
    recorded = Traffic(scale=2.0).recorded({"A": 100.0, "B": 50.0}, plan)
    assert list(recorded) == ["A"]
    assert recorded["A"] == pytest.approx(np.arange(1001) * 5e6)
    given = Traffic(arrivals=Arrivals("trace", file=str(tmp_path / "ten.csv")), scale=2.0)
    both = given.recorded({"A": 100.0, "B": 50.0}, None)
    assert np.array_equal(both["A"], recorded["A"])
    assert both["B"] == pytest.approx(np.arange(1001) * 1e7)


def test_traces_and_arrivals_go_together(trace: Path) -> None:
    for traffic, says in (
        (Traffic(traces=[(None, trace)]), "the arrivals are as planned"),
        (Traffic(arrivals=Arrivals("gamma"), traces=[(None, trace)]), "the arrivals are gamma"),
        (Traffic(arrivals=Arrivals("trace")), "give a trace file"),
        (Traffic(arrivals=Arrivals("trace", file="a.csv"), traces=[(None, trace)]), "one only"),
    ):
        with pytest.raises(InputError, match=says):
            traffic.check_traces()


def test_a_measurement_sends_what_is_planned(tmp_path: Path) -> None:
    (tmp_path / "ten.csv").write_text("\n".join(f"{0.1 * k:.1f}" for k in range(1001)))
    own = ", arrivals: {kind: trace, file: ten.csv}"
    plan = instance_of(tmp_path, "arrivals: {kind: gamma, burstiness: 9}", own)
    loaded, names = [("A", [60.0, 40.0]), ("B", [50.0])], ["A", "B"]
    planned = schedules(loaded, MeasureOptions(duration_s=5.0), names, plan)
    gamma = schedules(loaded, MeasureOptions(duration_s=5.0, arrivals=Arrivals("gamma", 9.0)), names, plan)
    assert np.array_equal(planned[0].times_ns, gamma[0].times_ns)
    assert np.array_equal(planned[0].replica, gamma[0].replica)
    # 50 req/s for eight seconds.
    assert planned[1].times_ns == pytest.approx(np.arange(400) * 2e7)
    assert len(schedules(loaded, MeasureOptions(duration_s=5.0), names)[1].times_ns) != 400
