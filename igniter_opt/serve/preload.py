"""What every job needs, imported once in the process from which the workers are forked.

Of solvers nothing is run here: their threads would not be in the forked processes. Compiled inner loops have none, and
are read from disk once instead of in every worker.
"""

from contextlib import suppress

import igniter_opt.compare
import igniter_opt.predict
import igniter_opt.replan
import igniter_opt.serve.work
import igniter_opt.serve.worker
import igniter_opt.simulate
import igniter_opt.solve
import igniter_opt.verify  # noqa: F401 (for their imports)
from igniter_opt.data.instance_files import shipped_instance
from igniter_opt.packing.warm_up import compile_kernels
from igniter_opt.problem.configurations import Problem

# Whatever is wrong here, the jobs meet it themselves, and say so.
with suppress(Exception):
    compile_kernels(Problem(shipped_instance("igniter-motivation")))
