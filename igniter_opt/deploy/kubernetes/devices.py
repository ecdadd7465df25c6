"""How a placement comes by its share of a GPU: who allocates it, and what its container asks for.

Shares are unequal, which no plugin and no scheduler grants. With Dynamic Resource Allocation (DRA) they are possible
all the same: a named ResourceClaim is one whole GPU with an MPS daemon that gives 100 % to everybody, and every
container of the claim limits itself by ``CUDA_MPS_ACTIVE_THREAD_PERCENTAGE``, which MPS takes as a further limit. So a
changed share starts one pod anew and leaves claim and daemon alone, and pods of one claim are on one card.

To add a kind of sharing, write its function for every allocation that can do it, and a row in its table.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from igniter_opt.base.errors import InputError
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.deploy.backends.base import mps_limits
from igniter_opt.deploy.backends.mps import thread_percentage
from igniter_opt.deploy.kubernetes.gpu_config import API_VERSION, DRIVER
from igniter_opt.deploy.kubernetes.names import GPU, PLANNED_GPU, Object, hashed_name, label_value, metadata
from igniter_opt.deploy.kubernetes.settings import PRODUCTS, ClusterSettings
from igniter_opt.deploy.targets import Target

# What the pod and the container call the claim, and the claim its only request.
REQUEST = "gpu"
_PRODUCT_LABEL = "nvidia.com/gpu.product"


@dataclass(frozen=True)
class PlannedGpu:
    """A GPU of the plan, with all that is planned on it."""

    name: str
    type: GpuType
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class DeviceRequest:
    """What a server's pod says of its GPU.

    Attributes
    ----------
    claim
        The ResourceClaim that it uses.
    env
        Variables of the container.
    limits
        Extended resources of the container.
    annotations
        Of the pod.
    products
        Cards one of which the node must have.
    """

    claim: Object | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    products: tuple[str, ...] = ()


Request = Callable[[Target, PlannedGpu, ClusterSettings], DeviceRequest]


@dataclass(frozen=True)
class Allocation:
    """A row of the table: who gives GPUs to pods.

    Attributes
    ----------
    limits
        What a plan is not held to where it is this one; said whenever objects are made.
    requests
        What a placement asks for, by kind of sharing.
    """

    name: str
    limits: tuple[str, ...]
    requests: Mapping[str, Request]


def sharing_of(target: Target) -> str:
    """Return the kind of sharing by which a placement has its part of a GPU."""
    return "mps" if target.slice is None else "mig"


def device_request(target: Target, gpu: PlannedGpu, settings: ClusterSettings) -> DeviceRequest:
    """Return what a placement's pod asks for; raise InputError where the cluster cannot give it."""
    allocation, kind = ALLOCATIONS[settings.cluster.allocation], sharing_of(target)
    if kind not in allocation.requests:
        raise InputError(f"{target.placement}: allocation {allocation.name} has no way to share a GPU by {kind}")
    return allocation.requests[kind](target, gpu, settings)


def products(gpu: GpuType, settings: ClusterSettings) -> tuple[str, ...]:
    """Return the names of the cards that are of a GPU type."""
    return settings.cluster.products.get(gpu.name) or PRODUCTS.get(gpu.card) or (gpu.card,)


# With Dynamic Resource Allocation.


def mps_claim(gpu: PlannedGpu, settings: ClusterSettings) -> Object:
    """Return the claim of a GPU that is shared by MPS."""
    parameters = {
        "apiVersion": API_VERSION,
        "kind": "GpuConfig",
        "sharing": {"strategy": "MPS", "mpsConfig": {"defaultActiveThreadPercentage": 100}},
    }
    card = product_expression(products(gpu.type, settings))
    return _claim(gpu.name, settings.cluster.device_class, card, parameters, gpu, settings)


def _claim(
    what: str, device_class: str, expression: str, parameters: Object, gpu: PlannedGpu, settings: ClusterSettings
) -> Object:
    """Return a claim of one device. Claims do not change: another one has another name."""
    # What the server would fill in is written out: inside a list that is of one owner as a whole, it would look like a
    # change.
    exactly = {
        "deviceClassName": device_class,
        "selectors": [{"cel": {"expression": expression}}],
        "allocationMode": "ExactCount",
        "count": 1,
    }
    spec = {
        "devices": {
            "requests": [{"name": REQUEST, "exactly": exactly}],
            "config": [{"requests": [REQUEST], "opaque": {"driver": DRIVER, "parameters": parameters}}],
        }
    }
    name = hashed_name(settings.deployment, what, spec, readable=(settings.deployment, what))
    planned = json.dumps({"name": gpu.name, "type": gpu.type.name}, sort_keys=True)
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": metadata(
            settings.namespace, settings.deployment, name, {GPU: label_value(gpu.name)}, {PLANNED_GPU: planned}
        ),
        "spec": spec,
    }


def product_expression(names: Sequence[str]) -> str:
    """Return the CEL expression for cards of these names."""
    words = ", ".join(json.dumps(name) for name in names)
    return f"device.attributes['{DRIVER}'].productName in [{words}]"


def _dra_mps(target: Target, gpu: PlannedGpu, settings: ClusterSettings) -> DeviceRequest:
    env = mps_limits(thread_percentage(target.share_percent), target.memory_mib)
    return DeviceRequest(claim=mps_claim(gpu, settings), env=env)


def mig_claim(target: Target, gpu: PlannedGpu, settings: ClusterSettings) -> Object:
    """Return the claim of a slice, which the processes of its server share by MPS where there are several.

    A claim of its own for every slice: another slice beside it leaves it alone. Slices that the plan has on one card
    may so be of several, which changes no latency, for MIG keeps slices apart.
    """
    card = product_expression(products(gpu.type, settings))
    sharing: Object = {"sharing": {"strategy": "MPS"}} if (target.processes or 1) > 1 else {}
    parameters = {"apiVersion": API_VERSION, "kind": "MigDeviceConfig", **sharing}
    profile = f"device.attributes['{DRIVER}'].profile == {json.dumps(target.slice)}"
    return _claim(gpu.name, settings.cluster.mig_class, f"{card} && {profile}", parameters, gpu, settings)


def _dra_mig(target: Target, gpu: PlannedGpu, settings: ClusterSettings) -> DeviceRequest:
    return DeviceRequest(claim=mig_claim(target, gpu, settings))


# Without it.


def _hami_mps(target: Target, gpu: PlannedGpu, settings: ClusterSettings) -> DeviceRequest:
    """Shares in whole percents: rounded up where all of the GPU's still fit, else down."""
    rounded = [math.ceil(entry.share_percent - 1e-9) for entry in gpu.targets]
    up = sum(rounded) <= 100
    percent = math.ceil(target.share_percent - 1e-9) if up else max(1, math.floor(target.share_percent + 1e-9))
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpucores": str(percent)}
    if target.memory_mib:
        limits["nvidia.com/gpumem"] = str(math.ceil(target.memory_mib))
    return DeviceRequest(limits=limits, products=products(gpu.type, settings))


def _plugin_slice(target: Target, gpu: PlannedGpu, settings: ClusterSettings) -> DeviceRequest:
    """Ask for a slice by the name that the plugin has for it with its strategy ``mixed``."""
    if (target.processes or 1) > 1:
        raise InputError(
            f"{target.placement}: the plan has {target.processes} processes in a slice, which share it by MPS; the"
            " device plugin gives slices without; use allocation dra"
        )
    return DeviceRequest(limits={f"nvidia.com/mig-{target.slice}": "1"}, products=products(gpu.type, settings))


def _whole_gpu(target: Target, gpu: PlannedGpu, settings: ClusterSettings) -> DeviceRequest:
    if len(gpu.targets) > 1:
        raise InputError(
            f"{gpu.name}: the plan has {len(gpu.targets)} servers there, and the device plugin gives every pod a GPU of"
            " its own; use allocation dra (Kubernetes 1.34 and NVIDIA's DRA driver) or hami"
        )
    del target
    return DeviceRequest(limits={"nvidia.com/gpu": "1"}, products=products(gpu.type, settings))


ALLOCATIONS = {
    row.name: row
    for row in (
        Allocation(
            name="dra",
            limits=(),
            requests={"mps": _dra_mps, "mig": _dra_mig},
        ),
        Allocation(
            name="hami",
            limits=(
                "HAMi limits servers by a library of its own, not by MPS, for which profiles were measured: predicted"
                " latencies are not what will be measured",
                "HAMi's scheduler decides which servers share a card, not the plan: its cost and its latencies side by"
                " side may not hold",
                "shares are whole percents",
            ),
            requests={"mps": _hami_mps},
        ),
        Allocation(
            name="device-plugin",
            limits=("every server has a whole GPU, and its share is not enforced; a plan with two on one is refused",),
            requests={"mps": _whole_gpu, "mig": _plugin_slice},
        ),
    )
}


def node_affinity(names: Sequence[str]) -> Object:
    """Return the affinity to nodes whose cards have one of these names, as NVIDIA's feature discovery labels them."""
    values = sorted({name.replace(" ", "-") for name in names})
    terms = [{"matchExpressions": [{"key": _PRODUCT_LABEL, "operator": "In", "values": values}]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
