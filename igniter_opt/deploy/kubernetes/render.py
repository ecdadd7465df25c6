"""Objects as files: one of YAML, which kubectl and Kustomize take, and the launcher's role for an administrator."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from igniter_opt.base.errors import InputError
from igniter_opt.base.kinds import Kind, check_output, write_output
from igniter_opt.deploy.kubernetes.names import Object

HEAD = "# Objects of igniter-opt, made from a plan: changes by hand are lost when it is rendered again.\n"
OBJECTS_FILE = "objects.yaml"
# Without an ending, or `kubectl apply -f` would take it for an object.
KUSTOMIZATION_FILE = "Kustomization"
# In a folder of its own, which `kubectl apply -f` leaves out: it is for an administrator.
RBAC_FILE = "admin/rbac.yaml"
_RENDERED = Kind("objects of igniter-opt", lambda _, head: head.startswith(HEAD.encode()))


class _ObjectDumper(yaml.CSafeDumper if hasattr(yaml, "CSafeDumper") else yaml.SafeDumper):  # type: ignore[misc]
    """Writes texts of several lines as such, and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_ObjectDumper.add_representer(str, _text)


def yaml_text(objects: Iterable[Object]) -> str:
    """Render objects as a stream of YAML documents; equal objects give equal text."""
    return yaml.dump_all(
        objects, Dumper=_ObjectDumper, explicit_start=True, sort_keys=True, width=2**16, allow_unicode=True
    )


def render(folder: Path, objects: Iterable[Object], rbac: Iterable[Object], notes: Iterable[str]) -> list[Path]:
    """Write a plan's objects into a folder, which is made if it is not there; return the files.

    All objects are in one file, which is replaced whole: whoever reads it sees one plan. Nobody's other files are
    touched.

    Raises
    ------
    InputError
        There is something else where one of the files is to be.
    """
    remarks = "".join(f"# Note: {note}\n" for note in notes)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [OBJECTS_FILE],
    }
    content = {
        OBJECTS_FILE: remarks + yaml_text(objects),
        KUSTOMIZATION_FILE: yaml_text([kustomization]),
        RBAC_FILE: yaml_text(rbac),
    }
    try:
        (folder / RBAC_FILE).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another --render") from None
    for name in content:
        check_output(folder / name, _RENDERED)
    for name, text in content.items():
        write_output(folder / name, (HEAD + text).encode(), _RENDERED)
    return [folder / name for name in content]
