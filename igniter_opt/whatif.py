"""What if SLOs, rates, prices, counts, GPU types or margins were others: costs along a line or over a grid.

Points are solved in rounds (`sweeps.order`). To each go the plans and bounds of earlier points that may hold there
(`sweeps.carry` says which do, and why); a point where the two meet is settled without a solve. Where costs are steps,
as along SLOs, that leaves the points beside the steps to be solved.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from igniter_opt.base.compilation import Stopwatch
from igniter_opt.base.errors import Caution, InputError
from igniter_opt.base.files import StrPath
from igniter_opt.base.schema import checked_number, describe
from igniter_opt.base.stop import StopRequest, returns_early
from igniter_opt.base.text import counted
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import as_instance
from igniter_opt.data.plan import Plan
from igniter_opt.options import SolveOptions
from igniter_opt.sweeps.axes import MOST_VALUES, Axis, SweepSetting, axis_with, parsed
from igniter_opt.sweeps.carry import ProvenBound, mixed_bound
from igniter_opt.sweeps.engines import Engine, engine_named
from igniter_opt.sweeps.order import rounds
from igniter_opt.sweeps.results import Sweep, SweepPoint
from igniter_opt.sweeps.work import PointOutcome, PointTask

Values = tuple[float, ...]
# Of plans and bounds that may carry over, so many are tried at a point.
_MOST_TRIED = 3
_MOST_POINTS = 10_000
_SAME = 1e-7


def whatif(
    instance: Instance | StrPath,
    vary: str | Sequence[str] | Mapping[str, Sequence[float]],
    options: SolveOptions | None = None,
    *,
    refine: float | None = None,
    workers: int | None = None,
    engine: str = "local",
    scheduler: str | None = None,
    on_progress: Callable[[int, int], object] | None = None,
    stop: StopRequest | None = None,
) -> Sweep:
    """Solve an instance for many values of one thing, or of two.

    Parameters
    ----------
    instance
        An instance, or the name or path of one.
    vary
        One or two of ``KEY=FROM:TO:STEPS`` or ``KEY=VALUE,VALUE,...``, or values by key. The keys are those of
        `sweeps.axes.VARIABLES`: ``slo`` and ``rate`` (times those of all workloads), ``slo:WORKLOAD`` (ms),
        ``rate:WORKLOAD`` (req/s), ``price:TYPE``, ``count:TYPE``, ``new:PROFILE`` (a GPU type more, at this price),
        ``margin``, ``confidence``, ``percentile``.
    options
        Of `solve`, for every point. The method is ``auto``, and the least total share is not looked for.
    refine
        Halve the interval between two neighbours whose cost differs (along prices: whose best GPUs differ) until it is
        no longer than this; with one variable.
    workers
        Processes; by default as many as there are processors. With more than one, a script that calls this needs
        ``if __name__ == "__main__":``, as for all of Python's worker processes.
    engine, scheduler
        ``local``, or ``dask`` and the address of the scheduler of a Dask cluster.
    on_progress
        Called with the number of points that are done, and of all so far.
    stop
        Set it to end with the points so far; so does Ctrl-C.

    Raises
    ------
    InputError
        An argument is out of range.
    """
    options = options or SolveOptions()
    base = SweepSetting(options.applied(as_instance(instance)), options)
    if options.neighbours != "full" or options.start is not None:
        raise InputError(
            "whatif plans for neighbours that are busy all the time, and finds its own plans to start from"
        )
    axes = _axes(vary, base)
    _check_refine(refine, axes)
    stop = stop or StopRequest()
    began = Stopwatch()
    study = _Study(base, axes, on_progress or (lambda *_: None), stop)
    for text in dict.fromkeys(text for entry in study.settings.values() for text in entry.instance.cautions()):
        warnings.warn(text, Caution, stacklevel=2)
    with engine_named(engine, workers, scheduler, stop) as places, stop.on_interrupt():
        study.run(places, refine)
    found = study.sweep(began.elapsed())
    if found.interrupted and stop.by_signal:
        returns_early(f"{counted(len(found.points), 'point')} so far")
    return found


def _axes(vary: object, base: SweepSetting) -> tuple[Axis, ...]:
    if isinstance(vary, str):
        vary = [vary]
    if isinstance(vary, Mapping):
        given = [(str(key), list(values)) for key, values in vary.items()]
    elif isinstance(vary, Sequence) and all(isinstance(text, str) for text in vary):
        given = [parsed(text) for text in vary]
    else:
        raise InputError(f"what to vary must be text, such as slo=0.8:1.2:9, or values by key; found {describe(vary)}")
    known, axes = base, []
    # Added types come first, so that their counts may be varied, too.
    for key, values in sorted(given, key=lambda entry: not entry[0].startswith("new:")):
        axes.append(axis_with(key, values, known.instance))
        if key.startswith("new:"):
            known = axes[-1].applied(known, axes[-1].values[0])
    keys = [axis.key for axis in axes]
    if not 1 <= len(axes) <= 2 or len(set(keys)) < len(keys):
        raise InputError(f"vary one thing, or two different ones; found {', '.join(keys) or 'none'}")
    number = math.prod(len(axis.values) for axis in axes)
    if number > _MOST_POINTS:
        raise InputError(f"at most {_MOST_POINTS:,} points; found {number:,}: take fewer values")
    return tuple(axes)


def _check_refine(refine: float | None, axes: Sequence[Axis]) -> None:
    if refine is None:
        return
    if not 0 < checked_number("the interval to refine to", refine) < math.inf:
        raise InputError(f"the interval to refine to must be a finite number above 0; found {refine!r}")
    if len(axes) > 1:
        raise InputError("--refine goes with one --vary: between the points of a grid nothing is bisected")
    span = axes[0].values[-1] - axes[0].values[0]
    if span / refine > _MOST_POINTS:
        raise InputError(f"--refine {refine:g} is too fine for values that span {span:g}; take a larger one")


class _Study:
    def __init__(
        self, base: SweepSetting, axes: tuple[Axis, ...], on_progress: Callable[[int, int], object], stop: StopRequest
    ) -> None:
        self.axes, self.base, self.on_progress, self.stop = axes, base, on_progress, stop
        self.rounds = rounds([axis.values for axis in axes])
        # All of them before anything is solved, so that what is out of range is found out.
        self.settings = {point: self._setting(point) for group in self.rounds for point in group}
        self.outcomes: dict[Values, PointOutcome] = {}
        self.plan_from: dict[Values, Values] = {}
        self.bound_from: dict[Values, tuple[Values, ...]] = {}

    def run(self, engine: Engine, refine: float | None) -> None:
        for group in self.rounds:
            self._run_round(engine, group)
        while refine is not None and not self.stop.is_set() and (middle := self._between(refine)):
            self.settings.update({point: self._setting(point) for point in middle})
            self._run_round(engine, middle)
        self._close(engine)

    def sweep(self, elapsed_s: float) -> Sweep:
        base = self.base.instance
        points = [self._point(values) for values in sorted(self.outcomes)]
        interrupted = self.stop.is_set()
        return Sweep(base.name, base.currency, base.slo_rule, self.axes, points, interrupted, elapsed_s)

    def _point(self, values: Values) -> SweepPoint:
        found = self.outcomes[values]
        prices = {gpu.name: gpu.price_per_hour for gpu in self.settings[values].instance.gpu_types}
        origins = self.plan_from.get(values), self.bound_from.get(values)
        return SweepPoint(values, prices, found.plan, found.lower_bound, found.solved, *origins, found.message)

    # ---- rounds -------------------------------------------------------------------------------------

    def _setting(self, point: Values) -> SweepSetting:
        setting = self.base
        for axis, value in zip(self.axes, point, strict=True):
            setting = axis.applied(setting, value)
        # A margin or confidence beyond its range is found out here.
        setting.options.check(setting.options.margin_for(setting.instance))
        return setting

    def _run_round(self, engine: Engine, points: Sequence[Values], *, solve: bool = True) -> None:
        """Work on points; each may take from those that were there before the round."""
        if self.stop.is_set():
            return
        offers = [self._offered(point) for point in points]
        tasks = [
            PointTask(
                *self.settings[point],
                plans=tuple(self._plan_of(other) for other in plans),
                bounds=tuple(tuple(self._bound_of(other) for other in source) for source in bounds),
                known=self.outcomes.get(point),
                solve=solve,
            )
            for point, (plans, bounds) in zip(points, offers, strict=True)
        ]
        found: dict[int, PointOutcome] = {}
        for number, outcome in engine.run(tasks):
            if outcome.interrupted and not self.stop.is_set():
                # A solve in this process took the signal.
                self.stop.set()
                self.stop.by_signal = True
            if outcome.plan is None and outcome.lower_bound is None and outcome.interrupted:
                continue
            found[number] = outcome
            self.on_progress(len(self.outcomes.keys() | {points[k] for k in found}), len(self.settings))
        for number, outcome in sorted(found.items()):
            self._take(points[number], outcome, *offers[number])

    def _take(
        self, point: Values, outcome: PointOutcome, plans: Sequence[Values], bounds: Sequence[tuple[Values, ...]]
    ) -> None:
        before = self.outcomes.get(point)
        self.outcomes[point] = outcome
        if outcome.plan_source is not None:
            self.plan_from[point] = plans[outcome.plan_source]
        if outcome.bound_source is not None:
            self.bound_from[point] = bounds[outcome.bound_source]
        if before is not None:
            self.outcomes[point] = replace(outcome, solved=before.solved, message=outcome.message or before.message)

    def _plan_of(self, point: Values) -> Plan:
        plan = self.outcomes[point].plan
        assert plan is not None  # noqa: S101 (`_offered` asks)
        return plan

    def _bound_of(self, point: Values) -> ProvenBound:
        setting, bound = self.settings[point], self.outcomes[point].lower_bound
        assert bound is not None  # noqa: S101 (`_offered` asks)
        margin = setting.options.margin_for(setting.instance)
        return ProvenBound(setting.instance, margin, bound, setting.options.confidence)

    # ---- what may carry over ------------------------------------------------------------------------

    def _offered(self, point: Values) -> tuple[list[Values], list[tuple[Values, ...]]]:
        """Return the points whose plans, and those whose bounds, are worth trying, the most promising first."""
        done = [other for other in self.outcomes if other != point]
        near = {other: self._distance(point, other) for other in done}
        prices = {gpu.name: gpu.price_per_hour for gpu in self.settings[point].instance.gpu_types}
        plans = [
            (self._cost_at(other, prices), near[other], other)
            for other in done
            if self.outcomes[other].plan is not None and self._asks_less(point, other, whatever_prices=True)
        ]
        bounds: list[tuple[float, float, tuple[Values, ...]]] = []
        looser = [other for other in done if self._lends(other) and self._asks_less(other, point)]
        bounds += [(-float(self._lent(point, (other,)) or 0.0), near[other], (other,)) for other in looser]
        bounds += [
            (-float(mixed), near[pair[0]] + near[pair[1]], pair)
            for pair in self._around(point, done)
            if (mixed := self._lent(point, pair)) is not None
        ]
        return (
            [other for _, _, other in sorted(plans)[:_MOST_TRIED]],
            [source for _, _, source in sorted(bounds)[:_MOST_TRIED]],
        )

    def _lends(self, point: Values) -> bool:
        found = self.outcomes[point]
        return found.lower_bound is not None and found.lower_bound > 0 and found.carries

    def _lent(self, point: Values, source: tuple[Values, ...]) -> Fraction | float | None:
        return mixed_bound(self.settings[point].instance, tuple(self._bound_of(other) for other in source))

    def _asks_less(self, one: Values, other: Values, *, whatever_prices: bool = False) -> bool:
        """Whether a point is expected to ask for no more than another one, going by the table."""
        return all(
            axis.as_loose(a, b) or (whatever_prices and axis.variable.priced)
            for axis, a, b in zip(self.axes, one, other, strict=True)
        )

    def _around(self, point: Values, done: Sequence[Values]) -> list[tuple[Values, Values]]:
        """Pairs of points with prices on both sides, alike in all else: the nearest along every axis of prices."""
        pairs = []
        for k, axis in enumerate(self.axes):
            if not axis.variable.priced:
                continue
            line = [other for other in done if self._lends(other) and _without(other, k) == _without(point, k)]
            below = [other for other in line if other[k] < point[k]]
            above = [other for other in line if other[k] > point[k]]
            if below and above:
                pairs.append((max(below), min(above)))
        return pairs

    def _cost_at(self, point: Values, prices: Mapping[str, float]) -> float:
        return sum(prices.get(gpu.type, math.inf) for gpu in self._plan_of(point).gpus)

    def _distance(self, one: Values, other: Values) -> float:
        spans = [max(axis.values[-1] - axis.values[0], 1e-12) for axis in self.axes]
        return sum(abs(a - b) / span for a, b, span in zip(one, other, spans, strict=True))

    # ---- after the grid -----------------------------------------------------------------------------

    def _between(self, refine: float) -> list[Values]:
        """Return values half-way between neighbours that differ and are further apart than `refine`."""
        axis, known = self.axes[0], [self._point(values) for values in sorted(self.outcomes)]
        found: list[Values] = []
        for low, high in pairwise(known):
            differ = low.gpus != high.gpus if axis.variable.priced else low.cost_per_hour != high.cost_per_hour
            middle = axis.between(low.coordinates[0], high.coordinates[0])
            if differ and middle is not None and high.coordinates[0] - low.coordinates[0] > refine * (1 + 1e-9):
                found.append((middle,))
        return found if len(self.settings) + len(found) <= max(_MOST_POINTS, MOST_VALUES) else []

    def _close(self, engine: Engine) -> None:
        """Let points that stayed open have what later ones found, until nothing comes of it any more."""
        while not self.stop.is_set():
            open_points = [point for point in sorted(self.outcomes) if not self.outcomes[point].proven]
            better = [point for point in open_points if self._may_gain(point)]
            before = {point: (self.outcomes[point].cost, self.outcomes[point].lower_bound) for point in better}
            if not better:
                return
            self._run_round(engine, better, solve=False)
            if all((self.outcomes[p].cost, self.outcomes[p].lower_bound) == before[p] for p in better):
                return

    def _may_gain(self, point: Values) -> bool:
        """Whether any other point's plan is cheaper, or bound higher, than what is known."""
        found, (plans, bounds) = self.outcomes[point], self._offered(point)
        prices = {gpu.name: gpu.price_per_hour for gpu in self.settings[point].instance.gpu_types}
        cheaper = any(self._cost_at(other, prices) < (found.cost or math.inf) - _SAME for other in plans)
        higher = any(float(self._lent(point, source) or 0.0) > (found.lower_bound or 0.0) + _SAME for source in bounds)
        return cheaper or higher


def _without(point: Values, position: int) -> Values:
    return point[:position] + point[position + 1 :]
