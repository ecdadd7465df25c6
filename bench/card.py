"""What the scripts that need a card share: the server's copy and the driver's version."""

import shutil
import subprocess
import sys
from pathlib import Path


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
