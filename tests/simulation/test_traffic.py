"""The traffic that simulations, measurements and rehearsals share."""

from pathlib import Path

import numpy as np
import pytest

from igniter_opt import InputError
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.measure.options import MeasureOptions, schedules
from igniter_opt.simulation.traffic import Traffic


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
    recorded = traffic.recorded(["A"])
    assert recorded is not None
    assert recorded["A"].tolist() == [0, 0.25e9, 1e9]
    with pytest.raises(InputError, match="W"):
        Traffic(arrivals=Arrivals("trace"), traces=[("W", trace)]).recorded(["A"])


def test_other_arrivals_are_not_recorded() -> None:
    assert Traffic().recorded(["A"]) is None


def test_a_measurement_sends_the_trace_that_a_simulation_reads(trace: Path) -> None:
    options = MeasureOptions(
        arrivals=Arrivals("trace"), traces=[(None, trace)], scale=2.0, warm_up_s=0.0, duration_s=10.0
    )
    assert isinstance(options, Traffic)
    (schedule,) = schedules([("A", [4.0])], options, ["A"])
    recorded = options.recorded(["A"])
    assert recorded is not None
    assert np.array_equal(schedule.times_ns, recorded["A"])
