"""A stand-in for ``nvidia-cuda-mps-control``: a daemon per pipe directory, which answers and can be asked to quit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

pipes = Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
pid_file = pipes / "nvidia-cuda-mps-control.pid"

if "-d" in sys.argv[1:]:
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "GPU-broken":
        print("Cannot find MPS control daemon process", file=sys.stderr)
        sys.exit(1)
    daemon = subprocess.Popen(
        ["sleep", "1000"],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    pid_file.write_text(str(daemon.pid))
    sys.exit(0)

command = sys.stdin.read().strip()
try:
    pid = int(pid_file.read_text())
    os.kill(pid, 0)
except (OSError, ValueError):
    print(f"Cannot find MPS control daemon process for {command}", file=sys.stderr)
    sys.exit(1)
if command == "quit":
    os.kill(pid, signal.SIGTERM)
