"""Applying changes: intend, act, record, so that a launcher killed at any point leaves nothing unknown.

All new servers become ready before any old one is stopped. Until then a failure or an interrupt stops exactly
what this run started; the old servers never notice. Afterwards the old ones are marked as retired in one
atomic write, together with the plan, and stopped.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from igniter_opt.base.errors import DeploymentError, DeploymentInterruptedError, InputError
from igniter_opt.base.stop import StopRequest
from igniter_opt.deploy.backends.base import Backend, Observation, ServerJob, shared_memory, telling_lines
from igniter_opt.deploy.backends.mps import thread_percentage
from igniter_opt.deploy.changes import WRONG_ANSWERS, Changes
from igniter_opt.deploy.endpoints import write_endpoints
from igniter_opt.deploy.health import REPOSITORY, check
from igniter_opt.deploy.inventory import Device
from igniter_opt.deploy.prometheus import write_targets
from igniter_opt.deploy.records import DaemonRecord, Ports, ReplicaRecord
from igniter_opt.deploy.state import (
    FAILED_LOGS,
    Hook,
    Journal,
    Store,
    listener_slots,
    new_token,
    no_hook,
    now,
)
from igniter_opt.deploy.targets import Placed
from igniter_opt.deploy.triton.inference import INFERENCE_TIMEOUT_S, WrongAnswerError, endpoint, is_ready
from igniter_opt.deploy.triton.model_repository import create_repository
from igniter_opt.deploy.triton.samples import CHECK_FILE

DEFAULT_BASE_PORT, DEFAULT_READY_TIMEOUT_S = 8000, 300.0
_HIGHEST_PORT = 65535
_POLL_S = 0.1
_KEPT_LINES = 500

Report = Callable[[str], None]
Drain = Callable[[Sequence[ReplicaRecord]], None]


def no_report(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Options:
    """How to apply changes.

    Attributes
    ----------
    base_port
        Servers take free ports from here up, three each: those of the server that a new one stands for, if it is gone,
        else the first ones.
    ready_timeout_s
        How long a server may take to become ready.
    drain_s
        How long old servers go on after the endpoints file names the new ones.
    drain
        What is done in place of that wait, given the servers that are to be stopped.
    hook
        Called before and after every step; tests inject faults there.
    stop
        Set to ask for an end; what this run started is then stopped.
    report
        Called with one line about every step.
    """

    base_port: int = DEFAULT_BASE_PORT
    ready_timeout_s: float = DEFAULT_READY_TIMEOUT_S
    drain_s: float = 0.0
    drain: Drain | None = None
    hook: Hook = no_hook
    stop: StopRequest = field(default_factory=StopRequest)
    report: Report = no_report


def remove_forgotten(store: Store, known: Collection[str]) -> None:
    """Remove what is left of servers that nobody knows any more: their state was lost, and they have ended."""
    tokens = store.forgotten(known)
    for path in shared_memory(tokens):
        path.unlink(missing_ok=True)
    for token in tokens:
        store.remove_server_folder(token)


class Applier:
    """Applies changes to a deployment.

    Parameters
    ----------
    journal
        The deployment's state.
    backend
        What starts and stops servers.
    what
        What messages call the changes: they say that all of it was undone.
    """

    def __init__(
        self, journal: Journal, backend: Backend, options: Options, *, cpu: bool, what: str = "this run"
    ) -> None:
        self.journal = journal
        self.backend = backend
        self.options = options
        self.cpu = cpu
        self.what = what
        self.store = journal.store
        self._started: dict[str, str] = {}  # token to host
        # Of servers that are gone, by host and placement: who sent requests there finds the next one.
        self._former: dict[tuple[str, str, int], Ports] = {}

    @property
    def _owner(self) -> str:
        return self.journal.state.owner

    def apply(
        self,
        changes: Changes,
        orphans: Collection[Observation],
        plan_digest: str,
        plan_path: Path,
        **fields: object,
    ) -> None:
        """Apply changes.

        Parameters
        ----------
        orphans
            What carries our label but is not in the state; it is stopped first.
        fields
            What else the state says from the moment on in which the new plan is what runs.

        Raises
        ------
        DeploymentError
            If a server does not become ready; everything this run started was stopped again.
        DeploymentInterruptedError
            If a stop was asked for.
        """
        self._check_stop()
        self._former = {
            (record.host, record.workload, record.replica): record.ports
            for record, _ in changes.clean
            if isinstance(record, ReplicaRecord) and record.phase != "starting"
        }
        try:
            self._clean(changes, orphans)
            for device in changes.daemons:
                self._check_stop()
                self._start_daemon(device)
            for _, group in groupby(changes.start, key=lambda entry: entry[0].target.gpu):
                records = []
                for placed, _ in group:
                    self._check_stop()
                    records.append(self._start(placed, plan_digest))
                for record in records:
                    self._wait_until_ready(record)
            self._check_stop()
        except (DeploymentError, DeploymentInterruptedError) as error:
            kept = self._roll_back()
            raise type(error)(f"{error}\nwhole logs: {kept}" if kept else str(error)) from None
        except (InputError, OSError) as error:  # such as a full disk
            said = str(error)
            if isinstance(error, OSError):
                said = f"{error.filename or self.store.folder}: {error.strerror or error}"
            undone = f"everything that {self.what} started was stopped again, what ran before runs on"
            self._roll_back()
            raise InputError(f"{said}; {undone}") from None
        except BaseException:
            self._roll_back()
            raise
        self._commit(changes, plan_digest=plan_digest, plan_path=str(plan_path.absolute()), **fields)
        write_endpoints(self.journal.state, self.store)
        self._write_targets()
        self._finish(changes)

    def _check_stop(self) -> None:
        if self.options.stop.is_set():
            raise DeploymentInterruptedError(
                f"interrupted: everything that {self.what} started was stopped again, what ran before runs on"
            )

    def _clean(self, changes: Changes, orphans: Collection[Observation]) -> None:
        tokens = {entry.token: entry.host for entry in orphans}
        tokens |= {record.token: record.host for record, _ in changes.clean}
        ended = [record for record, _ in changes.clean if isinstance(record, ReplicaRecord)]
        kept = self._save_logs(ended)
        self.remove(tokens, "leftovers", keep_logs=kept)
        if kept:
            self.options.report(f"logs of servers that had ended: {self.store.folder / FAILED_LOGS}")
        remove_forgotten(self.store, [record.token for record in self.journal.state.records])

    def remove(self, tokens: Mapping[str, str], what: str, *, keep_logs: bool = False) -> None:
        """Stop what carries these tokens (token to host), then forget it."""
        if not tokens:
            return
        self.options.report(f"stopping {what} ({len(tokens)})")
        self.options.hook(f"before stopping {what}")
        self.backend.stop(self._owner, tokens)
        self.options.hook(f"after stopping {what}")
        names = {record.token: record.placement.replace("/", "-") for record in self.journal.state.replicas}
        for token in tokens:
            self.store.remove_server_folder(token, keep_log=names.get(token) if keep_logs else None)
        state = self.journal.state
        self.journal.update(
            f"{what} stopped",
            replicas=tuple(record for record in state.replicas if record.token not in tokens),
            daemons=tuple(record for record in state.daemons if record.token not in tokens),
        )

    def _save_logs(self, records: Sequence[ReplicaRecord]) -> bool:
        """See to it that servers that are to be removed have logs to keep; whether any has one."""
        if self.journal.state.temporary:  # its folder goes, too
            return False
        for record in records:
            self._save_log(record)
        return any((self.store.server_folder(record.token) / "log").is_file() for record in records)

    def _save_log(self, record: ReplicaRecord) -> list[str]:
        """Return the end of a server's log, and write it where it is only a container's, which ends with it."""
        log = self.store.server_folder(record.token) / "log"
        lines = self.backend.logs(record, log, _KEPT_LINES)
        if lines and not log.exists() and log.parent.is_dir():
            log.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return lines

    def _start_daemon(self, device: Device) -> None:
        record = DaemonRecord(token=new_token(), host=device.host, device=device.uuid)
        self.options.report(f"starting the MPS daemon of {device.host} {device.uuid}")
        self._started[record.token] = record.host
        self.journal.put(f"MPS daemon of {device.uuid}", record)
        self.options.hook(f"before starting the MPS daemon of {device.uuid}")
        self.backend.start_daemon(record, self._owner)
        self.options.hook(f"after starting the MPS daemon of {device.uuid}")

    def _start(self, placed: Placed, plan_digest: str) -> ReplicaRecord:
        target, device = placed.target, placed.device
        state = self.journal.state
        address = state.host(device.host).address
        daemon = None
        if not self.cpu:
            daemon = next(d for d in state.daemons if (d.host, d.device) == (device.host, device.uuid))
        record = ReplicaRecord(
            token=new_token(),
            phase="starting",
            workload=target.workload,
            replica=target.replica,
            model=target.model,
            gpu=target.gpu,
            host=device.host,
            device=device.uuid,
            device_name=device.name,
            share_percent=target.share_percent,
            batch=target.batch,
            queue_delay_us=target.queue_delay_us,
            rate_rps=target.rate_rps,
            spec=target.spec,
            config_digest=target.config_digest,
            ports=self._free_ports(placed, address),
            daemon=None if daemon is None else daemon.token,
            planned=target.planned,
        )
        self.options.report(f"starting {target.placement} on {device.host} {device.uuid}, port {record.ports.http}")
        self._started[record.token] = record.host
        self.journal.put(f"start of {target.placement}", record)
        folder = self.store.server_folder(record.token)
        create_repository(folder / REPOSITORY, target.source, target.config)
        if target.source.sample is not None:
            (folder / CHECK_FILE).write_text(target.source.sample.model_dump_json(exclude_none=True), encoding="utf-8")
        self.options.hook(f"before starting {target.placement}")
        seen = self.backend.start(
            ServerJob(
                record=record,
                owner=self._owner,
                plan_digest=plan_digest,
                repository=folder / REPOSITORY,
                log=folder / "log",
                address=address,
                daemon=daemon,
                thread_percentage=None if self.cpu else thread_percentage(target.share_percent),
                memory_mib=target.memory_mib,
            )
        )
        self.options.hook(f"after starting {target.placement}")
        record = record.model_copy(
            update={"handle": seen.handle, "started_at": seen.started_at, "settings": seen.settings}
        )
        self.journal.put(f"server of {target.placement}", record)
        return record

    def _free_ports(self, placed: Placed, address: str) -> Ports:
        """Return ports that nobody listens on and no server of ours has: those it had before, or three in a row."""
        host = placed.device.host
        former = self._former.pop((host, placed.target.workload, placed.target.replica), None)
        theirs = [record.ports for record in self.journal.state.replicas if record.host == host]
        theirs += [ports for (where, _, _), ports in self._former.items() if where == host]
        taken = {port for ports in theirs for port in (ports.http, ports.grpc, ports.metrics)}

        def free(*ports: int) -> bool:
            return not taken.intersection(ports) and all(
                self.backend.port_is_free(host, address, port) for port in ports
            )

        least = self.options.base_port
        if former is not None and former.http >= least and free(former.http, former.grpc, former.metrics):
            return former
        for first in range(least, _HIGHEST_PORT - 1, 3):
            if free(first, first + 1, first + 2):
                return Ports(http=first, grpc=first + 1, metrics=first + 2)
        raise InputError(f"there are no three free ports from {least} up on {host}; give --base-port")

    def _wait_until_ready(self, record: ReplicaRecord) -> None:
        self.options.hook(f"before waiting for {record.placement}")
        address = self.journal.state.host(record.host).address
        server = endpoint(record, address)
        deadline = time.monotonic() + self.options.ready_timeout_s
        while not is_ready(server):
            self._check_stop()
            if not self.backend.alive(record):
                raise self._failure(record, "its server exited before it was ready")
            if time.monotonic() > deadline:
                raise self._failure(record, f"its server is not ready after {self.options.ready_timeout_s:g} s")
            time.sleep(_POLL_S)
        try:
            check(self.store, record, address, INFERENCE_TIMEOUT_S)
        except (WrongAnswerError, InputError) as error:
            raise self._failure(record, f"its server is ready but does not answer right: {error}") from None
        self._check_stop()
        self.journal.put(
            f"readiness of {record.placement}", record.model_copy(update={"phase": "ready", "ready_at": now()})
        )
        self.options.report(f"ready: {record.placement}, http://{address}:{record.ports.http}, inference checked")

    def _failure(self, record: ReplicaRecord, why: str) -> DeploymentError:
        lines = self._save_log(record)
        said = "\n".join(["from its log:", *(f"  {line}" for line in telling_lines(lines))]) if lines else "no log"
        return DeploymentError(
            f"{record.placement}: {why}; everything that {self.what} started was stopped again,"
            f" what ran before runs on\n{said}"
        )

    def _roll_back(self) -> Path | None:
        """Stop what this run started; return the folder where its logs are kept, if they are."""
        state = self.journal.state
        servers = {record.token for record in state.replicas} & set(self._started)
        # With a temporary deployment its folder goes, too.
        keep = bool(servers) and not state.temporary
        if self._started:
            self.remove(self._started, f"what {self.what} started", keep_logs=keep)
        state = self.journal.state
        if not state.replicas and not state.daemons and state.plan_digest is None:
            self.store.file.unlink(missing_ok=True)
        folder = self.store.folder / FAILED_LOGS
        return folder if keep and folder.is_dir() else None

    def _commit(self, changes: Changes, **fields: object) -> None:
        """Record that the new plan is what runs; kept servers take their names in it."""
        retired = {record.token for record, _ in changes.stop}
        kept = {record.token: placed for placed, record in changes.keep}
        replicas = []
        for record in self.journal.state.replicas:
            update: dict[str, object] = {}
            if record.token in retired:
                update = {"phase": "retired"}
            elif record.token in kept:
                target = kept[record.token].target
                update = {
                    "phase": "ready",
                    "ready_at": record.ready_at or now(),
                    "replica": target.replica,
                    "gpu": target.gpu,
                    "share_percent": target.share_percent,  # may differ where nothing enforces it
                    "rate_rps": target.rate_rps,
                }
            replicas.append(record.model_copy(update=update))
        workloads = [record.workload for record in replicas if record.phase == "ready"]
        listeners = listener_slots(self.journal.state.listeners, workloads)
        self.journal.update("the new plan", replicas=tuple(replicas), listeners=listeners, **fields)

    def _write_targets(self) -> None:
        try:
            write_targets(self.journal.state)
        except InputError as error:  # the servers serve all the same
            self.options.report(f"warning: Prometheus is not told of the change: {error}")

    def _finish(self, changes: Changes) -> None:
        if changes.stop and self.options.drain is not None:
            self.options.drain([record for record, _ in changes.stop])
        elif changes.stop and self.options.drain_s:
            self.options.report(f"waiting {self.options.drain_s:g} s for clients to leave the old servers")
            deadline = time.monotonic() + self.options.drain_s
            while time.monotonic() < deadline and not self.options.stop.is_set():
                time.sleep(_POLL_S)
            if self.options.stop.is_set():
                self.options.report("drain cut short: the old servers are stopped now")
        wrong = [record for record, why in changes.stop if why == WRONG_ANSWERS]
        kept = self._save_logs(wrong)
        self.remove({record.token: record.host for record in wrong}, "what did not answer right", keep_logs=kept)
        if kept:
            self.options.report(f"logs of servers that did not answer right: {self.store.folder / FAILED_LOGS}")
        others = {record.token: record.host for record, _ in changes.stop if record not in wrong}
        self.remove(others, "what was replaced")
        self.remove({daemon.token: daemon.host for daemon in changes.idle_daemons}, "idle MPS daemons")
