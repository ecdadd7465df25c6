"""L2 and DRAM utilisation of models, by Nsight Compute (``ncu``).

``ncu`` runs this module's `main` in a process of its own, which has the GPU to itself, and reads two counters of every
kernel. Between one (model, batch) and the next a marker kernel runs, which no model has.
"""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from igniter_opt.base.errors import InputError
from igniter_opt.base.optional import load
from igniter_opt.profiler.models.catalogue import Precision, built, find_model, set_precision

TIME = "gpu__time_duration.sum"
L2 = "lts__t_sectors.avg.pct_of_peak_sustained_elapsed"
DRAM = "dram__throughput.avg.pct_of_peak_sustained_elapsed"
_MARKER = "spin_kernel"
_TIMEOUT_S = 600.0


class KernelUtilisation(NamedTuple):
    """Time-weighted means over a model's kernels, in percent of the peak."""

    l2: float
    dram: float


def find_ncu() -> str:
    """Return the program's path; raise InputError if there is none."""
    found = shutil.which("ncu")
    if found is None:
        raise InputError("ncu (Nsight Compute) is not on PATH; it comes with the CUDA toolkit")
    return found


def utilisation(
    models: Sequence[str], batches: Sequence[int], precision: Precision, environment: Mapping[str, str]
) -> dict[tuple[str, int], KernelUtilisation]:
    """Measure every model at every batch.

    Raises
    ------
    InputError
        ``ncu`` cannot read the card's counters.
    """
    command = [find_ncu(), "--metrics", ",".join((TIME, L2, DRAM)), "--csv", "--page", "raw", "--clock-control", "none"]
    command += ["--profile-from-start", "off", "--target-processes", "all", sys.executable, "-m", __spec__.name]
    command += [json.dumps({"models": list(models), "batches": list(batches), "precision": precision})]
    done = subprocess.run(  # noqa: S603
        command, env=dict(environment), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    cells = [(model, batch) for model in models for batch in batches]
    try:
        found = _parse(done.stdout)
    except (KeyError, ValueError, StopIteration) as error:
        found = []
        reason = f"{error!r}"
    else:
        reason = f"{len(found)} of {len(cells)} measured"
    if len(found) != len(cells):
        said = [line for line in (done.stdout + done.stderr).splitlines() if "==ERROR==" in line or "Error" in line][:3]
        raise InputError("\n".join([f"ncu did not read the counters ({reason})", *said]))
    return dict(zip(cells, found, strict=True))


def _parse(text: str) -> list[KernelUtilisation]:
    """Read ncu's table: after every marker the kernels of one (model, batch)."""
    lines = text.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith('"ID"'))
    rows = csv.DictReader(io.StringIO("\n".join(lines[first:])))
    found: list[list[tuple[float, float, float]]] = []
    for row in rows:
        if not row["ID"]:  # the row of units
            continue
        if _MARKER in row["Kernel Name"]:
            found.append([])
        elif found:
            found[-1].append(tuple(float(row[name].replace(",", "")) for name in (TIME, L2, DRAM)))  # type: ignore[arg-type]
    result = []
    for kernels in found:
        whole = sum(time for time, _, _ in kernels)
        result.append(
            KernelUtilisation(
                sum(time * l2 for time, l2, _ in kernels) / whole, sum(time * dram for time, _, dram in kernels) / whole
            )
        )
    return result


def main() -> None:
    """Run every model at every batch once, a marker before each."""
    order = json.loads(sys.argv[1])
    torch = load("torch")
    set_precision(order["precision"])
    for name in order["models"]:
        spec = find_model(name)
        module = built(spec, order["precision"], "cuda")
        for batch in order["batches"]:
            inputs = spec.inputs(batch, "cuda")
            with torch.no_grad():
                for _ in range(2):
                    module(inputs)
                torch.cuda.synchronize()
                torch.cuda.profiler.start()
                torch.cuda._sleep(1)
                module(inputs)
                torch.cuda.synchronize()
                torch.cuda.profiler.stop()
        del module
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
