"""What every job needs, imported once in the process from which the workers are forked.

Nothing is run here: threads of solvers would not be in the forked processes.
"""

import igniter_opt.compare
import igniter_opt.predict
import igniter_opt.replan
import igniter_opt.serve.work
import igniter_opt.serve.worker
import igniter_opt.simulate
import igniter_opt.solve
import igniter_opt.verify  # noqa: F401 (for their imports)
