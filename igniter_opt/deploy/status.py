"""What a deployment should run, and what became of it."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from igniter_opt.deploy.backends.base import Backend
from igniter_opt.deploy.health import conditions
from igniter_opt.deploy.state import FAILED_LOGS, Deployment, Store


@dataclass(frozen=True)
class ServerStatus:
    """One server: where it is, how it does (uptime in s), and how it differs from what was deployed.

    Attributes
    ----------
    drift
        Empty if nothing differs.
    token, handle
        What marks it as ours, and its process or container id.
    log
        The file with its log; None where it is only the container's.
    plan_gpu, plan_share_percent
        What the plan says of it; a guard may have given it another GPU or share, which is no drift.
    """

    workload: str
    replica: int
    model: str
    gpu: str
    host: str
    device: str
    batch: int
    share_percent: float
    http: str
    grpc: str
    ready: bool
    uptime_s: float | None
    drift: str
    plan_gpu: str
    plan_share_percent: float
    token: str
    handle: str | None
    log: str | None


@dataclass(frozen=True)
class Status:
    """A deployment's servers.

    Attributes
    ----------
    unknown
        Handles of what carries this deployment's label but is not in its state.
    failed_logs
        The folder with the logs of servers that ended; None where there are none.
    state_lost
        Whether servers run of which no state is left.
    objects
        What differs of objects of a cluster that are no servers.
    """

    name: str
    backend: str
    cpu: bool
    plan_digest: str | None
    plan_path: str | None
    servers: list[ServerStatus]
    unknown: list[str]
    failed_logs: str | None = None
    state_lost: bool = False
    objects: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all is ready and nothing differs."""
        return (
            self.plan_digest is not None
            and not self.unknown
            and not self.objects
            and all(server.ready and not server.drift for server in self.servers)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data (the form of ``status --json``)."""
        return {**asdict(self), "ok": self.ok}


def read_status(store: Store, state: Deployment, backend: Backend) -> Status:
    """Look at every recorded server, with a checked inference; changes nothing."""
    observed = backend.observe(state.owner)
    found = conditions(store, state, backend, observed)
    daemons = {daemon.token for daemon in state.daemons if found[daemon.token].health == "ready"}
    servers = []
    for record in state.replicas:
        seen, condition = observed.get(record.token), found[record.token]
        drift = [] if condition.health == "ready" else [f"{condition.health}: {condition.detail}"]
        if record.phase == "starting":
            drift.append("a launcher did not finish starting it; run deploy again")
        elif record.phase == "retired":
            drift.append("replaced, but not stopped; run deploy again")
        running = None if condition.health == "gone" else seen
        if running is not None and record.started_at and running.started_at != record.started_at:
            drift.append(f"restarted (at {_readable(running.started_at)})")
        if record.daemon is not None and record.daemon not in daemons:
            drift.append("its MPS daemon is gone")
        address = state.host(record.host).address
        log = store.server_folder(record.token) / "log"
        authority = f"[{address}]" if ":" in address else address
        servers.append(
            ServerStatus(
                workload=record.workload,
                replica=record.replica,
                model=record.model,
                gpu=record.gpu,
                host=record.host,
                device=record.device,
                batch=record.batch,
                share_percent=record.share_percent,
                http=f"http://{authority}:{record.ports.http}",
                grpc=f"{authority}:{record.ports.grpc}",
                ready=condition.health == "ready",
                uptime_s=None if running is None else uptime_s(running.started_at),
                drift="; ".join(drift),
                plan_gpu=(record.planned or record).gpu,
                plan_share_percent=(record.planned or record).share_percent,
                token=record.token,
                handle=record.handle,
                log=str(log) if log.is_file() else None,
            )
        )
    known = {record.token for record in state.records}
    return Status(
        name=state.name,
        backend=state.backend,
        cpu=state.cpu,
        plan_digest=state.plan_digest,
        plan_path=state.plan_path,
        servers=servers,
        unknown=sorted(entry.handle for token, entry in observed.items() if token not in known),
        failed_logs=_failed_logs(store),
    )


def status_without_state(store: Store, backend: Backend) -> Status | None:
    """Return what runs of a deployment whose state is lost; None if nothing does."""
    observed = backend.observe(store.owner)
    if not observed:
        return None
    return Status(
        name=store.name,
        backend=backend.name,
        cpu=False,
        plan_digest=None,
        plan_path=None,
        servers=[],
        unknown=sorted(entry.handle for entry in observed.values()),
        failed_logs=_failed_logs(store),
        state_lost=True,
    )


def _failed_logs(store: Store) -> str | None:
    folder = store.folder / FAILED_LOGS
    return str(folder) if folder.is_dir() else None


def _when(started_at: str) -> datetime | None:
    """Read a start time: seconds since 1970, or Docker's RFC 3339 with nanoseconds."""
    try:
        return datetime.fromtimestamp(float(started_at), UTC)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(started_at)
    except ValueError:
        return None


def uptime_s(started_at: str) -> float | None:
    """Return how long ago a time was, in s; None where it is none."""
    when = _when(started_at)
    return None if when is None else max(0.0, (datetime.now(UTC) - when).total_seconds())


def _readable(started_at: str) -> str:
    when = _when(started_at)
    return started_at if when is None else when.isoformat(timespec="seconds")
