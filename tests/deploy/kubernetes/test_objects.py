"""A plan's objects: what they say is the plan, and their names stand whatever workloads are called."""

import json
import re
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings

from igniter_opt.base.errors import InputError
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.kubernetes import checks, names
from igniter_opt.deploy.kubernetes.config_maps import SERVERS, parsed_servers
from igniter_opt.deploy.kubernetes.devices import ALLOCATIONS
from igniter_opt.deploy.kubernetes.parse import parse_server
from igniter_opt.deploy.kubernetes.render import yaml_text
from igniter_opt.deploy.kubernetes.settings import ClusterFile, GatewayRef, ModelVolume
from tests.deploy.kubernetes.plans import (
    CLUSTER,
    NASTY,
    made_plan,
    objects_of,
    placement,
    plans,
    sliced,
    sliced_plans,
)
from tests.deploy.kubernetes.plans import settings as cluster_settings

Object = dict[str, Any]


def of_kind(objects: tuple[Object, ...], kind: str) -> list[Object]:
    return [entry for entry in objects if entry["kind"] == kind]


def said(plan: Plan) -> Counter[tuple[object, ...]]:
    """What a plan says of its placements, with the share that MPS is given and what the server is configured for."""
    return Counter(
        (gpu.name, gpu.type, p.workload, p.replica, p.model, p.batch, p.share_percent, p.rate_rps, p.queue_delay_us)
        for gpu in plan.gpus
        for p in gpu.placements
    )


def read_back(objects: tuple[Object, ...]) -> Counter[tuple[object, ...]]:
    """The same from objects: by what pods do where that can be read, by annotations elsewhere."""
    claims = {entry["metadata"]["name"]: entry for entry in of_kind(objects, "ResourceClaim")}
    configs = {entry["metadata"]["name"]: entry["data"] for entry in of_kind(objects, "ConfigMap")}
    found: Counter[tuple[object, ...]] = Counter()
    for entry in of_kind(objects, "Deployment"):
        server = parse_server(entry)
        assert server.claim is not None
        gpu = json.loads(claims[server.claim]["metadata"]["annotations"][names.PLANNED_GPU])
        pod = entry["spec"]["template"]["spec"]
        (config,) = (v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v)
        text = configs[config]["config.pbtxt"]
        (batch,) = re.findall(r"max_batch_size: (\d+)", text)
        (delay,) = re.findall(r"max_queue_delay_microseconds: (\d+)", text)
        (model,) = re.findall(r'^name: "(.*)"', text)
        (container,) = pod["containers"]
        env = {e["name"]: e["value"] for e in container["env"]}
        share = server.placement.share_percent
        # Rounded up to 4 decimals, but for the noise of floating point.
        assert share - 1e-9 <= float(env["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"]) <= min(100, share + 1e-4) + 1e-9
        assert f"/models/{model}/1" in [m["mountPath"] for m in container["volumeMounts"]]
        p = server.placement
        row = (gpu["name"], gpu["type"], p.workload, p.replica, model, int(batch), share, p.rate_rps, int(delay))
        assert (p.gpu, p.type, p.model, p.batch, p.queue_delay_us) == (*row[:2], model, int(batch), int(delay))
        found[row] += 1
    return found


@settings(max_examples=40)
@given(plan=plans(), name=NASTY)
def test_a_plan_read_back_from_its_objects_is_that_plan(plan: Plan, name: str) -> None:
    made = objects_of(plan, cluster_settings(name))
    assert read_back(made.objects) == said(plan)
    assert not checks.object_problems(made.objects)
    for entry in made.objects:
        about = entry["metadata"]
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", about["name"])
        assert about["labels"][names.MANAGED_BY] == "igniter-opt"
        assert about["annotations"][names.NAME] == name
        assert names.is_of(entry, name)
    deployments = of_kind(made.objects, "Deployment")
    rows = parsed_servers(made.record["data"][SERVERS])
    assert rows == {e["metadata"]["name"]: e["spec"]["template"]["metadata"]["labels"][names.SPEC] for e in deployments}
    assert made == objects_of(plan, cluster_settings(name))


@settings(max_examples=20)
@given(plan=sliced_plans(), name=NASTY)
def test_a_plan_of_slices_read_back_from_its_objects_is_that_plan(plan: Plan, name: str) -> None:
    made = objects_of(plan, cluster_settings(name))
    claims = {entry["metadata"]["name"]: entry for entry in of_kind(made.objects, "ResourceClaim")}
    configs = {entry["metadata"]["name"]: entry["data"] for entry in of_kind(made.objects, "ConfigMap")}
    found: Counter[tuple[object, ...]] = Counter()
    for entry in of_kind(made.objects, "Deployment"):
        server = parse_server(entry)
        deployed, devices = server.placement, claims[str(server.claim)]["spec"]["devices"]
        (config,) = (v["configMap"]["name"] for v in entry["spec"]["template"]["spec"]["volumes"] if "configMap" in v)
        text = configs[config]["config.pbtxt"]
        (batch,) = re.findall(r"max_batch_size: (\d+)", text)
        (processes,) = re.findall(r"(?m)^  count: (\d+)", text)
        cel = devices["requests"][0]["exactly"]["selectors"][0]["cel"]["expression"]
        profile = next(iter(re.findall(r'profile == "(.*)"', cel)), None)
        shared = "sharing" in devices["config"][0]["opaque"]["parameters"]
        assert shared == (profile is None or int(processes) > 1)
        cut = None if profile is None else int(processes)
        row = (deployed.gpu, deployed.type, deployed.workload, deployed.replica, deployed.model, int(batch))
        found[*row, deployed.share_percent, profile, deployed.slot, cut] += 1
    wanted: Counter[tuple[object, ...]] = Counter()
    for gpu in plan.gpus:
        for p in gpu.placements:
            # A slice is a GPU by itself, and its server has all of it.
            where, share = (gpu.name, p.share_percent) if p.slice is None else (f"{gpu.name}.slot{p.slot}", 100.0)
            wanted[where, gpu.type, p.workload, p.replica, p.model, p.batch, share, p.slice, p.slot, p.processes] += 1
    assert found == wanted
    assert len(claims) == sum(wanted.values()), "a claim of its own for every slice"
    assert not checks.object_problems(made.objects)


@settings(max_examples=20)
@given(plan=plans())
def test_services_and_budgets_are_over_all_replicas_of_a_workload(plan: Plan) -> None:
    objects = objects_of(plan).objects
    pods = [entry["spec"]["template"]["metadata"]["labels"] for entry in of_kind(objects, "Deployment")]
    wanted = Counter(p.workload for gpu in plan.gpus for p in gpu.placements)
    services, budgets = of_kind(objects, "Service"), of_kind(objects, "PodDisruptionBudget")
    assert len(services) == len(budgets) == len(wanted)
    counts = []
    for entry in services:
        counts.append(sum(entry["spec"]["selector"].items() <= labels.items() for labels in pods))
    assert sorted(counts) == sorted(wanted.values())
    for entry in budgets:
        covered = sum(entry["spec"]["selector"]["matchLabels"].items() <= labels.items() for labels in pods)
        assert entry["spec"]["minAvailable"] == max(1, covered - 1)


def two() -> Plan:
    return made_plan(
        [
            ("V100-1", "V100", [placement("search", 1, share=40), placement("ads", 1, "ssd", share=50)]),
            ("V100-2", "V100", [placement("search", 2, share=60)]),
        ]
    )


def changed(plan: Plan, **update: Any) -> Plan:
    """The plan with another first placement on its last GPU."""
    *others, last = plan.gpus
    placements = (last.placements[0].model_copy(update=update), *last.placements[1:])
    return plan.model_copy(update={"gpus": (*others, last.model_copy(update={"placements": placements}))})


def differing(before: tuple[Object, ...], after: tuple[Object, ...]) -> list[str]:
    old, new = ({names.key(entry): entry for entry in some} for some in (before, after))
    return sorted(kind for kind, name in old.keys() | new.keys() if old.get((kind, name)) != new.get((kind, name)))


def test_a_changed_share_touches_one_deployment_and_the_record() -> None:
    before = objects_of(two()).objects
    after = objects_of(changed(two(), share_percent=70.0)).objects
    assert differing(before, after) == ["ConfigMap", "Deployment"]
    assert before[-1] != after[-1]


def test_a_changed_rate_or_number_starts_no_pod_anew() -> None:
    before = objects_of(two()).objects
    for update in ({"rate_rps": 12.0}, {"replica": 3}):
        after = objects_of(changed(two(), **update)).objects
        templates = [[e["spec"]["template"] for e in of_kind(some, "Deployment")] for some in (before, after)]
        assert templates[0] == templates[1]


def test_a_moved_placement_is_another_deployment() -> None:
    plan = two()
    first, second = plan.gpus
    moved = (
        first.model_copy(update={"placements": first.placements[:1]}),
        second.model_copy(update={"placements": (*second.placements, first.placements[1])}),
    )
    assert differing(objects_of(plan).objects, objects_of(plan.model_copy(update={"gpus": moved})).objects) == [
        "ConfigMap",
        "Deployment",
        "Deployment",
    ]


def test_another_card_makes_another_claim_for_claims_do_not_change() -> None:
    other = CLUSTER.model_copy(update={"products": {"V100": ("Tesla V100-PCIE-16GB",)}})
    found = [of_kind(objects_of(two(), cluster_settings(cluster=c)).objects, "ResourceClaim") for c in (CLUSTER, other)]
    assert not {e["metadata"]["name"] for e in found[0]} & {e["metadata"]["name"] for e in found[1]}
    (expression,) = {
        e["spec"]["devices"]["requests"][0]["exactly"]["selectors"][0]["cel"]["expression"] for e in found[1]
    }
    assert expression == "device.attributes['gpu.nvidia.com'].productName in [\"Tesla V100-PCIE-16GB\"]"


def test_pods_have_no_privilege_and_no_account() -> None:
    for entry in of_kind(objects_of(two()).objects, "Deployment"):
        pod = entry["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        }
        assert entry["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_slices_are_claimed_by_their_profile_for_one_pod_each() -> None:
    made = objects_of(sliced())
    servers = {
        s.placement.workload + str(s.placement.replica): s
        for s in map(parse_server, of_kind(made.objects, "Deployment"))
    }
    assert {
        name: (s.placement.slice, s.placement.slot, s.placement.processes, s.pods) for name, s in servers.items()
    } == {
        "search1": ("3g.40gb", 0, 2, 1),
        "ads1": ("1g.10gb", 4, 1, 1),
        "search2": (None, None, None, 1),
    }
    claims = {e["metadata"]["name"]: e["spec"]["devices"] for e in of_kind(made.objects, "ResourceClaim")}
    assert len(claims) == 3
    cut, one = (claims[str(servers[name].claim)] for name in ("search1", "ads1"))
    (request,) = cut["requests"]
    assert request["exactly"]["deviceClassName"] == "mig.nvidia.com"
    (chosen,) = request["exactly"]["selectors"]
    assert chosen["cel"]["expression"] == (
        'device.attributes[\'gpu.nvidia.com\'].productName in ["NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"]'
        " && device.attributes['gpu.nvidia.com'].profile == \"3g.40gb\""
    )
    shared, alone = (entry["config"][0]["opaque"]["parameters"] for entry in (cut, one))
    assert shared == {"apiVersion": alone["apiVersion"], "kind": "MigDeviceConfig", "sharing": {"strategy": "MPS"}}
    assert alone["kind"] == "MigDeviceConfig"
    budgets = {
        e["metadata"]["labels"][names.WORKLOAD]: e["spec"]["minAvailable"]
        for e in of_kind(made.objects, "PodDisruptionBudget")
    }
    assert budgets == {"search": 1, "ads": 1}


def test_slices_without_dra_are_resources_of_their_name() -> None:
    plugin = cluster_settings(cluster=CLUSTER.model_copy(update={"allocation": "device-plugin"}))
    found = of_kind(objects_of(sliced(1), plugin).objects, "Deployment")
    limits = [e["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] for e in found]
    assert sorted(name for entry in limits for name in entry) == [
        "nvidia.com/gpu",
        "nvidia.com/mig-1g.10gb",
        "nvidia.com/mig-3g.40gb",
    ]
    with pytest.raises(InputError, match="has 2 processes in a slice, which share it by MPS"):
        objects_of(sliced(2), plugin)
    hami = cluster_settings(cluster=CLUSTER.model_copy(update={"allocation": "hami"}))
    with pytest.raises(InputError, match="allocation hami has no way to share a GPU by mig"):
        objects_of(sliced(), hami)


def test_without_dra_limits_are_said_and_what_cannot_be_is_refused() -> None:
    hami = cluster_settings(cluster=CLUSTER.model_copy(update={"allocation": "hami"}))
    made = objects_of(two(), hami)
    assert not of_kind(made.objects, "ResourceClaim")
    assert any("not by MPS" in note for note in made.notes)
    limits = [
        e["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        for e in of_kind(made.objects, "Deployment")
    ]
    assert sorted(entry["nvidia.com/gpucores"] for entry in limits) == ["40", "50", "60"]
    plugin = cluster_settings(cluster=CLUSTER.model_copy(update={"allocation": "device-plugin"}))
    with pytest.raises(InputError, match="V100-1: the plan has 2 servers there"):
        objects_of(two(), plugin)
    alone = made_plan([("V100-1", "V100", [placement("search")])])
    assert any("whole GPU" in note for note in objects_of(alone, plugin).notes)
    assert not [note for note in objects_of(alone).notes if "allocation" in note]
    assert {"dra", "hami", "device-plugin"} == set(ALLOCATIONS)


def test_shares_of_hami_fit_the_card() -> None:
    hami = cluster_settings(cluster=CLUSTER.model_copy(update={"allocation": "hami"}))
    plan = made_plan([("H200-1", "H200", [placement(name, share=100 / 3) for name in ("a", "b", "c")])])
    found = of_kind(objects_of(plan, hami).objects, "Deployment")
    limits = [e["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] for e in found]
    assert sum(int(entry["nvidia.com/gpucores"]) for entry in limits) == 99


def test_uneven_rates_are_noted_or_weighed() -> None:
    notes = objects_of(two()).notes
    assert any(note.startswith("search: its replicas are planned for 10, 20 requests/s") for note in notes)
    gateway = CLUSTER.model_copy(update={"gateway": GatewayRef(name="front")})
    made = objects_of(two(), cluster_settings(cluster=gateway))
    assert made.notes == ()
    (route,) = (r for r in of_kind(made.objects, "GRPCRoute") if r["spec"]["hostnames"] == ["grpc.test-search.ig"])
    assert [entry["weight"] for entry in route["spec"]["rules"][0]["backendRefs"]] == [333, 667]
    assert {h for r in of_kind(made.objects, "HTTPRoute") for h in r["spec"]["hostnames"]} == {
        "test-search.ig",
        "test-ads.ig",
    }, "a listener refuses the second of two routes of a kind each that have a host in common"
    replicas = {e["metadata"]["name"] for e in of_kind(made.objects, "Service")}
    assert {entry["name"] for entry in route["spec"]["rules"][0]["backendRefs"]} <= replicas


def test_more_replicas_than_a_route_divides_among_are_refused() -> None:
    gateway = cluster_settings(cluster=CLUSTER.model_copy(update={"gateway": GatewayRef(name="front")}))

    def replicas(number: int) -> Plan:
        return made_plan([(f"V100-{k}", "V100", [placement("search", k)]) for k in range(1, number + 1)])

    assert len(of_kind(objects_of(replicas(16), gateway).objects, "HTTPRoute")) == 1
    with pytest.raises(InputError, match="search: has 17 replicas, and a route divides requests among 16 at most"):
        objects_of(replicas(17), gateway)


def test_a_policy_lets_servers_reach_nobody_unless_they_fetch_their_models() -> None:
    fetch = {"image": "fetcher:1", "command": ["get"]}
    for models, directions in (({"claim": "m"}, ["Ingress", "Egress"]), ({"fetch": fetch}, ["Ingress"])):
        cluster = ClusterFile.model_validate({"models": models, "allow_from": {"team": "web"}})
        (policy,) = of_kind(objects_of(two(), cluster_settings(cluster=cluster)).objects, "NetworkPolicy")
        assert policy["spec"]["policyTypes"] == directions


def test_a_monitor_has_the_labels_that_its_prometheus_looks_for() -> None:
    labels = {"release": "metrics", names.MANAGED_BY: "somebody"}
    cluster = ClusterFile.model_validate({"models": {"claim": "m"}, "monitor": True, "monitor_labels": labels})
    (monitor,) = of_kind(objects_of(two(), cluster_settings(cluster=cluster)).objects, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "metrics"
    assert names.is_of(monitor, "test"), "ours are ours"


def test_models_are_a_claim_or_fetched() -> None:
    fetch = {"image": "fetcher:1", "command": ["get", "s3://models", "/source"], "secret": "keys"}
    cluster = ClusterFile(models=ModelVolume.model_validate({"fetch": fetch, "path": "v1"}))
    entry = of_kind(objects_of(two(), cluster_settings(cluster=cluster)).objects, "Deployment")[0]
    pod = entry["spec"]["template"]["spec"]
    (init,) = pod["initContainers"]
    assert init["command"] == ["get", "s3://models", "/source"]
    assert init["envFrom"] == [{"secretRef": {"name": "keys"}}]
    mounts = {m["mountPath"]: m.get("subPath") for m in pod["containers"][0]["volumeMounts"]}
    model = parse_server(entry).placement.model
    assert mounts[f"/models/{model}/1"] == f"v1/{model}/1"
    for models in ({}, {"claim": "a", "fetch": fetch}):
        with pytest.raises(InputError, match="give either claim"):
            ModelVolume(**models)


def test_five_hundred_gpus_are_rendered_within_five_seconds_of_processor_time() -> None:
    gpus = [
        (
            f"V100-{k}",
            "V100",
            [placement(f"W{(3 * k + j) % 400}", 1 + (3 * k + j) // 400, share=30.0) for j in range(3)],
        )
        for k in range(500)
    ]
    plan = made_plan(gpus)
    objects_of(two())  # whatever is loaded once
    begun = time.process_time()
    made = objects_of(plan)
    text = yaml_text(made.objects)
    took = time.process_time() - begun
    assert len(of_kind(made.objects, "Deployment")) == 1500
    assert len({names.key(entry) for entry in made.objects}) == len(made.objects)
    assert text.count("\n---\n") == len(made.objects) - 1
    assert took < 5, f"{took:.2f} s"
