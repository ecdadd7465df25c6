"""Compile what solving, comparing and simulating use, so that the first run in an image or in CI starts at once."""

from igniter_opt.base import compilation
from igniter_opt.data.instance import SloRule
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.split import SPLITS
from igniter_opt.heuristics.bestfit import require_monotone
from igniter_opt.packing.warm_up import compile_kernels
from igniter_opt.problem.configurations import Problem
from igniter_opt.simulate import simulate
from igniter_opt.solve import solve

# A small shipped instance whose workloads can be served under every rule that is compiled, and its replicas.
_INSTANCE, _REPLICAS = "igniter-motivation", 2
_RULES: tuple[SloRule, ...] = ("half", "p99")


def warm_up() -> int:
    """Compile all that is not on disk yet; return how many functions that were, those of numba's own included.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C.
    """
    before = compilation.functions()
    instance = read_instance(_INSTANCE)
    problem = Problem(instance)
    require_monotone(problem, "patterns")
    compile_kernels(problem, rare=True)
    for rule in _RULES:
        plan = solve(instance, "bestfit", slo_rule=rule, max_replicas=_REPLICAS).plan
        for split in SPLITS:
            simulate(plan, requests=100, seeds=1, split=split)
        simulate(plan, requests=100, seeds=1, neighbours="actual")
    return compilation.functions() - before
