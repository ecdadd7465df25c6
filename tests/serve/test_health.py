"""The image's health check asks the port that the service was started with."""

from pathlib import Path

import pytest

from igniter_opt.serve.address import DEFAULT_PORT, PORT_VARIABLE
from igniter_opt.serve.health import check, port_of
from igniter_opt.serve.settings import listen
from tests.cli.helpers import invoke
from tests.serve.service import service

PROGRAM = ["/opt/igniter-opt/bin/python", "/opt/igniter-opt/bin/igniter-opt", "serve"]


@pytest.mark.parametrize(
    ("words", "environment", "port"),
    [
        ([], {}, str(DEFAULT_PORT)),
        (["--host", "::1"], {}, str(DEFAULT_PORT)),
        (["--port", "9000", "--host", "::1"], {}, "9000"),
        (["--host", "::1", "--port=9000", ""], {}, "9000"),
        (["--port", "9000", "--port", "9001"], {}, "9001"),
        ([], {PORT_VARIABLE: "9002"}, "9002"),
        ([], {PORT_VARIABLE: ""}, str(DEFAULT_PORT)),
        (["--port", "9000"], {PORT_VARIABLE: "9002"}, "9000"),
        (["--port"], {}, ""),
    ],
)
def test_the_command_line_says_it_before_the_environment(
    words: list[str], environment: dict[str, str], port: str
) -> None:
    assert port_of([*PROGRAM, *words], environment) == port


def test_a_service_that_answers_is_well_and_others_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port comes from the environment, as the service's own does."""
    with listen("127.0.0.1", 0, None) as free:
        port = str(free.getsockname()[1])
    with pytest.raises(ConnectionRefusedError):
        check(port)
    monkeypatch.setenv(PORT_VARIABLE, port)
    with service(tmp_path / "state", port=None) as running:
        assert running.url == f"http://127.0.0.1:{port}"
        check(port)
        monkeypatch.setattr("igniter_opt.serve.health._PATH", "/nowhere")
        with pytest.raises(ValueError, match="answers 404"):
            check(port)
    for wrong in ("", "x", "70000"):
        with pytest.raises((ValueError, OSError, OverflowError)):
            check(wrong)


def test_a_port_in_the_environment_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PORT_VARIABLE, "99999")
    done = invoke("serve", "--state", tmp_path)
    assert done.code == 2
    assert "99999" in done.err
