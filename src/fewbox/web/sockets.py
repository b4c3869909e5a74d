"""Sockets to listen on, and connections that are not held open for nothing."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fewbox.errors import OutputError

HEADER_SECONDS = 10.0
"""For the head of a request to arrive."""


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


def server_settings(app: Any, *, lifespan: bool, max_connections: int, stop_seconds: int) -> uvicorn.Config:
    """How a server of ours meets strangers: patient with nobody, telling and believing little.

    Args:
        app: the ASGI application.
        lifespan: whether the application wants to be told of start and stop.
        max_connections: further ones are refused.
        stop_seconds: how long a stop waits for what is under way.
    """
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="on" if lifespan else "off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # nobody may say in whose name they ask
        server_header=False,
        limit_concurrency=max_connections,
        timeout_graceful_shutdown=stop_seconds,
    )


def listen(host: str, ports: Sequence[int], backlog: int) -> socket.socket:
    """A socket that listens at ``host`` and the first of ``ports`` that is free; port 0 is any free one.

    Raises:
        OutputError: there is no such address here, or all the ports are in use or not allowed.
    """
    for port in ports:
        try:
            return _listen(host, port, backlog)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                hint = "give an address of this machine"
                raise OutputError(f"cannot listen at {host}: {error.strerror}", hint=hint) from error
    tried = f"port {ports[0]} is" if len(ports) == 1 else f"ports {ports[0]} to {ports[-1]} are"
    hint = "choose another with --port, or end the program that uses it"
    raise OutputError(f"{tried} in use, or not allowed", hint=hint)


def _listen(host: str, port: int, backlog: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        _allow_rebinding(listener)
        listener.bind(address)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def _allow_rebinding(listener: socket.socket) -> None:
    """Let a server that was killed be followed by another one at once, but never two listen together."""
    exclusive: Any = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)  # Windows, where reuse means two at once
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if exclusive is None else exclusive, 1)
