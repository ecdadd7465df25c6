"""Best known plans and bounds of the shipped instances (``instances/results/*.yaml``)."""

from importlib import resources

from igniter_opt.base.schema import NonNegative, Record, parse_record
from igniter_opt.base.yaml_files import parse_yaml


class KnownValue(Record):
    """A best known value: cost per hour, and how and when it was found."""

    cost_per_hour: NonNegative
    gpus: int | None = None
    total_share_percent: NonNegative | None = None
    method: str
    command: str
    version: str
    date: str
    runtime_s: NonNegative


class KnownResults(Record):
    """What is known about one instance: the cheapest verified plan and the highest proven lower bound."""

    instance: str
    best_cost: KnownValue
    best_bound: KnownValue


def best_known(name: str) -> KnownResults | None:
    """Return the results twin of a shipped instance, or None if it has none."""
    file = resources.files("igniter_opt.instances") / "results" / f"{name}.yaml"
    if not file.is_file():
        return None
    source = f"results of {name}"
    return parse_record(KnownResults, parse_yaml(file.read_text("utf-8"), source), source)
