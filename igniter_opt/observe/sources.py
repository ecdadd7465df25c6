"""Which of Prometheus's series are a workload's, and what Triton calls what it counts.

Triton's counters have the labels `model` and `version`; the targets that `deploy --file-sd` writes add `workload` and
others. A series belongs to the workload whose `series` in the user's file it fits, else to the one that its label
names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import describe, is_name, name_from, nearest
from igniter_opt.data.asked import first_of
from igniter_opt.observe.client import Series
from igniter_opt.observe.counters import Counter, counter

REQUESTS, FAILURES = "nv_inference_request_success", "nv_inference_request_failure"
DURATION_US, QUEUE_US = "nv_inference_request_duration_us", "nv_inference_queue_duration_us"
# Only with `tritonserver --metrics-config summary_latencies=true`.
SUMMARY_US, P99 = "nv_inference_request_summary_us", '{quantile="0.99"}'
# Further keys of what workloads ask for (`data.asked`).
RATE_QUERY, BURSTINESS_QUERY, P99_QUERY = "rate_query", "burstiness_query", "p99_query"
SOURCE_KEYS = ("series", RATE_QUERY, BURSTINESS_QUERY, P99_QUERY)
_LABELS = ("workload", "model")
# What one server's counter of one model is told apart by, whoever scrapes it.
_OF_ONE_COUNTER = ("instance", "model", "version", "gpu_uuid")


class Wanted(NamedTuple):
    """What the user says about where workloads' numbers are.

    Attributes
    ----------
    wishes
        By workload, with `SOURCE_KEYS`.
    label
        The label that names the workload; None for `workload`, and where there is none, `model`.
    select
        Matchers of series, such as ``{job="triton"}``, or nothing.
    where
        Where the wishes stand.
    """

    wishes: Mapping[str, Mapping[str, Any]]
    label: str | None
    select: str
    where: str

    def selector(self, metric: str, more: str = "") -> str:
        """Return the selector of a metric's series."""
        inside = ",".join(
            part for part in (text.strip().removeprefix("{").removesuffix("}") for text in (self.select, more)) if part
        )
        return f"{metric}{{{inside}}}" if inside else metric

    def of(self, labels: Mapping[str, str]) -> str | None:
        """Return whose a series is; None if nobody's."""
        for name, wish in self.wishes.items():
            if "series" in wish and all(labels.get(key, "") == str(value) for key, value in wish["series"].items()):
                return name
        value = self.value(labels)
        return None if not value else value if value in self.wishes else name_from(value)

    def value(self, labels: Mapping[str, str]) -> str:
        """Return what the label says; empty where there is none."""
        return next((labels[key] for key in (_LABELS if self.label is None else (self.label,)) if labels.get(key)), "")


def check_sources(wanted: Wanted) -> None:
    """Raise InputError where what the user says about sources is not of the form."""
    for name, wish in wanted.wishes.items():
        if not isinstance(name, str) or not is_name(name):
            raise InputError(
                f"{wanted.where}: {describe(name)} is no name of a workload; 'series' says which series are whose"
            )
        if "series" in wish:
            series = wish["series"]
            fits = isinstance(series, Mapping) and len(series) > 0
            if not fits or not all(isinstance(v, str | int) and not isinstance(v, bool) for v in series.values()):
                raise InputError(
                    f"{wanted.where}: {name}: series: must be a mapping of labels to values such as"
                    f" {{model: resnet50-v3, job: triton}}; found {describe(series)}"
                )
        for key in (RATE_QUERY, BURSTINESS_QUERY, P99_QUERY):
            if key in wish and not (isinstance(wish[key], str) and wish[key].strip()):
                raise InputError(f"{wanted.where}: {name}: {key}: must be a query; found {describe(wish[key])}")


@dataclass
class WorkloadServers:
    """A workload's counters, and what its labels tell.

    Attributes
    ----------
    models
        What Triton calls its models.
    values
        What the label that names it says, as it is there.
    twice
        WorkloadServers whose counter is there more than once, with the jobs that scrape it.
    """

    counters: list[Counter] = field(default_factory=list)
    models: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    twice: dict[str, set[str]] = field(default_factory=dict)


def servers_by_workload(series: Sequence[Series], wanted: Wanted) -> tuple[dict[str, WorkloadServers], int]:
    """Sort series by workload; return how many are nobody's, too.

    Raises
    ------
    InputError
        Two workloads would have one name, or one of the user's has no series.
    """
    found: dict[str, WorkloadServers] = {}
    jobs: dict[tuple[str, ...], set[str]] = {}
    strangers = 0
    for entry in series:
        name = wanted.of(entry.labels)
        if name is None:
            strangers += 1
            continue
        if RATE_QUERY in wanted.wishes.get(name, {}):
            continue
        own = counter(entry)
        if own is None:
            continue
        servers = found.setdefault(name, WorkloadServers())
        servers.counters.append(own)
        servers.models.add(entry.labels.get("model", ""))
        if "series" not in wanted.wishes.get(name, {}):
            servers.values.add(wanted.value(entry.labels))
        key = (name, *(entry.labels.get(label, "") for label in _OF_ONE_COUNTER))
        there = jobs.setdefault(key, set())
        if there and key[1]:
            servers.twice.setdefault(key[1], set()).update({*there, entry.labels.get("job", "")})
        there.add(entry.labels.get("job", ""))
    for name, servers in found.items():
        if len(servers.values) > 1:
            raise InputError(
                f"the series of {first_of(sorted(servers.values))} would all be workload {name}; name them by 'series'"
                " in a file of --workloads"
            )
    for name, wish in wanted.wishes.items():
        if name not in found and RATE_QUERY not in wish:
            raise InputError(
                f"{wanted.where}: there is no series {wanted.selector(REQUESTS)} of workload"
                f" {name}{nearest(name, found)}; 'series' says by which labels it is found, 'rate_query' asks otherwise"
            )
    return found, strangers
