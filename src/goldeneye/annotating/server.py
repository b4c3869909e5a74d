"""The server behind the page: on this machine alone, and not to be held up by slow clients."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import webbrowser
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from goldeneye.annotating.app import make_app
from goldeneye.annotating.learner import Learner
from goldeneye.annotating.token import token_of
from goldeneye.data.project import Project
from goldeneye.errors import OutputError

HOST = "127.0.0.1"
PORT = 8931
"""Where to begin to look for a free port: always the same, so that an open page finds its server again."""
_PORTS_TRIED = 20
HEADER_SECONDS = 10.0
"""For the head of a request to arrive."""
MAX_CONNECTIONS = 100
"""A browser opens six to a server."""


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, but a connection on which no request arrives in time is closed.

    uvicorn alone waits without end for the rest of a head that has begun.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._patience: asyncio.TimerHandle | None = None
        self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        """Stop waiting once a request is here, begin again when there is only a part of the next."""
        super().data_received(data)
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        if self._patience is not None:
            self._patience.cancel()

    def _wait_for_request(self) -> None:
        waiting = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if not waiting and self._patience is not None:
            self._patience.cancel()
            self._patience = None
        elif waiting and self._patience is None:
            self._patience = self.loop.call_later(HEADER_SECONDS, self.transport.close)


class AnnotateServer:
    """The page of one project at one address.

    Args:
        project: the photos.
        learner: who proposes boxes.
        port: the port; if None, the first free one from ``PORT`` on.

    Raises:
        OutputError: the port is in use, or the token cannot be kept.
    """

    def __init__(self, project: Project, learner: Learner, port: int | None = None) -> None:
        self.learner = learner
        self.socket = listen(port)
        self.port: int = self.socket.getsockname()[1]
        token = token_of(project.folder)
        self.url = f"http://{HOST}:{self.port}/?token={token}"
        config = uvicorn.Config(
            make_app(project, learner, token=token, port=self.port),
            http=PatientProtocol,
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            proxy_headers=False,  # nobody may say in whose name they ask
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)

    def run(self, *, open_browser: bool = False) -> None:
        """Serve until Ctrl-C."""
        if open_browser:
            # The socket listens already, so the browser's request waits until it is answered.
            threading.Thread(target=webbrowser.open, args=(self.url,), daemon=True).start()
        try:
            self._server.run(sockets=[self.socket])
        finally:
            self.learner.close()
            self.socket.close()

    def stop(self) -> None:
        """End :meth:`run`, from another thread."""
        self._server.should_exit = True


def listen(port: int | None) -> socket.socket:
    """A socket that listens on this machine alone.

    Raises:
        OutputError: the port is in use, or all that are tried.
    """
    ports = range(PORT, PORT + _PORTS_TRIED) if port is None else [port]
    for number in ports:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            _allow_rebinding(listener)
            listener.bind((HOST, number))
            listener.listen(MAX_CONNECTIONS)
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            if number != ports[-1]:
                continue
            tried = f"port {port} is" if port is not None else f"ports {ports[0]} to {ports[-1]} are"
            hint = "choose another with --port, or end the program that uses it"
            raise OutputError(f"{tried} in use, or not allowed", hint=hint) from error
        return listener
    raise AssertionError("there is at least one port")


def _allow_rebinding(listener: socket.socket) -> None:
    """Let a server that was killed be followed by another one at once, but never two listen together."""
    exclusive: Any = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)  # Windows, where reuse means two at once
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if exclusive is None else exclusive, 1)
