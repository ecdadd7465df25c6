"""What is fuzzed: for every kind of file a valid one, and what reads it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml
from typer.testing import CliRunner

import igniter_opt as ig
from igniter_opt.base.errors import IgniterOptError, InputError
from igniter_opt.cli.console import printable
from igniter_opt.cli.main import app
from igniter_opt.data.plan import plan_json
from igniter_opt.data.profile import profile_json
from igniter_opt.data.traces import read_traces
from igniter_opt.deploy.approval import approval_path, check_approval, make_approval, write_approval
from igniter_opt.deploy.endpoints import read_endpoints
from igniter_opt.deploy.inventory import read_hosts
from igniter_opt.deploy.records import HostRecord, Ports, ReplicaRecord
from igniter_opt.deploy.state import Deployment, Store
from igniter_opt.deploy.triton.model_repository import read_model
from igniter_opt.guard.feed import FeedReader
from igniter_opt.guard.journal import GuardLog
from igniter_opt.measure.feed import FeedLine
from igniter_opt.profiler.record import read_log
from igniter_opt.result import history_of
from tests.fuzz import mutations


@dataclass
class Outcome:
    """How a case ended, as a command ends: exit code, stdout and stderr, and an exception that nobody expected."""

    code: int
    out: str = ""
    err: str = ""
    exception: BaseException | None = None


def command(*arguments: str) -> Callable[[Path], Outcome]:
    """Run a command on the file, or on the folder above the file's."""

    def run(path: Path) -> Outcome:
        given = {"FILE": str(path), "ROOT": str(path.parent.parent)}
        result = CliRunner().invoke(app, [given.get(entry, entry) for entry in arguments])
        known = result.exception is None or isinstance(result.exception, SystemExit)
        return Outcome(result.exit_code, result.stdout, result.stderr, None if known else result.exception)

    return run


def call(read: Callable[[Path], object]) -> Callable[[Path], Outcome]:
    """Read the file as a command would that needs a GPU or servers, and say what the command says then."""

    def run(path: Path) -> Outcome:
        try:
            read(path)
        except InputError as error:
            return Outcome(2, err=printable(f"error: {error}\n"))
        except IgniterOptError as error:
            return Outcome(1, err=printable(f"refused: {error}\n"))
        except Exception as error:
            return Outcome(-1, exception=error)
        return Outcome(0)

    return run


def _followed(path: Path) -> None:
    """Read a feed that comes to be after its reader."""
    moved = path.with_name("feed.new")
    if path.is_symlink() or path.exists():
        path.rename(moved)
    reader = FeedReader(path)
    if moved.is_symlink() or moved.exists():
        moved.rename(path)
    reader.read()
    reader.read()
    reader.close()


@dataclass
class Target:
    """A kind of file.

    Attributes
    ----------
    text
        A valid file.
    runs
        What reads it; each is told the path.
    data
        Its content where that is JSON; None where only bytes can be changed.
    name
        Its name in its folder.
    beside
        The content of other files, by their names.
    numbers
        Whether numbers are changed, and not the structure, so that most files are valid.
    folder
        Whether the folder's owner and its other files matter, too.
    """

    text: str
    runs: list[Callable[[Path], Outcome]]
    data: Any = None
    fragments: tuple[str, ...] = ()
    name: str = "file"
    folder: bool = False
    beside: dict[str, str] | None = None
    numbers: bool = False

    def write(self, random: Random, folder: Path) -> tuple[Path, str]:
        """Write a changed file; return where it is, and how it was changed."""
        inner = folder / "root" / "inner"
        inner.mkdir(parents=True, mode=0o700)
        inner.parent.chmod(0o700)
        for name, text in (self.beside or {}).items():
            (inner / name).parent.mkdir(parents=True, exist_ok=True)
            (inner / name).write_text(text)
        path = inner / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        way = random.random()
        if way < 0.12:
            path.write_text(self.text)
            return path, mutations.other_kind(random, path)
        if self.folder and way < 0.4:
            path.write_text(self.text)
            if random.random() < 0.4:
                other = inner / random.choice(
                    ["lock", "servers", "failed", "endpoints.json", "guard.jsonl", "guard.lock"]
                )
                return path, f"{other.name}: {mutations.other_kind(random, other)}"
            return path, mutations.other_owner(random, inner)
        if self.numbers:
            path.write_text(mutations.renumbered(random, self.data))
            return path, "other numbers"
        if self.data is not None and way < 0.8:
            path.write_text(mutations.restructured(random, self.data, list(self.fragments)), "utf-8", "surrogatepass")
            return path, "other structure"
        path.write_bytes(mutations.rebyted(random, self.text.encode()))
        return path, "other bytes"


def _json(text: str, *runs: Callable[[Path], Outcome], **more: Any) -> Target:
    return Target(text, list(runs), json.loads(text), tuple(mutations.JSON), **more)


def _yaml(data: Any, *runs: Callable[[Path], Outcome]) -> Target:
    fragments = tuple(mutations.YAML + mutations.JSON)
    return Target(yaml.safe_dump(data, sort_keys=False), list(runs), data, fragments, "file.yaml")


def targets(work: Path) -> dict[str, Target]:
    """Make a valid file of every kind; `work` keeps those that others are read together with."""
    workloads = [
        {"name": "a", "model": "alexnet", "slo_ms": 15, "rate_rps": 500},
        {"name": "b", "model": "ssd", "slo_ms": 60, "rate_rps": 50, "max_replicas": 2},
    ]
    gpu = {"name": "V100", "profile": "v100", "price_per_hour": 3.06, "count": 4, "memory_mib": 16384}
    instance = {"name": "i", "slo_rule": "half", "gpu_types": [gpu], "workloads": workloads}
    (work / "i.yaml").write_text(yaml.safe_dump(instance))
    result = ig.solve(ig.read_instance(work / "i.yaml"), "igniter")
    plan, plan_path = plan_json(result.plan), work / "plan.json"
    plan_path.write_text(plan)
    write_approval(make_approval(result.plan), approval_path(plan_path))
    profile = profile_json(ig.read_profile("v100"))
    recorded = (Path(__file__).parents[2] / "bench" / "recordings" / "h100-alone.jsonl").read_text().splitlines(True)
    rows = ["1,ssd,1,20,30", "1,alexnet,1,20,9", "2,ssd,1,40,15", "2,vgg19,1,20,19"]
    readings = "\n".join(["group,model,batch,share_percent,latency_ms", *rows, ""])
    measured = {"schema": "igniter-opt/measurements@1", "profile": "v100", "gpu": "unknown", "source": "s"}
    columns = {"group": [1, 1], "model": ["ssd", "alexnet"], "batch": [1, 1], "share_percent": [20, 20]}
    measured["colocated"] = {**columns, "latency_ms": [30, 9]}  # type: ignore[assignment]
    simulated = {
        "arrivals": "poisson",
        "runs": 1,
        "workloads": [{"workload": "a", "rate_rps": 500, "requests": 9, "p99_ms": 3.5, "violation_ratio": 0.1}],
    }
    hosts = {
        "hosts": [{"name": "h", "docker": "ssh://u@h", "gpus": [{"uuid": "GPU-1", "name": "V100", "memory_mib": 1}]}]
    }
    sample = {"data": [{"X": {"content": [1, 2], "shape": [2]}}], "validation_data": [{"Y": [1.0]}], "tolerance": 0.01}
    tensors = 'input { name: "X" data_type: TYPE_FP64 dims: 2 }\noutput { name: "Y" data_type: TYPE_FP64 dims: 1 }\n'
    config = 'name: "m"\nbackend: "python"\nmax_batch_size: 8\n' + tensors
    model = {"root/m/1/model.py": "", "root/m/check.json": json.dumps(sample), "root/m/config.pbtxt": config}
    line = FeedLine(at=1.0, workload="a", server="127.0.0.1:8001", latencies_ms=(1.0, 2.5)).model_dump_json()
    event = '{"at": "2026-01-01T00:00:00.000+00:00", "event": "switched", "workload": "a", "replica": 1, "factor": 1.2}'
    endpoints = {
        "schema": "igniter-opt/endpoints@1",
        "deployment": "x",
        "workloads": {"a": {"model": "alexnet", "replicas": [{"rate_rps": 1, "grpc": "h:1", "http": "http://h:2"}]}},
    }

    def deployment(folder: Path) -> str:
        store = Store(folder, "inner")
        record = ReplicaRecord(
            token="0" * 16, phase="ready", workload="a", replica=1, model="alexnet", gpu="V100-1", host="local",
            device="CPU-0", device_name="processor", share_percent=10, batch=1, queue_delay_us=0, rate_rps=1,
            spec="0" * 64, config_digest="0" * 64, ports=Ports(http=8000, grpc=8001, metrics=8002), handle="1",
        )  # fmt: skip
        found = Deployment(
            name="inner", owner=store.owner, machine="m", backend="process", cpu=True, created_at="2026-01-01",
            hosts=(HostRecord(name="local"),), replicas=(record,),
        )  # fmt: skip
        return json.dumps(found.model_dump(mode="json", by_alias=True))

    def approved(path: Path) -> None:
        shutil.copy(plan_path, path.parent / "plan.json")
        check_approval(result.plan, path.parent / "plan.json")

    served = call(lambda path: read_model(path.parents[1], "m", 2))
    diff = command("diff", str(plan_path), "FILE", "--no-dearer")
    report = ("report", str(plan_path), "--what-if-time", "0", "--json")
    return {
        "instance": _yaml(
            instance,
            command("solve", "FILE", "--method", "igniter", "--json"),
            command("compare", "FILE", "--methods", "igniter,gslice,gpulets,dedicated", "--requests", "0"),
        ),
        "numbers of an instance": _json(
            json.dumps(instance),
            command("compare", "FILE", "--methods", "igniter,gslice,gpulets,dedicated", "--requests", "0"),
            command("solve", "FILE", "--method", "bestfit", "--max-replicas", "3"),
            numbers=True,
        ),
        "numbers of a profile": _json(
            profile,
            command("predict", "FILE", "alexnet:1:10", "ssd:2:20"),
            command("profile", "check", "FILE"),
            command("profile", "show", "FILE"),
            numbers=True,
        ),
        "numbers of a plan": _json(plan, command("verify", "FILE"), command("explain", "FILE"), diff, numbers=True),
        "inventory": _yaml(hosts, call(read_hosts)),
        "profile": _json(
            profile, command("predict", "FILE", "alexnet:1:10", "ssd:2:20"), command("profile", "check", "FILE")
        ),
        "plan": _json(
            plan, command("verify", "FILE"), command("explain", "FILE"), command("approve", "FILE", "--yes"), diff
        ),
        "plan in a report": _json(plan, command("report", "FILE", "--what-if-time", "0", "--json")),
        "approval": _json(approval_path(plan_path).read_text(), call(approved), name="plan.approval.json"),
        "state": _json(
            deployment(work / "case" / "root"),
            command("status", "--state", "ROOT"),
            call(lambda path: Store(path.parent.parent, "inner").load()),
            name="state.json",
            folder=True,
        ),
        "endpoints": _json(json.dumps(endpoints), call(read_endpoints)),
        "measurements": _json(json.dumps(measured), command("profile", "check", "v100", "--measurements", "FILE")),
        "readings": Target(
            readings, [command("profile", "check", "v100", "--measurements", "FILE")], name="readings.csv"
        ),
        "simulated": _json(
            json.dumps(simulated),
            command(*report, "--measurements", "FILE"),
        ),
        "trace": Target(
            "timestamp,workload\n" + "".join(f"{k},{'ab'[k % 2]}\n" for k in range(50)),
            [call(lambda path: read_traces([(None, path)], ["a", "b"]))],
        ),
        "times": Target("".join(f"{k}.5\n" for k in range(50)), [call(lambda path: read_traces([("a", path)], ["a"]))]),
        "feed": _json(line + "\n", call(_followed)),
        "log of a guard": _json(event, call(lambda path: GuardLog(path.parent).read()), name="guard.jsonl"),
        "sample": _json(
            json.dumps(sample),
            served,
            name="root/m/check.json",
            beside=model,
        ),
        "configuration": Target(config, [served], name="root/m/config.pbtxt", beside=model),
        "log of readings": Target("".join(recorded[:8]), [call(lambda path: list(read_log(path)))]),
        "history": _json(history_of(result).model_dump_json(by_alias=True), command(*report, "--history", "FILE")),
    }
