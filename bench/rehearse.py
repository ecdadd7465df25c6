"""Rehearsals on real Triton servers beside the simulation of the same requests: how far they agree.

igniter-three under rules `half`, `deadline` and `p99`, constant and Poisson arrivals; Table 3 under `p99` with up to
three replicas, Poisson, in slowed time. Needs `igniter-opt triton install`, and two cores with nothing else to do.

Run: python -m bench.rehearse [--seconds S]
"""

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.provenance import header, write
from igniter_opt.data.arrivals import ArrivalKind, Arrivals
from igniter_opt.data.instance import SloRule
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.apply import Options as ApplyOptions
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.measure.options import MeasureOptions
from igniter_opt.rehearse.results import Rehearsal
from igniter_opt.rehearse.run import RehearsalSite, rehearse
from igniter_opt.solve import solve

BASE_PORT = 31000


@dataclass(frozen=True)
class Case:
    """A plan, and how it is loaded."""

    instance: str
    rule: SloRule
    replicas: int | None
    arrivals: ArrivalKind
    pace: float
    longer: float = 1.0

    def plan(self) -> Plan:
        """Solve for the plan."""
        return solve(read_instance(self.instance), slo_rule=self.rule, max_replicas=self.replicas).plan

    @property
    def title(self) -> str:
        """What the case is called."""
        return f"{self.instance}, `{self.rule}`"


RULES: tuple[tuple[SloRule, int | None], ...] = (("half", None), ("deadline", None), ("p99", 3))
KINDS: tuple[ArrivalKind, ...] = ("constant", "poisson")
CASES = [
    *(Case("igniter-three", rule, replicas, kind, 1.0) for rule, replicas in RULES for kind in KINDS),
    Case("igniter-table3", "p99", 3, "poisson", 0.2, 2.5),
]


def run(case: Case, seconds: float) -> Rehearsal:
    """Rehearse a case for so many seconds on the wall (or `Case.longer` times as long)."""
    options = MeasureOptions(
        arrivals=Arrivals(case.arrivals), duration_s=seconds * case.longer, warm_up_s=2.0, pace=case.pace, seed=1
    )
    with tempfile.TemporaryDirectory() as folder:
        site = RehearsalSite(ProcessBackend(), Path(folder), ApplyOptions(base_port=BASE_PORT))
        return rehearse(case.plan(), site, options)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def rows(case: Case, found: Rehearsal) -> list[str]:
    """Return a row for every workload."""
    lines = []
    for entry, measured in zip(found.workloads, found.measurement.workloads, strict=True):
        verdicts = ["holds" if held else "violates" for held in (entry.holds, entry.simulated_holds)]
        lines.append(
            f"| {case.title} | {case.arrivals} | {case.pace:g} | {entry.workload} | {measured.requests:,}"
            f" | {entry.slo_ms:g} | {_ms(entry.overhead_ms)} | {_ms(entry.rehearsed_mean_ms)}"
            f" | {_ms(entry.simulated_mean_ms)} | {_ms(entry.rehearsed_ms)} | {_ms(entry.simulated_ms)}"
            f" | {'-' if entry.difference is None else f'{100 * entry.difference:+.1f} %'}"
            f" | {' / '.join(dict.fromkeys(verdicts))} | {_ms(measured.sent_late_ms)}"
            f" | {'-' if entry.excess is None else f'{100 * entry.excess:+.1f} %'} |"
        )
    return lines


HEAD = (
    "| plan | arrivals | scale | workload | requests | SLO | overhead | mean | simulated | P99 | simulated"
    " | P99 less overhead, over simulated | verdict (both, or rehearsed / simulated) | sent late (P99)"
    " | batches longer than told |\n" + "| --- " * 15 + "|\n"
)


def summary(found: list[tuple[Case, Rehearsal]]) -> str:
    """Say in words how far the two agree."""
    entries = [(case, entry) for case, rehearsal in found for entry in rehearsal.workloads]
    differing = sum(entry.holds != entry.simulated_holds for _, entry in entries)
    lines = [f"{len(entries)} workloads; the verdicts differ for {differing}."]
    for kind in KINDS:
        sizes = sorted(abs(e.difference) for case, e in entries if case.arrivals == kind and e.difference is not None)
        if sizes:
            lines.append(
                f"{kind.capitalize()} arrivals: P99 less overhead is within {100 * sizes[-1]:.1f} % of the simulated"
                f" one for all of {len(sizes)}, within {100 * sizes[len(sizes) // 2]:.1f} % for half of them."
            )
    for case, rehearsal in found:
        lines += [f"No verdict on {case.title}, {case.arrivals}: {reason}." for reason in rehearsal.verdict.reasons]
    return " ".join(lines)


def main() -> int:
    """Rehearse all cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12.0, help="seconds of load that count, per case")
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    found = []
    for case in CASES:
        found.append((case, run(case, arguments.seconds)))
        print(f"{case.title}, {case.arrivals}: {found[-1][1].verdict.reasons or 'done'}", file=sys.stderr)
    lines = [line for case, rehearsal in found for line in rows(case, rehearsal)]
    write(
        "rehearse",
        header("Rehearsal: plans on real Triton servers beside their simulation", ("igniter-opt", "numpy", "grpcio"))
        + f"- load average before: {before:.2f}\n\n"
        "Latencies in ms of the plan's time. Triton 2.51.0 with emulated models, one server per placement, load"
        " generator and servers on the same cores; the simulation serves the very same requests. *Overhead* is what"
        " single batches take on idle servers beyond the emulated time. *Scale* 0.2: rates a fifth, times"
        " five-fold.\n\n" + summary(found) + "\n\n" + HEAD + "\n".join(lines) + "\n",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
