"""Pictures for people: boxes on a photo, many photos on one sheet, an animation; and saving them.

Lines and letters grow with the photo, so that a drawing looks the same whether the photo is
a thumbnail or 12 megapixels, once both are shown at one size. Every tag stays inside its
picture. Nothing here changes the image it is given, but for ``draw_path``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageOps
from PIL.PngImagePlugin import PngInfo

from fewbox.core import counted
from fewbox.core.arguments import checked_path, several
from fewbox.core.files import MARK, is_there, replacing
from fewbox.data.images import StrPath, read_image, upright_array
from fewbox.data.remote import place_here
from fewbox.detection.tags import Rect, Tag, caption_to_width, font_for, place_tags
from fewbox.errors import OutputError

Picture = npt.NDArray[np.uint8] | Image.Image | StrPath
RGB = tuple[int, int, int]

# Okabe and Ito, "Color Universal Design" (2008): told apart under every common kind of
# colour blindness. Blue is rare in nature, so most things stand out from the first.
COLORS: tuple[RGB, ...] = (
    (86, 180, 233),  # sky blue
    (213, 94, 0),  # vermillion
    (240, 228, 66),  # yellow
    (204, 121, 167),  # reddish purple
    (0, 158, 115),  # bluish green
    (230, 159, 0),  # orange
    (0, 114, 178),  # blue
)
_BLACK: RGB = (0, 0, 0)
_WHITE: RGB = (255, 255, 255)
_INK: RGB = (60, 60, 60)

# JPEG at full colour resolution: the usual half blurs thin coloured lines.
_JPEG: dict[str, Any] = {"format": "JPEG", "quality": 92, "subsampling": 0, "comment": MARK}
_PNG_TEXT = PngInfo()
_PNG_TEXT.add_text("Comment", MARK)
PICTURE_FORMATS: dict[str, dict[str, Any]] = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), _JPEG),
    ".png": {"format": "PNG", "pnginfo": _PNG_TEXT},
}


def class_color(class_id: int) -> RGB:
    """The colour of a class; the eighth class has the first one's again, and only its label to tell it by."""
    return COLORS[class_id % len(COLORS)]


def draw_boxes(
    image: Picture,
    boxes: npt.ArrayLike,
    tags: Sequence[str] | str,
    class_ids: Sequence[int] | npt.NDArray[np.int64] | None = None,
    *,
    dashed: Sequence[bool] | None = None,
) -> Image.Image:
    """Draw boxes and their tags on a copy of ``image``.

    The first box lies on top, and where tags crowd it has first choice of a place for its own. A tag that
    would hide other boxes is written smaller, or left out.

    Args:
        image: ``[H, W, 3]`` RGB or ``[H, W]`` grey, a Pillow image, or the path of a photo.
        boxes: ``[M, 4]``, ``(x1, y1, x2, y2)`` in pixels; what lies outside the picture is cut off.
        tags: M texts, or one for all boxes; an empty one draws no tag, one too long for the picture is cut
            short.
        class_ids: M ids, which choose the colours; if not given, all have that of the first class.
        dashed: M flags, true for a dashed outline: a box to be ignored.

    Raises:
        ValueError: ``boxes`` is not ``[M, 4]`` numbers, others are not of that length, or tags are no texts.

    Examples:
        >>> photo = fewbox.read_image("ducks/train/duck_01.jpg")
        >>> fewbox.draw_boxes(photo, [(222, 130, 340, 260)], ["duck"]).save("drawn.png")
    """
    corners = np.asarray(boxes, dtype=np.float64)
    if corners.size == 0:
        corners = corners.reshape(0, 4)  # an empty list too is no boxes
    ids = [0] * len(corners) if class_ids is None else class_ids
    flags = [False] * len(corners) if dashed is None else dashed
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise ValueError(f"boxes must be [M, 4]: {list(corners.shape)}; one box is [(x1, y1, x2, y2)]")
    if not np.isfinite(corners).all():
        raise ValueError("boxes must be finite numbers")
    tags = [tags] * len(corners) if isinstance(tags, str) else tags
    if not isinstance(tags, Iterable) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("tags must be texts, or one for all: of scores [f'{score:.0%}' for score in scores]")
    if not len(corners) == len(tags) == len(ids) == len(flags):
        raise ValueError(
            f"{counted(len(corners), 'box')}, {counted(len(tags), 'tag')}, "
            f"{counted(len(ids), 'class id')}, {len(flags)} dashed"
        )
    picture = _pillow(image)
    canvas = ImageDraw.Draw(picture)
    scale = _Scale.of(picture)
    visible = [
        (outline, class_color(int(class_id)), tag, is_dashed, line)
        for box, class_id, tag, is_dashed in zip(corners.tolist(), ids, tags, flags, strict=True)
        if (outline := _outline(box, scale, line := _line_of(box, scale))) is not None
    ]
    for outline, color, _, is_dashed, line in reversed(visible):
        _draw_outline(canvas, outline, color, line, dashed=is_dashed)
    outlines, texts = [one[0] for one in visible], [one[2] for one in visible]
    placed = place_tags(picture.size, outlines, texts, scale.text)
    for tag, (_, color, *_) in zip(placed, visible, strict=True):
        if tag is not None:
            _draw_tag(canvas, tag, color)
    return picture


def draw_path(picture: Image.Image, points: npt.ArrayLike, text: str, *, closed: bool) -> None:
    """Draw a line through ``points`` ``[P, 2]``, and a tag beside it, on ``picture`` itself."""
    corners = [(float(x), float(y)) for x, y in np.asarray(points)]
    corners += corners[:1] if closed else []
    canvas, scale = ImageDraw.Draw(picture), _Scale.of(picture)
    for color, width in ((_BLACK, scale.line + 2 * _edge_of(scale.line)), (_WHITE, scale.line)):
        canvas.line(corners, fill=color, width=width, joint="curve")
    xs, ys = zip(*corners, strict=True)
    outline = _outline((min(xs), min(ys), max(xs) + 1, max(ys) + 1), scale, scale.line)
    for tag in place_tags(picture.size, [outline], [text], scale.text) if outline is not None else ():
        if tag is not None:
            _draw_tag(canvas, tag, _WHITE)


@dataclass(frozen=True)
class _Scale:
    """The size of one picture and of what is drawn on it, in pixels."""

    width: int
    height: int
    line: int
    """The width of a line; of a box that is small for it, see :func:`_line_of`."""
    text: int

    @classmethod
    def of(cls, picture: Image.Image) -> _Scale:
        side = math.sqrt(picture.width * picture.height)
        return cls(picture.width, picture.height, max(2, round(side / 200)), text=max(11, round(side / 32)))


def _line_of(box: Sequence[float], scale: _Scale) -> int:
    """How wide the line around ``box`` is: an eighth of its shorter side at the most, or it would hide it."""
    x1, y1, x2, y2 = box
    return max(int(min(x2 - x1, y2 - y1, 8 * scale.line)) // 8, 1)


def _edge_of(line: int) -> int:
    """How wide the edge on both sides of a line is."""
    return max(1, line // 4)


def _outline(box: Sequence[float], scale: _Scale, line: int) -> Rect | None:
    """The outer border of a line along the edges of ``box``; None if no part is in the picture."""
    x1, y1, x2, y2 = box
    if x2 <= 0 or y2 <= 0 or x1 >= scale.width or y1 >= scale.height:
        return None
    left, right = _span(x1, x2, scale.width, line // 2)
    top, bottom = _span(y1, y2, scale.height, line // 2)
    return left, top, right, bottom


def _span(low: float, high: float, length: int, grow: int) -> tuple[int, int]:
    start = min(max(round(low), 0), length - 1)
    stop = max(round(min(high, length)), start + 1)
    return max(start - grow, 0), min(stop + grow, length)


def _draw_outline(canvas: ImageDraw.ImageDraw, outline: Rect, color: RGB, line: int, *, dashed: bool) -> None:
    left, top, right, bottom = outline
    bars = [
        (left, top, right, min(top + line, bottom)),
        (left, max(bottom - line, top), right, bottom),
        (left, top, min(left + line, right), bottom),
        (max(right - line, left), top, right, bottom),
    ]
    if dashed:
        bars = [dash for bar in bars for dash in _dashes(bar, 4 * line)]
    for bar in bars:  # an edge all round, so that the line shows on its own colour too
        _fill(canvas, bar, _contrast_color(color), grow=_edge_of(line))
    for bar in bars:
        _fill(canvas, bar, color)


def _dashes(bar: Rect, length: int) -> list[Rect]:
    left, top, right, bottom = bar
    if right - left >= bottom - top:
        return [(x, top, min(x + length, right), bottom) for x in range(left, right, 2 * length)]
    return [(left, y, right, min(y + length, bottom)) for y in range(top, bottom, 2 * length)]


def _fill(canvas: ImageDraw.ImageDraw, area: Rect, color: RGB, grow: int = 0) -> None:
    left, top, right, bottom = area
    # Pillow counts the last column and row in; what lies outside the picture it leaves out.
    canvas.rectangle((left - grow, top - grow, right + grow - 1, bottom + grow - 1), fill=color)


def _draw_tag(canvas: ImageDraw.ImageDraw, tag: Tag, color: RGB) -> None:
    left, top, _, _ = tag.area
    _fill(canvas, tag.area, color)
    canvas.text((left + tag.padding, top), tag.text, font=tag.font, fill=_contrast_color(color))


def _contrast_color(color: RGB) -> RGB:
    """Black or white, whichever stands out more (WCAG 2.1: relative luminance, contrast ratio)."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in color)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _BLACK if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else _WHITE


def contact_sheet(
    pictures: Iterable[Picture],
    columns: int | None = None,
    tile_width: int = 480,
    captions: Sequence[str] | None = None,
) -> Image.Image:
    """Lay many pictures out on one white sheet, row by row.

    Pictures are taken one at a time and kept only at the size of a tile, so a generator can
    bring more than would fit in memory.

    Args:
        pictures: at least one, Pillow images, arrays or paths; each is scaled to fit a square of
            ``tile_width``.
        columns: tiles per row; if not given, the sheet becomes about as wide as a screen.
        tile_width: in pixels.
        captions: one text per picture, written below it; of ``name: what`` the name is cut where it is wide.

    Raises:
        ValueError: there are no pictures, or one and no list, or not one caption for each.

    Examples:
        >>> names = ["ducks/test/duck_01.jpg", "ducks/test/duck_02.jpg"]
        >>> fewbox.contact_sheet(map(fewbox.read_image, names), 2, tile_width=240, captions=names).width
        498
    """
    tiles = [contained(_pillow(one), (tile_width, tile_width)) for one in several(pictures)]
    texts = [""] * len(tiles) if captions is None else captions
    if not tiles or len(texts) != len(tiles):
        raise ValueError(f"{len(tiles)} pictures, {len(texts)} captions")
    if columns is None:
        mean_height = sum(tile.height for tile in tiles) / len(tiles)
        columns = round(math.sqrt(len(tiles) * mean_height / tile_width * 4 / 3))
    columns = min(max(columns, 1), len(tiles))

    gap = max(4, tile_width // 40)
    text_size = max(11, tile_width // 24)
    caption_height = 0 if captions is None else 2 * text_size
    rows = [range(start, min(start + columns, len(tiles))) for start in range(0, len(tiles), columns)]
    row_heights = [max(tiles[index].height for index in row) + caption_height + gap for row in rows]
    sheet = Image.new("RGB", (columns * (tile_width + gap) + gap, sum(row_heights) + gap), _WHITE)
    canvas = ImageDraw.Draw(sheet)
    top = gap
    for row, row_height in zip(rows, row_heights, strict=True):
        for column, index in enumerate(row):
            left, tile = gap + column * (tile_width + gap), tiles[index]
            sheet.paste(tile, (left + (tile_width - tile.width) // 2, top))
            font = font_for(texts[index], text_size)
            caption = caption_to_width(texts[index], font, tile_width)
            middle = left + tile_width // 2
            canvas.text(
                (middle, top + tile.height + text_size // 4), caption, font=font, fill=_INK, anchor="ma"
            )
        top += row_height
    return sheet


def contained(
    picture: Image.Image, size_wh: tuple[int, int], method: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """The picture as large as it fits into ``size_wh``, and a pixel wide and high at the least.

    ``ImageOps.contain`` leaves nothing of one that is hundreds of times longer than wide.
    """
    scale = min(size_wh[0] / picture.width, size_wh[1] / picture.height)
    if min(picture.size) * scale >= 1:
        return ImageOps.contain(picture, size_wh, method)
    is_wide = picture.width > picture.height
    return picture.resize((size_wh[0], 1) if is_wide else (1, size_wh[1]), method)


def _pillow(picture: Picture) -> Image.Image:
    """A copy, upright and RGB."""
    if isinstance(picture, str | os.PathLike):
        return Image.fromarray(read_image(picture))
    return Image.fromarray(upright_array(picture))


def require_another(target: Path, photos: Iterable[StrPath], what: str = "picture") -> None:
    """Refuse to write a picture, or what else it is, over one of the photos that it is made of.

    Raises:
        OutputError: ``target`` is one of them, by whatever name.
    """
    if not is_there(target):
        return
    for photo in photos:
        if is_there(photo := Path(place_here(photo))) and target.samefile(photo):
            raise OutputError(f"{target}: the {what} would replace the photo", hint="choose another name")


def save_picture(picture: Image.Image, target: Path) -> None:
    """Write ``picture`` as JPEG or PNG, as the suffix of ``target`` says, whole or not at all.

    Raises:
        OutputError: the suffix is another one, or the file cannot be written.
    """
    options = PICTURE_FORMATS.get(target.suffix.lower())
    if options is None:
        hint = "use a name that ends in one of: " + ", ".join(PICTURE_FORMATS)
        raise OutputError(f"{target}: a picture cannot be written as {target.suffix!r}", hint=hint)
    with replacing(target) as temporary:
        (picture if picture.mode == "RGB" else picture.convert("RGB")).save(temporary, **options)


def save_gif(
    pictures: Iterable[Picture],
    target: StrPath,
    *,
    frames_per_second: float = 5,
    max_width: int = 640,
) -> None:
    """Write ``pictures`` as an animation that repeats for ever, whole or not at all.

    Pictures are taken one at a time; Pillow holds each as one byte per pixel until it writes.
    One that equals the picture before it lengthens that one's time instead.

    Args:
        pictures: at least one, Pillow images, arrays or paths; the first gives the size, and black bars fit
            the others to it.
        target: ends in ``.gif``.
        frames_per_second: above 0 and up to 50, beyond which browsers slow down.
        max_width: a wider first picture is made this wide.

    Raises:
        ValueError: there are no pictures, or one and no list, or ``frames_per_second`` is out of its limits.
        OutputError: the suffix is another one, the file cannot be written, or it is one of ``pictures``.

    Examples:
        >>> names = ["ducks/test/duck_01.jpg", "ducks/test/duck_02.jpg"]
        >>> fewbox.save_gif(map(fewbox.read_image, names), "ducks.gif", frames_per_second=2)
    """
    path = checked_path(target, "an animation's file", OutputError)
    if not 0 < frames_per_second <= 50:
        raise ValueError(f"frames_per_second must be above 0 and up to 50: {frames_per_second}")
    if path.suffix.lower() != ".gif":
        hint = "use a name that ends in .gif"
        raise OutputError(f"{path}: an animation cannot be written as {path.suffix!r}", hint=hint)
    frames = _gif_frames(_others(pictures, path), max_width)
    first = next(frames, None)
    if first is None:
        raise ValueError("an animation needs at least one picture")
    duration_ms = 10 * round(100 / frames_per_second)  # GIF counts in hundredths of a second
    options = {"save_all": True, "duration": duration_ms, "loop": 0, "comment": MARK}
    with replacing(path) as temporary:
        first.save(temporary, format="GIF", append_images=frames, **options)


def _others(pictures: Iterable[Picture], target: Path) -> Iterator[Picture]:
    """The pictures as they come; errors as :func:`require_another`."""
    for picture in several(pictures):
        name = picture if isinstance(picture, str | os.PathLike) else getattr(picture, "filename", "")
        require_another(target, [name] if name else [], "animation")
        yield picture


def _gif_frames(pictures: Iterable[Picture], max_width: int) -> Iterator[Image.Image]:
    size: tuple[int, int] | None = None
    for frame in map(_pillow, pictures):
        if size is None:
            scale = min(1.0, max_width / frame.width)
            size = round(frame.width * scale), max(1, round(frame.height * scale))
        if frame.size != size:
            frame = ImageOps.pad(contained(frame, size, Image.Resampling.LANCZOS), size)
        # A palette of the frame's own: an octree keeps the colour of small bright things, which
        # median cut greys. Only to a given palette does Pillow dither, hence the second step.
        yield frame.quantize(palette=frame.quantize(method=Image.Quantize.FASTOCTREE))
