"""The errors that users see; each carries the command's exit code and the prefix of its message."""

import re
from typing import ClassVar

from igniter_opt.base.command import EXIT_INTERRUPTED

EXIT_NO, EXIT_BAD_INPUT = 1, 2


class IgniterOptError(Exception):
    """Base of all errors raised on purpose by this package.

    Attributes
    ----------
    exit_code
        What the command ends with.
    prefix
        What the command's message begins with.
    """

    exit_code: ClassVar[int] = EXIT_NO
    prefix: ClassVar[str] = "internal error: "


class InputError(IgniterOptError):
    """Bad input or environment: says what, where and how to mend it (exit code 2)."""

    exit_code = EXIT_BAD_INPUT
    prefix = "error: "


class Caution(UserWarning):
    """Something a user should know of what is done all the same; the command prints it as one line."""


class UnsuitableError(InputError):
    """The method at hand cannot treat this instance; another one can."""


class InfeasibleError(IgniterOptError):
    """No plan (exit code 1).

    Attributes
    ----------
    proven
        True if no plan exists; False if only the method at hand found none.
    """

    prefix = "no plan: "

    def __init__(self, message: str, *, proven: bool = False) -> None:
        super().__init__(message)
        self.proven = proven


class UnboundedError(InfeasibleError):
    """What a method packs together leaves some workloads no finite latency, so that it is no plan (exit code 1).

    Attributes
    ----------
    gpus, cost_per_hour, total_share_percent
        What the placements take.
    workloads_over_slo
        Names of the workloads that miss their SLO or rate, those without a finite latency first.
    """

    def __init__(
        self,
        message: str,
        gpus: int,
        cost_per_hour: float,
        total_share_percent: float,
        workloads_over_slo: list[str],
    ) -> None:
        super().__init__(message)
        self.gpus, self.cost_per_hour, self.total_share_percent = gpus, cost_per_hour, total_share_percent
        self.workloads_over_slo = workloads_over_slo


class StoppedOnRequestError(KeyboardInterrupt):
    """Something was stopped on request (exit code 130); the message says what there is so far.

    No `IgniterOptError`, and not even an Exception: a loop over many solves that goes on after errors ends with Ctrl-C.
    """

    exit_code: ClassVar[int] = EXIT_INTERRUPTED
    prefix: ClassVar[str] = ""


class SolveInterruptedError(StoppedOnRequestError):
    """A solve was stopped before it had any plan (exit code 130)."""


class SimulationInterruptedError(StoppedOnRequestError):
    """A simulation was stopped on request (exit code 130)."""


class MeasurementInterruptedError(StoppedOnRequestError):
    """A measurement or rehearsal was stopped before anything was measured (exit code 130)."""


class RefusedError(IgniterOptError):
    """A plan that must not be deployed: not approved, changed since, or it does not hold (exit code 1)."""

    prefix = "refused: "


class DeploymentError(IgniterOptError):
    """A deployment did not become ready and was rolled back (exit code 1)."""

    prefix = "not deployed: "


class DeploymentInterruptedError(StoppedOnRequestError):
    """A deployment was stopped on request; says what is left running (exit code 130)."""


class SolverError(IgniterOptError):
    """HiGHS or its use failed in a way that must not happen: a bug, or numbers beyond what it can handle."""


class VerificationError(SolverError):
    """A solver's plan or bound contradicts the predictor or another result: a bug in this package."""


def explained(error: BaseException) -> str:
    """Render somebody else's error in one line."""
    said = (re.sub("\x1b\\[[0-9;]*m", "", str(error)).strip().splitlines() or [""])[0][:300]
    return f"{said} [{type(error).__name__}]" if said else type(error).__name__
