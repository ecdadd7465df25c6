"""The cheapest sequence of layouts out of a pool: a dynamic program over time.

With L layouts and S steps: ``f(s, l) = gpus(l) + min over k of f(s - 1, k) + change(k, l)`` for layouts l whose every
GPU carries its servers at the rates of step s. A change costs the price of its moves (servers of a workload that both
have, less those that can stay by the best matching of GPUs of a type) and the starts of GPUs that the layout before
did not have. The path is the best one over the pool; that the pool holds the best layouts is not promised.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from igniter_opt.base.arrays import FloatArray
from igniter_opt.scheduling.course import StepPrices, cost_of_layout
from igniter_opt.scheduling.universe import Layout, Universe


def fits(universe: Universe, layout: Layout, ranks: Sequence[int]) -> bool:
    """Whether every GPU of a layout carries its servers where workloads have the rates of these ranks."""
    return all(
        universe.fits(gpu_type, [universe.item(workload, count, ranks[workload]) for workload, count in members])
        for gpu_type, members in layout
    )


def feasibility(universe: Universe, layouts: Sequence[Layout], steps: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return which layouts hold in which steps, shape (layouts, steps)."""
    known: dict[tuple[int, tuple[tuple[int, int], ...]], npt.NDArray[np.bool_]] = {}
    found = np.ones((len(layouts), len(steps)), dtype=bool)
    for number, layout in enumerate(layouts):
        for gpu in layout:
            if gpu not in known:
                over = [universe.items_over(workload, count) for workload, count in gpu[1]]
                known[gpu] = np.array([universe.fits(gpu[0], [entry[s] for entry in over]) for s in steps])
            found[number] &= known[gpu]
    return found


def moves_between(layouts: Sequence[Layout]) -> FloatArray:
    """Return how many servers move from one layout to another at least, shape (layouts, layouts)."""
    workloads = 1 + max(workload for layout in layouts for _, members in layout for workload, _ in members)
    gpus = [gpu for layout in layouts for gpu in layout]
    first = np.concatenate([[0], np.cumsum([len(layout) for layout in layouts])]).tolist()
    here = np.zeros((len(gpus), workloads), dtype=np.int64)
    replicas = np.zeros((len(layouts), workloads), dtype=np.int64)
    for row, (_, members) in enumerate(gpus):
        for workload, _ in members:
            here[row, workload] += 1
    for number, layout in enumerate(layouts):
        for _, members in layout:
            for workload, count in members:
                replicas[number, workload] = count
    most = int(here.max())
    common = sum((here >= t).astype(np.float32) @ (here >= t).astype(np.float32).T for t in range(1, most + 1))
    kinds = np.array([gpu_type for gpu_type, _ in gpus])
    common = np.where(kinds[:, None] == kinds[None, :], common, 0.0)
    both = np.minimum(replicas[:, None, :], replicas[None, :, :]).sum(axis=2)
    moves = np.zeros((len(layouts), len(layouts)))
    for one in range(len(layouts)):
        for other in range(one):
            stays = common[first[one] : first[one + 1], first[other] : first[other + 1]]
            rows, columns = linear_sum_assignment(stays, maximize=True)
            moves[one, other] = moves[other, one] = both[one, other] - stays[rows, columns].sum()
    return moves


def starts_between(layouts: Sequence[Layout], start: Sequence[float]) -> FloatArray:
    """Return what the GPUs cost that start on the way from one layout (rows) to another (columns)."""
    counts = np.array([np.bincount([kind for kind, _ in layout], minlength=len(start)) for layout in layouts])
    more = np.maximum(counts[None, :, :] - counts[:, None, :], 0)
    return np.asarray(more @ np.array(start, dtype=np.float64))


def cheapest_path(
    holds: npt.NDArray[np.bool_],
    gpus: FloatArray,
    change: FloatArray,
    first: FloatArray,
) -> tuple[list[int], float] | None:
    """Return the layout of every step, and what all costs; None where some step has no layout that holds.

    Parameters
    ----------
    holds
        Shape (layouts, steps).
    gpus
        Cost of a step with a layout, shape (layouts,).
    change
        Cost of going from one layout (rows) to another (columns) between two steps.
    first
        Cost of beginning with a layout.
    """
    if not holds.any(axis=0).all():
        return None
    value = np.where(holds[:, 0], gpus + first, np.inf)
    before = np.zeros((holds.shape[1], len(gpus)), dtype=np.int64)
    for step in range(1, holds.shape[1]):
        via = value[:, None] + change
        before[step] = via.argmin(axis=0)
        value = np.where(holds[:, step], via.min(axis=0) + gpus, np.inf)
    last = int(value.argmin())
    path = [last]
    for step in range(holds.shape[1] - 1, 0, -1):
        path.append(int(before[step, path[-1]]))
    return path[::-1], float(value[last])


def path_of_layouts(
    universe: Universe,
    layouts: Sequence[Layout],
    steps: Sequence[int],
    prices: StepPrices,
    running: Layout | None = None,
) -> list[Layout] | None:
    """Return the cheapest sequence of some layouts over some steps, after a running one if there is one."""
    pool = list(dict.fromkeys(layouts if running is None else [*layouts, running]))
    holds = feasibility(universe, pool, steps)
    change = prices.move * moves_between(pool) + starts_between(pool, prices.start)
    gpus = np.array([cost_of_layout(layout, prices.gpu) for layout in pool])
    if running is None:
        first = np.array([cost_of_layout(layout, prices.start) for layout in pool])
    else:
        first = change[pool.index(running)]
    found = cheapest_path(holds, gpus, change, first)
    return None if found is None else [pool[k] for k in found[0]]
