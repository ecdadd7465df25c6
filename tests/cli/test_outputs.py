"""Outputs replace files of their own kind and empty ones, and nobody's other files."""

import json
from pathlib import Path

import pytest

from igniter_opt.base import kinds
from igniter_opt.data.profile import profile_json, read_profile
from igniter_opt.data.verdict import Verdict
from igniter_opt.measure.feed import FeedLine, FeedWriter
from igniter_opt.measure.results import Measurement, write_measurement
from igniter_opt.rehearse.results import Rehearsal, write_rehearsal
from tests.cli.helpers import invoke, rejected
from tests.measure.test_results import HEAD, records
from tests.measure.test_results import statistics as measured
from tests.profiler.helpers import use_made_up_card

COMMANDS = [
    ("a plan", ("solve", "igniter-three", "--method", "igniter", "-o")),
    ("a log of igniter-opt", ("solve", "igniter-three", "--method", "igniter", "--log")),
    ("a history", ("solve", "igniter-three", "--method", "igniter", "--history")),
    ("a model", ("solve", "igniter-three", "--method", "patterns", "--write-model")),
    ("a picture", ("solve", "igniter-three", "--method", "igniter", "--plot")),
    ("a comparison", ("compare", "igniter-three", "--methods", "igniter", "--requests", "0", "-o")),
    ("a picture", ("compare", "igniter-three", "--methods", "igniter", "--requests", "0", "--plot")),
    ("a simulation", ("simulate", "plan.json", "--requests", "200", "--seeds", "2", "-o")),
    ("an instance", ("instances", "generate", "--workloads", "2", "--seed", "1", "-o")),
    ("a report of igniter-opt", ("report", "plan.json", "--what-if-time", "0", "-o")),
    ("a profile", ("profile", "calibrate", "v100", "v100-colocated", "--coefficients", "igniter", "-o")),
    ("a profile", ("profile", "measure", "--models", "ssd", "--batches", "1,4,16", "--shares", "10,50,100", "-o")),
    ("a file of co-locations", ("profile", "colocate", "v100", "--pairs", "2", "--larger", "0", "-o")),
    ("a picture", ("profile", "check", "v100", "--plot")),
]
NOTES = b"milk\neggs,bread\n"
OTHERS = [
    NOTES,
    b'{"name": "theirs", "workloads": []}\n',
    b"<html><body>somebody's</body></html>\n",
    b"name,price\nmilk,1\n",
    b"\x00\x01\x02",
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert invoke("solve", "igniter-three", "--method", "igniter", "-o", "plan.json").code == 0
    return tmp_path


def _ending(kind: str, command: tuple[str, ...]) -> str:
    return {"a picture": "png", "a simulation": "csv", "a comparison": "csv", "a model": "lp"}.get(kind, "out")


@pytest.mark.parametrize(("kind", "command"), COMMANDS, ids=[f"{c[0]}-{c[1]}{c[-1]}" for _, c in COMMANDS])
def test_own_kind_is_replaced_and_nothing_else(
    kind: str, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_made_up_card(monkeypatch, "v100")
    path = Path(f"there.{_ending(kind, command)}")
    for content in OTHERS:
        path.write_bytes(content)
        rejected(*command, path, says=(f"{path}: exists and is not {kind}; choose another path, or remove it first",))
    if kind != "a plan":
        path.write_bytes(Path("plan.json").read_bytes())
        rejected(*command, path, says=(f"is not {kind}",))
    path.write_bytes(b"")
    for _ in range(2):  # first over an empty file, then over its own
        assert invoke(*command, path).code == (1 if kind == "a simulation" else 0)  # SLOs do not hold
        assert path.read_bytes() not in (b"", NOTES)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_pictures_are_replaced(ending: str) -> None:
    command = ("solve", "igniter-three", "--method", "igniter", "--plot", f"plan.{ending}")
    assert invoke(*command).code == 0
    assert invoke(*command).code == 0


def test_an_approval_replaces_approvals_only() -> None:
    path = Path("plan.approval.json")
    path.write_bytes(NOTES)
    rejected("approve", "plan.json", "--yes", says=("plan.approval.json: exists and is not an approval",))
    path.unlink()
    assert invoke("approve", "plan.json", "--yes").code == 0
    assert invoke("approve", "plan.json", "--yes").code == 0


def test_what_measuring_writes_is_recognised(folder: Path) -> None:
    entry = measured(HEAD, records([1.0, 2.0, 3.0]), (0.0, 3e7))
    found = Measurement(source="x", started_at="now", duration_s=0.03, workloads=(entry,))
    verdict = Verdict(outcome="holds", judged="P99", workloads=1)
    write_measurement(found, folder / "m.json")
    write_measurement(found, folder / "m.csv")
    rehearsal = Rehearsal(instance="x", pace=1.0, verdict=verdict, workloads=(), measurement=found)
    write_rehearsal(rehearsal, folder / "r.json")
    writer = FeedWriter(folder / "f.jsonl")
    writer.write([FeedLine(at=1.0, workload="W", latencies_ms=(1.0,))] * 2)
    writer.close()
    own_kinds = {
        "m.json": kinds.MEASUREMENT,
        "m.csv": kinds.MEASUREMENT,
        "r.json": kinds.REHEARSAL,
        "f.jsonl": kinds.FEED,
    }
    for name, own in own_kinds.items():
        for kind in {*own_kinds.values(), kinds.PLAN, kinds.SIMULATION}:
            head = Path(name).read_bytes()
            assert kind.recognised(Path(name), head) is (kind is own), (name, kind.name)


@pytest.mark.parametrize("command", [("measure", "plan.json", "--feed"), ("measure", "plan.json", "-o")])
def test_measuring_leaves_other_files_alone(command: tuple[str, ...]) -> None:
    Path("there.json").write_bytes(NOTES)
    rejected(*command, "there.json", says=("there.json: exists and is not a",))
    rejected("rehearse", "plan.json", "-o", "there.json", says=("there.json: exists and is not a rehearsal",))


def test_a_file_of_the_kind_is_known_however_it_was_written(folder: Path) -> None:
    plan = json.loads(Path("plan.json").read_text())
    Path("sorted.json").write_text(json.dumps(plan, sort_keys=True))
    assert invoke("solve", "igniter-three", "--method", "igniter", "-o", "sorted.json").code == 0
    Path("mine.yaml").write_text("# by hand\nworkloads:\n  - {}\nname: mine\ngpu_types: []\n")
    assert invoke("instances", "generate", "--workloads", "2", "--seed", "1", "-o", "mine.yaml").code == 0


def test_generating_leaves_its_profile_alone() -> None:
    Path("card.json").write_text(profile_json(read_profile("v100")))
    command = ("instances", "generate", "--workloads", "2", "--seed", "1", "--profile", "card.json", "--price", "1")
    rejected(*command, "-o", "card.json", says=("card.json: --output would overwrite a profile",))
