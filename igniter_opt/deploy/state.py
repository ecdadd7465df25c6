"""What a deployment runs: the state file, which is also the journal of what is about to be started.

A server or MPS daemon is recorded, with a token of its own, before it is started, and carries the token as a
label; so whatever a killed launcher left behind is found again, and nothing else is ever taken for ours.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path, exists, parse_json, read_text, write_bytes_atomically
from igniter_opt.base.optional import load
from igniter_opt.base.ownership import check_entries, check_private, make_private
from igniter_opt.base.schema import (
    NAME_PATTERN,
    Integer,
    Name,
    Record,
    describe,
    invalid,
    nearest,
    parse_record,
)
from igniter_opt.deploy.backends.registry import BACKENDS
from igniter_opt.deploy.plan_cost import PlanCost
from igniter_opt.deploy.records import TOKEN_PATTERN, DaemonRecord, HostRecord, ReplicaRecord, Token

STATE_SCHEMA: Final = "igniter-opt/deployment@1"
STATE_FILE, LOCK_FILE, SERVERS, FAILED_LOGS = "state.json", "lock", "servers", "failed"
# Held by a guard for as long as it runs; `LOCK_FILE` is held for a single change.
GUARD_LOCK_FILE = "guard.lock"
# What a lock file begins with; by it the folder of a lost state is known as ours.
_HELD_BY = "process "
# Logs of servers that ended are kept, the newest so many of a deployment.
_MOST_KEPT_LOGS = 50
Hook = Callable[[str], None]


def no_hook(_: str) -> None:
    """Do nothing at a step; tests put faults here."""


def _known_backend(value: object) -> object:
    known = [name for name, kind in BACKENDS.items() if not kind.declared]
    if value not in known:
        raise invalid(f"must be one of {', '.join(known)}; found {describe(value)}{nearest(value, known)}")
    return value


class Deployment(Record):
    """All that a deployment runs, or may run; a `temporary` one is a rehearsal's, which stops it.

    Attributes
    ----------
    file_sd
        Where the targets for Prometheus are written.
    listeners
        Which of a load balancer's listeners a workload has, counted from 0; it keeps it for as long as it is served.
    """

    schema_: Literal["igniter-opt/deployment@1"] = Field(default=STATE_SCHEMA, alias="schema")
    name: Name
    owner: Token
    machine: str
    backend: Annotated[str, BeforeValidator(_known_backend)]
    cpu: bool
    temporary: bool = False
    hosts: tuple[HostRecord, ...]
    created_at: str
    plan_digest: str | None = None
    plan_path: str | None = None
    plan_cost: PlanCost | None = None
    file_sd: str | None = None
    replicas: tuple[ReplicaRecord, ...] = ()
    daemons: tuple[DaemonRecord, ...] = ()
    listeners: dict[Name, Annotated[Integer, Field(ge=0)]] = {}  # noqa: RUF012

    @property
    def records(self) -> list[ReplicaRecord | DaemonRecord]:
        """All servers and daemons."""
        return [*self.replicas, *self.daemons]

    def host(self, name: str) -> HostRecord:
        """Return a host by its name."""
        return next(host for host in self.hosts if host.name == name)


def listener_slots(known: Mapping[str, int], workloads: Iterable[str]) -> dict[str, int]:
    """Return the listener of every workload: the one it has, or for new ones the first that nobody has or had."""
    taken = set(known.values())
    free = (slot for slot in count() if slot not in taken)
    return {name: known[name] if name in known else next(free) for name in sorted(set(workloads))}


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def new_token() -> str:
    """Return a fresh random token."""
    return secrets.token_hex(8)


def default_root() -> Path:
    """Return the folder of all deployments of this user."""
    return Path(load("platformdirs").user_state_dir("igniter-opt")) / "deployments"


class Store:
    """The folder of one deployment: state file, lock, and a folder for every server.

    Parameters
    ----------
    root
        The folder of all deployments.
    name
        The deployment's name.
    """

    def __init__(self, root: StrPath, name: str) -> None:
        check_name(name, "--name")
        self.name = name
        self.root = as_path(root).absolute()
        self.folder = self.root / name
        self.file = self.folder / STATE_FILE

    @property
    def owner(self) -> str:
        """The label of all that is started from this folder on this machine."""
        return hashlib.sha256(f"{socket.gethostname()}\0{self.folder.resolve()}".encode()).hexdigest()[:16]

    def server_folder(self, token: str) -> Path:
        """Return where a server's repository and log are kept."""
        return self.folder / SERVERS / token

    def create(self) -> None:
        """Create the folder, readable by its user only; raise InputError where it is not the user's alone."""
        self.check_ours()  # what it comes to, too
        try:
            make_private(self.folder)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be created ({error.strerror}); choose another --state") from None
        self.check_ours()

    def check_creatable(self) -> None:
        """Raise InputError where `create` would; creates nothing."""
        self.check_ours()
        at = next(folder for folder in (self.folder, *self.folder.parents) if exists(folder))
        if not at.is_dir() or not os.access(at, os.W_OK | os.X_OK):
            why = "nobody may write there" if at.is_dir() else "is no folder"
            raise InputError(f"{self.folder}: cannot be created ({at}: {why}); choose another --state")

    def check_ours(self) -> None:
        """Raise InputError if anybody but the user and root could change what is here, or have us write elsewhere.

        Whoever writes to the folder decides which processes and files are taken for ours, and removed.
        """
        if self.folder.is_symlink():
            raise InputError(f"{self.folder}: is a link, and none is followed here; choose another --state")
        check_private(self.folder, "choose another --state")
        for folder in (self.folder, self.folder / SERVERS):
            check_entries(folder)

    def is_deployment(self) -> bool:
        """Whether the folder is a deployment's, if only of one whose state is lost, and not anybody's other one."""
        if exists(self.file):
            return True
        try:
            if not any(self.folder.iterdir()):
                return True
            return (self.folder / LOCK_FILE).read_bytes()[:100].startswith(_HELD_BY.encode())
        except OSError:
            return False

    @contextmanager
    def locked(self, *, unguarded: bool = False) -> Iterator[None]:
        """Hold the deployment's lock; raise InputError if another launcher holds it.

        Parameters
        ----------
        unguarded
            Whether there must be no guard either, which takes this lock for its changes: nobody but the holder changes
            the deployment then.
        """
        if unguarded:  # before, to say what is in the way; and again when no guard can begin any more
            self._check_unguarded()
        with self._lock(self.folder / LOCK_FILE, "is being changed by another launcher", "wait until it is done"):
            if unguarded:
                self._check_unguarded()
            yield

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Hold the guard's lock for as long as a guard runs; raise InputError if a guard or launcher is at work."""
        with self._lock(self.folder / GUARD_LOCK_FILE, "is watched by a guard already", "end that one first"):
            with self.locked():
                pass
            yield

    def _check_unguarded(self) -> None:
        if exists(self.folder / GUARD_LOCK_FILE):
            with self._lock(self.folder / GUARD_LOCK_FILE, "is watched by a guard", "end it first"):
                pass

    @contextmanager
    def _lock(self, path: Path, problem: str, mend: str) -> Iterator[None]:
        self.check_ours()
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise InputError(f"{path}: cannot be opened ({error.strerror})") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
                raise InputError(f"deployment {self.name!r} {problem} ({holder or 'unknown'}); {mend}") from None
            if not path.exists():  # torn down by the launcher that held the lock
                raise InputError(f"deployment {self.name!r} was just torn down; run the command again")
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{_HELD_BY}{os.getpid()} since {now()}".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def load(self) -> Deployment | None:
        """Return the state; None if nothing is deployed.

        Raises
        ------
        InputError
            If the file is damaged or is not this deployment's, or the folder not its user's alone; nothing is touched
            then.
        """
        self.check_ours()
        if not exists(self.file):
            return None
        mend = (
            "nothing was touched; restore the file, or move it away and run"
            f" `igniter-opt teardown --name {self.name}`, which stops all that carries this deployment's label"
        )
        try:
            data = parse_json(read_text(self.file), str(self.file))
            if isinstance(data, dict) and data.get("schema") != STATE_SCHEMA:
                raise InputError(f"{self.file}: {_other_schema(data.get('schema'))}")
            state = parse_record(Deployment, data, str(self.file))
        except InputError as error:
            raise InputError(f"{error}; {mend}") from None
        if (state.name, state.owner) != (self.name, self.owner):
            raise InputError(
                f"{self.file}: belongs to deployment {state.name!r} of another folder or machine ({state.machine});"
                f" {mend}"
            )
        tokens = [record.token for record in state.records]
        hosts = {host.name for host in state.hosts}
        if len(set(tokens)) < len(tokens) or any(r.host not in hosts for r in state.records):
            raise InputError(f"{self.file}: is inconsistent; {mend}")
        return state

    def save(self, state: Deployment) -> None:
        """Write the state atomically; raise InputError for one that could not be read again.

        Fields come from backends, too, whose authors may be others.
        """
        data = state.model_dump(mode="json", by_alias=True, warnings=False)
        parse_record(Deployment, data, f"the state of {self.name}, which is not written")
        text = json.dumps(data, indent=1)
        self.write(self.file, text.encode() + b"\n")

    def write(self, path: Path, content: bytes) -> None:
        """Write a file in the folder atomically, for its user alone."""
        write_bytes_atomically(path, content, private=True, follow=False)

    def remove_server_folder(self, token: str, *, keep_log: str | None = None) -> None:
        """Remove a server's folder; its log is kept under a name for the user to read, if asked for.

        The name begins with the time, so that none takes the place of another, and the oldest ones go.
        """
        folder = self.server_folder(token)
        if keep_log is not None and (folder / "log").is_file():
            kept = self.folder / FAILED_LOGS
            kept.mkdir(mode=0o700, exist_ok=True)
            (folder / "log").replace(kept / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{keep_log}-{token[:8]}.log")
            for old in sorted(kept.glob("*.log"))[:-_MOST_KEPT_LOGS]:
                old.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def forgotten(self, known: Collection[str]) -> list[str]:
        """Return the tokens of other servers than these that have a folder here."""
        found = sorted(folder.name for folder in self.folder.glob(f"{SERVERS}/*"))
        return [name for name in found if name not in known and re.match(TOKEN_PATTERN, name)]

    def remove(self) -> None:
        """Remove the deployment's folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _other_schema(schema: object) -> str:
    kind = STATE_SCHEMA.partition("@")[0]
    if isinstance(schema, str) and schema.startswith(f"{kind}@"):
        return f"written by a newer version of igniter-opt ({schema[:60]}; this one knows {STATE_SCHEMA}); use that"
    return f"not a state file (schema is {describe(schema)})"


def check_name(name: str, what: str) -> None:
    """Raise InputError unless a name is safe as a folder, container and label name."""
    if not re.fullmatch(NAME_PATTERN.removesuffix("$"), name):
        raise InputError(
            f"{what}: {name!r} must be 1 to 63 letters, digits, '.', '_' or '-', and start with a letter or digit"
        )


def deployments(root: Path) -> list[str]:
    """Return the names of all deployments in a folder, none where there is no such folder.

    Raises
    ------
    InputError
        There is something else in its place.
    """
    if root.exists() and not root.is_dir():
        raise InputError(f"{root}: is no folder; --state names the one that deployments are kept in")
    try:
        return sorted(entry.parent.name for entry in root.glob(f"*/{STATE_FILE}"))
    except OSError:
        return []


def without_state(root: Path) -> list[str]:
    """Return the names of deployments whose folders are there and whose state is not."""
    try:
        folders = [entry.parent for entry in root.glob(f"*/{LOCK_FILE}")]
    except OSError:
        return []
    names = sorted(folder.name for folder in folders if not exists(folder / STATE_FILE))
    return [name for name in names if re.fullmatch(NAME_PATTERN, name) and Store(root, name).is_deployment()]


class Journal:
    """The state in memory and on disk; every change is written before the next step.

    Parameters
    ----------
    hook
        Called before and after every write with the step's name.
    """

    def __init__(self, store: Store, state: Deployment, hook: Hook = no_hook) -> None:
        self.store = store
        self.state = state
        self.hook = hook

    def update(self, step: str, **fields: Any) -> None:
        """Change fields of the deployment."""
        self.hook(f"before recording {step}")
        self.state = self.state.model_copy(update=fields)
        self.store.save(self.state)
        self.hook(f"after recording {step}")

    def put(self, step: str, record: ReplicaRecord | DaemonRecord) -> None:
        """Add a record, or replace the one of the same token."""
        field = "replicas" if isinstance(record, ReplicaRecord) else "daemons"
        records = {entry.token: entry for entry in getattr(self.state, field)}
        records[record.token] = record
        self.update(step, **{field: tuple(records.values())})
