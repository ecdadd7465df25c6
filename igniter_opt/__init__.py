"""igniter-opt: the cheapest GPU plan for DNN inference under latency SLOs, with a proof.

>>> import igniter_opt as ig
>>> result = ig.solve("igniter-motivation")
>>> result.status, len(result.plan.gpus), ig.verify(result.plan).ok
('optimal', 1, True)

Names are imported when they are first used, so that importing the package takes no time.
"""

import igniter_opt.base.command  # noqa: F401 (it acts while it is imported)

# isort: split
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from igniter_opt.base.errors import Caution, IgniterOptError, InfeasibleError, InputError, VerificationError
    from igniter_opt.compare import Comparison, compare
    from igniter_opt.data.arrivals import Arrivals
    from igniter_opt.data.demand import Demand, read_demand, write_demand
    from igniter_opt.data.gpu_type import GpuType
    from igniter_opt.data.instance import Instance, Workload
    from igniter_opt.data.instance_files import read_instance, write_instance
    from igniter_opt.data.plan import Plan, read_plan, write_plan
    from igniter_opt.data.profile import Profile, read_profile
    from igniter_opt.explain import explain
    from igniter_opt.explanation import Explanation
    from igniter_opt.formulations.written import write_model
    from igniter_opt.front import Front, front
    from igniter_opt.methods import METHODS, Heuristic, register_method, unregister_method
    from igniter_opt.observe.client import Prometheus
    from igniter_opt.observe.from_prometheus import FromPrometheus, instance_from_prometheus
    from igniter_opt.predict import Prediction, predict
    from igniter_opt.replan import Replanned, ReplanTerms, replan
    from igniter_opt.result import Progress, Result
    from igniter_opt.schedule import schedule
    from igniter_opt.scheduling.outcome import Scheduled
    from igniter_opt.scheduling.terms import ScheduleTerms
    from igniter_opt.sensitivity import Sensitivity, sensitivity
    from igniter_opt.simulate import simulate
    from igniter_opt.simulation.results import Simulation
    from igniter_opt.solve import solve
    from igniter_opt.sweeps.results import Sweep
    from igniter_opt.verify import Verification, verify
    from igniter_opt.whatif import whatif

    __version__: str

__all__ = [
    "METHODS",
    "Arrivals",
    "Caution",
    "Comparison",
    "Demand",
    "Explanation",
    "FromPrometheus",
    "Front",
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
    "Prometheus",
    "ReplanTerms",
    "Replanned",
    "Result",
    "ScheduleTerms",
    "Scheduled",
    "Sensitivity",
    "Simulation",
    "Sweep",
    "Verification",
    "VerificationError",
    "Workload",
    "compare",
    "explain",
    "front",
    "instance_from_prometheus",
    "predict",
    "read_demand",
    "read_instance",
    "read_plan",
    "read_profile",
    "register_method",
    "replan",
    "schedule",
    "sensitivity",
    "simulate",
    "solve",
    "unregister_method",
    "verify",
    "whatif",
    "write_demand",
    "write_instance",
    "write_model",
    "write_plan",
]

# Where the names of `__all__` are, for Python; for type checkers the imports above say the same.
_HOME = {
    "base.errors": ("Caution", "IgniterOptError", "InfeasibleError", "InputError", "VerificationError"),
    "compare": ("Comparison", "compare"),
    "data.arrivals": ("Arrivals",),
    "data.gpu_type": ("GpuType",),
    "data.instance": ("Instance", "Workload"),
    "data.demand": ("Demand", "read_demand", "write_demand"),
    "data.instance_files": ("read_instance", "write_instance"),
    "data.plan": ("Plan", "read_plan", "write_plan"),
    "data.profile": ("Profile", "read_profile"),
    "explain": ("explain",),
    "explanation": ("Explanation",),
    "formulations.written": ("write_model",),
    "front": ("Front", "front"),
    "methods": ("METHODS", "Heuristic", "register_method", "unregister_method"),
    "observe.client": ("Prometheus",),
    "observe.from_prometheus": ("FromPrometheus", "instance_from_prometheus"),
    "predict": ("Prediction", "predict"),
    "replan": ("ReplanTerms", "Replanned", "replan"),
    "result": ("Progress", "Result"),
    "schedule": ("schedule",),
    "scheduling.outcome": ("Scheduled",),
    "scheduling.terms": ("ScheduleTerms",),
    "sensitivity": ("Sensitivity", "sensitivity"),
    "simulate": ("simulate",),
    "simulation.results": ("Simulation",),
    "solve": ("solve",),
    "sweeps.results": ("Sweep",),
    "verify": ("Verification", "verify"),
    "whatif": ("whatif",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("igniter-opt")
    elif name in _MODULE_OF:
        value = getattr(import_module(f"igniter_opt.{_MODULE_OF[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Package(ModuleType):
    """Keeps a function that is named as its module (`solve`, say) where importing would put the module."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and _MODULE_OF.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
