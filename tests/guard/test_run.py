"""The guard's decisions, with servers, time and changes made up."""

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igniter_opt.base.errors import InputError
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.records import HostRecord, Ports, ReplicaRecord
from igniter_opt.deploy.state import Deployment
from igniter_opt.guard.change import ChangeOutcome, PlacementChange, Switched
from igniter_opt.guard.choose import Key
from igniter_opt.guard.decide import Guard, GuardEnd, Settings
from igniter_opt.guard.journal import Event, Past, remembered
from igniter_opt.guard.observe import Seen
from igniter_opt.guard.window import WindowSettings
from igniter_opt.simulation.servers import Server
from tests.guard.test_choose import three

COOL_DOWN = 10.0
INTERVAL = 0.25


def deployment(plan: Plan) -> Deployment:
    """What the launcher records of a plan, as far as the guard cares."""
    records = [
        ReplicaRecord(
            token=f"{number:016x}",
            phase="ready",
            workload=placement.workload,
            replica=placement.replica,
            model=placement.model,
            gpu=gpu.name,
            host="local",
            device=f"CPU-{k}",
            device_name="processor",
            share_percent=placement.share_percent,
            batch=placement.batch,
            queue_delay_us=placement.queue_delay_us or 0,
            rate_rps=placement.rate_rps,
            spec="0" * 64,
            config_digest="0" * 64,
            ports=Ports(http=8000, grpc=8001, metrics=8002),
        )
        for k, gpu in enumerate(plan.gpus)
        for number, placement in enumerate(gpu.placements)
    ]
    return Deployment(
        name="test", owner="0" * 16, machine="here", backend="process", cpu=True,
        hosts=(HostRecord(name="local"),), created_at="now", replicas=tuple(records),
    )  # fmt: skip


class FakeObserver:
    """Gives what a test says."""

    percentiles = True

    def __init__(self) -> None:
        self.seen: dict[Key, Seen] = {}
        self.served: list[Mapping[Key, Server]] = []

    def look(self, _: float) -> dict[Key, Seen]:
        return self.seen

    def serve(self, _: Deployment, servers: Mapping[Key, Server]) -> None:
        self.served.append(servers)


class FakeChanger:
    """Makes every change after so many looks, or fails."""

    def __init__(self, state: Deployment, looks: int = 2) -> None:
        self.state, self.looks = state, looks
        self.problem = ""
        self.now = 0.0
        self.begun: list[tuple[float, PlacementChange]] = []
        self.switches: list[tuple[float, PlacementChange]] = []
        self._left = 0

    def begin(self, change: PlacementChange) -> None:
        assert self._left == 0, "a change is under way"
        self.begun.append((self.now, change))
        self._left = self.looks

    def poll(self) -> list[Switched | ChangeOutcome]:
        if self._left == 0:
            return []
        self._left -= 1
        if self._left:
            return []
        change = self.begun[-1][1]
        if self.problem:
            return [ChangeOutcome(change, None, self.problem)]
        self.switches.append((self.now, change))
        return [Switched(change, self.state, self.now), ChangeOutcome(change, self.state)]


class Stage:
    """A guard on a stage."""

    def __init__(self, plan: Plan, **options: object) -> None:
        state = deployment(plan)
        self.observer, self.changer, self.events = FakeObserver(), FakeChanger(state), list[Event]()
        self.settings = Settings(
            interval_s=INTERVAL,
            window=WindowSettings(calm_s=2.0, longest_s=60.0),
            cool_down_s=COOL_DOWN,
            **options,  # type: ignore[arg-type]
        )
        self.guard = Guard(plan, state, self.observer, self.changer, self.events.append, self.settings, {}, 0.0)
        self.now = 0.0

    def see(self, workload: str, late: int, requests: int = 100, factor: float | None = 1.3, rate: float = 0.0) -> None:
        latencies = np.array([1000.0] * late + [1.0] * (requests - late))
        self.observer.seen[workload, 1] = Seen(latencies, 0, factor, rate)

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / INTERVAL)):
            self.now += INTERVAL
            self.changer.now = self.now
            self.guard.step(self.now)

    def kinds(self) -> list[str]:
        return [event.event for event in self.events]


def test_a_violation_is_repaired_soon_and_once(plan: Plan) -> None:
    stage = Stage(plan)
    stage.see("A", late=100)
    stage.see("R", late=0)
    stage.pass_time(1.25)
    assert stage.events == []
    stage.pass_time(1.0)
    assert stage.kinds() == ["repair", "switched", "done"]
    ((at, change),) = stage.changer.begun
    assert at <= 2.0
    assert (change.key, change.gpu, change.share_percent) == (("A", 1), "V100-1", 30.0)
    first = stage.events[0]
    assert (first.gpu, first.share_percent, first.to_share_percent, first.factor) == ("V100-1", 20.0, 30.0, 1.3)
    assert first.late == first.requests and first.percentile_ms == 1000.0
    stage.pass_time(COOL_DOWN - 1.0)
    assert len(stage.changer.begun) == 1
    stage.pass_time(5.0)  # still late: more
    assert [change.share_percent for _, change in stage.changer.begun] == [30.0, 40.0]


def test_an_allowance_is_added_to_the_slos(plan: Plan) -> None:
    for allowance_ms, late in ((0.0, True), (980.0, True), (1000.0, False)):
        stage = Stage(plan, allowance_ms=allowance_ms)
        stage.see("A", late=100)
        stage.pass_time(2.0)
        assert bool(stage.changer.begun) == late
        assert stage.guard.watched["A", 1].slo_ms == 10.0 + allowance_ms


def test_what_is_predicted_follows_the_change(plan: Plan) -> None:
    stage = Stage(plan)
    stage.see("A", late=100)
    stage.pass_time(3.0)
    before, after = stage.observer.served
    assert after["A", 1].gpu[-1] < before["A", 1].gpu[-1]
    assert after["A", 1].placement.share_percent == 30.0


def test_it_goes_back_when_the_load_is_low_and_not_before(plan: Plan) -> None:
    stage = Stage(plan)
    stage.see("A", late=100)
    stage.pass_time(3.0)
    stage.see("A", late=0, requests=300)
    stage.pass_time(60.0)
    assert len(stage.changer.begun) == 1, "1200 per s still come"
    stage.see("A", late=0, requests=75)
    stage.pass_time(30.0)
    assert [change.share_percent for _, change in stage.changer.begun] == [30.0, 20.0]
    assert stage.events[-2].as_planned and stage.events[-2].event == "switched"
    stage.pass_time(60.0)
    assert len(stage.changer.begun) == 2


def test_going_back_in_vain_is_tried_ever_less_often(plan: Plan) -> None:
    stage = Stage(plan)
    gaps = []
    for _ in range(3):
        stage.see("A", late=100)
        while len(stage.changer.switches) % 2 == 0:
            stage.pass_time(INTERVAL)
        stage.see("A", late=0)
        while len(stage.changer.switches) % 2 == 1:
            stage.pass_time(INTERVAL)
        gaps.append(stage.changer.switches[-1][0] - stage.changer.switches[-2][0])
    assert gaps[0] == pytest.approx(COOL_DOWN, abs=3 * INTERVAL)
    assert gaps[1] == pytest.approx(2 * COOL_DOWN, abs=3 * INTERVAL)
    assert gaps[2] == pytest.approx(4 * COOL_DOWN, abs=3 * INTERVAL)


def test_what_cannot_start_is_tried_again_ever_less_often(plan: Plan) -> None:
    stage = Stage(plan)
    stage.changer.problem = "its server exited before it was ready"
    stage.see("A", late=100)
    stage.pass_time(100.0)
    assert next(event.why for event in stage.events if event.event == "failed") == stage.changer.problem
    gaps = [second[0] - first[0] for first, second in pairwise(stage.changer.begun)]
    assert len(gaps) >= 3
    assert all(later >= 1.7 * sooner for sooner, later in pairwise(gaps))
    stage.changer.problem = ""
    stage.pass_time(100.0)
    assert "switched" in stage.kinds()


def test_where_nothing_suffices_it_says_so(plan: Plan) -> None:
    stage = Stage(plan)
    stage.see("A", late=100, factor=3.0)
    stage.pass_time(60.0)
    assert set(stage.kinds()) == {"infeasible"}
    assert 2 <= len(stage.events) <= 5
    assert stage.guard.violated == ["A"]


def test_without_statistics_the_step_is_the_papers(plan: Plan) -> None:
    stage = Stage(plan)
    stage.see("A", late=100, factor=None)
    stage.pass_time(3.0)
    assert stage.changer.begun[0][1].share_percent == 30.0


def test_dry_run_changes_nothing(plan: Plan) -> None:
    stage = Stage(plan, dry_run=True)
    stage.see("A", late=100)
    stage.pass_time(25.0)
    assert stage.changer.begun == []
    assert stage.kinds() == ["repair"] * 3
    assert all(event.dry_run for event in stage.events)
    assert remembered(stage.events, COOL_DOWN) == {}


def test_a_server_that_does_not_answer_is_reported_once(plan: Plan) -> None:
    stage = Stage(plan)
    stage.observer.seen["A", 1] = Seen(answers=False)
    stage.pass_time(20.0)
    assert stage.kinds() == ["unanswered"]
    assert stage.guard.end().unanswered == ("A#1",)
    assert "did not answer: A#1; see `igniter-opt status`" in stage.guard.end().text
    stage.observer.seen["A", 1] = Seen(np.full(3, 1.0))
    stage.pass_time(1.0)
    assert stage.guard.end().unanswered == ()
    assert stage.guard.end().judged


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (GuardEnd(placements=2), ""),
        (GuardEnd(placements=2, unseen=("A#1",)), "no request was seen of A#1"),
        (GuardEnd(placements=1, unseen=("A#1",)), "no verdict: no request was seen of any placement"),
        (GuardEnd(over=("B",), placements=2), "over the SLO: B"),
    ],
)
def test_what_there_is_to_say_at_the_end(end: GuardEnd, text: str) -> None:
    assert end.text == text


def test_the_past_counts_after_a_restart(plan: Plan) -> None:
    stage = Stage(plan)
    stage.guard._past["A"] = Past(changed_at=-2.0)
    stage.see("A", late=100)
    stage.pass_time(7.5)
    assert stage.changer.begun == []
    stage.pass_time(1.0)
    assert len(stage.changer.begun) == 1


def test_the_worst_comes_first(plan: Plan) -> None:
    stage = Stage(plan)
    stage.see("S", late=100, factor=1.02)
    stage.see("A", late=100, factor=1.02)
    stage.observer.seen["S", 1] = Seen(np.full(100, 900.0), 0, 1.02)
    stage.pass_time(2.0)
    # S is 22 times over its SLO of 40 ms, A 100 times over its 10 ms.
    assert stage.changer.begun[0][1].key == ("A", 1)


LOOK = st.tuples(st.integers(0, 400), st.floats(0.0, 1.0), st.none() | st.floats(0.8, 2.0), st.integers(1, 60))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(LOOK, LOOK, st.booleans()), min_size=1, max_size=40), st.integers(1, 20))
def test_never_more_than_one_change_per_workload_and_cool_down(
    story: list[tuple[tuple[int, float, float | None, int], ...]], looks: int
) -> None:
    """Whatever is seen, and however long changes take or fail."""
    stage = Stage(three())
    stage.changer.looks = looks
    for first, second, fails in story:
        stage.changer.problem = "made to fail" if fails else ""
        for workload, (requests, late, factor, _) in (("A", first), ("S", second)):  # type: ignore[misc]
            stage.see(workload, round(late * requests), requests, factor)
        stage.pass_time(INTERVAL * first[3])  # type: ignore[index]
    for workload in ("A", "S"):
        times = [at for at, change in stage.changer.switches if change.key[0] == workload]
        assert all(later - sooner >= COOL_DOWN for sooner, later in pairwise(times))
    for event in stage.events:
        if event.event in ("repair", "return"):
            assert event.to_share_percent is not None and event.share_percent != event.to_share_percent
        if event.event == "repair":
            assert event.requests is not None and event.late is not None and event.late > 0.01 * event.requests


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"interval_s": 0.0}, "interval"),
        ({"cool_down_s": 0.5}, "cool-down"),
        ({"step_percent": math.nan}, "step"),
        ({"duration_s": -1.0}, "duration"),
        ({"allowance_ms": -1.0}, "allowance"),
        ({"window": WindowSettings(window_s=0.1)}, "window"),
        ({"window": WindowSettings(looks=0)}, "looks"),
    ],
)
def test_settings_out_of_range(change: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Settings(**change).check()  # type: ignore[arg-type]
