"""The errors that users see; the command line maps each to an exit code."""


class IgniterOptError(Exception):
    """Base of all errors raised on purpose by this package."""


class InputError(IgniterOptError):
    """Bad input or environment: says what, where and how to mend it (exit code 2)."""


class InfeasibleError(IgniterOptError):
    """No plan (exit code 1).

    Attributes
    ----------
    proven
        True if no plan exists; False if only the method at hand found none.
    """

    def __init__(self, message: str, *, proven: bool = False) -> None:
        super().__init__(message)
        self.proven = proven


class VerificationError(IgniterOptError):
    """A solver produced a plan that the predictor rejects: a bug in this package."""
