"""NGINX accepts the configuration that the endpoints are rendered to."""

import shutil
import subprocess
from pathlib import Path

from igniter_opt.deploy.load_balancers import render_endpoints
from tests.deploy.test_endpoints import STATE
from tests.integration.conftest import missing


def test_nginx_accepts_the_rendering(tmp_path: Path) -> None:
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if nginx is None:
        missing("no nginx (Debian: nginx-light)")
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{render_endpoints(STATE, 'nginx')}}}\n"
    )
    done = subprocess.run(
        [nginx, "-t", "-e", tmp_path / "error.log", "-c", config], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
