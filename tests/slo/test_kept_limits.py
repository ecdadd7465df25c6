"""Limits are kept on disk to the last bit, made once by threads that want the same, and never taken from a bad file."""

import base64
import hashlib
import json
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from igniter_opt import read_instance, read_profile
from igniter_opt.base import compilation
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.recorded import Recorded, RecordedStream
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.problem.configurations import Problem
from igniter_opt.slo import kept_limits
from igniter_opt.slo.kept_limits import Asked, asked, forget, keep, limits
from igniter_opt.slo.percentile import percentile_limits
from igniter_opt.slo.streams.stream import Source

V100 = fit_coefficients(read_profile("v100"))
MODEL = V100.models["alexnet"]
SHAPE = (MODEL.max_batch, V100.hardware.share_levels)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kept_limits, "cache_folders", lambda: [tmp_path])
    monkeypatch.setattr(compilation._Work, "said", set())
    forget()
    return tmp_path / "limits"


def wanted(**changed: Any) -> Asked:
    values = {"source": None, "rate_rps": 100.0, "model": MODEL, "hardware": V100.hardware}
    return asked(**(values | {"slo_ms": 20.0, "percentile": 0.99, "margin": 0.0} | changed))


class Maker:
    """Makes tables and counts them."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> np.ndarray:
        self.made += 1
        return np.random.default_rng(self.made).random(SHAPE) * (np.arange(SHAPE[1]) > 3)


def test_what_is_kept_reads_back_to_the_last_bit(folder: Path) -> None:
    make = Maker()
    first = limits(wanted(), make)
    other = limits(wanted(rate_rps=50.0), make)
    keep()
    assert len(list(folder.iterdir())) == 1
    assert limits(wanted(), make).tobytes() == first.tobytes()
    assert limits(wanted(rate_rps=50.0), make).tobytes() == other.tobytes()
    assert make.made == 2
    assert not limits(wanted(), make).flags.writeable


OTHERS: dict[str, dict[str, Any]] = {
    "rate": {"rate_rps": np.nextafter(100.0, 0.0)},
    "SLO": {"slo_ms": 21.0},
    "percentile": {"percentile": 0.95},
    "margin": {"margin": 0.1},
    "model": {"model": replace(MODEL, kernels=MODEL.kernels + 1)},
    "card": {"hardware": replace(V100.hardware, idle_power_w=50.0)},
    "arrivals": {"source": Source(Arrivals("gamma", burstiness=4.0), "", 100.0, 1.0)},
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_content_is_another_table(what: str) -> None:
    make = Maker()
    limits(wanted(), make)
    limits(wanted(**OTHERS[what]), make)
    keep()
    limits(wanted(), make)
    limits(wanted(**OTHERS[what]), make)
    assert make.made == 2


def recorded(digest: str) -> Arrivals:
    stream = RecordedStream(3, 100.0, digest, np.zeros(3))
    return Arrivals("trace", recorded=Recorded("requests.csv", (("W", stream),)))


def test_sources_differ_by_all_that_matters() -> None:
    first = Source(Arrivals("gamma", burstiness=4.0), "", 100.0, 0.5)
    sources = [
        first,
        replace(first, part=0.25),
        replace(first, rate_rps=50.0),
        replace(first, split="round-robin"),
        replace(first, arrivals=Arrivals("gamma", burstiness=5.0)),
        replace(first, arrivals=Arrivals("mmpp")),
        replace(first, arrivals=recorded("a"), workload="W"),
        replace(first, arrivals=recorded("b"), workload="W"),
    ]
    found = {(entry.content, entry.key) for entry in (wanted(source=source) for source in sources)}
    assert len(found) == len(sources)


def test_other_code_makes_them_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker()
    limits(wanted(), make)
    keep()
    monkeypatch.setattr(kept_limits, "_code", lambda: b"of another version")
    limits(wanted(), make)
    assert make.made == 2


def test_the_code_that_makes_limits_is_in_the_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read: list[Path] = []

    def noted(packages: Any, sources: Any) -> bytes:
        read.extend(sources)
        return b""

    monkeypatch.setattr(kept_limits, "code_digest", noted)
    kept_limits._code.__wrapped__()
    names = {path.name for path in read}
    assert {"percentile.py", "limit_search.py", "sampled.py", "interference.py", "rows.py", "arrivals.py"} <= names


def sealed(text: str) -> str:
    return f"{kept_limits._MAGIC}\n{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n"


def packed(table: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(table.astype("<f8").tobytes())).decode()


def entry(table: np.ndarray, key: Any = (20.0, 100.0)) -> str:
    return sealed(json.dumps([[list(key) if isinstance(key, tuple) else key, packed(table)]]))


DAMAGE: dict[str, Callable[[str], str]] = {
    "empty": lambda text: "",
    "a part": lambda text: text[: len(text) // 2],
    "one sign": lambda text: text[:-4] + "x" + text[-3:],
    "another magic": lambda text: text.replace("p99 1", "p99 0", 1),
    "not JSON": lambda text: sealed("{"),
    "too deep": lambda text: sealed("[" * 100_000),
    "no list": lambda text: sealed("{}"),
    "no pairs": lambda text: sealed("[1]"),
    "key of text": lambda text: entry(np.ones(SHAPE), ("20", 100.0)),
    "a key that is none": lambda text: entry(np.ones(SHAPE), 20.0),
    "too few numbers": lambda text: entry(np.ones((SHAPE[0], SHAPE[1] - 1))),
    "too many numbers": lambda text: entry(np.ones((SHAPE[0] + 1, SHAPE[1]))),
    "a negative limit": lambda text: entry(-np.ones(SHAPE)),
    "no number": lambda text: entry(np.full(SHAPE, np.nan)),
    "infinite": lambda text: entry(np.full(SHAPE, np.inf)),
    "not packed": lambda text: sealed(json.dumps([[[20.0, 100.0], "AAAA"]])),
    "not base64": lambda text: sealed(json.dumps([[[20.0, 100.0], "§"]])),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_made_anew_and_said(kind: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    make = Maker()
    limits(wanted(), make)
    keep()
    (file,) = folder.iterdir()
    text = file.read_text()
    file.write_text(DAMAGE[kind](text))
    assert file.read_text() != text
    limits(wanted(), make)
    assert make.made == 2
    assert caplog.messages == [f"note: the kept limits of rule p99 in {file} are damaged and made anew"]
    keep()
    limits(wanted(), make)
    assert make.made == 2


def test_what_others_can_change_is_not_used(folder: Path) -> None:
    make = Maker()
    limits(wanted(), make)
    keep()
    (file,) = folder.iterdir()
    file.chmod(0o666)
    limits(wanted(), make)
    assert make.made == 2


def test_threads_that_want_the_same_make_it_once() -> None:
    make, begun = Maker(), threading.Barrier(4)

    def want(_: int) -> bytes:
        begun.wait()
        return limits(wanted(), make).tobytes()

    with ThreadPoolExecutor(4) as workers:
        found = set(workers.map(want, range(4)))
    assert (len(found), make.made) == (1, 1)


def test_a_failure_is_no_table_and_others_try_themselves() -> None:
    def fail() -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        limits(wanted(), fail)
    make = Maker()
    limits(wanted(), make)
    assert make.made == 1


def test_two_processes_add_to_one_file(folder: Path) -> None:
    make = Maker()
    limits(wanted(), make)
    keep()
    limits(wanted(rate_rps=50.0), make)
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    forget()  # what another process, which knows the first alone, is about to write
    limits(wanted(rate_rps=25.0), make)
    keep()
    for name, content in written.items():
        assert (folder / name).read_bytes() != content
    limits(wanted(), make)
    limits(wanted(rate_rps=25.0), make)
    assert make.made == 3


def test_a_second_solve_makes_no_limits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = read_instance("igniter-motivation").with_options("p99", 2)

    def tables() -> list[bytes]:
        percentile_limits.cache_clear()
        problem = Problem(instance)
        assert list(problem.limits_at_once())[-1] == len(instance.workloads)
        return [problem.limits_ms(k, 0, w.rate_rps).tobytes() for k, w in enumerate(instance.workloads)]

    first = tables()
    assert list(folder.iterdir())
    percentile_limits.cache_clear()
    forget()
    monkeypatch.setattr("igniter_opt.slo.percentile.search_poisson", None)
    assert tables() == first
