"""Reading ncu's tables: time-weighted means per model and batch, and failures that say why."""

import stat
import sys
from pathlib import Path

import pytest

from igniter_opt import InputError
from igniter_opt.profiler.runners.counters import DRAM, L2, TIME, utilisation

HEADER = f'"ID","Process ID","Kernel Name","{TIME}","{L2}","{DRAM}"'
UNITS = '"","","","nsecond","%","%"'


def row(number: int, kernel: str, time: str, l2: float, dram: float) -> str:
    return f'"{number}","1","{kernel}","{time}","{l2}","{dram}"'


TABLE = "\n".join(
    [
        "==PROF== Connected to process 1",
        HEADER,
        UNITS,
        row(0, "spin_kernel(long)", "9", 0, 0),
        row(1, "conv", "1,000", 10, 40),
        row(2, "relu", "3,000", 50, 20),
        row(3, "spin_kernel(long)", "9", 0, 0),
        row(4, "conv", "2,000", 30, 5),
    ]
)


def write_ncu(folder: Path, output: str, code: int = 0) -> None:
    (folder / "out.txt").write_text(output)
    program = folder / "ncu"
    program.write_text(
        f"#!{sys.executable}\nprint(open({str(folder / 'out.txt')!r}).read())\nraise SystemExit({code})\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_kernels_between_markers_are_averaged_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write_ncu(tmp_path, TABLE)
    found = utilisation(["a"], [1, 8], "fp32", {})
    assert found == {("a", 1): (pytest.approx(40.0), pytest.approx(25.0)), ("a", 8): (30.0, 5.0)}


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (TABLE, "2 of 3 measured"),
        (
            "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters",
            "ERR_NVGPUCTRPERM",
        ),
    ],
)
def test_counters_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, says: str) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write_ncu(tmp_path, output, 1)
    with pytest.raises(InputError, match=says):
        utilisation(["a"], [1, 8, 32], "fp32", {})


def test_without_ncu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"ncu .* is not on PATH"):
        utilisation(["a"], [1], "fp32", {})
