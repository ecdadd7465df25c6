"""A heuristic as a user would write one: every workload has a GPU of its own, of the cheapest type that serves it."""

import igniter_opt as ig
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import Draft, DraftGpu


def place(problem: Problem) -> list[DraftGpu]:
    """Return one GPU for every workload, at the least share that serves it."""
    return [_alone(problem, workload) for workload in range(len(problem.workloads))]


def _alone(problem: Problem, workload: int) -> DraftGpu:
    types = range(len(problem.gpu_types))
    for gpu_type in sorted(types, key=lambda known: problem.gpu_types[known].price_per_hour):
        found = problem.configurations(workload, gpu_type)
        if found is not None:
            first = int(found.level.argmin())
            rate = problem.workloads[workload].rate_rps
            draft = Draft(workload, 1, int(found.batch[first]), int(found.level[first]), rate)
            return DraftGpu(gpu_type, [draft])
    raise ig.InfeasibleError(f"no GPU serves {problem.workloads[workload].name} alone")


ROW = ig.Heuristic(name="one-each", words="a GPU for every workload", place=place)
