"""The documented way on one real card, by commands alone; and how margins cover placements of solved plans.

Run: python -m bench.documented --output DIR --tritonserver FILE [--cards PLAN...] [--seed N] [--within S] [--emulated]

One after the other, as a user would: `profile serve`, `solve` under rule p99 at a confidence of 0.99, `profile refine`,
`solve` again, `models export`, `approve`, `deploy`, and `measure` three times 30 s with Poisson arrivals. The
workloads are drawn by the seed when the script starts: six models of the profile, SLOs of 3 to 6 times a batch of
four with 3 ms for the server, and rates that fill the card. Then the GPUs of PLANs, solved beforehand with the shipped
profile and never measured (`bench.solved_cards`), are measured side by side: how often its margins hold there. DIR gets
the results after every step, the logs of readings, the refined profile and the plan.

Where ``--within`` seconds do not suffice, later parts are shorter or left out, and the result says so; servers are torn
down in any case. ``--emulated`` tries all of it without a card: servers on the processor, readings from the predictor.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import igniter_opt as ig
from bench.card import driver
from bench.loop.site import Watch
from bench.provenance import commit, machine, today, versions
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.data.measurement_files import read_measurements
from igniter_opt.data.neighbours import NEIGHBOURS
from igniter_opt.data.plan import Placement, Plan
from igniter_opt.data.profile import Profile, write_profile
from igniter_opt.fitting.calibration import predict_readings
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.fitting.fresh import covered as within
from igniter_opt.measure.results import ServerSplit
from igniter_opt.measure.server import batch_times
from igniter_opt.overhead.plans import share_for
from igniter_opt.profiler.refine import refine
from igniter_opt.profiler.runners.synthetic import SyntheticRunner
from igniter_opt.rehearse.emulation import write_emulated_models
from igniter_opt.simulation.servers import servers_of

CONFIDENCE, WORKLOADS = 0.99, 6
# One process that generates load sent requests up to 2.6 ms late on 16 cores.
LOAD_PROCESSES = 4
# SLOs in times of a batch of four at a fifth of the card, with about what a server adds; of the largest scale of the
# rates so much is asked for.
SLO_TIMES, BATCH, SERVER_MS, FILLED = (3.0, 6.0), 4, 3.0, 0.97
_LESS = (1.0, 0.95, 0.9, 0.8, 0.7)
_TEARDOWN_S, _CARDS_LEAST_S, _GONE_S = 25.0, 60.0, 2.0
_EMULATED_SLOWER = 1.05


class Steps:
    """Commands run one after the other, with what they said and how long they took."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.output, self.emulated = folder, options.output, options.emulated
        self.until = time.monotonic() + options.within
        self.found: dict[str, Any] = {
            "command": "python -m bench.documented " + " ".join(sys.argv[1:]),
            "date": today(),
            "machine": machine(),
            "driver": None if options.emulated else driver(),
            "versions": versions(("igniter-opt", "numpy", "torch", "tritonclient", "numba", "highspy")),
            "commit": commit(),
            "emulated": options.emulated,
            "steps": [],
            "left_out": {},
        }
        self.output.mkdir(parents=True, exist_ok=True)

    @property
    def left_s(self) -> float:
        """Seconds left."""
        return self.until - time.monotonic()

    def keep(self, **what: Any) -> None:
        """Write what was found so far."""
        self.found |= what
        write_bytes_atomically(self.output / "documented.json", (json.dumps(self.found, indent=1) + "\n").encode())

    def run(self, *words: object, most_s: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run one command of the program; it is interrupted, as by Ctrl-C, after so many seconds."""
        texts = [str(word) for word in words]
        print(f"[{self.left_s:5.0f} s left] igniter-opt {' '.join(texts)[:150]}", file=sys.stderr, flush=True)
        began = time.monotonic()
        child = subprocess.Popen(
            [sys.executable, "-m", "igniter_opt", *texts],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        limit = max(5.0, self.left_s - _TEARDOWN_S if most_s is None else most_s)
        try:
            out, err = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)
            try:
                out, err = child.communicate(timeout=_TEARDOWN_S)
            except subprocess.TimeoutExpired:
                child.kill()
                out, err = child.communicate()
        seconds = round(time.monotonic() - began, 1)
        with (self.output / "run.log").open("a", encoding="utf-8") as log:
            log.write(
                f"$ igniter-opt {' '.join(texts)}\n{out[-20_000:]}{err[-20_000:]}({child.returncode}, {seconds} s)\n"
            )
        self.found["steps"].append(
            {"command": texts[:40], "rc": child.returncode, "seconds": seconds, "said": err[-600:]}
        )
        self.keep()
        return subprocess.CompletedProcess(texts, child.returncode, out, err)

    def must(self, *words: object) -> str:
        """Run a command that everything after it needs; return what it printed."""
        done = self.run(*words)
        if done.returncode:
            raise SystemExit(f"igniter-opt {words[0]} {words[1]} failed: {done.stderr[-2000:]}")
        return done.stdout


def drawn(card: Profile, seed: int) -> list[dict[str, Any]]:
    """Draw workloads: models, SLOs and rates that still have to be scaled to the card."""
    random = np.random.default_rng(seed)
    models = [str(name) for name in random.permutation(sorted(card.models))[:WORKLOADS]]
    found = []
    for model in models:
        batch_ms = float(ig.predict(card, [(model, BATCH, share_for(card, model))]).latency_ms[0])
        batch_ms += SERVER_MS
        slo, part = random.uniform(*SLO_TIMES) * batch_ms, random.uniform(0.5, 1.5)
        rate = part * 1000.0 * BATCH / batch_ms
        found.append({"name": model, "model": model, "slo_ms": round(slo, 1), "rate_rps": round(rate, 2)})
    return found


def write_instance(path: Path, profile: Path, workloads: list[dict[str, Any]], scale: float) -> Path:
    """Write an instance file with one card of this profile."""
    lines = ["name: documented", "slo_rule: p99", "gpu_types:"]
    lines += [f"  - {{name: GPU, profile: {profile.name}, price_per_hour: 1.0, count: 1}}", "workloads:"]
    for entry in workloads:
        rate = round(scale * entry["rate_rps"], 2)
        lines.append(
            f"  - {{name: {entry['name']}, model: {entry['model']}, slo_ms: {entry['slo_ms']}, rate_rps: {rate}}}"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


def largest_scale(instance: ig.Instance) -> float:
    """Return about the largest scale of the rates at which a quick method finds a plan for the one card."""
    low, high, found = 0.05, 1.6, None
    for _ in range(6):
        middle = (low * high) ** 0.5
        try:
            ig.solve(instance, "bestfit", confidence=CONFIDENCE, scale=middle)
            low = found = middle
        except ig.InfeasibleError:
            high = middle
    if found is None:
        raise SystemExit("no scale of the rates fits on the card")
    return found


def solved(steps: Steps, profile: Path, workloads: list[dict[str, Any]], scale: float, name: str) -> tuple[Path, float]:
    """Solve by the command; at less than the rates asked for where the card does not carry them. Return plan, scale."""
    for less in _LESS:
        source = write_instance(steps.folder / f"{name}.yaml", profile, workloads, less * scale)
        plan = steps.folder / f"{name}.json"
        done = steps.run("solve", source, "--confidence", CONFIDENCE, "--time-limit", 12, "-o", plan)
        if done.returncode == 0:
            return plan, less * scale
    raise SystemExit(f"no plan: {done.stderr[-1000:]}")


def summary(plan: Plan) -> list[dict[str, Any]]:
    """Return what a plan has, with the predicted times of full batches."""
    return [
        {
            "workload": entry.workload,
            "batch": entry.batch,
            "share_percent": round(entry.share_percent, 2),
            "rate_rps": entry.rate_rps,
            "predicted_batch_ms": round(entry.predicted_latency_ms, 3),
        }
        for gpu in plan.gpus
        for entry in gpu.placements
    ]


def documented(steps: Steps, options: argparse.Namespace) -> None:
    """Make all steps of the documented way."""
    server = [] if options.tritonserver is None else ["--tritonserver", options.tritonserver]
    state = ["--state", steps.folder / "state"]
    shared = [] if steps.emulated else ["--shared-memory"]
    card = ig.read_profile(options.profile)
    workloads = drawn(card, options.seed)
    steps.keep(seed=options.seed, drawn=workloads)
    served, refined = steps.folder / "served.json", steps.folder / "refined.json"
    names = ",".join(entry["model"] for entry in workloads)
    try_out = ["--emulated", "--seconds", 2] if steps.emulated else ["--seconds", 5]
    steps.must(
        "profile", "serve", options.profile, "-o", served, "--only", names, *try_out, *server, *shared, *state
    )  # fmt: skip
    card = ig.read_profile(served)
    assert card.serving is not None  # noqa: S101 (written by the command)
    steps.keep(serving=card.serving.model_dump(mode="json"))
    instance = ig.read_instance(write_instance(steps.folder / "drawn.yaml", served, workloads, 1.0))
    scale = FILLED * largest_scale(instance)
    first, scale = solved(steps, served, workloads, scale, "first")
    before = ig.read_plan(first)
    steps.keep(first={"scale": scale, "plan": summary(before), "total_share_percent": before.total_share_percent})
    if steps.emulated:
        slower = _slower(card)
        found = refine(SyntheticRunner(slower), card, [before], rounds=2, time_limit=5.0)
        write_profile(found.profile, refined)
        steps.keep(refine=[str(entry) for entry in found.rounds])
    else:
        log = steps.output / "refine.jsonl"
        done = steps.run(
            "profile", "refine", served, first, "-o", refined, "--resume", log, "--time-limit", 10, "--json", most_s=130
        )  # fmt: skip
        steps.keep(refine=json.loads(done.stdout) if done.stdout else done.stderr[-2000:])
    if not refined.exists():
        steps.found["left_out"]["refine"] = "was interrupted; planned with the profile before"
        shutil.copy(served, refined)
    path, scale = solved(steps, refined, workloads, scale, "plan")
    plan = ig.read_plan(path)
    shutil.copy(path, steps.output / "plan.json")
    shutil.copy(refined, steps.output / "refined.json")
    about = {"scale": scale, "margin": plan.solver.margin, "total_share_percent": plan.total_share_percent}
    steps.keep(planned=about | {"plan": summary(plan), "status": plan.solver.status})
    models = steps.folder / "models"
    if steps.emulated:
        write_emulated_models(plan, models)
    else:
        placements = [entry for gpu in plan.gpus for entry in gpu.placements]
        with ThreadPoolExecutor(len(placements)) as pool:

            def export(entry: Placement) -> None:
                steps.must("models", "export", entry.model, "-o", models, "--batch", entry.batch, "--profile", refined)

            list(pool.map(export, placements))
    steps.must("approve", path, "--yes")
    cpu = ["--cpu"] if steps.emulated else []
    measured = []
    try:
        steps.must("deploy", path, "--models", models, *cpu, *server, *state)
        for seed in range(1, options.repeat + 1):
            if steps.left_s < options.seconds + _TEARDOWN_S + 15.0:
                steps.found["left_out"]["measure"] = f"{options.repeat - len(measured)} times, for lack of time"
                break
            how = ["--duration", options.seconds, "--arrivals", "poisson", "--seed", seed, *shared, *state]
            how += ["--processes", LOAD_PROCESSES]
            with Watch() as watch:
                done = steps.run("measure", path, *how, "--json")
                host = watch.read()
            measured.append(_row(json.loads(done.stdout)) | {"host": host} if done.stdout else {"said": done.stderr})
            steps.keep(measured=measured)
    finally:
        steps.run("teardown", "--yes", *state, most_s=60)
    steps.keep(agreement=agreement(plan, measured))


def agreement(plan: Plan, measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare what is expected of every workload, without a margin, with what was measured each time.

    Errors are predicted over measured, less one: of the percentile, and of the time that batches took together, which
    is what a server was busy; once beside neighbours that are always busy, as a plan allows for, and once beside the
    batches that requests form.
    """
    expected = {kind: ig.simulate(plan, "poisson", neighbours=kind, requests=20_000) for kind in NEIGHBOURS}
    estimates = {
        kind: {entry.workload: entry.estimates for entry in found.workloads} for kind, found in expected.items()
    }
    servers = {server.placement.workload: server for servers in servers_of(plan) for server in servers}
    rows = []
    for number, found in enumerate(measured):
        for row in found.get("workloads", []):
            name, split = row["workload"], row["server"]
            p99 = {kind: float(estimates[kind][name]["p99_ms"].value) for kind in NEIGHBOURS}
            said = {f"p99_{kind}_ms": value for kind, value in p99.items()}
            off = {f"p99_{kind}": value / row["p99_ms"] - 1.0 for kind, value in p99.items() if row["p99_ms"]}
            if split is not None:
                times = batch_times(ServerSplit.model_validate(split), servers[name])
                # Copies in and out are in what serving was measured to add.
                around = sum(split["batches"].values()) * (split["input_ms"] + split["output_ms"])
                taken = times.taken + around
                off["batches_full"] = times.predicted / taken - 1.0
                busy = float(estimates["actual"][name]["utilisation"].value)
                off["batches_actual"] = 1000.0 * found["duration_s"] * busy / taken - 1.0
            measured_ms = {"p99_ms": row["p99_ms"], "batch": servers[name].placement.batch}
            rows.append({"time": number + 1, "workload": name, **measured_ms, **said, "error": off})
    return rows


def _row(found: Mapping[str, Any]) -> dict[str, Any]:
    keys = (
        "workload",
        "rate_rps",
        "slo_ms",
        "requests",
        "failed",
        "mean_ms",
        "p50_ms",
        "p99_ms",
        "holds",
        "sent_late_ms",
    )
    rows = [{key: entry.get(key) for key in keys} | {"server": entry.get("server")} for entry in found["workloads"]]
    about = {key: found.get(key) for key in ("duration_s", "cpu_percent", "stolen_s", "partial")}
    return about | {"verdict": found.get("verdict"), "hold": sum(bool(row["holds"]) for row in rows), "workloads": rows}


def _slower(card: Profile) -> Profile:
    """Return a card on which everything takes longer, for `--emulated`."""
    models = {}
    for name, model in card.models.items():
        grid = model.solo_grid
        longer = tuple(tuple(_EMULATED_SLOWER * value for value in row) for row in grid.gpu_latency_ms)
        models[name] = model.model_copy(update={"solo_grid": grid.model_copy(update={"gpu_latency_ms": longer})})
    bare = {"solo_measurements": None, "colocated_measurements": None}
    return card.model_copy(update={"models": models, **bare})


def covered(steps: Steps, options: argparse.Namespace) -> None:
    """Measure solved cards that were never measured; say how often the shipped margins hold there."""
    if not options.cards or steps.left_s < _CARDS_LEAST_S:
        steps.found["left_out"]["cards"] = "no plans" if not options.cards else f"{steps.left_s:.0f} s were left"
        return
    target, log = steps.folder / "solved.json", steps.output / "solved.jsonl"
    plans = [word for path in options.cards for word in ("--plan", path.absolute())]
    how = ["--no-alone", "--resume", log, "-o", target]
    time.sleep(_GONE_S)  # what was torn down leaves the card
    steps.run("profile", "colocate", options.profile, *plans, *how, most_s=steps.left_s - 15.0)
    if not target.exists():
        steps.found["left_out"]["cards"] = "interrupted; the log has what was measured"
        return
    side = read_measurements(target).side_by_side()
    card = ig.read_profile(options.profile)
    found = predict_readings(fit_coefficients(card.bare()), side)
    error = found.predicted_ms / found.measured_ms - 1.0
    steps.keep(
        cards={
            "groups": len(side.members()),
            "readings": len(error),
            "mean_error": float(np.abs(error).mean()),
            "p90_error": float(np.quantile(np.abs(error), 0.9)),
            "worst_error": float(np.abs(error).max()),
            "bias": float(error.mean()),
            "within": {str(q): within(card, side, found, q) for q in (0.9, 0.99)},
        }
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tritonserver", type=Path)
    parser.add_argument("--profile", default="h200")
    parser.add_argument("--cards", type=Path, nargs="*", default=[], metavar="PLAN")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="default: drawn when it starts")
    parser.add_argument("--seconds", type=float, default=30.0, help="of every measurement")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--within", type=float, default=520.0, help="seconds for all of it")
    parser.add_argument("--only", choices=("documented", "cards"))
    parser.add_argument("--emulated", action="store_true")
    options = parser.parse_args()
    options.output = options.output.absolute()
    with tempfile.TemporaryDirectory(prefix="documented-") as name:
        steps = Steps(Path(name), options)
        try:
            if options.only != "cards":
                documented(steps, options)
        except (SystemExit, ig.IgniterOptError) as error:
            steps.keep(failed=str(error))
            print(error, file=sys.stderr)
        if options.only != "documented" and not options.emulated:
            covered(steps, options)
        steps.keep(left_s=round(steps.left_s, 1))


if __name__ == "__main__":
    main()
