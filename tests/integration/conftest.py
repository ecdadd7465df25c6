"""The real parts: Triton's server from the wheel, a Docker engine, a browser. Tests skip without them.

With ``IGNITER_OPT_REQUIRE_INTEGRATION=1`` they fail instead.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from igniter_opt.deploy.triton.install import Installation, find_installation
from tests.integration.image import CHANGES, write_image

IMAGE = "example/tritonserver:24.10"


def missing(what: str) -> NoReturn:
    if os.environ.get("IGNITER_OPT_REQUIRE_INTEGRATION") == "1":
        pytest.fail(f"{what}, and IGNITER_OPT_REQUIRE_INTEGRATION is set")
    pytest.skip(what)


@pytest.fixture(scope="session")
def triton() -> Installation:
    """The server that `igniter-opt triton install` fetched. Nothing may run beside tests marked `alone`."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        missing("real servers need the machine to themselves (pytest -n 0 tests/integration)")
    found = find_installation()
    if found is None:
        missing("no Triton server (`igniter-opt triton install` fetches one)")
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no playwright (pip install '.[browser]')")
    named = os.environ.get("IGNITER_OPT_TEST_CHROMIUM")
    program = named or shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if program is None:
        missing("no Chromium (Debian: chromium-headless-shell; or IGNITER_OPT_TEST_CHROMIUM names one)")
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not work as root in containers; the page is ours and fetches nothing.
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="session")
def docker_url() -> str:
    """A Docker engine that tests may use, as IGNITER_OPT_TEST_DOCKER names it."""
    url = os.environ.get("IGNITER_OPT_TEST_DOCKER")
    if not url:
        missing("no Docker engine (IGNITER_OPT_TEST_DOCKER=unix:///path/to/docker.sock names one)")
    return url


@pytest.fixture(scope="session")
def engine(docker_url: str) -> Iterator[Any]:
    import docker

    client = docker.DockerClient(base_url=docker_url, timeout=120)
    client.ping()
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(engine: Any, triton: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of the real server, imported from local files."""
    if not Path("/bin/busybox").exists():
        missing("no /bin/busybox (Debian: busybox-static)")
    tar = tmp_path_factory.mktemp("image") / "root.tar"
    write_image(tar, triton)
    repository, tag = IMAGE.split(":")
    engine.api.import_image_from_file(str(tar), repository=repository, tag=tag, changes=CHANGES)
    tar.unlink()
    yield IMAGE
    engine.images.remove(IMAGE, force=True)


@pytest.fixture
def foreign_container(engine: Any, image: str) -> Iterator[Any]:
    """A container of somebody else, which must stay alive."""
    container = engine.containers.run(
        image, ["sleep", "1000"], detach=True, network_mode="none", labels={"mine": "yes"}
    )
    yield container
    container.reload()
    status = container.status
    container.remove(force=True)
    assert status == "running", "a foreign container was stopped"


@pytest.fixture
def foreign_process() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else, which must stay alive."""
    program = shutil.which("sleep")
    assert program is not None
    process = subprocess.Popen([program, "1000"])
    yield process
    assert process.poll() is None, "a foreign process was stopped"
    process.kill()
    process.wait()
