"""Limits that promise too much: what a method returns has been accepted by the judge all the same."""

import sys

import numpy as np
import pytest

from igniter_opt import Arrivals, read_instance, solve
from igniter_opt.base.arrays import FloatArray
from igniter_opt.data.instance import Workload
from igniter_opt.problem.configurations import Problem
from igniter_opt.slo.p99 import Percentile
from igniter_opt.slo.rule import ModelAlone

ARRIVALS = [None, Arrivals("gamma", burstiness=3.0)]


@pytest.fixture
def promising(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that are a few percent too large, each by another part."""
    true = Percentile.limits_ms

    def limits_ms(self: Percentile, alone: ModelAlone, workload: Workload, rate_rps: float) -> FloatArray:
        found = true(self, alone, workload, rate_rps)
        more = np.random.default_rng(request.param).uniform(1.0, 1.06, found.shape)
        return np.asarray(found * more)

    monkeypatch.setattr(Percentile, "limits_ms", limits_ms)


@pytest.mark.parametrize("promising", range(3), indirect=True)
@pytest.mark.parametrize("arrivals", ARRIVALS, ids=["poisson", "gamma"])
@pytest.mark.parametrize("method", ["patterns", "assignment", "bestfit"])
@pytest.mark.usefixtures("promising")
def test_no_plan_is_refused(method: str, arrivals: Arrivals | None) -> None:
    """`solve` raises where a method of its own makes a plan that `verify` refuses."""
    result = solve("igniter-three", method, slo_rule="p99", arrivals=arrivals, max_replicas=2, time_limit=20.0)
    assert result.verification.ok


@pytest.mark.parametrize("promising", [0], indirect=True)
@pytest.mark.usefixtures("promising")
def test_without_it_some_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["igniter_opt.solve"], "tighten", lambda *_: False)
    with pytest.raises(Exception, match="rejected by the predictor"):
        solve("igniter-three", "patterns", slo_rule="p99", max_replicas=2, time_limit=20.0)


def test_lowered_limits_are_those_of_all_workloads_of_a_kind() -> None:
    instance = read_instance("igniter-three").with_options(slo_rule="p99", max_replicas=2)
    twin = instance.workloads[0].model_copy(update={"name": "twin"})
    problem = Problem(instance.model_copy(update={"workloads": (*instance.workloads, twin)}))
    rate = twin.rate_rps / 2
    before = problem.limits_ms(0, 0, rate)
    b, level = (int(entry[0]) for entry in np.nonzero(before))
    limit, configurations = float(before[b, level]), problem.configurations(3, 0, 2)
    problem.lower_limit(0, 0, rate, b + 1, level + 1, limit, 1e-3)
    for workload in (0, 3):
        after = problem.limits_ms(workload, 0, rate)
        assert after[b, level] == pytest.approx(limit * (1.0 - 1e-3))
        assert (np.delete(after, b * after.shape[1] + level) == np.delete(before, b * after.shape[1] + level)).all()
    assert problem.configurations(3, 0, 2) is not configurations
    problem.lower_limit(3, 0, rate, b + 1, level + 1, limit, 1e-3)
    assert problem.limits_ms(0, 0, rate)[b, level] == pytest.approx(limit * (1.0 - 2e-3))
    for _ in range(12):
        problem.lower_limit(3, 0, rate, b + 1, level + 1, limit, 1e-3)
    assert problem.limits_ms(0, 0, rate)[b, level] == 0.0
