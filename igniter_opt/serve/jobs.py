"""The jobs of a service: which wait, which run, and what came of those that ended."""

import logging
import multiprocessing
import queue
import secrets
import threading
import time
from collections import deque
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.serve import worker
from igniter_opt.serve.job import JobError, JobRecord, Kind, ServiceJob, now
from igniter_opt.serve.kept import KeptJobs
from igniter_opt.serve.requests import Body, check_body
from igniter_opt.serve.settings import ServiceLimits

# How often a running job's limits are looked at.
_LOOK_S = 0.25
# Requests that wait take so much memory together at most.
_MOST_WAITING_BYTES = 256 * 2**20
_MOST_RETRY_S = 60
# A process that has said its last word has so long to end.
_LEAVE_S = 5.0
_WORDS = {
    "cancelled": "a client cancelled it",
    "interrupted": "the service ended",
    "time": "it took longer than a job may take here",
}


class BusyError(Exception):
    """More jobs wait than may; says after how many seconds it is worth asking again."""

    def __init__(self, retry_s: int) -> None:
        super().__init__(f"too many jobs wait already; try again in {retry_s} s")
        self.retry_s = retry_s


class UnkeptError(Exception):
    """A job cannot be kept, as where the disk is full."""

    def __init__(self) -> None:
        super().__init__("the service cannot keep jobs at the moment")


class GoneError(Exception):
    """A job, and its result with it, was removed in the meantime."""

    def __init__(self, job: ServiceJob) -> None:
        super().__init__(f"job {job.id} is no longer kept")


class LostError(Exception):
    """A result that should be there cannot be read."""

    def __init__(self, job: ServiceJob) -> None:
        super().__init__(f"the result of job {job.id} cannot be read")


class Jobs:
    """The jobs, and the threads that each see one through a process of its own at a time.

    Parameters
    ----------
    kept
        Where they are kept; held by the caller for as long as this lives.
    """

    def __init__(self, kept: KeptJobs, limits: ServiceLimits) -> None:
        self.limits = limits
        self._kept = kept
        self._lock = threading.Lock()
        self._jobs = {job.id: job for job in kept.read()}
        self._waiting: queue.SimpleQueue[ServiceJob | None] = queue.SimpleQueue()
        self._queued: dict[str, int] = {}
        self._running = 0
        # multiprocessing looks after processes of other threads whenever one is started.
        self._processes = threading.Lock()
        self._stopping = False
        self._took: deque[float] = deque(maxlen=20)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["igniter_opt.serve.preload"])
        forkserver.ensure_running()  # now, for its imports take a while
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(limits.workers)]
        for thread in self._threads:
            thread.start()

    def get(self, identifier: str) -> ServiceJob | None:
        """Return a job."""
        return self._jobs.get(identifier)

    def latest(self, most: int) -> list[ServiceJob]:
        """Return the jobs, the latest first."""
        with self._lock:
            jobs = list(self._jobs.values())
        return sorted(jobs, key=lambda job: (job.record.created_at, job.id), reverse=True)[:most]

    def submit(self, kind: Kind, body: Body) -> ServiceJob:
        """Take on a job.

        Raises
        ------
        InputError
            The request makes no sense.
        BusyError
            Too many wait.
        UnkeptError
            It cannot be written down; stderr says why.
        """
        check_body(body, self.limits)
        # Without what is not given, so that defaults are those of the worker.
        request = body.model_dump_json(exclude_unset=True).encode()
        record = JobRecord(id=secrets.token_hex(8), kind=kind, state="queued", created_at=now())
        job = ServiceJob(record, request)
        with self._lock:
            full = len(self._queued) >= self.limits.queue + self.limits.workers - self._running
            if full or self._stopping or sum(self._queued.values()) + len(request) > _MOST_WAITING_BYTES:
                raise BusyError(self._retry_s())
            self._queued[job.id] = len(request)
        try:
            self._kept.write(job)
        except InputError as error:
            with self._lock:
                self._queued.pop(job.id, None)
            complain(error)
            raise UnkeptError from None
        with self._lock:
            self._jobs[job.id] = job
            waits = job.id in self._queued
        if waits:
            self._waiting.put(job)
        else:  # the service began to end meanwhile
            self._end(job, "interrupted", error=_error("stopped", _WORDS["interrupted"]))
        return job

    def _retry_s(self) -> int:
        mean = sum(self._took) / len(self._took) if self._took else 1.0
        return max(1, min(_MOST_RETRY_S, round(mean * len(self._queued) / self.limits.workers)))

    def cancel(self, job: ServiceJob) -> None:
        """Ask a job to end with the best it has; one that waits ends at once."""
        with self._lock:
            if job.ended or job.stop_asked is not None:
                return
            job.stop_asked = "cancelled"
            waited = self._queued.pop(job.id, None) is not None
        if waited:
            self._end(job, "cancelled", error=_error("stopped", _WORDS["cancelled"]))
        else:
            job.tell()

    def forget(self, job: ServiceJob) -> None:
        """Remove a job that has ended, with its result; what cannot be removed is there again after a restart."""
        with self._lock:
            self._jobs.pop(job.id, None)
        try:
            self._kept.remove(job)
        except OSError as error:
            complain(error)

    def result(self, job: ServiceJob) -> bytes:
        """Return the result of a job that has one, as JSON text.

        Raises
        ------
        GoneError
            The job was removed in the meantime.
        LostError
            It cannot be read; stderr says why.
        """
        try:
            return self._kept.result(job)
        except InputError as error:
            if self.get(job.id) is not job:
                raise GoneError(job) from None
            complain(error)
            raise LostError(job) from None

    def stop(self) -> None:
        """End all: those that run are asked to, and what they have is kept; those that wait are marked."""
        with self._lock:
            self._stopping = True
            for job in self._jobs.values():
                if not job.ended:
                    job.stop_asked = job.stop_asked or "interrupted"
            # One that is being taken on is not among the jobs yet; `submit` sees to it.
            waited = [self._jobs[identifier] for identifier in self._queued if identifier in self._jobs]
            self._queued.clear()
        for job in waited:
            self._end(job, "interrupted", error=_error("stopped", _WORDS["interrupted"]))
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(self.limits.stop_s + 10.0)

    def _work(self) -> None:
        """See one job after the other through."""
        while (job := self._waiting.get()) is not None:
            with self._lock:
                due = self._queued.pop(job.id, None) is not None
                self._running += due
            if due:
                began = time.monotonic()
                job.update(state="running", started_at=now())
                try:
                    self._see_through(job)
                except Exception as error:  # the thread must live: what cannot be kept is said of this job alone
                    complain(error)
                    text = "the service could not run the job, or keep what came of it"
                    self._end(job, "failed", error=_error("internal", text))
                self._took.append(time.monotonic() - began)
                with self._lock:
                    self._running -= 1
            job.request = b""

    def _see_through(self, job: ServiceJob) -> None:
        ours, theirs = self._context.Pipe()
        arguments = (theirs, job.record.kind, job.request, self.limits)
        process = self._context.Process(target=worker.main, args=arguments, daemon=True)
        with self._processes:
            process.start()
        theirs.close()
        try:
            said = self._follow(job, process, ours)
        finally:
            ours.close()
            if not wait([process.sentinel], _LEAVE_S):
                process.kill()
                wait([process.sentinel])
            with self._processes:
                process.join()
        self._conclude(job, said, process.exitcode)

    def _follow(self, job: ServiceJob, process: BaseProcess, connection: Connection) -> tuple[Any, ...] | None:
        """Follow a worker to its end; return its last word, None where it had none."""
        deadline = time.monotonic() + self.limits.job_s
        asked_at: float | None = None
        while True:
            ready = wait([connection, process.sentinel], _LOOK_S)
            try:
                while connection.poll():
                    message = connection.recv()
                    if message[0] != "progress":
                        return tuple(message)
                    job.add_event(message[1])
            except (EOFError, OSError):
                return None
            if process.sentinel in ready:
                return None
            at = time.monotonic()
            if job.stop_asked is None and at > deadline:
                job.stop_asked = "time"
            if job.stop_asked is not None and asked_at is None:
                asked_at = at
                try:
                    connection.send(worker.STOP)
                except OSError:
                    return None
            if asked_at is not None and at > asked_at + self.limits.stop_s:
                process.kill()
                return None

    def _conclude(self, job: ServiceJob, said: tuple[Any, ...] | None, code: int | None) -> None:
        """Keep what came of a job."""
        why = job.stop_asked
        early = None if why is None else _WORDS[why]
        if said is not None and said[0] == "result":
            self._kept.write_result(job, said[1].encode())
            cut_short = why is not None and said[2]
            state = why if why in ("cancelled", "interrupted") and cut_short else "done"
            self._end(job, state, has_result=True, early=early if cut_short else None)
        elif why is not None and (said is None or said[1] == "stopped"):
            kind = "time" if why == "time" else "stopped"
            error = _error(kind, f"{early}, before there was a result")
            self._end(job, "failed" if why == "time" else why, error=error)
        elif said is not None:
            self._end(job, "failed", error=_error(said[1], said[2]))
        else:
            ended = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            text = f"its process ended without a result ({ended}); a job may take {self.limits.memory_mib:,} MiB here"
            self._end(job, "failed", error=_error("killed", text))

    def _end(self, job: ServiceJob, state: str, **changes: Any) -> None:
        """Write that a job has ended, remove the oldest beyond those that are kept, and then say so.

        Where it cannot be written, as on a full disk, the job has ended all the same: clients wait for that. After a
        restart it is marked as interrupted then, or done where its result was written.
        """
        ended = ServiceJob(
            job.record.model_copy(update={"state": state, "ended_at": now(), **changes}), events=job.events()
        )
        try:
            self._kept.write(ended)
        except (InputError, OSError) as error:
            complain(error)
        with self._lock:
            earlier = [entry for entry in self._jobs.values() if entry.ended]
        earlier.sort(key=lambda entry: (entry.record.ended_at or "", entry.id))
        for entry in earlier[: max(0, len(earlier) + 1 - self.limits.keep)]:
            self.forget(entry)
        job.update(**dict(ended.record))


def complain(error: Exception) -> None:
    """Tell whoever runs the service what clients need not know."""
    logging.getLogger("igniter_opt").error("error: %s", error)


def _error(kind: Any, message: str) -> JobError:
    return JobError(kind=kind, message=message)
