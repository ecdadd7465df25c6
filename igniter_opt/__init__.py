"""igniter-opt: the cheapest GPU plan for DNN inference under latency SLOs, with a proof.

>>> import igniter_opt as ig
>>> result = ig.solve("igniter-motivation")
>>> result.status, len(result.plan.gpus), ig.verify(result.plan).ok
('optimal', 1, True)
"""

import igniter_opt.base.command

# isort: split
from importlib.metadata import version

# Registers what notebooks show.
import igniter_opt.report.notebook  # noqa: F401
from igniter_opt.base.errors import IgniterOptError, InfeasibleError, InputError, VerificationError

# Functions that are named as their modules: importing such a module again does not put it in the function's place,
# for it is loaded now.
from igniter_opt.compare import Comparison, compare
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance import GpuType, Instance, Workload, read_instance, write_instance
from igniter_opt.data.plan import Plan, read_plan, write_plan
from igniter_opt.data.profile import Profile, read_profile
from igniter_opt.methods import METHODS, Heuristic, register_method, unregister_method
from igniter_opt.predict import Prediction, predict
from igniter_opt.result import Progress, Result
from igniter_opt.sensitivity import Sensitivity, sensitivity
from igniter_opt.simulate import simulate
from igniter_opt.simulation.results import Simulation
from igniter_opt.solve import solve
from igniter_opt.verify import Verification, verify

__version__ = version("igniter-opt")

__all__ = [
    "METHODS",
    "Arrivals",
    "Comparison",
    "GpuType",
    "Heuristic",
    "IgniterOptError",
    "InfeasibleError",
    "InputError",
    "Instance",
    "Plan",
    "Prediction",
    "Profile",
    "Progress",
    "Result",
    "Sensitivity",
    "Simulation",
    "Verification",
    "VerificationError",
    "Workload",
    "compare",
    "predict",
    "read_instance",
    "read_plan",
    "read_profile",
    "register_method",
    "sensitivity",
    "simulate",
    "solve",
    "unregister_method",
    "verify",
    "write_instance",
    "write_plan",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
