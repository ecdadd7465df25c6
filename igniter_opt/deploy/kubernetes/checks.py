"""What is checked of every object before anybody sees it: what Kubernetes' own schemas do not say."""

import re
from collections.abc import Sequence

from igniter_opt.base.errors import DeploymentError
from igniter_opt.deploy.kubernetes.gpu_config import DRIVER, gpu_config_problems
from igniter_opt.deploy.kubernetes.names import LONGEST, Object, key, title

_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?")
# Of all annotations of an object together.
_MOST_ANNOTATED = 2**18


def check_objects(objects: Sequence[Object]) -> None:
    """Raise DeploymentError where an object is wrong: a bug of this package, told before anything is done."""
    problems = object_problems(objects)
    if problems:
        raise DeploymentError(f"the plan's objects are wrong, which is a bug: {'; '.join(problems[:3])}")


def object_problems(objects: Sequence[Object]) -> list[str]:
    """Return what is wrong with objects, each with its kind and name."""
    found = []
    seen: set[tuple[str, str]] = set()
    for entry in objects:
        what, about = title(entry), entry["metadata"]
        if key(entry) in seen:
            found.append(f"{what}: there are two")
        seen.add(key(entry))
        if not _LABEL.fullmatch(about["name"]) or len(about["name"]) > LONGEST:
            found.append(f"{what}: the name is no DNS label")
        labels = {**about["labels"], **_pod_labels(entry)}
        found += [
            f"{what}: the label {name} has no value that labels may have: {value!r}"
            for name, value in labels.items()
            if not _VALUE.fullmatch(value) or len(value) > LONGEST
        ]
        if sum(len(name) + len(text.encode()) for name, text in about["annotations"].items()) > _MOST_ANNOTATED:
            found.append(f"{what}: has too long annotations")
        if entry["kind"] == "ResourceClaim":
            for config in entry["spec"]["devices"].get("config", ()):
                if config["opaque"]["driver"] == DRIVER:
                    found += [f"{what}: {problem}" for problem in gpu_config_problems(config["opaque"]["parameters"])]
    return found


def _pod_labels(entry: Object) -> dict[str, str]:
    if entry["kind"] != "Deployment":
        return {}
    return dict(entry["spec"]["template"]["metadata"]["labels"])
