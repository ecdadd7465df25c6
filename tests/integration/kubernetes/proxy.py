"""A proxy in front of the real API server that makes it fail: refuse, limit, drop watches, be away."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3
import yaml

# What to do with a request (method, path with query): None passes it on.
Fault = Callable[[str, str], "tuple[int, dict[str, str], str] | str | None"]


def refusal(code: int, message: str, **headers: str) -> tuple[int, dict[str, str], str]:
    """What an API server answers when it refuses."""
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return code, {"Content-Type": "application/json", **headers}, json.dumps(status)


class Proxy(ThreadingHTTPServer):
    """Listens on a port of this machine.

    Attributes
    ----------
    fault
        Returns an answer to give, ``drop`` (close in the middle of a watch), or ``away`` (close at once), or None.
    asked
        Methods and paths of what was asked for.
    answered
        Makes another answer of one that has an object, or objects.
    """

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.pool = urllib3.PoolManager(cert_reqs="CERT_NONE", maxsize=20)
        self.fault: Fault = lambda method, path: None
        self.asked: list[tuple[str, str]] = []
        self.answered: Callable[[bytes], bytes] = lambda content: content

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away as they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path))
        fault = self.server.fault(self.command, self.path)
        if fault == "away":
            self._close()
            return
        if fault == "drop":
            self._answer(200, {"Content-Length": "1000"}, b'{"type": "ADD')
            time.sleep(0.2)
            self._close()
            return
        if isinstance(fault, tuple):
            code, headers, text = fault
            self._answer(code, headers, text.encode())
            return
        headers = {name: value for name, value in self.headers.items() if name not in ("Host", "Content-Length")}
        answer = self.server.pool.request(
            self.command,
            self.server.upstream + self.path,
            body=body,
            headers=headers,
            preload_content=False,
            retries=False,
        )
        if "watch=true" in self.path:
            self._stream(answer)
        else:
            kind, content = answer.headers["Content-Type"], answer.read()
            plain = answer.status < 300 and kind == "application/json"
            self._answer(answer.status, {"Content-Type": kind}, self.server.answered(content) if plain else content)

    def _answer(self, code: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, answer: Any) -> None:
        self.send_response(answer.status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in answer.stream(amt=None):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _close(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    do_GET = do_PATCH = do_DELETE = do_POST = do_PUT = _pass  # noqa: N815


@contextmanager
def proxied(kubeconfig: Path, folder: Path) -> Iterator[tuple[Proxy, Path]]:
    """Run a proxy; yields it with a kubeconfig that leads to it."""
    content = yaml.safe_load(kubeconfig.read_text())
    cluster = content["clusters"][0]["cluster"]
    proxy = Proxy(cluster["server"])
    content["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{proxy.server_port}"}
    (folder / "proxied.yaml").write_text(yaml.safe_dump(content))
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield proxy, folder / "proxied.yaml"
    proxy.shutdown()
    proxy.server_close()
    thread.join(10)
