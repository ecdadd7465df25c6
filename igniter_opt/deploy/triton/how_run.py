"""How a model's folder will be run, as far as it says: by which framework, in which precision."""

import json
from collections.abc import Mapping
from typing import NamedTuple, get_args

from igniter_opt.data.plan import Plan
from igniter_opt.data.profile import Profile
from igniter_opt.data.serving import ServedFormat
from igniter_opt.data.slice_profile import SliceProfile
from igniter_opt.deploy.triton.model_config import PLATFORMS
from igniter_opt.deploy.triton.model_repository import ModelSource

# The parameter of a configuration that says the precision; `models export` writes it.
PRECISION_PARAMETER = "igniter_opt_precision"
_FORMATS: dict[str, ServedFormat] = {"onnxruntime": "onnx", "tensorrt": "tensorrt", "pytorch": "torch"}
_SERVED = "served.json"  # beside the code of a torch module in the Python backend


class HowRun(NamedTuple):
    """Format (as `models export` takes it) and precision; None where the folder does not say."""

    format: ServedFormat | None
    precision: str | None


def is_exported_torch(source: ModelSource) -> bool:
    """Whether a folder is a torch module in the Python backend, as `models export --format torch` makes it."""
    return source.config.backend == "python" and any(inner.endswith(f"/{_SERVED}") for inner in source.files)


def how_run(source: ModelSource) -> HowRun:
    """Say how a model's folder will be run."""
    config = source.config
    said = config.parameters[PRECISION_PARAMETER].string_value if PRECISION_PARAMETER in config.parameters else None
    if is_exported_torch(source):
        return HowRun("torch", said or _served_precision(source))
    return HowRun(_FORMATS.get(config.backend or PLATFORMS.get(config.platform, "")), said)


def _served_precision(source: ModelSource) -> str | None:
    path = next(path for inner, path in source.files.items() if inner.endswith(f"/{_SERVED}"))
    try:
        said = json.loads(path.read_text("utf-8"))["precision"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return said if isinstance(said, str) else None


def profiled(profile: Profile | SliceProfile) -> HowRun:
    """Say how a profile's models were run, as far as it says."""
    framework = (profile.provenance.framework or "").lower()
    form = next((name for name in get_args(ServedFormat) if framework.startswith(name)), None)
    precision = profile.provenance.precision
    return HowRun(form, None if precision is None else precision.lower())


def differences(plan: Plan, models: Mapping[str, ModelSource]) -> list[str]:
    """Say which models will be run otherwise than they were profiled: their latencies will be others than planned."""
    found = []
    profiles = {gpu.name: gpu.profile for gpu in plan.instance.gpu_types}
    for profile in {profiles[gpu.type].name: profiles[gpu.type] for gpu in plan.gpus}.values():
        planned = profiled(profile)
        for name in [name for name in models if name in profile.models]:
            real = how_run(models[name])
            off = [
                f"{what} {theirs} (profiled: {own})"
                for what, own, theirs in zip(("format", "precision"), planned, real, strict=True)
                if None not in (own, theirs) and own != theirs
            ]
            if off:
                found.append(
                    f"{models[name].folder}: will be run in another way than profile {profile.name} was measured in:"
                    f" {', '.join(off)}; its latencies are not the plan's"
                )
    return found
