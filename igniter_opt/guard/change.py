"""Replacing a placement's server by one with another share or on another GPU, without losing a request.

The launcher's own machinery does it: the new server is recorded, started and checked while the old one serves; then
both changes of state are written at once, then the endpoints file; then the old server is stopped, when nobody uses it
any more. Whatever is killed at whatever moment, one of the two serves and the endpoints file names a server that runs;
`resume` finishes or undoes the rest.
"""

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

from igniter_opt.base.errors import DeploymentError, DeploymentInterruptedError, InputError
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.apply import Applier, Options
from igniter_opt.deploy.backends.base import Backend, Observation
from igniter_opt.deploy.changes import Changes
from igniter_opt.deploy.records import ReplicaRecord
from igniter_opt.deploy.state import Deployment, Journal, Store
from igniter_opt.deploy.successor import place_in_plan, successor
from igniter_opt.deploy.triton.inference import http_get
from igniter_opt.guard.choose import Key
from igniter_opt.measure.server import model_statistics

DEFAULT_DRAIN_S = 30.0
# Clients look at the endpoints file a few times a second; a server that nobody sends to for so long is left for good.
QUIET_S = 1.0
_STOP_DRAIN_S = 5.0
_POLL_S = 0.1
_PENDING = re.compile(rb"^nv_inference_pending_request_count\{[^}]*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class PlacementChange:
    """A placement is to have another share, or another GPU of the plan."""

    key: Key
    gpu: str
    share_percent: float
    why: str


@dataclass(frozen=True)
class Switched:
    """A new server serves, since `at` (s since 1970); the old one is being drained."""

    change: PlacementChange
    state: Deployment
    at: float


@dataclass(frozen=True)
class ChangeOutcome:
    """How a change ended: the state after it, or what went wrong."""

    change: PlacementChange
    state: Deployment | None
    problem: str = ""


@dataclass(frozen=True)
class Site:
    """What is guarded: a deployment, the plan that it runs, and what starts its servers.

    Attributes
    ----------
    options
        How servers are started; `Options.drain` is replaced.
    drain_s
        How long a replaced server goes on at most.
    quiet_s
        It is stopped when it has had no requests for so long, and has none left.
    """

    store: Store
    backend: Backend
    plan: Plan
    digest: str
    options: Options = field(default_factory=Options)
    drain_s: float = DEFAULT_DRAIN_S
    quiet_s: float = QUIET_S

    def load(self) -> Deployment:
        """Return the deployment's state.

        Raises
        ------
        InputError
            It is gone, or runs another plan by now.
        """
        state = self.store.load()
        if state is None or state.plan_digest != self.digest:
            raise InputError(f"deployment {self.store.name!r} does not run this plan any more")
        return state

    def runtime(self, state: Deployment) -> dict[str, object]:
        """Return what else makes a server what it is (see `targets.make_targets`)."""
        return self.backend.prepare(cpu=state.cpu) | {"cpu": state.cpu}


def check(site: Site) -> Deployment:
    """Check that servers like the running ones can be started; return the state.

    Raises
    ------
    InputError
        They cannot, or the deployment is not what is to be guarded.
    """
    state = site.load()
    if state.temporary:
        raise InputError(f"deployment {site.store.name!r} is a rehearsal's; only deployed plans can be guarded")
    runtime = site.runtime(state)
    for record in state.replicas:
        if record.phase == "ready":
            place = place_in_plan(record)
            successor(
                site.store, state, record, site.plan,
                gpu=place.gpu, share_percent=place.share_percent, runtime=runtime,
            )  # fmt: skip
    return state


def perform(site: Site, change: PlacementChange, switched: Callable[[Deployment], None]) -> Deployment:
    """Make a change; `switched` is called when the new server serves. Returns the state after it.

    Raises
    ------
    DeploymentError, InputError, DeploymentInterruptedError
        It could not be made; the old server serves on.
    """
    with site.store.locked():
        state = site.load()
        old = next((r for r in state.replicas if (r.workload, r.replica) == change.key and r.phase == "ready"), None)
        if old is None:
            raise InputError(f"{change.key[0]}#{change.key[1]} is not deployed any more")
        placed = successor(
            site.store,
            state,
            old,
            site.plan,
            gpu=change.gpu,
            share_percent=change.share_percent,
            runtime=site.runtime(state),
        )
        served = {(daemon.host, daemon.device) for daemon in state.daemons}
        lacking = not state.cpu and (placed.device.host, placed.device.uuid) not in served
        changes = replace(_leftovers(state), daemons=(placed.device,) if lacking else (), start=((placed, change.why),))
        return _apply(site, state, replace(changes, stop=(*changes.stop, (old, "replaced"))), (), switched)


def resume(site: Site) -> list[str]:
    """Finish or undo what a guard or launcher that was killed left half done; return what was, in words.

    A server that was being started is stopped; one that was replaced is drained and stopped; what carries the label
    and is in no state is stopped. The endpoints file is written anew, since the kill may have come just before that.

    Raises
    ------
    InputError
        The deployment is being changed, lacks servers, or runs another plan.
    """
    with site.store.locked():
        state = site.load()
        serving = {(record.workload, record.replica) for record in state.replicas if record.phase == "ready"}
        planned = [(placement.workload, placement.replica) for gpu in site.plan.gpus for placement in gpu.placements]
        lacking = [workload for workload, replica in planned if (workload, replica) not in serving]
        if lacking:
            raise InputError(f"{lacking[0]} has no server; run `igniter-opt deploy` again before guarding it")
        observed = site.backend.observe(state.owner)
        known = {record.token for record in state.records}
        orphans = tuple(entry for token, entry in observed.items() if token not in known)
        changes = _leftovers(state)
        _apply(site, state, changes, orphans, lambda _: None)
        done = [f"{record.placement}: {why}" for record, why in (*changes.clean, *changes.stop)]  # type: ignore[union-attr]
        return done + [f"{entry.handle}: not in the state" for entry in orphans]


def _leftovers(state: Deployment) -> Changes:
    """Return the changes that clean up after a launcher that was killed."""
    serving: set[Key] = set()
    spare = []
    for record in state.replicas:  # the oldest first
        key = (record.workload, record.replica)
        if record.phase == "ready" and key in serving:
            spare.append((record, "got ready, but did not take over"))
        elif record.phase == "ready":
            serving.add(key)
    return Changes(
        clean=tuple((record, "half-started before") for record in state.replicas if record.phase == "starting"),
        daemons=(),
        start=(),
        keep=(),
        stop=(*((r, "replaced before") for r in state.replicas if r.phase == "retired"), *spare),
        idle_daemons=(),
    )


def _apply(
    site: Site,
    state: Deployment,
    changes: Changes,
    orphans: Sequence[Observation],
    switched: Callable[[Deployment], None],
) -> Deployment:
    journal = Journal(site.store, state, site.options.hook)

    def drain(records: Sequence[ReplicaRecord]) -> None:
        switched(journal.state)
        _drain(site, state, records)

    applier = Applier(journal, site.backend, replace(site.options, drain=drain), cpu=state.cpu)
    applier.apply(changes, orphans, site.digest, Path(state.plan_path or ""))
    return journal.state


def _drain(site: Site, state: Deployment, records: Sequence[ReplicaRecord]) -> None:
    """Wait until nobody uses replaced servers any more, `Site.drain_s` at most, and not for long once asked to stop."""
    end = time.monotonic() + site.drain_s
    quiet_since = dict.fromkeys((record.token for record in records), time.monotonic())
    counts: dict[str, int | None] = {}
    while time.monotonic() < end:
        if site.options.stop.is_set():
            end = min(end, time.monotonic() + _STOP_DRAIN_S)
        for record in records:
            count = _answered(state, record)
            if count != counts.get(record.token, -1) or _pending(state, record):
                counts[record.token] = count
                quiet_since[record.token] = time.monotonic()
        if all(time.monotonic() - since >= site.quiet_s for since in quiet_since.values()):
            return
        time.sleep(_POLL_S)
    site.options.report(f"requests still come to a server that was replaced {site.drain_s:g} s ago; it is stopped now")


def _answered(state: Deployment, record: ReplicaRecord) -> int | None:
    """Number of requests that a server has answered so far, failures and all; None if it does not say."""
    found = model_statistics(f"http://{_authority(state, record)}", record.model)
    try:
        return sum(int(found["inference_stats"][what]["count"]) for what in ("success", "fail"))
    except (KeyError, TypeError, ValueError):
        return None


def _pending(state: Deployment, record: ReplicaRecord) -> bool:
    """Whether requests wait in a server, as far as it says."""
    body = http_get(state.host(record.host).address, record.ports.metrics, "/metrics")
    return body is not None and any(float(value) > 0 for value in _PENDING.findall(body))


def _authority(state: Deployment, record: ReplicaRecord) -> str:
    address = state.host(record.host).address
    return f"[{address}]:{record.ports.http}" if ":" in address else f"{address}:{record.ports.http}"


class Changer(Protocol):
    """Makes changes, one at a time, while others go on watching."""

    def begin(self, change: PlacementChange) -> None:
        """Begin a change; none may be under way."""

    def poll(self) -> list[Switched | ChangeOutcome]:
        """Return what has happened since the last call: every change ends with an outcome."""


class BackgroundChanger:
    """Makes changes in a thread of its own."""

    def __init__(self, site: Site, clock: Callable[[], float]) -> None:
        self._site, self._clock = site, clock
        self._news: SimpleQueue[Switched | ChangeOutcome] = SimpleQueue()
        self._thread: Thread | None = None

    def begin(self, change: PlacementChange) -> None:
        """Begin a change."""
        self._thread = Thread(target=self._run, args=(change,), name="change")
        self._thread.start()

    def poll(self) -> list[Switched | ChangeOutcome]:
        """Return what has happened."""
        found = []
        with contextlib.suppress(Empty):
            while True:
                found.append(self._news.get_nowait())
        return found

    def wait(self) -> None:
        """Wait for the end of the change that is under way, if any."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, change: PlacementChange) -> None:
        try:
            state = perform(self._site, change, lambda state: self._news.put(Switched(change, state, self._clock())))
            self._news.put(ChangeOutcome(change, state))
        except DeploymentInterruptedError:
            self._news.put(ChangeOutcome(change, None, "interrupted; the old server serves on"))
        except (DeploymentError, InputError) as error:
            self._news.put(ChangeOutcome(change, None, str(error)))
        except Exception as error:
            self._news.put(ChangeOutcome(change, None, f"{type(error).__name__}: {error}"))
            raise
