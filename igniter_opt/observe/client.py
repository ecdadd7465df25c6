"""A Prometheus asked over HTTP, within limits of time and size, and nobody else.

Redirects are not followed and no proxy is used, so that a token goes to the server that the user named and to no other.
A token goes over HTTPS only, or to this machine. Answers longer or larger than the limits are given up.
"""

import ipaddress
import math
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Timer
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError, explained
from igniter_opt.base.files import StrPath, as_path, parse_json, read_text
from igniter_opt.base.schema import checked_number, describe
from igniter_opt.base.text import cut

DEFAULT_TIMEOUT_S = 30.0
MOST_ANSWER_BYTES = 32 * 2**20
# A sample has three of the signs that `parse_json` counts, and ten bytes at least.
_MOST_VALUES = MOST_ANSWER_BYTES // 3
_PIECE = 2**16
# Of one query and series; Prometheus refuses more than 11,000.
_MOST_POINTS = 10_000
# Raw samples are asked for in pieces of so long; a piece that is too large is halved, a small one doubled.
_FIRST_PIECE_S, _LONGEST_PIECE_S, _SHORTEST_PIECE_S = 6 * 3600.0, 48 * 3600.0, 60.0
_MOST_TOKEN_BYTES = 65_536
# A server's time is before the year 10000, the first that dates do not reach.
_LATEST_S = 253_402_300_800.0

Progress = Callable[[str, int, int], object]


class Series(NamedTuple):
    """Samples of one series: Unix times in s, ascending, and values."""

    labels: Mapping[str, str]
    times: FloatArray
    values: FloatArray


class AnswerTooLargeError(InputError):
    """An answer is larger than is read; a shorter piece of time may be smaller."""


class Prometheus:
    """A server that speaks Prometheus's HTTP API.

    Parameters
    ----------
    url
        Where it is, ``http://host:9090``, with the path before ``/api/v1`` if there is one.
    timeout_s
        Seconds for each question, from connecting to the last byte.
    token_file
        A file with a bearer token.
    ca_file
        Certificates (PEM) that the server's is checked against; by default the system's.

    Attributes
    ----------
    warnings
        What the server said besides its answers, each text once.

    Raises
    ------
    InputError
        The address or a file is none of this kind; later, whatever is wrong with an answer.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        token_file: StrPath | None = None,
        ca_file: StrPath | None = None,
    ) -> None:
        if not 0.1 <= checked_number("the time-out", timeout_s) <= 3600.0:
            raise InputError(f"the time-out must be 0.1 to 3600 seconds; found {timeout_s:g}")
        self.timeout_s = timeout_s
        self.warnings: list[str] = []
        self._secure, self._host, self._port, self._path = _parts(url)
        shown = f"[{self._host}]" if ":" in self._host else self._host
        # Without what a user may have put before an @ or behind a ?, which is refused.
        self.address = f"{'https' if self._secure else 'http'}://{shown}:{self._port}{self._path}"
        self._context: ssl.SSLContext | None = None
        if ca_file is not None and not self._secure:
            raise InputError(f"{self.address}: a file of certificates goes with https")
        if self._secure:
            self._context = _context(ca_file)
        self._token = None if token_file is None else _token(token_file)
        if self._token is not None and not (self._secure or _is_this_machine(self._host)):
            raise InputError(
                f"{self.address}: a token would go through the network unencrypted; give an address of https"
            )

    def now(self) -> float:
        """Return the server's own time in s since 1970, by which its samples are dated."""
        data = self._ask("query", {"query": "time()"})
        try:
            (_, text) = data["result"]
            found = float(text)
        except (KeyError, TypeError, ValueError, OverflowError):
            found = math.nan
        if not 0.0 <= found < _LATEST_S:
            raise self._strange("the answer to time() is no time")
        return found

    def instant(self, query: str, at: float) -> list[tuple[Mapping[str, str], float]]:
        """Return the values of a query at a time, each with its labels."""
        data = self._ask("query", {"query": query, "time": f"{at:.3f}"})
        kind, result = self._result(data)
        if kind == "scalar":
            return [({}, self._sample(result)[1])]
        if kind != "vector":
            raise InputError(f"{self.address}: the query {_shown(query)} gives {kind}, not numbers at one time")
        found: list[tuple[Mapping[str, str], float]] = []
        for entry in result:
            labels, _ = self._labels(entry)
            found.append((labels, self._sample(entry.get("value"))[1]))
        return found

    def over_time(self, query: str, start: float, step_s: float, count: int) -> list[Series]:
        """Return the values of a query at `count` times from `start` on; those without a value are left out."""
        found: dict[tuple[tuple[str, str], ...], list[Series]] = {}
        for first in range(0, count, _MOST_POINTS):
            last = min(count, first + _MOST_POINTS) - 1
            answer = self._ask(
                "query_range",
                {
                    "query": query,
                    "start": f"{start + first * step_s:.3f}",
                    "end": f"{start + last * step_s:.3f}",
                    "step": f"{step_s:.3f}",
                },
            )
            self._gather(answer, found)
        return _joined(found)

    def samples(self, selector: str, start: float, end: float, on_progress: Progress | None = None) -> list[Series]:
        """Return the samples of series as they were scraped, from `start` to `end`."""
        found: dict[tuple[tuple[str, str], ...], list[Series]] = {}
        begin, piece = start, _FIRST_PIECE_S
        while begin < end:
            until = min(end, begin + piece)
            if on_progress is not None:
                on_progress(f"reading {selector}", int((begin - start) / piece), math.ceil((end - start) / piece))
            try:
                query = f"{selector}[{math.ceil((until - begin) * 1000.0)}ms]"
                size = self._gather(self._ask("query", {"query": query, "time": f"{until:.3f}"}), found)
            except AnswerTooLargeError:
                if piece <= _SHORTEST_PIECE_S:
                    raise
                piece = max(_SHORTEST_PIECE_S, min(piece, until - begin) / 2)
                continue
            begin = until
            if size < _MOST_VALUES / 100:
                piece = min(_LONGEST_PIECE_S, 2 * piece)
        return _joined(found)

    def _gather(self, data: Any, found: dict[tuple[tuple[str, str], ...], list[Series]]) -> int:
        """Add the series of an answer to those before; return how many samples there are."""
        kind, result = self._result(data)
        if kind != "matrix":
            raise self._strange(f"{kind} where samples over time are asked for")
        count = 0
        for entry in result:
            labels, key = self._labels(entry)
            values = entry.get("values")
            try:
                times = np.array([float(pair[0]) for pair in values])
                numbers = np.array([float(pair[1]) for pair in values])
            except (TypeError, ValueError, IndexError, KeyError, OverflowError):
                raise self._strange("a sample is no pair of a time and a number") from None
            if not (np.isfinite(times).all() and (np.diff(times) > 0.0).all()):
                raise self._strange("samples are not in the order of time")
            count += len(times)
            found.setdefault(key, []).append(Series(labels, times, numbers))
        return count

    def _result(self, data: Any) -> tuple[str, Any]:
        if not isinstance(data, dict) or not isinstance(data.get("resultType"), str):
            raise self._strange("an answer has no result")
        result = data.get("result")
        if not isinstance(result, list):
            raise self._strange("a result is no list")
        return data["resultType"], result

    def _labels(self, entry: Any) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
        labels = entry.get("metric") if isinstance(entry, dict) else None
        if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
            raise self._strange("a series has no labels")
        return labels, tuple(sorted(labels.items()))

    def _sample(self, pair: Any) -> tuple[float, float]:
        try:
            return float(pair[0]), float(pair[1])
        except (TypeError, ValueError, IndexError, KeyError, OverflowError):
            raise self._strange("a sample is no pair of a time and a number") from None

    def _strange(self, what: str) -> InputError:
        return InputError(f"{self.address}: {what}; is it a Prometheus?")

    def _ask(self, what: str, parameters: Mapping[str, str]) -> Any:
        """Ask one question; return the answer's data."""
        path, body = f"{self._path}/api/v1/{what}", urlencode(parameters)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        with self._connected() as connection:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            self._check_status(response)
            content = self._read(response)
        return self._data(response.status, content, parameters["query"])

    @contextmanager
    def _connected(self) -> Iterator[HTTPConnection]:
        """Connect, and cut the connection when time is up: a limit on each read is none on all of them."""
        if self._context is None:
            connection = HTTPConnection(self._host, self._port, timeout=self.timeout_s)
        else:
            connection = HTTPSConnection(self._host, self._port, timeout=self.timeout_s, context=self._context)
        over: list[bool] = []

        def end(held: socket.socket) -> None:
            over.append(True)
            with suppress(OSError):
                # The plain one, also where the connection is encrypted.
                socket.socket.shutdown(held, socket.SHUT_RDWR)

        timer = None
        try:
            connection.connect()
            timer = Timer(self.timeout_s, end, (connection.sock,))
            timer.daemon = True
            timer.start()
            yield connection
            if over:  # what came so far may look whole
                raise TimeoutError
        except ssl.SSLCertVerificationError as error:
            raise InputError(
                f"{self.address}: its certificate is not trusted ({error.verify_message}); --ca-file names others"
            ) from None
        except (OSError, HTTPException, ValueError) as error:
            if over or isinstance(error, TimeoutError):
                raise InputError(
                    f"{self.address}: no answer within {self.timeout_s:g} s; give a longer --timeout, or ask for less"
                ) from None
            why = error.strerror if isinstance(error, OSError) and error.strerror else explained(error)
            raise InputError(f"{self.address}: cannot be asked ({why})") from None
        finally:
            if timer is not None:
                timer.cancel()
            connection.close()

    def _check_status(self, response: HTTPResponse) -> None:
        """Refuse answers that hold none, before anything of them is read."""
        if 300 <= response.status < 400:
            there = urlsplit(response.headers.get("Location") or "")
            where = f" to {cut(f'{there.scheme}://{there.hostname}{there.path}')}" if there.hostname else ""
            raise InputError(
                f"{self.address}: sends on{where} (HTTP {response.status}), which is not followed; give the address"
                " where the answers are"
            )
        if response.status in {401, 403}:
            given = "the token is not taken" if self._token is not None else "--token-file names one with a token"
            raise InputError(f"{self.address}: refuses access (HTTP {response.status}); {given}")

    def _read(self, response: HTTPResponse) -> bytes:
        too_large = AnswerTooLargeError(
            f"{self.address}: an answer has more than {MOST_ANSWER_BYTES // 2**20} MiB; ask for fewer series (--select)"
        )
        if response.length is not None and response.length > MOST_ANSWER_BYTES:
            raise too_large
        content = bytearray()
        while piece := response.read(_PIECE):
            content += piece
            if len(content) > MOST_ANSWER_BYTES:
                raise too_large
        return bytes(content)

    def _data(self, status: int, content: bytes, query: str) -> Any:
        try:
            answer = parse_json(content.decode("utf-8"), self.address, _MOST_VALUES)
        except (InputError, UnicodeDecodeError):
            code = "" if status == 200 else f" (HTTP {status})"
            raise self._strange(f"what it answers is no JSON{code}") from None
        if not isinstance(answer, dict) or answer.get("status") not in ("success", "error"):
            raise self._strange(f"its JSON is no answer of Prometheus (HTTP {status})")
        if answer["status"] == "error":
            said = cut(f"{answer.get('errorType')}: {answer.get('error')}".replace("\n", " "))
            raise InputError(f"{self.address}: refuses the query {_shown(query)} ({said})")
        for name in ("warnings", "infos"):
            said_besides = answer.get(name) or []
            if not isinstance(said_besides, list):
                raise self._strange(f"its {name} are no list")
            for text in said_besides:
                if isinstance(text, str) and cut(text) not in self.warnings:
                    self.warnings.append(cut(text))
        return answer.get("data")


def _joined(found: Mapping[Any, list[Series]]) -> list[Series]:
    """Join the pieces of every series; the ends of pieces may be in both."""
    joined = []
    for pieces in found.values():
        times = np.concatenate([piece.times for piece in pieces])
        values = np.concatenate([piece.values for piece in pieces])
        times, first = np.unique(times, return_index=True)
        joined.append(Series(pieces[0].labels, times, values[first]))
    return joined


def _parts(url: str) -> tuple[bool, str, int, str]:
    """Take an address apart: whether it is encrypted, host, port, and the path before the API's."""
    wanted = "an address such as http://127.0.0.1:9090"
    if not isinstance(url, str) or any(not sign.isprintable() or sign.isspace() for sign in url):
        raise InputError(f"Prometheus: give {wanted}; found {describe(url)}")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname
        (host or "").encode("idna")
    except ValueError:
        raise InputError(f"Prometheus: give {wanted}; host or port are not as they should be") from None
    if "@" in parts.netloc:  # not shown: there may be a password
        raise InputError("Prometheus: give no name and password in the address; --token-file names a file with a token")
    if parts.scheme not in {"http", "https"} or not host:
        raise InputError(f"Prometheus: give {wanted} (http or https); found {describe(url)}")
    if parts.query or parts.fragment:
        raise InputError(f"Prometheus: give {wanted}, without anything behind a ? or #")
    secure = parts.scheme == "https"
    path = parts.path.rstrip("/").removesuffix("/api/v1")
    if not path.isascii():
        raise InputError(f"Prometheus: give {wanted}; the path {describe(path)} is not ASCII")
    return secure, host, port or (443 if secure else 80), path


def _context(ca_file: StrPath | None) -> ssl.SSLContext:
    if ca_file is None:
        return ssl.create_default_context()
    path = as_path(ca_file)
    try:
        return ssl.create_default_context(cadata=read_text(path))
    except (ssl.SSLError, ValueError):
        raise InputError(f"{path}: holds no certificates in PEM form") from None


def _token(path: StrPath) -> str:
    token = read_text(path, _MOST_TOKEN_BYTES).strip()
    if not token or not token.isascii() or any(sign.isspace() or not sign.isprintable() for sign in token):
        # Whatever it is, it is not shown.
        raise InputError(f"{as_path(path)}: is no token: one line of printable ASCII without spaces")
    return token


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(query: str) -> str:
    return cut(describe(query))
