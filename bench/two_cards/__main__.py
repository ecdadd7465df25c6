"""Several cards of one host: deployed, measured, changed under load, guarded and torn down.

Run: python -m bench.two_cards --plans FOLDER --triton DIR [--libraries DIR] [--output FOLDER] [--within S]

FOLDER is what `bench.two_cards.plans` wrote, for any number of cards; DIR is where the server's wheel was unpacked
(``pip install --no-deps --target DIR nvidia-pytriton==0.7.0``). The models run with this interpreter's packages and
need torch and this package, installed there: Triton's Python backend reads no PYTHONPATH. One after the other:

1. *deploy*: the plan is approved and deployed, an MPS daemon per card; every server says how many SMs of which card it
   sees, which must be those of its share. Deployed again, nothing may change.
2. *measure*: Poisson arrivals at the plan's rates, several times; per placement the P99 beside the predicted one.
3. *migrate*: the plan of `replan` for changed rates is deployed over it, under load, at rates at which its states are
   verified. No request may fail.
4. *next*: measured again, at the new rates.
5. *guard*: one workload is sent more than planned; a guard moves it to another card.
6. *teardown*: nothing may be left on any card.

Results are written after every part. Where ``--within`` seconds do not suffice, later parts are shorter or left out,
and the result says so; the teardown is always made. ``--emulated`` tries all of it without a card.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import igniter_opt as ig
from bench.loop.site import Watch
from bench.provenance import RESULTS, today
from bench.two_cards.cards import Cards, find_cards, leftovers, shares_seen, sm_count, write_models
from bench.two_cards.plans import ALLOWANCE_MS, cards_of
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.plan import Plan
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.approval import approval_path, make_approval, write_approval
from igniter_opt.deploy.endpoints import ENDPOINTS_FILE, Endpoints, read_endpoints
from igniter_opt.deploy.state import Deployment, Store
from igniter_opt.guard.journal import GuardLog
from igniter_opt.measure.options import MeasureOptions
from igniter_opt.measure.results import Measurement
from igniter_opt.measure.run import measure
from igniter_opt.verify import verify

BASE_PORT = 36000
# Seconds: the least that a part takes, and what the teardown needs.
_TEARDOWN_S, _GUARD_S, _MIGRATE_S = 30.0, 75.0, 160.0
_SETTLE_S = 4.0


class Run:
    """One run: its deployment, its time, and what was found so far."""

    def __init__(self, cards: Cards, options: argparse.Namespace, about: dict[str, Any]) -> None:
        self.cards, self.options, self.slowed = cards, options, float(about["slowed"])
        self.plans = {name: ig.read_plan(options.plans / f"{name}.json") for name in ("plan", "next")}
        self.guarded = about["overload"]
        self.store = Store(cards.folder / "state", "several-cards")
        self.until = time.monotonic() + options.within
        self.found: dict[str, Any] = {**cards.header(f"python -m bench.two_cards --plans {options.plans.name}")}
        self.found |= {"plans": about, "left_out": {}}
        self.tokens: set[str] = set()

    @property
    def left_s(self) -> float:
        """Seconds left before the teardown has to begin."""
        return self.until - _TEARDOWN_S - time.monotonic()

    def keep(self, part: str, what: Any) -> None:
        """Write what a part found."""
        self.found[part] = what
        self.options.output.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.found, indent=1) + "\n"
        write_bytes_atomically(self.options.output / f"two-cards-{today()}.json", text.encode())
        print(f"{self.left_s:7.1f} s left after {part}", file=sys.stderr, flush=True)

    def state(self) -> Deployment:
        """Return the deployment, and remember whatever runs."""
        state = self.store.load()
        if state is None:
            raise SystemExit("the deployment left no state")
        self.tokens |= {record.token for record in state.records}
        return state

    def deploy(self, plan: Plan, models: Path, **options: Any) -> launch.Prepared:
        """Approve and deploy a plan."""
        path = self.cards.folder / f"{len(list(self.cards.folder.glob('deployed-*.json')))}.json"
        path = path.with_name(f"deployed-{path.name}")
        ig.write_plan(plan, path)
        write_approval(make_approval(plan), approval_path(path))
        request = launch.Request(
            plan=path,
            models=models,
            cpu=self.cards.emulated,
            devices=self.cards.devices,
            options=Options(
                base_port=BASE_PORT, report=lambda line: print(line, file=sys.stderr, flush=True), **options
            ),
        )
        self.deployed = path
        return launch.deploy(request, self.store, self.cards.backend())

    # ---- load -----------------------------------------------------------------------------------------

    def where(self) -> Endpoints:
        """Return where requests go now."""
        return read_endpoints(self.store.folder / ENDPOINTS_FILE)

    def load(self, plan: Plan, rates: Mapping[str, float], seconds: float, seed: int, stop: StopRequest) -> Measurement:
        """Send requests at these rates, following the endpoints."""
        where = self.where()
        workloads = {
            name: entry.model_copy(
                update={
                    "replicas": tuple(
                        r.model_copy(update={"rate_rps": rates[name] / len(entry.replicas)}) for r in entry.replicas
                    )
                }
            )
            for name, entry in where.workloads.items()
        }
        options = MeasureOptions(
            arrivals=Arrivals("poisson"),
            duration_s=seconds,
            warm_up_s=2.0,
            seed=seed,
            shared_memory=not self.cards.emulated,
            stamped=self.cards.emulated,
            processes=min(len(workloads), self.options.processes),
            allowance_ms=ALLOWANCE_MS * self.slowed,
        )
        file = self.store.folder / ENDPOINTS_FILE
        where = where.model_copy(update={"workloads": workloads})
        return measure(where, options, plan=plan, source="several cards", follow=file, stop=stop)

    def measured(self, plan: Plan, seed: int) -> dict[str, Any]:
        """Measure at a plan's rates; return a row per placement."""
        rates = {entry.name: entry.rate_rps for entry in plan.instance.workloads}
        with Watch() as watch:
            found = self.load(plan, rates, self.options.seconds, seed, StopRequest())
            host = watch.read()
        predicted = {(c.workload, c.replica): c for c in verify(plan).placements}
        rows = []
        for entry in found.workloads:
            for own in entry.replicas or (entry,):
                check = predicted[own.workload, own.replica or 1]
                rows.append(
                    {
                        "placement": f"{check.gpu}/{own.workload}#{own.replica or 1}",
                        "batch": check.batch,
                        "share_percent": round(check.share_percent, 3),
                        "rate_rps": round(own.rate_rps, 2),
                        "slo_ms": entry.slo_ms,
                        "predicted_p99_ms": round(check.latency_ms, 3),
                        "measured_p99_ms": own.p99_ms,
                        "measured_mean_ms": own.mean_ms,
                        "requests": own.requests,
                        "failed": own.failed,
                        "holds": own.p99_ms is not None and entry.slo_ms is not None and own.p99_ms <= entry.slo_ms,
                        "sent_late_ms": own.sent_late_ms,
                    }
                )
        return {"seed": seed, "host": host, "cpu_percent": found.cpu_percent, "placements": rows}

    # ---- parts ----------------------------------------------------------------------------------------

    def first(self, models: Path) -> None:
        """Deploy the first plan, and look at what every server sees."""
        began, plan = time.monotonic(), self.plans["plan"]
        self.deploy(plan, models)
        state = self.state()
        again = self.deploy(plan, models).nothing
        sms = [] if self.cards.emulated else shares_seen(state, self.store, sm_count(self.cards.devices[0]))
        spread = {name: sorted(set(where)) for name, where in cards_of(plan).items() if len(where) > 1}
        self.keep(
            "deploy",
            {
                "seconds": round(time.monotonic() - began, 1),
                "placements": len(state.replicas),
                "cards": len({record.device for record in state.replicas}),
                "daemons": len(state.daemons),
                "replicas_on": spread,
                "deployed_again_nothing": again,
                "shares": sms,
            },
        )

    def migrate(self, models: Path) -> None:
        """Deploy the next plan over the first, under load."""
        old, new = self.plans["plan"], self.plans["next"]
        assert new.migration is not None  # noqa: S101 (a plan of replan)
        before, after = ({w.name: w.rate_rps for w in plan.instance.workloads} for plan in (old, new))
        which = new.migration.rates
        rates = {"running": before, "both": before, "next": after}.get(
            which, {name: min(rate, after[name]) for name, rate in before.items()}
        )
        stop, result = StopRequest(), []
        thread = threading.Thread(target=lambda: result.append(self.load(old, rates, 400.0, 7, stop)))
        thread.start()
        time.sleep(2 * _SETTLE_S)
        began = time.monotonic()
        try:
            prepared = self.deploy(new, models, drain_s=_SETTLE_S)
        finally:
            seconds = time.monotonic() - began
            time.sleep(_SETTLE_S)
            stop.set()
            thread.join()
        (found,) = result
        state = self.state()
        wanted = {(g.name, p.workload, p.replica) for g in new.gpus for p in g.placements}
        self.keep(
            "migrate",
            {
                "seconds": round(seconds, 1),
                "rates": which,
                "disruption": new.migration.disruption.model_dump(mode="json"),
                "steps": [step.model_dump(mode="json") for step in new.migration.steps],
                "followed": prepared.following.of == len(new.migration.steps) and not prepared.following.why_not,
                "as_planned": {(r.gpu, r.workload, r.replica) for r in state.replicas} == wanted,
                "requests": sum(entry.requests for entry in found.workloads),
                "failed": sum(entry.failed for entry in found.workloads),
                "failures": {entry.workload: entry.failures for entry in found.workloads if entry.failed},
                "errors": found.settings.get("errors", {}),
                "switches": len(found.switches),
                "workloads": [
                    {
                        "workload": e.workload,
                        "p99_ms": e.p99_ms,
                        "max_ms": e.max_ms,
                        "slo_ms": e.slo_ms,
                        "failed": e.failed,
                    }
                    for e in found.workloads
                ],
            },
        )

    def guard(self) -> None:
        """Send one workload more than planned, beside all others, and let a guard mend it."""
        seconds = min(_GUARD_S, self.left_s - 15.0)
        plan, name = self.plans["next"], self.guarded["workload"]
        feed, trace = self.cards.folder / "feed.jsonl", self.cards.folder / "trace.csv"
        trace.write_text(self._trace(plan, name, seconds))
        program = [sys.executable, "-m", "igniter_opt"]
        common = ["--state", str(self.store.root), "--name", self.store.name, "--feed", str(feed)]
        common += ["--allowance", f"{ALLOWANCE_MS * self.slowed:g}"]
        server = [] if self.cards.server is None else ["--tritonserver", str(self.cards.server)]
        own = ["--cool-down", "20", "--drain", "5", "--base-port", str(BASE_PORT), "--quiet", *server]
        how = ["--trace", str(trace), "--warm-up", "0", "--duration", f"{seconds:g}", "--json"]
        how += ["--processes", str(min(len(plan.instance.workloads), self.options.processes))]
        how += [] if self.cards.emulated else ["--shared-memory"]
        log = GuardLog(self.store.folder)
        guard = subprocess.Popen([*program, "guard", str(self.deployed), *common, *own], stdout=sys.stderr)
        try:
            done = subprocess.run(
                [*program, "measure", str(self.deployed), *common, *how], capture_output=True, text=True, check=False
            )
        finally:
            guard.terminate()
            guard.wait()
        events = [json.loads(event.line()) for event in log.read()]
        measured = json.loads(done.stdout) if done.stdout else {"workloads": [], "said": done.stderr[-2000:]}
        record = next(r for r in self.state().replicas if r.workload == name and r.phase == "ready")
        self.keep(
            "guard",
            {
                "planned": self.guarded,
                "seconds": seconds,
                "moved_to_another_card": record.planned is not None and record.device != record.planned.device,
                "now": {"gpu": record.gpu, "share_percent": record.share_percent},
                "events": events,
                "switches": measured.get("switches"),
                "said": measured.get("said"),
                "workloads": [
                    {key: e.get(key) for key in ("workload", "requests", "failed", "p99_ms", "slo_ms", "sent_late_ms")}
                    for e in measured["workloads"]
                ],
            },
        )

    def _trace(self, plan: Plan, name: str, seconds: float) -> str:
        """Return Poisson arrivals of all workloads at their rates, one with so much more from 5 s on."""
        rng, lines = np.random.default_rng(11), ["timestamp,workload"]
        for entry in plan.instance.workloads:
            for begin, end in ((0.0, 5.0), (5.0, seconds)):
                more = self.guarded["factor"] if entry.name == name and begin else 1.0
                number = rng.poisson(more * entry.rate_rps * (end - begin))
                lines += [f"{at:.6f},{entry.name}" for at in np.sort(rng.uniform(begin, end, number))]
        return "\n".join(lines) + "\n"

    def parts(self) -> None:
        """Make all parts for which there is time."""
        plans = self.plans
        models = write_models(self.cards, plans.values(), self.guarded and self.guarded["workload"])
        self.keep("models", {"seconds": round(self.options.within - _TEARDOWN_S - self.left_s, 1)})
        self.first(models)
        each, rows = self.options.seconds + 8.0, []
        later = _MIGRATE_S + (_GUARD_S if self.guarded else 0.0)
        for seed in range(self.options.repeat):
            if rows and self.left_s < each + later:
                self.found["left_out"]["measure"] = f"{self.options.repeat - seed} of {self.options.repeat} repetitions"
                break
            rows.append(self.measured(plans["plan"], seed))
            self.keep("measure", rows)
        self.migrate(models)
        if self.left_s > each + (_GUARD_S if self.guarded else 0.0):
            self.keep("next", [self.measured(plans["next"], 0)])
        else:
            self.found["left_out"]["next"] = "no time left"
        if self.guarded is None:
            self.found["left_out"]["guard"] = "on paper it would move no workload of this plan to another card"
        elif self.left_s < 40.0:
            self.found["left_out"]["guard"] = "no time left"
        else:
            self.guard()


def main() -> None:
    """Run all parts; exit code 1 if any check fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=Path, required=True, help="what bench.two_cards.plans wrote")
    parser.add_argument("--triton", type=Path, help="where the server's wheel was unpacked")
    parser.add_argument("--libraries", type=Path, help="folder of libpython, where that is no usual place")
    parser.add_argument("--emulated", action="store_true", help="no cards: models that take the predicted times")
    parser.add_argument("--seconds", type=float, default=30.0, help="of every measurement")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--processes", type=int, default=12, help="load generators at most")
    parser.add_argument("--within", type=float, default=500.0, help="seconds for everything")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    about = json.loads((options.plans / "plans.json").read_text("utf-8"))
    with tempfile.TemporaryDirectory(prefix="two-cards-") as name:
        run = Run(find_cards(Path(name), about["cards"], options), options, about)
        try:
            run.parts()
        except BaseException as error:
            run.keep("ended_by", f"{type(error).__name__}: {error}")
            raise
        finally:
            if run.store.folder.is_dir():
                loaded = run.store.load()
                run.tokens |= set() if loaded is None else {record.token for record in loaded.records}
                launch.teardown(run.store, run.cards.backend(), Options())
            run.keep("teardown", leftovers(run.cards, run.store, run.tokens))
    checks = _checks(run.found)
    run.keep("checks", checks)
    print(json.dumps(checks, indent=1))
    sys.exit(0 if all(checks.values()) else 1)


def _checks(found: Mapping[str, Any]) -> dict[str, bool]:
    checks = {f"teardown: {name}": good for name, good in found["teardown"].items()}
    first, migrate, guard = found.get("deploy"), found.get("migrate"), found.get("guard")
    if first is not None:
        checks["all cards are used"] = first["cards"] == found["plans"]["cards"]
        checks["deployed again, nothing changes"] = first["deployed_again_nothing"]
        checks["every server sees its share, on its card"] = all(
            entry["right_share"] and entry["right_card"] for entry in first["shares"]
        )
    checks["no request failed while measured"] = not any(
        row["failed"] for part in ("measure", "next") for one in found.get(part, ()) for row in one["placements"]
    )
    if migrate is not None:
        checks["the migration was followed"] = migrate["followed"] and migrate["as_planned"]
        checks["no request failed during the migration"] = migrate["failed"] == 0
    if guard is not None:
        checks["the guard moved a placement to another card"] = guard["moved_to_another_card"]
        checks["no request failed while guarded"] = not any(entry["failed"] for entry in guard["workloads"])
    return checks


if __name__ == "__main__":
    main()
