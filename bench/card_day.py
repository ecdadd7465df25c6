"""Fresh readings on one card, by commands, after fit and margins were frozen: random groups, solved cards, new models.

Run: python -m bench.card_day --output DIR --cards PLAN... [--seed N] [--within S]

One after the other: random groups of the shipped profile's models, drawn by the seed, and the GPUs of plans that were
solved with it and never measured (`bench.solved_cards`); a profile of four models that are not built in, in fp16, as a
new user makes it; random groups of these; the placements of a plan for them (`profile refine`, one round); and
neighbours that are not always busy (`bench.duty`). DIR gets the logs; `bench.fresh` makes the table of what they show.
Steps that do not fit in the time are cut short or left out, which `day.json` says.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import igniter_opt as ig
from bench.card import driver
from bench.provenance import commit, machine, today, versions
from bench.solved_cards import instance
from igniter_opt.base.errors import Caution
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.deploy.inventory import read_devices
from igniter_opt.profiler.make import colocation_precision, make_measurements
from igniter_opt.profiler.runners.cuda import CudaRunner

MODELS = {
    "wide": "torchvision.models:wide_resnet50_2@3x224x224f",
    "vgg13": "torchvision.models:vgg13@3x224x224f",
    "mnas": "torchvision.models:mnasnet1_0@3x224x224f",
    "regnet": "torchvision.models:regnet_x_400mf@3x224x224f",
}
PRECISION, MARGIN = "fp16", 0.1
RANDOM = 24
OWN = ("--pairs", 10, "--larger", 10, "--crowded", 10)
_END_S, _GONE_S = 12.0, 2.0


class Day:
    """Steps one after the other, and what became of them."""

    def __init__(self, output: Path, within: float, about: dict[str, Any]) -> None:
        self.output, self.until, self.found = output, time.monotonic() + within, about | {"steps": []}

    def run(self, *words: object, module: str = "igniter_opt", most_s: float = 600.0, least_s: float = 5.0) -> bool:
        """Run a command for as long as there is time; it is interrupted, as by Ctrl-C, when there is none left."""
        left = min(most_s, self.until - time.monotonic() - _END_S)
        texts = [str(word) for word in words]
        began, code, said = time.monotonic(), None, "left out: no time"
        if left >= least_s:
            time.sleep(_GONE_S)  # what was ended leaves the card
            command = [sys.executable, "-m", module, *texts]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            try:
                said = child.communicate(timeout=left)[0]
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGINT)
                try:
                    said = child.communicate(timeout=_END_S)[0]
                except subprocess.TimeoutExpired:
                    child.kill()
                    said = child.communicate()[0]
            code = child.returncode
        seconds = round(time.monotonic() - began, 1)
        entry = {"command": f"{module} {' '.join(texts)}", "rc": code, "seconds": seconds, "said": said[-1500:]}
        self.found["steps"].append(entry)
        print(f"[{self.until - time.monotonic():5.0f} s left] {code} {seconds} s: {entry['command'][:150]}", flush=True)
        self.keep()
        return code == 0

    def keep(self) -> None:
        """Write what is known so far."""
        write_bytes_atomically(self.output / "day.json", (json.dumps(self.found, indent=1) + "\n").encode())


def solve_own(profile: Path, target: Path) -> None:
    """Solve a plan for random workloads of a profile's models."""
    warnings.simplefilter("ignore", Caution)
    case = instance(ig.read_profile(profile), "deadline", np.random.default_rng(0), "own")
    result = ig.solve(case, "bestfit", margin=MARGIN, time_limit=10.0)
    ig.write_plan(result.plan, target)


def measure_fresh(options: argparse.Namespace) -> None:
    """Measure random groups, and the GPUs of plans, side by side only."""
    card = ig.read_profile(options.profile)
    runner = CudaRunner(read_devices(otherwise="there is nothing to measure")[0].uuid, colocation_precision(card))
    plans = [ig.read_plan(path) for path in options.cards]
    make_measurements(
        runner,
        card,
        alone=False,
        plans=plans,
        seed=options.seed,
        log=options.fresh,
        pairs=RANDOM,
        larger=RANDOM,
        crowded=RANDOM,
    )


def measure_own(day: Day, seed: tuple[object, ...]) -> None:
    """Profile new models, measure random groups of them, and the placements of a plan."""
    out = day.output
    own, texts = out / "scratch-own.json", ",".join(f"{name}={text}" for name, text in MODELS.items())
    made = day.run(
        "profile", "measure", "--models", texts, "--precision", PRECISION, "--resume", out / "own.jsonl", "-o", own,
        most_s=380.0,
    )  # fmt: skip
    if made:
        groups = ("--no-alone", "--resume", out / "own-groups.jsonl", "-o", out / "scratch-groups.json")
        day.run("profile", "colocate", own, *OWN, *seed, *groups, most_s=100.0, least_s=40.0)
        plan = out / "own-plan.json"
        if day.run("--solve", own, plan, module="bench.card_day", most_s=60.0, least_s=30.0):
            refined = ("--rounds", 1, "--resume", out / "refine.jsonl", "-o", out / "scratch-refined.json", "--json")
            day.run("profile", "refine", own, plan, *refined, most_s=80.0, least_s=35.0)


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--profile", default="h200")
    parser.add_argument("--cards", type=Path, nargs="*", default=[], metavar="PLAN")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--within", type=float, default=570.0, metavar="S")
    parser.add_argument("--only", choices=("shipped", "own"), help="the shipped profile's models, or new ones")
    parser.add_argument("--solve", type=Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--fresh", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.solve:
        solve_own(*options.solve)
        return
    if options.fresh:
        measure_fresh(options)
        return
    out: Path = options.output.absolute()
    out.mkdir(parents=True, exist_ok=True)
    about = {
        "command": "python -m bench.card_day " + " ".join(sys.argv[1:]),
        "date": today(),
        "machine": machine(),
        "driver": driver(),
        "versions": versions(("igniter-opt", "numpy", "torch")),
        "commit": commit(),
        "models": MODELS,
        "precision": PRECISION,
    }
    day = Day(out, options.within, about)
    plans = [path.absolute() for path in options.cards]
    seed = ("--seed", options.seed)
    if options.only != "own":
        fresh = ("--fresh", out / "fresh.jsonl", "--profile", options.profile, *seed, "--cards", *plans)
        day.run(*fresh, module="bench.card_day", most_s=200.0)
    if options.only != "shipped":
        measure_own(day, seed)
    if options.only != "own":
        left = day.until - time.monotonic() - 35.0
        how = ("--only", "measure", "--within", f"{left:.0f}", "--output", out / "duty.json")
        day.run("--profile", options.profile, *seed, *how, module="bench.duty", least_s=35.0)
    for scratch in out.glob("scratch-*"):
        scratch.unlink()
    day.keep()


if __name__ == "__main__":
    main()
