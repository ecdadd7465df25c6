"""Numbers as people read them, wherever tables and sentences hold some, and as JSON may hold them."""

import math
import numbers
import re
from typing import Any

# Of names that files may give at any length, in messages.
_MOST_CHARACTERS = 100

# Values below this get significant digits instead of decimals.
_SMALL = 0.1


def rounded(value: float, digits: int = 2) -> str:
    """Return a number with at most so many decimals and no needless zeros: 36.36, 37.5, 400.

    Small ones keep as many significant digits (0.0012), and no number is put in powers of ten or loses whole digits.
    """
    if not math.isfinite(value):
        return str(value)
    if value and abs(value) < _SMALL:
        digits = min(12, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def counted(number: int, thing: str, plural: str = "s") -> str:
    """Return a number of things: ``1 GPU``, ``2,334 GPUs``, and with the plural ``es``, ``2 processes``."""
    return f"{number:,} {thing}" + ("" if number == 1 else plural)


_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str) -> float | None:
    """Return the seconds that a text such as ``10min``, ``30 s`` or ``1.5h`` means; None if it means none."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]*)\s*", text)
    return None if found is None or found[2] not in _SECONDS else float(found[1]) * _SECONDS[found[2]]


def time_words(seconds: float) -> str:
    """Return a time in the largest unit of which it is two at least, or one exactly: ``90 s``, ``1 h``, ``7 d``."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.0 * length or seconds == length:
            return f"{rounded(seconds / length, 1)} {unit}"
    return f"{rounded(seconds, 1)} s"


def cut(text: str) -> str:
    """Cut a text that is too long for a message."""
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..."


def with_nulls(data: Any) -> Any:
    """Return data for JSON, which has no numbers that are not finite: null stands in place of them."""
    if isinstance(data, dict):
        return {key: with_nulls(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [with_nulls(value) for value in data]
    if isinstance(data, numbers.Real) and not isinstance(data, numbers.Integral):
        return float(data) if math.isfinite(data) else None
    return data
