"""The difference between what runs and what should: which servers to start, keep and stop, and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from igniter_opt.deploy.differences import PlacementDifference, ServedPlacement, server_changes, successors
from igniter_opt.deploy.inventory import Device
from igniter_opt.deploy.records import DaemonRecord, ReplicaRecord
from igniter_opt.deploy.state import Deployment
from igniter_opt.deploy.targets import Placed, Target

# gone: nothing of it runs; unready: runs, but does not answer right (yet); changed: runs, but not as we
# started it; ready: answers a checked inference (of daemons: runs).
Health = Literal["gone", "unready", "changed", "ready"]

# What actions call one.
MPS_DAEMON = "MPS daemon"
WRONG_ANSWERS = "its server does not answer right"
_NEW, _REPLACED, _NOT_PLANNED = "new", "replaced", "not in the plan"
# Where batch, queue delay and the like are the same.
_OTHER_FILES, _OTHER_SETTINGS = "model files, memory or server program", "other settings in config.pbtxt"
_ELSEWHERE, _CHANGED = "another replica, or on another GPU", "changed: "
# Only there may a server that keeps running have another share.
_NO_SHARE = "a processor enforces no share, so its server stays"


@dataclass(frozen=True)
class Action:
    """One thing that applying changes does, in words."""

    verb: Literal["clean", "start", "keep", "stop"]
    what: str
    where: str
    why: str


@dataclass(frozen=True)
class Changes:
    """All differences, in the order in which they are applied.

    Attributes
    ----------
    clean
        Servers and daemons that serve nobody: half-started by a launcher that died, or gone.
    daemons
        GPUs that need an MPS daemon and have none.
    start
        Servers to start, GPU by GPU.
    keep
        Running servers that stay, each with the target that it is.
    stop
        Servers that are stopped when all of `start` are ready, with the reason.
    idle_daemons
        MPS daemons that nobody needs then.
    """

    clean: tuple[tuple[ReplicaRecord | DaemonRecord, str], ...]
    daemons: tuple[Device, ...]
    start: tuple[tuple[Placed, str], ...]
    keep: tuple[tuple[Placed, ReplicaRecord], ...]
    stop: tuple[tuple[ReplicaRecord, str], ...]
    idle_daemons: tuple[DaemonRecord, ...]

    @property
    def nothing(self) -> bool:
        """Whether all is as it should be."""
        return not (self.clean or self.daemons or self.start or self.stop or self.idle_daemons)

    def differences(self) -> list[PlacementDifference]:
        """Return what becomes of every placement: a server that takes over from another is a change."""
        old, new = [of_record(record) for record, _ in self.stop], [of_target(placed) for placed, _ in self.start]
        predecessor = {position: k for k, position in successors(old, new)}
        result = []
        for position, (_, why) in enumerate(self.start):
            if position not in predecessor:
                more = why == _ELSEWHERE or why.startswith(_CHANGED)
                told = "" if why == _NEW else "one replica more" if more else why
                result.append(PlacementDifference("start", None, new[position], told))
                continue
            known = predecessor[position]
            difference = PlacementDifference("change", old[known], new[position], _fault_only(self.stop[known][1]))
            if not difference.why and not server_changes(old[known], new[position]):
                difference = replace(difference, why=_what_else(self.stop[known][0], self.start[position][0].target))
            result.append(difference)
        for placed, record in self.keep:
            serves, wanted = of_record(record), of_target(placed)
            unenforced = f"{_NO_SHARE}; " if serves.share_percent != wanted.share_percent else ""
            result.append(PlacementDifference("keep", serves, wanted, f"{unenforced}port {record.ports.http}"))
        replaced = set(predecessor.values())
        for position, (_, why) in enumerate(self.stop):
            if position not in replaced:
                result.append(
                    PlacementDifference("stop", old[position], None, "one replica less" if why == _REPLACED else why)
                )
        return result

    def actions(self) -> list[Action]:
        """Return the actions in the order in which they are done."""
        result = []
        for record, why in self.clean:
            what = record.placement if isinstance(record, ReplicaRecord) else MPS_DAEMON
            result.append(Action("clean", what, _place(record), why))
        result += [Action("start", MPS_DAEMON, f"{device.host} {device.uuid}", "") for device in self.daemons]
        for placed, why in self.start:
            target, device = placed.target, placed.device
            what = f"{target.placement} ({target.model}, batch {target.batch}, {target.share_percent:g} %)"
            result.append(Action("start", what, f"{device.host} {device.uuid}", why))
        for placed, record in self.keep:
            result.append(Action("keep", placed.target.placement, _place(record), f"port {record.ports.http}"))
        result += [Action("stop", record.placement, _place(record), why) for record, why in self.stop]
        result += [Action("stop", MPS_DAEMON, _place(daemon), "nobody needs it") for daemon in self.idle_daemons]
        return result


def of_record(record: ReplicaRecord) -> ServedPlacement:
    """Return a running server as a placement to compare."""
    return ServedPlacement(
        workload=record.workload,
        replica=record.replica,
        model=record.model,
        gpu=record.gpu,
        place=_place(record),
        batch=record.batch,
        share_percent=record.share_percent,
        rate_rps=record.rate_rps,
        queue_delay_us=record.queue_delay_us,
    )


def of_target(placed: Placed) -> ServedPlacement:
    """Return a server that should run as a placement to compare."""
    target = placed.target
    return ServedPlacement(
        workload=target.workload,
        replica=target.replica,
        model=target.model,
        gpu=target.gpu,
        place=f"{placed.device.host} {placed.device.uuid}",
        batch=target.batch,
        share_percent=target.share_percent,
        rate_rps=target.rate_rps,
        queue_delay_us=target.queue_delay_us,
    )


def _fault_only(why: str) -> str:
    """Drop the reason that a change is for itself."""
    return "" if why in (_REPLACED, _NOT_PLANNED) else why


def _place(record: ReplicaRecord | DaemonRecord) -> str:
    return f"{record.host} {record.device}"


def compare(
    state: Deployment | None,
    placed: Sequence[Placed],
    health: Mapping[str, Health],
    *,
    mps: bool,
) -> Changes:
    """Compare what runs with what should.

    Parameters
    ----------
    state
        What was recorded; None if nothing is deployed.
    placed
        What should run, and where.
    health
        Of every recorded server and daemon, by token.
    mps
        Whether servers are clients of MPS daemons.
    """
    replicas = () if state is None else state.replicas
    daemons = () if state is None else state.daemons
    alive = {daemon.token: daemon for daemon in daemons if health[daemon.token] == "ready"}
    clean: list[tuple[ReplicaRecord | DaemonRecord, str]] = []
    usable: list[ReplicaRecord] = []
    stop: list[tuple[ReplicaRecord, str]] = []
    reason: dict[str, str] = {}
    for record in replicas:
        fault = _fault(record, health[record.token], alive, mps=mps)
        if fault is None:
            usable.append(record)
            continue
        reason[record.workload] = fault
        # What never answered or is gone serves nobody; what might serve is stopped when its successor is ready.
        serves = record.phase != "starting" and health[record.token] != "gone"
        if serves:
            stop.append((record, fault))
        else:
            clean.append((record, fault))
    keep: list[tuple[Placed, ReplicaRecord]] = []
    start: list[tuple[Placed, str]] = []
    for entry in placed:
        found = next((record for record in usable if _serves(record, entry)), None)
        if found is not None:
            usable.remove(found)
            keep.append((entry, found))
        else:
            start.append((entry, reason.get(entry.target.workload) or _why_start(entry, replicas)))
    stop += [(record, _why_stop(record, placed)) for record in usable]
    clean += [(daemon, "the MPS daemon does not run") for daemon in daemons if daemon.token not in alive]
    return Changes(
        clean=tuple(clean),
        daemons=_missing_daemons(start, alive.values()) if mps else (),
        start=tuple(start),
        keep=tuple(keep),
        stop=tuple(stop),
        idle_daemons=_idle_daemons(placed, keep, alive.values()),
    )


def _fault(record: ReplicaRecord, health: Health, daemons: Mapping[str, DaemonRecord], *, mps: bool) -> str | None:
    """Why a recorded server cannot stay: it is out of order, or what no plan says."""
    if health == "gone":
        return "half-started before" if record.phase == "starting" else "its server is gone"
    if health == "changed":
        return "its server was changed by hand"
    if health == "unready":
        return "half-started before" if record.phase == "starting" else WRONG_ANSWERS
    if mps and record.daemon not in daemons:
        return "its MPS daemon is gone"
    if record.planned is not None:
        planned = record.planned
        return (
            f"a guard changed it ({planned.gpu} at {planned.share_percent:g} % to"
            f" {record.gpu} at {record.share_percent:g} %)"
        )
    return None


def _serves(record: ReplicaRecord, entry: Placed) -> bool:
    target, device = entry.target, entry.device
    return (record.workload, record.spec, record.host, record.device) == (
        target.workload,
        target.spec,
        device.host,
        device.uuid,
    )


def _why_start(entry: Placed, replicas: Sequence[ReplicaRecord]) -> str:
    same = [record for record in replicas if record.workload == entry.target.workload]
    if not same:
        return _NEW
    if any(record.spec == entry.target.spec for record in same):
        return _ELSEWHERE
    changes = server_changes(of_record(same[0]), of_target(entry))
    return _CHANGED + (", ".join(map(str, changes)) or _what_else(same[0], entry.target))


def _what_else(record: ReplicaRecord, target: Target) -> str:
    """Say what differs between a server and a target that the plan would serve alike."""
    return _OTHER_FILES if record.config_digest == target.config_digest else _OTHER_SETTINGS


def _why_stop(record: ReplicaRecord, placed: Sequence[Placed]) -> str:
    if any(entry.target.workload == record.workload for entry in placed):
        return _REPLACED
    return _NOT_PLANNED


def _missing_daemons(start: Sequence[tuple[Placed, str]], alive: Collection[DaemonRecord]) -> tuple[Device, ...]:
    served = {(daemon.host, daemon.device) for daemon in alive}
    needed = {(entry.device.host, entry.device.uuid): entry.device for entry, _ in start}
    return tuple(device for place, device in needed.items() if place not in served)


def _idle_daemons(
    placed: Sequence[Placed], keep: Sequence[tuple[Placed, ReplicaRecord]], alive: Collection[DaemonRecord]
) -> tuple[DaemonRecord, ...]:
    used = {record.daemon for _, record in keep}
    places = {(entry.device.host, entry.device.uuid) for entry in placed}
    return tuple(d for d in alive if d.token not in used and (d.host, d.device) not in places)
