"""Optional dependencies, with a message that names the extra when one is missing."""

import importlib
from typing import Any

from igniter_opt.base.errors import InputError

# What the extra ``profile`` holds beyond ``deploy``.
_OF_PROFILE = ("torch", "torchvision", "onnx", "onnx2torch", "onnxruntime", "onnxscript")


def load(module: str, extra: str | None = None) -> Any:
    """Import a module of an extra (by default the one known to hold it); raise InputError saying how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and not f"{module}.".startswith(f"{error.name}."):
            raise
        package = module.split(".", maxsplit=1)[0]
        extra = extra or ("profile" if package in _OF_PROFILE else "deploy")
        raise InputError(
            f"this needs the package {package!r} of the extra {extra!r}; in the clone: pip install '.[{extra}]'"
        ) from None
