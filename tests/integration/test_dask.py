"""Sweeps on a Dask cluster of this machine: the same rows as without one, whatever becomes of a worker."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from igniter_opt import InputError, whatif
from tests.cli.helpers import invoke
from tests.integration.conftest import missing

VARY = ["slo=0.8:1.4:4", "rate=0.7:1.1:3"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    try:
        from distributed import LocalCluster
    except ImportError:
        missing("no distributed (pip install '.[dask]')")
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs="CRITICAL"
    ) as found:
        yield found


def test_rows_are_those_of_one_process_even_if_a_worker_is_killed_half_way(cluster: Any) -> None:
    killed: list[int] = []

    def kill_one(done: int, _: int) -> None:
        # A worker at work: the second round has begun, and half of it is open.
        if done >= 6 and not killed:
            pid = next(iter(cluster.workers.values())).pid
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    address = cluster.scheduler_address
    sweep = whatif("igniter-table3", VARY, engine="dask", scheduler=address, on_progress=kill_one)
    assert killed
    assert all(point.proven for point in sweep.points)
    assert sweep.to_csv() == whatif("igniter-table3", VARY, workers=1).to_csv()


def test_the_command_takes_a_scheduler(cluster: Any) -> None:
    asked = ("whatif", "igniter-motivation", "--vary", "slo=1,2", "--json")
    run = invoke(*asked, "--engine", "dask", "--scheduler", cluster.scheduler_address)
    assert (run.code, run.json()) == (0, invoke(*asked, "--workers", "1").json())


def test_what_is_wrong_with_a_cluster_is_said(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from igniter_opt.sweeps import dask_engine

    address = cluster.scheduler_address
    with pytest.raises(InputError, match="--workers is for the engine local"):
        whatif("igniter-motivation", "slo=1,2", engine="dask", scheduler=address, workers=2)
    monkeypatch.setattr(dask_engine, "version", lambda _: "0.0.0")
    with pytest.raises(InputError, match=r"its workers have igniter-opt .*, this is 0\.0\.0; install the same"):
        whatif("igniter-motivation", "slo=1,2", engine="dask", scheduler=address)
    monkeypatch.setattr(dask_engine, "_CONNECT_S", 0.5)
    with pytest.raises(InputError, match="no Dask scheduler answers there"):
        whatif("igniter-motivation", "slo=1,2", engine="dask", scheduler="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="no Dask scheduler answers there"):
        whatif("igniter-motivation", "slo=1,2", engine="dask", scheduler="nowhere at all")
