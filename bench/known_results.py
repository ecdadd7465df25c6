"""Solve the shipped instances and keep the best known costs and bounds in ``instances/results/``.

A twin changes only where this run found a cheaper verified plan, a lower total share at the same cost, or a
higher proven bound.

Run: python -m bench.known_results [--time-limit S] [--table] [INSTANCE...], or, to take the runs of a table of
`bench.exact` instead of making new ones: python -m bench.known_results --from bench/results/exact-DATE.csv
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import yaml

from bench.provenance import header, today, write
from igniter_opt import __version__
from igniter_opt.data.instance_files import read_instance, shipped_instances
from igniter_opt.data.known_results import KnownResults, KnownValue, best_known
from igniter_opt.solve import solve

FOLDER = Path(__file__).parents[1] / "instances" / "results"
METHOD = "patterns"


def finding(name: str, method: str, time_limit: float) -> tuple[KnownValue, KnownValue]:
    """Solve one instance; return what was found as cost and as bound."""
    began = time.perf_counter()
    result = solve(read_instance(name), method, time_limit=time_limit)
    base = {
        "method": result.plan.solver.method,
        "command": f"igniter-opt solve {name} --method {method} --time-limit {time_limit:g}",
        "version": __version__,
        "date": today(),
        "runtime_s": round(time.perf_counter() - began, 2),
    }
    cost = KnownValue(
        cost_per_hour=result.cost,
        gpus=len(result.plan.gpus),
        total_share_percent=result.total_share_percent,
        **base,
    )
    return cost, KnownValue(cost_per_hour=result.lower_bound or 0.0, **base)


def findings_of_table(path: Path) -> dict[str, tuple[KnownValue, KnownValue]]:
    """Return the exact runs on shipped instances in a table of `bench.exact`, as cost and bound by instance."""
    table = pd.read_csv(path)
    rows = table[(table.method == METHOD) & table.instance.isin(shipped_instances()) & table.cost_per_hour.notna()]
    found = {}
    for entry in rows.itertuples():
        base = {
            "method": METHOD,
            "command": f"python -m bench.exact --one {entry.instance} {METHOD} --time-limit {entry.time_limit_s:g}",
            "version": __version__,
            "date": path.stem[-10:],
            "runtime_s": round(entry.total_s, 2),
        }
        cost = KnownValue(
            cost_per_hour=entry.cost_per_hour,
            gpus=int(entry.gpus),
            total_share_percent=entry.total_share_percent,
            **base,
        )
        found[str(entry.instance)] = cost, KnownValue(cost_per_hour=entry.bound_per_hour, **base)
    return found


def better(cost: KnownValue, known: KnownValue) -> bool:
    """Whether a plan is cheaper, or as cheap with less total share."""
    return (cost.cost_per_hour, cost.total_share_percent) < (known.cost_per_hour, known.total_share_percent)


def update(name: str, cost: KnownValue, bound: KnownValue) -> str:
    """Keep what is better, return the instance's table row."""
    known = best_known(name)
    if known is not None:
        cost = cost if better(cost, known.best_cost) else known.best_cost
        bound = bound if bound.cost_per_hour > known.best_bound.cost_per_hour else known.best_bound
    twin = KnownResults(instance=name, best_cost=cost, best_bound=bound)
    text = yaml.safe_dump(twin.model_dump(exclude_none=True), sort_keys=False, width=120)
    (FOLDER / f"{name}.yaml").write_text(text)
    return row(name)


def row(name: str) -> str:
    """Return a twin's table row."""
    twin = best_known(name)
    if twin is None:
        raise SystemExit(f"{name} has no results yet")
    workloads = len(read_instance(name).workloads)
    cost, bound = twin.best_cost, twin.best_bound
    gap = 1 - bound.cost_per_hour / cost.cost_per_hour
    return (
        f"| {name} | {workloads} | {cost.gpus} | {cost.cost_per_hour:.2f} | {bound.cost_per_hour:.2f}"
        f" | {100 * gap:.2f} | {cost.total_share_percent:g} | {cost.method} | {cost.runtime_s:.2f} | {cost.date} |"
    )


def main() -> None:
    """Update the twins of the named instances, or of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-limit", type=float, default=120.0)
    parser.add_argument("--table", action="store_true", help="solve nothing, write the table of the present twins")
    parser.add_argument("--from", type=Path, dest="source", metavar="CSV", help="take the runs of this table")
    parser.add_argument("instances", nargs="*")
    arguments = parser.parse_args()
    found = {} if arguments.source is None else findings_of_table(arguments.source)
    rows = []
    for name in shipped_instances():
        if arguments.source is None and not arguments.table and name in (arguments.instances or shipped_instances()):
            found[name] = finding(name, METHOD, arguments.time_limit)
        rows.append(update(name, *found[name]) if name in found else row(name))
        print(rows[-1], flush=True)
    write(
        "known-results",
        header("Best known costs and bounds of the shipped instances")
        + "\nA row shows the best of all runs so far; the command that found it stands in its file in"
        + " `instances/results/`.\n"
        + "\n| instance | workloads | GPUs | cost/h | bound/h | gap % | total share % | method | seconds | found |\n"
        + "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n",
    )


if __name__ == "__main__":
    main()
