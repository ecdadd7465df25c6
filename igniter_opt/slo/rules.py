"""The one table of SLO rules. Nobody outside this folder compares their names.

A rule is a file in this folder and a row here. Programs add rows of their own by `register_rule`: files may name them,
and all that plans, judges, simulates, deploys and reports follows them.
"""

from collections.abc import Mapping
from types import MappingProxyType

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import is_name, one_of
from igniter_opt.data.instance import Instance
from igniter_opt.data.slo_rule import admit
from igniter_opt.slo.deadline import Deadline
from igniter_opt.slo.half import Half
from igniter_opt.slo.p99 import Percentile
from igniter_opt.slo.rule import Rule

_ROWS: tuple[Rule, ...] = (Half(), Deadline(), Percentile())
_table: dict[str, Rule] = {rule.name: rule for rule in _ROWS}
RULES: Mapping[str, Rule] = MappingProxyType(_table)
"""All rules by name; those that were registered are here, too."""
admit(RULES)


def rule_of(instance: Instance) -> Rule:
    """Return an instance's rule, with its parameters.

    Raises
    ------
    InputError
        It is no longer registered.
    """
    return RULES[one_of(instance.slo_rule, RULES, "unknown SLO rule", "rules")].of(instance)


def register_rule(rule: Rule) -> None:
    """Add a rule, for this process.

    Raises
    ------
    InputError
        There is a rule of this name, or it is no name.
    """
    if not isinstance(rule, Rule):
        raise InputError(f"an SLO rule is an object of a class derived from slo.rule.Rule; found {rule!r}")
    if not is_name(rule.name):
        raise InputError(f"{rule.name!r} is no name of an SLO rule: take letters, digits and any of . _ -")
    if rule.name in _table:
        raise InputError(f"there is an SLO rule {rule.name} already; take another name, or unregister that one first")
    _table[rule.name] = rule


def unregister_rule(name: str) -> None:
    """Take out a rule that was registered.

    Raises
    ------
    InputError
        None of this name was registered; the package's own stay.
    """
    if name not in _table or name in {rule.name for rule in _ROWS}:
        raise InputError(f"no SLO rule {name!r} was registered")
    del _table[name]
