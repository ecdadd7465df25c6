"""What an instance knows of SLO rules: their names, and which of them have a percentile.

The rules themselves stand above this room. Their table (`slo.rules`) says here that it is the one that counts, so that
files may name whatever is in it, whoever put it there. It is loaded when a rule's name is first asked for.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

from igniter_opt.base.schema import describe, invalid, nearest


class AdmittedRule(Protocol):
    """A rule as far as files are concerned (see `slo.rule.Rule`)."""

    @property
    def name(self) -> str:
        """What files call it."""

    @property
    def has_percentile(self) -> bool:
        """Whether an instance may say which percentile it is about."""


class _Admitted:
    rules: Mapping[str, AdmittedRule] = {}


def admit(rules: Mapping[str, AdmittedRule]) -> None:
    """Let instances name the rules of a table, whatever it holds at the time."""
    _Admitted.rules = rules


def _rules() -> Mapping[str, AdmittedRule]:
    if not _Admitted.rules:
        import_module("igniter_opt.slo.rules")
    return _Admitted.rules


def rule_names() -> list[str]:
    """Return the names of all rules."""
    return list(_rules())


def percentile_rules() -> str:
    """Name the rules that have a percentile."""
    return " or ".join(name for name, rule in _rules().items() if rule.has_percentile)


def has_percentile(rule: str) -> bool:
    """Whether a rule is known to have a percentile."""
    return rule in _rules() and _rules()[rule].has_percentile


def admitted(value: object) -> object:
    """Return a rule's name as it is; refuse others, naming the nearest."""
    names = rule_names()
    if value in names:
        return value
    raise invalid(f"must be one of {', '.join(names)}; found {describe(value)}{nearest(value, names)}")


def list_rules(schema: dict[str, Any]) -> None:
    """Say in a JSON schema which rules there are."""
    schema["enum"] = rule_names()
