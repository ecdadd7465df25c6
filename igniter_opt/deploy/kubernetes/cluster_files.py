"""The file that says what only the user knows of a cluster."""

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, read_text
from igniter_opt.base.schema import describe, nearest, parse_record
from igniter_opt.base.yaml_files import MOST_YAML_BYTES, parse_yaml
from igniter_opt.deploy.kubernetes.devices import ALLOCATIONS
from igniter_opt.deploy.kubernetes.settings import ClusterFile


def read_cluster(path: StrPath) -> ClusterFile:
    """Read a cluster's file (YAML); raise InputError if it is none."""
    data = parse_yaml(read_text(path, MOST_YAML_BYTES), str(path))
    found = parse_record(ClusterFile, data, str(path))
    if found.allocation not in ALLOCATIONS:
        raise InputError(
            f"{path}: allocation: must be one of {', '.join(ALLOCATIONS)}; found {describe(found.allocation)}"
            f"{nearest(found.allocation, ALLOCATIONS)}"
        )
    return found
