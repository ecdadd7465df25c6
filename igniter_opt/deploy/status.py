"""What a deployment should run, and what became of it."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from igniter_opt.deploy.backends.base import Backend
from igniter_opt.deploy.health import conditions
from igniter_opt.deploy.state import Deployment, Store


@dataclass(frozen=True)
class ServerStatus:
    """One server: where it is, how it does (uptime in s), and how it differs from what was deployed.

    Attributes
    ----------
    drift
        Empty if nothing differs.
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


@dataclass(frozen=True)
class Status:
    """A deployment's servers.

    Attributes
    ----------
    unknown
        Handles of what carries this deployment's label but is not in its state.
    """

    name: str
    backend: str
    cpu: bool
    plan_digest: str | None
    plan_path: str | None
    servers: list[ServerStatus]
    unknown: list[str]

    @property
    def ok(self) -> bool:
        """Whether all is ready and nothing differs."""
        return (
            self.plan_digest is not None
            and not self.unknown
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
                uptime_s=None if running is None else _age(running.started_at),
                drift="; ".join(drift),
                plan_gpu=(record.planned or record).gpu,
                plan_share_percent=(record.planned or record).share_percent,
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
    )


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


def _age(started_at: str) -> float | None:
    when = _when(started_at)
    return None if when is None else max(0.0, (datetime.now(UTC) - when).total_seconds())


def _readable(started_at: str) -> str:
    when = _when(started_at)
    return started_at if when is None else when.isoformat(timespec="seconds")
