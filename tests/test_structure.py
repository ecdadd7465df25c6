"""The house rules that a machine can check: imports run downwards, files stay short, everything is documented."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import igniter_opt
import igniter_opt.formulations

ROOTS = {
    "igniter_opt": Path(igniter_opt.__file__).parent,
    "igniter_opt.formulations": Path(igniter_opt.formulations.__file__).parent,
}
# From the ground up; a module may import only from layers below its own.
LAYERS = [
    {"errors", "stop", "command", "text", "display", "surface", "report.palette"},
    {"ownership"},
    {"schema", "compilation"},
    {"files"},
    {"measurements", "yaml_files", "packing.compiled", "measure.verdict"},
    {"profile"},
    {"utilisation", "measurement_files"},
    {"parameters"},
    {"solo"},
    {"refined"},
    {"instance", "coefficients"},
    {"packing.dominance", "simulation.engine", "highs"},
    {"simulation.arrivals", "simulation.traces", "simulation.statistics"},
    {"simulation.results"},
    {"predictor", "plan", "known", "queueing", "simulation.schedule"},
    {"partial_batches"},
    {"percentile_rule", "serving"},
    {"configurations"},
    {"costs", "aggregates", "conflicts"},
    {"bounds", "verify", "calibration"},
    {"draft", "result", "simulation.servers", "simulation.side_by_side", "packing.items"},
    {"simulation.streams"},
    {"simulate"},
    {"outcome", "packing.sets", "history", "starts"},
    {"packing.cells", "packing.search", "packing.plans"},
    {"packing.partition", "packing.closing", "packing.local_search"},
    {"packing.pricing", "heuristics.bestfit"},
    {"packing.warm_up"},
    {"heuristics.demand", "formulations.assignment_data", "formulations.patterns_master"},
    {"formulations.patterns_bound", "formulations.patterns_incumbent"},
    {"formulations.patterns_integer", "formulations.patterns_prices"},
    {"formulations.patterns_share", "formulations.assignment"},
    {"formulations.assignment_solver"},
    {"formulations.patterns_counts"},
    {"formulations.patterns"},
    {"heuristics.greedy", "heuristics.gpulets"},
    {"heuristics.gslice"},
    {"solve"},
    {"compare", "generate", "sensitivity"},
    {"report.charts", "report.measured", "report.tables"},
    {"report.plots"},
    {"report.notebook"},
    {"report.latencies", "report.findings"},
    {"report.page"},
    {"deploy.extras"},
    {"deploy.state", "deploy.model_config", "deploy.triton_install", "deploy.approval"},
    {"deploy.samples", "deploy.inventory", "deploy.backend"},
    {"deploy.inference", "deploy.model_repository", "deploy.matching", "deploy.processes", "deploy.endpoints"},
    {"deploy.targets", "deploy.mps"},
    {"deploy.changes", "deploy.process_backend", "deploy.docker_backend"},
    {"deploy.health"},
    {"deploy.apply", "deploy.status", "deploy.successor"},
    {"deploy.launch"},
    {"measure.client", "measure.options", "measure.machine"},
    {"measure.requests", "measure.results", "measure.feed", "measure.shared"},
    {"measure.server"},
    {"measure.follow"},
    {"measure.run"},
    {"guard.window", "guard.choose", "guard.feed", "guard.journal"},
    {"guard.observe", "guard.change"},
    {"guard.run"},
    {"rehearse.emulated_model", "rehearse.emulation", "rehearse.results"},
    {"rehearse.run"},
    {"profiler.capturable"},
    {"profiler.model_files"},
    {"profiler.models"},
    {"profiler.counters", "profiler.served_model", "profiler.worker", "profiler.entries"},
    {"profiler.export", "profiler.record"},
    {"profiler.runner", "profiler.export_onnx"},
    {"profiler.session", "profiler.recorded", "profiler.synthetic", "profiler.plausible"},
    {"profiler.build", "profiler.colocate"},
    {"profiler.make", "profiler.check"},
    {"report.profiles"},
    {"cli.tables"},
    {"cli.console"},
    {"cli.render", "cli.traffic", "cli.outputs"},
    {"cli.deploy_render", "cli.measure_render", "cli.instances", "cli.simulate"},
    {"cli.guard_render"},
    {"cli.deploy", "cli.report", "cli.measure", "cli.models", "cli.profile_check", "cli.profile_calibrate"},
    {"cli.profile", "cli.guard"},
    {"cli.main"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


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


def test_every_module_has_a_layer() -> None:
    assert set(MODULES) == set(LEVEL)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_run_downwards(name: str) -> None:
    upward = {other for other in imported(MODULES[name]) if other and LEVEL[other] >= LEVEL[name]}
    if name.startswith("cli."):
        upward.discard("")
    assert not upward


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


def test_commands_start_without_what_few_of_them_need() -> None:
    """Pyomo, pandas and the like are imported where they are used: together they take as long as all the rest."""
    slow = {"docker", "grpc", "matplotlib", "pandas", "pyomo", "scipy.stats", "torch"}
    program = "import sys, igniter_opt.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "igniter_opt.cli.main" in done.stdout.split()
    assert not slow & set(done.stdout.split())
