"""Whether the service of this container answers: the image's health check, `python -m igniter_opt.serve.health`.

A check is a program of its own, which has the container's environment and sees its first process, but not what was
given to that. Nothing is imported that takes time: it runs every half a minute.
"""

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from igniter_opt.serve.address import DEFAULT_PORT, PORT_VARIABLE

_PATIENCE_S = 4.0
_PATH = "/healthz"
_FIRST = Path("/proc/1/cmdline")


def port_of(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the port that a service was started with: `--port` of its command line, else the environment's.

    Parameters
    ----------
    words
        The command line of the container's first process.
    environment
        The container's.
    """
    port = environment.get(PORT_VARIABLE) or str(DEFAULT_PORT)
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--port":
            port = value if equals else "".join(words[number + 1 : number + 2])
    return port


def check(port: str) -> None:
    """Ask the service at a port of this container how it is, past any proxy.

    Raises
    ------
    OSError, http.client.HTTPException, ValueError
        Nobody answers, or not that all is well; or it is no port.
    """
    asking = http.client.HTTPConnection("127.0.0.1", int(port), timeout=_PATIENCE_S)
    try:
        asking.request("GET", _PATH)
        status = asking.getresponse().status
    finally:
        asking.close()
    if status != http.client.OK:
        raise ValueError(f"{_PATH} answers {status}")


if __name__ == "__main__":
    asked = port_of(_FIRST.read_bytes().decode(errors="replace").split("\0"), os.environ)
    try:
        check(asked)
    except (OSError, http.client.HTTPException, ValueError) as error:
        sys.exit(f"port {asked}: {error}")
