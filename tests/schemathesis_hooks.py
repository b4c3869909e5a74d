"""What OpenAPI cannot say, for schemathesis: which bytes are a photo, and that several are no picture."""

from __future__ import annotations

import io
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image
from schemathesis.transport.serialization import Binary


def _photo(suffix: str, colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(stream, suffix)
    return stream.getvalue()


PHOTOS = st.sampled_from([_photo("PNG", "teal"), _photo("JPEG", "gold"), _photo("WEBP", "navy")])

schemathesis.openapi.media_type("image/png", PHOTOS, aliases=("image/*",))
schemathesis.openapi.media_type("application/octet-stream", PHOTOS)
schemathesis.openapi.format("binary", PHOTOS.map(Binary))


@schemathesis.hook
def filter_case(_context: Any, case: Any) -> bool:
    photos = case.body.get("photo", []) if isinstance(case.body, dict) else []
    return (case.query or {}).get("format") != "png" or not isinstance(photos, list) or len(photos) < 2
