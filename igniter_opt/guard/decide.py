"""What the guard decides at every look.

Per placement it is a small state machine. *As planned*: a sustained violation (`window`) begins a repair (`choose`).
*Given more*: a sustained violation gives it more still; calm, and the plan's own share sufficient at the load observed,
takes it back (the highest load of the last seconds, that is). Between two changes of a workload lies at least the
cool-down, and before it goes back at least `Past.hold_s`: the cool-down, doubled for every time in a row that going
back had to be undone soon. One change is made at a time; what fails is tried again after pauses that double.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from igniter_opt.base.errors import InputError
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.state import Deployment
from igniter_opt.deploy.successor import place_in_plan
from igniter_opt.guard.change import ChangeOutcome, Changer, PlacementChange, Switched
from igniter_opt.guard.choose import DEFAULT_STEP_PERCENT, Key, repair, returns, with_place
from igniter_opt.guard.journal import Event, Kind, Past, time_text
from igniter_opt.guard.observe import Observer, Seen
from igniter_opt.guard.window import NOTHING, Look, Window, WindowSettings
from igniter_opt.simulation.servers import Server, servers_of

DEFAULT_INTERVAL_S, DEFAULT_COOL_DOWN_S = 0.25, 30.0
_RETRY_S, _LONGEST_RETRY_S = 5.0, 600.0
# A server that gives no statistics at so many looks in a row is reported.
_UNANSWERED_LOOKS = 8


@dataclass(frozen=True)
class Settings:
    """How to guard, times in s.

    Attributes
    ----------
    interval_s
        Time between looks.
    window
        What is judged.
    cool_down_s
        Least time between two changes of a workload.
    step_percent
        What a placement gets more, at least.
    allowance_ms
        Added to the plan's SLOs, for latencies that include the way to the servers and back.
    duration_s
        When to end; None: when asked to.
    dry_run
        Whether to decide only.
    """

    interval_s: float = DEFAULT_INTERVAL_S
    window: WindowSettings = field(default_factory=WindowSettings)
    cool_down_s: float = DEFAULT_COOL_DOWN_S
    step_percent: float = DEFAULT_STEP_PERCENT
    allowance_ms: float = 0.0
    duration_s: float | None = None
    dry_run: bool = False

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        for name, value, low, high in (
            ("interval", self.interval_s, 0.05, 60.0),
            ("window", self.window.window_s, self.interval_s, 600.0),
            ("looks", self.window.looks, 1, 1000),
            ("cool-down", self.cool_down_s, self.window.window_s, 86400.0),
            ("step", self.step_percent, 0.1, 100.0),
            ("allowance", self.allowance_ms, 0.0, 86400e3),
            ("duration", self.duration_s, 0.1, 86400.0 * 365),
        ):
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} must be between {low:g} and {high:g}; found {value:g}")


class Watched(NamedTuple):
    """What the guard knows of a placement right now, for display."""

    key: Key
    look: Look
    slo_ms: float
    factor: float | None
    gpu: str
    share_percent: float
    plan_share_percent: float
    changing: bool


@dataclass(frozen=True)
class GuardEnd:
    """How things stood when a guard ended.

    Attributes
    ----------
    over
        Names of the workloads that were over their SLO beyond doubt, as of the last look.
    unanswered, unseen
        Placements whose servers did not answer as of the last looks, and those of which no request was ever seen.
    placements
        How many were watched.
    """

    over: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    placements: int = 0

    @property
    def judged(self) -> bool:
        """Whether any request was seen, so that there is something to judge."""
        return len(self.unseen) < self.placements

    @property
    def text(self) -> str:
        """What there is to say about it; empty if every placement was seen, answered and kept its SLO."""
        said = []
        if self.over:
            said.append(f"over the SLO: {', '.join(self.over)}")
        if self.unanswered:
            said.append(f"did not answer: {', '.join(self.unanswered)}; see `igniter-opt status`")
        if not self.judged:
            said.append("no verdict: no request was seen of any placement")
        elif self.unseen:
            said.append(f"no request was seen of {', '.join(self.unseen)}")
        return "; ".join(said)


Report = Callable[[Event], None]


@dataclass
class _Watch:
    """A placement that is watched: where it is and is planned to be, and when something may be tried again."""

    slo_ms: float
    window: Window
    gpu: str
    share_percent: float
    plan_gpu: str
    plan_share_percent: float
    look: Look = NOTHING
    rate_rps: float = 0.0
    rates: deque[tuple[float, float]] = field(default_factory=deque)
    factor: float | None = None
    failures: int = 0
    retry_at: float = -math.inf
    unanswered: int = 0
    seen: bool = False

    @property
    def as_planned(self) -> bool:
        return (self.gpu, self.share_percent) == (self.plan_gpu, self.plan_share_percent)


class Guard:
    """Decides at every look; what looks, changes and tells the time is given to it.

    Parameters
    ----------
    plan
        The deployed plan.
    state
        What runs.
    past
        What workloads went through before.
    report
        Called with every event.
    now
        Time in s since 1970, as for every `step`.
    """

    def __init__(
        self,
        plan: Plan,
        state: Deployment,
        observer: Observer,
        changer: Changer,
        report: Report,
        settings: Settings,
        past: dict[str, Past],
        now: float,
    ) -> None:
        self.plan, self.settings = plan, settings
        self._observer, self._changer, self._report = observer, changer, report
        self._past = past
        self._now = now
        self.changing: PlacementChange | None = None
        slos = {workload.name: workload.slo_ms + settings.allowance_ms for workload in plan.instance.workloads}
        percentile = plan.instance.required_percentile
        self.watched: dict[Key, _Watch] = {}
        for record in state.replicas:
            if record.phase == "ready":
                place = place_in_plan(record)
                slo_ms = slos[record.workload]
                window = Window(slo_ms, percentile, record.batch, settings.window, now)
                self.watched[record.workload, record.replica] = _Watch(
                    slo_ms, window, record.gpu, record.share_percent, place.gpu, place.share_percent
                )
        observer.serve(state, self._servers())

    @property
    def violated(self) -> list[str]:
        """Names of the workloads that are over their SLO beyond doubt, as of the last look."""
        return sorted({key[0] for key, watch in self.watched.items() if watch.look.sustained})

    def end(self) -> GuardEnd:
        """Return how things stand."""

        def named(which: Callable[[_Watch], bool]) -> tuple[str, ...]:
            return tuple(f"{key[0]}#{key[1]}" for key, watch in sorted(self.watched.items()) if which(watch))

        return GuardEnd(
            over=tuple(self.violated),
            unanswered=named(lambda watch: watch.unanswered >= _UNANSWERED_LOOKS),
            unseen=named(lambda watch: not watch.seen),
            placements=len(self.watched),
        )

    def current_plan(self) -> Plan:
        """Return the plan as it runs now."""
        plan = self.plan
        for key, watch in self.watched.items():
            if not watch.as_planned:
                plan = with_place(plan, key, watch.gpu, watch.share_percent)
        return plan

    def status(self) -> list[Watched]:
        """Return what is known of every placement."""
        return [
            Watched(
                key,
                watch.look,
                watch.slo_ms,
                watch.factor,
                watch.gpu,
                watch.share_percent,
                watch.plan_share_percent,
                changing=self.changing is not None and self.changing.key == key,
            )
            for key, watch in self.watched.items()
        ]

    def step(self, now: float) -> None:
        """Look once and decide."""
        self._now = now
        self.take_in()
        for key, seen in self._observer.look(now).items():
            self._see(key, seen)
        if self.changing is None:
            for key in sorted(self.watched, key=self._urgency):
                if self._decide(key):
                    break

    def take_in(self) -> None:
        """Take in what became of the change that is under way."""
        for news in self._changer.poll():
            if isinstance(news, Switched):
                self._switched(news)
            else:
                self._ended(news)

    def _servers(self) -> dict[Key, Server]:
        plan = self.current_plan()
        plan = plan.model_copy(update={"gpus": tuple(gpu for gpu in plan.gpus if gpu.placements)})
        return {
            (server.placement.workload, server.placement.replica): server for own in servers_of(plan) for server in own
        }

    def _urgency(self, key: Key) -> float:
        """Order of attention: whose observed percentile is longest over its SLO comes first."""
        watch = self.watched[key]
        return -watch.look.percentile_ms / watch.slo_ms if watch.look.sustained else 0.0

    def _see(self, key: Key, seen: Seen) -> None:
        watch = self.watched[key]
        watch.window.add(self._now, seen.latencies_ms, seen.failed)
        watch.seen = watch.seen or bool(len(seen.latencies_ms) or seen.failed)
        watch.look = watch.window.look(self._now)
        watch.rate_rps = max(watch.look.rate_rps, seen.rate_rps or 0.0)
        watch.rates.append((self._now, watch.rate_rps))
        while watch.rates[0][0] < self._now - self.settings.window.calm_s:
            watch.rates.popleft()
        if seen.factor is not None:
            watch.factor = seen.factor
        watch.unanswered = 0 if seen.answers else watch.unanswered + 1
        if watch.unanswered == _UNANSWERED_LOOKS:
            self._say("unanswered", key, why="its server does not give its statistics; see `igniter-opt status`")

    def _decide(self, key: Key) -> bool:
        """Begin a change of a placement if it is due; whether one was begun."""
        watch = self.watched[key]
        past = self._past.setdefault(key[0], Past())
        if self._now < max(watch.retry_at, past.changed_at + self.settings.cool_down_s):
            return False
        if watch.look.sustained:
            return self._repair(key)
        held = past.changed_at + past.hold_s(self.settings.cool_down_s)
        if watch.as_planned or self._now < held or not watch.look.calm:
            return False
        place = (watch.plan_gpu, watch.plan_share_percent)
        highest = max(rate for _, rate in watch.rates)  # a short lull is no low load
        if not returns(self.current_plan(), key, *place, highest, self._margins()):
            return False
        return self._begin("return", PlacementChange(key, *place, "the plan's own share suffices at this load"))

    def _repair(self, key: Key) -> bool:
        watch = self.watched[key]
        choice = repair(self.current_plan(), key, self._margins(), self.settings.step_percent, watch.rate_rps)
        if choice is None:
            self._say("infeasible", key, why="no GPU of the plan has what it takes; plan anew with a larger margin")
            self._try_later(watch)
            return False
        return self._begin("repair", PlacementChange(key, choice.gpu, choice.share_percent, choice.why))

    def _margins(self) -> dict[Key, float]:
        return {key: watch.factor - 1.0 for key, watch in self.watched.items() if watch.factor is not None}

    def _try_later(self, watch: _Watch) -> None:
        watch.retry_at = self._now + min(_LONGEST_RETRY_S, _RETRY_S * 2.0**watch.failures)
        watch.failures += 1

    def _begin(self, kind: Kind, change: PlacementChange) -> bool:
        self._say(kind, change.key, change)
        if self.settings.dry_run:
            self.watched[change.key].retry_at = self._now + self.settings.cool_down_s
            return False
        self.changing = change
        self._changer.begin(change)
        return True

    def _switched(self, news: Switched) -> None:
        change, watch = news.change, self.watched[news.change.key]
        self._say("switched", change.key, change, at=news.at)
        watch.gpu, watch.share_percent = change.gpu, change.share_percent
        watch.failures, watch.retry_at = 0, -math.inf
        past = self._past.setdefault(change.key[0], Past())
        past.switched(news.at, as_planned=watch.as_planned, cool_down_s=self.settings.cool_down_s)
        for (workload, _), other in self.watched.items():
            if workload == change.key[0]:
                other.window.clear(self._now)
                other.look = NOTHING
        self._observer.serve(news.state, self._servers())

    def _ended(self, news: ChangeOutcome) -> None:
        self.changing = None
        if news.problem:
            self._try_later(self.watched[news.change.key])
            self._say("failed", news.change.key, news.change, why=news.problem)
        else:
            self._say("done", news.change.key, why="the old server was stopped")

    def _say(
        self,
        kind: Kind,
        key: Key,
        change: PlacementChange | None = None,
        *,
        why: str | None = None,
        at: float | None = None,
    ) -> None:
        watch = self.watched[key]
        look = watch.look
        to = None if change is None else (change.gpu, change.share_percent)
        found_ms = round(look.percentile_ms, 3) if math.isfinite(look.percentile_ms) else None
        exact = self._observer.percentiles
        self._report(
            Event(
                at=time_text(self._now if at is None else at),
                event=kind,
                workload=key[0],
                replica=key[1],
                requests=look.requests,
                late=look.late,
                percentile=watch.window.percentile if exact else None,
                percentile_ms=found_ms if exact else None,
                mean_ms=None if exact else found_ms,
                slo_ms=watch.slo_ms,
                rate_rps=round(watch.rate_rps, 2),
                factor=None if watch.factor is None else round(watch.factor, 4),
                gpu=watch.gpu,
                share_percent=watch.share_percent,
                to_gpu=None if to is None else to[0],
                to_share_percent=None if to is None else to[1],
                as_planned=to == (watch.plan_gpu, watch.plan_share_percent),
                dry_run=self.settings.dry_run,
                why=why if why is not None else "" if change is None else change.why,
            )
        )
