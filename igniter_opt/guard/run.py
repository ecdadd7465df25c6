"""The guard's loop: look, decide, change; nothing that it does touches a server that serves."""

import contextlib
import math
import signal
import time
from collections.abc import Callable
from dataclasses import replace

from igniter_opt.base.errors import InputError
from igniter_opt.base.stop import StopRequest
from igniter_opt.guard.change import BackgroundChanger, Site, check, resume
from igniter_opt.guard.decide import Guard, GuardEnd, Report, Settings, Watched
from igniter_opt.guard.feed import FeedReader
from igniter_opt.guard.journal import Event, GuardLog, Kind, remembered, time_text
from igniter_opt.guard.observe import LiveObserver

_PROGRESS_S = 0.5
# A feed without a new line for so long is reported: who writes it may have ended, or write elsewhere.
_SILENT_S = 10.0

Progress = Callable[[list[Watched]], object]


def wall_clock() -> Callable[[], float]:
    """Return a clock of s since 1970 that is not set while it is used."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


def guard(
    site: Site,
    settings: Settings | None = None,
    *,
    feed: FeedReader | None = None,
    report: Report | None = None,
    on_progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> GuardEnd:
    """Watch a deployment and change it where latencies are too long, until asked to stop or time is up.

    Parameters
    ----------
    feed
        Latencies of requests; without it the servers' statistics have to do (see `observe`).
    report
        Called with every event; each is also appended to the deployment's log.
    on_progress
        Called about twice a second with what is known of every placement.
    stop
        Set it to end; Ctrl-C and SIGTERM do so. What is being started then is stopped again, what serves is left alone.

    Returns
    -------
    GuardEnd
        Which workloads were over their SLO at the end, and of which placements nothing is known.

    Raises
    ------
    InputError
        The deployment is gone, runs another plan, is watched by another guard or being changed, or lacks servers;
        servers like its own cannot be started.
    """
    settings = settings or Settings()
    settings.check()
    stop = stop or site.options.stop
    site = replace(site, options=replace(site.options, stop=stop))
    clock = wall_clock()
    site.plan.instance.require_shared("guard")
    if not site.store.folder.is_dir():
        raise InputError(f"there is no deployment {site.store.name!r} in {site.store.root}")
    with site.store.guarded(), stop.on_interrupt(signal.SIGTERM, signal.SIGHUP):
        log = GuardLog(site.store.folder)

        def say(event: Event) -> None:
            log.append(event)
            if report is not None:
                report(event)

        def note(kind: Kind, why: str) -> None:
            say(Event(at=time_text(clock()), event=kind, dry_run=settings.dry_run, why=why))

        check(site)
        past = remembered(log.read(), settings.cool_down_s)
        for entry in past.values():
            entry.changed_at = min(entry.changed_at, clock())  # the clock may have been set back
        for what in [] if settings.dry_run else resume(site):
            note("resumed", what)
        state = site.load()
        changer = BackgroundChanger(site, clock)
        with contextlib.closing(LiveObserver(None if feed is None else feed.read)) as observer:
            running = Guard(site.plan, state, observer, changer, say, settings, past, clock())
            note("watching", f"{len(running.watched)} placement(s), by {'the feed' if feed else 'their servers'}")
            if feed is not None and not feed.exists:
                note("note", f"{feed.path} does not exist yet; it is waited for")
            try:
                _loop(running, settings, clock, stop, on_progress, feed, note)
            finally:
                changer.wait()
                running.take_in()
                parts = ["interrupted"] * stop.is_set() + [running.end().text]
                note("ended", "; ".join(filter(None, parts)))
            return running.end()


def _loop(
    running: Guard,
    settings: Settings,
    clock: Callable[[], float],
    stop: StopRequest,
    on_progress: Progress | None,
    feed: FeedReader | None,
    note: Callable[[Kind, str], None],
) -> None:
    begin = due = clock()
    shown, bad_lines = -math.inf, 0
    silence = None if feed is None else _Silence(feed, begin)
    while not stop.is_set() and (settings.duration_s is None or clock() - begin < settings.duration_s):
        running.step(clock())
        if feed is not None and feed.bad_lines > bad_lines:
            if not bad_lines:
                note("note", f"the feed has lines that are none, which are skipped: {feed.last_problem}")
            bad_lines = feed.bad_lines
        if silence is not None and (problem := silence.problem(clock())):
            note("note", problem)
        if on_progress is not None and clock() - shown >= _PROGRESS_S:
            shown = clock()
            on_progress(running.status())
        due = max(due + settings.interval_s, clock())
        while (left := due - clock()) > 0 and not stop.is_set():
            time.sleep(min(left, 0.1))


class _Silence:
    """Notices that no line comes to a feed; told once, and again after lines have come."""

    def __init__(self, feed: FeedReader, now: float) -> None:
        self._feed, self._lines, self._since, self._told = feed, feed.lines, now, False

    def problem(self, now: float) -> str:
        """Return what to report; empty if there is nothing, or it was reported before."""
        if self._feed.lines > self._lines:
            self._lines, self._since, self._told = self._feed.lines, now, False
        if self._told or now - self._since < _SILENT_S:
            return ""
        self._told = True
        there = "" if self._feed.exists else ", which does not exist"
        return f"no line came for {now - self._since:.0f} s to {self._feed.path}{there}; is it what the clients write?"
