"""What the scripts that need a card share: the server's copy, the driver's version, and what still runs."""

import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from igniter_opt.deploy.backends.base import OWNER


def copy_server(folder: Path, triton: Path) -> Path:
    """Copy the server, with the backend's process for this interpreter's version."""
    shutil.copytree(triton, folder / "triton")
    root = folder / "triton/pytriton/tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = "triton_python_backend_stub"
    shutil.copy2(root / "python_backend_stubs" / version / stub, root / "backends/python" / stub)
    server = root / "bin/tritonserver"
    server.chmod(0o755)
    (root / "backends/python" / stub).chmod(0o755)
    return server


def driver() -> str:
    """Return the version of the NVIDIA driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()[0].strip()


def processes_of(owner: str) -> list[int]:
    """Return the ids of the processes on this machine that a deployment's owner started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(OWNER) == owner:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found
