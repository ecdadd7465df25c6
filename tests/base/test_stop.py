import signal
from collections.abc import Iterator

import pytest

from igniter_opt.base.stop import StopRequest


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
