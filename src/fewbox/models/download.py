"""Fetch the file of a base model, whole or not at all.

Bytes arrive in ``<file name>.part``; ``<file name>.part.json`` says which version of which file
they are of, so that a later run can go on from there and never glues two versions together.
Only a file of the right length and checksum gets its final name. A lock that dies with its
process lets one process download while others wait for the result.

``FEWBOX_MIRROR`` names a folder on another server to fetch from: ``<mirror>/<file name>``.
The proxy variables (``https_proxy``, ``no_proxy``, ...) are honoured by the standard library.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from email.message import Message
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, getproxies, proxy_bypass

from filelock import FileLock, Timeout
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from fewbox.core import environment_variable
from fewbox.core.files import is_there, output_error, write_text
from fewbox.core.progress import console
from fewbox.errors import DownloadError
from fewbox.models import ZooEntry, require_own_file

ATTEMPTS = 5  # failures in a row, none of which brought a new byte, after which it is given up
FIRST_WAIT_S = 1.0  # after the first of them; doubled with each further one
LONGEST_WAIT_S = 60.0  # whatever Retry-After asks for
TIMEOUT_S = 30.0  # how long a server may stay silent
LOCK_POLL_S = 0.2
_CHUNK = 1 << 18
_Report = Callable[[int, int | None], None]  # told how many bytes are there, and of how many if known


def fetch(entry: ZooEntry, folder: Path, *, show_progress: bool = True) -> Path:
    """Download ``entry.url`` into ``folder``, unless it is there already, and return the file.

    Ctrl-C, a killed process or a lost network leave what has arrived; the next call goes on from
    there. Several processes may call this at once: one downloads, the others wait for it.

    Raises:
        DownloadError: the server cannot be reached, refuses, or sends something else than asked; or a person
            has saved another file under this name.
        OutputError: ``folder`` cannot be written, or the disk is full.
    """
    target = folder / entry.file_name
    if is_there(target):
        require_own_file(target, entry)
        return target
    source = _Source.of(entry)
    part = _Part(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(target, show_progress):
            if not target.exists():  # else another process has fetched it meanwhile
                part.finish(_receive(source, part, show_progress), entry.sha256)
    except _FetchError as failure:
        hint = (
            f"try again later, or fetch {entry.url} with a browser, and either give the file in place of "
            f"the name {entry.name} or save it as {target}"
        )
        raise DownloadError(f"{source.url}: cannot be fetched: {failure}", hint=hint) from failure
    except OSError as error:  # of the disk: those of the network are failures
        raise output_error(target, error) from error
    return target


@dataclass(eq=False)
class _FetchError(Exception):
    """Why the file could not be had from the server, and whether another try may help."""

    reason: str
    transient: bool = field(default=False, kw_only=True)
    stale: bool = field(default=False, kw_only=True)
    """What has been received is of no use for it."""
    retry_after: float = field(default=0.0, kw_only=True)
    """Seconds the server asks to wait."""


@contextmanager
def _network(way: str = "") -> Iterator[None]:
    """Around every use of the network: what it does wrong becomes a :class:`_FetchError`, with ``way``."""
    try:
        yield
    except HTTPError as error:
        asked = error.headers.get("Retry-After", "")  # seconds, or a date, which our own wait stands in for
        with error:
            raise _FetchError(
                f"the server answers {error.code} {error.reason}".rstrip() + way,
                transient=error.code in (408, 416, 429) or error.code >= 500,
                stale=error.code == 416,  # more bytes are here than the file has
                retry_after=float(asked) if asked.isdecimal() else 0.0,
            ) from error
    except (OSError, HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) else error
        passing = isinstance(cause, (TimeoutError, ConnectionError, HTTPException))
        passing = passing and not isinstance(cause, ConnectionRefusedError)
        raise _FetchError(_in_words(cause) + way, transient=passing) from error


def _in_words(cause: BaseException | str) -> str:
    if isinstance(cause, TimeoutError):
        return f"the server was silent for {TIMEOUT_S:g} s"
    if isinstance(cause, socket.gaierror):
        return "the server's name cannot be looked up; is there a network, or a proxy to set (https_proxy)?"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _way_to(url: str) -> str:
    """What to tell of the way to ``url`` where it fails: the proxy, if there is one, without a password."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme, "")
    if not proxy or proxy_bypass(parts.netloc):
        return ""
    return f"; through the proxy {proxy.rpartition('//')[2].rpartition('@')[2]} ({parts.scheme}_proxy)"


@dataclass(frozen=True)
class _Source:
    """Where to fetch from. ``url`` has no credentials: it is shown and kept."""

    url: str
    authorization: str | None

    @classmethod
    def of(cls, entry: ZooEntry) -> _Source:
        """The address of ``entry``, or of the file of the same name at ``FEWBOX_MIRROR``."""
        assert entry.url is not None, "the base of the package is never fetched"
        mirror = (environment_variable("FEWBOX_MIRROR") or "").strip()
        address = f"{mirror.rstrip('/')}/{entry.file_name}" if mirror else entry.url
        url = re.sub(r"//[^/]*@", "//", address)
        try:
            parts = urlsplit(address)
            host = (parts.hostname or "").encode("idna")
            usable = parts.scheme in ("http", "https") and host and parts.port != 0
            usable = usable and not (parts.query or parts.fragment)
        except ValueError:
            usable = False
        if not usable:
            what = "FEWBOX_MIRROR" if mirror else entry.name
            shown = url.rpartition("@")[2].partition("?")[0]  # whatever is wrong with it, no password
            hint = "write it as https://host/folder"
            raise DownloadError(f"{what}: not an http or https address: {shown}", hint=hint)
        user = parts.netloc.rpartition("@")[0]
        return cls(url, f"Basic {base64.b64encode(unquote(user).encode()).decode()}" if user else None)

    def open(self, start: int, validator: str | None) -> HTTPResponse:
        """Ask for the bytes from ``start`` on if ``validator`` still fits the file, else for all.

        Raises:
            _FetchError: there is no answer, or one that is not a file.
        """
        request = Request(self.url, headers={"User-Agent": "fewbox"})
        expected = [200]
        if start and validator is not None:
            request.add_header("Range", f"bytes={start}-")
            request.add_header("If-Range", validator)
            expected.append(206)
        if self.authorization is not None:
            request.add_unredirected_header("Authorization", self.authorization)  # for this server alone
        with _network(_way_to(self.url)):
            response: HTTPResponse = build_opener(_Redirects).open(request, timeout=TIMEOUT_S)
        if response.status not in expected or response.headers.get_content_type() == "text/html":
            response.close()
            raise _FetchError("the answer is not a file; does this network want a login in a browser first?")
        return response


class _Redirects(HTTPRedirectHandler):
    """Follow redirects to http and https, never from https back to http, and take no credentials along."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """The request for ``newurl``."""
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise URLError(f"the server redirects from {req.type} to {scheme}, which is not followed")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            request.remove_header("Proxy-authorization")  # set again if the new server needs the proxy
        return request


@dataclass(frozen=True)
class _Version:
    """Which version of the file at ``url`` some bytes are of, as far as the server tells."""

    url: str
    validator: str | None
    size: int | None
    md5: str | None


def _validator(headers: Message) -> str | None:
    """What ``If-Range`` takes: the ETag if it is a strong one, else the date of the last change."""
    etag = headers.get("ETag")
    return headers.get("Last-Modified") if etag is None or etag.startswith("W/") else etag


def _stated_md5(headers: Message) -> str | None:
    """The MD5 of the whole file as hexadecimal digits, from ``Content-MD5`` or Google's ``x-goog-hash``."""
    stated = headers.get_all("Content-MD5", [])
    if headers.get("x-goog-stored-content-encoding", "identity") == "identity":  # else it is of packed bytes
        hashes = ",".join(headers.get_all("x-goog-hash", [])).split(",")
        stated += [text.strip()[4:] for text in hashes if text.strip().startswith("md5=")]
    for text in stated:
        try:
            digest = base64.b64decode(text, validate=True)
        except ValueError:
            continue
        if len(digest) == 16:
            return digest.hex()
    return None


class _Part:
    """The bytes that have arrived, and what they are of. Errors of the disk pass as ``OSError``."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self.version_path = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """How many bytes are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self, url: str) -> _Version | None:
        """What the bytes are of; ``None`` if that is not known, or not the file at ``url``."""
        try:
            version = _Version(**json.loads(self.version_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return version if version.url == url else None

    def begin(self, version: _Version) -> None:
        """Start over with bytes of ``version``."""
        self.drop()  # first, so that at no time old bytes are called the new version's
        write_text(self.version_path, json.dumps(asdict(version)))

    def drop(self) -> None:
        """Forget everything."""
        self.path.unlink(missing_ok=True)
        self.version_path.unlink(missing_ok=True)

    def append(self, response: HTTPResponse, size: int | None, report: _Report) -> None:
        """Add what ``response`` brings, up to ``size`` bytes in all or else to its end.

        Raises:
            _FetchError: the connection was lost before.
        """
        done = self.size
        with self.path.open("ab") as file:
            while size is None or done < size:
                report(done, size)
                with _network():  # read1 gives what is there, so that a cut loses nothing that arrived
                    chunk = response.read1(_CHUNK if size is None else min(_CHUNK, size - done))
                if not chunk:
                    break
                file.write(chunk)
                done += len(chunk)
        if size is not None and done < size:
            raise _FetchError(f"the connection was closed after {done} of {size} bytes", transient=True)

    def finish(self, version: _Version, sha256: str | None) -> None:
        """Give the bytes their final name if their checksums are right, else delete them.

        Raises:
            _FetchError: a checksum is wrong.
        """
        for algorithm, stated in (("sha256", sha256), ("md5", version.md5)):
            found = None if stated is None else _digest(self.path, algorithm)
            if found != stated:
                self.drop()
                raise _FetchError(f"{algorithm} of the received bytes is {found}, but should be {stated}")
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self.version_path.unlink(missing_ok=True)


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _receive(source: _Source, part: _Part, show: bool) -> _Version:
    """Make ``part`` complete, and say what it is of. The whole policy of trying again is here.

    Raises:
        _FetchError: the last one, when it is given up.
    """
    _say(f"downloading {source.url}", show)
    most, arrived, failures = part.size, False, 0
    with _progress_bar(part.target.name, show) as report:
        while True:
            try:
                return _attempt(source, part, report)
            except _FetchError as failure:
                if part.size > most:
                    most, arrived, failures = part.size, True, 0
                if failure.stale:
                    part.drop()
                failures += 1
                # Without a network waiting only delays saying so, unless it was just lost.
                if failures == ATTEMPTS or not (failure.transient or arrived):
                    raise
                wait = max(FIRST_WAIT_S * 2 ** (failures - 1) * random.uniform(1.0, 1.5), failure.retry_after)
                wait = min(wait, LONGEST_WAIT_S)
                _say(f"{failure}; trying again in {wait:.0f} s", show)
                time.sleep(wait)


def _attempt(source: _Source, part: _Part, report: _Report) -> _Version:
    """Make ``part`` complete with one request at most.

    Raises:
        _FetchError: it is not complete.
    """
    version, start = part.version(source.url), part.size
    if version is not None and start == version.size:
        return version  # an earlier run was killed after the last byte and before the renaming
    with source.open(start, version.validator if version is not None else None) as response:
        if response.status == 206 and version is not None:
            version = _continued(response, start, version)
        else:
            headers = response.headers
            version = _Version(source.url, _validator(headers), response.length, _stated_md5(headers))
            if not version.size and not response.chunked:  # its end could not be told from a cut
                raise _FetchError("the server sends nothing, or does not say how much")
            part.begin(version)
        part.append(response, version.size, report)
    return version


def _continued(response: HTTPResponse, start: int, version: _Version) -> _Version:
    """``version``, once the answer is seen to bring its bytes from ``start`` on.

    Raises:
        _FetchError: it brings others, as from a server that takes ``Range`` but not ``If-Range``.
    """
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    same_file = _validator(response.headers) in (None, version.validator)
    if not span or int(span[1]) != start or version.size not in (None, int(span[2])) or not same_file:
        raise _FetchError("the file on the server has changed", transient=True, stale=True)
    return replace(version, size=int(span[2]))


@contextmanager
def _alone(target: Path, show: bool) -> Iterator[None]:
    """Wait until no other process is in such a block for ``target``."""
    # A soft lock, which is a file that is there, would outlive a process that is killed.
    lock = FileLock(target.with_name(f"{target.name}.lock"), fallback_to_soft=False)
    with ExitStack() as held:
        try:
            try:
                held.enter_context(lock.acquire(blocking=False))
            except Timeout:
                _say(f"waiting for another process that downloads {target.name}", show)
                held.enter_context(lock.acquire(poll_interval=LOCK_POLL_S))
        except OSError as error:
            if error.filename is not None:  # the lock's file cannot be made
                raise
            # A file system without locks: two at once may spoil the file, as its checksums tell.
        yield


@contextmanager
def _progress_bar(title: str, show: bool) -> Iterator[_Report]:
    """Show how much of a file has arrived, on a terminal; elsewhere nothing."""
    visible = show and console.is_terminal
    columns = (title, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not visible, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)


def _say(text: str, show: bool) -> None:
    if show:
        console.print(text)
