"""What the annotation page's server and the service share: request bodies, refusals, headers, sockets.

Requests are handled here before any framework sees them. A body is counted and timed as it arrives, because
what a stranger says of its length may be wrong. A connection on which nothing arrives is closed.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fewbox.errors import OutputError, SettingError

_LINGER_SECONDS = 0.5
"""For a client that is still sending to read a refusal."""
_LINGER_BYTES = 20_000_000
PAGE_HEADERS = {
    # Scripts, styles, pictures and requests from this server only; nothing is embedded, and nobody embeds us.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Of all answers: what a browser may do with a page."""


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A request is refused: it is answered with an error.

    Args:
        status: the answer's HTTP status.
        error: what is wrong.
        hint: what to do about it.
        headers: more headers of the answer.
    """

    def __init__(self, status: int, error: str, hint: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.hint = hint
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        """The answer's body, JSON."""
        return json.dumps({"error": self.error, "hint": self.hint}).encode()


def header_values(scope: Scope, name: bytes) -> list[str]:
    """All values of the request's header ``name``, given in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def same_secret(given: str, secret: str) -> bool:
    """Whether the two are equal, compared in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode(), secret.encode())


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int, seconds: float, hint: str) -> bytes:
    """The whole body of a request.

    Args:
        scope: the request.
        receive: where its messages come from.
        max_bytes: how large the body may be.
        seconds: how long it may take to arrive.
        hint: what to do about a body that is too large.

    Raises:
        Refused: it is too large, too slow, or broken off.
    """
    too_large = Refused(413, f"the body is larger than {max_bytes} bytes", hint)
    lengths = header_values(scope, b"content-length")
    if any(len(text) > 18 or not text.isdecimal() or int(text) > max_bytes for text in lengths):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused(400, "the request was broken off", "send it again")
                body += message.get("body", b"")
                if len(body) > max_bytes:
                    raise too_large
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as error:
        raise Refused(408, "the body took too long to arrive", "send it again") from error


def replaying(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives ``body``, which was read already, to the application once more."""
    left: bytes | None = body

    async def replay() -> Message:
        nonlocal left
        if left is None:
            return await receive()  # nothing is left but the end of the connection
        message: Message = {"type": "http.request", "body": left, "more_body": False}
        left = None
        return message

    return replay


def adding_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """A ``send`` for the application that adds ``headers`` to its answers."""
    encoded = _encode(headers)

    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *encoded]
        await send(message)

    return send_more


async def refuse(refused: Refused, receive: Receive, send: Send, headers: Mapping[str, str]) -> None:
    """Answer with an error and close the connection.

    What the client is still sending is thrown away first, for a moment and up to some megabytes: closing a
    connection with unread bytes resets it, and the answer may be lost.
    """
    body = refused.body
    stated = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **headers,
        **refused.headers,
    }
    await send({"type": "http.response.start", "status": refused.status, "headers": _encode(stated)})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            await _throw_away(receive)
    await send({"type": "http.response.body"})


async def _throw_away(receive: Receive) -> None:
    """Read the rest of a body; of a large one only a part, then wait for ever."""
    left = _LINGER_BYTES
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
    await asyncio.Event().wait()


def _encode(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


HEADER_SECONDS = 10.0
"""For the head of a request to arrive."""
KEEP_ALIVE_SECONDS = 75
"""How long a connection may be idle: longer than the 60 s of the usual proxies.

One that is closed just as its proxy sends the next request is answered with 502.
"""


class _TimedProtocol(H11Protocol):
    """uvicorn's HTTP, with a time limit for a request's head.

    uvicorn alone waits without end for the rest of a head that has begun.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        """Stop waiting once a request is here, begin again when there is only a part of the next."""
        super().data_received(data)
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _wait_for_request(self) -> None:
        waiting = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if not waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif waiting and self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)


def server_settings(
    app: Any,
    *,
    lifespan: bool,
    max_connections: int,
    stop_seconds: int,
    certificate: Path | None = None,
    key: Path | None = None,
) -> uvicorn.Config:
    """The settings of our servers: time limits, little said about themselves, nothing believed of proxies.

    Args:
        app: the ASGI application.
        lifespan: whether the application is told of start and stop.
        max_connections: further ones are refused.
        stop_seconds: how long stopping waits for what is under way.
        certificate: a file with the certificate, and those above it, to serve https.
        key: the file with its key, if that is another one.
    """
    return uvicorn.Config(
        app,
        http=_TimedProtocol,
        ws="none",
        lifespan="on" if lifespan else "off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # a request cannot claim another sender
        server_header=False,
        limit_concurrency=max_connections,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=stop_seconds,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )


def require_certificate(certificate: Path, key: Path | None) -> None:
    """Check that a certificate can be served.

    Raises:
        SettingError: a file is missing or no PEM file, or the key is that of another certificate.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # which ssl.SSLError is
        says = f"{certificate}: cannot be used as a certificate: {error.strerror or error}"
        hint = "give PEM files that belong together: --certificate cert.pem --key key.pem"
        raise SettingError(says, hint=hint) from error


EVERYWHERE = ("0.0.0.0", "::")
"""What stands for all addresses of this machine."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens at ``host``."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_names() -> set[str]:
    """The names that a network may know this machine by, in lower case."""
    name = socket.gethostname().lower()
    return {name, f"{name.partition('.')[0]}.local"}


def address_for_others(host: str) -> str:
    """The host by which others reach a server that listens at ``host``."""
    if host not in EVERYWHERE:
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing; says which address the way out begins at
        return str(probe.getsockname()[0])
    return socket.gethostname()


def listen(host: str, ports: Sequence[int], backlog: int) -> socket.socket:
    """A socket that listens at ``host`` and the first of ``ports`` that is free; port 0 is any free one.

    Raises:
        OutputError: there is no such address here, or all the ports are in use or not allowed.
    """
    for port in ports:
        try:
            return _listen(host, port, backlog)
        except socket.gaierror as error:
            hint = "give an address of this machine, such as 0.0.0.0 for all"
            raise OutputError(f"cannot listen at {host}: no such address", hint=hint) from error
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
    """Let a new server follow a killed one at once, but never two listen together."""
    exclusive: Any = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)  # Windows, where reuse means two at once
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if exclusive is None else exclusive, 1)
