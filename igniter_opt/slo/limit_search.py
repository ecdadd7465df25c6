"""The search for the limits D_c of one replica (see `percentile`), whoever judges a queue.

A judge says of one configuration at one t_gpu(b) by how much too many requests are late. The search asks for one such
point after another: `advance` takes an answer and puts the next question, so that all judges share it.

*Slack.* With φ_k the clock alone at a batch of k, a batch of k ≤ b takes at most ``e_k = (y + s + a_k) / φ_k``, where
the slack ``y = D φ_b - s - a_b`` is what neighbours may add, if active time, power and what contention adds do not fall
with the batch, as is usual (`partial_batch_bound_ms`). So at one share and one slack all largest batches see the same
times, and a larger one differs by what its full batches change alone. That gain in slack is small and is extrapolated
from the next larger shares; most limits are guessed so well that one point of each is judged.

*End of gains.* Ever fewer batches are full as the largest one grows, and gains fall about as their part does. Where two
gains in succession were so small that all that follow, by the last ratio, are within a quarter of a step, larger
batches are given the same slack less half a step, and are not judged: this one dominates them.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.compiled import compiled
from igniter_opt.physics.interference import clock_line, clock_ratio, placement_terms
from igniter_opt.physics.parameters import Coefficients, HardwareCoefficients, ModelCoefficients
from igniter_opt.physics.partial_batches import partial_batch_bound_ms, slowed_at_most
from igniter_opt.slo.queueing import MOST_INTENSITY

# D_c is found to this relative accuracy, from below: a step for the search, one for gains left out, one to spare.
LIMIT_TOLERANCE = 3e-4
STEP = 1e-4
# ... and lowered by this much more, so that rounding in a solver's rows cannot carry a placement over the SLO.
ROUNDING = 1e-7
# The largest logarithm of late over allowed requests.
MOST_EXCESS = 40.0
# Where fewer batches than this (relative to the requests that may be late) are full, larger ones change nothing.
_NEVER_FULL = 1e-6
# Gains may end where fewer than this are, and by this factor fewer than at the batch before.
_SELDOM, _FALLS = 0.05, 0.85
_MOST_TURNS = 100
_bound = compiled(partial_batch_bound_ms)
_slowed = compiled(slowed_at_most)


class Cells(NamedTuple):
    """All configurations of a replica.

    Attributes
    ----------
    active, power
        Of every batch alone, in ms and W; shape (levels, batches).
    slowed
        What a unit of either contention adds to a batch, in ms; shape (levels, batches, 2).
    load, feedback
        In ms, shape (batches,).
    clock, solo, usual
        φ alone, GPU latency alone (ms), and whether active time, power and `slowed` do not fall up to the batch;
        shape (batches, levels).
    numbers
        Scheduling delay in ms; idle power, intercept and slope of the clock; rate per ms; SLO in ms; the fraction of
        requests that may be late; margin.
    """

    active: FloatArray
    power: FloatArray
    slowed: FloatArray
    load: FloatArray
    feedback: FloatArray
    clock: FloatArray
    solo: FloatArray
    usual: npt.NDArray[np.bool_]
    numbers: FloatArray


class Search(NamedTuple):
    """How far a search is.

    Attributes
    ----------
    limits
        What was found so far; 0 where a configuration fails alone. Like the next four of shape (batches, levels).
    slack, root, full, slopes
        The slack that holds, that at which as many requests as allowed would be late, the fraction of batches that are
        full, NaN where there is none; and the slope of the excess over the slack, 0 where it is not known.
    small
        How many gains in succession were small at a level (2: no more are expected).
    place
        Batch - 1 and level that are searched, how many points were judged there (-1: none is asked for), the last level
        that failed (-1: none), and whether a slack that holds, one that does not, and the slope are known.
    at
        The slack to be judged next; the largest that holds, its excess and fraction of full batches; the least that
        does not hold; the last one judged and its excess; the slope; the largest at which the queue settles.
    """

    limits: FloatArray
    slack: FloatArray
    root: FloatArray
    full: FloatArray
    slopes: FloatArray
    small: IntArray
    place: IntArray
    at: FloatArray


# Positions in `Cells.numbers`, `Search.place` and `Search.at`.
DELAY, _IDLE, _INTERCEPT, _CLOCK_SLOPE, RATE, SLO, ALLOWED, _MARGIN = range(8)
BATCH, LEVEL, _TURN, _FAILED, _LOW_KNOWN, _HIGH_KNOWN, _SURE = range(7)
_X, _LOW, _LOW_EXCESS, _LOW_FULL, _HIGH, _BEFORE, _BEFORE_EXCESS, _SLOPE, _MOST = range(9)


def cells_of(
    model: ModelCoefficients,
    hardware: HardwareCoefficients,
    slo_ms: float,
    rate_rps: float,
    percentile: float,
    margin: float,
) -> Cells:
    """Return a replica's configurations."""
    batches = np.arange(1.0, model.max_batch + 1)
    terms = placement_terms(Coefficients("", hardware, {"": model}), 0, batches[:, None], hardware.shares()[None, :])
    ratio = clock_ratio(hardware, hardware.idle_power_w + terms.power_w)
    with np.errstate(divide="ignore", invalid="ignore"):
        solo = np.where(ratio > 0.0, (model.scheduling_delay_ms + terms.active_ms) / ratio, np.inf)
    slowed = np.stack(np.broadcast_arrays(terms.cache_ms, terms.traffic_ms), axis=-1)
    with np.errstate(invalid="ignore"):
        rises = (np.diff(terms.active_ms, axis=0) >= 0.0) & (np.diff(terms.power_w, axis=0) >= 0.0)
    rises &= (np.diff(slowed, axis=0) >= 0.0).all(axis=-1)
    usual = np.logical_and.accumulate(np.vstack([np.ones_like(ratio[:1], dtype=np.bool_), rises]), axis=0)
    numbers = [
        model.scheduling_delay_ms, hardware.idle_power_w, *clock_line(hardware), rate_rps / 1000.0, slo_ms,
        (1.0 - percentile) * (1.0 - 1e-9), margin,
    ]  # fmt: skip
    return Cells(
        np.ascontiguousarray(terms.active_ms.T),
        np.ascontiguousarray(terms.power_w.T),
        np.ascontiguousarray(slowed.swapaxes(0, 1)),
        np.ascontiguousarray(terms.load_ms[:, 0]),
        np.ascontiguousarray(terms.feedback_ms[:, 0]),
        np.ascontiguousarray(ratio),
        np.ascontiguousarray(solo),
        np.ascontiguousarray(usual),
        np.array(numbers),
    )


def new_search(cells: Cells) -> Search:
    """Return a search that `advance`, whatever the answer is, puts the first question of."""
    shape = cells.solo.shape
    return Search(
        limits=np.zeros(shape),
        slack=np.full(shape, np.nan),
        root=np.full(shape, np.nan),
        full=np.full(shape, np.nan),
        slopes=np.zeros(shape),
        small=np.zeros(shape[1], dtype=np.int64),
        place=np.array([0, shape[1], -1, -1, 0, 0, 0]),
        at=np.zeros(9),
    )


@compiled
def batch_times(
    limit: float,
    active: FloatArray,
    power: FloatArray,
    slowed: FloatArray,
    load: FloatArray,
    feedback: FloatArray,
    delay: float,
    card: FloatArray,
    margin: float,
) -> FloatArray:
    """Return how long batches keep a server busy at most if t_gpu(b) ≤ `limit`, and their latencies; shape (2, b)."""
    most = active.size
    found = np.empty((2, most))
    for k in range(most):
        longer = _slowed(slowed[k], slowed[most - 1])
        gpu = _bound(
            limit, delay, active[k], active[most - 1], longer, power[k], power[most - 1], card[0], card[1], card[2]
        )
        found[0, k] = gpu * (1.0 + margin) + feedback[k]
        found[1, k] = found[0, k] + load[k]
    return found


@compiled
def asked_times(cells: Cells, search: Search) -> FloatArray:
    """Return the `batch_times` that are to be judged."""
    b, level = search.place[BATCH], search.place[LEVEL]
    limit = (search.at[_X] + cells.numbers[DELAY] + cells.active[level, b]) / cells.clock[b, level]
    return batch_times(
        limit, cells.active[level, : b + 1], cells.power[level, : b + 1], cells.slowed[level, : b + 1],
        cells.load, cells.feedback, cells.numbers[DELAY], cells.numbers[_IDLE : _CLOCK_SLOPE + 1],
        cells.numbers[_MARGIN],
    )  # fmt: skip


@compiled
def is_hopeless(cells: Cells, times: FloatArray) -> bool:
    """Whether a server with these times fails by itself: requests served at once are late, or it is overloaded."""
    most = times.shape[1]
    overloaded = not cells.numbers[RATE] * times[0, most - 1] <= MOST_INTENSITY * most
    return bool(overloaded or times[1, 0] > cells.numbers[SLO] or not math.isfinite(times[0].max()))


@compiled
def excess_of(late: float, allowed: float) -> float:
    """Return the logarithm of late over allowed requests, within bounds."""
    if late <= 0.0:
        return -MOST_EXCESS
    return min(MOST_EXCESS, max(-MOST_EXCESS, math.log(late / allowed)))


@compiled
def advance(cells: Cells, search: Search, excess: float, full: float) -> bool:
    """Take the answer to the question in `search`, put the next one there, and return whether there is one.

    Parameters
    ----------
    excess, full
        `excess_of` the requests that are late, `MOST_EXCESS` where that is hopeless; the fraction of full batches.
    """
    if search.place[_TURN] >= 0:
        if _goes_on(cells, search, excess, full):
            return True
        search.place[_TURN] = -1
        _close(cells, search)
    return _open_next(cells, search)


@compiled
def _step(cells: Cells, search: Search, slack: float) -> float:
    """Return the slack that a step of D is."""
    step: float = STEP * (slack + cells.numbers[DELAY] + cells.active[search.place[LEVEL], search.place[BATCH]])
    return step


@compiled
def _goes_on(cells: Cells, search: Search, excess: float, full: float) -> bool:
    """Take an answer about a configuration, and choose its next point, if any."""
    place, at = search.place, search.at
    x = at[_X]
    if place[_TURN] > 0 and x != at[_BEFORE] and max(abs(excess), abs(at[_BEFORE_EXCESS])) < MOST_EXCESS:
        slope = (excess - at[_BEFORE_EXCESS]) / (x - at[_BEFORE])
        if slope > 0.0:
            # Slopes are trusted near the root, and where they agree.
            near = abs(excess) < 0.3 and abs(at[_BEFORE_EXCESS]) < 0.3
            smooth = cells.numbers[ALLOWED] <= 0.1
            place[_SURE] = 1 if smooth and (near or abs(slope - at[_SLOPE]) < 0.2 * slope) else 0
            at[_SLOPE] = slope
    elif place[_TURN] == 0 and cells.numbers[ALLOWED] <= 0.1 and at[_SLOPE] > 0.0:
        # The neighbours' roots and their slope say the same of where the root is: half a step above.
        step = _step(cells, search, x)
        if abs(-excess / at[_SLOPE] - 0.5 * step) < 0.15 * step:
            place[_SURE] = 1
    at[_BEFORE], at[_BEFORE_EXCESS] = x, excess
    if excess <= 0.0:
        at[_LOW], at[_LOW_EXCESS], at[_LOW_FULL], place[_LOW_KNOWN] = x, excess, full, 1
    else:
        at[_HIGH], place[_HIGH_KNOWN] = x, 1
    low, high = at[_LOW], at[_HIGH]
    place[_TURN] += 1
    if high <= 0.0 or low >= at[_MOST] or place[_TURN] >= _MOST_TURNS:
        return False
    step = _step(cells, search, low)
    if place[_LOW_KNOWN]:
        close = at[_LOW_EXCESS] > -MOST_EXCESS and -at[_LOW_EXCESS] <= at[_SLOPE] * step
        if high - low <= step or (close and place[_SURE]):
            return False
        if close:
            at[_X] = min(low + 0.99 * step, 0.5 * (low + high))
            return True
    at[_X] = 0.5 * (low + high)
    if at[_SLOPE] > 0.0 and abs(excess) < MOST_EXCESS and place[_TURN] % 4 > 0:
        # Newton's step with the last slope, aimed a little below the root.
        aimed = x - excess / at[_SLOPE] - 0.5 * step
        if aimed <= low:
            aimed = low + 0.1 * (high - low) if place[_LOW_KNOWN] else low
        elif aimed >= high:
            aimed = high - 0.1 * (high - low) if place[_HIGH_KNOWN] else high
        at[_X] = aimed
    return True


@compiled
def _close(cells: Cells, search: Search) -> None:
    """Write down what was found for a configuration."""
    place, at = search.place, search.at
    b, level = place[BATCH], place[LEVEL]
    if not place[_LOW_KNOWN]:
        if at[_HIGH] <= 0.0:
            place[_FAILED] = level
        return
    alone, slope, low, full = cells.numbers[DELAY] + cells.active[level, b], at[_SLOPE], at[_LOW], at[_LOW_FULL]
    step = _step(cells, search, low)
    smooth = slope > 0.0 and at[_LOW_EXCESS] > -MOST_EXCESS and low < at[_MOST]
    root = min(low - at[_LOW_EXCESS] / slope, low + step) if smooth else low
    search.slack[b, level], search.root[b, level], search.full[b, level] = low, root, full
    search.slopes[b, level] = slope
    limit = (low + alone) / cells.clock[b, level] * (1.0 - ROUNDING)
    if b > 0 and search.limits[b - 1, level] > 0.0:
        # A gain within the tolerance over the smaller batch is left out: the larger is then dominated.
        same = search.limits[b - 1, level] * cells.clock[b - 1, level] + cells.active[level, b]
        same = (same - cells.active[level, b - 1]) / cells.clock[b, level]
        if limit - STEP * limit <= same < limit:
            limit = same
    search.limits[b, level] = limit
    allowed = cells.numbers[ALLOWED]
    if not cells.usual[b, level]:
        search.small[level] = 0
    elif full < _NEVER_FULL * allowed:
        search.small[level] = 2
    elif b > 0 and smooth and search.root[b - 1, level] >= 0.0:
        falls = full / search.full[b - 1, level]
        rest = abs(root - search.root[b - 1, level]) * falls / max(1.0 - falls, 1e-9)
        if full <= _SELDOM * allowed and falls <= _FALLS and rest <= 0.25 * step:
            search.small[level] += 1
        else:
            search.small[level] = 0
    if search.small[level] >= 2:
        search.slack[b, level] = low - 0.5 * step


@compiled
def _open_next(cells: Cells, search: Search) -> bool:
    """Go on to the next configuration that takes a search; return whether there is one."""
    place, at, solo = search.place, search.at, cells.solo
    batches, levels = solo.shape
    while True:
        place[LEVEL] -= 1
        if place[LEVEL] < 0:
            place[BATCH], place[LEVEL], place[_FAILED] = place[BATCH] + 1, levels - 1, -1
            if place[BATCH] >= batches:
                return False
        b, level, failed = place[BATCH], place[LEVEL], place[_FAILED]
        most_ms = (MOST_INTENSITY * (b + 1) / cells.numbers[RATE] - cells.feedback[b]) / (1.0 + cells.numbers[_MARGIN])
        hopeless = not solo[b, level] <= most_ms
        # A level at which no batch is faster than at one that fails, fails too.
        if failed >= 0 and not hopeless:
            hopeless = True
            for k in range(b + 1):
                hopeless = hopeless and solo[k, level] >= solo[k, failed]
        if hopeless:
            continue
        alone = cells.numbers[DELAY] + cells.active[level, b]
        most = max(0.0, most_ms * cells.clock[b, level] - alone)
        if search.small[level] >= 2 and cells.usual[b, level]:
            slack = search.slack[b - 1, level]
            search.slack[b, level], search.root[b, level] = slack, search.root[b - 1, level]
            search.full[b, level] = search.full[b - 1, level]
            search.slopes[b, level] = search.slopes[b - 1, level]
            if slack >= 0.0:
                search.limits[b, level] = (min(slack, most) + alone) / cells.clock[b, level] * (1.0 - ROUNDING)
            continue
        guess = _guess(cells, search)
        if math.isnan(guess):
            guess = 0.5 * min(most, cells.numbers[SLO] * cells.clock[b, level] - alone)
        slope = _slope(search)
        place[_SURE] = 0
        place[_TURN], place[_LOW_KNOWN], place[_HIGH_KNOWN] = 0, 0, 0
        at[_LOW], at[_LOW_EXCESS], at[_LOW_FULL], at[_HIGH] = 0.0, 0.0, 1.0, most
        at[_SLOPE], at[_MOST] = slope, most
        at[_X] = min(max(guess - 0.5 * _step(cells, search, guess), 0.0), most)
        return True


@compiled
def _slope(search: Search) -> float:
    """Return a slope as the batch before and the next larger share have it; 0 if unknown."""
    b, level = search.place[BATCH], search.place[LEVEL]
    levels = search.slopes.shape[1]
    beside: float = search.slopes[b, level + 1] if level + 1 < levels else 0.0
    if b == 0 or search.slopes[b - 1, level] == 0.0:
        return beside
    before: float = search.slopes[b - 1, level]
    if beside > 0.0 and search.slopes[b - 1, level + 1] > 0.0:
        before *= beside / search.slopes[b - 1, level + 1]
    return before


@compiled
def _guess(cells: Cells, search: Search) -> float:
    """Extrapolate a root from the next larger shares, as a function of the full batch's time alone; NaN if unknown.

    What is extrapolated is the gain over the batch before, where that has a root and sees the same times.
    """
    b, level = search.place[BATCH], search.place[LEVEL]
    levels = cells.solo.shape[1]
    base, gains = 0.0, b > 0 and not math.isnan(search.root[b - 1, level])
    if gains:
        base = search.root[b - 1, level]
    times, values = np.zeros(3), np.zeros(3)
    count = 0
    for other in range(level + 1, min(level + 4, levels)):
        value = search.root[b, other] - (search.root[b - 1, other] if gains else 0.0)
        if math.isnan(value) or (count > 0 and cells.solo[b, other] == times[count - 1]):
            break
        times[count], values[count] = cells.solo[b, other], value
        count += 1
    if count == 0 or (count == 1 and not gains):
        return base if gains else np.nan
    x: float = cells.solo[b, level]
    guess: float = values[0]
    if count > 1:
        first = (values[0] - values[1]) / (times[0] - times[1])
        guess += first * (x - times[0])
        if count > 2 and times[0] != times[2]:
            second = (first - (values[1] - values[2]) / (times[1] - times[2])) / (times[0] - times[2])
            guess += second * (x - times[0]) * (x - times[1])
    return base + guess
