"""What can be asked of the service, and what it answers.

A request brings one photo as its body, or several as the files of a form.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Query, Request, Security
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from fewbox import __version__
from fewbox.apps.http import Refused
from fewbox.apps.serve.admission import CONTENT_TYPE, Admission, Metrics
from fewbox.apps.serve.detecting import OverdueError, PhotoResult, ServedDetector, WorkerPool, follow_files
from fewbox.apps.serve.schemas import (
    PROBLEM_HANDLERS,
    DetectAnswer,
    DetectorAnswer,
    DetectorsAnswer,
    HealthAnswer,
    problems,
)
from fewbox.config import ServiceConfig
from fewbox.core import counted
from fewbox.core.arguments import AUTO
from fewbox.core.boxes import MAX_TILES, MIN_TILES
from fewbox.data.images import read_size_hw
from fewbox.data.photo_file import PhotoBytes
from fewbox.detection.photo_detector import PhotoDetector, TiledDetector
from fewbox.errors import PhotoError

_ASKED = ("threshold", "format", "tiles", "agnostic_nms")
_FIELD = "photo"
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = "multipart/form-data"
_HINT = "send the photo itself with Content-Type: image/jpeg, or files of a form: curl -F photo=@duck.jpg"


def _describe_body(config: ServiceConfig) -> dict[str, Any]:
    """What OpenAPI says of the body."""
    files = {"type": "array", "minItems": 1, "maxItems": config.max_photos, "items": _BINARY["schema"]}
    form = {
        "type": "object",
        "properties": {_FIELD: files},
        "required": [_FIELD],
        "additionalProperties": False,
    }
    return {
        "required": True,
        "description": f"A photo itself, or a form with one or more files in its field {_FIELD}.",
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            _FORM: {"schema": form},
        },
    }


async def read_photos(request: Request, config: ServiceConfig) -> list[PhotoBytes]:
    """The photos that a request brings, at least one, not decoded yet.

    Raises:
        Refused: there are no photos or too many, or the body is something else.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    max_pixels = config.max_megapixels * 1_000_000
    if kind == _FORM:
        return await _read_form(request, config.max_photos, max_pixels)
    if not kind.startswith("image/") and kind != "application/octet-stream":
        raise Refused(415, f"a photo cannot come as {kind or 'a body without Content-Type'}", _HINT)
    return [PhotoBytes("photo 1", await request.body(), max_pixels)]


class _FormInMemory(MultiPartParser):
    """Reads a form without the disk, which may be full; the form is in memory already, and bounded there."""

    spool_max_size = max_file_size = 0
    """Without a limit; older Starlettes know the second name."""


async def _read_form(request: Request, max_photos: int, max_pixels: int) -> list[PhotoBytes]:
    try:
        # One file more than allowed is let through, so that the message is ours.
        async with aclosing(request.stream()) as body:
            reader = _FormInMemory(request.headers, body, max_files=max_photos + 1, max_fields=1)
            form = await reader.parse()
    except MultiPartException as error:  # not a form, or too large
        raise Refused(400, f"the form cannot be read: {error.message}", _HINT) from error
    names = {name for name, _ in form.multi_items()} - {_FIELD}
    if names:
        raise Refused(400, f"the form has an unknown field: {sorted(names)[0]!r}", _HINT)
    photos = []
    for number, file in enumerate(form.getlist(_FIELD), start=1):
        if not isinstance(file, UploadFile):
            raise Refused(400, f"the form's field {_FIELD!r} is not a file", _HINT)
        photos.append(PhotoBytes(file.filename or f"photo {number}", await file.read(), max_pixels))
        await file.close()  # what it held goes before the next one is read
    if not photos:
        raise Refused(400, "the form has no photo", _HINT)
    if len(photos) > max_photos:
        raise Refused(
            400, f"more than {counted(max_photos, 'photo')} in one request", "send them in several requests"
        )
    return photos


PAGE = Path(__file__).with_name("page")
_PAGE_FILES = ("page.css", "page.js")
_PNG = "image/png"
_JSON = "application/json"

Result = TypeVar("Result")


def make_app(served: Sequence[ServedDetector], config: ServiceConfig, key: str | None) -> Admission:
    """The whole service: :class:`Service` behind :class:`Admission`.

    Args:
        served: the detectors.
        config: the limits.
        key: the secret that requests have to carry, if any.
    """
    service = Service(served, config)
    app = FastAPI(
        title="fewbox",
        version=__version__,
        summary="Detectors that were taught from a handful of photos, at work.",
        # FastAPI's own pages fetch their scripts from other servers; ours is at "/", and at "/docs" too.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # to http, behind a proxy with TLS, and with no word of why
        lifespan=service.lifespan,
        dependencies=[Security(HTTPBearer(auto_error=False))] if key is not None else [],
        exception_handlers=PROBLEM_HANDLERS,
    )
    admission = Admission(app, config=config, key=key, retry_after=service.workers.seconds_till_free)
    service.connect(admission)
    _add_routes(app, service, key)
    return admission


def _add_routes(app: FastAPI, service: Service, key: str | None) -> None:
    refusals = problems(403 if key is None else 401, 503)
    for path in ("/", "/docs"):
        app.add_api_route(path, service.page, include_in_schema=False)
    app.add_api_route("/page/{name}", service.page_file, include_in_schema=False)
    app.add_api_route(
        "/healthz", service.health, response_model=HealthAnswer, responses={503: {"model": HealthAnswer}}
    )
    metrics: dict[int | str, Any] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
    app.add_api_route(
        "/metrics", service.metrics_text, response_class=Response, responses={**metrics, **refusals}
    )
    app.add_api_route("/v1/detectors", service.detectors, response_model=DetectorsAnswer, responses=refusals)
    unknown = problems(404)
    app.add_api_route(
        "/v1/detectors/{name}",
        service.detector,
        response_model=DetectorAnswer,
        responses={**refusals, **unknown, **problems(422)},
    )
    app.add_api_route(
        "/v1/detectors/{name}/detect",
        service.detect,
        methods=["POST"],
        response_model=DetectAnswer,
        responses={
            200: {"content": {_PNG: {"schema": {"type": "string", "format": "binary"}}}},
            **refusals,
            **unknown,
            **problems(400, 408, 413, 415, 422, 429),
        },
        openapi_extra={"requestBody": _describe_body(service.config)},
    )


class Service:
    """Answers requests.

    Args:
        served: the detectors, in the order in which they are listed.
        config: the limits.
    """

    def __init__(self, served: Sequence[ServedDetector], config: ServiceConfig) -> None:
        self.served = {one.name: one for one in served}
        self.config = config
        self.workers = WorkerPool(config)
        self.admission: Admission | None = None
        self.metrics: Metrics

    def connect(self, admission: Admission) -> None:
        """Count what passes through ``admission``, and know when it stops admitting requests."""
        self.admission = admission
        self.metrics = admission.metrics = Metrics(
            list(self.served.values()), lambda: admission.num_requests, lambda: self.workers.num_photos
        )

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Follow the detectors' files as long as the service runs."""
        following = asyncio.create_task(follow_files(list(self.served.values())))
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            self.workers.close()

    async def page(self) -> FileResponse:
        """A page that shows what can be asked, and tries it."""
        return FileResponse(PAGE / "index.html")

    async def page_file(self, name: str) -> FileResponse:
        """A part of the page."""
        if name not in _PAGE_FILES:
            raise Refused(404, f"no such file: {name}", "the page is at /")
        return FileResponse(PAGE / name)

    async def health(self) -> JSONResponse:
        """Whether the service is up, and whether every detector is the one its file holds."""
        errors = {one.name: one.error for one in self.served.values()}
        stopping = self.admission is not None and self.admission.stopping
        status = "stopping" if stopping else "stale" if any(errors.values()) else "ok"
        return JSONResponse({"status": status, "detectors": errors}, 503 if stopping else 200)

    async def metrics_text(self) -> Response:
        """Counts and times in Prometheus's text format."""
        return Response(self.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def detectors(self) -> dict[str, Any]:
        """All detectors."""
        return {"detectors": [_describe(one) for one in self.served.values()]}

    async def detector(self, name: str) -> dict[str, Any]:
        """One detector."""
        return _describe(self._named(name))

    async def detect(
        self,
        request: Request,
        name: str,
        threshold: Annotated[
            float | None,
            Query(ge=0, le=1, description="report higher scores only; the detector's own if none"),
        ] = None,
        format: Annotated[
            Literal["json", "png"] | None,
            Query(description="numbers, or the photo with boxes drawn on it; if none, what Accept prefers"),
        ] = None,
        tiles: Annotated[
            str | None,
            Query(
                pattern=f"^({AUTO}|[{MIN_TILES}-{MAX_TILES}])$",
                description="for large photos with small objects: look at overlapping tiles of each photo "
                "too, so many along its longer side, or auto, by its size; it takes as many times as long",
            ),
        ] = None,
        agnostic_nms: Annotated[
            bool, Query(description="one class for each object: of boxes that overlap, only the surest")
        ] = False,
    ) -> Response:
        """Find the detector's objects in one photo or several."""
        unknown = sorted(request.query_params.keys() - _ASKED)
        if unknown:
            raise Refused(422, f"unknown parameter: {unknown[0]!r}", f"there are: {', '.join(_ASKED)}")
        current = self._named(name).current
        draw = (format or _preferred(request.headers.get("accept", ""))) == "png"
        photos = await read_photos(request, self.config)
        if draw and len(photos) > 1:
            raise Refused(400, f"{len(photos)} photos cannot come back as one picture", "ask for JSON")
        threshold = current.detector.threshold if threshold is None else threshold
        detector = current.detector
        if tiles is not None:
            detector = TiledDetector(detector, tiles)
            await asyncio.to_thread(_require_few_tiles, detector, photos, self.config.max_tiles)
        if agnostic_nms:
            detector = detector.with_agnostic_nms(True)
        results = await self._detect_in(request, name, detector, photos, threshold, draw)
        done = [(which, one) for which, one in results if isinstance(one, PhotoResult)]
        failed = [(which, one) for which, one in results if isinstance(one, PhotoError)]
        if not done:
            raise failed[0][1]
        if draw:
            return Response(done[0][1].picture, media_type=_PNG)
        return JSONResponse(
            {
                "detector": name,
                "sha256": current.sha256,
                "score_threshold": threshold,
                **detector.options,
                "photos": [which | one.found.to_dict() | which for which, one in done],
                "failed": [which | {"error": e.message, "hint": e.hint} for which, e in failed],
            }
        )

    async def _detect_in(
        self,
        request: Request,
        name: str,
        detector: PhotoDetector,
        photos: Sequence[PhotoBytes],
        threshold: float,
        draw: bool,
    ) -> list[tuple[dict[str, Any], PhotoResult | PhotoError]]:
        """Which photo it is, for every photo in their order, and what became of it."""
        work = self.workers.detect(detector, photos, threshold, draw=draw)
        try:
            results = await _until_client_leaves(request, work)
        except OverdueError as error:
            self.metrics.photos.labels(name, "overdue").inc(len(photos))
            seconds = str(self.workers.seconds_till_free())
            hint = f"ask again in {seconds} s"
            raise Refused(503, "the photos waited too long", hint, {"retry-after": seconds}) from error
        self._count(name, results)
        which = [{"photo": photo.name, "number": number} for number, photo in enumerate(photos, start=1)]
        return list(zip(which, results, strict=True))

    def _named(self, name: str) -> ServedDetector:
        if name not in self.served:
            raise Refused(404, f"no such detector: {name}", f"there are: {', '.join(self.served)}")
        return self.served[name]

    def _count(self, name: str, results: Sequence[PhotoResult | PhotoError]) -> None:
        for result in results:
            done = isinstance(result, PhotoResult)
            self.metrics.photos.labels(name, "done" if done else "unreadable").inc()
            if isinstance(result, PhotoResult):
                self.metrics.wait_seconds.observe(result.waited_seconds)
                self.metrics.photo_seconds.labels(name).observe(result.worked_seconds)


def _require_few_tiles(detector: TiledDetector, photos: Sequence[PhotoBytes], most: int) -> None:
    """Refuse a request that asks for too much work, by the sizes in the heads of its photos.

    Raises:
        Refused: the photos have more than ``most`` tiles together.
    """
    count = 0
    for photo in photos:
        with suppress(PhotoError):  # it is answered as one that cannot be read
            count += len(detector.tiles_of(read_size_hw(photo)))
    if count > most:
        hint = "ask for fewer tiles, or send fewer photos at once" if most else "leave tiles out"
        raise Refused(400, f"more than {counted(most, 'tile')} in one request: {count}", hint)


def _describe(one: ServedDetector) -> dict[str, Any]:
    current = one.current
    return {
        "name": one.name,
        "labels": list(current.detector.labels),
        "score_threshold": current.detector.threshold,
        "base": current.detector.base.get("name", ""),
        "sha256": current.sha256,
        "loaded_at": current.loaded_at,
        "error": one.error,
    }


def _preferred(accept: str) -> str:
    """``png`` or ``json``, whichever an Accept header names first."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    named = [kind for kind in kinds if kind in (_PNG, _JSON, "*/*")]
    return "png" if named and named[0] == _PNG else "json"


async def _until_client_leaves(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What ``work`` returns. It is given up when the client has gone, so that others wait less.

    Raises:
        Refused: the client has gone, and nobody will read this.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_wait_for_end(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return await working
        raise Refused(400, "the request was broken off", "send it again")
    finally:
        working.cancel()
        leaving.cancel()


async def _wait_for_end(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
