"""Measurements of a server whose behaviour is known."""

import contextlib
import math
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance_files import parse_instance
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.triton.samples import Sample
from igniter_opt.measure.options import MeasureOptions, schedules
from igniter_opt.measure.records import Live
from igniter_opt.measure.results import Measurement
from igniter_opt.measure.run import measure
from tests.measure.fake_server import Behaviour, endpoints_of, serving
from tests.measure.undisturbed import undisturbed

CONSTANT = Arrivals("constant")


def one_workload(slo_ms: float) -> Plan:
    """A plan of one workload W, to judge by."""
    text = (
        "{name: one, gpu_types: [{name: V100, profile: v100, price_per_hour: 3.06}],"
        f" workloads: [{{name: W, model: alexnet, slo_ms: {slo_ms}, rate_rps: 10}}]}}"
    )
    return ig.solve(parse_instance(text, "one", Path()), "igniter").plan


def test_a_server_that_is_quick() -> None:
    seen: list[tuple[float, float, list[Live]]] = []

    def attempt() -> Measurement:
        with serving(Behaviour(service_s=0.02)) as place, serving(Behaviour(service_s=0.04)) as other:
            options = MeasureOptions(arrivals=CONSTANT, duration_s=2.0, warm_up_s=0.5)
            endpoints = endpoints_of(place, other, rate=100)
            return measure(endpoints, options, source="test", on_progress=lambda *state: seen.append(state))

    found = undisturbed(attempt)
    (workload,) = found.workloads
    assert (found.partial, workload.requests, workload.failed) == (None, 200, 0)
    assert workload.throughput_rps == pytest.approx(100, abs=3)
    first, second = workload.replicas
    assert first.requests == second.requests == 100
    assert 20 <= (first.p50_ms or 0) < 35 and 40 <= (second.p50_ms or 0) < 55
    assert first.server is not None and (first.server.queue_ms, first.server.compute_ms) == (3.0, 5.0)
    assert workload.server is not None and workload.server.mean_batch == pytest.approx(2.0, abs=0.1)
    assert seen and seen[-1][2][0].answered > 0


def test_a_stall_is_charged_to_every_request_that_it_delays() -> None:
    """No coordinated omission: while the server stalls for a second, requests go on being sent, and wait."""
    arrivals: list[float] = []

    def attempt() -> Measurement:
        behaviour = Behaviour(service_s=0.001)

        def stall() -> None:
            while len(behaviour.arrivals) < 2:  # the first is a trial before the load
                time.sleep(0.001)
            behaviour.stall_from = behaviour.arrivals[1] + 1.0
            behaviour.stall_until = behaviour.stall_from + 1.0

        thread = threading.Thread(target=stall)
        thread.start()
        options = MeasureOptions(arrivals=CONSTANT, duration_s=3.0, warm_up_s=0.0)
        with serving(behaviour) as place:
            found = measure(endpoints_of(place, rate=100), options)
        thread.join()
        arrivals[:] = behaviour.arrivals[1:]
        return found

    (workload,) = undisturbed(attempt).workloads
    # The server's own record: nobody waited with sending.
    gaps = np.diff(sorted(arrivals))
    assert gaps.max() < 0.2
    # A third of the requests came during the stall, and waited half a second on average.
    assert workload.mean_ms == pytest.approx(1000 / 3 / 2, rel=0.15)
    assert workload.p99_ms == pytest.approx(970, rel=0.1)
    assert (workload.p50_ms or 1e9) < 60
    assert workload.requests == 300


def test_failures_time_outs_and_short_answers_are_told_apart() -> None:
    options = MeasureOptions(arrivals=CONSTANT, duration_s=0.5, warm_up_s=0.0, timeout_s=0.3)
    for behaviour, said in (
        (Behaviour(fail=True, good=1), "failed"),
        (Behaviour(service_s=0.6, good=1), "timed out"),
        (Behaviour(short=True, good=1), "answered with too few bytes"),
    ):
        with serving(behaviour) as place:
            found = measure(endpoints_of(place, rate=40), options)
        (workload,) = found.workloads
        assert workload.failures == {said: 20}
        assert (workload.p50_ms, workload.mean_ms) == (None, None)
    assert found.settings["errors"] == {}


def test_what_failing_servers_say_is_kept() -> None:
    with serving(Behaviour(fail=True, good=1)) as place:
        found = measure(endpoints_of(place, rate=40), MeasureOptions(arrivals=CONSTANT, duration_s=0.5, warm_up_s=0.0))
    assert found.settings["errors"] == {"W: INTERNAL: made to fail": 20}


def test_a_server_that_dies_ends_the_measurement_and_the_finished_part_is_kept() -> None:
    behaviour = Behaviour()
    with serving(behaviour) as place, serving(Behaviour()) as other:

        def die() -> None:
            while len(behaviour.arrivals) < 30:
                time.sleep(0.01)
            behaviour.fail, behaviour.alive = True, False

        thread = threading.Thread(target=die)
        thread.start()
        started = time.monotonic()
        found = measure(
            endpoints_of(place, other, rate=100), MeasureOptions(arrivals=CONSTANT, duration_s=30.0, warm_up_s=0.0)
        )
        thread.join()
    assert time.monotonic() - started < 15
    assert found.partial is not None and "W replica 1 does not answer" in found.partial
    assert found.duration_s < 10
    first, second = found.workloads[0].replicas
    assert first.answered >= 29 and first.failed > 0
    assert second.failed == 0 and second.answered > 40


def test_a_stop_keeps_the_finished_part() -> None:
    stop = StopRequest()
    behaviour = Behaviour()

    def end() -> None:
        while len(behaviour.arrivals) < 50:
            time.sleep(0.01)
        stop.set()

    threading.Thread(target=end).start()
    with serving(behaviour) as place:
        found = measure(
            endpoints_of(place, rate=50), MeasureOptions(arrivals=CONSTANT, duration_s=60.0, warm_up_s=0.0), stop=stop
        )
    assert found.partial == "interrupted"
    assert 0 < found.workloads[0].answered < 150
    assert found.workloads[0].failed == 0


@pytest.mark.parametrize("judged", [True, False])
def test_a_stop_while_the_server_stalls_does_not_hide_the_stall(judged: bool) -> None:
    """Requests that wait when the measurement ends are no less late for never being answered.

    What is expected goes by when requests are due, so that it is the same on a machine that is late with everything.
    """
    behaviour = Behaviour(stall_from=math.inf, stall_until=math.inf)
    stop, stopped = StopRequest(), []

    def stall() -> None:
        while len(behaviour.arrivals) < 100:
            time.sleep(0.01)
        behaviour.stall_from = time.monotonic()
        time.sleep(2.0)
        stopped.append(time.monotonic())
        stop.set()
        time.sleep(1.0)
        behaviour.released.set()

    thread = threading.Thread(target=stall)
    plan = one_workload(slo_ms=100) if judged else None
    options = MeasureOptions(arrivals=CONSTANT, duration_s=60.0, warm_up_s=0.0)
    with serving(behaviour) as place:
        thread.start()
        found = measure(endpoints_of(place, rate=100), options, plan=plan, stop=stop)
        thread.join()
    (workload,) = found.workloads
    waited = "without an answer when the measurement ended"
    assert found.partial == "interrupted" and set(workload.failures) == {waited}
    # The first arrival is a trial before the load, and the load begins before the second.
    _, *arrivals = behaviour.arrivals
    assert found.duration_s >= stopped[0] - arrivals[0]
    # All but those whose fate is open: of the last 100 ms, without a plan second.
    (schedule,) = schedules([("W", [100.0])], options, ["W"])
    due = np.count_nonzero(schedule.times_ns <= 1e9 * (found.duration_s - (0.1 if judged else 1.0)))
    answered = sum(at < behaviour.stall_from for at in arrivals)
    assert workload.failures[waited] == pytest.approx(due - answered, abs=2)
    # 190 were due between the beginning of the stall and then, without a plan 100; more if they were sent late.
    assert workload.failures[waited] >= (188 if judged else 98)
    assert workload.p99_ms is None
    assert workload.holds is (False if judged else None)


def test_a_load_generator_that_is_killed_ends_the_measurement() -> None:
    behaviour = Behaviour()

    def kill() -> None:
        while len(behaviour.arrivals) < 100:
            time.sleep(0.01)
        (child,) = (c for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline()))
        child.kill()

    thread = threading.Thread(target=kill)
    with serving(behaviour) as place:
        thread.start()
        found = measure(
            endpoints_of(place, rate=100), MeasureOptions(arrivals=CONSTANT, duration_s=60.0, warm_up_s=0.0)
        )
        thread.join()
    (workload,) = found.workloads
    assert found.partial == "a load generator ended unexpectedly"
    assert workload.failed == 0  # what it had not yet told of is nobody's fault
    assert workload.answered == workload.requests
    assert found.duration_s < 5


def test_the_plan_judges() -> None:
    with serving(Behaviour(service_s=0.03)) as place:
        for slo_ms, allowance_ms, holds in ((200, 0, True), (20, 0, False), (20, 180, True)):
            options = MeasureOptions(arrivals=CONSTANT, duration_s=1.0, warm_up_s=0.0, allowance_ms=allowance_ms)
            found = measure(endpoints_of(place, rate=50), options, plan=one_workload(slo_ms=slo_ms))
            (workload,) = found.workloads
            assert (workload.slo_ms, workload.holds) == (slo_ms + allowance_ms, holds)
            assert found.workloads_over_slo == ([] if holds else ["W"])
        with pytest.raises(InputError, match="the plan has no workload 'V'"):
            measure(endpoints_of(place, rate=50, workload="V"), plan=one_workload(slo_ms=20))


def test_a_generator_that_is_starved_says_so() -> None:
    """A process that gets no processor in time sends late, which is not the server's fault."""
    suspended = threading.Event()

    def starve() -> None:
        while not suspended.is_set():
            children = psutil.Process().children()
            for action in ("suspend", "resume"):
                for child in children:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        if "spawn_main" in " ".join(child.cmdline()):
                            getattr(child, action)()
                time.sleep(0.1)

    thread = threading.Thread(target=starve)
    with serving(Behaviour()) as place:
        thread.start()
        found = measure(endpoints_of(place, rate=200), MeasureOptions(arrivals=CONSTANT, duration_s=2.0, warm_up_s=0.0))
        suspended.set()
        thread.join()
    (workload,) = found.workloads
    assert workload.requests == 400  # all the same
    assert found.sent_too_late == ["W"]
    assert (workload.sent_late_ms or 0) > 50
    # Latencies count from when requests were due.
    assert (workload.p99_ms or 0) > (workload.sent_late_ms or 0)


def test_nobody_there_or_another_model() -> None:
    place = ("127.0.0.1:9", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"nobody answers at 127\.0\.0\.1:9"):
        measure(endpoints_of(place, rate=10))
    with serving(Behaviour()) as place:
        wrong = endpoints_of(place, rate=10)
        named = wrong.workloads["W"].model_copy(update={"model": "other"})
        with pytest.raises(InputError, match="has no model 'other'"):
            measure(wrong.model_copy(update={"workloads": {"W": named}}))


def test_a_server_that_cannot_infer_is_found_out_before_the_load() -> None:
    for behaviour, message in ((Behaviour(fail=True), "made to fail"), (Behaviour(short=True), "lacks its values")):
        with serving(behaviour) as place, pytest.raises(InputError, match=message):
            measure(endpoints_of(place, rate=10))
        assert len(behaviour.arrivals) == 1


def test_inputs_must_fit_the_model() -> None:
    with serving(Behaviour()) as place:
        for data, message in (
            ([{"z": [1, 2, 3]}], "no tensor 'z'"),
            ([{"x": [1, 2]}], "cannot become FP32 of shape"),
            ([{}], "input 'x' of model double is missing"),
        ):
            sample = Sample.model_validate({"data": data})
            with pytest.raises(InputError, match=message):
                measure(endpoints_of(place, rate=10), MeasureOptions(inputs={"double": (sample, "data.json")}))
        sample = Sample.model_validate({"data": [{"x": [1, 2, 3]}, {"x": [4, 5, 6]}]})
        found = measure(
            endpoints_of(place, rate=50),
            MeasureOptions(arrivals=CONSTANT, duration_s=0.5, warm_up_s=0.0, inputs={"double": (sample, "data.json")}),
        )
    assert found.workloads[0].answered == 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (MeasureOptions(duration_s=0.0), "duration must be between"),
        (MeasureOptions(scale=-1.0), "scale must be between"),
        (MeasureOptions(allowance_ms=-1.0), "allowance must be between"),
        (MeasureOptions(timeout_s=0.0), "timeout must be between"),
        (MeasureOptions(percentile=99.0), "percentile must be a probability"),
        (MeasureOptions(processes=0), "processes must be between"),
        (MeasureOptions(arrivals=Arrivals("trace")), "arrivals trace: give a trace file"),
        (MeasureOptions(only=("V",)), "no workload 'V'"),
        (MeasureOptions(duration_s=1e5, scale=1e5), "at most 20,000,000 can be kept"),
    ],
)
def test_options_out_of_range(options: MeasureOptions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure(endpoints_of(("127.0.0.1:9", "http://127.0.0.1:9"), rate=100), options)


def test_equal_seeds_give_a_workload_equal_requests_whichever_are_measured() -> None:
    options = MeasureOptions(duration_s=5.0, warm_up_s=1.0, seed=3)
    names = ["A", "B"]
    both = schedules([("A", [30.0]), ("B", [10.0, 20.0])], options, names)
    (alone,) = schedules([("B", [10.0, 20.0])], options, names)
    assert np.array_equal(both[1].times_ns, alone.times_ns) and np.array_equal(both[1].replica, alone.replica)
    assert both[1].ahead == np.count_nonzero(alone.times_ns < 1e9)
    assert alone.times_ns.max() < 6e9
    assert np.count_nonzero(alone.replica == 1) > np.count_nonzero(alone.replica == 0)
