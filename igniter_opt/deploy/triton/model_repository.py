"""The user's models, and a model repository of its own for every server."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import exists
from igniter_opt.base.schema import describe, nearest
from igniter_opt.deploy.triton.model_config import CONFIG_FILE, check_suitable, model_file, read_config
from igniter_opt.deploy.triton.samples import CHECK_FILE, Sample, read_sample

# Triton does not load these; Python rewrites its caches on its own.
_IGNORED = {"__pycache__"}


@dataclass(frozen=True)
class ModelSource:
    """A model in the user's folder, read and found fit to be served.

    Attributes
    ----------
    config
        The user's ``ModelConfig``.
    files
        Files to serve, by their path inside the model's folder.
    digest
        Of the names and contents of `files`.
    sample
        The user's sample request and expected answer, if given.
    """

    name: str
    folder: Path
    config: Any
    files: dict[str, Path]
    digest: str
    sample: Sample | None


def read_models(folder: Path, batches: dict[str, int]) -> dict[str, ModelSource]:
    """Read every model that a plan needs, each with its largest batch in the plan.

    Raises
    ------
    InputError
        Naming the first model that is missing or cannot be served as planned.
    """
    if not exists(folder):
        raise InputError(f"{folder}: no such folder; --models takes a folder with one folder for every model")
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; --models takes a folder with one folder for every model")
    return {name: read_model(folder, name, batch) for name, batch in batches.items()}


def read_model(folder: Path, name: str, batch: int) -> ModelSource:
    """Read one model; raise InputError if it cannot be served in batches of `batch`."""
    path = folder / name
    if not path.is_dir():
        try:
            present = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        except OSError as error:
            raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
        raise InputError(f"{path}: the plan needs the model {name!r}, there is no such folder{nearest(name, present)}")
    config = read_config(path / CONFIG_FILE)
    if config.name not in ("", name):
        raise InputError(
            f"{path / CONFIG_FILE}: name is {describe(config.name)}, its folder is {name}; make them equal"
        )
    check_suitable(config, batch, str(path / CONFIG_FILE))
    versions = _versions(path, config)
    wanted = model_file(config)
    for version in versions:
        if wanted is not None and not exists(path / str(version) / wanted):
            raise InputError(f"{path / str(version)}: has no {wanted}, which {CONFIG_FILE} asks for")
    files = dict(_files(path))
    if not any(Path(inner).parts[0] == str(version) for version in versions for inner in files):
        raise InputError(f"{path}: its version folder is empty; put the model's files there")
    return ModelSource(name, path, config, files, _digest(files), _sample(path, config))


def _sample(path: Path, config: Any) -> Sample | None:
    """Read the model's sample, and try it on those tensors that the configuration declares (servers may add some)."""
    file = path / CHECK_FILE
    if not exists(file):
        return None
    sample = read_sample(file)
    if config.input:
        sample.inputs(config, str(file))
    if config.output:
        sample.expected(config, str(file))
    return sample


def _versions(path: Path, config: Any) -> list[int]:
    """Return the versions that Triton will serve."""
    found = sorted(
        int(entry.name)
        for entry in path.iterdir()
        if entry.is_dir() and entry.name.isascii() and entry.name.isdigit() and not entry.name.startswith("0")
    )
    if not found:
        raise InputError(f"{path}: has no version folder; put the model's files into {path / '1'}")
    policy = config.version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return found
    if choice == "specific":
        missing = sorted(set(policy.specific.versions) - set(found))
        if missing or not policy.specific.versions:
            raise InputError(f"{path / CONFIG_FILE}: version_policy names versions {missing}, found are {found}")
        return sorted(policy.specific.versions)
    return found[-max(1, policy.latest.num_versions) :]


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Files of a model folder but its configuration and check, sorted; links are followed."""
    for inner, path in _walk(root, "", frozenset()):
        if inner not in (CONFIG_FILE, CHECK_FILE):
            yield inner, path


def _walk(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, Path]]:
    real = str(folder.resolve())
    if real in above:
        raise InputError(f"{folder}: is a link to a folder that contains it; remove the link")
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    for entry in entries:
        if entry.name in _IGNORED:
            continue
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/", above | {real})
        elif entry.is_file():
            yield prefix + entry.name, entry
        else:
            raise InputError(f"{entry}: is no regular file; a model folder holds files and folders only")


def _digest(files: dict[str, Path]) -> str:
    whole = hashlib.sha256()
    for inner, path in files.items():
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        whole.update(f"{len(inner.encode(errors='surrogateescape'))} ".encode())
        whole.update(inner.encode(errors="surrogateescape") + content.encode())
    return whole.hexdigest()


def create_repository(target: Path, source: ModelSource, config: str) -> None:
    """Create a model repository that serves one model.

    Large files are shared with the user's folder by hard links where the file system allows it, so that
    a file removed there stays available here; otherwise they are copied.

    Parameters
    ----------
    target
        The repository's folder; must not exist.
    config
        Text of the ``config.pbtxt`` to serve with.
    """
    try:
        model = target / source.name
        model.mkdir(parents=True)
        for inner, path in source.files.items():
            copy = model / inner
            copy.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(path.resolve(), copy)
        (model / CONFIG_FILE).write_text(config, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{target}: the model repository cannot be written ({error.strerror})") from None


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copyfile(source, target)
