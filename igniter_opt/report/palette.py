"""The colours of plots and of the report's page, and which of them a model has: the same in both.

Seen by people with any one kind of colour blindness, two fills differ by at least 15, and two lines by at least 20
(CIE 1976 in L*a*b*, colours converted as by Machado et al. 2009). Lines and markers have a contrast of at least 3 with
white, and `INK` one of at least 5 with every fill, so that what is written on fills can be read.
"""

from collections.abc import Sequence
from typing import NamedTuple

INK, MUTED = "#14171a", "#565e69"
# The plan at hand and the best one; plans of other methods; what is wrong.
BEST, USUAL, VIOLATION = "#0a66ad", "#7d8894", "#b3261e"
# The least of what heat maps show; `BEST` is the most.
PALE = "#eaf3fa"
# What nobody uses, and plans that nobody can use.
UNUSED = "#eef0f2"
LINES = (BEST, "#ee6677", "#00a0b0", "#7a3b00", "#999933", "#aa3377", "#332288", "#222222")
FILLS = ("#5bb4e8", "#e9a820", "#d48bb4", "#b2df8a", "#f08a55", "#99ddff", "#ffd166", "#dddddd")
TEXTURES = ("", "stripes", "dots")


class Paint(NamedTuple):
    """How a model's placements are filled: a number of `FILLS` and a texture over it."""

    fill: int
    texture: str


def paints(models: Sequence[str]) -> dict[str, Paint]:
    """Return a fill for every model; beyond the fills there are, the same again, striped, then dotted."""
    return {
        model: Paint(position % len(FILLS), TEXTURES[position // len(FILLS) % len(TEXTURES)])
        for position, model in enumerate(models)
    }
