"""Compiled code is cached on disk, also by several processes at once, and does not depend on threads."""

import errno
import importlib.util
import os
import pickle
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
from igniter_opt.base.compiled import _MAGIC, _is_folder_ours, _ReadableFolder, _sealed, compiled
from igniter_opt.problem.dominance import undominated_rows
from tests.cli.helpers import SCRIPT

WAIT_S = 400.0
STRANGER = 54321


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
    _is_folder_ours.cache_clear()
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


class Forged:
    """Pickled, what leaves a file behind when it is read."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self._trace,)


def forge(path: Path, trace: Path) -> None:
    """Put other code in the place of a function's, with all seals: nothing in them is secret."""
    made_from = path.read_bytes()[len(_MAGIC) :][:32]
    path.write_bytes(_sealed(pickle.dumps(Forged(trace)), made_from))


def given_away(path: Path) -> None:
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


def linked_by_a_stranger(path: Path) -> None:
    there = path.replace(path.parent / "elsewhere")
    path.symlink_to(there)
    given_away(path)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@pytest.mark.parametrize(
    "opened",
    [
        lambda path: path.parent.chmod(0o777),
        lambda path: path.parent.parent.chmod(0o777),
        lambda path: path.parent.parent.parent.chmod(0o777),
        pytest.param(lambda path: given_away(path.parent), marks=as_root),
        pytest.param(lambda path: given_away(path.parent.parent), marks=as_root),
    ],
)
def test_code_from_a_folder_that_others_can_change_is_not_run(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, opened: Callable[[Path], None]
) -> None:
    assert run_anew() == 0
    path = code_file(cache)
    forge(path, tmp_path / "ran")
    forged = path.read_bytes()
    opened(path)
    assert [run_anew(), run_anew()] == [0, 0]
    assert not (tmp_path / "ran").exists()
    (said,) = caplog.messages
    assert said.startswith("note: compiled code is not kept where others could change it, so that every run compiles")
    assert "set NUMBA_CACHE_DIR to a folder that is yours alone" in said
    assert path.read_bytes() == forged  # what may be another's is left alone


@pytest.mark.parametrize(
    "opened",
    [
        lambda path: path.chmod(0o666),
        pytest.param(given_away, marks=as_root),
        pytest.param(linked_by_a_stranger, marks=as_root),
    ],
)
def test_code_that_others_could_have_changed_is_not_run_and_replaced(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, opened: Callable[[Path], None]
) -> None:
    """As is left in a folder from before it was ours alone."""
    assert run_anew() == 0
    forge(code_file(cache), tmp_path / "ran")
    opened(code_file(cache))
    assert run_anew() == 0
    assert not (tmp_path / "ran").exists()
    (said,) = caplog.messages
    assert said.startswith("note: compiled code that others could have changed is not used, and compiled anew")
    assert run_anew() == 1


def test_code_in_an_image_is_used_as_it_is(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of root or whoever installed it, and for all to read."""
    assert run_anew() == 0
    for path in (*cache.rglob("*"), cache):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert run_anew() == 1
    assert caplog.messages == []


@as_root
def test_code_of_the_sources_owner_is_used(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in an environment that one user makes for others: that user's source runs in any case."""
    function = scratch(tmp_path, "theirs", "def one_more(number):\n    return number + 1\n", monkeypatch).one_more
    assert [run_anew(function), run_anew(function)] == [0, 1]
    for path in (*cache.rglob("*"), cache, tmp_path / "theirs.py"):
        given_away(path)
    assert run_anew(function) == 1
    assert caplog.messages == []


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
    monkeypatch.setattr("igniter_opt.base.compiled._CacheImplementation._locator_classes", [_ReadableFolder])
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

    def meanwhile(path: Path, content: bytes, **how: bool) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(write, original)
            assert second(0.5) == 1.5  # type: ignore[arg-type]
        original(path, content, **how)

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
