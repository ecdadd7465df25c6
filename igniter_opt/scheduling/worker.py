"""Questions of steps answered in other processes, as many at once as there are processors.

A worker is ``python -m igniter_opt.scheduling.worker``: what it is asked comes on its standard input, what it answers
goes to its standard output, pickled. (The pools of Python's library run the calling program's file anew in every
process, which a script without a guard for that does not survive.) Ctrl-C on a terminal does not reach them; they end
with their standard input.
"""

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any

from igniter_opt.base.errors import SolverError
from igniter_opt.base.stop import StopRequest
from igniter_opt.scheduling.steps import Answer, Question, StepProblem, answered

# Fewer questions than this are answered here: a process takes seconds to begin.
_WORTH_A_PROCESS = 12
# Seconds between looks for a stop.
_LOOK_S = 0.2


class Workers:
    """Answers questions of one `StepProblem`.

    Parameters
    ----------
    number
        How many processes; None for one per processor.
    """

    def __init__(self, step: StepProblem, stop: StopRequest, number: int | None = None) -> None:
        self.step, self.stop = step, stop
        self.number = len(os.sched_getaffinity(0)) if number is None else number
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._all: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        for process in self._all:
            process.wait()

    def _kill(self) -> None:
        for process in self._all:
            with contextlib.suppress(OSError):
                process.kill()

    def answers(
        self, questions: Sequence[Question], report: Callable[[int], object], enough: Callable[[], bool]
    ) -> list[Answer | None]:
        """Return an answer to every question, None to those that were not answered before it was enough.

        Parameters
        ----------
        report
            Called with the number of answers so far.
        """
        found: list[Answer | None] = [None] * len(questions)
        if self.number <= 1 or len(questions) < _WORTH_A_PROCESS:
            for number, question in enumerate(questions):
                if enough():
                    break
                found[number] = answered(self.step, question, self.stop)
                report(number + 1)
            return found
        self._start()
        with ThreadPoolExecutor(len(self._all)) as pool:
            waiting = {pool.submit(self._asked, question, enough): number for number, question in enumerate(questions)}
            left = set(waiting)
            while left:
                done, left = wait(left, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
                if self.stop.is_set():
                    self._kill()
                for future in done:
                    found[waiting[future]] = future.result()
                report(len(waiting) - len(left))
        return found

    def _start(self) -> None:
        while len(self._all) < self.number:
            command = [sys.executable, "-m", "igniter_opt.scheduling.worker"]
            # A session of its own: what interrupts this program shall not interrupt them.
            process = subprocess.Popen(  # noqa: S603 (this program)
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
            self._all.append(process)
            _send(process.stdin, self.step)
            self._idle.put(process)

    def _asked(self, question: Question, enough: Callable[[], bool]) -> Answer | None:
        if enough():
            return None
        process = self._idle.get()
        try:
            _send(process.stdin, question)
            answer = pickle.load(process.stdout)  # type: ignore[arg-type] # noqa: S301 (our own process)
        except (OSError, EOFError, pickle.UnpicklingError):
            if enough():
                return None
            raise SolverError("a process that solves steps has ended; free some memory, or take --workers 1") from None
        finally:
            self._idle.put(process)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Answer)  # noqa: S101 (what workers send)
        return answer


def _send(stream: Any, value: object) -> None:
    pickle.dump(value, stream)
    stream.flush()


def _received(stream: Any) -> Iterator[Any]:
    while True:
        try:
            yield pickle.load(stream)  # noqa: S301 (from the process that started this one)
        except EOFError:
            return


def main() -> None:
    """Answer what comes until there is no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever prints shall not come between.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    received = _received(sys.stdin.buffer)
    step: StepProblem = next(received)
    for question in received:
        try:
            _send(answers, answered(step, question))
        except Exception as error:
            _send(answers, SolverError(f"a step could not be solved: {error!r}"))


if __name__ == "__main__":
    main()
