"""From loaded servers to what they add: a time per batch, one per request in it, and the way there and back.

A profile holds what a model takes on the card by itself. A server wakes up, gathers inputs, copies and answers besides.
Servers say how long batches of k took on average (input, compute and output); less the prediction alone that is fitted
by ``a + c k``, both at least 0, by least squares, sizes weighted by how often they occurred. Sizes that the profile has
at this share count, where there are three of them: at others the prediction errs by as much as what is looked for.
What requests took at the client beyond their waiting and their batch is the way.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from igniter_opt.base.errors import DeploymentError
from igniter_opt.data.profile import Profile
from igniter_opt.data.serving import ServedModel
from igniter_opt.measure.results import LoadStatistics

# So many sizes of batches, each at least so often, are enough to leave out the others.
_ENOUGH_SIZES, _OFTEN = 3, 5
_DIGITS = 4


class BatchTime(NamedTuple):
    """How often batches of a size were formed, and how long they took in ms on average."""

    number: int
    taken_ms: float


class Line(NamedTuple):
    """What batches of k take beyond what is expected: ``batch_ms + k request_ms``; the mean distance from it."""

    batch_ms: float
    request_ms: float
    residual_ms: float


def fitted_line(times: Mapping[int, BatchTime], expected_ms: Sequence[float]) -> Line:
    """Fit what batches took beyond what was expected of them.

    Parameters
    ----------
    times
        By batch size.
    expected_ms
        Of batches of 1, 2, ...
    """
    size = np.array(sorted(times), dtype=float)
    added = np.array([times[int(k)].taken_ms - expected_ms[int(k) - 1] for k in size])
    weight = np.array([times[int(k)].number for k in size], dtype=float)
    root = np.sqrt(weight)
    design = np.column_stack([np.ones_like(size), size])
    a, c = np.linalg.lstsq(design * root[:, None], added * root, rcond=None)[0]
    if c < 0.0 or len(size) == 1:
        a, c = float(np.average(added, weights=weight)), 0.0
    elif a < 0.0:
        a, c = 0.0, float(np.sum(weight * size * added) / np.sum(weight * size**2))
    a, c = max(0.0, float(a)), max(0.0, float(c))
    residual = np.average(np.abs(added - a - c * size), weights=weight)
    return Line(round(a, _DIGITS), round(c, _DIGITS), round(float(residual), _DIGITS))


def batch_times(loads: Iterable[LoadStatistics]) -> dict[int, BatchTime]:
    """Join what a server said of its batches in several measurements, by size; copies in and out are in the times."""
    found: dict[int, BatchTime] = {}
    for load in loads:
        split = load.server
        if split is None:
            continue
        around = (split.input_ms or 0.0) + (split.output_ms or 0.0)
        for text, count in split.batches.items():
            known, taken = found.get(int(text), BatchTime(0, 0.0)), split.batch_ms[text] + around
            whole = known.number + count
            found[int(text)] = BatchTime(whole, (known.number * known.taken_ms + count * taken) / whole)
    return found


def way_ms(loads: Sequence[LoadStatistics]) -> float:
    """Return what requests took beyond waiting and their batch: the least mean of several measurements, at least 0.

    The way does not depend on the load, and what disturbs a machine only lengthens it.
    """
    found = []
    for load in loads:
        split = load.server
        if split is not None and load.mean_ms is not None:
            inside = [split.queue_ms, split.input_ms, split.compute_ms, split.output_ms]
            found.append(load.mean_ms - sum(part or 0.0 for part in inside))
    return round(max(0.0, min(found, default=0.0)), _DIGITS)


def sizes_known(profile: Profile, model: str, share_percent: float) -> set[int]:
    """Return the batches that a profile has of a model alone at a share."""
    close = 0.1 * profile.hardware.share_unit_percent
    grid, solo = profile.models[model].solo_grid, profile.solo_measurements
    found = set(grid.batch) if any(abs(share - share_percent) < close for share in grid.share_percent) else set()
    if solo is not None:
        rows = zip(solo.model, solo.batch, solo.share_percent, strict=True)
        found |= {batch for name, batch, share in rows if name == model and abs(share - share_percent) < close}
    return found


def served_model(loads: Sequence[LoadStatistics], expected_ms: Sequence[float], known: Iterable[int]) -> ServedModel:
    """Return what serving one model adds.

    Parameters
    ----------
    loads
        Measurements of the model's server, loaded alone.
    expected_ms
        What the profile says of batches of 1, 2, ... there, transfers included.
    known
        Sizes of batches that the profile has measured there.

    Raises
    ------
    DeploymentError
        The server gave no statistics, or answered nothing.
    """
    times = batch_times(loads)
    if not times:
        raise DeploymentError(f"the server of {loads[0].model} gave no statistics of its batches")
    often = {size: entry for size, entry in times.items() if size in set(known) and entry.number >= _OFTEN}
    line = fitted_line(often if len(often) >= _ENOUGH_SIZES else times, expected_ms)
    return ServedModel(
        **line._asdict(),
        way_ms=way_ms(loads),
        batches=sum(entry.number for entry in times.values()),
        requests=max(1, sum(load.answered for load in loads)),
    )
