"""Photos on other machines: ``https://``, ``s3://`` and whatever else fsspec knows.

All code here works on paths, so a remote photo gets one: in the cache, in a folder that
also notes the photo's address. The bytes are fetched when the photo is first read. Naming an address
again fetches it again, as what is there may have changed.

The oldest copies make room for new ones; as the note stays, they are fetched again when needed.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from fewbox.core.files import cache_folder, output_error, replacing, write_text
from fewbox.errors import PhotoError

MAX_PHOTO_BYTES = 500_000_000
"""More than any photo of 200 megapixels takes as JPEG, PNG or HEIC."""
MAX_SECONDS = 120.0
"""For one photo or one listing, from beginning to end."""
MAX_CACHE_BYTES = 2_000_000_000

_NOTE = "address.txt"
_KEEP_NOTES_S = 30 * 24 * 3600.0
_UNFIT_FOR_A_NAME = re.compile(r'[\x00-\x1f<>:"/\\|?*]')
_MAX_NAME_BYTES = 120
_FETCHES_PER_CLEANING = 32
_fetched = itertools.count()

_ANSWER_SECONDS = 10.0
_FILM_KINDS = ("multipart/x-mixed-replace", "application/vnd.apple.mpegurl", "application/x-mpegurl")
"""Beside ``video/``: JPEG after JPEG, and lists of parts of a film."""

_CONNECTION_HINT = "check the address and the connection, then run the command again"

Result = TypeVar("Result")


def is_remote(place: object) -> bool:
    """Whether ``place`` is an address such as ``s3://bucket/photos`` and not a path."""
    return isinstance(place, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", place) is not None


def place_here(place: Any) -> Any:
    """The path that a ``file://`` or ``local://`` address names; any other place as it is.

    Such a photo is the file itself: of a copy of it nobody would know that it must not be replaced.
    """
    scheme, _, path = place.partition("://") if is_remote(place) else ("", "", "")
    return path if path and scheme.lower() in ("file", "local") else place


def cached_path(address: str) -> Path:
    """The path at which a remote photo will lie once it is read; nothing is fetched yet.

    Raises:
        OutputError: the cache cannot be written.
    """
    folder = _copies() / hashlib.sha256(address.encode()).hexdigest()[:24]
    last_part = path_in(address).name
    name = _UNFIT_FOR_A_NAME.sub("_", unquote(last_part) if _is_web(address) else last_part)
    path = folder / _short(name.lstrip("."))
    try:
        path.unlink(missing_ok=True)
        _copies().mkdir(mode=0o700, parents=True, exist_ok=True)  # an address may hold a password
    except OSError as error:  # mostly: the cache is somebody else's
        raise output_error(path, error) from error
    write_text(folder / _NOTE, address)
    return path


def _short(name: str) -> str:
    """The end of a name, as file systems count bytes: of a Japanese letter three, and 255 in all."""
    while len(os.fsencode(name)) > _MAX_NAME_BYTES:
        name = name[1:]
    return name or "photo"


def shown_name(path: Path) -> str:
    """What to call a photo in messages: its address where ``path`` is one in the cache."""
    address = _address_of(path)
    return str(path) if address is None else without_secrets(address)


def path_in_address(path: Path) -> PurePosixPath | None:
    """Where a remote photo is on its machine, by the name that it has in the cache; None for other paths."""
    address = _address_of(path)
    if address is None:
        return None
    folder = path_in(address).parent
    return (PurePosixPath(unquote(str(folder))) if _is_web(address) else folder) / path.name


def host_in_address(path: Path) -> str | None:
    """The machine or bucket of a remote photo, by the name that it has in the cache; None for other paths."""
    address = _address_of(path)
    return None if address is None else without_secrets(address).split("/")[2]


def short_names(paths: Sequence[Path]) -> list[str]:
    """Name different files: the last part of each path, with as many folders before it as tell it apart.

    A remote photo's folders are those of its address, not of its place in the cache.
    """
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        shown = [Path(shown_name(path)) for path in paths]
        if len(set(shown)) == len(set(paths)):  # else addresses differ only in what is not shown of them
            paths = shown
    depth = 1
    while shared := {name for name, count in Counter(names).items() if count > 1}:
        depth += 1
        longer = [Path(*path.parts[-depth:]).as_posix() for path in paths]
        names = [new if old in shared else old for old, new in zip(names, longer, strict=True)]
        if depth > max(len(path.parts) for path in paths):  # one file twice: it keeps its one name
            break
    return names


def fetch_missing(path: Path) -> None:
    """Fetch a remote photo to its path in the cache, unless it is there; other paths are left alone.

    Raises:
        PhotoError: it cannot be fetched, is too large, or takes too long.
    """
    address = _address_of(path)
    if address is None or path.exists():
        return
    name = without_secrets(address)

    def fetch() -> None:
        with replacing(path) as temporary, _told_as_photo_error(name):
            system, remote_path = file_system(address)
            system.get_file(remote_path, str(temporary), callback=_limits(name))

    _in_time(fetch, name)
    if next(_fetched) % _FETCHES_PER_CLEANING == 0:
        with suppress(OSError):  # another process may be cleaning too
            _make_room(path)


def fetch_bytes(address: str) -> bytes:
    """The file of a remote photo, held in memory alone: for those who look at a photo once and go on.

    Raises:
        PhotoError: it cannot be fetched, is too large, or takes too long.
    """
    name = without_secrets(address)

    def fetch() -> bytes:
        with _told_as_photo_error(name):
            system, remote_path = file_system(address)
            data: bytes = system.cat_file(remote_path, 0, MAX_PHOTO_BYTES + 1)
            return data

    data = _in_time(fetch, name)
    if len(data) > MAX_PHOTO_BYTES:
        raise _too_large(name)
    return data


def addresses_at(address: str, suffixes: frozenset[str]) -> list[str]:
    """The addresses of the photos that a remote photo, folder or pattern names; of a folder, those in it.

    Over ``https://`` everything is a photo but what ends in ``/``, as there the name says little.

    Raises:
        PhotoError: the folder cannot be listed.
    """
    path = path_in(address)
    is_pattern = any(sign in address for sign in "*[")
    is_folder = address.endswith("/") or path == PurePosixPath("/")
    if not is_pattern and (path.suffix.lower() in suffixes or (_is_web(address) and not is_folder)):
        return [address]
    shown = without_secrets(address)

    def listing() -> list[str]:
        with _told_as_photo_error(shown):
            system, remote_path = file_system(address)
            names = system.glob(remote_path) if is_pattern else system.ls(remote_path, detail=False)
            return [system.unstrip_protocol(name) for name in names]

    found = {name: path_in(name) for name in _in_time(listing, shown)}
    return [
        name
        for name, path in found.items()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    ]


def path_in(address: str) -> PurePosixPath:
    """The path that an address ends in, from ``/``; on the web without the question after it."""
    rest = address.partition("://")[2]
    return PurePosixPath("/" + (re.split("[?#]", rest)[0] if _is_web(address) else rest).partition("/")[2])


def _is_web(address: str) -> bool:
    return address.lower().startswith(("http://", "https://"))


def is_film(address: str) -> bool:
    """Whether a web server says that it sends a film there, or what a camera shows.

    Only the beginning of its answer is read, as a camera never ends. One that does not answer says nothing.
    """
    if not _is_web(address):
        return False
    from http.client import HTTPException

    try:
        with _opened(address) as answer:
            kind: str = answer.headers.get_content_type()
    except (OSError, ValueError, HTTPException):
        return False
    return kind.startswith("video/") or kind in _FILM_KINDS


def _opened(address: str) -> Any:
    """The answer of a web server, which may ask for the name and password that the address has."""
    from urllib import request

    parts = urlsplit(address)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    known = request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        known.add_password(None, bare, unquote(parts.username), unquote(parts.password or ""))
    asking = request.HTTPBasicAuthHandler(known), request.HTTPDigestAuthHandler(known)
    return request.build_opener(*asking).open(bare, timeout=_ANSWER_SECONDS)


def _copies() -> Path:
    return cache_folder() / "photos"


def _address_of(path: Path) -> str | None:
    if path.parent.parent != _copies():
        return None
    try:
        return (path.parent / _NOTE).read_text(encoding="utf-8")
    except OSError:
        return None


def without_secrets(address: str) -> str:
    """The address without what may hold a password, a key or a signature."""
    protocol, _, rest = address.partition("://")
    host, slash, _ = rest.partition("/")
    host = re.split("[?#]", host)[0].rpartition("@")[2]
    return f"{protocol}://{host}{path_in(address) if slash else ''}"


def file_system(address: str) -> tuple[Any, str]:
    """What fsspec reads ``address`` with, and the address as that wants it.

    Raises:
        PhotoError: a package that it needs is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(address)
    except ImportError as error:
        missing = getattr(error.__cause__, "name", None) or error.name or "fsspec"
        in_extra = missing in ("fsspec", "s3fs", "aiohttp")
        hint = "pip install '.[remote]'" if in_extra else f"pip install {missing}"
        raise PhotoError(
            f"{without_secrets(address)}: cannot be reached without {missing}", hint=hint
        ) from error
    return system, path


def _limits(name: str) -> Any:
    """What fsspec tells how far a transfer has come; it stops one that is too large or too slow."""
    from fsspec.callbacks import Callback

    deadline = time.monotonic() + MAX_SECONDS

    def check(size: int | None, value: int) -> None:
        if max(size or 0, value) > MAX_PHOTO_BYTES:
            raise _too_large(name)
        if time.monotonic() > deadline:  # nobody waits for it any more
            raise _too_slow(name)

    return Callback(hooks={"limits": check})


def _in_time(work: Callable[[], Result], name: str) -> Result:
    """Do ``work`` in a thread of its own, and stop waiting for it: few backends have a limit of their own."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(MAX_SECONDS)
    if errors:
        raise errors[0]
    if not results:
        raise _too_slow(name)
    return results[0]


@contextmanager
def _told_as_photo_error(name: str) -> Iterator[None]:
    try:
        yield
    except PhotoError:
        raise
    except FileNotFoundError as error:
        raise PhotoError(f"{name}: no such photo or folder", hint="check the address") from error
    except Exception as error:  # each backend has errors of its own
        # Not the text of an HTTP error: it repeats the address with all that may be secret in it.
        status = getattr(error, "status", None)
        reason = error if status is None else f"{status} {getattr(error, 'message', '')}"
        message = f"{name}: could not be fetched: {reason or type(error).__name__}"
        raise PhotoError(message, hint=_CONNECTION_HINT) from error


def _make_room(newest: Path) -> None:
    """Remove the oldest copies beyond MAX_CACHE_BYTES, and the notes of addresses long not used."""
    copies = []
    for folder in _copies().iterdir():
        for file in folder.iterdir():
            state = file.stat()
            if file.name != _NOTE:
                copies.append((state.st_mtime, state.st_size, file))
            elif time.time() - state.st_mtime > _KEEP_NOTES_S:
                shutil.rmtree(folder, ignore_errors=True)
                break
    total = sum(size for _, size, _ in copies)
    for _, size, file in sorted(copies):
        if total <= MAX_CACHE_BYTES:
            break
        if file != newest:
            file.unlink(missing_ok=True)
            total -= size


def _too_large(name: str) -> PhotoError:
    limit = MAX_PHOTO_BYTES // 1_000_000
    return PhotoError(f"{name}: larger than {limit} MB", hint="make the photo smaller, or leave it out")


def _too_slow(name: str) -> PhotoError:
    return PhotoError(f"{name}: not there after {MAX_SECONDS:g} seconds", hint=_CONNECTION_HINT)
