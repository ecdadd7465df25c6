"""What a machine says of itself, from what the system counts."""

from types import SimpleNamespace

import pytest

from igniter_opt.measure import machine
from igniter_opt.measure.machine import Machine


def counted(monkeypatch: pytest.MonkeyPatch, *times: object) -> None:
    waiting = iter(times)
    system = SimpleNamespace(cpu_percent=lambda: 37.5, cpu_times=lambda: next(waiting))
    monkeypatch.setattr(machine, "load", lambda _: system)


def test_what_the_host_took_since_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, SimpleNamespace(steal=100.0), SimpleNamespace(steal=101.75))
    assert Machine().load() == (37.5, 1.75)


def test_systems_that_do_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, SimpleNamespace(user=1.0), SimpleNamespace(user=2.0))
    assert Machine().load() == (37.5, None)


def test_counters_that_jump_back(monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, SimpleNamespace(steal=5.0), SimpleNamespace(steal=0.0))
    assert Machine().load().stolen_s == 0.0
