"""Objects read back: which placements they are, and whether what they do is what they say."""

import json
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import Count, Integer, Name, NonNegative, Number, Record, parse_record
from igniter_opt.data.plan import QueueDelayUs
from igniter_opt.deploy.backends.base import MPS_PERCENTAGE
from igniter_opt.deploy.backends.mps import thread_percentage
from igniter_opt.deploy.kubernetes.names import PLACEMENT, SPEC, Object, title
from igniter_opt.deploy.kubernetes.pods import CONTAINER


class DeployedPlacement(Record):
    """What a Deployment says of its placement."""

    gpu: Name
    type: Name
    workload: Name
    replica: Integer
    model: Name
    batch: Count
    share_percent: Annotated[Number, Field(gt=0, le=100)]
    rate_rps: NonNegative
    queue_delay_us: QueueDelayUs
    slice: str | None = None
    slot: Integer | None = None
    processes: Count | None = None

    @property
    def placement(self) -> str:
        """Name of the placement as in messages."""
        return f"{self.gpu}/{self.workload}#{self.replica}"


@dataclass(frozen=True)
class DeployedServer:
    """A Deployment, read.

    Attributes
    ----------
    claim
        Name of the ResourceClaim that its pods use, if they use one.
    pods
        How many there are to be.
    """

    name: str
    spec: str
    placement: DeployedPlacement
    claim: str | None
    pods: int = 1


def parse_server(found: Object) -> DeployedServer:
    """Read a Deployment of ours.

    Raises
    ------
    InputError
        What it says of itself is no placement, or its pods get another share.
    """
    where = title(found)
    text = (found["metadata"].get("annotations") or {}).get(PLACEMENT)
    try:
        data = json.loads(text or "")
    except ValueError:
        raise InputError(f"{where}: its annotation {PLACEMENT} does not say which placement it is") from None
    placement = parse_record(DeployedPlacement, data, f"{where}: {PLACEMENT}")
    template = found["spec"]["template"]
    container: Object = next((entry for entry in template["spec"]["containers"] if entry["name"] == CONTAINER), {})
    env = {entry["name"]: entry.get("value") for entry in container.get("env") or ()}
    share = thread_percentage(placement.share_percent)
    if env.get(MPS_PERCENTAGE, share) != share:
        raise InputError(f"{where}: its pods get {env[MPS_PERCENTAGE]} % where the plan says {share} %")
    claims = template["spec"].get("resourceClaims") or ()
    claim = next((entry.get("resourceClaimName") for entry in claims), None)
    labels = template["metadata"].get("labels") or {}
    return DeployedServer(
        found["metadata"]["name"], labels.get(SPEC, ""), placement, claim, found["spec"].get("replicas", 1)
    )
