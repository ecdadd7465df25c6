"""What models in Python need comes into the fetched server's own environment, by the real pip."""

import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from igniter_opt import InputError
from igniter_opt.deploy.triton.install import Installation, add_packages


def write_wheel(folder: Path) -> Path:
    """Write a package of one module that needs nothing."""
    path = folder / "answers-1.0-py3-none-any.whl"
    info = "answers-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("answers.py", "VALUE = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: answers\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def copied(triton: Installation, tmp_path: Path) -> Installation:
    """The fetched server with a copy of its environment."""
    assert triton.python is not None
    shutil.copytree(triton.python.parent, tmp_path / "python", symlinks=True)
    return replace(triton, python=tmp_path / "python" / "bin")


def test_packages_are_added_and_numpy_stays(copied: Installation, tmp_path: Path) -> None:
    add_packages(copied, [str(write_wheel(tmp_path))])
    assert copied.python is not None
    program = "import answers, numpy; print(answers.VALUE, numpy.__version__.split('.')[0])"
    said = subprocess.check_output([str(copied.python / "python"), "-c", program], text=True)
    assert said == "42 1\n"


def test_what_is_no_package_is_refused(copied: Installation, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"answers-2.*cannot be installed for the server's Python\n.*(?i:error)"):
        add_packages(copied, [str(tmp_path / "answers-2-py3-none-any.whl")])
    for package in ("--index-url=http://example.invalid", " ", "-r"):
        with pytest.raises(InputError, match="is no package"):
            add_packages(copied, [package])
    with pytest.raises(InputError, match="was not fetched by"):
        add_packages(replace(copied, python=None), ["torch"])
