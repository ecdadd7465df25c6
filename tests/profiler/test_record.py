"""Logs: what is not ours stays as it is, what was cut off is mended, and what is wrong is named."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from igniter_opt import InputError
from igniter_opt.data.profile import Profile
from igniter_opt.profiler.make import make_profile, profile_of_log
from igniter_opt.profiler.record import Log, read_log
from igniter_opt.profiler.runners.synthetic import SyntheticRunner
from tests.profiler.helpers import H100_COLOCATED, H100_PROFILE

HEAD: dict[str, Any] = {"kind": "profile", "precision": "fp32", "batches": [1, 4, 16], "shares": [10.0, 50.0, 100.0]}
LINE = json.dumps({"schema": "igniter-opt/profiling@1", **HEAD}) + "\n"
DATE = '{"key": "date", "value": "2026-01-01", "at_s": 0.0}'
READING = {"batches": 20, "wall_ms": 2.0, "wall_std_ms": 0.1, "wall_median_ms": 2.0, "gpu_ms": 1.9, "copy_ms": 0.1}
GROUP: dict[str, Any] = {
    "jobs": [{"model": "ssd", "batch": 1, "sms": 8}],
    "readings": [READING],
    "power_w": 100.0,
    "frequency_mhz": 1530.0,
    "tries": 1,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


@pytest.mark.parametrize(
    "content",
    [
        b"shopping list\nmilk\neggs",
        b'{"name": "theirs"}\n{"name": "also theirs"}\n{"cut": ',
        b"\x80\x81\n\xff\xfe\n\xfd",
        b"\n\nmilk",
        b"[1]\n[2",
        b"[" * 100_000 + b"\n1",
        LINE.replace("fp32", "fp16").encode() + DATE.encode() + b"\n" + b'{"key": "car',
        LINE.encode() + b"milk\n" + b'{"key": "car',
        LINE.encode() + DATE.encode() + b"\nmilk\n",
    ],
)
def test_a_file_that_is_not_this_session_s_log_stays_as_it_is(path: Path, content: bytes, v100: Profile) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"log\.jsonl"):
        Log(path, HEAD)
    with pytest.raises(InputError):
        make_profile(SyntheticRunner(v100), "p", ["ssd"], batches=[1, 4, 16], shares=[10.0, 50.0, 100.0], log=path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("rest", ['{"key": "car', DATE, DATE + "\n", ""])
def test_a_cut_off_line_is_removed_and_a_whole_one_ended_when_the_next_is_written(path: Path, rest: str) -> None:
    path.write_text(LINE + DATE + "\n" + rest)
    before = path.read_bytes()
    log = Log(path, HEAD)
    assert path.read_bytes() == before
    log.put("solo ssd 1 8", GROUP)
    log.put("solo ssd 1 8", GROUP)
    lines = path.read_text().splitlines()
    assert lines[:2] == [LINE.strip(), DATE]
    assert [json.loads(line)["key"] for line in lines[1:]] == ["date"] * (2 if DATE in rest else 1) + [
        "solo ssd 1 8"
    ] * 2
    assert path.read_text().endswith("\n")


def test_a_head_without_its_end_is_kept(path: Path) -> None:
    path.write_text(LINE.strip())
    Log(path, HEAD).put("date", "2026-01-01")
    assert [sorted(found) for found in read_log(path)][1] == ["at_s", "key", "value"]
    assert path.read_text().startswith(LINE)


def test_a_log_that_another_program_changes_meanwhile_is_left_alone(path: Path) -> None:
    path.write_text(LINE + '{"key": "car')
    log = Log(path, HEAD)
    path.write_text("milk\neggs")
    with pytest.raises(InputError, match="was changed by another program"):
        log.put("date", "2026-01-01")
    assert path.read_text() == "milk\neggs"


def test_an_empty_file_becomes_a_log_but_holds_no_profile(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is empty; not a file of measurements"):
        profile_of_log(path, "p")
    assert path.read_bytes() == b""
    Log(path, HEAD)
    assert path.read_text() == LINE


@pytest.mark.parametrize("rest", ['{"key": "car', DATE])
def test_building_never_writes(path: Path, rest: str) -> None:
    whole = H100_PROFILE.read_bytes()
    path.write_bytes(whole + rest.encode())
    assert profile_of_log(path, "h100").hardware.sm_count == 132
    assert path.read_bytes() == whole + rest.encode()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"precision": None}, "line 1: precision: this key is required and missing"),
        ({"batches": None}, "line 1: batches: this key is required and missing"),
        ({"shares": None}, "line 1: shares: this key is required and missing"),
        ({"precision": "fp8"}, "line 1: precision: must be one of fp32, tf32, fp16; found 'fp8'"),
        ({"batches": "1,2"}, "line 1: batches: must be a list; found '1,2'"),
        ({"batches": [1, 2.5, 3]}, r"line 1: batches\[1\]: must be a whole number; found 2.5"),
        ({"shares": [10, "x"]}, r"line 1: shares\[1\]: must be a number; found 'x'"),
        ({"kind": "co-locations"}, "line 1: models: this key is required and missing"),
        ({"kind": None}, "line 1: kind: this key is required and missing"),
        ({"batches": [4, 1, 16]}, "batches: give at least three, ascending"),
        ({"schema": "igniter-opt/profiling@2"}, "line 1: not a file of measurements"),
    ],
)
def test_heads_that_are_wrong_are_named(path: Path, change: dict[str, Any], says: str) -> None:
    lines = H100_PROFILE.read_text().splitlines()
    head = {key: value for key, value in {**json.loads(lines[0]), **change}.items() if value is not None}
    path.write_text("\n".join([json.dumps(head), *lines[1:]]) + "\n")
    with pytest.raises(InputError, match=says):
        profile_of_log(path, "p")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ([], "not a measurement"),
        ({"value": 1}, "not a measurement"),
        ({"key": 3, "value": 1}, "not a measurement"),
        ({"key": "date"}, "value: this key is required and missing"),
        ({"key": "date", "value": 3}, "value: must be text; found 3"),
        ({"key": "weather", "value": 3}, "unknown kind of measurement 'weather'"),
        ({"key": "card", "value": 3}, "value: must be a mapping"),
        ({"key": "card", "value": {"name": "x"}}, "value.driver: this key is required"),
        ({"key": "facts ssd", "value": {"kernels": 0}}, "value.kernels: must be at least 1; found 0"),
        ({"key": "counters ssd", "value": [{"batch": 1, "l2_percent": 3}]}, "dram_percent: this key is required"),
        ({"key": "solo ssd 1 8", "value": {**GROUP, "readings": []}}, "jobs and readings must have equal lengths"),
        ({"key": "solo ssd 1 8", "value": {**GROUP, "power_w": float("nan")}}, "power_w: must be a finite number"),
        (
            {"key": "solo ssd 1 8", "value": {**GROUP, "readings": [{**READING, "wall_ms": -1}]}},
            r"value.readings\[0\].wall_ms: must be greater than 0; found -1",
        ),
        ({"key": "solo ssd 1 16", "value": GROUP}, "the jobs are not those of its key 'solo ssd 1 16'"),
        ({"key": "alone ssd 2 8", "value": GROUP}, "the jobs are not those of its key"),
        ({"key": "probe ssd 2", "value": GROUP}, "the jobs are not those of its key"),
        ({"key": "coexecution 2", "value": GROUP}, "the jobs are not those of its key"),
        ({"key": "group x", "value": GROUP}, "the jobs are not those of its key"),
    ],
)
def test_entries_that_are_wrong_are_named_and_never_written(path: Path, entry: Any, says: str) -> None:
    path.write_text(LINE + json.dumps(entry) + "\n")
    for read in (lambda: Log(path, HEAD), lambda: profile_of_log(path, "p")):
        with pytest.raises(InputError, match=says) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: line 2: ")
    if isinstance(entry, dict) and isinstance(entry.get("key"), str) and "value" in entry:
        log = Log(path.with_name("new.jsonl"), HEAD)
        with pytest.raises(InputError, match=says):
            log.put(entry["key"], entry["value"])
        assert path.with_name("new.jsonl").read_text() == LINE
        assert not log.entries


def test_a_log_without_a_model_holds_no_profile(path: Path) -> None:
    path.write_text(LINE + DATE + "\n")
    with pytest.raises(InputError, match="holds no measurement of a model"):
        profile_of_log(path, "p")
    with pytest.raises(InputError, match="not a log that `profile measure --resume` wrote"):
        profile_of_log(H100_COLOCATED, "p")


def test_models_in_folders_with_spaces_are_found_again(path: Path) -> None:
    path.write_text(H100_PROFILE.read_text().replace("alexnet", "mine=my nets 2/a 1.pt"))
    made = profile_of_log(path, "h100").models
    assert made["mine"].source == "my nets 2/a 1.pt"
    assert made["mine"].model_copy(update={"source": None}) == profile_of_log(H100_PROFILE, "h100").models["alexnet"]


@pytest.mark.parametrize("name", ["folder", "pipe"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    if name == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    with pytest.raises(InputError, match="is not a regular file"):
        Log(place, HEAD)


@pytest.mark.parametrize("crowded", [{}, {"crowded": 3}])
def test_logs_of_co_locations_are_gone_on_with(path: Path, crowded: dict[str, int]) -> None:
    head: dict[str, Any] = {
        "kind": "co-locations",
        "precision": "fp32",
        "models": ["ssd"],
        "pairs": 0,
        "larger": 2,
        **crowded,
    }
    Log(path, {**head, "seed": 1}).put("group 0", GROUP)
    assert list(Log(path, {**head, "seed": 1}).entries) == ["group 0"]
    with pytest.raises(InputError, match="another seed"):
        Log(path, {**head, "seed": 2})
    if crowded:
        del head["crowded"]
        with pytest.raises(InputError, match=r"another crowded \(3, not nothing\)"):
            Log(path, {**head, "seed": 1})
