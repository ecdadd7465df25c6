"""Every command's help carries an example, and every example works as typed."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from igniter_opt.deploy.triton.install import default_folder
from tests.cli.helpers import invoke, script
from tests.deploy.models import write_installation, write_models
from tests.profiler.helpers import use_made_up_card

# Only these commands have commands of their own.
GROUPS: tuple[tuple[str, ...], ...] = ((), ("instances",), ("triton",), ("profile",), ("models",))


def commands() -> Iterator[tuple[str, ...]]:
    """Every command, read off the help texts themselves."""
    for group in GROUPS:
        yield group
        listed = invoke(*group, "--help").out.partition("\nCommands")[2]
        for name in re.findall(r"^  (\S+)", listed, flags=re.MULTILINE):
            if (*group, name) not in GROUPS:
                yield (*group, name)


def examples(*command: str) -> list[str]:
    """The examples in a command's help, with wrapped lines joined."""
    run = invoke(*command, "--help")
    assert run.code == 0
    paragraphs = [" ".join(text.split()) for text in run.out.split("\n\n")]
    return [text.removeprefix("Example: igniter-opt ") for text in paragraphs if text.startswith("Example: ")]


def test_all_commands_are_found() -> None:
    expected = {"solve", "compare", "verify", "predict", "instances", "approve", "deploy", "status", "teardown"}
    assert expected <= {command[0] for command in commands() if command}
    assert {("instances", name) for name in ("list", "show", "generate")} | {("triton", "install")} <= set(commands())


def test_every_command_has_an_example_of_itself() -> None:
    for command in commands():
        found = examples(*command)
        assert found, f"no example in the help of {' '.join(command) or 'igniter-opt'}"
        assert all(tuple(shlex.split(text)[: len(command)]) == command for text in found)


# Of a model in slices under MIG.
READINGS = """model,slice,batch,processes,throughput_rps_per_process,latency_ms
net,1g.10gb,1,1,100,10
net,1g.10gb,4,1,200,20
net,7g.80gb,1,1,400,2.5
net,7g.80gb,4,1,800,5
"""


def test_every_example_works_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # What the examples take for granted: models, recorded requests, and a server that was fetched before.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_models(tmp_path / "models", ("alexnet", "resnet50", "vgg19", "ssd"))
    write_installation(default_folder())
    (tmp_path / "requests.csv").write_text("\n".join(map(str, range(3000))))
    for name, streams in (("demand.csv", "A,R,S"), ("streams.csv", "x,y,z")):
        rows = [f"{1800 * k},{600 + 50 * k},{300 - 20 * k},40" for k in range(8)]
        (tmp_path / name).write_text("\n".join([f"time_s,{streams}", *rows]))
    (tmp_path / "readings.csv").write_text(READINGS)
    use_made_up_card(monkeypatch, "h100")
    lines = dict.fromkeys(line for command in commands() for line in examples(*command))
    # What writes plan.json comes before what reads it, approving before deploying; otherwise in the order of the help.
    # What needs a real server runs where there is one (`tests/integration`: `test_examples.py`, `test_prometheus.py`,
    # `test_profile_serve.py`), the service, which goes on until it is stopped, in `tests/serve`, and what needs a plan
    # for the user's card in `tests/profiler/test_refine.py`.
    elsewhere = ("measure ", "rehearse ", "guard ", "instances from-prometheus ", "profile serve ", "profile refine ")
    elsewhere = (*elsewhere, "serve ")
    elsewhere = elsewhere if importlib.util.find_spec("torch") else (*elsewhere, "models ")
    here = [line for line in lines if not line.startswith(elsewhere)]
    for line in sorted(here, key=lambda line: (not line.startswith("solve "), not line.startswith("approve "))):
        run = invoke(*shlex.split(line))
        assert run.code == 0, f"igniter-opt {line}: {run.err}"
        for name in re.findall(r"(?:-o|--output|--plot) (\S+)", line):
            assert (tmp_path / name).stat().st_size > 0


def test_help_of_the_script_and_its_short_form() -> None:
    assert "Example: igniter-opt solve" in script("-h").out
    assert invoke("solve", "-h").out == invoke("solve", "--help").out
