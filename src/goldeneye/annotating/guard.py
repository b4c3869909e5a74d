"""Who may ask what: every request passes here first.

The server listens on 127.0.0.1 alone, but any web page that is open in a browser of this
machine, and any other user of it, can send requests there. So a request is answered only if it

* is addressed to this server: a name that a stranger's DNS has turned to 127.0.0.1 is not;
* does not come from another page: ``Origin`` and ``Sec-Fetch-Site`` say where it comes from, and
  other pages cannot send ``application/json`` without being asked first;
* carries the token: once in the address that was printed, from then on in a cookie that scripts
  cannot read and other sites' pages do not send;
* is small and comes without dawdling.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Iterable
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 1_000_000
"""More than ten thousand boxes in one change."""
BODY_SECONDS = 10.0
"""For a body to arrive, on the machine that it was sent from."""
ANSWER_SECONDS = 60.0
"""For an answer to be made and taken: the largest photos take seconds to decode."""

LINGER_SECONDS = 0.5
"""For an answer to be read by a client that is still sending."""

HEADERS = {
    # Scripts, styles, pictures and requests from this server only; nothing is embedded, and nobody embeds us.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_RELOAD = "open the address that 'goldeneye annotate' has printed"
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


_JSON = (b"content-type", b"application/json")
_NOT_KEPT = (b"cache-control", b"no-store")
_BOUNCE = b'<!doctype html><meta http-equiv="refresh" content="0; url=/">'


class _Refused(Exception):  # noqa: N818 - an answer, not a fault
    def __init__(self, status: int, error: str, hint: str) -> None:
        super().__init__(error)
        self.status = status
        self.body = json.dumps({"error": error, "hint": hint}).encode()


class Guard:
    """Lets those requests through to ``app`` that may be answered, with their bodies read.

    Args:
        app: what answers them.
        token: what a request has to know.
        port: the port of this server.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self.app = app
        self.token = token
        self.hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        # The port is in the name, as cookies are shared by all servers of a host.
        self.cookie = f"goldeneye_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"not a request that this server takes: {scope['type']}")
        try:
            if self._brings_token(scope):
                await self._let_in(send)
                return
            if _follows_a_link(scope):
                await _answer(send, 200, _BOUNCE, [(b"content-type", b"text/html"), _NOT_KEPT])
                return
            self._check(scope)
            body = await _read_body(scope, receive)
        except _Refused as refused:
            await _answer(send, refused.status, refused.body, [_JSON, (b"connection", b"close")], end=False)
            if _brings_much(scope):
                # A connection that is closed while much of a body is still to come is reset, and the
                # answer may be lost with it.
                await asyncio.sleep(LINGER_SECONDS)
            await send({"type": "http.response.body"})
            return

        async def replay() -> Message:
            nonlocal body
            if body is None:
                return await receive()  # nothing is left but the end of the connection
            message: Message = {"type": "http.request", "body": body, "more_body": False}
            body = None
            return message

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        async with asyncio.timeout(ANSWER_SECONDS):
            await self.app(scope, replay, send_guarded)

    def _brings_token(self, scope: Scope) -> bool:
        """Whether this is the address that was printed; the page it asks for then comes without the token."""
        self._check_host(scope)
        if scope["method"] != "GET" or scope["path"] != "/":
            return False
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        return len(given) == 1 and _equal(given[0], self.token)

    async def _let_in(self, send: Send) -> None:
        cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
        await _answer(send, 303, b"", [(b"location", b"/"), (b"set-cookie", cookie.encode()), _NOT_KEPT])

    def _check(self, scope: Scope) -> None:
        """Refuse what does not come from our own page.

        Raises:
            _Refused: and why.
        """
        host = self._check_host(scope)
        origins = _values(scope, b"origin")
        changes = scope["method"] not in ("GET", "HEAD")
        if any(origin != f"http://{host}" for origin in origins) or (changes and len(origins) != 1):
            raise _Refused(403, "the request comes from another page", _RELOAD)
        if any(site not in ("same-origin", "none") for site in _values(scope, b"sec-fetch-site")):
            raise _Refused(403, "the request comes from another site", _RELOAD)
        if not any(_equal(value, self.token) for value in self._cookies(scope)):
            raise _Refused(403, "the request does not carry the token", _RELOAD)
        if changes:
            kinds = [value.partition(";")[0].strip().lower() for value in _values(scope, b"content-type")]
            if kinds != ["application/json"]:
                raise _Refused(
                    415, "the body must be application/json", "send Content-Type: application/json"
                )

    def _check_host(self, scope: Scope) -> str:
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            raise _Refused(403, "the request is addressed to another host", _RELOAD)
        return hosts[0]

    def _cookies(self, scope: Scope) -> Iterable[str]:
        for line in _values(scope, b"cookie"):
            for pair in line.split(";"):
                name, _, value = pair.strip().partition("=")
                if name == self.cookie:
                    yield value


def _follows_a_link(scope: Scope) -> bool:
    """Whether a person has clicked on a link to our page in another one, such as a notebook's terminal.

    The browser then keeps the cookie back, so the page asks for itself once more.
    """
    asked = (scope["method"], scope["path"], scope["query_string"]) == ("GET", "/", b"")
    from_elsewhere = _values(scope, b"sec-fetch-site") in (["cross-site"], ["same-site"])
    return asked and from_elsewhere and _values(scope, b"sec-fetch-dest") == ["document"]


async def _read_body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body, counted as it comes, as a stated length may be wrong or missing."""
    too_large = _Refused(413, f"the body is larger than {MAX_BODY_BYTES} bytes", "send fewer boxes at once")
    lengths = _values(scope, b"content-length")
    if any(len(length) > 9 or not length.isdecimal() or int(length) > MAX_BODY_BYTES for length in lengths):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _Refused(400, "the request was broken off", "send it again")
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as error:
        raise _Refused(408, "the body took too long to arrive", "send it again") from error


def _brings_much(scope: Scope) -> bool:
    """Whether the body, by what its head says, may be larger than a network's buffers."""
    chunked = bool(_values(scope, b"transfer-encoding"))
    return chunked or any(len(length) > 5 for length in _values(scope, b"content-length"))


async def _answer(
    send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]], *, end: bool = True
) -> None:
    all_headers = [(b"content-length", str(len(body)).encode()), *headers, *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body, "more_body": not end})


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _equal(given: str, token: str) -> bool:
    """Compare in a time that says nothing about where they differ."""
    return hmac.compare_digest(given.encode(), token.encode())
