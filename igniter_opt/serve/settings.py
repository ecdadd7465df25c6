"""What a service allows, and who may ask it."""

import hmac
import ipaddress
import os
import socket
from dataclasses import dataclass, fields
from hashlib import sha256

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path, read_text
from igniter_opt.base.ownership import check_secret
from igniter_opt.base.schema import checked_number
from igniter_opt.serve.address import DEFAULT_HOST

# Shorter ones can be guessed.
_LEAST_TOKEN = 16
_MOST_TOKEN_BYTES = 4096


def _default_workers() -> int:
    return max(1, min(4, len(os.sched_getaffinity(0))))


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    """How much a service takes on.

    Attributes
    ----------
    workers
        Jobs that run at once, each in a process of its own; by default one for each processor, 4 at most.
    queue
        Jobs that may wait; beyond these, requests are refused for the moment.
    keep
        Ended jobs that are kept; the oldest beyond them are removed.
    body_mib
        Size of a request.
    workloads
        Workloads of an instance, every replica that may be counted.
    time_limit_s
        The largest `time_limit` that may be asked for.
    job_s
        Seconds after which a job is asked to end with what it has, whatever it is.
    memory_mib
        Memory of a job's process.
    stop_s
        Seconds that a job has to end once it was asked to; then its process is ended.

    Raises
    ------
    InputError
        A value is out of range.
    """

    workers: int = 0
    queue: int = 100
    keep: int = 1000
    body_mib: float = 4.0
    workloads: int = 5000
    time_limit_s: float = 600.0
    job_s: float = 900.0
    memory_mib: int = 4096
    stop_s: float = 10.0

    def __post_init__(self) -> None:
        if self.workers == 0:
            object.__setattr__(self, "workers", _default_workers())
        ranges = {
            "workers": (1, 256),
            "queue": (0, 10_000),
            "keep": (1, 100_000),
            "body_mib": (0.001, 64),
            "workloads": (1, 100_000),
            "time_limit_s": (0.001, 86_400),
            "job_s": (0.1, 7 * 86_400),
            "memory_mib": (512, 2**24),
            "stop_s": (0.1, 600),
        }
        for entry in fields(self):
            least, most = ranges[entry.name]
            value = checked_number(entry.name, getattr(self, entry.name), whole=entry.type == "int")
            if not least <= value <= most:
                raise InputError(f"{entry.name} must be {least:g} to {most:,g}; found {value:g}")

    @property
    def body_bytes(self) -> int:
        """Size of a request in bytes."""
        return int(self.body_mib * 2**20)


class Token:
    """The secret that a client has to know."""

    def __init__(self, secret: str) -> None:
        self._digest = sha256(secret.encode()).digest()

    def admits(self, given: bytes) -> bool:
        """Whether it is the secret; how long that takes says nothing of it."""
        return hmac.compare_digest(sha256(given).digest(), self._digest)


def read_token(path: StrPath) -> Token:
    """Read the token of a service from a file that only its user can read.

    Raises
    ------
    InputError
        Others can read or change the file, or what is in it is no token.
    """
    path = as_path(path)
    check_secret(path, f"`chmod 600 {path}`, or give another --token-file")
    text = read_text(path, _MOST_TOKEN_BYTES).strip()
    if len(text) < _LEAST_TOKEN or not (text.isascii() and text.isprintable()) or " " in text:
        raise InputError(
            f"{path}: a token is one word of {_LEAST_TOKEN} characters at least, such as `openssl rand -hex 32` prints"
        )
    return Token(text)


def listen(host: str, port: int, token: Token | None) -> socket.socket:
    """Open the socket that a service listens on.

    Raises
    ------
    InputError
        The address is none of this machine, is taken, or can be reached from elsewhere while there is no token.
    """
    if not 0 <= checked_number("--port", port, whole=True) <= 65535:
        raise InputError(f"--port: must be 0 to 65535 (0: any free one); found {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise InputError(f"--host {host}: is no address or name of this machine") from None
    # The address that is bound, not the name, which may come to mean another one.
    if token is None and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise InputError(
            f"--host {host}: can be reached from other machines, which takes a --token-file; without one the service"
            f" listens on {DEFAULT_HOST} only"
        )
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(1024)
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        raise InputError(f"--host {host} --port {port}: cannot be listened on ({error.strerror})") from None
    return opened


def url_of(opened: socket.socket) -> str:
    """Return the address of a socket as one would type it."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
