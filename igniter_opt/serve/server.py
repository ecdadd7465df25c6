"""The server below the interface (uvicorn): it ends in an orderly way when it is told to."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from igniter_opt.serve.streams import Closing

# Connections at once, those that follow a job among them.
_MOST_CONNECTIONS = 2000
# For answers under way, after those that would go on for long were ended.
_LAST_ANSWERS_S = 5


class _Server(uvicorn.Server):
    """Ends upon SIGTERM and Ctrl-C without raising either again, since what they ask for is done then."""

    def __init__(self, config: uvicorn.Config, closing: Closing, on_listening: Callable[[], object]) -> None:
        super().__init__(config)
        self._closing, self._on_listening = closing, on_listening

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take both signals for as long as the server runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; upon the second signal without waiting for anybody."""
        self._closing.begin()
        super().handle_exit(signal.SIGINT, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say so."""
        await super().startup(sockets)
        self._on_listening()


def run_server(app: FastAPI, opened: socket.socket, closing: Closing, on_listening: Callable[[], object]) -> None:
    """Serve on a socket until SIGTERM or Ctrl-C."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
        lifespan="off",
    )
    asyncio.run(_Server(config, closing, on_listening).serve(sockets=[opened]))
