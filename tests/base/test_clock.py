import threading
import time

import pytest

from igniter_opt.base import compilation
from igniter_opt.base.clock import Clock, EnoughError
from igniter_opt.base.stop import StopRequest


def test_a_part_ends_before_the_whole() -> None:
    clock = Clock(100.0, StopRequest())
    clock.check()
    reached = []
    with clock.within(0.0):
        reached.append(clock.left())
        clock.check()
        reached.append(None)
    assert reached == [0.0]
    assert 90.0 < clock.left() <= 100.0
    clock.allow(0.5)
    assert 40.0 < clock.left() <= 50.0
    clock.shorten(0.7)
    assert 40.0 < clock.left() <= 50.0
    clock.shorten(0.1)
    assert clock.left() <= 10.0


def test_a_stop_request_ends_every_part() -> None:
    stop = StopRequest()
    clock = Clock(100.0, stop)
    threading.Thread(target=stop.set).start()
    end = time.monotonic() + 10.0
    while not clock.is_up() and time.monotonic() < end:
        time.sleep(0.01)
    with pytest.raises(EnoughError):
        clock.check()


def test_compilation_takes_nothing_of_the_time_limit() -> None:
    clock = Clock(100.0, StopRequest())
    began = time.perf_counter()
    with compilation.counted_apart():
        time.sleep(0.2)
        assert clock.elapsed() <= time.perf_counter() - began - 0.2 + 0.05
    whole = time.perf_counter() - began
    assert clock.elapsed() <= whole - 0.2 + 0.01
    assert clock.left() >= 100.0 - (whole - 0.2) - 0.01
