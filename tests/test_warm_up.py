"""After a warm-up nothing is left to compile, whatever a first run asks for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from igniter_opt import read_instance
from igniter_opt.fitting import kept
from igniter_opt.fitting.coefficients import fit_coefficients

# One process each: what is compiled is kept on disk only.
COUNTED = """
import sys
from igniter_opt import simulate, solve
from igniter_opt.base import compilation
from igniter_opt.compare import compare
from igniter_opt.data.instance_files import read_instance
{work}
print(compilation.functions())
"""
WARM_UP = "from igniter_opt.warm_up import warm_up; warm_up()"
FIRST_RUNS = """
plan = solve("igniter-table3", "patterns").plan
solve("igniter-three", "patterns", slo_rule="p99", max_replicas=2)
simulate(plan, requests=200, seeds=1)
simulate(plan, "constant", requests=200, seeds=1, neighbours="actual")
compare([read_instance("cards-table3")], ["igniter", "ffd", "gpulets", "gslice", "bestfit"], requests=100)
"""


def test_nothing_is_compiled_after_a_warm_up(tmp_path: Path) -> None:
    # Fits go without compiled code: those of this run spare the processes theirs.
    for gpu in read_instance("cards-table3").gpu_types:
        fit_coefficients(gpu.profile)
    shutil.copytree(kept.cache_folders()[0] / "fits", tmp_path / "fits")

    def compiles(work: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", COUNTED.format(work=work)],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        return int(done.stdout)

    assert compiles(WARM_UP) > 40
    assert compiles(FIRST_RUNS) == 0
    assert compiles(WARM_UP) == 0
