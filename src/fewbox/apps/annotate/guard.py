"""Guards the annotation page's server: every request passes here first.

The server listens on 127.0.0.1, or where ``--host`` says. Any web page that is open in a browser of this
machine, any other user of it, and with ``--host`` anybody in the network can send requests there. So a
request is answered only if it

* is addressed to this server, not to a name that a stranger's DNS has turned to its address;
* does not come from another page: ``Origin`` and ``Sec-Fetch-Site`` say where it comes from, and other pages
  cannot send ``application/json`` unless we allow it first;
* is meant for this folder: a page says which one it shows, as it may have stayed open since another one was
  served at this address, and photos of the two may have the same names;
* carries the project's token: once in the address that was printed, from then on in a cookie that scripts
  cannot read and pages of other sites do not send. The token is kept, so that an open page goes on after a
  restart;
* is small and arrives in time.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Collection, Iterable
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from fewbox.apps.http import (
    PAGE_HEADERS,
    Refused,
    adding_headers,
    header_values,
    read_body,
    refuse,
    replaying,
    same_secret,
)
from fewbox.core.files import cache_folder, output_error

_MIN_LENGTH = 32
LOCAL_NAMES = ("127.0.0.1", "localhost")


def token_of(folder: Path) -> str:
    """The token of a folder of photos; made at random when it is first asked for.

    It is kept in the cache of this user, in a file that nobody else may read.

    Raises:
        OutputError: it cannot be written.
    """
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    path = cache_folder() / "annotate" / f"{name}.token"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists() and not (os.name == "posix" and path.stat().st_mode & 0o077):
            known = path.read_text(encoding="ascii", errors="replace").strip()
            if len(known) >= _MIN_LENGTH:
                return known
        path.unlink(missing_ok=True)
        token = secrets.token_urlsafe(32)
        # Never readable for others, not even for the moment before a change of its mode.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(token)
    except OSError as error:
        raise output_error(path, error) from error
    return token


MAX_BODY_BYTES = 1_000_000
"""More than ten thousand boxes in one change."""
TRY = "/api/try"
"""Where photos are sent to, as they are."""
BODY_SECONDS = 10.0
"""For a body to arrive, which comes from this machine."""
MAX_PHOTO_BYTES = 50_000_000
PHOTO_SECONDS = 60.0
"""For a photo to arrive, which may come from a phone."""
ANSWER_SECONDS = 60.0
"""For an answer to be made and taken: the largest photos take seconds to decode."""

HEADERS = PAGE_HEADERS | {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_RELOAD = "open the address that 'fewbox annotate' has printed, with its token"
_OTHER = "start 'fewbox annotate' with this folder again, and open the address that it prints"
_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


_NOT_KEPT = (b"cache-control", b"no-store")
_BOUNCE = b'<!doctype html><link rel="icon" href="data:,"><meta http-equiv="refresh" content="0; url=/">'


class Guard:
    """Reads the bodies of requests that may be answered and passes them on to ``app``; refuses the others.

    Args:
        app: what answers them.
        token: the secret that a request has to carry.
        port: the port of this server.
        project: the key of the folder that is served; see ``Answers.key``.
        names: the hosts that it answers for.
        shared: whether others than this machine may come: then any address in numbers is taken for ours, as a
            name alone can be a stranger's.
        scheme: ``http`` or ``https``.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        port: int,
        project: str,
        names: Collection[str] = LOCAL_NAMES,
        shared: bool = False,
        scheme: str = "http",
    ) -> None:
        self.app = app
        self.token = token
        self.port = port
        self.project = project
        self.names = names
        self.shared = shared
        self.scheme = scheme
        # The port is in the name, as cookies are shared by all servers of a host.
        self.cookie = f"fewbox_{port}"

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
            is_photo = scope["path"] == TRY
            replay = replaying(
                await read_body(
                    scope,
                    receive,
                    max_bytes=MAX_PHOTO_BYTES if is_photo else MAX_BODY_BYTES,
                    seconds=PHOTO_SECONDS if is_photo else BODY_SECONDS,
                    hint="make the photo smaller" if is_photo else "send fewer boxes at once",
                ),
                receive,
            )
        except Refused as refused:
            if _asks_for_a_page(scope):
                says = f"{refused.error}: {refused.hint}\n".encode()
                await _answer(send, refused.status, says, [(b"content-type", b"text/plain"), _NOT_KEPT])
            else:
                await refuse(refused, receive, send, HEADERS)
            return
        async with asyncio.timeout(ANSWER_SECONDS):
            await self.app(scope, replay, adding_headers(send, HEADERS))

    def _brings_token(self, scope: Scope) -> bool:
        """Whether this is the address that was printed; the browser is sent on to one without the token."""
        self._check_host(scope)
        if scope["method"] != "GET" or scope["path"] != "/":
            return False
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        return len(given) == 1 and same_secret(given[0], self.token)

    async def _let_in(self, send: Send) -> None:
        secure = "; Secure" if self.scheme == "https" else ""
        cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/{secure}"
        headers = [(b"set-cookie", cookie.encode()), _NOT_KEPT]
        if self.shared:  # the address may have been sent in a chat, from where a redirect brings no cookie
            await _answer(send, 200, _BOUNCE, [(b"content-type", b"text/html"), *headers])
        else:
            await _answer(send, 303, b"", [(b"location", b"/"), *headers])

    def _check(self, scope: Scope) -> None:
        """Refuse what does not come from our own page.

        Raises:
            Refused: the message says why.
        """
        host = self._check_host(scope)
        origins = header_values(scope, b"origin")
        changes = scope["method"] not in ("GET", "HEAD")
        if any(origin != f"{self.scheme}://{host}" for origin in origins) or (changes and len(origins) != 1):
            raise Refused(403, "the request comes from another page", _RELOAD)
        if any(site not in ("same-origin", "none") for site in header_values(scope, b"sec-fetch-site")):
            raise Refused(403, "the request comes from another site", _RELOAD)
        if not any(same_secret(value, self.token) for value in self._cookies(scope)):
            raise Refused(403, "the request does not carry the token", _RELOAD)
        if any(key != self.project for key in header_values(scope, b"fewbox-project")):
            raise Refused(403, "this address shows another folder now", _OTHER)
        if changes:
            kinds = [
                value.partition(";")[0].strip().lower() for value in header_values(scope, b"content-type")
            ]
            wanted = "application/octet-stream" if scope["path"] == TRY else "application/json"
            if kinds != [wanted]:  # neither of the two can a form send
                raise Refused(415, f"the body must be {wanted}", f"send Content-Type: {wanted}")

    def _check_host(self, scope: Scope) -> str:
        hosts = header_values(scope, b"host")
        name, _, port = (hosts[0] if len(hosts) == 1 else "").rpartition(":")
        is_known = name.lower() in self.names or (self.shared and _is_address(name))
        if port != str(self.port) or not is_known:
            raise Refused(403, "the request is addressed to another host", _RELOAD)
        return hosts[0]

    def _cookies(self, scope: Scope) -> Iterable[str]:
        for line in header_values(scope, b"cookie"):
            for pair in line.split(";"):
                name, _, value = pair.strip().partition("=")
                if name == self.cookie:
                    yield value


def _is_address(host: str) -> bool:
    """Whether a host is given in numbers."""
    try:
        ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _asks_for_a_page(scope: Scope) -> bool:
    """Whether a person is to read the answer."""
    wanted = ",".join(header_values(scope, b"accept"))
    return (scope["method"], scope["path"]) == ("GET", "/") and "text/html" in wanted


def _follows_a_link(scope: Scope) -> bool:
    """Whether a person has clicked on a link to our page in another one, such as a notebook's terminal.

    The browser then does not send the cookie, so the page requests itself once more.
    """
    asked = (scope["method"], scope["path"], scope["query_string"]) == ("GET", "/", b"")
    from_elsewhere = header_values(scope, b"sec-fetch-site") in (["cross-site"], ["same-site"])
    return asked and from_elsewhere and header_values(scope, b"sec-fetch-dest") == ["document"]


async def _answer(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    all_headers = [(b"content-length", str(len(body)).encode()), *headers, *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
