"""The page's HTTP server: routes, files and port. What it answers is in :mod:`fewbox.apps.annotate.answers`.

It serves this machine alone, unless told otherwise, and slow clients do not hold it up.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fewbox.apps.annotate.answers import Answers
from fewbox.apps.annotate.background import Learner
from fewbox.apps.annotate.guard import LOCAL_NAMES, TRY, Guard, token_of
from fewbox.apps.annotate.previews import MAX_SIDE
from fewbox.apps.annotate.questions import (
    BadRequestError,
    NoSuchPhotoError,
    read_format,
    read_label_change,
    read_photo_change,
)
from fewbox.apps.http import (
    EVERYWHERE,
    address_for_others,
    is_loopback,
    listen,
    own_names,
    require_certificate,
    server_settings,
)
from fewbox.data import FORMATS
from fewbox.data.project import Project
from fewbox.errors import AnnotationError, FewboxError, OutputError, PhotoError, SettingError

PAGE = Path(__file__).with_name("page")
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def make_app(project: Project, learner: Learner, *, token: str, port: int, **guarded: Any) -> ASGIApp:
    """The application that the server runs: :class:`App` behind a :class:`Guard`, which gets ``guarded``."""
    app = App(project, learner)
    routes = [
        Route("/", app.index),
        Route("/page/{name}", app.page_file),
        Route("/api/project", app.project_state),
        Route("/api/photos/{photo_id}", app.photo),
        Route("/api/photos/{photo_id}", app.change_photo, methods=["PATCH"]),
        Route("/api/photos/{photo_id}/image", app.image),
        Route("/api/photos/{photo_id}/proposals", app.proposals),
        Route("/api/photos/{photo_id}/trash", app.trash, methods=["POST"]),
        Route("/api/photos/{photo_id}/restore", app.restore, methods=["POST"]),
        Route("/api/version", app.version),
        Route("/api/labels", app.change_labels, methods=["PUT"]),
        Route("/api/labels", app.label_counts),
        Route("/api/beside", app.beside),
        Route("/api/beside", app.take_over, methods=["POST"]),
        Route("/api/export", app.export),
        Route("/api/learning", app.learning),
        Route("/api/finish", app.finishing),
        Route("/api/finish", app.finish, methods=["POST"]),
        Route("/api/finish/picture", app.held_out_picture),
        Route("/api/try", app.trying),
        Route(TRY, app.try_photo, methods=["POST"]),
        Route("/api/tried/{photo_id}/image", app.tried_image),
        Route("/api/tried/{photo_id}/take", app.take_in, methods=["POST"]),
    ]
    handlers: dict[Any, Callable[[Request, Any], Response | Awaitable[Response]]] = {
        FewboxError: _answer_error,
        BadRequestError: _answer_bad_request,
        NoSuchPhotoError: _answer_no_such_photo,
        HTTPException: _answer_http_error,
        Exception: _answer_fault,
    }
    inner = Starlette(routes=routes, exception_handlers=handlers)
    inner.router.redirect_slashes = False  # to http, behind a proxy with TLS
    return Guard(inner, token=token, port=port, project=app.answers.key, **guarded)


class App:
    """The answers by HTTP. What takes time runs in threads: no request waits for another one's photo."""

    def __init__(self, project: Project, learner: Learner) -> None:
        self.answers = Answers(project, learner)
        self.files = {path.name: path for path in PAGE.glob("*") if path.suffix in _MEDIA_TYPES}
        # Few, as decoding fills a processor each and the person's own browser needs one too.
        self.decoders = ThreadPoolExecutor(max(2, (os.cpu_count() or 2) // 2), "previews")

    async def index(self, _: Request) -> Response:
        """The page itself."""
        return self._file("index.html")

    async def page_file(self, request: Request) -> Response:
        """One of the files that the page is made of."""
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        if name not in self.files:
            raise HTTPException(404, f"no such file: {name[:100]}")
        path = self.files[name]
        headers = {"Cache-Control": "no-cache"}  # after an update the page must not be a mix of two versions
        return Response(path.read_bytes(), media_type=_MEDIA_TYPES[path.suffix], headers=headers)

    def project_state(self, _: Request) -> Response:
        """All photos, without their boxes, and the labels."""
        return _json(self.answers.project())

    def version(self, _: Request) -> Response:
        """Another text whenever somebody has changed the project."""
        return _json({"version": self.answers.version()})

    def photo(self, request: Request) -> Response:
        """One photo with its boxes."""
        return _json(self.answers.photo(_key(request)))

    async def change_photo(self, request: Request) -> Response:
        """Put and delete boxes; answered when they are on the disk."""
        asked = read_photo_change(await request.body())
        return _json(await run_in_threadpool(self.answers.change_photo, _key(request), asked))

    def trash(self, request: Request) -> Response:
        """Move a photo into the trash."""
        return _json(self.answers.trash(_key(request)))

    def restore(self, request: Request) -> Response:
        """Move a photo back from the trash."""
        return _json(self.answers.restore(_key(request)))

    async def change_labels(self, request: Request) -> Response:
        """Add, rename, remove, merge and delete labels."""
        asked = read_label_change(await request.body())
        return _json(await run_in_threadpool(self.answers.change_labels, asked))

    def label_counts(self, _: Request) -> Response:
        """How many boxes and photos each label has."""
        return _json(self.answers.label_counts())

    def beside(self, _: Request) -> Response:
        """What boxes of other programs lie beside the photos."""
        return _json(self.answers.beside())

    async def take_over(self, request: Request) -> Response:
        """Take over those of one format."""
        form = read_format(await request.body())
        return _json(await run_in_threadpool(self.answers.take_over, form))

    def export(self, request: Request) -> Response:
        """The boxes in the format that is asked for, as a file; without one, which formats there are."""
        form = request.query_params.get("format")
        if form is None:
            return _json(FORMATS)
        made = self.answers.export(form)
        says = json.dumps({"name": made.name, "remarks": made.remarks})  # ASCII, as a header has to be
        headers = {"Cache-Control": "no-store", "Fewbox-Export": says}
        return Response(made.content, media_type="application/octet-stream", headers=headers)

    async def image(self, request: Request) -> Response:
        """The photo, upright, as a JPEG of at most the size that is asked for."""
        key, side = _key(request), _side(request)
        # A photo may be turned or replaced while the page is open, so the browser has to ask whether
        # the one that it keeps is still the one.
        headers = {"Cache-Control": "private, no-cache", "ETag": self.answers.image_tag(key, side)}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        loop = asyncio.get_running_loop()
        picture, tag = await loop.run_in_executor(self.decoders, self.answers.image, key, side)
        return Response(picture, media_type="image/jpeg", headers=headers | {"ETag": tag})

    def proposals(self, request: Request) -> Response:
        """The boxes that the learner proposes for a photo; with ``?reviewed=1`` also if it is reviewed."""
        reviewed = request.query_params.get("reviewed") == "1"
        return _json(self.answers.proposals(_key(request), reviewed=reviewed))

    def learning(self, _: Request) -> Response:
        """How far learning has come."""
        return _json(self.answers.learning())

    def finish(self, _: Request) -> Response:
        """Start making the detector file."""
        return _json(self.answers.finish())

    def finishing(self, _: Request) -> Response:
        """How far the making of the detector file has come."""
        return _json(self.answers.finishing())

    def trying(self, _: Request) -> Response:
        """With what photos are tried."""
        return _json(self.answers.trying())

    async def try_photo(self, request: Request) -> Response:
        """Detect in the photo that is the body."""
        name = request.query_params.get("name", "")
        return _json(await run_in_threadpool(self.answers.try_photo, name, await request.body()))

    async def tried_image(self, request: Request) -> Response:
        """A photo that was tried, as a JPEG of at most the size that is asked for."""
        loop = asyncio.get_running_loop()
        key, side = _key(request), _side(request)
        picture = await loop.run_in_executor(self.decoders, self.answers.tried_image, key, side)
        return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    def take_in(self, request: Request) -> Response:
        """Copy a photo that was tried into the project."""
        return _json(self.answers.take_in(_key(request)))

    def held_out_picture(self, _: Request) -> Response:
        """The picture of held-out photos."""
        headers = {"Cache-Control": "no-store"}
        return Response(self.answers.held_out_picture(), media_type="image/jpeg", headers=headers)


def _key(request: Request) -> str:
    key: str = request.path_params["photo_id"]
    return key


def _side(request: Request) -> int | None:
    given = request.query_params.get("side")
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= 5 and 1 <= int(given) <= MAX_SIDE):
        raise HTTPException(400, f"side must be a number from 1 to {MAX_SIDE}: {given[:20]!r}")
    return int(given)


def _json(content: Any, status: int = 200) -> Response:
    # ASCII, as the name of a file may hold bytes that no UTF-8 text can.
    headers = {"Cache-Control": "no-store"}
    return Response(json.dumps(content), status, headers=headers, media_type="application/json")


async def _answer_error(_: Request, error: FewboxError) -> Response:
    """An error that the person can cure: 507 a full disk, 503 try again, 409 against what is there."""
    status = 500
    if isinstance(error, OutputError):
        cause = error.__cause__
        status = 507 if isinstance(cause, OSError) and cause.errno in _DISK_FULL else 503
    elif isinstance(error, AnnotationError | SettingError):
        status = 409
    elif isinstance(error, PhotoError):
        status = 422
    return _json({"error": error.message, "hint": error.hint}, status)


async def _answer_bad_request(_: Request, error: BadRequestError) -> Response:
    return _json({"error": str(error), "hint": "reload the page"}, 400)


async def _answer_no_such_photo(_: Request, error: NoSuchPhotoError) -> Response:
    return _json({"error": str(error), "hint": "reload the page"}, 404)


async def _answer_http_error(_: Request, error: HTTPException) -> Response:
    return _json({"error": error.detail, "hint": "reload the page"}, error.status_code)


async def _answer_fault(_: Request, __: Exception) -> Response:
    hint = "see the terminal that 'fewbox annotate' runs in"
    return _json({"error": "a fault of fewbox, not of yours", "hint": hint}, 500)


HOST = "127.0.0.1"
PORT = 8931
"""Where the search for a free port begins: always the same, so that an open page finds its server again."""
_PORTS_TRIED = 20
_MAX_CONNECTIONS = 100
"""A browser opens six to a server."""


class AnnotateServer:
    """The page of one project at one address.

    Args:
        project: the photos.
        learner: who proposes boxes.
        port: the port; if None, the first free one from ``PORT`` on.
        host: where it listens; anything but this machine itself shares the page with others.
        certificate: a PEM file, to serve https.
        key: the file with its key, if that is another one.

    Raises:
        OutputError: the port is in use, there is no such host here, or the token cannot be kept.
        SettingError: the certificate or its key cannot be used.
    """

    def __init__(
        self,
        project: Project,
        learner: Learner,
        port: int | None = None,
        *,
        host: str = HOST,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        if certificate is not None:
            require_certificate(certificate, key)
        self.learner = learner
        self.socket = listen_here(port, host)
        self.port: int = self.socket.getsockname()[1]
        self.is_shared = not is_loopback(host)
        scheme = "http" if certificate is None else "https"
        # A token that travels through a network is worth nothing once the server has ended.
        token = secrets.token_urlsafe(32) if self.is_shared else token_of(project.folder)
        outside = address_for_others(host)
        self.url = f"{scheme}://{outside}:{self.port}/?token={token}"
        # For this machine its own address, which browsers trust with the camera without https.
        is_here = host in EVERYWHERE and certificate is None
        self.local_url = f"{scheme}://{HOST}:{self.port}/?token={token}" if is_here else self.url
        app = make_app(
            project,
            learner,
            token=token,
            port=self.port,
            names={*LOCAL_NAMES, outside.lower(), *(own_names() if self.is_shared else ())},
            shared=self.is_shared,
            scheme=scheme,
        )
        settings = server_settings(
            app,
            lifespan=False,
            max_connections=_MAX_CONNECTIONS,
            stop_seconds=3,
            certificate=certificate,
            key=key,
        )
        self._server = uvicorn.Server(settings)

    def run(self, *, open_browser: bool = False) -> None:
        """Serve until Ctrl-C."""
        if open_browser:
            # The socket listens already, so the browser's request waits until it is answered.
            threading.Thread(target=webbrowser.open, args=(self.local_url,), daemon=True).start()
        try:
            self._server.run(sockets=[self.socket])
        finally:
            self.learner.close()
            self.socket.close()

    def stop(self) -> None:
        """End :meth:`run`, from another thread."""
        self._server.should_exit = True


def listen_here(port: int | None, host: str = HOST) -> socket.socket:
    """A socket that listens at ``host``, else on this machine alone; at the first free port if none is given.

    Raises:
        OutputError: the port is in use, or all that are tried; or there is no such host here.
    """
    ports = range(PORT, PORT + _PORTS_TRIED) if port is None else [port]
    return listen(host, ports, _MAX_CONNECTIONS)
