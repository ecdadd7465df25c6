"""A Prometheus of few words, over real HTTP: what the package asks, and whatever else a server may do."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import numpy as np

from igniter_opt.base.arrays import FloatArray

# Four o'clock, and 250 s.
NOW = 1_764_000_250.0
Behaviour = Callable[["Handler", Mapping[str, str]], bool]


class Fake:
    """Series by metric, and answers by query; `behave` may answer itself, and returns whether it did."""

    def __init__(self) -> None:
        self.series: dict[str, list[tuple[dict[str, str], FloatArray, FloatArray]]] = {}
        self.answers: dict[str, Any] = {}
        self.behave: Behaviour | None = None
        self.warnings: list[str] = []
        self.asked: list[tuple[str, Mapping[str, str], Mapping[str, str]]] = []
        self.url = ""

    def add(self, metric: str, labels: dict[str, str], times: FloatArray, values: FloatArray) -> None:
        self.series.setdefault(metric, []).append((labels, np.asarray(times), np.asarray(values, dtype=float)))

    def answer(self, path: str, parameters: Mapping[str, str]) -> Any:
        query = parameters["query"]
        if query == "time()":
            return {"resultType": "scalar", "result": [NOW, str(NOW)]}
        if query in self.answers:
            found = self.answers[query]
            return found(parameters) if callable(found) else found
        if (raw := re.fullmatch(r"(\w+)(\{.*\})?\[(\d+)ms\]", query)) is not None:
            end = float(parameters["time"])
            return self._matrix(raw[1], end - int(raw[3]) / 1000.0, end)
        if (grown := re.fullmatch(r"increase\((\w+)(\{.*\})?\[\d+ms\]\)", query)) is not None:
            rows = self.series.get(grown[1], [])
            return vector([(labels, float(values[-1] - values[0])) for labels, _, values in rows])
        return vector([])

    def _matrix(self, metric: str, start: float, end: float) -> Any:
        found = []
        for labels, times, values in self.series.get(metric, []):
            fits = (times >= start - 1e-6) & (times <= end + 1e-6)
            if fits.any():
                pairs = [[t, repr(v)] for t, v in zip(times[fits].tolist(), values[fits].tolist(), strict=True)]
                found.append({"metric": {"__name__": metric, **labels}, "values": pairs})
        return {"resultType": "matrix", "result": found}


def vector(rows: list[tuple[dict[str, str], float]]) -> Any:
    return {
        "resultType": "vector",
        "result": [{"metric": labels, "value": [NOW, repr(value)]} for labels, value in rows],
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: Fake

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        parameters = {key: values[0] for key, values in parse_qs(body, keep_blank_values=True).items()}
        self.fake.asked.append((self.path, parameters, dict(self.headers.items())))
        if self.fake.behave is not None and self.fake.behave(self, parameters):
            return
        data = self.fake.answer(self.path, parameters)
        self.send(200, json.dumps({"status": "success", "data": data, "warnings": self.fake.warnings}).encode())

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Fake]:
    fake = Fake()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"fake": fake}))
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def counted(times: FloatArray, scrapes: FloatArray, start: float = 7.0) -> FloatArray:
    """A counter that stood at `start`, as it is scraped."""
    return start + np.searchsorted(times, scrapes, side="right").astype(float)
