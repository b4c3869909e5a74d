"""Fetch the file of a base model, whole or not at all.

Bytes arrive in ``<file name>.part``; ``<file name>.part.json`` says which version of which file
they are of, so that a later run can go on from there and never glues two versions together.
Only a file of the right length and checksum gets its final name. A lock that dies with its
process lets one process download while others wait for the result.

``GOLDENEYE_MIRROR`` names a folder on another server to fetch from: ``<mirror>/<file name>``.
The proxy variables (``https_proxy``, ``no_proxy``, ...) are honoured by the standard library.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import json
import os
import random
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from goldeneye.errors import DownloadError
from goldeneye.files import output_error, write_text
from goldeneye.models.zoo import ZooEntry
from goldeneye.progress import console

ATTEMPTS = 5
"""Failures in a row, none of which brought a new byte, after which a download is given up."""
FIRST_WAIT_S = 1.0
"""Wait after the first failure; it doubles with each further one."""
LONGEST_WAIT_S = 60.0
"""No wait is longer, whatever the server asks for in ``Retry-After``."""
TIMEOUT_S = 30.0
"""How long a server may stay silent."""
LOCK_POLL_S = 0.2

_CHUNK = 1 << 18

Report = Callable[[int, int | None], None]
"""Is told how many bytes are there, and of how many if that is known."""


def fetch(entry: ZooEntry, folder: Path, *, show_progress: bool = True) -> Path:
    """Download ``entry.url`` into ``folder``, unless it is there already, and return the file.

    Ctrl-C, a killed process or a lost network leave what has arrived; the next call goes on from
    there. Several processes may call this at once: one downloads, the others wait for it.

    Raises:
        DownloadError: the server cannot be reached, refuses, or sends something else than asked.
        OutputError: ``folder`` cannot be written, or the disk is full.
    """
    target = folder / entry.file_name
    if target.exists():  # it has this name only when it is whole
        return target
    source = _Source.of(entry)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(f"{target.name}.lock").open("ab")
    except OSError as error:
        raise output_error(target, error) from error
    with lock, _alone(lock, target, show_progress):
        if not target.exists():  # else another process has fetched it meanwhile
            part = _Part(target)
            by_hand = _by_hand(entry, target)
            with _progress(source, target, show_progress) as report:
                version = _receive_all(source, part, report, by_hand, show_progress)
            part.finish(version, entry.sha256, by_hand)
    return target


@dataclass(frozen=True)
class _Source:
    """Where to fetch from. ``url`` has no credentials: it is shown and kept."""

    url: str
    authorization: str | None = None

    @classmethod
    def of(cls, entry: ZooEntry) -> _Source:
        """The address of ``entry``, or of the file of the same name at ``GOLDENEYE_MIRROR``."""
        mirror = os.environ.get("GOLDENEYE_MIRROR")
        if not mirror:
            return cls(_checked(entry.url, "address"))
        address, _, host = mirror.rpartition("@")
        if not address:
            return cls(_checked(f"{mirror.rstrip('/')}/{entry.file_name}", "GOLDENEYE_MIRROR"))
        scheme, _, user = address.partition("://")
        url = _checked(f"{scheme}://{host.rstrip('/')}/{entry.file_name}", "GOLDENEYE_MIRROR")
        return cls(url, f"Basic {base64.b64encode(unquote(user).encode()).decode()}")

    def open(self, start: int, version: _Version | None) -> HTTPResponse:
        """Ask for the bytes from ``start`` on, if the file still is ``version``; else for all.

        Raises:
            OSError: no answer, or one that is no file (``URLError``, ``HTTPError``).
            HTTPException: the answer is not HTTP.
        """
        request = Request(self.url, headers={"User-Agent": "goldeneye"})
        if start and version is not None and version.validator is not None:
            request.add_header("Range", f"bytes={start}-")
            request.add_header("If-Range", version.validator)
        if self.authorization is not None:
            request.add_unredirected_header("Authorization", self.authorization)  # for this server alone
        response: HTTPResponse = build_opener(_Redirects).open(request, timeout=TIMEOUT_S)
        if response.status not in (200, 206) or response.headers.get_content_type() == "text/html":
            response.close()
            raise URLError("the answer is not the file; does this network want a login in the browser first?")
        return response


class _Redirects(HTTPRedirectHandler):
    """Follow redirects to http and https, from https to https only, and take no credentials along."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise URLError(f"redirected from {req.type} to {scheme or 'no'} address, which is not followed")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if request is not None:
            request.remove_header("Proxy-authorization")  # set again if the new server needs the proxy
        return request


@dataclass(frozen=True)
class _Version:
    """Which file on the server some bytes are of, as far as its headers tell."""

    url: str
    validator: str | None
    """Its strong ETag, else the date of its last change: what ``If-Range`` takes."""
    size: int | None
    md5: str | None

    @classmethod
    def of(cls, response: HTTPResponse, url: str, size: int | None) -> _Version:
        """What the headers of ``response`` say about a file of ``size`` bytes."""
        etag = response.headers.get("ETag")
        if etag is None or etag.startswith("W/"):
            etag = response.headers.get("Last-Modified")
        return cls(url, etag, size, _stated_md5(response))


class _Part:
    """The bytes that have arrived, and what they are of."""

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
        """Start over: no byte is there, and those to come are of ``version``."""
        self.drop()  # first, so that at no time old bytes carry the new version
        write_text(self.version_path, json.dumps(asdict(version)))

    def drop(self) -> None:
        """Forget everything."""
        self.path.unlink(missing_ok=True)
        self.version_path.unlink(missing_ok=True)

    def append(self, response: HTTPResponse, size: int | None, report: Report) -> None:
        """Add what ``response`` brings, to ``size`` bytes in all, or to its end.

        Raises:
            OSError: the connection is lost.
            OutputError: the disk is full.
        """
        done = self.size
        with self.path.open("ab", buffering=0) as file:
            while size is None or done < size:
                chunk = response.read1(_CHUNK if size is None else min(_CHUNK, size - done))
                if not chunk:
                    break
                try:
                    file.write(chunk)
                except OSError as error:
                    raise output_error(self.target, error) from error
                done += len(chunk)
                report(done, size)
        if size is not None and done < size:
            raise ConnectionError(f"the connection was closed after {done} of {size} bytes")

    def finish(self, version: _Version, sha256: str | None, by_hand: str) -> None:
        """Give the bytes their final name if their checksums are right, else delete them.

        Raises:
            DownloadError: a checksum is wrong.
            OutputError: the bytes cannot be brought to the disk.
        """
        try:
            for algorithm, stated in (("sha256", sha256), ("md5", version.md5)):
                with self.path.open("rb+") as file:
                    os.fsync(file.fileno())
                    found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))  # noqa
                if stated is not None and found.hexdigest() != stated:
                    self.drop()
        except OSError as error:
            raise output_error(self.target, error) from error
