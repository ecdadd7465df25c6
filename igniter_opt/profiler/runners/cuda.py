"""The runner on a real card: workers in processes of their own, under MPS."""

import json
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from igniter_opt.base.errors import DeploymentError, InputError
from igniter_opt.base.optional import load
from igniter_opt.deploy.backends import mps
from igniter_opt.deploy.records import DaemonRecord
from igniter_opt.profiler.models.catalogue import Precision
from igniter_opt.profiler.runners.counters import KernelUtilisation, utilisation
from igniter_opt.profiler.runners.runner import LEAST_ASKED_PERCENT, Card, Facts, Job, Moment, Reading

WORKER = "igniter_opt.profiler.runners.worker"
_RAMP_S, _TAIL_S, _AHEAD_S = 0.08, 0.06, 0.01
_REPLY_S = 300.0
# MPS takes 48 clients of a card.
_MOST_CLIENTS = 44
# Processes at these shares say how many SMs they see: the fewest, and in which steps shares are given. With 13 % none
# of 16 to 192 SMs looks as if it were given in larger steps than it is.
_ASKED_PERCENT = (LEAST_ASKED_PERCENT, 10.0, 12.0, 13.0, 15.0, 20.0, 30.0, 50.0)
# Instantaneous power, where the card reports it (averaged over a second otherwise).
_POWER_INSTANT = 186


class _Worker:
    """A worker process and its pipes."""

    def __init__(self, precision: Precision, environment: Mapping[str, str], sms: int) -> None:
        self.sms, self.seen = sms, False
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", WORKER, precision],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.replies: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None  # noqa: S101
        for line in self.process.stdout:
            self.replies.put(line)
        self.replies.put(None)

    def order(self, **order: Any) -> None:
        assert self.process.stdin is not None  # noqa: S101
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise DeploymentError("a measuring process has ended") from None

    def reply(self) -> Any:
        try:
            line = self.replies.get(timeout=_REPLY_S)
        except queue.Empty:
            raise DeploymentError(f"a measuring process does not answer within {_REPLY_S:g} s") from None
        if line is None:
            raise DeploymentError("a measuring process has ended (out of memory?)")
        answer = json.loads(line)
        if "error" in answer:
            raise InputError(f"measuring failed: {answer['error']}")
        return answer["result"]

    def ask(self, **order: Any) -> Any:
        self.order(**order)
        return self.reply()

    def finish(self) -> None:
        """Tell it that there is nothing more to do."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def end(self) -> None:
        self.finish()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _end(workers: Sequence[_Worker]) -> None:
    """End workers together: every one takes a second to leave the card."""
    for worker in workers:
        worker.finish()
    for worker in workers:
        worker.end()


class CudaRunner:
    """Measures on a real GPU under an MPS daemon of its own.

    Parameters
    ----------
    device
        The GPU's UUID.
    """

    def __init__(self, device: str, precision: Precision) -> None:
        self.device, self.precision = device, precision
        self.nvml = load("pynvml")
        self.nvml.nvmlInit()
        self.handle = self.nvml.nvmlDeviceGetHandleByUUID(device)
        self.owner = secrets.token_hex(8)
        self.daemon: DaemonRecord | None = None
        self.workers: list[_Worker] = []
        self.sm_count = 0

    def __enter__(self) -> "CudaRunner":
        mps.find_program()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self.workers)
        self.workers.clear()
        if self.daemon is not None:
            mps.stop(self.owner, [self.daemon.token])
            self.daemon = None

    def card(self) -> Card:
        """Say what the card is; nothing else may run on it."""
        if self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle) and not self.workers:
            raise InputError(f"GPU {self.device} is in use by other processes; measurements need it to themselves")
        idle = self._idle_power_w()
        # Processes take seconds to start, and leave the card alone until they are asked.
        workers = [self._start(share_percent=share) for share in _ASKED_PERCENT]
        try:
            alone = self._alone()
            try:
                self.sm_count = int(alone.ask(do="sms"))
                copy = float(alone.ask(do="copy"))
            finally:
                alone.end()
            for worker in workers:
                worker.order(do="sms")
            granted = dict(zip(_ASKED_PERCENT, [int(worker.reply()) for worker in workers], strict=True))
        finally:
            _end(workers)
        torch = load("torch")
        return Card(
            name=str(self.nvml.nvmlDeviceGetName(self.handle)),
            driver=str(self.nvml.nvmlSystemGetDriverVersion()),
            framework=f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}",
            sm_count=self.sm_count,
            sms_granted=granted,
            max_frequency_mhz=float(self.nvml.nvmlDeviceGetMaxClockInfo(self.handle, self.nvml.NVML_CLOCK_SM)),
            max_power_w=self.nvml.nvmlDeviceGetEnforcedPowerLimit(self.handle) / 1000.0,
            idle_power_w=idle,
            memory_mib=self.nvml.nvmlDeviceGetMemoryInfo(self.handle).total / 2**20,
            copy_bytes_per_ms=copy,
        )

    def _idle_power_w(self) -> float:
        samples = []
        for _ in range(10):
            samples.append(self._power_w())
            time.sleep(0.05)
        return float(np.median(samples))

    def _power_w(self) -> float:
        try:
            (value,) = self.nvml.nvmlDeviceGetFieldValues(self.handle, [_POWER_INSTANT])
            if value.nvmlReturn == 0 and value.value.uiVal > 0:
                return float(value.value.uiVal) / 1000.0
        except self.nvml.NVMLError:
            pass
        return float(self.nvml.nvmlDeviceGetPowerUsage(self.handle)) / 1000.0

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CUDA_MPS_")}
        return kept | {"CUDA_VISIBLE_DEVICES": self.device}

    def _alone(self) -> _Worker:
        """A worker without MPS; only while there are no others."""
        return _Worker(self.precision, self._environment(), self.sm_count)

    def _start(self, sms: int = 0, share_percent: float | None = None) -> _Worker:
        """Start a worker under MPS."""
        if self.daemon is None:
            self.daemon = DaemonRecord(token=secrets.token_hex(8), host="local", device=self.device)
            mps.start(self.daemon, self.owner)
        share = 100.0 * sms / self.sm_count if share_percent is None else share_percent
        environment = self._environment() | mps.client_environment(self.daemon.token)
        environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = mps.thread_percentage(share)
        return _Worker(self.precision, environment, sms)

    def facts(self, models: Sequence[str], batches: Sequence[int]) -> dict[str, Facts]:
        """Say what models are, in a process that has the card to itself."""
        worker = self._alone()
        try:
            return {model: Facts(**worker.ask(do="facts", model=model, batches=list(batches))) for model in models}
        finally:
            worker.end()

    def counters(self, models: Sequence[str], batches: Sequence[int]) -> dict[tuple[str, int], KernelUtilisation]:
        """Read utilisation counters of models alone on the whole card."""
        return utilisation(models, batches, self.precision, self._environment())

    def expect(self, jobs: Sequence[Sequence[Job]]) -> None:
        """Start the workers of groups, as many as MPS takes; they leave the card alone until they are asked."""
        needed: Counter[int] = Counter()
        for group in jobs:
            needed |= Counter(job.sms for job in group)
        missing = list((needed - Counter(worker.sms for worker in self.workers)).elements())
        self.workers += [self._start(sms) for sms in missing[: max(0, _MOST_CLIENTS - len(self.workers))]]

    def prepare(self, jobs: Sequence[Sequence[Job]]) -> None:
        """Start as many workers per number of SMs as some group needs, and capture all that they will run."""
        self._make_room(jobs)
        for group in jobs:
            for sms in {job.sms for job in group}:
                needed = sum(job.sms == sms for job in group) - sum(worker.sms == sms for worker in self.workers)
                self.workers += [self._start(sms) for _ in range(needed)]
        wanted: dict[int, dict[tuple[str, int], None]] = {}
        for group in jobs:
            for worker, job in zip(self._chosen(group), group, strict=True):
                wanted.setdefault(id(worker), {})[job.model, job.batch] = None
        fresh = [worker for worker in self.workers if id(worker) in wanted and not worker.seen]
        for worker in fresh:
            worker.order(do="sms")
        for worker in fresh:
            granted = worker.reply()
            if granted != worker.sms:
                raise InputError(f"MPS grants {granted} SMs where {worker.sms} were asked for; is it another card?")
            worker.seen = True
        for worker in self.workers:
            for model, batch in wanted.get(id(worker), {}):
                worker.order(do="prepare", model=model, batch=batch)
        for worker in self.workers:
            for _ in wanted.get(id(worker), {}):
                worker.reply()

    def _make_room(self, jobs: Sequence[Sequence[Job]]) -> None:
        """End workers that these groups do not need where MPS would have no room for all."""
        needed: Counter[int] = Counter()
        for group in jobs:
            needed |= Counter(job.sms for job in group)
        present = Counter(worker.sms for worker in self.workers)
        if (needed | present).total() <= _MOST_CLIENTS:
            return
        spare = present - needed
        ended = []
        for worker in self.workers:
            if spare[worker.sms] > 0:
                spare[worker.sms] -= 1
                ended.append(worker)
        _end(ended)
        self.workers = [worker for worker in self.workers if worker not in ended]

    def _chosen(self, group: Sequence[Job]) -> list[_Worker]:
        """Return a worker of its own for every job."""
        free = list(self.workers)
        chosen = []
        for job in group:
            worker = next(entry for entry in free if entry.sms == job.sms)
            free.remove(worker)
            chosen.append(worker)
        return chosen

    def measure(
        self,
        jobs: Sequence[Job],
        seconds: float,
        *,
        periods_ms: Sequence[float] | None = None,
        phases_ms: Sequence[float] | None = None,
    ) -> Moment:
        """Run jobs side by side; all of them until the last has measured.

        Parameters
        ----------
        periods_ms, phases_ms
            How often each job begins a batch, and when the first; by default it always runs.
        """
        start = time.monotonic_ns() + int(_AHEAD_S * 1e9)
        workers = self._chosen(jobs)
        always = [0.0] * len(jobs)
        for worker, job, period, phase in zip(workers, jobs, periods_ms or always, phases_ms or always, strict=True):
            worker.order(
                do="run",
                model=job.model,
                batch=job.batch,
                start_ns=start,
                ramp_s=_RAMP_S,
                seconds=seconds,
                tail_s=_TAIL_S if len(jobs) > 1 else 0.0,
                period_ms=period,
                phase_ms=phase,
            )
        power: list[float] = []
        clock: list[float] = []
        first, last = start + _RAMP_S * 1e9, start + (_RAMP_S + seconds) * 1e9
        # Once at least, however late this process is woken up.
        while (now := time.monotonic_ns()) < last or not power:
            if now >= first:
                power.append(self._power_w())
                clock.append(float(self.nvml.nvmlDeviceGetClockInfo(self.handle, self.nvml.NVML_CLOCK_SM)))
            time.sleep(0.01)
        answers = [worker.reply() for worker in workers]
        # The first samples are still those of the time before.
        half = len(power) // 2
        return Moment(
            tuple(Reading(**answer) for answer in answers), float(np.mean(power[half:])), float(np.mean(clock[half:]))
        )

    def forget(self) -> None:
        """Free what models take in all workers."""
        for worker in self.workers:
            worker.order(do="forget")
        for worker in self.workers:
            worker.reply()
