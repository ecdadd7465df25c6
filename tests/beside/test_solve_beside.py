"""`solve` with neighbours as they are: what it saves, what it proves, what it leaves alone, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from igniter_opt import InputError, solve, verify
from igniter_opt.base.stop import StopRequest
from igniter_opt.beside import solve_beside
from igniter_opt.beside.settle import Settler
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.plan import plan_json, read_plan
from igniter_opt.simulation.second_judge import SecondJudgement
from tests.cli.helpers import invoke, rejected
from tests.support.rare import rare


def test_rare_requests_share_what_ever_busy_ones_could_not() -> None:
    """Four GPUs become two, which is proven to be the least: nobody holds on less than half a GPU, even alone."""
    busy = solve(rare(0.5, pairs=2), time_limit=60)
    said: list[str] = []
    found = solve(
        rare(0.5, pairs=2), time_limit=60, neighbours="actual", on_progress=lambda entry: said.append(entry.doing or "")
    )
    assert (busy.cost, busy.status) == (12.24, "optimal")
    assert (found.cost, found.lower_bound, found.status) == (6.12, 6.12, "optimal")
    note = found.plan.neighbours
    assert note is not None
    assert (note.busy_cost_per_hour, note.busy_lower_bound_per_hour) == (12.24, 12.24)
    assert note.simulated == ("V100-1", "V100-2")
    assert found.verification.ok
    assert verify(found.plan).ok
    assert any("acceptance" in entry for entry in said)


def test_equal_seeds_give_equal_plans() -> None:
    first, second = (solve(rare(0.5), time_limit=60, neighbours="actual", seed=3).plan for _ in range(2))
    assert first.gpus == second.gpus
    assert first.neighbours == second.neighbours


def test_where_nothing_can_be_saved_the_plan_stays_and_is_proven() -> None:
    """One GPU is the least there is."""
    plain = solve("igniter-motivation", slo_rule="p99", max_replicas=3, time_limit=60)
    found = solve("igniter-motivation", slo_rule="p99", max_replicas=3, time_limit=60, neighbours="actual")
    assert found.plan.gpus == plain.plan.gpus
    assert found.plan.neighbours is not None
    assert found.plan.neighbours.simulated == ()
    assert found.verification.basis == "everything holds beside neighbours that are busy all the time"


def test_what_meets_too_often_keeps_its_gpus() -> None:
    """At 1 req/s each a pair is late too often side by side: the bound stays below, and says so."""
    found = solve(rare(1.0), time_limit=60, neighbours="actual")
    assert (found.cost, found.lower_bound, found.status) == (6.12, 3.06, "feasible")
    assert found.verification.ok


def test_an_over_optimistic_acceptance_does_not_pass_the_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search and acceptance that see no late requests propose a plan that `verify`, on requests of its own, refuses."""
    refused = []

    def noted(plan):  # type: ignore[no-untyped-def]
        found = verify(plan)
        refused.append(not found.ok)
        return found

    monkeypatch.setattr(Settler, "_late", lambda *_: np.zeros(2))
    monkeypatch.setattr(solve_beside, "judge_gpus", lambda plan, gpus, *_, **__: SecondJudgement({}))
    monkeypatch.setattr(solve_beside, "verify", noted)
    found = solve(rare(1.0), time_limit=60, neighbours="actual")
    assert refused == [True, False]
    assert found.cost == 6.12
    assert found.plan.neighbours is not None
    assert found.plan.neighbours.simulated == ()


def test_failed_acceptance_is_mended_or_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that sees no late requests proposes; acceptance refuses, and there is no share left to give."""
    monkeypatch.setattr(Settler, "_late", lambda *_: np.zeros(2))
    found = solve(rare(1.0), time_limit=60, neighbours="actual")
    assert found.cost == 6.12


def test_plans_without_the_option_are_as_ever() -> None:
    plan = solve(rare(0.5), time_limit=60).plan
    assert plan.neighbours is None
    assert '"neighbours"' not in plan_json(plan)


def test_stopped_before_anything_is_looked_for() -> None:
    stop = StopRequest()
    found = solve(
        rare(0.5),
        time_limit=60,
        neighbours="actual",
        stop=stop,
        on_progress=lambda entry: stop.set() if entry.doing and "neighbours" in entry.doing else None,
    )
    assert found.interrupted
    assert found.verification.ok
    assert found.cost == 6.12


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"slo_rule": "half"}, "under a rule on a percentile; the rule is half"),
        ({"method": "igniter"}, "method igniter proves no bound"),
        ({"neighbours": "some"}, "neighbours: unknown kind"),
    ],
)
def test_what_is_refused(options: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        solve(rare(0.5), **{"neighbours": "actual", **options})  # type: ignore[arg-type]


def test_recorded_arrivals_are_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("timestamp\n" + "\n".join(str(k / 10) for k in range(2000)))
    with pytest.raises(InputError, match="take arrivals that can be drawn anew; those of w0 are recorded"):
        solve(rare(0.5), arrivals=Arrivals("trace", file=str(trace)), neighbours="actual")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rejected("solve", "igniter-three", "--neighbours", "actual", says=("--neighbours actual", "rule is half"))
    rejected("solve", "igniter-three", "--neighbours", "som", says=("--neighbours: unknown kind 'som'",))
    shown = invoke(
        "solve", "igniter-motivation", "--slo-rule", "p99", "--max-replicas", "3", "--time-limit", "60",
        "--neighbours", "actual", "-o", "plan.json",
    )  # fmt: skip
    assert shown.code == 0
    assert "neighbours as they are" in shown.out
    assert read_plan("plan.json").neighbours is not None
    assert invoke("verify", "plan.json").code == 0
    assert invoke("explain", "plan.json").code == 0
