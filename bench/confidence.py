"""The cost of confidence: GPUs for the shipped V100 instances with the calibrated margins of both coefficient sets.

`patterns`, up to 100 workloads, rule of the instance, one core. The largest confidence that 714 readings allow stands
in for 0.999. Where a workload cannot be served on a whole GPU within the margin, the instance has no plan.

Run: python -m bench.confidence [--time-limit S]
"""

import argparse

from bench.provenance import PACKAGES, header, write
from igniter_opt.errors import InfeasibleError
from igniter_opt.instance import read_instance, shipped_instances
from igniter_opt.profile import COEFFICIENT_SETS, Profile, read_profile
from igniter_opt.solve import solve

MOST_WORKLOADS = 100


def cell(name: str, coefficients: str, confidence: float | None, time_limit: float) -> tuple[str, int]:
    """Solve an instance; render GPUs and proof."""
    try:
        result = solve(
            read_instance(name), "patterns", time_limit=time_limit, confidence=confidence, coefficients=coefficients
        )
    except InfeasibleError:
        return "no plan", 0
    gpus = len(result.plan.gpus)
    if result.status == "optimal":
        return str(gpus), gpus
    least = round(float(result.lower_bound or 0.0) / result.cost * gpus)
    return f"{gpus} (at least {least})", gpus


def levels(profile: Profile) -> list[float | None]:
    """No margin, and the confidences 0.9, 0.99 and the largest."""
    entry = (profile.calibration or {})[profile.coefficients]
    return [None, 0.9, 0.99, entry.confidence[-1]]


def main() -> None:
    """Solve all and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-limit", type=float, default=10.0)
    limit = parser.parse_args().time_limit
    names = [name for name in shipped_instances() if len(read_instance(name).workloads) <= MOST_WORKLOADS]
    parts = [
        header("The cost of confidence", (*PACKAGES, "numba")),
        f"GPUs by `patterns` within {limit:g} s each; proven optimal unless a bound is given.\n",
    ]
    for coefficients in COEFFICIENT_SETS:
        profile = read_profile("v100", coefficients=coefficients)
        chosen = levels(profile)
        margins = [0.0 if level is None else profile.margin_at(level) for level in chosen]
        titles = [
            f"{'no margin' if level is None else f'{level:g}'} ({100 * margin:.1f} %)"
            for level, margin in zip(chosen, margins, strict=True)
        ]
        parts += [f"## `{coefficients}`\n", "| instance | " + " | ".join(titles) + " |", "| --- " * 5 + "|"]
        totals = [0] * len(chosen)
        served = [True] * len(chosen)
        for name in names:
            cells = [cell(name, coefficients, level, limit) for level in chosen]
            parts.append(f"| {name} | " + " | ".join(text for text, _ in cells) + " |")
            print(parts[-1], flush=True)
            for k, (_, gpus) in enumerate(cells):
                totals[k] += gpus
                served[k] &= gpus > 0
        sums = [
            str(total) if whole else f"{total} of those served" for total, whole in zip(totals, served, strict=True)
        ]
        parts.append("| all | " + " | ".join(sums) + " |\n")
    write("confidence", "\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
