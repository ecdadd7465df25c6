"""What a cluster runs: every server with its pod, and how it differs from what was deployed."""

from collections.abc import Sequence

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.backends.registry import KUBERNETES
from igniter_opt.deploy.kubernetes.client import POD, Client
from igniter_opt.deploy.kubernetes.cluster_changes import live_objects
from igniter_opt.deploy.kubernetes.config_maps import SERVERS, parsed_servers
from igniter_opt.deploy.kubernetes.fields import drift
from igniter_opt.deploy.kubernetes.launching import record_of, recorded_plan
from igniter_opt.deploy.kubernetes.names import NAME, SERVER, SPEC, Object, selector, title
from igniter_opt.deploy.kubernetes.parse import DeployedServer, parse_server
from igniter_opt.deploy.kubernetes.pods import PORTS
from igniter_opt.deploy.kubernetes.services import service_name
from igniter_opt.deploy.kubernetes.waiting import is_ready, pod_trouble
from igniter_opt.deploy.status import ServerStatus, Status, uptime_s

_UNFINISHED = "a launcher did not finish; run deploy again"


def cluster_status(client: Client, name: str | None) -> list[Status]:
    """Look at a deployment of a namespace, or at all; changes nothing."""
    live = live_objects(client, name)
    pods, _ = client.objects(POD, selector(name))
    by_name: dict[str, list[Object]] = {}
    for entry in live:
        by_name.setdefault((entry["metadata"].get("annotations") or {}).get(NAME, "?"), []).append(entry)
    return [_status(client, deployment, found, pods) for deployment, found in sorted(by_name.items())]


def _status(client: Client, deployment: str, live: Sequence[Object], pods: Sequence[Object]) -> Status:
    record = record_of(live)
    wanted = {} if record is None else parsed_servers((record.get("data") or {}).get(SERVERS, ""))
    cards = {entry["metadata"]["name"]: _card(entry) for entry in live if entry["kind"] == "ResourceClaim"}
    servers, unknown = [], []
    for entry in live:
        if entry["kind"] != "Deployment":
            continue
        try:
            server = parse_server(entry)
        except InputError as error:
            unknown.append(str(error))
            continue
        own = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(SERVER) == server.name]
        servers.append(_server(client, deployment, server, entry, wanted, own, cards))
    there = {entry["metadata"]["name"] for entry in live if entry["kind"] == "Deployment"}
    changed = [(entry, drift(entry)) for entry in live if entry["kind"] != "Deployment"]
    return Status(
        name=deployment,
        backend=KUBERNETES,
        cpu=False,
        plan_digest=recorded_plan(live),
        plan_path=None,
        servers=sorted(servers, key=lambda entry: (entry.workload, entry.replica, entry.gpu)),
        unknown=unknown,
        objects=[
            *(f"Deployment/{name}: is gone; run deploy again" for name in sorted(wanted.keys() - there)),
            *(f"{title(entry)}: {said}" for entry, said in changed if said),
        ],
    )


def _server(
    client: Client,
    deployment: str,
    server: DeployedServer,
    found: Object,
    wanted: dict[str, str],
    pods: Sequence[Object],
    cards: dict[str, str],
) -> ServerStatus:
    placement = server.placement
    current = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(SPEC) == server.spec]
    ready = [pod for pod in current if is_ready(pod)]
    serving = ready[0] if len(ready) >= server.pods else None
    said = [drift(found)]
    if server.name not in wanted:
        said.append(f"not of the plan that was completed: {_UNFINISHED}")
    elif wanted[server.name] != server.spec and not said[0]:
        said.append(f"changed since the plan was completed: {_UNFINISHED}")
    if serving is None:
        trouble = next((pod_trouble(pod) for pod in current if not is_ready(pod)), None)
        none = "it has no pod" if server.pods == 1 else f"it has {len(ready)} of {server.pods} pods"
        said.append(none if trouble is None else f"pod {trouble.pod}: {trouble.why}")
    if len(pods) > len(current):
        said.append("a pod of its predecessor is still there")
    pod = serving or (current[0] if current else None)
    host = f"{service_name(deployment, placement.workload)}.{client.namespace}"
    return ServerStatus(
        workload=placement.workload,
        replica=placement.replica,
        model=placement.model,
        gpu=placement.gpu,
        host="" if pod is None else pod["spec"].get("nodeName", ""),
        device=cards.get(server.claim or "", ""),
        batch=placement.batch,
        share_percent=placement.share_percent,
        http=f"http://{host}:{PORTS.http}",
        grpc=f"{host}:{PORTS.grpc}",
        ready=serving is not None,
        uptime_s=None if pod is None else uptime_s(str((pod.get("status") or {}).get("startTime", ""))),
        drift="; ".join(filter(None, said)),
        plan_gpu=placement.gpu,
        plan_share_percent=placement.share_percent,
        token=server.name,
        handle=None if pod is None else pod["metadata"]["name"],
        log=None,
    )


def _card(claim: Object) -> str:
    """Return the device that a claim was given, or the claim's name."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    results = (allocation.get("devices") or {}).get("results") or ()
    return next((f"{entry['pool']}/{entry['device']}" for entry in results), claim["metadata"]["name"])
