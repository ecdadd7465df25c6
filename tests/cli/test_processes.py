"""What only whole processes show: Ctrl-C, SIGTERM, and the same plan from run to run."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.helpers import SCRIPT, invoke, with_value, write_instance

WAIT_S = 60.0
STOP_WITHIN_S = 20.0
LONG = ["--time-limit", "100"]
INTERRUPTS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_until(terminal: int, pattern: str) -> str:
    """Read what a process prints on a terminal until the pattern occurs."""
    text, end = "", time.monotonic() + WAIT_S
    while not re.search(pattern, text):
        assert time.monotonic() < end, f"{pattern} did not occur in: {text}"
        if select.select([terminal], [], [], 0.5)[0]:
            text += os.read(terminal, 4096).decode()
    return text


def interrupt_in_the_solve(
    *arguments: str, by: signal.Signals = signal.SIGINT, again: int = 0, at: str = r"s  cost  "
) -> tuple[int, str, str]:
    """Run the script, interrupt it in the search; return exit code, stdout and the progress before.

    Parameters
    ----------
    again
        How often to interrupt it once output has begun.
    at
        The progress to wait for.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=theirs, stdin=subprocess.DEVNULL, bufsize=0
    )
    assert process.stdout is not None
    try:
        progress = read_until(ours, at)
        process.send_signal(by)
        first = process.stdout.read(1) if again else b""
        for _ in range(again):
            time.sleep(0.1)
            process.send_signal(by)
        out, _ = process.communicate(timeout=STOP_WITHIN_S)
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)
    return process.returncode, (first + out).decode(), progress


@pytest.mark.parametrize(
    "arguments",
    [
        ("uniform-300-1", "--method", "patterns"),
        # Begun with 7 GPUs: the usual start has 6, and these are proven at once.
        ("uniform-24-1", "--method", "assignment", "--no-warm-start", "--start", "first.json"),
    ],
)
@pytest.mark.parametrize("by", INTERRUPTS)
def test_interrupted_solve_writes_the_best_plan(arguments: tuple[str, ...], by: signal.Signals) -> None:
    assert invoke("solve", "uniform-24-1", "--method", "igniter", "-o", "first.json").code == 0
    code, out, progress = interrupt_in_the_solve("solve", *arguments, *LONG, "-o", "plan.json", "--json", by=by)
    assert code == 130
    assert out == Path("plan.json").read_text()
    assert "bound" in progress
    plan = json.loads(out)
    assert plan["solver"]["status"] == "feasible"
    assert plan["solver"]["lower_bound_per_hour"] < plan["solver"]["cost_per_hour"]
    assert invoke("verify", "plan.json").code == 0


@pytest.mark.parametrize("by", INTERRUPTS)
def test_compilation_is_announced_and_ends_when_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: signal.Signals
) -> None:
    """In the first run, with nothing in the cache; a whole compilation takes most of a minute."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    arguments = ["solve", "igniter-three", "--method", "patterns", "-o", "plan.json"]
    code, out, progress = interrupt_in_the_solve(*arguments, by=by, at="compiling inner loops")
    assert code == 130
    assert out == ""
    assert progress.count("compiling inner loops, once on this machine: about") == 1
    assert not Path("plan.json").exists()


@pytest.mark.parametrize("by", INTERRUPTS)
def test_further_interrupts_leave_the_output_whole(monkeypatch: pytest.MonkeyPatch, by: signal.Signals) -> None:
    """Also where Python does not buffer what it prints, and the reader is slow."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    code, out, _ = interrupt_in_the_solve("solve", "uniform-300-1", *LONG, "--json", by=by, again=3)
    assert code == 130
    assert json.loads(out)["solver"]["status"] == "feasible"


@pytest.mark.parametrize("by", INTERRUPTS)
@pytest.mark.parametrize("command", [[SCRIPT], [sys.executable, "-m", "igniter_opt"]])
def test_an_interrupt_while_the_command_is_imported_is_one_line(command: list[str], by: signal.Signals) -> None:
    """At several moments: wherever in the imports Ctrl-C comes, there is no traceback."""
    for moment in (0.1, 0.15, 0.2):
        process = subprocess.Popen([*command, "guard", "nowhere.json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while seconds_used(process.pid) < moment:
            time.sleep(0.01)
        process.send_signal(by)
        out, said = process.communicate(timeout=STOP_WITHIN_S)
        assert (process.returncode, out, said) == (130, b"", b"interrupted\n")


def seconds_used(pid: int) -> float:
    """Processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_program_that_imports_the_package_keeps_its_interrupts() -> None:
    program = (
        "import signal, igniter_opt; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler,"
        " signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "True True\n"


def test_little_is_imported_before_interrupts_are_taken_care_of() -> None:
    """What the package imports first: the interpreter's own start is all that a Ctrl-C may still meet."""
    program = """if True:
        import signal, sys
        sys.orig_argv = ["python", "-m", "igniter_opt"]
        before = set(sys.modules)
        def take(*arguments):
            print(*sorted(set(sys.modules) - before))
            sys.exit()
        signal.signal = take
        import igniter_opt
    """
    assert set(subprocess.check_output([sys.executable, "-c", program], text=True).split()) <= {
        "igniter_opt",
        "igniter_opt.base",
        "igniter_opt.base.command",
    }


@pytest.mark.parametrize("by", INTERRUPTS)
def test_interrupted_comparison_keeps_its_rows(by: signal.Signals) -> None:
    methods = ["--methods", "igniter,patterns"]
    arguments = ["compare", "uniform-300-1", *methods, *LONG, "-o", "rows.csv", "--json"]
    code, out, _ = interrupt_in_the_solve(*arguments, by=by)
    assert code == 130
    rows = json.loads(out)
    assert [(row["method"], row["status"]) for row in rows] == [("igniter", "heuristic"), ("patterns", "feasible")]
    assert len(Path("rows.csv").read_text().splitlines()) == 3


def solve_twice(*arguments: str) -> tuple[str, str]:
    """Solve in two processes at once, with different hash seeds; return both plans without their run time."""
    running = [
        subprocess.Popen(
            [SCRIPT, "solve", *arguments, "-o", f"plan-{seed}.json"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.DEVNULL,
        )
        for seed in ("1", "2")
    ]
    assert [process.wait(timeout=100) for process in running] == [0, 0]
    first, second = (
        re.sub(r'"runtime_s": [\d.e-]+', '"runtime_s": 0', Path(f"plan-{seed}.json").read_text()) for seed in ("1", "2")
    )
    return first, second


@pytest.mark.parametrize("arguments", [("igniter-table3",), ("uniform-24-1", "--method", "bestfit")])
def test_same_plan_byte_for_byte(arguments: tuple[str, ...]) -> None:
    first, second = solve_twice(*arguments)
    assert first == second
    plan: dict[str, Any] = json.loads(first)
    assert plan["solver"]["runtime_s"] == 0
    assert invoke("verify", "plan-1.json").code == 0


@pytest.mark.parametrize("method", ["assignment", "patterns", "bestfit"])
def test_nothing_but_json_on_stdout(method: str) -> None:
    """Libraries that print by themselves show only in a process of its own."""
    command = [SCRIPT, "solve", "igniter-three", "--method", method, "--time-limit", "20", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["solver"]["method"] == method
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [("instances", "list"), ("predict", "v100", "vgg19:3:40", "--json")])
def test_a_full_disk_is_said_in_one_line(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([SCRIPT, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: No space left on device")
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_leaves_is_no_error() -> None:
    run = subprocess.Popen([SCRIPT, "instances", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None
    run.stdout.close()
    assert run.wait(timeout=60) == 0
    assert run.stderr is not None
    assert run.stderr.read() == b""
    run.stderr.close()


def test_work_goes_on_where_messages_cannot_be_written() -> None:
    """What nobody reads must not end a run, nor what a full disk does not take."""
    with Path("/dev/full").open("w") as full:
        command = [SCRIPT, "predict", "v100", "vgg19:33:41", "--json"]  # with two notes
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["placements"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_terminal_s_encoding_will_do(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    text = "größer – 漢字 🙂"
    path = write_instance(with_value(text, "description"), str(tmp_path / "i.yaml"))
    plan = tmp_path / "plan.json"

    def said(*arguments: str | Path, code: int = 0) -> str:
        done = subprocess.run([SCRIPT, *map(str, arguments)], capture_output=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout.decode(encoding)

    found = json.loads(said("solve", path, "--method", "igniter", "-o", plan, "--json"))["instance"]["description"]
    assert found == (text if encoding == "utf-8" else text.replace("–", "-"))
    mark = "+-" if encoding == "ascii" else "±"
    assert mark in said("simulate", plan, "--requests", "200", "--seeds", "2", code=1)
    for command in (("instances", "list"), ("--help",), ("solve", "--help"), ("profile", "check", "v100")):
        assert said(*command)
