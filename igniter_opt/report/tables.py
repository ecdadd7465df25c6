"""The table of a comparison in words: the same on the terminal and in notebooks."""

import math
from typing import TYPE_CHECKING

from igniter_opt.data.arrivals import either

if TYPE_CHECKING:
    from collections.abc import Sequence

    from igniter_opt.compare import ComparisonRow

# The first ones are words, the others numbers.
WORDS = ("instance", "method", "status")
NUMBERS = ("GPUs", "cost/h", "saving", "bound/h", "gap", "share %", "at least", "over SLO", "late", "P99/SLO", "time s")


def explanation_of(rows: "Sequence[ComparisonRow]") -> str | None:
    """Say what the columns of simulations mean; nothing where none was simulated."""
    arrivals = [row.simulated_arrivals for row in rows if row.simulated_arrivals is not None]
    if not arrivals:
        return None
    return f"late, P99/SLO: requests over their SLO, and the worst workload, simulated with {either(arrivals)}"


def limits_line(rows: "Sequence[ComparisonRow]") -> str | None:
    """Say within what bounds and ``optimal`` hold; nothing where they hold without more."""
    found = dict.fromkeys(row.within for row in rows if row.within is not None)
    return f"bound/h, optimal: within {', '.join(found)}" if found else None


def number(value: float | None, digits: int) -> str:
    """Render a number; what is unknown or not finite as a dash."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def method_name(row: "ComparisonRow") -> str:
    """Name a method, and the one that ``auto`` took."""
    return row.method if row.solved_by in {None, row.method} else f"{row.method} ({row.solved_by})"


def comparison_cells(row: "ComparisonRow") -> list[str]:
    """Return a row's cells under `WORDS` and `NUMBERS`."""
    return [
        row.instance,
        method_name(row),
        row.status,
        "-" if row.gpus is None else str(row.gpus),
        number(row.cost_per_hour, 2),
        "-" if row.saving_percent is None else f"{row.saving_percent:.1f} %",
        number(row.lower_bound_per_hour, 2),
        "-" if row.gap is None else f"{100 * row.gap:.2f} %",
        "-" if row.total_share_percent is None else f"{row.total_share_percent:g}",
        "-" if row.total_share_lower_bound_percent is None else f"{row.total_share_lower_bound_percent:g}",
        "-" if row.workloads_over_slo is None else f"{row.workloads_over_slo} of {row.workloads}",
        "-" if row.simulated_violation_ratio is None else f"{100 * row.simulated_violation_ratio:.2f} %",
        number(row.simulated_worst_p99_over_slo, 2),
        f"{row.runtime_s:.3f}",
    ]
