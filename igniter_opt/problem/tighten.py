"""Limits that promised too much: lowered where a plan within them does not hold by the judge.

Formulations work with limits D_c, `verify` with the queues at a plan's actual interference, and under rule p99 neither
implies the other by proof: that a percentile grows with the service times is not proven, and of arrivals that are
sampled the judge takes another sample. So a plan that the limits admit and the judge refuses is no plan. The limits of
what it refuses are lowered below the GPU latency there, each time by twice as much, which excludes the plan, and the
search begins anew: what a method returns has been accepted. Limits are on the safe side, and lower ones more so; bounds
are of the plans that they admit, as before.
"""

from collections.abc import Sequence

import numpy as np

from igniter_opt.base.errors import VerificationError
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftGpu
from igniter_opt.problem.judge import DraftJudge

# Relative; a limit falls by this much first, and after a good dozen times to 0.
_STEP = 1e-4
MOST_ROUNDS = 20


class PlanRefusedError(VerificationError):
    """A plan within the limits is refused by the judge.

    Attributes
    ----------
    gpus
        The plan.
    """

    def __init__(self, message: str, gpus: Sequence[DraftGpu]) -> None:
        super().__init__(message)
        self.gpus = gpus


def tighten(problem: Problem, gpus: Sequence[DraftGpu]) -> bool:
    """Lower the limits of all placements that the judge refuses; return whether there are any.

    Under rules whose limits are exact there are none.
    """
    if problem.rule.exact_limits:
        return False
    judge = DraftJudge(problem, gpus)
    drafts = judge.arrays
    refused = np.flatnonzero(~judge.keeps & judge.bounded[drafts.gpu]).tolist()
    for at in refused:
        problem.lower_limit(
            int(drafts.workload[at]),
            int(drafts.gpu_type[drafts.gpu[at]]),
            float(drafts.rate_rps[at]),
            int(drafts.batch[at]),
            int(drafts.level[at]),
            float(judge.predictions.gpu_latency_ms[at]),
            _STEP,
        )
    return bool(refused)
