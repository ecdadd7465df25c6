import signal
import threading
import time
from collections.abc import Iterator

import pytest

from igniter_opt.base.stop import Clock, EnoughError, StopRequest


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


@pytest.fixture
def as_in_the_command() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as `command.has_begun` lets it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("as_in_the_command")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_would_raise_keyboard_interrupt_asks_to_stop(number: signal.Signals) -> None:
    stop = StopRequest()
    with stop.then_deaf():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        with stop.on_interrupt(), stop.on_interrupt():
            assert not stop.is_set()
            signal.raise_signal(number)
            assert stop.is_set()
        signal.raise_signal(number)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_a_program_keeps_its_own_handling_of_sigterm() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        stop = StopRequest()
        with stop.then_deaf(), stop.on_interrupt():
            signal.raise_signal(signal.SIGTERM)
        assert not stop.is_set()
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
