"""The errors that users see; the command line maps each to an exit code."""


class IgniterOptError(Exception):
    """Base of all errors raised on purpose by this package."""


class InputError(IgniterOptError):
    """Bad input or environment: says what, where and how to mend it (exit code 2)."""


class InfeasibleError(IgniterOptError):
    """The honest answer is that no plan exists, or that a method finds none (exit code 1)."""


class VerificationError(IgniterOptError):
    """A solver produced a plan that the predictor rejects: a bug in this package."""
