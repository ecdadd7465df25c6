"""The limits on the safe side that solvers keep to under rule p99, from their description (docs/model.md).

Of a placement's neighbours solvers know only that its full batch takes t: a smaller batch is taken to last as long as
*any* neighbours could make it last that let the full one take t at most. Here that worst case is found by trying.
"""

import math

from tests.independent.cards import Card, clock_ratio
from tests.independent.judge import Place, Times, feedback, loading, power


def longest_partial(card: Card, place: Place, size: int, full: float) -> float:
    """Longest GPU latency of a batch of `size` beside any neighbours with which the full batch takes `full`.

    Neighbours add x ms of waiting, multiply the active time by 1 + y, and draw z W. For given z what is left to x and y
    is ``full φ - s - k``, spent on the one of the two that hurts the small batch most: x counts for both alike, y in
    proportion to the active times. As a function of z the outcome is monotone between the points where the power cap
    is reached with the full batch and with the small one, and up to where nothing is left; so these are tried.
    """
    part = place._replace(batch=size)
    model = place.model
    own, whole = model.active(size, place.share), model.active(place.batch, place.share)
    drawn, drawn_part = card.idle_w + power(place), card.idle_w + power(part)
    last = 0.0
    if card.clock_slope < 0:
        last = card.cap_w - drawn + ((model.delay + whole) / full - 1.0) * card.top_mhz / card.clock_slope
    worst = 0.0
    for watt in (0.0, last, card.cap_w - drawn, card.cap_w - drawn_part):
        z = min(max(watt, 0.0), max(last, 0.0))
        left = full * clock_ratio(card, drawn + z) - model.delay - whole
        ratio = clock_ratio(card, drawn_part + z)
        if ratio <= 0:
            return math.inf
        worst = max(worst, (model.delay + own + left * max(1.0, own / whole)) / ratio)
    return worst


def kept_to_limits(card: Card, place: Place, full: float, margin: float) -> Times | None:
    """Times of all batches as solvers take them where the full batch's GPU latency is `full`."""
    busy, latency = [], []
    for size in range(1, place.batch + 1):
        part = place._replace(batch=size)
        gpu = full if size == place.batch else longest_partial(card, place, size, full)
        busy.append(gpu * (1.0 + margin) + feedback(card, part))
        latency.append(busy[-1] + loading(card, part))
    return Times(busy, latency) if math.isfinite(max(busy)) else None
