"""Processes that carry our label, and how to stop these and no others."""

import os
import signal
import time
from collections.abc import Collection, Iterable
from typing import Any

from igniter_opt.base.optional import load
from igniter_opt.deploy.backends.base import OWNER, TOKEN

# A server ends its running requests first; one that takes longer than this is killed.
GRACE_S = 20.0
# Killed under load, a server leaves Python backends that wait for it for ever.
ORPHAN_GRACE_S = 5.0
_POLL_S = 0.1


def labelled(owner: str, tokens: Collection[str] | None = None) -> dict[str, list[Any]]:
    """Return the running processes with an owner's label, by token.

    Only the environment that a process was started with counts, so a process id that was used again is
    never taken for ours. Processes of other users cannot be read and are left out.
    """
    psutil = load("psutil")
    found: dict[str, list[Any]] = {}
    for process in psutil.process_iter():
        environment = environment_of(process)
        token = environment.get(TOKEN)
        if environment.get(OWNER) == owner and token and (tokens is None or token in tokens):
            found.setdefault(token, []).append(process)
    return found


def environment_of(process: Any) -> dict[str, str]:
    """Return the environment a process was started with; empty if it is gone or not ours to read."""
    psutil = load("psutil")
    if process.pid == os.getpid():
        return {}
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return {}
        return dict(process.environ())
    except (psutil.Error, OSError):
        return {}


def root(processes: Iterable[Any]) -> Any:
    """Return the one that started the others: the oldest whose parent is not among them."""
    psutil = load("psutil")
    members = list(processes)
    ids = {process.pid for process in members}

    def rank(process: Any) -> tuple[bool, float]:
        try:
            return process.ppid() in ids, process.create_time()
        except psutil.Error:
            return True, float("inf")

    return min(members, key=rank)


def stop(owner: str, tokens: Collection[str], orphan_grace_s: float = ORPHAN_GRACE_S) -> None:
    """End the processes with these tokens: ask the servers, then after `GRACE_S` kill what is left.

    A server ends its own children; those that outlive it are asked in their turn, and killed after `orphan_grace_s`.
    """
    end = time.monotonic() + GRACE_S
    orphans_end: dict[str, float] = {}
    asked: set[int] = set()
    while running := _still_running(owner, tokens):
        for token, members in running.items():
            first, now = root(members), time.monotonic()
            leaderless_end = end if _leads_a_session(first) else orphans_end.setdefault(token, now + orphan_grace_s)
            if now >= min(end, leaderless_end):
                for process in members:
                    _send(process, owner, tokens, signal.SIGKILL)
            elif first.pid not in asked:
                asked.add(first.pid)
                _send(first, owner, tokens, signal.SIGTERM)
        time.sleep(_POLL_S)


def _still_running(owner: str, tokens: Collection[str]) -> dict[str, list[Any]]:
    reap()
    return labelled(owner, tokens)


def _leads_a_session(process: Any) -> bool:
    """Whether a process was started as a server; what such a one starts stays in its session."""
    try:
        return bool(os.getsid(process.pid) == process.pid)
    except OSError:  # gone
        return True


def _send(process: Any, owner: str, tokens: Collection[str], number: signal.Signals) -> None:
    """Send a signal to a process after making sure, on a handle that cannot be reused, that it is ours."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:  # gone
        return
    try:
        environment = environment_of(process)
        if environment.get(OWNER) == owner and environment.get(TOKEN) in tokens:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


# Children that this launcher started. They outlive it; while it lives it collects those that end.
_children: list[Any] = []


def adopt(child: Any) -> None:
    """Remember a child process, so that it is collected when it ends."""
    _children.append(child)


def reap() -> None:
    """Collect children that have ended."""
    for child in list(_children):
        if child.poll() is not None:
            _children.remove(child)
