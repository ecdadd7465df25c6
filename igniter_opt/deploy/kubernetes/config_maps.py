"""ConfigMaps: Triton's configurations, and which plan is deployed."""

from collections.abc import Mapping

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.kubernetes.names import PLAN, SPEC, Object, hashed_name, metadata
from igniter_opt.deploy.kubernetes.settings import ClusterSettings
from igniter_opt.deploy.targets import Target
from igniter_opt.deploy.triton.model_config import CONFIG_FILE

# What the API server takes.
_MOST_BYTES = 2**20
SERVERS = "servers"


def config_map_of(target: Target, settings: ClusterSettings) -> Object:
    """Return the ConfigMap of a server's ``config.pbtxt``.

    It never changes: another text has another name, so that a pod that restarts while its successor starts reads its
    own. Placements with the same configuration share one.
    """
    name = hashed_name(settings.deployment, target.model, target.config, readable=(settings.deployment, target.model))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(settings.namespace, settings.deployment, name, {}, {}),
        "immutable": True,
        "data": {CONFIG_FILE: target.config},
    }


def plan_map_name(deployment: str) -> str:
    """Return the name of the ConfigMap that says which plan is deployed."""
    return hashed_name(deployment, "plan of", readable=(deployment, "plan"))


def plan_map(plan_digest: str, deployments: list[Object], settings: ClusterSettings) -> Object:
    """Return the ConfigMap that says which plan is deployed: its digest, and its servers with their specs.

    It is applied when all of them are ready, so that it is the record of what was completed.
    """
    rows = {found["metadata"]["name"]: found["spec"]["template"]["metadata"]["labels"][SPEC] for found in deployments}
    text = servers_text(rows)
    if len(text) > _MOST_BYTES * 9 // 10:
        raise InputError(f"the plan has {len(rows):,} servers, more than a ConfigMap lists; make several deployments")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(
            settings.namespace, settings.deployment, plan_map_name(settings.deployment), {}, {PLAN: plan_digest}
        ),
        "data": {SERVERS: text},
    }


def servers_text(rows: Mapping[str, str]) -> str:
    """Render servers with their specs, a line each."""
    return "".join(f"{name} {spec}\n" for name, spec in sorted(rows.items()))


def parsed_servers(text: str) -> dict[str, str]:
    """Read what `servers_text` rendered; lines of others are left out."""
    words = (line.split() for line in text.splitlines())
    return {pair[0]: pair[1] for pair in words if len(pair) == 2}
