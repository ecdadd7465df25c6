"""Instance files: shipped ones by name, the user's own by path; YAML."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path, exists, read_text
from igniter_opt.base.kinds import INSTANCE, write_output
from igniter_opt.base.schema import check_to_write, describe, nearest, parse_record
from igniter_opt.base.yaml_files import MOST_YAML_BYTES, parse_yaml
from igniter_opt.data.arrivals import with_arrivals
from igniter_opt.data.instance import DEFAULT_CURRENCY, Instance
from igniter_opt.data.named_files import CONTEXT_KEY, FilesIn, NamedFiles
from igniter_opt.data.profile import Profile, coefficient_set, shares_by
from igniter_opt.data.profile_files import named_card_profile, read_card_profile
from igniter_opt.data.slice_profile import SliceProfile

# Of instance files.
_SUFFIXES = (".yaml", ".yml", ".json")


def shipped_instances() -> list[str]:
    """Return the names of the instances installed with the package."""
    folder = resources.files("igniter_opt.instances")
    return sorted(
        (entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")),
        key=_natural,
    )


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split("-")]


def shipped_instance_text(name: str) -> str:
    """Return a shipped instance's YAML text; raise InputError when there is none of that name."""
    if name not in shipped_instances():
        raise InputError(
            f"unknown instance {name!r}{nearest(name, shipped_instances())}"
            " (no such file, and no shipped instance of that name; `igniter-opt instances list` shows them)"
        )
    return (resources.files("igniter_opt.instances") / f"{name}.yaml").read_text("utf-8")


def shipped_instance(name: str) -> Instance:
    """Return a shipped instance, whatever files there are; raise InputError when there is none of that name."""
    known = shipped_instances()
    if name not in known:
        raise InputError(f"no instance of the name {describe(name)} is shipped{nearest(name, known)}")
    return parse_instance(shipped_instance_text(name), f"instance {name}", Path())


def as_instance(instance: Instance | StrPath) -> Instance:
    """Return an instance as it is, or read the one of this name or path."""
    return instance if isinstance(instance, Instance) else read_instance(instance)


def read_instance(name_or_path: StrPath) -> Instance:
    """Read an instance file by path, or a shipped instance by name.

    Raises
    ------
    InputError
        No such instance, or its content is not valid; the message names the file and the key.
    """
    path = as_path(name_or_path, "an instance, or the name or path of one")
    if exists(path) and (path.is_file() or str(name_or_path) not in shipped_instances()):
        text, source, folder = read_text(path, MOST_YAML_BYTES), str(path), path.parent
    elif len(path.parts) > 1 or path.suffix in _SUFFIXES:
        others = [path.with_suffix(suffix) for suffix in _SUFFIXES if suffix != path.suffix]
        hint = next((f"; did you mean {other}?" for other in others if exists(other)), "")
        raise InputError(f"{path}: no such file{hint}")
    else:
        text, source, folder = shipped_instance_text(str(name_or_path)), f"instance {name_or_path}", Path()
    return parse_instance(text, source, folder)


def parse_instance(text: str, source: str, folder: Path) -> Instance:
    """Parse an instance's YAML text; profile paths are relative to `folder`."""
    return instance_from_data(parse_yaml(text, source), source, FilesIn(folder))


def instance_from_data(data: Any, source: str, files: NamedFiles) -> Instance:
    """Validate an instance's parsed content.

    Parameters
    ----------
    source
        Where it is from, for messages.
    files
        What the names of profiles and traces stand for that are not shipped ones'.

    Raises
    ------
    InputError
        It is not valid; the message names the key.
    """
    if isinstance(data, dict):
        schema = data.get("schema")
        if isinstance(schema, str) and schema.startswith("igniter-opt/plan"):
            raise InputError(f"{source}: is a plan, not an instance (`igniter-opt verify` takes plans)")
        everywhere = _coefficients(data, source)
        data = {key: value for key, value in data.items() if key != "coefficients"}
        if isinstance(data.get("gpu_types"), list):
            data["gpu_types"] = [
                _with_profile(entry, source, k, files, everywhere) for k, entry in enumerate(data["gpu_types"])
            ]
        data = with_arrivals(data, source, files)
    return parse_record(Instance, data, source, {CONTEXT_KEY: files})


def _coefficients(entry: dict[str, Any], where: str) -> str | None:
    """Return the coefficient set that a mapping asks for, if any."""
    if "coefficients" not in entry:
        return None
    try:
        return coefficient_set(entry["coefficients"])
    except InputError as error:
        raise InputError(f"{where}: coefficients: {error}") from None


def _with_profile(entry: object, source: str, position: int, files: NamedFiles, everywhere: str | None) -> object:
    """Read the profile that an entry names, and set its coefficients."""
    if not isinstance(entry, dict):
        return entry
    where = f"{source}: gpu_types[{position}]"
    own = _coefficients(entry, where)
    coefficients = own or everywhere
    entry = {key: value for key, value in entry.items() if key != "coefficients"}
    profile = entry.get("profile")
    if isinstance(profile, str):
        try:
            entry["profile"] = named_card_profile(profile, files, coefficients)
        except InputError as error:
            raise InputError(f"{where}.profile: {error}") from None
    elif isinstance(profile, dict) and coefficients is not None and shares_by(profile) == "mps":
        entry["profile"] = {**profile, "coefficients": coefficients}
    if own is not None and (isinstance(entry.get("profile"), SliceProfile) or _is_of_slices(profile)):
        raise InputError(f"{where}: coefficients: a card under MIG is planned by its readings; leave them out")
    return entry


def _is_of_slices(profile: object) -> bool:
    return isinstance(profile, dict) and shares_by(profile) == "mig"


def instance_yaml(instance: Instance) -> str:
    """Render an instance as the YAML a person would write; shipped profiles are named, others inlined.

    The coefficients are always written beside a profile's name, so that the file means the same with every version.
    """
    gpu_types = []
    for gpu in instance.gpu_types:
        entry = gpu.model_dump(exclude_none=True)
        entry["profile"] = _profile_reference(gpu.profile)
        if isinstance(entry["profile"], str) and not gpu.is_cut:
            entry["coefficients"] = gpu.mps_profile.coefficients
        gpu_types.append(entry)
    head = {
        "name": instance.name,
        "description": instance.description,
        **({} if instance.currency == DEFAULT_CURRENCY else {"currency": instance.currency}),
        "slo_rule": instance.slo_rule,
        **({} if instance.percentile is None else {"percentile": instance.percentile}),
        **instance.model_dump(mode="json", include={"arrivals", "headroom", "split"}, exclude_none=True),
    }
    lines = [yaml.safe_dump(head, sort_keys=False, width=110, allow_unicode=True).rstrip(), "gpu_types:"]
    lines += ["  - " + _flow(entry) for entry in gpu_types]
    lines.append("workloads:")
    lines += ["  - " + _flow(workload.model_dump(exclude_none=True)) for workload in instance.workloads]
    return "\n".join(lines) + "\n"


def _flow(entry: dict[str, Any]) -> str:
    tidy = {key: int(v) if isinstance(v, float) and v.is_integer() else v for key, v in entry.items()}
    return yaml.safe_dump(tidy, default_flow_style=True, sort_keys=False, width=10**9).strip()


def _profile_reference(profile: Profile | SliceProfile) -> str | dict[str, Any]:
    coefficients = profile.coefficients if isinstance(profile, Profile) else None
    try:
        if read_card_profile(profile.name, coefficients=coefficients) == profile:
            return profile.name
    except InputError:
        pass
    return profile.model_dump(mode="json", exclude_none=True)


def write_instance(instance: Instance, path: StrPath, *, comment: Sequence[str] = ()) -> None:
    """Write an instance file atomically.

    Parameters
    ----------
    comment
        Lines to stand above it.

    Raises
    ------
    InputError
        What is at the path is neither an instance nor empty, or nothing can be written there.
    """
    check_to_write(instance, Instance)
    # Whatever ends a line for YAML would end the comment, too.
    lines = ["".join(sign if sign.isprintable() else " " for sign in line) for line in comment]
    head = "".join(f"# {line}\n" for line in lines)
    write_output(path, (head + instance_yaml(instance)).encode(), INSTANCE)
