import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igniter_opt.base.text import counted, rounded, seconds_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (36.36363636, "36.36"),
        (37.5, "37.5"),
        (10.0, "10"),
        (0, "0"),
        (1234567.0, "1234567"),
        (123456.78, "123456.78"),
        (0.00123, "0.0012"),
        (-0.5, "-0.5"),
        (math.inf, "inf"),
    ],
)
def test_numbers_as_people_write_them(value: float, text: str) -> None:
    assert rounded(value) == text


@given(st.floats(-1e9, 1e9), st.integers(1, 6))
def test_rounding_loses_no_more_than_asked(value: float, digits: int) -> None:
    found = rounded(value, digits)
    assert "e" not in found
    assert abs(float(found) - value) <= 0.5 * 10.0**-digits + 1e-9 * abs(value)


def test_things_are_counted_in_their_number() -> None:
    assert (counted(1, "GPU"), counted(0, "GPU"), counted(2334, "GPU")) == ("1 GPU", "0 GPUs", "2,334 GPUs")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10min", 600.0),
        ("30 s", 30.0),
        ("1.5h", 5400.0),
        ("250ms", 0.25),
        ("2d", 172_800.0),
        ("90", 90.0),
        (".5s", 0.5),
        *((text, None) for text in ("", "min", "-1s", "1m", "1 s s", "1e3s", "soon", "nan", "1,5h")),
    ],
)
def test_times_as_people_write_them(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds
