"""A server that answers requests as a test says, with a kubeconfig that leads to it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

# From method, path with query, and body to status and content; None closes the connection without an answer.
Answers = Callable[[str, str, Any], "tuple[int, Any] | None"]


class FakeServer(ThreadingHTTPServer):
    """Listens on a port of this machine.

    Attributes
    ----------
    asked
        Method, path and body of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: Answers = lambda method, path, body: (404, {})
        self.asked: list[tuple[str, str, Any]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away as they like."""

    def kubeconfig(self, folder: Path, *, namespace: Any = "ig", credential: Any = "any") -> Path:
        found = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server_port}"}}],
            "users": [{"name": "u", "user": {"token": credential}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
            "current-context": "c",
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(found))
        return path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(content) if content else None
        self.server.asked.append((self.command, self.path, body))
        found = self.server.answers(self.command, self.path, body)
        if found is None:
            self.close_connection = True
            return
        status, answer = found
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    do_GET = do_PATCH = do_DELETE = _answer  # noqa: N815


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    server = FakeServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
