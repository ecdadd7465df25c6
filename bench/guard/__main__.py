"""A guard at work: P99 over time of a workload whose batches take longer than predicted (Figure 17 of Xu et al. 2023).

AlexNet of the three-workload plan (10 ms, 1,200 req/s) runs on a real Triton server with an emulated model that takes
1.3 times the predicted GPU latency. It is loaded at a constant rate, by a client that follows the endpoints file and
feeds its latencies to a guard; later the load falls to a quarter, and comes back. Needs `igniter-opt triton install`.

Run: python -m bench.guard [--slowed X] [--error F]

``--slowed 4``: time runs at a quarter of its pace (`bench.guard.slowed`), for small machines; 1 on large ones.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import igniter_opt as ig
from bench.guard.figure import COOL_DOWN_S, LOW, PHASES, SHOWN, WINDOW_S, draw, series, trace
from bench.guard.slowed import slowed_instance
from bench.provenance import RESULTS, commit, header, machine, today, versions, write
from igniter_opt.data.plan import Plan
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.approval import approval_path, make_approval, write_approval
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.state import Store
from igniter_opt.guard.choose import variants
from igniter_opt.guard.journal import Event, GuardLog
from igniter_opt.rehearse.emulation import write_emulated_models

PACKAGES = ("igniter-opt", "numpy", "grpcio")
BASE_PORT = 36000


def run(folder: Path, plan: Plan, error: float) -> dict[str, Any]:
    """Deploy, load and guard; return what was fed, decided and measured."""
    path, feed = folder / "plan.json", folder / "feed.jsonl"
    ig.write_plan(plan, path)
    write_approval(make_approval(plan), approval_path(path))
    write_emulated_models(plan, folder / "models", slowdown=error, variants=variants(plan, ("A", 1)))
    store = Store(folder / "state", plan.instance.name)
    request = launch.Request(plan=path, models=folder / "models", cpu=True, options=Options(base_port=BASE_PORT))
    program = [str(Path(sys.executable).with_name("igniter-opt"))]
    rate = next(workload.rate_rps for workload in plan.instance.workloads if workload.name == "A")
    (folder / "trace.csv").write_text("\n".join(["timestamp", *(f"{at:.6f}" for at in trace(rate, 0.0))]) + "\n")
    common, fed, ports = ["--state", str(store.root)], ["--feed", str(feed)], ["--base-port", str(BASE_PORT)]
    load = ["--only", "A", "--trace", f"A={folder / 'trace.csv'}", "--warm-up", "0", "--duration", str(sum(PHASES))]
    try:
        launch.deploy(request, store, ProcessBackend())
        guard = subprocess.Popen(
            [*program, "guard", str(path), *common, "--quiet", *fed, "--cool-down", str(COOL_DOWN_S), *ports]
        )
        log = GuardLog(store.folder)
        while not log.read():
            time.sleep(0.1)
        time.sleep(1.0)  # it has seen that nothing comes
        done = subprocess.run(
            [*program, "measure", str(path), *common, "--json", *fed, *load],
            capture_output=True,
            text=True,
            check=False,
        )
        guard.terminate()
        guard.wait()
        events = log.read()
    finally:
        launch.teardown(store, ProcessBackend(), Options())
    rows = [json.loads(line) for line in feed.read_text().splitlines()]
    measured = json.loads(done.stdout)
    return {"rows": rows, "events": events, "measured": measured, "exit_code": done.returncode}


def main() -> int:
    """Run once and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slowed", type=float, default=4.0)
    parser.add_argument("--error", type=float, default=1.3)
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    plan = ig.solve(slowed_instance(arguments.slowed), "igniter").plan
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        found = run(Path(folder), plan, arguments.error)
    measured = found["measured"]
    (workload,) = measured["workloads"]
    slo_ms = workload["slo_ms"]
    rows = found["rows"]
    # A line is written when its requests have been answered; the first ones took their own latency.
    begin = rows[0]["at"] - max(rows[0]["latencies_ms"]) / 1000.0
    events = [(event.seconds - begin, event) for event in found["events"] if event.event in SHOWN]
    windows = series(rows, begin, measured["switches"])
    data = {
        "command": f"python -m bench.guard --slowed {arguments.slowed:g} --error {arguments.error:g}",
        "date": today(),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "commit": commit(),
        "load_average_before": before,
        "slowed": arguments.slowed,
        "error": arguments.error,
        "slo_ms": slo_ms,
        "requests": workload["requests"],
        "failed": workload["failed"],
        "cpu_percent": measured["cpu_percent"],
        "sent_late_ms": workload["sent_late_ms"],
        "switches": measured["switches"],
        "events": [{"after_s": round(at, 3), **json.loads(event.line())} for at, event in events],
        "series": windows,
    }
    name = f"guard-{today()}"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    draw(windows, events, slo_ms, 20.0, RESULTS / f"{name}.svg")
    write("guard", _text(data, windows, events))
    return 0


def _text(data: dict[str, Any], windows: list[dict[str, Any]], events: list[tuple[float, Event]]) -> str:
    switches = [at for at, event in events if event.event == "switched"]
    edges = [0.0, *switches, sum(PHASES) + 60.0]
    lines = []
    for k in range(len(switches) + 1):
        # What is answered after the next switch had been sent before it.
        own = [entry for entry in windows if entry["server"] == k + 1 and entry["at_s"] <= edges[k + 1] + WINDOW_S]
        later = [entry["p99_ms"] for entry in own if entry["at_s"] > edges[k] + 1.0] or [
            entry["p99_ms"] for entry in own
        ]
        lines.append(
            f"| {k + 1} | {edges[k]:.2f} s | {sum(entry['requests'] for entry in own):,} | {min(later):.1f}"
            f" | {float(np.median(later)):.1f} | {max(later):.1f} | {sum(p > data['slo_ms'] for p in later)} of"
            f" {len(later)} |"
        )
    said = [
        f"| {at:.2f} s | {event.event} | {event.share_percent:g} %"
        f"{'' if event.to_share_percent is None else f' -> {event.to_share_percent:g} %'}"
        f" | {event.requests} | {'-' if event.percentile_ms is None else f'{event.percentile_ms:.1f} ms'}"
        f" | {'-' if event.factor is None else f'{event.factor:.3f}'} | {event.why} |"
        for at, event in events
    ]
    slowed = data["slowed"]
    return (
        header("A guard at work: P99 of AlexNet while its predictions are wrong", PACKAGES)
        + f"- load average before: {data['load_average_before']:.2f}; processors {data['cpu_percent']:.0f} % busy"
        f" meanwhile; requests sent {data['sent_late_ms']:.2f} ms late at P99\n\n"
        f"AlexNet (10 ms, 1,200 req/s in the plan; here in time slowed {slowed:g} times: {data['slo_ms']:g} ms,"
        f" {1200 / slowed:g} req/s) on a real Triton 2.51.0 server with an emulated model that takes {data['error']:g}"
        " times the predicted GPU latency. Constant arrivals, for 20 s at that rate, 50 s at a quarter of it, 15 s at"
        f" that rate again; guard with a cool-down of {COOL_DOWN_S:g} s, other settings as by default.\n\n"
        f"{data['requests']:,} requests, **{data['failed']} failed**.\n\n"
        f"P99 per {WINDOW_S:g} s window and server, from 1 s after it took over (all windows where that leaves none),"
        f" in ms. The low load fills a window with {1200 / slowed * LOW * WINDOW_S:.0f} requests, so that its P99 is"
        " its largest latency; when the load comes back, the windows up to the next switch are over the SLO:\n\n"
        "| server | took over | requests | least P99 | median | largest | windows over the SLO |\n"
        + "| --- " * 7
        + "|\n"
        + "\n".join(lines)
        + "\n\n| after | event | share | requests seen | P99 seen | batches longer by | why |\n"
        + "| --- " * 7
        + "|\n"
        + "\n".join(said)
        + f"\n\n![P99 and share over time](guard-{data['date']}.svg)\n"
    )


if __name__ == "__main__":
    sys.exit(main())
