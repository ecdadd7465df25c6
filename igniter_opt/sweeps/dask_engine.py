"""The points of a sweep on an existing Dask cluster, by its ordinary client.

Dask, rather than Ray: points take seconds, their results kilobytes, and every round is one map, so that neither actors
nor a shared object store would be used. Dask is plain Python of 2.5 MB where Ray is 79 MB of compiled code, its
schedulers are what batch systems are reached by (dask-jobqueue, dask-kubernetes, dask-ssh), and work that a dead worker
had at hand is given to another one by the scheduler itself.

The cluster belongs to somebody else: it is neither started nor scaled nor ended here. Its workers need this package, of
the same version. A task that is running cannot be ended there; it runs until its time limit at most.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from importlib.metadata import version
from queue import Empty, Queue
from typing import Any

from igniter_opt.base.errors import IgniterOptError, InputError, explained
from igniter_opt.base.optional import load
from igniter_opt.base.stop import StopRequest
from igniter_opt.sweeps.engines import LOOK_EVERY_S, Engine
from igniter_opt.sweeps.work import PointOutcome, PointTask, run_task

# Seconds that a scheduler has to answer.
_CONNECT_S = 15.0


class Dask(Engine):
    """Workers of a Dask cluster."""

    def __init__(self, workers: int | None, scheduler: str | None, stop: StopRequest) -> None:
        super().__init__(workers, scheduler, stop)
        if scheduler is None:
            raise InputError("--engine dask needs the address of a cluster's scheduler: --scheduler tcp://HOST:8786")
        if workers is not None:
            raise InputError("--workers is for the engine local; a Dask cluster has the workers that it has")
        self._distributed = load("distributed", "dask")
        try:
            # As a client among others: it is not the one that plain Dask calls of the same program would use.
            self._client: Any = self._distributed.Client(scheduler, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"--scheduler {scheduler}: no Dask scheduler answers there ({explained(error)})") from None
        if not self._client.scheduler_info(n_workers=-1)["workers"]:
            self._client.close()
            raise InputError(
                f"--scheduler {scheduler}: the cluster has no workers; start some (dask worker {scheduler})"
            )

    def run(self, tasks: Sequence[PointTask]) -> Iterator[tuple[int, PointOutcome]]:
        """Yield outcomes; what a worker that dies had at hand is begun again by the scheduler."""
        finished: Queue[Any] = Queue()
        futures = {}
        for number, task in enumerate(tasks):
            # Not pure: equal tasks of two sweeps are not the same one, of which one's end would end the other's.
            future = self._client.submit(run_task, task, pure=False)
            futures[future.key] = number
            future.add_done_callback(finished.put)
        kept: list[Any] = []  # of futures that nobody keeps the scheduler lets go
        while len(kept) < len(futures):
            try:
                future = finished.get(timeout=LOOK_EVERY_S)
            except Empty:
                if self.stop.is_set():
                    self._client.cancel(list(futures))
                    return
                continue
            kept.append(future)
            yield futures[future.key], self._checked(future)

    def _checked(self, future: Any) -> PointOutcome:
        try:
            outcome: PointOutcome = future.result(timeout=_CONNECT_S)
        except IgniterOptError:
            raise
        except (Exception, CancelledError) as error:
            raise InputError(
                f"--scheduler {self.scheduler}: a point could not be worked on there ({explained(error)}); its workers"
                f" need igniter-opt {version('igniter-opt')}, and memory for a solve"
            ) from None
        if outcome.version != version("igniter-opt"):
            raise InputError(
                f"--scheduler {self.scheduler}: its workers have igniter-opt {outcome.version}, this is"
                f" {version('igniter-opt')}; install the same"
            )
        return outcome

    def close(self) -> None:
        """Leave the cluster."""
        self._client.close()
