"""What comes from elsewhere opens no file, however it names one."""

import base64
import hashlib
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.data.instance_files import instance_from_data, shipped_instance
from igniter_opt.data.named_files import FilesIn, NoFiles
from igniter_opt.data.plan import plan_from_data

OPENED: list[str] = []
WATCHED = [False]


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHED[0] and event == "open":
        OPENED.append(str(arguments[0]))


sys.addaudithook(_note)


def instance(**changes: Any) -> dict[str, Any]:
    workload = {"name": "a", "model": "alexnet", "slo_ms": 20, "rate_rps": 100}
    types = [{"name": "V100", "profile": "v100", "price_per_hour": 3.06}]
    return {"name": "mine", "slo_rule": "p99", "gpu_types": types, "workloads": [workload], **changes}


def stream(requests: int) -> dict[str, Any]:
    gaps = np.full(requests - 1, 10**7, dtype="<i8").tobytes()
    packed = base64.b64encode(zlib.compress(gaps)).decode()
    digest = hashlib.sha256(gaps).hexdigest()[:32]
    return {"requests": requests, "rate_rps": 100.0, "digest": digest, "gaps_ns": packed}


def trace(path: Path, **changes: Any) -> dict[str, Any]:
    return {"kind": "trace", "recorded": {"source": str(path), "streams": {"": {**stream(2000), **changes}}}}


def ways(path: Path) -> dict[str, dict[str, Any]]:
    """Instances that name a file in every place where one may."""
    types = instance()["gpu_types"]
    workload = instance()["workloads"][0]
    by_file = {"kind": "trace", "file": str(path)}
    return {
        "profile": instance(gpu_types=[{**types[0], "profile": str(path)}]),
        "arrivals": instance(arrivals=by_file),
        "a workload's arrivals": instance(workloads=[{**workload, "arrivals": by_file}]),
        "arrivals beside what is no list": instance(arrivals=by_file, workloads="x"),
        "recorded elsewhere": instance(arrivals=trace(path, gaps_ns=None)),
        "too many to carry": instance(arrivals=trace(path, requests=100_001)),
    }


@pytest.mark.parametrize("way", list(ways(Path())))
def test_no_file_is_opened(tmp_path: Path, way: str) -> None:
    path = tmp_path / "canary"
    path.write_text("timestamp\n0\n1\n2\n")
    data = ways(path)[way]
    OPENED.clear()
    WATCHED[0] = True
    try:
        with pytest.raises(ig.InputError, match="cannot be named by a file here"):
            instance_from_data(data, "instance", NoFiles())
    finally:
        WATCHED[0] = False
    assert not [name for name in OPENED if "canary" in name]


def test_the_watch_sees_what_is_opened(tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("timestamp\n0\n1\n2\n")
    OPENED.clear()
    WATCHED[0] = True
    try:
        with pytest.raises(ig.InputError, match="too few"):
            instance_from_data(ways(Path("canary"))["arrivals"], "instance", FilesIn(tmp_path))
    finally:
        WATCHED[0] = False
    assert str(tmp_path / "canary") in OPENED


def test_a_plan_names_no_file(tmp_path: Path) -> None:
    data = ig.solve("igniter-motivation", "igniter").plan.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert plan_from_data(data, "plan", NoFiles()).instance.name == "igniter-motivation"
    inner = {**data["instance"], "arrivals": {"kind": "trace", "file": str(tmp_path / "canary")}}
    with pytest.raises(ig.InputError, match="cannot be named by a file here"):
        plan_from_data({**data, "instance": inner}, "plan", NoFiles())
    inner = {**data["instance"], "gpu_types": [{**data["instance"]["gpu_types"][0], "profile": "v100"}]}
    with pytest.raises(ig.InputError, match="must be a mapping"):
        plan_from_data({**data, "instance": inner}, "plan", NoFiles())


def test_what_is_carried_along_is_taken_within_limits(tmp_path: Path) -> None:
    few = instance_from_data(instance(arrivals=trace(tmp_path)), "instance", NoFiles())
    assert few.arrivals is not None
    assert few.arrivals.recorded is not None
    workload = instance()["workloads"][0]
    several = [{**workload, "name": f"w{k}", "arrivals": trace(tmp_path)} for k in range(3)]
    with pytest.raises(ig.InputError, match="more than 5,000 recorded requests in all"):
        instance_from_data(instance(workloads=several), "instance", NoFiles(most_requests=5_000))
    with pytest.raises(ig.InputError, match="damaged"):  # more packed than is said
        instance_from_data(instance(arrivals=trace(tmp_path, requests=1_000)), "instance", NoFiles())


def test_shipped_names_are_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("igniter-table3").write_text("name: theirs")
    assert shipped_instance("igniter-table3").name == "igniter-table3"
    Path("mine.yaml").write_text("name: mine")
    with pytest.raises(ig.InputError, match=r"no instance of the name 'mine\.yaml' is shipped"):
        shipped_instance("mine.yaml")
