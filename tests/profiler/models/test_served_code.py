"""The code that exported models are served by is found where it is installed; no torch is needed for that."""

import ast

from igniter_opt.profiler.models.export import served_code


def test_the_served_code_is_there_and_defines_the_model() -> None:
    names = {node.name for node in ast.parse(served_code()).body if isinstance(node, ast.ClassDef)}
    assert "TritonPythonModel" in names
