"""Deployments that follow a migration, on a stand-in server: the order, ends on the way, and what is no state of it."""

from collections import Counter

import pytest

import igniter_opt as ig
from igniter_opt.base.errors import DeploymentError
from igniter_opt.cli.tables.deploy import print_changes
from igniter_opt.data.plan import Plan
from igniter_opt.deploy import launch
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.deploy.following import devices_of, follow, stage
from igniter_opt.deploy.records import ReplicaRecord
from igniter_opt.deploy.state import Deployment, new_token
from igniter_opt.deploy.targets import Placed
from tests.deploy.conftest import Site, approved


def with_rates(instance: ig.Instance, **rates: float) -> ig.Instance:
    workloads = tuple(w.model_copy(update={"rate_rps": rates.get(w.name, w.rate_rps)}) for w in instance.workloads)
    return instance.model_copy(update={"workloads": workloads})


@pytest.fixture(scope="module")
def old() -> Plan:
    """Three workloads on two GPUs."""
    instance = with_rates(ig.read_instance("igniter-three"), A=1500, R=700, S=150)
    return ig.solve(instance, "patterns").plan


@pytest.fixture(scope="module")
def new(old: Plan) -> Plan:
    """The same at rates at which one GPU suffices: a server moves, and others get another batch."""
    return ig.replan(old, with_rates(old.instance, A=500, R=300, S=40), "patterns").plan


class Log:
    """What starts and stops, in order, by the reports of the launcher."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def started(self) -> list[str]:
        return [line.split()[1].partition("#")[0] for line in self.lines if line.startswith("starting ")]


def state_of(site: Site) -> Deployment:
    state = site.store.load()
    assert state is not None
    return state


def served(state: Deployment) -> set[tuple[str, str, int]]:
    return {(record.gpu, record.workload, record.batch) for record in state.replicas if record.phase == "ready"}


def planned(plan: Plan) -> set[tuple[str, str, int]]:
    return {(gpu.name, p.workload, p.batch) for gpu in plan.gpus for p in gpu.placements}


def test_the_plans_are_what_this_needs(old: Plan, new: Plan) -> None:
    assert len(old.gpus) == 2
    assert len(new.gpus) == 1
    assert new.migration is not None
    assert new.migration.running == plan_digest(old)
    assert len(new.migration.steps) > 1


def test_the_steps_are_followed_in_their_order(site: Site, old: Plan, new: Plan) -> None:
    site.deploy(approved(old, site.folder / "old.json"))
    seen: list[set[tuple[str, str, int]]] = []
    log = Log()

    def hook(step: str) -> None:
        if step.startswith("after recording the new plan"):
            seen.append(served(state_of(site)))

    site.deploy(approved(new, site.folder / "new.json"), hook=hook, report=log)
    assert new.migration is not None
    # On the processor nothing enforces a share, so that a server may stay where a step would start one like it.
    order = [f"{server.gpu}/{server.workload}" for step in new.migration.steps for server in step.start]
    started = log.started()
    assert started == [name for name in order if name in started]
    assert len(started) > 1
    assert all({workload for _, workload, _ in entry} == {"A", "R", "S"} for entry in seen)
    assert len(seen) == len(new.migration.steps) + 1
    assert served(state_of(site)) == planned(new)
    assert state_of(site).plan_digest == plan_digest(new)
    assert {(r.workload, r.replica) for r in state_of(site).replicas} == {
        (p.workload, p.replica) for gpu in new.gpus for p in gpu.placements
    }
    assert site.deploy(site.folder / "new.json").nothing


def test_every_state_on_the_way_is_the_migrations(site: Site, old: Plan, new: Plan) -> None:
    """With shares that are enforced; no server is started, what a step changes is taken for done."""
    site.deploy(approved(old, site.folder / "old.json"))
    shares = {(gpu.name, p.workload): p.share_percent for gpu in old.gpus for p in gpu.placements}
    records = [r.model_copy(update={"share_percent": shares[r.gpu, r.workload]}) for r in state_of(site).replicas]
    state = state_of(site).model_copy(update={"cpu": False, "replicas": tuple(records)})
    backend, request = site.backend(), site.request(approved(new, site.folder / "new.json"))
    _, targets = launch.check(request, backend)
    devices = devices_of(state)
    placed = [Placed(target, devices[target.gpu]) for target in targets]
    assert new.migration is not None
    steps = new.migration.steps
    present = Counter(record_key(record) for record in state.replicas)
    for number in range(len(steps) + 1):
        following = follow(new, state, placed, devices)
        assert [step for _, step in following.steps] == list(steps[number:])
        assert not following.why_not
        if number == len(steps):
            break
        changes = stage(following, steps[number], state, mps=False)
        present += Counter(server.key for server in steps[number].start)
        present -= Counter(server.key for server in steps[number].stop)
        gone = {record.token for record, _ in changes.stop}
        fresh = [started(entry, state) for entry, _ in changes.start]
        numbers = {record.token: entry.target.replica for entry, record in changes.keep}
        left = [
            record.model_copy(update={"replica": numbers.get(record.token, record.replica)})
            for record in state.replicas
            if record.token not in gone
        ]
        state = state.model_copy(update={"replicas": (*left, *fresh)})
        assert Counter(record_key(record) for record in state.replicas) == present
        # Clients know servers by their numbers, whichever plan they are of.
        for name in {record.workload for record in state.replicas}:
            own = sorted(record.replica for record in state.replicas if record.workload == name)
            assert own == list(range(1, len(own) + 1))
    assert present == Counter(
        (gpu.name, p.workload, p.model, p.batch, p.share_percent, p.queue_delay_us)
        for gpu in new.gpus
        for p in gpu.placements
    )
    # One that no step leads through.
    other = state.replicas[0].model_copy(update={"batch": 31})
    strange = state.model_copy(update={"replicas": (other, *state.replicas[1:])})
    assert "none of its states" in follow(new, strange, placed, devices).why_not


def record_key(record: ReplicaRecord) -> tuple[object, ...]:
    share = record.share_percent
    return record.gpu, record.workload, record.model, record.batch, share, record.queue_delay_us


def started(entry: Placed, state: Deployment) -> ReplicaRecord:
    """A record as if its server had been started."""
    target, like = entry.target, next(r for r in state.replicas if r.model == entry.target.model)
    return like.model_copy(
        update={
            "token": new_token(),
            "gpu": target.gpu,
            "host": entry.device.host,
            "device": entry.device.uuid,
            "replica": target.replica,
            "batch": target.batch,
            "share_percent": target.share_percent,
            "queue_delay_us": target.queue_delay_us,
            "spec": target.spec,
        }
    )


def test_a_step_that_fails_leaves_those_before_it(site: Site, old: Plan, new: Plan) -> None:
    site.deploy(approved(old, site.folder / "old.json"))
    assert new.migration is not None
    path = approved(new, site.folder / "new.json")
    last = [server for step in new.migration.steps for server in step.start][-1]
    site.misbehave(last.model, "exit")
    # The model's files are another's now, so that its servers would start anew for that; its own plan is not followed.
    with pytest.raises(DeploymentError, match="exited"):
        site.deploy(path)
    (site.models / last.model / "1" / "behaviour").unlink()
    site.deploy(path)
    assert served(state_of(site)) == planned(new)


@pytest.mark.parametrize("ended_after", [1, 2])
def test_a_launcher_that_ends_on_the_way_is_followed_by_one_that_goes_on(
    site: Site, old: Plan, new: Plan, ended_after: int
) -> None:
    site.deploy(approved(old, site.folder / "old.json"))
    path = approved(new, site.folder / "new.json")
    count = 0

    class EndedError(Exception):
        pass

    def hook(step: str) -> None:
        nonlocal count
        count += step.startswith("after recording the new plan")
        if count == ended_after and step.startswith("after recording the new plan"):
            raise EndedError

    with pytest.raises(EndedError):
        site.deploy(path, hook=hook)
    log = Log()
    site.deploy(path, report=log)
    assert served(state_of(site)) == planned(new)
    assert state_of(site).plan_digest == plan_digest(new)


def test_from_another_plan_it_is_not_followed(site: Site, old: Plan, new: Plan) -> None:
    other = ig.solve(with_rates(old.instance, A=1400), "patterns").plan
    site.deploy(approved(other, site.folder / "other.json"))
    prepared = site.deploy(approved(new, site.folder / "new.json"))
    assert not prepared.following.steps
    assert "not the plan that it begins with" in prepared.following.why_not
    assert served(state_of(site)) == planned(new)


def test_dry_run_says_the_steps(site: Site, old: Plan, new: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    site.deploy(approved(old, site.folder / "old.json"))
    request = site.request(approved(new, site.folder / "new.json"))
    backend = site.backend()
    prepared = launch.prepare(request, site.store, backend, *launch.check(request, backend))
    print_changes(prepared, done=False)
    said = capsys.readouterr().out
    assert "step 1 of" in said
    assert served(state_of(site)) == planned(old)
