"""Compiled code is cached on disk, also by several processes at once, and does not depend on threads."""

import errno
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import pytest

from igniter_opt.base import compilation
from igniter_opt.base.compiled import compiled
from igniter_opt.problem.dominance import undominated_rows
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
    assert list(cache.rglob("*.nbc"))
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
    assert list((tmp_path / "var" / "cache" / "igniter-opt").rglob("*.nbc"))
    assert numba.config.CACHE_DIR == ""


def _one_more(number: int) -> int:
    return number + 1


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, with nothing said about it yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compilation._Work, "said", set())
    return tmp_path / "cache"


def run_anew(function: Callable[[int], int] = _one_more) -> int:
    """Compile or load a function as a new process would; return how many were loaded from the cache."""
    made: Any = compiled(function)
    assert made(1) == 2
    return len(made.stats.cache_hits)


def code_file(cache: Path) -> Path:
    (path,) = cache.rglob("*_one_more*.nbc")
    return path


def flipped(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 0x10
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:1],
        lambda content: content[:60],
        lambda content: content[:100],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: flipped(content, 3),
        lambda content: flipped(content, 70),
        lambda content: flipped(content, len(content) // 2),
        lambda content: flipped(content, -1),
        lambda content: os.urandom(len(content)),
        lambda content: b"\0" * len(content),
    ],
)
def test_damaged_code_is_compiled_anew_and_mended(
    cache: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    assert run_anew() == 0
    assert run_anew() == 1
    assert caplog.messages == []
    whole = code_file(cache).read_bytes()
    for path in cache.rglob("*.nb*"):  # whatever files there are
        path.write_bytes(damage(path.read_bytes()))
    assert run_anew() == 0
    assert caplog.messages == [f"note: compiled code in {code_file(cache).parent} is damaged and compiled anew"]
    assert len(code_file(cache).read_bytes()) == len(whole)
    assert run_anew() == 1


def test_a_folder_in_the_place_of_code_is_left_alone(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run_anew() == 0
    path = code_file(cache)
    path.unlink()
    path.mkdir()
    (path / "mine").touch()
    assert [run_anew(), run_anew()] == [0, 0]
    assert (path / "mine").exists()
    assert len(caplog.messages) == 2
    assert "is damaged and compiled anew" in caplog.messages[0]
    assert f"({path}: is a folder" in caplog.messages[1]


def test_code_that_cannot_be_read_is_compiled_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where permissions do not keep the user of these tests out."""
    assert run_anew() == 0

    def refuse(path: Path) -> bytes:
        if path.suffix == ".nbc":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    read = Path.read_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        assert run_anew() == 0
    assert run_anew() == 1


def test_a_full_disk_is_said_once_and_costs_no_result(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("igniter_opt.base.files.os.fsync", full)
        assert [run_anew(), run_anew()] == [0, 0]
    assert len(caplog.messages) == 1
    assert f"({cache}" in caplog.messages[0]
    assert "No space left on device" in caplog.messages[0]
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert [run_anew(), run_anew()] == [0, 1]


def test_without_any_place_for_a_cache_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(compilation._Work, "said", set())
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [numba.core.caching.UserProvidedCacheLocator])
    assert run_anew() == 0
    assert len(caplog.messages) == 1
    assert f"({tmp_path / 'file' / 'cache'}: cannot be written)" in caplog.messages[0]


def scratch(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a module written just now."""
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


CALLER = """
from igniter_opt.base.compiled import compiled
from callee import STEP, step

@compiled
def caller(number):
    return step(number) + STEP
"""
CALLEE = """
from igniter_opt.base.compiled import compiled
STEP = 1

@compiled
def step(number):
    return number + 10
"""


@pytest.mark.parametrize("how", ["compiled", "compilable"])
@pytest.mark.parametrize(("old", "new", "answer"), [("+ 10", "+ 20", 21), ("STEP = 1", "STEP = 2", 12)])
def test_code_of_a_changed_callee_is_not_taken(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, answer: int, how: str
) -> None:
    """Compiled code holds what it calls, and constants; an upgrade may change one module only."""
    # Python's own bytecode knows sources by size and second.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    answers = []
    for callee in (CALLEE.replace("compiled", how), CALLEE.replace(old, new).replace("compiled", how)):
        scratch(tmp_path, "callee", callee, monkeypatch)
        answers.append(scratch(tmp_path, "caller", CALLER, monkeypatch).caller(0))
    assert answers == [11, answer]


def test_code_for_one_signature_is_never_that_for_another(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when two processes compile one function for different arguments at once: neither file is the other's."""
    first, second = (compiled(_one_more) for _ in range(2))
    write = "igniter_opt.base.compiled.write_bytes_atomically"
    original: Any = sys.modules["igniter_opt.base.compiled"].write_bytes_atomically

    def meanwhile(path: Path, content: bytes) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(write, original)
            assert second(0.5) == 1.5  # type: ignore[arg-type]
        original(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(write, meanwhile)
        assert first(1) == 2
    third: Any = compiled(_one_more)
    assert (third(1), third(0.5)) == (2, 1.5)
    assert len(third.stats.cache_hits) == 2


def test_two_processes_at_once_on_an_empty_cache(cache: Path, tmp_path: Path) -> None:
    program = "import sys; from tests.packing.test_compiled import run_anew; print(run_anew())"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", program]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=WAIT_S)[0] for process in running]
    assert set(said) <= {"0\n", "1\n"}
    assert subprocess.check_output(command, env=environment, text=True) == "1\n"


def test_the_command_mends_a_damaged_cache(tmp_path: Path) -> None:
    """The cache of this environment, with the code of one function cut off."""
    solve = [SCRIPT, "solve", "igniter-motivation", "--method", "patterns", "--json"]
    subprocess.run(solve, check=True, capture_output=True, timeout=WAIT_S)
    warm: Any = undominated_rows
    folder = Path(warm._cache.cache_path)
    shutil.copytree(folder.parent, tmp_path / "cache")
    damaged = list((tmp_path / "cache" / folder.name).glob("dominance.*.nb*"))
    assert damaged
    for path in damaged:
        path.write_bytes(path.read_bytes()[:150])
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    said = []
    for _ in range(2):
        done = subprocess.run(solve, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done.stderr)
    assert said == [f"note: compiled code in {damaged[0].parent} is damaged and compiled anew\n", ""]
