"""The house rules that a machine can check: imports run downwards, files stay short, everything is documented."""

import ast
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import igniter_opt
import igniter_opt.formulations

ROOTS = {
    "igniter_opt": Path(igniter_opt.__file__).parent,
    "igniter_opt.formulations": Path(igniter_opt.formulations.__file__).parent,
}
# The rooms from the ground up, folders and the modules that stand beside them: each imports from those before it only.
ROOMS = [
    "base",
    "physics",
    "data",
    "fitting",
    "slo",
    "verify",
    "predict",
    "problem",
    "simulation",
    "simulate",
    "packing",
    "result",
    "options",
    "heuristics",
    "formulations",
    "methods",
    "beside",
    "solve_slices",
    "solve",
    "front",
    "sweeps",
    "whatif",
    "compare",
    "warm_up",
    "sensitivity",
    "explanation",
    "explain",
    "generate",
    "generate_demand",
    "deploy",
    "replanning",
    "replan",
    "scheduling",
    "schedule",
    "profiler",
    "measure",
    "rehearse",
    "overhead",
    "guard",
    "serve",
    "observe",
    "report",
    "cli",
    "__main__",
]
# What a room may import of ours, where that is less than all before it.
# Files name slices, which are checked against what cards there are when they are read.
ONLY = {"physics": {"base"}, "data": {"base", "physics"}}
# Public classes that may share their name: Triton prescribes the first; the second says which replica of a workload, in
# either method's own way of counting them.
SHARED_NAMES = {"TritonPythonModel", "Item"}


def modules() -> dict[str, Path]:
    found = {}
    for package, root in ROOTS.items():
        for path in root.rglob("*.py"):
            inner = ".".join(path.relative_to(root).with_suffix("").parts)
            name = f"{package}.{inner}".removeprefix("igniter_opt.").removesuffix(".__init__")
            found[name] = path
    return {name: path for name, path in found.items() if path.name != "__init__.py"}


MODULES = modules()


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("igniter_opt"):
            base = node.module.removeprefix("igniter_opt").lstrip(".")
            inner = {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
            names |= {name for name in inner if name in MODULES} or {base}
        elif isinstance(node, ast.Import):
            names |= {a.name.removeprefix("igniter_opt.") for a in node.names if a.name.startswith("igniter_opt.")}
    return names


def room(name: str) -> str:
    return name.partition(".")[0]


def upward(imports: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Imports from a room that does not stand before the importing module's own."""
    level = {name: k for k, name in enumerate(ROOMS)}
    return [
        (name, other)
        for name, others in imports.items()
        for other in others
        if room(other) != room(name)
        and (level[room(other)] > level[room(name)] or room(other) not in ONLY.get(room(name), {room(other)}))
    ]


def cycles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, by way of others or not."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return [list(error.args[1])]
    return []


IMPORTS = {name: {other for other in imported(path) if other in MODULES} for name, path in MODULES.items()}


def test_every_module_is_in_a_room() -> None:
    assert {room(name) for name in MODULES} == set(ROOMS)


def test_rooms_import_from_those_before_them() -> None:
    assert not upward(IMPORTS)


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert not cycles(IMPORTS)


def test_an_upward_import_and_a_cycle_are_found() -> None:
    assert upward({"physics.interference": {"data.profile"}}) == [("physics.interference", "data.profile")]
    assert upward({"slo.batcher": {"solve"}}) == [("slo.batcher", "solve")]
    assert not upward({"slo.batcher": {"data.plan", "slo.percentile"}})
    assert cycles({"a.x": {"a.y"}, "a.y": {"a.z"}, "a.z": {"a.x"}})


@pytest.mark.parametrize("name", sorted(MODULES))
def test_files_are_short(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= 500


@pytest.mark.parametrize("name", sorted(MODULES))
def test_public_things_are_documented(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def public_classes(sources: dict[str, str]) -> dict[str, list[str]]:
    """Names of public classes, each with the modules that define it."""
    found: dict[str, list[str]] = {}
    for module, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(module)
    return found


def test_a_public_class_is_alone_with_its_name() -> None:
    classes = public_classes({name: path.read_text() for name, path in MODULES.items()})
    shared = {name: places for name, places in classes.items() if len(places) > 1}
    assert {name: places for name, places in shared.items() if name not in SHARED_NAMES} == {}
    assert set(shared) == SHARED_NAMES, "a name that nobody shares any more needs no exception"


def test_a_second_class_of_a_name_is_found() -> None:
    sources = {"a": "class Log: ...", "b": "class Log: ...\nclass _Own: ...", "c": "class _Own: ...\ndef Log(): ..."}
    assert public_classes(sources) == {"Log": ["a", "b"]}


def test_every_package_is_installed() -> None:
    """Setuptools is told all names: what is not among them works from a checkout only."""
    settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    root = Path(__file__).parents[1] / "igniter_opt"
    # Two folders are links, which rglob does not follow.
    packages = {
        ".".join(path.parent.relative_to(root.parent).parts)
        for folder in (root, *root.iterdir())
        if folder.is_dir()
        for path in folder.rglob("__init__.py")
    }
    assert set(settings["tool"]["setuptools"]["packages"]) == packages
