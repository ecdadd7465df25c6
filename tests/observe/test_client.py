"""A Prometheus over real HTTP that behaves in every way, and what a user is told then."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.observe import client
from igniter_opt.observe.client import Prometheus
from tests.observe.fake import NOW, Fake, Handler, vector

SECRET = "t0k3n-of-mine"  # noqa: S105


def test_answers_are_read(fake: Fake) -> None:
    fake.answers["up"] = vector([({"job": "a"}, 1.0), ({"job": "b"}, float("nan"))])
    fake.answers["1 + 1"] = {"resultType": "scalar", "result": [NOW, "2"]}
    server = Prometheus(f"{fake.url}/")
    assert server.now() == NOW
    first, second = server.instant("up", NOW)
    assert first == ({"job": "a"}, 1.0) and second[0] == {"job": "b"} and np.isnan(second[1])
    assert server.instant("1 + 1", NOW) == [({}, 2.0)]
    assert [path for path, _, _ in fake.asked] == ["/api/v1/query"] * 3
    assert not any("Authorization" in headers for _, _, headers in fake.asked)


def test_samples_of_a_long_time_are_read_in_pieces_and_joined(fake: Fake) -> None:
    times = NOW - 86400.0 * 7 + 60.0 * np.arange(7 * 1440)
    fake.add("x", {"a": "1"}, times, np.arange(len(times)))
    fake.add("x", {"a": "2"}, times[5000:5010], np.arange(10))
    first, second = Prometheus(fake.url).samples("x", NOW - 86400.0 * 7, NOW)
    assert (first.times == times).all() and (first.values == np.arange(len(times))).all()
    assert (second.times == times[5000:5010]).all()
    assert 4 < len(fake.asked) < 30


def test_pieces_that_are_too_large_are_halved(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_ANSWER_BYTES", 4000)
    times = NOW - 86400.0 + 60.0 * np.arange(1440)
    fake.add("x", {}, times, np.arange(1440))
    (found,) = Prometheus(fake.url).samples("x", NOW - 86400.0, NOW)
    assert (found.values == np.arange(1440)).all()
    monkeypatch.setattr(client, "MOST_ANSWER_BYTES", 100)
    with pytest.raises(InputError, match="ask for fewer series"):
        Prometheus(fake.url).samples("x", NOW - 86400.0, NOW)


def test_a_query_over_many_times_is_asked_in_pieces(fake: Fake) -> None:
    def answer(parameters: Mapping[str, str]) -> object:
        start, end, step = (float(parameters[name]) for name in ("start", "end", "step"))
        values = [[t, str(t - NOW)] for t in np.arange(start, end + step / 2, step).tolist()]
        assert len(values) <= 11_000
        return {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}

    fake.answers["f(x)"] = answer
    (found,) = Prometheus(fake.url).over_time("f(x)", NOW, 2.0, 25_000)
    assert found.values == pytest.approx(2.0 * np.arange(25_000))


def test_empty_answers(fake: Fake) -> None:
    server = Prometheus(fake.url)
    assert server.samples("nothing", NOW - 100, NOW) == []
    assert server.instant("nothing", NOW) == []


def test_warnings_are_kept_once(fake: Fake) -> None:
    fake.warnings = ["store 3 does not answer", "store 3 does not answer"]
    server = Prometheus(fake.url)
    server.now()
    server.now()
    assert server.warnings == ["store 3 does not answer"]


BODIES = {
    b"<html>hello</html>": "what it answers is no JSON",
    b"\xff\xfe": "what it answers is no JSON",
    b"": "what it answers is no JSON",
    b"[1]": "its JSON is no answer of Prometheus",
    b'{"status": "success"}': "an answer has no result",
    b'{"status": "success", "data": {"resultType": "matrix", "result": 3}}': "a result is no list",
    b'{"status": "success", "data": {"resultType": "matrix", "result": [3]}}': "a series has no labels",
    b'{"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {"a": 3}}]}}': "has no labels",
    b'{"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [["a", 1]]}]}}': (
        "a sample is no pair"
    ),
    b'{"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[2, "1"], [1, "1"]]}'
    b"]}}": "not in the order of time",
    b'{"status": "success", "data": {"resultType": "string", "result": []}}': "string where samples",
    b'{"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[1'
    + b"0" * 400
    + b', "1"]]}]}}': "a sample is no pair",
    b'{"status": []}': "its JSON is no answer of Prometheus",
    b'{"status": {}}': "its JSON is no answer of Prometheus",
    b'{"status": "success", "warnings": 5}': "its warnings are no list",
    b'{"status": "success", "infos": "none"}': "its infos are no list",
    b'{"status": "success", "data": ' + b"[" * 100 + b"]" * 100 + b"}": "no JSON",
}


@pytest.mark.parametrize("body", list(BODIES))
def test_answers_that_make_no_sense(fake: Fake, body: bytes) -> None:
    fake.behave = lambda handler, _: handler.send(200, body) is None
    with pytest.raises(InputError, match=BODIES[body]) as caught:
        Prometheus(fake.url).samples("x", NOW - 60, NOW)
    assert fake.url in str(caught.value)


@pytest.mark.parametrize(
    "value", ["NaN", "+Inf", "-Inf", "-1", "1e300", "", None, [], pytest.param(10**400, id="huge")]
)
def test_a_time_that_is_none(fake: Fake, value: object) -> None:
    body = json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [NOW, value]}}).encode()
    fake.behave = lambda handler, _: handler.send(200, body) is None
    with pytest.raises(InputError, match=r"the answer to time\(\) is no time"):
        Prometheus(fake.url).now()


def test_errors_of_the_query_are_told(fake: Fake) -> None:
    said = json.dumps({"status": "error", "errorType": "bad_data", "error": "parse error:\nunexpected end"}).encode()
    fake.behave = lambda handler, _: handler.send(400, said) is None
    with pytest.raises(InputError, match=r"refuses the query 'up\{' \(bad_data: parse error: unexpected end\)"):
        Prometheus(fake.url).instant("up{", NOW)
    fake.behave = lambda handler, _: handler.send(502, b"<html>bad gateway</html>") is None
    with pytest.raises(InputError, match=r"no JSON \(HTTP 502\)"):
        Prometheus(fake.url).instant("up", NOW)


def test_huge_answers_are_not_read(fake: Fake) -> None:
    def endless(handler: Handler, _: Mapping[str, str]) -> bool:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            for _ in range(10_000):
                handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
        except OSError:
            pass
        return True

    fake.behave = endless
    with pytest.raises(InputError, match="more than 32 MiB"):
        Prometheus(fake.url).now()

    def claims(handler: Handler, _: Mapping[str, str]) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**12))
        handler.end_headers()
        return True

    fake.behave = claims
    with pytest.raises(InputError, match="more than 32 MiB"):
        Prometheus(fake.url).now()


@pytest.mark.parametrize("what", ["nothing", "head", "body"])
def test_slow_answers_are_given_up(fake: Fake, what: str) -> None:
    """A byte now and then keeps within any limit on single reads."""

    def slow(handler: Handler, _: Mapping[str, str]) -> bool:
        done = time.monotonic() + 4
        try:
            if what == "body":
                handler.send_response(200)
                handler.send_header("Content-Length", "1000")
                handler.end_headers()
            if what == "head":
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            while time.monotonic() < done:
                if what != "nothing":
                    handler.wfile.write(b" ")
                    handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass
        return True

    fake.behave = slow
    began = time.monotonic()
    with pytest.raises(InputError, match=r"no answer within 0\.3 s"):
        Prometheus(fake.url, timeout_s=0.3).now()
    assert time.monotonic() - began < 3.5


def test_nobody_listens_or_hangs_up(fake: Fake) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(InputError, match=r"cannot be asked \(Connection refused\)"):
        Prometheus(url).now()

    def hangs_up(handler: Handler, _: Mapping[str, str]) -> bool:
        handler.connection.shutdown(socket.SHUT_RDWR)
        return True

    fake.behave = hangs_up
    with pytest.raises(InputError, match="cannot be asked"):
        Prometheus(fake.url).now()


def test_redirects_are_not_followed_and_a_token_goes_nowhere_else(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    there: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=lambda: there.append(other.accept()[0].recv(10)), daemon=True).start()
        location = f"http://user:word@127.0.0.1:{other.getsockname()[1]}/login?a={SECRET}"
        fake.behave = lambda handler, _: handler.send(302, b"", Location=location) is None
        with pytest.raises(InputError, match=r"sends on to http://127\.0\.0\.1/login \(HTTP 302\)") as caught:
            Prometheus(fake.url, token_file=tmp_path / "token").now()
    assert not there
    assert SECRET not in str(caught.value) and "word" not in str(caught.value)
    (asked,) = fake.asked
    assert asked[2]["Authorization"] == f"Bearer {SECRET}"


def test_no_proxy_is_used(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert Prometheus(fake.url).now() == NOW


def test_what_a_token_may_be_and_where_it_goes(fake: Fake, tmp_path: Path) -> None:
    file = tmp_path / "token"
    for content in ("", "two words", "line\r\nX-More: 1", "ümlaut"):
        file.write_text(content)
        with pytest.raises(InputError, match="is no token") as caught:
            Prometheus(fake.url, token_file=file)
        assert not content or content not in str(caught.value)
    file.write_text(SECRET)
    with pytest.raises(InputError, match="unencrypted; give an address of https"):
        Prometheus("http://prometheus.example:9090", token_file=file)
    with pytest.raises(InputError, match="no such file"):
        Prometheus(fake.url, token_file=tmp_path / "none")
    fake.behave = lambda handler, _: handler.send(401, b"no") is None
    with pytest.raises(InputError, match=r"HTTP 401\); the token is not taken") as caught:
        Prometheus(fake.url, token_file=file).now()
    assert SECRET not in str(caught.value)
    with pytest.raises(InputError, match="--token-file names one"):
        Prometheus(fake.url).now()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:9090",
        "ftp://host",
        "file:///etc/passwd",
        "http://",
        "http://host:99999",
        "http://host:x",
        "http://ho st",
        "http://host\n",
        "http://host?x=1",
        "http://host#x",
        "http://host/ü",
        "http://[::1",
        "http://" + "a" * 70 + ".example",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InputError, match="give an address such as"):
        Prometheus(url)


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(InputError, match="no name and password") as caught:
        Prometheus("http://me:secret@host:9090")
    assert "secret" not in str(caught.value)


def test_a_path_before_the_api(fake: Fake) -> None:
    assert Prometheus(f"{fake.url}/prometheus/api/v1/").now() == NOW
    assert fake.asked[0][0] == "/prometheus/api/v1/query"


def test_certificates(tmp_path: Path) -> None:
    """A server with a certificate of its own is refused, and answers once its certificate is named."""
    import ssl

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=False, capture_output=True,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("no openssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    body = b'{"status": "success", "data": {"resultType": "scalar", "result": [1, "5.5"]}}'
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                plain, _ = listener.accept()
                try:
                    with context.wrap_socket(plain, server_side=True) as held:
                        asked = b""
                        while b"query=" not in asked:
                            asked += held.recv(65536)
                        held.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                except OSError:
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(InputError, match="certificate is not trusted"):
            Prometheus(url).now()
        assert Prometheus(url, ca_file=certificate).now() == 5.5
        thread.join(5)
    with pytest.raises(InputError, match="holds no certificates"):
        Prometheus(url, ca_file=key)
    with pytest.raises(InputError, match="goes with https"):
        Prometheus("http://127.0.0.1:1", ca_file=certificate)
