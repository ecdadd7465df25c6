"""Where the points of a sweep are worked on: in this process, in others on this machine, or on a cluster.

An engine is given the tasks of a round and yields outcomes as they come. What a worker that dies had at hand is done
again elsewhere; a task that was lost too often is an error.
"""

import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from importlib import import_module
from multiprocessing.synchronize import Event
from typing import Self

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import one_of
from igniter_opt.base.stop import StopRequest
from igniter_opt.sweeps.work import PointOutcome, PointTask, run_task

MOST_WORKERS = 1_000
# Dask's own limit, too.
MOST_FAILURES = 3
# Seconds between looks at the stop request.
LOOK_EVERY_S = 0.2


class Engine(ABC):
    """Workers for points; a context manager that ends those it started.

    Parameters
    ----------
    workers
        How many there shall be; None: as many as there are processors, or as the cluster has.
    scheduler
        Address of a cluster's scheduler, for engines that want one.
    stop
        Ends what is running with what there is so far.
    """

    def __init__(self, workers: int | None, scheduler: str | None, stop: StopRequest) -> None:
        self.workers, self.scheduler, self.stop = workers, scheduler, stop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def run(self, tasks: Sequence[PointTask]) -> Iterator[tuple[int, PointOutcome]]:
        """Yield position and outcome of tasks as they are done; after a stop, of those that ended in time."""

    @abstractmethod
    def close(self) -> None:
        """End the workers that were started, and leave a cluster."""


class Local(Engine):
    """Processes of this machine; with one worker, this process."""

    def __init__(self, workers: int | None, scheduler: str | None, stop: StopRequest) -> None:
        if scheduler is not None:
            raise InputError("a scheduler goes with --engine dask; the engine local needs none")
        super().__init__(workers or len(os.sched_getaffinity(0)), None, stop)
        self._context = multiprocessing.get_context("spawn")
        self._stopped: Event = self._context.Event()
        self._pool: ProcessPoolExecutor | None = None

    def run(self, tasks: Sequence[PointTask]) -> Iterator[tuple[int, PointOutcome]]:
        """Yield outcomes; lost tasks are begun again in new processes."""
        if self.workers == 1:
            for number, task in enumerate(tasks):
                if self.stop.is_set():
                    return
                yield number, run_task(task, self.stop.is_set)
            return
        left = set(range(len(tasks)))
        for failures in range(MOST_FAILURES + 1):
            try:
                for number, outcome in self._finished(tasks, sorted(left)):
                    left.discard(number)
                    yield number, outcome
                return
            except BrokenExecutor:
                self.close()
                if failures == MOST_FAILURES:
                    break
        raise InputError(
            f"worker processes ended {MOST_FAILURES + 1} times before their points were done: killed, perhaps for want"
            " of memory (take fewer --workers), or started by a script whose own code is not under"
            " `if __name__ == '__main__':` (mend that, or take workers=1)"
        )

    def _finished(self, tasks: Sequence[PointTask], numbers: Sequence[int]) -> Iterator[tuple[int, PointOutcome]]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                min(self.workers or 1, MOST_WORKERS), self._context, initializer=_begin, initargs=(self._stopped,)
            )
        waiting: dict[Future[PointOutcome], int] = {self._pool.submit(_run, tasks[k]): k for k in numbers}
        while waiting:
            done, _ = wait(waiting, timeout=LOOK_EVERY_S, return_when=FIRST_COMPLETED)
            if self.stop.is_set() and not self._stopped.is_set():
                self._stopped.set()
                for future in waiting:
                    future.cancel()
            for future in done:
                number = waiting.pop(future)
                if not future.cancelled():
                    yield number, future.result()

    def close(self) -> None:
        """End the processes; those at work end soon after the stop that they are told of."""
        if self._pool is not None:
            self._stopped.set()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
            self._stopped = self._context.Event()


class _Told:
    """Of a worker process: what tells it to stop."""

    stopped: Callable[[], bool] = staticmethod(lambda: False)


def _begin(stopped: Event) -> None:
    """Leave Ctrl-C, which the terminal sends to all, to the process that asks; and end when that one does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    _Told.stopped = staticmethod(stopped.is_set)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.join,), daemon=True).start()


def _end_with(join: Callable[[], object]) -> None:
    join()
    os._exit(1)


def _run(task: PointTask) -> PointOutcome:
    return run_task(task, _Told.stopped)


# Names, and the module of this folder and the class of it.
ENGINES: Mapping[str, str] = {"local": "engines.Local", "dask": "dask_engine.Dask"}


def engine_named(name: str, workers: int | None, scheduler: str | None, stop: StopRequest) -> Engine:
    """Make an engine.

    Raises
    ------
    InputError
        There is none of this name, or it cannot be had.
    """
    if name == "ray":
        raise InputError(
            "engine ray: there is none; a cluster is reached by Dask (--engine dask --scheduler ADDRESS), all"
            " processors of this machine by the engine local"
        )
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise InputError(f"the number of workers must be 1 to {MOST_WORKERS:,}; found {workers}")
    module, kind = ENGINES[one_of(name, ENGINES, "unknown engine", "engines")].split(".")
    made: Engine = getattr(import_module(f"igniter_opt.sweeps.{module}"), kind)(workers, scheduler, stop)
    return made
