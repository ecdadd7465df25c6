"""MPS control daemons on this machine: one per GPU, with pipe and log directories of its own.

Shares and memory limits are set per client, by the environment of each server; a daemon's own settings are
never touched, so nothing is raced between starts.
"""

import math
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from igniter_opt.base.errors import DeploymentError, InputError
from igniter_opt.base.ownership import is_own_folder
from igniter_opt.deploy.backends import processes
from igniter_opt.deploy.backends.base import OWNER, TOKEN
from igniter_opt.deploy.records import DaemonRecord

PROGRAM = "nvidia-cuda-mps-control"
_TIMEOUT_S = 20.0


def thread_percentage(share_percent: float) -> str:
    """Render a share for ``CUDA_MPS_ACTIVE_THREAD_PERCENTAGE``.

    MPS rounds down to what the card can give, so a share that is a multiple of the card's unit must not come
    out a hair below it: rounded up to 4 decimals.
    """
    rounded = min(100.0, math.ceil(share_percent * 1e4 - 1e-6) / 1e4)
    return f"{rounded:.4f}".rstrip("0").rstrip(".")


def find_program() -> str:
    """Return the control program's path; raise InputError if there is none."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise InputError(f"{PROGRAM} is not on PATH; it comes with the NVIDIA driver (or try --cpu)")
    return found


def pipe_folder(token: str) -> Path:
    """Return a daemon's pipe directory: short, because sockets in it are limited to some 100 characters."""
    return Path(tempfile.gettempdir()) / f"igniter-opt-mps-{token}"


def has_folder(token: str) -> bool:
    """Whether a daemon's pipe directory is there, and ours: others may write where it is, and know its name."""
    return is_own_folder(pipe_folder(token))


def client_environment(token: str) -> dict[str, str]:
    """Return the variables that make a process a client of a daemon."""
    folder = pipe_folder(token)
    return {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}


def start(record: DaemonRecord, owner: str) -> None:
    """Start a daemon and wait until it answers.

    Raises
    ------
    DeploymentError
        If it does not start or answer.
    """
    folder = pipe_folder(record.token)
    try:
        folder.mkdir(mode=0o700)
        (folder / "log").mkdir(mode=0o700)
    except OSError as error:
        raise DeploymentError(f"{folder}: cannot be created ({error.strerror})") from None
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("CUDA_MPS_")},
        **client_environment(record.token),
        "CUDA_VISIBLE_DEVICES": record.device,
        OWNER: owner,
        TOKEN: record.token,
    }
    try:
        done = subprocess.run(  # noqa: S603
            [find_program(), "-d"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise DeploymentError(f"the MPS daemon of {record.device} does not come up within {_TIMEOUT_S:g} s") from None
    deadline = time.monotonic() + _TIMEOUT_S
    while not answers(record):
        if done.returncode != 0 or time.monotonic() > deadline:
            said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
            raise DeploymentError(f"the MPS daemon of {record.device} does not start: {said}")
        time.sleep(0.1)


def answers(record: DaemonRecord) -> bool:
    """Whether a daemon answers a question."""
    return _control(record.token, "get_server_list")


def stop(owner: str, tokens: list[str]) -> None:
    """Stop daemons, their servers with them, and remove their directories."""
    for token in tokens:
        _control(token, "quit")
    # A daemon detaches itself, so it is no session's leader, and no orphan either.
    processes.stop(owner, tokens, orphan_grace_s=processes.GRACE_S)
    for token in filter(has_folder, tokens):
        shutil.rmtree(pipe_folder(token), ignore_errors=True)


def _control(token: str, command: str) -> bool:
    program = shutil.which(PROGRAM)
    if program is None or not has_folder(token):
        return False
    environment = {**os.environ, **client_environment(token)}
    try:
        done = subprocess.run(  # noqa: S603
            [program],
            input=f"{command}\n",
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
