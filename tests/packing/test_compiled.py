"""Compiled code is cached on disk, also by several processes at once, and does not depend on threads."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from igniter_opt.packing.compiled import compiled
from tests.cli.helpers import SCRIPT

WAIT_S = 400.0


def start(folder: Path, name: str, cache: Path, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [SCRIPT, "solve", "igniter-table3", "--method", "patterns", "--time-limit", "1000", "-o", f"{name}.json"],
        cwd=folder,
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), **environment},
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_same_plan_while_two_fill_a_fresh_cache_and_after(tmp_path: Path) -> None:
    """One test for all of it: compilation takes most of a minute."""
    cache = tmp_path / "cache"
    together = [start(tmp_path, f"together-{k}", cache, PYTHONHASHSEED=str(k)) for k in range(2)]
    assert [process.wait(timeout=WAIT_S) for process in together] == [0, 0]
    assert list(cache.rglob("*.nbi"))
    for name, environment in (("cached", {}), ("one-thread", {"NUMBA_NUM_THREADS": "1"})):
        assert start(tmp_path, name, cache, **environment).wait(timeout=WAIT_S) == 0
    plans = {
        re.sub(r'"runtime_s": [\d.e-]+', '"runtime_s": 0', path.read_text()) for path in sorted(tmp_path.glob("*.json"))
    }
    assert len(list(tmp_path.glob("*.json"))) == 4
    assert len(plans) == 1


def test_machine_code_stays_out_of_an_installed_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What pip does not know it leaves behind, and a folder of the package's name hides a later installation."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    made = compiled(_one_more)
    assert made(1) == 2
    assert list((tmp_path / "var" / "cache" / "igniter-opt").rglob("*.nbi"))
    assert numba.config.CACHE_DIR == ""


def _one_more(number: int) -> int:
    return number + 1
