"""Docker over SSH, as a hosts file names it: through an sshd on loopback, to the engine behind it."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.helpers import script
from tests.integration.conftest import missing
from tests.integration.test_end_to_end import Site


@pytest.fixture
def ssh_url(tmp_path: Path, docker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An sshd of our own; `ssh` on PATH is told its keys, as a user's ~/.ssh/config would."""
    server = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    client, keygen = shutil.which("ssh"), shutil.which("ssh-keygen")
    if server is None or client is None or keygen is None:
        missing("no sshd (Debian: openssh-server)")
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True)
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        f"StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nSetEnv DOCKER_HOST={docker_url}\n"
    )
    (tmp_path / "ssh_config").write_text(
        f"IdentityFile {tmp_path}/user\nIdentitiesOnly yes\nStrictHostKeyChecking no\n"
        f"UserKnownHostsFile {tmp_path}/known\nLogLevel ERROR\n"
    )
    wrapper = tmp_path / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {client} -F {tmp_path}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}")
    log = (tmp_path / "sshd.log").open("wb")
    process = subprocess.Popen([server, "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=log)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"ssh://{getpass.getuser()}@127.0.0.1:{port}"
    process.terminate()
    process.wait()
    log.close()


def test_deploy_on_a_host_behind_ssh(
    tmp_path: Path, ssh_url: str, engine: Any, image: str, foreign_container: Any
) -> None:
    hosts = tmp_path / "hosts.yaml"
    hosts.write_text(f"hosts:\n  - {{name: node1, docker: '{ssh_url}', address: 127.0.0.1}}\n")
    options = ["--backend", "docker", "--inventory", str(hosts), "--image", image]
    site = Site(tmp_path, options, 25000, engine)
    try:
        plan = site.plan("plan")
        run = site.deploy(plan)
        assert run.code == 0, run.err
        assert len(site.containers()) == 3
        # The models were sent, not mounted: the other machine has no such folder.
        assert all(not container.attrs["Mounts"] for container in site.containers())
        status = script("status", "--state", site.state, "--json")
        assert status.code == 0, status.err
        assert {server["host"] for server in status.json()[0]["servers"]} == {"node1"}
        assert site.verbs(plan) == ["keep"] * 3
        assert site.teardown().code == 0
        assert site.containers() == []
    finally:
        site.clean_up()


def test_a_host_that_does_not_answer(tmp_path: Path, ssh_url: str, image: str) -> None:
    hosts = tmp_path / "hosts.yaml"
    url = ssh_url.replace("ssh://", "ssh://nobody-")
    hosts.write_text(f"hosts:\n  - {{name: node1, docker: '{url}'}}\n")
    site = Site(tmp_path, ["--backend", "docker", "--inventory", str(hosts), "--image", image], 25000)
    run = site.deploy(site.plan("plan"))
    assert run.code == 2
    assert "the Docker engine of host 'node1' does not answer at ssh://nobody-" in run.err
    assert "Traceback" not in run.err
    assert not site.store.file.exists()
