"""Python started in the clone's folder finds the whole package there, however the package is installed."""

import subprocess
import sys

import pytest

from tests.docs.blocks import ROOT

# What an installation that is not editable leaves: no finder that knows where the folders of the clone are.
NO_EDITABLE = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in str(f).lower()]; "


@pytest.mark.parametrize("module", ["igniter_opt.instances", "igniter_opt.formulations.patterns"])
def test_modules_are_found_in_the_clones_folder(module: str) -> None:
    code = f"{NO_EDITABLE}import importlib; print(importlib.import_module({module!r}).__file__)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(str(ROOT))


def test_shipped_files_are_found_in_the_clones_folder() -> None:
    code = f"{NO_EDITABLE}import igniter_opt as ig; print(ig.read_instance('igniter-motivation').name)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "igniter-motivation\n"), run.stderr
