"""The schemas of the service's answers, errors included; the OpenAPI document is made from these.

Boxes are ``(x1, y1, x2, y2)`` in pixels of the upright photo, as everywhere. Whatever goes wrong is answered
as one kind of JSON: what is wrong, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request

from fewbox.apps.http import Refused
from fewbox.errors import PhotoError

_NUMBER = "its place among the photos of the request, from 1: several may have one name"


class Problem(BaseModel):
    """Why there is no other answer."""

    error: str = Field(description="what is wrong")
    hint: str | None = Field(description="what to do about it")


class FoundObject(BaseModel):
    """One detection."""

    label: str
    class_id: int
    score: float = Field(ge=0, le=1)
    box: tuple[float, float, float, float] = Field(
        description="x1, y1, x2, y2 in pixels of the upright photo, continuous edges"
    )


class PhotoAnswer(BaseModel):
    """What was found in one photo, the most certain first."""

    photo: str = Field(description="its file name, or 'photo 1', 'photo 2', ... where it came without one")
    number: int = Field(description=_NUMBER)
    width: int
    height: int
    detections: list[FoundObject]


class FailedPhoto(Problem):
    """A photo that could not be read."""

    photo: str
    number: int = Field(description=_NUMBER)


class DetectAnswer(BaseModel):
    """What was found in the photos of one request."""

    detector: str
    sha256: str = Field(description="of the detector's file")
    score_threshold: float
    tiles: int | str | None = Field(
        None, description="a number or auto, as asked for; missing if the request asks for none"
    )
    agnostic_nms: bool | None = Field(None, description="missing if the request does not ask for it")
    photos: list[PhotoAnswer] = Field(description="those that could be read, in the order of the request")
    failed: list[FailedPhoto]


class DetectorAnswer(BaseModel):
    """A detector that is served."""

    name: str
    labels: list[str]
    score_threshold: float = Field(description="used where a request names none")
    base: str = Field(description="the base model it was made from")
    sha256: str = Field(description="of the file that is served")
    loaded_at: float = Field(description="seconds since 1970")
    error: str | None = Field(description="why a newer file is not served instead; null if there is none")


class DetectorsAnswer(BaseModel):
    """All detectors that are served."""

    detectors: list[DetectorAnswer]


class HealthAnswer(BaseModel):
    """How the service does."""

    status: Literal["ok", "stale", "stopping"] = Field(
        description="stale: a newer detector file cannot be loaded, the one before it is served"
    )
    detectors: dict[str, str | None] = Field(description="what is wrong with each one's file; null: nothing")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of refusals with these statuses."""
    return {status: {"model": Problem} for status in statuses}


async def _answer_refused(_request: Request, refused: Any) -> Response:
    return _problem(refused.status, refused.error, refused.hint, refused.headers)


async def _answer_photo_error(_request: Request, error: Any) -> Response:
    return _problem(422, error.message, error.hint)


async def _answer_invalid(_request: Request, error: Any) -> Response:
    first = error.errors()[0]
    return _problem(422, f"{first['loc'][-1]}: {first['msg'].lower()}", "see /openapi.json")


async def _answer_http_error(_request: Request, error: Any) -> Response:
    hint = "see / for what can be asked"
    return _problem(error.status_code, str(error.detail).lower(), hint, error.headers)


async def _answer_fault(_request: Request, _error: Any) -> Response:
    return _problem(500, "a fault of the service", "its log says more")


def _problem(status: int, error: str, hint: str | None, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": error, "hint": hint}, status, headers)


PROBLEM_HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    Refused: _answer_refused,
    PhotoError: _answer_photo_error,
    RequestValidationError: _answer_invalid,
    HTTPException: _answer_http_error,
    Exception: _answer_fault,
}
"""What answers for each kind of exception."""
