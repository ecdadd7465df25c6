"""NVIDIA's load client, the independent witness: fetched from the wheel that carries it."""

import csv
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from igniter_opt.deploy.triton.install import Installation

WHEEL = "tritonclient==2.51.0"  # later ones carry no such binary, or need a newer C library
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


class Report(NamedTuple):
    """What it measured: req/s and ms."""

    throughput_rps: float
    p50_ms: float
    p99_ms: float


class PerfAnalyzer:
    """The program, and the libraries that it needs from the server's wheel."""

    def __init__(self, folder: Path, triton: Installation) -> None:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*pip, "--platform", "manylinux1_x86_64", "--dest", str(folder), WHEEL], check=True)
        with zipfile.ZipFile(next(folder.glob("tritonclient-*.whl"))) as wheel:
            (inner,) = (name for name in wheel.namelist() if name.endswith("/bin/perf_analyzer"))
            self.program = Path(wheel.extract(inner, folder))
        self.program.chmod(0o755)
        self.libraries = folder / "lib"
        self.libraries.mkdir()
        packed = triton.server.parents[3] / "nvidia_pytriton.libs"
        for name, pattern in LIBRARIES.items():
            (self.libraries / name).symlink_to(next(packed.glob(pattern)))
        self.folder = folder

    def run(self, authority: str, model: str, times_s: Sequence[float], period_s: float) -> Report:
        """Send requests at these times after every multiple of the period, open loop, until three windows agree."""
        ends = np.round(1e6 * np.array([*times_s[1:], period_s + times_s[0]])).astype(int)
        intervals, path = self.folder / "intervals", self.folder / "report.csv"
        intervals.write_text("\n".join(map(str, np.diff(ends, prepend=round(1e6 * times_s[0])))) + "\n")
        path.unlink(missing_ok=True)
        command = [str(self.program), "-m", model, "-u", authority, "-i", "grpc", "--async", "--percentile", "99"]
        command += ["--request-intervals", str(intervals), "--measurement-interval", str(round(1000 * period_s))]
        command += ["--stability-percentage", "15", "-f", str(path)]
        done = subprocess.run(
            command,
            env={"LD_LIBRARY_PATH": str(self.libraries)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert path.exists(), done.stdout + done.stderr
        with path.open() as file:
            (row,) = csv.DictReader(file)
        return Report(
            float(row["Inferences/Second"]), float(row["p50 latency"]) / 1000, float(row["p99 latency"]) / 1000
        )
