"""Headroom: by how much higher rates are planned for than users have said, for traffic that drifts.

An instance's rates stay what users said. What plans and what judges plans takes `planned_rps`; what simulates or sends
requests takes the rates as they are.
"""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from igniter_opt.base.schema import NonNegative
from igniter_opt.base.text import rounded

# More than this is another instance.
LARGEST_HEADROOM = 100.0
Headroom = Annotated[NonNegative, Field(le=LARGEST_HEADROOM)]


def planned_rps(rate_rps: float, headroom: float) -> float:
    """Return the rate to plan for, as a decimal that people would write."""
    return rate_rps if headroom == 0.0 else float(f"{rate_rps * (1.0 + headroom):.12g}")


def headroom_words(headrooms: Iterable[float]) -> str | None:
    """Name the headrooms of all workloads, such as ``20 %`` or ``0 to 35 %``; None where there is none."""
    known = list(headrooms)
    least, most = 100.0 * min(known), 100.0 * max(known)
    if most == 0.0:
        return None
    return f"{rounded(least)} to {rounded(most)} %" if least < most else f"{rounded(most)} %"
