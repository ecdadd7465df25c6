"""The one table of SLO rules. Nobody outside this folder compares their names.

A rule is a file in this folder and a row here. Programs add rows of their own by `register_rule`: files may name them,
and all that plans, judges, simulates, deploys and reports follows them.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import is_name, one_of
from igniter_opt.data.instance import Instance
from igniter_opt.data.slo_rule import admit

if TYPE_CHECKING:
    from igniter_opt.slo.rule import Rule

# Names, and the module of this folder and the class that the rule is an object of.
_ROWS = {
    "half": "part_of_slo.Half",
    "deadline": "deadline.Deadline",
    "p99": "p99.Percentile",
    "parvagpu": "part_of_slo.ParvaGpu",
}


class _Rules(Mapping[str, "Rule"]):
    """Rules by name, made when they are first asked for: names are wanted where nothing is judged, as in help."""

    def __init__(self, rows: Mapping[str, str]) -> None:
        self.table: dict[str, Rule | str] = dict(rows)

    def __getitem__(self, name: str) -> "Rule":
        row = self.table[name]
        if isinstance(row, str):
            module, kind = row.split(".")
            row = self.table[name] = getattr(import_module(f"igniter_opt.slo.{module}"), kind)()
        return row

    def __contains__(self, name: object) -> bool:
        return name in self.table

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)


_rules = _Rules(_ROWS)
RULES: Mapping[str, "Rule"] = _rules
"""All rules by name; those that were registered are here, too."""
admit(RULES)


def rule_of(instance: Instance) -> "Rule":
    """Return an instance's rule, with its parameters.

    Raises
    ------
    InputError
        It is no longer registered.
    """
    return RULES[one_of(instance.slo_rule, RULES, "unknown SLO rule", "rules")].of(instance)


def proven_within(rule: str) -> str:
    """Return what proofs under a rule are within, as in ``" within p99's safe limits"``; empty where limits are exact.

    Whatever says that something is proven about costs says this beside it.
    """
    return "" if rule not in RULES or RULES[rule].exact_limits else f" within {rule}'s safe limits"


def register_rule(rule: "Rule") -> None:
    """Add a rule, for this process.

    Raises
    ------
    InputError
        There is a rule of this name, or it is no name.
    """
    from igniter_opt.slo.rule import Rule

    if not isinstance(rule, Rule):
        raise InputError(f"an SLO rule is an object of a class derived from slo.rule.Rule; found {rule!r}")
    if not is_name(rule.name):
        raise InputError(f"{rule.name!r} is no name of an SLO rule: take letters, digits and any of . _ -")
    if rule.name in _rules:
        raise InputError(f"there is an SLO rule {rule.name} already; take another name, or unregister that one first")
    _rules.table[rule.name] = rule


def unregister_rule(name: str) -> None:
    """Take out a rule that was registered.

    Raises
    ------
    InputError
        None of this name was registered; the package's own stay.
    """
    if name not in _rules or name in _ROWS:
        raise InputError(f"no SLO rule {name!r} was registered")
    del _rules.table[name]
