"""What the page asks for, and the answers.

Photos go by ids that are made of their names in the project; a request never holds a path, so
no request can reach a file that is not a photo of the project.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from goldeneye.annotate.guard import Guard
from goldeneye.annotate.learner import Learner
from goldeneye.annotate.previews import MAX_SIDE, Previews
from goldeneye.annotate.requests import BadRequestError, read_label_change, read_photo_change
from goldeneye.data.annotations import require_size
from goldeneye.data.format_names import PROJECT_FILE
from goldeneye.data.images import read_size_hw
from goldeneye.data.project import Project
from goldeneye.data.project_file import DrawnBox, PhotoState
from goldeneye.errors import AnnotationError, GoldeneyeError, OutputError, PhotoError

PAGE = Path(__file__).with_name("page")
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def make_app(project: Project, learner: Learner, *, token: str, port: int) -> ASGIApp:
    """The application that the server runs: :class:`App` behind a :class:`Guard`."""
    app = App(project, learner)
    routes = [
        Route("/", app.index),
        Route("/page/{name}", app.page_file),
        Route("/api/project", app.project_state),
        Route("/api/photos/{photo_id}", app.photo),
        Route("/api/photos/{photo_id}", app.change_photo, methods=["PATCH"]),
        Route("/api/photos/{photo_id}/image", app.image),
        Route("/api/photos/{photo_id}/proposals", app.proposals),
        Route("/api/labels", app.change_labels, methods=["PUT"]),
        Route("/api/learning", app.learning),
        Route("/api/finish", app.finishing),
        Route("/api/finish", app.finish, methods=["POST"]),
    ]
    handlers: dict[Any, Callable[[Request, Any], Response | Awaitable[Response]]] = {
        GoldeneyeError: _tell,
        BadRequestError: _tell_bad_request,
        HTTPException: _tell_http_error,
        Exception: _tell_fault,
    }
    inner = Starlette(routes=routes, exception_handlers=handlers)
    return Guard(inner, token=token, port=port)


class App:
    """The answers. What takes time runs in threads, so that no request waits for another's photo."""

    def __init__(self, project: Project, learner: Learner) -> None:
        self.project = project
        self.learner = learner
        self.previews = Previews()
        self.files = {path.name: path for path in PAGE.glob("*") if path.suffix in _MEDIA_TYPES}
        self.names: dict[str, str] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        self.unreadable: dict[str, str] = {}
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
        headers = {"Cache-Control": "no-cache"}  # after an update the page must not be of two versions
        return Response(path.read_bytes(), media_type=_MEDIA_TYPES[path.suffix], headers=headers)

    def project_state(self, _: Request) -> Response:
        """All photos, without their boxes, and the labels."""
        names = self.project.photo_names()
        self.names = {photo_id(name): name for name in names}
        rows = [
            self._row(key, name, state)
            for (key, name), state in zip(self.names.items(), self.project.states(names), strict=True)
        ]
        folder = Path(os.path.realpath(self.project.folder))
        suggested = self._suggested()
        answer = {
            "name": folder.name,
            "key": photo_id(str(folder)),  # by which the page keeps apart what it has not saved yet
            "labels": self.project.labels(),
            "photos": rows,
            "suggested_next": suggested,
        }
        return _json(answer)

    def _row(self, key: str, name: str, state: PhotoState) -> dict[str, Any]:
        height, width = self.sizes.get(name) or state.size_hw or (None, None)
        error = self.unreadable.get(name)
        if not self.project.path_of(name).exists():
            error = f"no longer there; its {len(state.boxes)} boxes are kept"
        return {
            "id": key,
            "name": name,
            "width": width,
            "height": height,
            "reviewed": state.reviewed,
            "num_boxes": len(state.boxes),
            "labels": sorted({drawn.box.label for drawn in state.boxes}),
            "error": error,
        }

    def photo(self, request: Request) -> Response:
        """One photo with its boxes."""
        name = self._name(request)
        size_hw = self._size_hw(name)
        (state,) = self.project.states([name])
        if state.boxes and state.size_hw:
            require_size(state.size_hw, size_hw, f"{PROJECT_FILE}: {name}")
        return _json(_photo(name, size_hw, state))

    async def change_photo(self, request: Request) -> Response:
        """Put and delete boxes; answered when they are on the disk."""
        name, body = self._name(request), await request.body()

        def change() -> Response:
            asked = read_photo_change(body)
            state = self.project.change_photo(
                name, put=asked.put, delete=asked.delete, reviewed=asked.reviewed
            )
            self.learner.photos_changed()
            return _json(_photo(name, self._size_hw(name), state))

        return await run_in_threadpool(change)

    async def change_labels(self, request: Request) -> Response:
        """Add, rename and remove labels."""
        body = await request.body()

        def change() -> Response:
            asked = read_label_change(body)
            with self.project.editing() as content:
                content.add_labels(asked.add)
                if asked.rename is not None:
                    content.rename_label(*asked.rename)
                for label in asked.remove:
                    content.remove_label(label)
            if asked.rename is not None:
                self.learner.photos_changed()
            return _json({"labels": self.project.labels()})

        return await run_in_threadpool(change)

    async def image(self, request: Request) -> Response:
        """The photo, upright, as a JPEG of at most the size that is asked for."""
        name, side = self._name(request), _side(request)
        path = self.project.path_of(name)
        # A photo may be turned or replaced while the page is open, so the browser has to ask whether
        # the one that it keeps is still the one.
        headers = {"Cache-Control": "private, no-cache", "ETag": self.previews.tag(path, side)}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        loop = asyncio.get_running_loop()
        try:
            picture, headers["ETag"] = await loop.run_in_executor(
                self.decoders, self.previews.picture, path, side
            )
        except PhotoError as error:
            self.unreadable[name] = error.message
            raise
        self.unreadable.pop(name, None)
        return Response(picture, media_type="image/jpeg", headers=headers)

    def proposals(self, request: Request) -> Response:
        """The boxes that the learner proposes for a photo that nobody has looked at."""
        name = self._name(request)
        (state,) = self.project.states([name])
        if state.reviewed:
            return _json({"round": self.learner.learning().round, "boxes": [], "pending": False})
        found = self.learner.proposals(name)
        boxes = [{"box": each.box, "label": each.label, "score": each.score} for each in found.boxes]
        return _json({"round": found.round, "boxes": boxes, "pending": found.pending})

    def learning(self, _: Request) -> Response:
        """How far learning has come."""
        learning = self.learner.learning()
        answer = {"state": learning.state, "message": learning.message, "round": learning.round}
        return _json(answer | {"progress": learning.progress, "suggested_next": self._suggested()})

    def finish(self, request: Request) -> Response:
        """Start to make the detector file."""
        self.learner.finish()
        return self.finishing(request)

    def finishing(self, _: Request) -> Response:
        """How far the making of the detector file has come."""
        return _json(vars(self.learner.finishing()))

    def _suggested(self) -> str | None:
        name = self.learner.learning().suggested_next
        if name is None or self.project.states([name])[0].reviewed:
            return None
        return photo_id(name)

    def _name(self, request: Request) -> str:
        key = request.path_params["photo_id"]
        if key not in self.names:  # it may be new, or this server may be
            self.names = {photo_id(name): name for name in self.project.photo_names()}
        if key not in self.names:
            raise HTTPException(404, "no such photo")
        return self.names[key]

    def _size_hw(self, name: str) -> tuple[int, int]:
        path = self.project.path_of(name)
        if not path.exists():
            raise PhotoError(f"{name}: no longer there", hint="put the photo back; its boxes are kept")
        try:
            self.sizes[name] = read_size_hw(path)
        except PhotoError as error:
            self.unreadable[name] = error.message
            raise
        return self.sizes[name]


@cache
def photo_id(name: str) -> str:
    """What requests call a photo: the same in every run, and nothing that could be a path."""
    return hashlib.blake2b(os.fsencode(name), digest_size=12).hexdigest()


def _photo(name: str, size_hw: tuple[int, int], state: PhotoState) -> dict[str, Any]:
    return {
        "id": photo_id(name),
        "name": name,
        "width": size_hw[1],
        "height": size_hw[0],
        "reviewed": state.reviewed,
        "boxes": [_box(drawn) for drawn in state.boxes],
    }


def _box(drawn: DrawnBox) -> dict[str, Any]:
    box = drawn.box
    corners = [box.x1, box.y1, box.x2, box.y2]
    return {"id": drawn.id, "box": corners, "label": box.label, "ignore": box.ignore}


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


async def _tell(_: Request, error: GoldeneyeError) -> Response:
    """An error that the person can cure: 507 a full disk, 503 to be tried again, 409 not as things are."""
    status = 500
    if isinstance(error, OutputError):
        cause = error.__cause__
        status = 507 if isinstance(cause, OSError) and cause.errno in _DISK_FULL else 503
    elif isinstance(error, AnnotationError):
        status = 409
    elif isinstance(error, PhotoError):
        status = 422
    return _json({"error": error.message, "hint": error.hint}, status)


async def _tell_bad_request(_: Request, error: BadRequestError) -> Response:
    return _json({"error": str(error), "hint": "reload the page"}, 400)


async def _tell_http_error(_: Request, error: HTTPException) -> Response:
    return _json({"error": error.detail, "hint": "reload the page"}, error.status_code)


async def _tell_fault(_: Request, __: Exception) -> Response:
    hint = "see the terminal that 'goldeneye annotate' runs in"
    return _json({"error": "a fault of goldeneye, not of yours", "hint": hint}, 500)
