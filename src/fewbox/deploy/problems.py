"""Whatever goes wrong, told as one kind of JSON: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from fewbox.deploy.answers import Problem
from fewbox.errors import PhotoError
from fewbox.web.bodies import Refused


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of refusals with these statuses."""
    return {status: {"model": Problem} for status in statuses}


async def _tell_refused(_request: Request, refused: Any) -> Response:
    return _problem(refused.status, refused.error, refused.hint, refused.headers)


async def _tell_photo_error(_request: Request, error: Any) -> Response:
    return _problem(422, error.message, error.hint)


async def _tell_invalid(_request: Request, error: Any) -> Response:
    first = error.errors()[0]
    return _problem(422, f"{first['loc'][-1]}: {first['msg'].lower()}", "see /openapi.json")


async def _tell_http_error(_request: Request, error: Any) -> Response:
    hint = "see / for what can be asked"
    return _problem(error.status_code, str(error.detail).lower(), hint, error.headers)


async def _tell_fault(_request: Request, _error: Any) -> Response:
    return _problem(500, "a fault of the service", "its log says more")


def _problem(status: int, error: str, hint: str | None, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": error, "hint": hint}, status, headers)


PROBLEM_HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    Refused: _tell_refused,
    PhotoError: _tell_photo_error,
    RequestValidationError: _tell_invalid,
    HTTPException: _tell_http_error,
    Exception: _tell_fault,
}
"""By the exception that is told."""
