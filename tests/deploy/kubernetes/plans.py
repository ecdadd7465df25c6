"""Plans for tests of Kubernetes objects: random ones, which need not hold, and their servers."""

import functools
import tempfile
from pathlib import Path

from hypothesis import strategies as st

import igniter_opt as ig
from igniter_opt.data.plan import Placement, Plan, PlanGpu, SolverInfo
from igniter_opt.deploy.kubernetes.objects import PlanObjects, plan_objects
from igniter_opt.deploy.kubernetes.settings import ClusterFile, ClusterSettings, ModelVolume
from igniter_opt.deploy.targets import Target, largest_batches, make_targets
from igniter_opt.deploy.triton.model_repository import ModelSource, read_models
from tests.deploy.models import write_models

MODELS = ("alexnet", "resnet50", "ssd")
CLUSTER = ClusterFile(models=ModelVolume(claim="models"))
PROFILES = {"V100": "v100", "H200": "h200", "A100": "a100-mig-synthetic"}
# Names that users may give: long, with capitals, dots and underscores, ends that labels must not have, hashes of ours.
NASTY = st.one_of(
    st.sampled_from(
        ["a", "A", "a.", "a-", "a_b", "a.b", "a-b", "1", "9a", "W1", "w1", "x" * 63, "x" * 62 + "-", "w1-0123456789"]
    ),
    st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z"),
)


@functools.cache
def sources() -> dict[str, ModelSource]:
    """Small models of the three-workload instance."""
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder), MODELS)
        return read_models(Path(folder), dict.fromkeys(MODELS, 32))


def settings(name: str = "test", cluster: ClusterFile = CLUSTER, namespace: str = "ig") -> ClusterSettings:
    return ClusterSettings(namespace=namespace, deployment=name, image="example/triton:1", cluster=cluster)


def targets_of(plan: Plan) -> list[Target]:
    assert largest_batches(plan).keys() <= sources().keys()
    return make_targets(plan, sources(), cpu=False, runtime={})


def objects_of(plan: Plan, how: ClusterSettings | None = None) -> PlanObjects:
    return plan_objects(plan, targets_of(plan), how or settings())


def made_plan(gpus: list[tuple[str, str, list[Placement]]], name: str = "made") -> Plan:
    """A plan of GPUs: name, type, placements. It need not hold."""
    placements = [entry for _, _, found in gpus for entry in found]
    workloads = {
        entry.workload: ig.Workload(name=entry.workload, model=entry.model, slo_ms=100, rate_rps=10)
        for entry in placements
    }
    types = tuple(ig.GpuType(name=card, profile=PROFILES[card], price_per_hour=1.0) for card in PROFILES)  # type: ignore[arg-type]
    instance = ig.Instance(name=name, workloads=tuple(workloads.values()), gpu_types=types)
    solver = SolverInfo(
        method="ffd", status="heuristic", cost_per_hour=1.0, total_share_percent=1.0, runtime_s=0.0, version="0"
    )
    found = tuple(PlanGpu(name=gpu, type=card, placements=tuple(there)) for gpu, card, there in gpus)
    return Plan(instance=instance, solver=solver, gpus=found)


def placement(
    workload: str, replica: int = 1, model: str = "alexnet", batch: int = 4, share: float = 40.0
) -> Placement:
    return Placement(
        workload=workload,
        replica=replica,
        model=model,
        batch=batch,
        share_percent=share,
        rate_rps=10.0 * replica,
        predicted_latency_ms=1.0,
        predicted_throughput_rps=100.0,
        queue_delay_us=500,
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Random plans of mixed cards, with replicas, also two of a workload on a GPU."""
    names = draw(st.lists(NASTY, min_size=1, max_size=5, unique=True))
    cards = draw(
        st.lists(st.tuples(NASTY, st.sampled_from(["V100", "H200"])), min_size=1, max_size=5, unique_by=lambda e: e[0])
    )
    models = {name: draw(st.sampled_from(MODELS)) for name in names}
    counted = dict.fromkeys(names, 0)
    gpus = []
    for card, kind in cards:
        there = []
        for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=4)):
            counted[name] += 1
            share = draw(st.one_of(st.sampled_from([2.5, 100.0, 1.5151515151515151]), st.floats(0.1, 100)))
            batch = draw(st.integers(1, 32))
            there.append(placement(name, counted[name], models[name], batch, share))
        gpus.append((card, kind, there))
    return made_plan(gpus)


# How cards may be cut: profile and slot of every slice.
CUTS = (
    (("7g.80gb", 0),),
    (("4g.40gb", 0), ("3g.40gb", 4)),
    (("3g.40gb", 0), ("3g.40gb", 4)),
    tuple(("1g.10gb", k) for k in range(7)),
)


@st.composite
def sliced_plans(draw: st.DrawFn) -> Plan:
    """Random plans of cards that MIG cuts, with a server in every slice, beside a card that is shared by MPS."""
    names = draw(st.lists(NASTY, min_size=1, max_size=4, unique=True))
    # A slice is called by its card and slot, which together are a name, too.
    cards = draw(st.lists(NASTY.map(lambda name: name[:57]), min_size=1, max_size=3, unique=True))
    models = {name: draw(st.sampled_from(MODELS)) for name in names}
    counted = dict.fromkeys(names, 0)

    def made(share: float) -> Placement:
        name = draw(st.sampled_from(names))
        counted[name] += 1
        return placement(name, counted[name], models[name], draw(st.integers(1, 32)), share)

    gpus = []
    for card in cards:
        there = []
        for profile, slot in draw(st.sampled_from(CUTS)):
            processes = draw(st.integers(1, 3))
            cut = {"slice": profile, "slot": slot, "processes": processes}
            there.append(made(int(profile[0]) / 7 * 100).model_copy(update=cut))
        gpus.append((card, "A100", there))
    return made_plan([*gpus, ("shared." + "x" * 20, "V100", [made(40.0)])])


def two_gpus(search: float = 40.0, second: float = 60.0, *, ads: str = "V100-1") -> Plan:
    """Two cards: `search` on both, `ads` on one of them."""
    there = {"V100-1": [placement("search", 1, share=search)], "V100-2": [placement("search", 2, share=second)]}
    there[ads].append(placement("ads", 1, "ssd", share=30.0))
    return made_plan([(name, "V100", found) for name, found in there.items()])


def sliced(processes: int = 2) -> Plan:
    """A card that MIG cuts, with two servers in one of its slices, beside a card that is shared by MPS."""
    both = placement("search", 1, "resnet50", share=300 / 7)
    first = both.model_copy(update={"slice": "3g.40gb", "slot": 0, "processes": processes})
    alone = placement("ads", 1, "resnet50", share=100 / 7)
    second = alone.model_copy(update={"slice": "1g.10gb", "slot": 4, "processes": 1})
    return made_plan([("A100-1", "A100", [first, second]), ("V100-1", "V100", [placement("search", 2, "resnet50")])])
