"""The photos of a request: one as the body itself, or several as the files of a form."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from fewbox.data.photo_file import PhotoBytes
from fewbox.deploy.settings import ServiceConfig
from fewbox.web.bodies import Refused

FIELD = "photo"
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = "multipart/form-data"
_HINT = "send the photo itself with Content-Type: image/jpeg, or files of a form: curl -F photo=@duck.jpg"


def describe_body(config: ServiceConfig) -> dict[str, Any]:
    """What OpenAPI says of the body."""
    files = {"type": "array", "minItems": 1, "maxItems": config.max_photos, "items": _BINARY["schema"]}
    form = {
        "type": "object",
        "properties": {FIELD: files},
        "required": [FIELD],
        "additionalProperties": False,
    }
    return {
        "required": True,
        "description": f"A photo itself, or a form with one or more files in its field {FIELD}.",
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            _FORM: {"schema": form},
        },
    }


async def read_photos(request: Request, config: ServiceConfig) -> list[PhotoBytes]:
    """The photos that a request brings, at least one, not looked into yet.

    Raises:
        Refused: there are none or too many, or the body is something else.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    max_pixels = config.max_megapixels * 1_000_000
    if kind == _FORM:
        return await _read_form(request, config.max_photos, max_pixels)
    if not kind.startswith("image/") and kind != "application/octet-stream":
        raise Refused(415, f"a photo cannot come as {kind or 'a body without Content-Type'}", _HINT)
    return [PhotoBytes("photo 1", await request.body(), max_pixels)]


async def _read_form(request: Request, max_photos: int, max_pixels: int) -> list[PhotoBytes]:
    try:
        # One file more than allowed is let through, so that what is wrong is said in our words.
        async with request.form(max_files=max_photos + 1, max_fields=1) as form:
            names = {name for name, _ in form.multi_items()} - {FIELD}
            if names:
                raise Refused(400, f"the form has an unknown field: {sorted(names)[0]!r}", _HINT)
            files = form.getlist(FIELD)
            photos = []
            for number, file in enumerate(files, start=1):
                if not isinstance(file, UploadFile):
                    raise Refused(400, f"the form's field {FIELD!r} is not a file", _HINT)
                photos.append(PhotoBytes(file.filename or f"photo {number}", await file.read(), max_pixels))
    except HTTPException as error:  # what the form's reader says of a form that is none, or too large
        raise Refused(400, f"the form cannot be read: {error.detail}", _HINT) from error
    if not photos:
        raise Refused(400, "the form has no photo", _HINT)
    if len(photos) > max_photos:
        raise Refused(400, f"more than {max_photos} photos in one request", "send them in several requests")
    return photos
