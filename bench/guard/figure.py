"""The load over time, and what was answered meanwhile as a series and as a picture."""

from pathlib import Path
from typing import Any

import numpy as np

from igniter_opt.guard.journal import Event

COOL_DOWN_S = 10.0
# Seconds of load at the planned rate, at a quarter of it, and at the planned rate again.
PHASES, LOW = (20.0, 50.0, 15.0), 0.25
WINDOW_S = 0.2
SHOWN = ("repair", "return", "switched", "done", "failed", "infeasible")


def trace(rate: float, begin_s: float) -> np.ndarray[Any, Any]:
    """Return when requests are due."""
    times, now = [], begin_s
    for seconds, share in zip(PHASES, (1.0, LOW, 1.0), strict=True):
        times.append(now + np.arange(round(seconds * rate * share)) / (rate * share))
        now += seconds
    return np.concatenate(times)


def series(rows: list[dict[str, Any]], begin: float, switches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the P99 of what was answered in every window, per server in turn; times in s after the load began."""
    # A server's address may be that of an earlier one, which has long been stopped.
    turns = [(0.0, rows[0]["server"]), *((switch["at_s"], switch["after"]) for switch in switches)]
    found: dict[tuple[int, int], list[float]] = {}
    for row in rows:
        at = row["at"] - begin
        # Clients follow the file, so the first answers of a server may be told of a little before its turn.
        own = [k for k, (_, server) in enumerate(turns) if server == row["server"]]
        turn = max((k for k in own if turns[k][0] <= at), default=own[0])
        found.setdefault((int(at // WINDOW_S), turn), []).extend(row["latencies_ms"])
    return [
        {
            "at_s": round((window + 1) * WINDOW_S, 3),
            "server": turn + 1,
            "requests": len(latencies),
            "p99_ms": round(float(np.quantile(latencies, 0.99, method="inverted_cdf")), 3),
        }
        for (window, turn), latencies in sorted(found.items())
        if latencies
    ]


def draw(
    found: list[dict[str, Any]], events: list[tuple[float, Event]], slo_ms: float, share_percent: float, path: Path
) -> None:
    """Draw P99 and share over time."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5), height_ratios=(3, 1), layout="constrained")
    for server in sorted({entry["server"] for entry in found}):
        own = [entry for entry in found if entry["server"] == server]
        above.plot(
            [entry["at_s"] for entry in own],
            [entry["p99_ms"] for entry in own],
            label=f"server {server}",
            linewidth=1.2,
        )
    above.axhline(slo_ms, color="black", linestyle="--", linewidth=0.8, label="SLO")
    above.set_yscale("log")
    above.set_yticks([level for level in (10, 20, 50, 100, 200, 500, 1000) if level >= slo_ms / 2])
    above.yaxis.set_major_formatter("{x:g}")
    above.yaxis.set_minor_formatter("")
    above.set_ylabel("P99 [ms]")
    above.legend(frameon=False, ncols=4)
    shares, times = [share_percent], [0.0]
    for at, event in events:
        if event.event == "switched" and event.to_share_percent is not None:
            above.axvline(at, color="grey", linewidth=0.6)
            shares += [shares[-1], event.to_share_percent]
            times += [at, at]
    below.plot([*times, sum(PHASES)], [*shares, shares[-1]], color="tab:green")
    below.set_ylabel("share [%]")
    below.set_ylim(0, 45)
    below.set_xlabel("seconds after the load began (it falls to a quarter at 20 s, and comes back at 70 s)")
    figure.savefig(path, metadata={"Date": None})
