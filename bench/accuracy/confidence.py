"""The cost of confidence: what the shipped instances need with the calibrated margins of both coefficient sets.

`patterns`, up to 100 workloads, rule of the instance, one core. Instances are grouped by the profiles they use, because
margins are a profile's; the largest confidence that a group's readings allow stands in for 0.999. Where a workload
cannot be served on a whole GPU within the margin, the instance has no plan; where coefficients are such that neighbours
would help each other, `patterns` refuses them.

Run: python -m bench.accuracy.confidence [--time-limit S]
"""

import argparse
import math

from bench.provenance import PACKAGES, header, write
from igniter_opt.base.errors import InfeasibleError, UnsuitableError
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import read_instance, shipped_instances
from igniter_opt.data.profile import COEFFICIENT_SETS, CoefficientSet, Profile, read_profile
from igniter_opt.solve import solve

MOST_WORKLOADS = 100
CONFIDENCES = (0.9, 0.99)

Group = tuple[str, ...]


def groups() -> dict[Group, list[str]]:
    """Return the names of the shipped instances by the names of the profiles they use, the most instances first."""
    found: dict[Group, list[str]] = {}
    for name in shipped_instances():
        instance = read_instance(name)
        if len(instance.workloads) <= MOST_WORKLOADS:
            found.setdefault(tuple(gpu.profile.name for gpu in instance.gpu_types), []).append(name)
    return dict(sorted(found.items(), key=lambda entry: -len(entry[1])))


def levels(profiles: list[Profile]) -> list[tuple[str, float | None]]:
    """Return no margin, the confidences, and the largest that all profiles have, each with a title."""
    entries = [(profile.calibration or {})[profile.coefficients] for profile in profiles]
    chosen = [*CONFIDENCES, min(entry.confidence[-1] for entry in entries)]
    margins = [max(profile.margin_at(level) for profile in profiles) for level in chosen]
    return [("no margin", None)] + [
        (f"{level:g} ({100 * margin:.1f} %)", level) for level, margin in zip(chosen, margins, strict=True)
    ]


def cell(
    instance: Instance, coefficients: CoefficientSet, confidence: float | None, time_limit: float
) -> tuple[str, float]:
    """Solve an instance; render the cost in GPUs, or per hour where types differ, with its proof."""
    try:
        result = solve(instance, "patterns", time_limit=time_limit, confidence=confidence, coefficients=coefficients)
    except InfeasibleError:
        return "no plan", math.nan
    except UnsuitableError:
        return "refused", math.nan
    several = len(instance.gpu_types) > 1
    price = 1.0 if several else instance.gpu_types[0].price_per_hour
    found, least = result.cost / price, float(result.lower_bound or 0.0) / price
    text = f"{found:.2f}" if several else f"{found:.0f}"
    if result.status != "optimal":
        # A number of GPUs is whole; a bound in money is rounded down.
        text += (
            f" (at least {math.floor(100 * least) / 100:.2f})" if several else f" (at least {math.ceil(least - 1e-6)})"
        )
    return text, found


def table(group: Group, names: list[str], coefficients: CoefficientSet, time_limit: float) -> list[str]:
    """Solve a group's instances; return the lines of its table, the sums of one-type instances last."""
    profiles = [read_profile(name, coefficients=coefficients) for name in group]
    chosen = levels(profiles)
    unit = "GPUs" if len(group) == 1 else "cost per hour"
    lines = [f"| {unit} | " + " | ".join(title for title, _ in chosen) + " |", "| --- " * (1 + len(chosen)) + "|"]
    sums = [0.0] * len(chosen)
    for name in names:
        cells = [cell(read_instance(name), coefficients, level, time_limit) for _, level in chosen]
        lines.append(f"| {name} | " + " | ".join(text for text, _ in cells) + " |")
        print(lines[-1], flush=True)
        sums = [total + found for total, (_, found) in zip(sums, cells, strict=True)]
    if len(group) == 1:
        lines.append("| all | " + " | ".join("" if math.isnan(total) else f"{total:.0f}" for total in sums) + " |")
    return lines


def main() -> None:
    """Solve all and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-limit", type=float, default=10.0, metavar="S", help="for every solve")
    limit = parser.parse_args().time_limit
    parts = [
        header("The cost of confidence", (*PACKAGES, "numba")),
        f"By `patterns` within {limit:g} s each; proven optimal unless a bound is given. A sum is left out where an"
        " instance has no plan; refused: with these coefficients neighbours would help each other.\n",
    ]
    for group, names in groups().items():
        for coefficients in COEFFICIENT_SETS:
            parts.append(f"## {', '.join(name.upper() for name in group)}: `{coefficients}`\n")
            parts += [*table(group, names, coefficients, limit), ""]
    write("confidence", "\n".join(parts))


if __name__ == "__main__":
    main()
