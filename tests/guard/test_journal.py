"""The guard's log and what it remembers."""

from pathlib import Path

from igniter_opt.guard.journal import Event, GuardLog, Past, remembered, time_text


def switched(at: float, *, as_planned: bool, workload: str = "A") -> Event:
    return Event(at=time_text(at), event="switched", workload=workload, replica=1, as_planned=as_planned)


def test_events_come_back(tmp_path: Path) -> None:
    log = GuardLog(tmp_path)
    assert log.read() == []
    events = [switched(1000.5, as_planned=False), Event(at=time_text(1001.0), event="watching", why='ä "x"\n')]
    for event in events:
        log.append(event)
    assert log.read() == events
    assert events[0].seconds == 1000.5
    assert len(log.path.read_text().splitlines()) == 2


def test_a_torn_line_costs_no_other(tmp_path: Path) -> None:
    log = GuardLog(tmp_path)
    first, last = switched(1.0, as_planned=False), switched(2.0, as_planned=True)
    log.append(first)
    with log.path.open("a") as file:
        file.write('{"at": "2026-')
    log.append(last)
    assert log.read() == [first, last]


def test_memory_is_of_what_was_done(tmp_path: Path) -> None:
    events = [
        switched(100.0, as_planned=False),
        switched(200.0, as_planned=False, workload="B").model_copy(update={"dry_run": True}),
        Event(at=time_text(300.0), event="failed", workload="A", replica=1),
    ]
    found = remembered(events, 10.0)
    assert set(found) == {"A"}
    assert found["A"].changed_at == 100.0


def test_the_hold_doubles_with_every_relapse_in_a_row() -> None:
    past = Past()
    holds, at = [], 0.0
    for _ in range(3):
        past.switched(at, as_planned=False, cool_down_s=10.0)
        holds.append(past.hold_s(10.0))
        at += holds[-1]
        past.switched(at, as_planned=True, cool_down_s=10.0)
        at += 12.0
    assert holds == [10.0, 20.0, 40.0]
    past.switched(at, as_planned=False, cool_down_s=10.0)
    past.switched(at + 15.0, as_planned=False, cool_down_s=10.0)  # more still: no relapse
    assert past.hold_s(10.0) == 80.0
    past.switched(at + 100.0, as_planned=True, cool_down_s=10.0)
    past.switched(at + 10_000.0, as_planned=False, cool_down_s=10.0)  # the return stood for long
    assert past.hold_s(10.0) == 10.0
