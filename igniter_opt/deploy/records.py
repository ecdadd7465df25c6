"""What a deployment's state file holds: its servers, MPS daemons and the hosts that they run on."""

from typing import Annotated, Literal

from pydantic import Field

from igniter_opt.base.schema import (
    Count,
    Integer,
    Name,
    NonNegative,
    Number,
    Record,
    matching,
)
from igniter_opt.data.plan import QueueDelayUs

TOKEN_PATTERN = r"^[0-9a-f]{16}$"  # noqa: S105
Token = Annotated[str, matching(TOKEN_PATTERN, "must be 16 hexadecimal digits")]
Hex = Annotated[str, matching(r"^[0-9a-f]{64}$", "must be 64 hexadecimal digits")]
PortNumber = Annotated[Count, Field(le=65535)]
# What is passed to daemons and into environments; GPU UUIDs are of this form.
Uuid = Annotated[
    str,
    matching(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,126}$", "must be a GPU's UUID, as `nvidia-smi -L` prints it"),
]


class Ports(Record):
    """The ports that a server listens on."""

    http: PortNumber
    grpc: PortNumber
    metrics: PortNumber


class HostRecord(Record):
    """A machine that servers run on: its Docker engine's URL (None: the default), and where servers listen."""

    name: Name
    docker: str | None = None
    address: str = "127.0.0.1"


class DaemonRecord(Record):
    """An MPS control daemon of ours, for one GPU."""

    token: Token
    host: Name
    device: Uuid


class PlannedPlace(Record):
    """Where the plan has a placement that a guard gave another share or GPU (`spec` is that of the plan's server)."""

    gpu: Name
    host: Name
    device: Uuid
    device_name: str
    share_percent: Number
    spec: Hex


class ReplicaRecord(Record):
    """One server of ours.

    Attributes
    ----------
    phase
        ``starting``: may or may not run yet. ``ready``: answered a checked inference.
        ``retired``: replaced, about to be stopped.
    spec
        Digest of everything that it serves and how, apart from its GPU.
    handle
        Process id or container id, once known.
    started_at
        Start time as the operating system or Docker gives it; another one means that it was restarted.
    settings
        Digest of its container's limits and configuration as started.
    daemon
        Token of the MPS daemon it is a client of.
    planned
        What the plan says where a guard has changed it; None where the server is as planned.
    """

    token: Token
    phase: Literal["starting", "ready", "retired"]
    workload: Name
    replica: Integer
    model: Name
    gpu: Name
    host: Name
    device: Uuid
    device_name: str
    share_percent: Number
    batch: Count
    queue_delay_us: QueueDelayUs
    rate_rps: NonNegative
    spec: Hex
    config_digest: Hex
    ports: Ports
    daemon: Token | None = None
    planned: PlannedPlace | None = None
    handle: str | None = None
    started_at: str | None = None
    settings: str = ""
    ready_at: str | None = None

    @property
    def placement(self) -> str:
        """Name of the placement as in messages."""
        return f"{self.gpu}/{self.workload}#{self.replica}"

    @property
    def server_id(self) -> str:
        """What the server calls itself, so that no other server is taken for it."""
        return f"igniter-opt-{self.token}"
