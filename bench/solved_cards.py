"""Plans whose GPUs nobody has measured: random workloads on one type of card, solved with its shipped profile.

Run: python -m bench.solved_cards --output DIR [--profile NAME] [--cards N] [--seed N]

Each plan is of 24 random workloads of the profile's models, SLOs of 3 to 8 times a batch of four at a fifth of the
card, rates that take a tenth to a third of one; rule `deadline` and `p99` in turn, `patterns`, two plans at a
confidence of 0.99 and two at 0.9 in turn, as a user would plan. Plans are made until they have so many GPUs.
`bench.documented --cards` measures them. (Those of seed 20261129 were all solved at 0.99.)
"""

import argparse
import warnings
from pathlib import Path

import numpy as np

import igniter_opt as ig
from igniter_opt.base.errors import Caution
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance, Workload

WORKLOADS = 24
RULES, CONFIDENCES = ("deadline", "p99"), (0.99, 0.9)


def instance(card: ig.Profile, rule: str, random: np.random.Generator, name: str) -> Instance:
    """Draw an instance."""
    models = sorted(card.models)
    workloads = []
    for number in range(WORKLOADS):
        model = models[number % len(models)]
        batch_ms = float(ig.predict(card, [(model, 4, 20.0)]).latency_ms[0])
        slo = random.uniform(3.0, 8.0) * batch_ms
        rate = random.uniform(0.3, 1.2) * 1000.0 * 4 / batch_ms
        workloads.append(Workload(name=f"w{number}", model=model, slo_ms=round(slo, 1), rate_rps=round(rate, 1)))
    gpu = GpuType(name="GPU", profile=card, price_per_hour=1.0)
    return Instance(name=name, slo_rule=rule, gpu_types=(gpu,), workloads=tuple(workloads))


def main() -> None:
    """Make the plans and say what they have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--profile", default="h200")
    parser.add_argument("--cards", type=int, default=28)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time-limit", type=float, default=20.0)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", Caution)
    card, random, found, number = ig.read_profile(options.profile), np.random.default_rng(options.seed), 0, 0
    while found < options.cards:
        name = f"solved-{options.seed}-{number}"
        case = instance(card, RULES[number % len(RULES)], random, name)
        confidence = CONFIDENCES[number // len(RULES) % len(CONFIDENCES)]
        result = ig.solve(case, "patterns", time_limit=options.time_limit, confidence=confidence)
        ig.write_plan(result.plan, options.output / f"{name}.json")
        sizes = [len(gpu.placements) for gpu in result.plan.gpus]
        print(name, case.slo_rule, confidence, result.status, sizes, flush=True)
        found, number = found + len(sizes), number + 1


if __name__ == "__main__":
    main()
