"""Table 3 and variations of it, for the tests of the baselines."""

from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.profile import Profile, read_profile
from igniter_opt.problem.configurations import Problem

TABLE_3 = [
    *(("alexnet", 10, 1200), ("alexnet", 15, 400), ("alexnet", 20, 800)),
    *(("resnet50", 20, 400), ("resnet50", 30, 600), ("resnet50", 40, 200)),
    *(("vgg19", 20, 300), ("vgg19", 30, 400), ("vgg19", 40, 200)),
    *(("ssd", 25, 150), ("ssd", 40, 50), ("ssd", 55, 300)),
]


def v100(**changes):
    return GpuType(**{"name": "V100", "profile": read_profile("v100"), "price_per_hour": 3.0, **changes})


def changed_profile(hardware=None, models=None):
    data = read_profile("v100").model_dump(mode="json", exclude_none=True)
    data["hardware"].update(hardware or {})
    for name, change in (models or {}).items():
        if change is None:
            del data["models"][name]
        else:
            data["models"][name].update(change)
    return Profile.model_validate(data)


def problem(rows=TABLE_3, gpu_types=None, margin=0.0, slo_rule="half", max_replicas=None):
    workloads = tuple(
        Workload(name=f"W{k}", model=model, slo_ms=slo, rate_rps=rate, max_replicas=max_replicas)
        for k, (model, slo, rate) in enumerate(rows, start=1)
    )
    return Problem(
        Instance(name="test", slo_rule=slo_rule, gpu_types=gpu_types or (v100(),), workloads=workloads),
        margin,
    )
