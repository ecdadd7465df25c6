"""The three-workload plan in slowed time, for machines that cannot serve it at its own pace.

Rates are divided and SLOs multiplied by a factor, and the card's measured times with them: the same plan, but for the
way of data to and from the card, which stays as it is and is short.
"""

from bench.instances import scaled_profile
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import read_instance


def slowed_instance(factor: float, name: str = "igniter-three") -> Instance:
    """Return a shipped instance in slowed time."""
    instance = read_instance(name)
    types = tuple(
        gpu.model_copy(
            update={"profile": scaled_profile(gpu.profile, f"{gpu.profile.name}-slowed", time=factor, power=1.0)}
        )
        for gpu in instance.gpu_types
    )
    workloads = tuple(
        workload.model_copy(update={"slo_ms": factor * workload.slo_ms, "rate_rps": workload.rate_rps / factor})
        for workload in instance.workloads
    )
    return instance.model_copy(update={"gpu_types": types, "workloads": workloads})
