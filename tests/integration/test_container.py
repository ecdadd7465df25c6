"""The image, built by a real Docker engine from the Dockerfile at the top, and run as its page says.

No registry is asked: what the image is built on is this machine's own Python.
"""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from igniter_opt.serve.address import PORT_VARIABLE
from igniter_opt.serve.examples import EXAMPLES
from tests.docs.blocks import ROOT
from tests.integration.base_image import write_base, write_wheels
from tests.integration.conftest import missing

BASE, IMAGE = "example/python:3", "example/igniter-opt:test"
PARTS = (
    "Dockerfile",
    ".dockerignore",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "igniter_opt",
    "formulations",
    "instances",
)
# As the page on the image has it: nothing can be written but where it is said.
LOCKED = {"read_only": True, "tmpfs": {"/tmp": ""}, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}


@pytest.fixture(scope="module")
def built(engine: Any, docker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image, for which nothing was fetched but what builds the package."""
    program = shutil.which("docker")
    if program is None or not Path("/bin/busybox").exists():
        missing("no docker command, or no /bin/busybox (Debian: docker.io, busybox-static)")
    folder = tmp_path_factory.mktemp("context")
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name, **({"symlinks": True} if copy is shutil.copytree else {}))  # type: ignore[operator]
    (folder / "wheels").mkdir()
    write_wheels(folder / "wheels", ("serve",))
    write_base(folder / "base.tar")
    repository, tag = BASE.split(":")
    changes = ["ENV PATH=/usr/local/bin:/bin"]
    engine.api.import_image_from_file(str(folder / "base.tar"), repository=repository, tag=tag, changes=changes)
    given = {"BASE": BASE, "EXTRAS": "serve", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/src/wheels"}
    words = [word for name, value in given.items() for word in ("--build-arg", f"{name}={value}")]
    command = [program, "--host", docker_url, "build", "--network", "none", "--tag", IMAGE, *words, str(folder)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "DOCKER_BUILDKIT": "0"}
    began = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    print(f"built in {time.monotonic() - began:.0f} s, {engine.images.get(IMAGE).attrs['Size'] / 1e6:.0f} MB")
    yield IMAGE
    engine.images.remove(IMAGE, force=True)
    engine.images.prune()
    engine.images.remove(BASE, force=True)


def test_a_solve_starts_at_once_and_writes_nothing(engine: Any, built: str) -> None:
    began = time.monotonic()
    said = engine.containers.run(
        built, ["solve", "igniter-table3", "-o", "-"], remove=True, network_mode="none", stderr=False, **LOCKED
    )
    took = time.monotonic() - began
    plan = json.loads(said)
    assert (plan["solver"]["status"], plan["solver"]["cost_per_hour"]) == ("optimal", 18.36)
    # Compiling would take several times as long, on any machine.
    warm = engine.containers.run(built, ["warm-up"], remove=True, network_mode="none", stderr=True, **LOCKED)
    assert b"everything is compiled already" in warm
    print(f"first solve: {took:.1f} s, container included")
    who = engine.containers.run(built, entrypoint=["id", "-u"], remove=True, network_mode="none", **LOCKED)
    assert who.strip() == b"10001"


@pytest.mark.parametrize(
    ("words", "environment"), [(["--port", "8479"], {}), ([], {PORT_VARIABLE: "8479"})], ids=["option", "environment"]
)
def test_the_service_answers_and_is_healthy_at_any_port(
    engine: Any, built: str, words: list[str], environment: dict[str, str]
) -> None:
    container = started(
        engine, built, failures=1000, command=["serve", *words], environment=environment, volumes=["/state"]
    )
    try:
        for line in container.logs(stream=True):
            if b"serving on http://127.0.0.1:8479" in line:
                break
        request = urllib.request.Request(
            "http://127.0.0.1:8479/v1/solve?wait=60",
            data=json.dumps(EXAMPLES["solve"]).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=90) as answer:
            assert json.load(answer)["result"]["status"] == "optimal"
        assert health(container) == "healthy"
        container.stop(timeout=30)
        assert container.wait()["StatusCode"] == 0
        assert b"what was finished is kept" in container.logs()
    finally:
        container.remove(force=True, v=True)


def test_a_container_that_does_not_serve_is_unhealthy(engine: Any, built: str) -> None:
    container = started(engine, built, failures=2, entrypoint=["sleep", "1000"])
    try:
        assert health(container) == "unhealthy"
    finally:
        container.remove(force=True, v=True)


def started(engine: Any, image: str, failures: int, **how: Any) -> Any:
    """A container whose health is checked every second by the image's own check, which may fail so many times."""
    second = 1_000_000_000
    often = {"interval": second, "timeout": 20 * second, "start_period": second, "retries": failures}
    return engine.containers.run(image, detach=True, network_mode="host", healthcheck=often, **how, **LOCKED)


def health(container: Any) -> str:
    """What the engine says of it, once it says anything."""
    until = time.monotonic() + 120
    container.reload()
    while (found := container.attrs["State"]["Health"])["Status"] == "starting":
        assert time.monotonic() < until, found
        time.sleep(0.2)
        container.reload()
    return str(found["Status"])
