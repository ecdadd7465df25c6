"""The runner on a GPU, with stand-ins for NVML, MPS and the measuring processes: what it starts, and that it ends."""

import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from igniter_opt.base.errors import DeploymentError, InputError
from igniter_opt.data.profile import Profile
from igniter_opt.deploy.backends.mps import PROGRAM
from igniter_opt.profiler import session
from igniter_opt.profiler.make import make_measurements, make_profile
from igniter_opt.profiler.runners import cuda
from igniter_opt.profiler.runners.counters import KernelUtilisation
from igniter_opt.profiler.runners.cuda import CudaRunner
from igniter_opt.profiler.runners.runner import Job
from igniter_opt.profiler.session import granted_step
from tests.profiler.fake_nvml import FakeNvml

MPS = Path(__file__).parents[2] / "deploy" / "fake_mps_control.py"


@pytest.fixture(autouse=True)
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    found = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", found)  # type: ignore[arg-type]
    cudnn = SimpleNamespace(version=lambda: 9)
    torch = SimpleNamespace(__version__="2", version=SimpleNamespace(cuda="13"), backends=SimpleNamespace(cudnn=cudnn))
    monkeypatch.setitem(sys.modules, "torch", torch)  # type: ignore[arg-type]
    monkeypatch.setattr(cuda, "WORKER", "tests.profiler.fake_worker")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    program = tmp_path / PROGRAM
    program.write_text(f"#!{sys.executable}\n{MPS.read_text()}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/nonexistent/users-own")
    monkeypatch.setenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "7")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    yield found
    # Nothing that was started is left: no measuring process, no daemon, no pipe directory.
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
    assert not list(tmp_path.glob("igniter-opt-mps-*"))


def test_card_and_the_steps_in_which_it_grants_shares() -> None:
    with CudaRunner("GPU-1", "fp32") as runner:
        card = runner.card()
    assert (card.name, card.sm_count, card.idle_power_w, card.max_power_w) == ("NVIDIA H100", 132, 300.0, 700.0)
    assert card.sms_granted == {0.5: 8, 10.0: 12, 12.0: 14, 13.0: 16, 15.0: 18, 20.0: 26, 30.0: 38, 50.0: 66}
    assert granted_step(card._asdict()) == 2


@pytest.mark.parametrize("count", [80, 108, 114, 148])
def test_steps_are_not_taken_for_larger_ones(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SMS", str(count))
    with CudaRunner("GPU-1", "fp32") as runner:
        assert granted_step(runner.card()._asdict()) == 2


def test_a_busy_card_is_refused(nvml: FakeNvml) -> None:
    nvml.busy = [4711]
    with CudaRunner("GPU-1", "fp32") as runner, pytest.raises(InputError, match="in use by other processes"):
        runner.card()


def test_jobs_side_by_side_start_together_each_in_a_process_of_its_share() -> None:
    groups = [[Job("a", 1, 14), Job("b", 2, 66), Job("a", 4, 14)], [Job("a", 1, 66)]]
    with CudaRunner("GPU-1", "fp32") as runner:
        runner.card()
        runner.prepare(groups)
        assert sorted(worker.sms for worker in runner.workers) == [14, 14, 66]
        moment = runner.measure(groups[0], 0.1)
        again = runner.measure(groups[1], 0.1)
        runner.prepare([[Job("c", 1, 66)]])
        assert len(runner.workers) == 3
        runner.forget()
    shares = [reading.gpu_ms for reading in moment.readings]
    assert shares == pytest.approx([100 * 14 / 132, 50.0, 100 * 14 / 132], abs=1e-3)
    assert len({reading.copy_ms for reading in moment.readings}) == 3  # three processes
    starts = [reading.wall_median_ms for reading in moment.readings]
    assert max(starts) - min(starts) < 50e6  # ns: within the ramp that is not counted
    # Neighbours go on until the last has measured; nobody waits for one that has none.
    assert [reading.wall_std_ms for reading in moment.readings] == [cuda._TAIL_S] * 3
    assert cuda._TAIL_S > 0 and again.readings[0].wall_std_ms == 0
    assert again.readings[0].copy_ms == moment.readings[1].copy_ms  # the same process serves again
    assert (moment.power_w, moment.frequency_mhz) == (300.0, 1980.0)


def test_power_and_clock_of_the_time_before_do_not_count(nvml: FakeNvml) -> None:
    with CudaRunner("GPU-1", "fp32") as runner:
        runner.card()
        runner.prepare([[Job("a", 1, 66)]])
        nvml.began, nvml.late_s = time.monotonic(), cuda._AHEAD_S + cuda._RAMP_S + 0.15
        moment = runner.measure([Job("a", 1, 66)], 0.5)
    assert (moment.power_w, moment.frequency_mhz) == (300.0, 1980.0)


def test_facts_come_from_a_process_that_ends() -> None:
    with CudaRunner("GPU-1", "fp32") as runner:
        found = runner.facts(["a", "b"], [1, 2])
    assert found["a"].fixed_mib == found["b"].fixed_mib
    assert not psutil.pid_exists(int(found["a"].fixed_mib))


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        ("broken", InputError, "measuring failed: RuntimeError: CUDA out of memory"),
        ("dies", DeploymentError, "a measuring process has ended"),
    ],
)
def test_processes_that_fail_are_reported_and_all_end(model: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says), CudaRunner("GPU-1", "fp32") as runner:
        runner.card()
        runner.prepare([[Job("a", 1, 66), Job(model, 1, 14)]])


def test_shares_that_the_card_does_not_grant_are_noticed() -> None:
    with CudaRunner("GPU-1", "fp32") as runner, pytest.raises(InputError, match="grants 12 SMs where 13"):
        runner.card()
        runner.prepare([[Job("a", 1, 13)]])


def _measured(log: Path, report: list[str]) -> Profile:
    return make_profile(
        CudaRunner("GPU-1", "tf32"),
        "mine",
        ["vgg19"],
        precision="tf32",
        batches=[1, 2, 4],
        shares=[50, 100],
        log=log,
        report=lambda what, *_: report.append(what),
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings take little time, and counters need no program."""
    monkeypatch.setattr(session, "LEAST_S", 0.02)
    monkeypatch.setattr(cuda, "_RAMP_S", 0.02)
    monkeypatch.setattr(cuda, "_TAIL_S", 0.02)
    monkeypatch.setattr(
        cuda,
        "utilisation",
        lambda models, batches, *_: {(m, b): KernelUtilisation(10.0 + b, 5.0) for m in models for b in batches},
    )


@pytest.mark.usefixtures("quick")
def test_a_profile_is_gone_on_with_on_the_card(tmp_path: Path, nvml: FakeNvml) -> None:
    log, whole, rest = tmp_path / "log.jsonl", list[str](), list[str]()
    made = _measured(log, whole)
    lines = log.read_text().splitlines(keepends=True)
    kept = lines[: len(lines) // 2]
    log.write_text("".join(kept))
    again = _measured(log, rest)
    assert 0 < len(rest) < len(whole)
    assert set(again.models) == set(made.models)
    assert log.read_text().startswith("".join(kept))
    # The card is asked again, so that one in use is noticed, and one that the log is not of.
    log.write_text("".join(kept))
    nvml.busy = [4711]
    with pytest.raises(InputError, match="in use by other processes"):
        _measured(log, [])
    nvml.busy = []
    for name, sms in (("NVIDIA T4", 132), ("NVIDIA H100", 114)):
        other = "".join(kept).replace("NVIDIA H100", name).replace('"sm_count": 132', f'"sm_count": {sms}')
        log.write_text(other)
        with pytest.raises(InputError) as caught:
            _measured(log, [])
        assert str(caught.value) == (
            f"{log}: holds measurements of a {name} ({sms} SMs), this card is a NVIDIA H100 (132 SMs); go on with that"
            " card, or give another file"
        )
        assert log.read_text() == other


@pytest.mark.usefixtures("quick")
def test_co_locations_are_gone_on_with_on_the_card(tmp_path: Path) -> None:
    profile, log = _measured(tmp_path / "profile.jsonl", []), tmp_path / "colocated.jsonl"

    def measured() -> int:
        found = make_measurements(
            CudaRunner("GPU-1", "tf32"), profile, ["vgg19"], precision="tf32", pairs=2, larger=1, log=log
        )
        return len(found.groups())

    count = measured()
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[: len(lines) // 2]))
    assert measured() == count
    assert len(log.read_text().splitlines()) == len(lines)


def test_ctrl_c_ends_all() -> None:
    with pytest.raises(KeyboardInterrupt), CudaRunner("GPU-1", "fp32") as runner:
        runner.card()
        runner.prepare([[Job("a", 1, 66)]])
        raise KeyboardInterrupt
