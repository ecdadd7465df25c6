"""The README's run on a laptop, exactly as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from igniter_opt.deploy.triton_install import Installation

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_deployment_runs_as_typed(tmp_path: Path, triton: Installation) -> None:
    section = README.read_text(encoding="utf-8").split("\n## Deploy\n")[1].split("\n## ")[0]
    block = re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)[0]
    assert "deploy plan.json --models models --backend process --cpu" in block
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", block],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"data":[2.0,4.0,6.0]' in done.stdout
    assert "nothing to change" in done.stderr
    assert "nothing of it runs any more" in done.stderr
    assert not list((tmp_path / "state").rglob("state.json"))
