"""The door of the service: who comes in, and how much a request may bring."""

import asyncio
from collections.abc import Collection
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from igniter_opt.serve.problems import problem
from igniter_opt.serve.settings import ServiceLimits, Token

# Seconds for a request's body to arrive.
_BODY_S = 30.0
# Said to everybody: whether the service is there.
OPEN_PATHS = ("/healthz",)


class Door:
    """Refuses requests before anything looks at them.

    Parameters
    ----------
    token
        What clients must show; without one, only this machine's own can come.
    hosts
        Without a token, the names by which the service is called: a web page from elsewhere, whose name was made to
        lead here, is not served.
    """

    def __init__(self, app: ASGIApp, limits: ServiceLimits, token: Token | None, hosts: Collection[str]) -> None:
        self._app, self._limits, self._token = app, limits, token
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refused(scope)
        if refused is not None:
            await problem(*refused)(scope, receive, send)
            return
        body = _Body(receive, self._limits.body_bytes)
        if scope["method"] in ("POST", "PUT", "PATCH"):
            wrong = await body.read(dict(scope["headers"]).get(b"content-length"))
            if wrong is not None:
                await problem(*wrong, {"Connection": "close"})(scope, receive, send)
                return
        await self._app(scope, body.receive, send)

    def _refused(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        headers = dict(scope["headers"])
        if scope["method"] == "POST" and not _is_json(headers.get(b"content-type", b"")):
            # Also what keeps a web page from asking: browsers send JSON elsewhere only where they are allowed to.
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON, with the header Content-Type: application/json", {}
        if self._token is None:
            host = headers.get(b"host", b"").decode("latin-1").lower()
            name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
            if name not in self._hosts:
                return HTTPStatus.MISDIRECTED_REQUEST, "the service is not called by this name (header Host)", {}
            return None
        if scope["path"] in OPEN_PATHS:
            return None
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"bearer" and self._token.admits(given.strip()):
            return None
        challenge = {"WWW-Authenticate": "Bearer"}
        return HTTPStatus.UNAUTHORIZED, "give the service's token (header Authorization: Bearer ...)", challenge


def _is_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"application/json"


class _Body:
    """A request's body, read before the request is served."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most = receive, most
        self._messages: list[Message] = []

    async def read(self, length: bytes | None) -> tuple[int, str] | None:
        """Read all of it; return what is wrong with it."""
        too_large = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request may have {self._most:,} bytes here"
        if length is not None and (not length.isdigit() or int(length[:20]) > self._most):
            return too_large
        found = 0
        try:
            async with asyncio.timeout(_BODY_S):
                while True:
                    message = await self._receive()
                    self._messages.append(message)
                    found += len(message.get("body", b""))
                    if found > self._most:
                        return too_large
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return None
        except TimeoutError:
            return HTTPStatus.REQUEST_TIMEOUT, f"the request did not arrive within {_BODY_S:g} s"

    async def receive(self) -> Message:
        """Give out what was read, and then what comes."""
        return self._messages.pop(0) if self._messages else await self._receive()
