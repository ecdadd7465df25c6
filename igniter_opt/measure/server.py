"""What Triton says about itself: is it alive, and its own statistics between two points in time."""

import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from igniter_opt.deploy.triton.inference import http_get
from igniter_opt.measure.results import ServerSplit
from igniter_opt.simulation.servers import Server

_NS_PER_MS = 1e6
_PARTS = {
    "queue_ms": "queue",
    "input_ms": "compute_input",
    "compute_ms": "compute_infer",
    "output_ms": "compute_output",
}


def is_alive(url: str) -> bool:
    """Whether a server answers at all."""
    return _get(url, "/v2/health/live") is not None


def model_statistics(url: str | None, model: str) -> Any:
    """Return a model's statistics as ``/v2/models/M/stats`` gives them, None where there are none."""
    body = None if url is None else _get(url, f"/v2/models/{model}/stats")
    try:
        return None if body is None else json.loads(body)["model_stats"][0]
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def split(before: Any, after: Any, pace: float = 1.0) -> ServerSplit | None:
    """Return what happened between two statistics of one model; None if either is missing or makes no sense.

    Times are multiplied by `pace`.
    """
    if before is None or after is None:
        return None
    try:
        old, new = before["inference_stats"], after["inference_stats"]
        requests = int(new["success"]["count"]) - int(old["success"]["count"])
        passed = {name: int(new[key]["ns"]) - int(old[key]["ns"]) for name, key in _PARTS.items()}
        executions = int(after["execution_count"]) - int(before["execution_count"])
        if min(requests, executions, *passed.values()) < 0:  # it was started anew in between
            return None
        parts = {name: ns * pace / requests / _NS_PER_MS if requests else None for name, ns in passed.items()}
        sizes = _sizes(after)
        earlier = _sizes(before)
        counts, times = {}, {}
        for size, (count, ns) in sorted(sizes.items()):
            count_before, ns_before = earlier.get(size, (0, 0))
            if count > count_before:
                counts[str(size)] = count - count_before
                times[str(size)] = (ns - ns_before) * pace / (count - count_before) / _NS_PER_MS
        return ServerSplit(
            requests=requests,
            executions=executions,
            mean_batch=requests / executions if executions else None,
            **parts,
            batches=counts,
            batch_ms=times,
        )
    except (KeyError, TypeError, ValueError):
        return None


def since_start(statistics: Any) -> ServerSplit | None:
    """Return what happened since a server started; None where statistics are missing or make no sense."""
    nothing = {"count": 0, "ns": 0}
    sums = dict.fromkeys(("success", *_PARTS.values()), nothing)
    return split({"inference_stats": sums, "execution_count": 0}, statistics)


def together(splits: list[ServerSplit | None]) -> ServerSplit | None:
    """Combine the splits of several servers; None unless all are known."""
    known = [entry for entry in splits if entry is not None]
    if len(known) != len(splits):
        return None
    requests, executions = (sum(getattr(entry, name) for entry in known) for name in ("requests", "executions"))
    batches: dict[str, int] = {}
    total: dict[str, float] = {}
    for entry in known:
        for size, count in entry.batches.items():
            batches[size] = batches.get(size, 0) + count
            total[size] = total.get(size, 0.0) + count * entry.batch_ms[size]
    means = {
        name: sum((getattr(entry, name) or 0.0) * entry.requests for entry in known) / requests if requests else None
        for name in _PARTS
    }
    return ServerSplit(
        requests=requests,
        executions=executions,
        mean_batch=requests / executions if executions else None,
        **means,
        batches=batches,
        batch_ms={size: total[size] / count for size, count in batches.items()},
    )


class BatchTimes(NamedTuple):
    """What batches took in all, in ms, and what the predictor says that they take: in all, and on the GPU alone."""

    taken: float
    predicted: float
    predicted_gpu: float


def batch_times(split: ServerSplit, planned: Server) -> BatchTimes:
    """Compare what a server's batches took with what is predicted for batches of these sizes."""
    taken = predicted = gpu = 0.0
    for size, count in split.batches.items():
        k = min(int(size), len(planned.gpu)) - 1
        gpu += count * float(planned.gpu[k]) / _NS_PER_MS
        predicted += count * float(planned.gpu[k] + planned.feedback[k] + planned.load[k]) / _NS_PER_MS
        taken += count * split.batch_ms[size]
    return BatchTimes(taken, predicted, gpu)


def _sizes(statistics: Any) -> dict[int, tuple[int, int]]:
    return {
        int(entry["batch_size"]): (int(entry["compute_infer"]["count"]), int(entry["compute_infer"]["ns"]))
        for entry in statistics.get("batch_stats", [])
    }


def _get(url: str, path: str) -> bytes | None:
    parts = urlsplit(url)
    return None if parts.hostname is None else http_get(parts.hostname, parts.port or 80, path)
