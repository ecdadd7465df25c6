"""What only the user knows of a cluster: a YAML file, and what the command line says."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import Count, Integer, Name, Record, describe, invalid, matching

DNS_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
DNS_RULE = "must be 1 to 63 lower-case letters, digits or '-', with a letter or digit at both ends"
_LABEL_KEY = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
_LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"
DnsLabel = Annotated[str, matching(DNS_LABEL, DNS_RULE)]
DnsName = Annotated[
    str,
    matching(
        r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$",
        "must be lower-case letters, digits, '.' or '-', with a letter or digit at both ends",
    ),
]
LabelKey = Annotated[str, matching(_LABEL_KEY, "must be the key of a label, such as example.org/pool")]
LabelValue = Annotated[str, matching(_LABEL_VALUE, "must be the value of a label: at most 63 letters, digits, '._-'")]
Product = Annotated[str, matching(r"^[ -~]{1,100}$", "must be a card's name, as `nvidia-smi -L` prints it")]
Folder = Annotated[
    str,
    matching(
        r"^([A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?$",
        "must be a relative path of letters, digits, '.', '_', '-', such as vision/models",
    ),
]
UserId = Annotated[Integer, Field(ge=1)]

# What a card is called by NVML, and so by the DRA driver, where that is not its name in the profile, or in
# `physics.mig_cards`.
PRODUCTS = {
    "NVIDIA V100-SXM2-16GB": ("Tesla V100-SXM2-16GB", "NVIDIA V100-SXM2-16GB"),
    "NVIDIA A100 40GB": ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB"),
    "NVIDIA A100 80GB": ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"),
    "NVIDIA H100 80GB": ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe"),
    "NVIDIA H200 141GB": ("NVIDIA H200",),
}


class Fetch(Record):
    """An init container that fills ``/source`` with the folder of models, from an object store say.

    Attributes
    ----------
    secret
        Its keys become environment variables of the init container.
    """

    image: Annotated[str, Field(min_length=1)]
    command: tuple[str, ...] = Field(min_length=1)
    secret: DnsName | None = None


class ModelVolume(Record):
    """Where pods find the models: a PersistentVolumeClaim that is there, or what an init container fetches.

    Attributes
    ----------
    path
        Where the folder of models is in it.
    """

    claim: DnsName | None = None
    fetch: Fetch | None = None
    path: Folder = ""

    @model_validator(mode="after")
    def _one_of_both(self) -> "ModelVolume":
        if (self.claim is None) == (self.fetch is None):
            raise invalid("give either claim (a PersistentVolumeClaim's name) or fetch (an init container)")
        return self


class Toleration(Record):
    """A taint of nodes that servers tolerate."""

    key: LabelKey | None = None
    operator: Literal["Exists", "Equal"] = "Exists"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class GatewayRef(Record):
    """A Gateway (``gateway.networking.k8s.io``) that is there."""

    name: DnsName
    namespace: DnsLabel | None = None


class ClusterFile(Record):
    """A cluster, as the file of ``--cluster`` says it; all of it may be left out but `models`.

    Attributes
    ----------
    allocation
        Who gives GPUs to pods: a row of `devices.ALLOCATIONS`.
    device_class, mig_class
        The DeviceClasses of whole GPUs and of MIG's slices.
    products
        By GPU type of the instance, the names of the cards that are one.
    user, group
        Ids that servers run as. All of one GPU have the same, as MPS wants it.
    start_timeout_s
        How long a server may take to start before it is started again.
    stop_delay_s
        How long a server that goes on serves after its endpoint is withdrawn.
    monitor
        Whether a ServiceMonitor (Prometheus Operator) is made.
    monitor_labels
        Labels of it, by which a Prometheus chooses what it scrapes, such as the release of its chart.
    allow_from
        With it a NetworkPolicy lets only pods of namespaces with these labels reach servers, and servers reach nobody,
        but where models are fetched.
    gateway
        With it routes divide requests by the replicas' rates: those for host SERVICE.NAMESPACE over HTTP, and those
        for grpc.SERVICE.NAMESPACE over gRPC.
    """

    models: ModelVolume
    allocation: str = "dra"
    device_class: DnsName = "gpu.nvidia.com"
    mig_class: DnsName = "mig.nvidia.com"
    products: dict[Name, tuple[Product, ...]] = {}  # noqa: RUF012
    user: UserId = 1000
    group: UserId = 1000
    node_selector: dict[LabelKey, LabelValue] = {}  # noqa: RUF012
    tolerations: tuple[Toleration, ...] = ()
    pull_secrets: tuple[DnsName, ...] = ()
    start_timeout_s: Count = 300
    stop_delay_s: Annotated[Integer, Field(ge=0, le=3600)] = 5
    monitor: bool = False
    monitor_labels: dict[LabelKey, LabelValue] = {}  # noqa: RUF012
    allow_from: dict[LabelKey, LabelValue] | None = None
    gateway: GatewayRef | None = None


@dataclass(frozen=True)
class ClusterSettings:
    """All that objects are made of beside the plan and its models.

    Attributes
    ----------
    deployment
        Name of the deployment.
    cpus, memory_mib
        Of every server: the processors and main memory that it asks for; memory given is also its limit.
    """

    namespace: str
    deployment: str
    image: str
    cluster: ClusterFile
    cpus: float = 1.0
    memory_mib: int | None = None

    def __post_init__(self) -> None:
        check_image(self.image)


def check_image(image: str) -> None:
    """Raise InputError where a text is no image's name."""
    if not image or len(image) > 500 or any(not 32 < ord(letter) < 127 for letter in image):
        raise InputError(f"--image: must be an image by tag or digest; found {describe(image)}")
