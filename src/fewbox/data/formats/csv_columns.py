"""What the columns of a table of boxes mean, told by their names.

Names are compared without regard to capital letters and signs: ``class_name``, ``Class Name`` and
``className`` are one. A column that is not known is never taken for another: it is named in a
remark, or refused where it may be the class of a box.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from fewbox.data.formats.raw import Corners
from fewbox.data.formats.text_file import number_in
from fewbox.data.images import PHOTO_SUFFIXES
from fewbox.errors import AnnotationError

HINT = (
    "the first row must name the columns: image,x1,y1,x2,y2 or image,left,top,width,height (pixels), "
    "or image,ymin,xmin,ymax,xmax (parts of the photo, 0 to 1); and label where there are several classes"
)

# The best name first: a table may have the path of a photo beside its name.
_IMAGES = (
    "image filename file imagename imagefile imagefilename "
    "imagepath filepath path img imgname imgpath imageid"
)
_NAMES = (
    "label class classname name category categoryname cls object objectname objectclass labelname classlabel"
)
_IDS = "classid categoryid labelid clsid classidx classindex labelindex"
_MAY_BE_CLASSES = "type tag kind species breed subclass objecttype classes labels"
_SCORES = (
    "score scores confidence conf prob probability certainty "
    "detectionscore classscore confscore confidencescore modelconfidence labelconfidence"
)
_RADIANS = "angle theta radians anglerad rotationrad"
_DEGREES = "rotation degrees angledeg angledegrees rotationdeg rotationdegrees rotationangle rot"
# Photos of one name are told apart by these.
_FOLDERS = "folder dir directory subfolder subdir"
_SPLITS = "split set subset partition"
_IGNORES = "ignore iscrowd crowd isgroupof difficult isdifficult"
_SIZES = ("height width", "imageheight imagewidth", "imgheight imgwidth", "imageh imagew", "imgh imgw")


@dataclass(frozen=True)
class Edges:
    """Four columns that are a box.

    Attributes:
        names: of the columns, ``x`` before ``y``.
        corners: makes ``(x1, y1, x2, y2)`` of their numbers.
        unit: whether they are parts of the photo; none if their values tell.
        is_plain: neither name says whether ``x`` and ``y`` are a corner or the centre.
    """

    names: tuple[str, str, str, str]
    corners: Callable[[float, float, float, float], Corners]
    unit: bool | None = None
    is_plain: bool = False


def _as_corners(x1: float, y1: float, x2: float, y2: float) -> Corners:
    return x1, y1, x2, y2


def _from_corner(x: float, y: float, width: float, height: float) -> Corners:
    return x, y, x + width, y + height


def _from_centre(x: float, y: float, width: float, height: float) -> Corners:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _edges(
    corners: Callable[[float, float, float, float], Corners],
    *names: str,
    unit: bool | None = None,
    is_plain: bool = False,
) -> list[Edges]:
    split = [name.split() for name in names]
    return [Edges((x, y, right, low), corners, unit, is_plain) for x, y, right, low in split]


_CORNERS = [
    *_edges(_as_corners, "x1 y1 x2 y2", "bboxx1 bboxy1 bboxx2 bboxy2", unit=False),
    *_edges(_as_corners, "xmin ymin xmax ymax", "bboxxmin bboxymin bboxxmax bboxymax"),
    *_edges(_as_corners, "left top right bottom", "xtl ytl xbr ybr"),
]
_SIDES = [
    *_edges(
        _from_corner, "left top width height", "xmin ymin width height", "bboxx bboxy bboxwidth bboxheight"
    ),
    *_edges(_from_corner, "bboxleft bboxtop bboxwidth bboxheight", "bboxx bboxy bboxw bboxh"),
    *_edges(_from_corner, "x y width height", "x y w h", is_plain=True),
    *_edges(_from_centre, "xcenter ycenter width height", "xcenter ycenter w h", "cx cy w h", "xc yc w h"),
    *_edges(
        _from_centre, "xcentre ycentre width height", "centerx centery width height", "cx cy width height"
    ),
]


@dataclass(frozen=True)
class Columns:
    """Which columns of a table say what, by their numbers.

    Attributes:
        header: the names as the table has them.
        image: the column with the name of the photo.
        box: the four columns of the box, in the order of ``edges.names``.
        edges: what they are.
        names, ids: those that may be the class, by name and by number.
        scores, radians, degrees, ignores: others that change what a box means.
        size: height and width of the photo, if the table has them.
        paths, folders, splits: what else says which photo is meant.
        unread: all others.
        is_known: it is one of the tables that have always been read, for folders with several formats.
    """

    header: tuple[str, ...]
    image: int
    box: tuple[int, int, int, int]
    edges: Edges
    names: tuple[int, ...]
    ids: tuple[int, ...]
    scores: tuple[int, ...]
    radians: tuple[int, ...]
    degrees: tuple[int, ...]
    ignores: tuple[int, ...]
    size: tuple[int, int] | None
    paths: tuple[int, ...]
    folders: tuple[int, ...]
    splits: tuple[int, ...]
    unread: tuple[int, ...]
    is_known: bool


def columns_of(header: Sequence[str], source: str) -> Columns:
    """Tell from the first row what the columns are.

    Raises:
        AnnotationError: there is no column for the photo, none or several for the box, or one that
            may be the class and may not.
    """
    names = [re.sub(r"[\W_]", "", name.lower()) for name in header]
    edges = _only_edges(names)
    image = next((name for name in _IMAGES.split() if names.count(name) == 1), None)
    if edges is None or image is None or names.count("ignore") > 1 or {"x3", "y3"} <= {*names}:
        shown = ",".join(header)[:200]
        lacks = {"the photo": image is None, "the box": edges is None}
        none_for = " and ".join(what for what, is_missing in lacks.items() if is_missing)
        hint = f"no columns that are clear for {none_for}; {HINT}" if none_for else HINT
        raise AnnotationError(f"{source}: row 1: columns not understood: {shown!r}", hint=hint)
    x, y, right, low = (names.index(name) for name in edges.names)
    box, taken = (x, y, right, low), {names.index(image), x, y, right, low}

    def those(listed: str) -> tuple[int, ...]:
        found = tuple(n for n, name in enumerate(names) if name in listed.split() and n not in taken)
        taken.update(found)
        return found

    size = next(
        (
            pair
            for pair in _SIZES
            if all(names.count(n) == 1 and names.index(n) not in taken for n in pair.split())
        ),
        None,
    )
    height_width = None if size is None else tuple(names.index(name) for name in size.split())
    taken.update(height_width or ())
    classes, ids = those(_NAMES), those(_IDS)
    doubtful = [] if classes or ids else [header[n] for n in those(_MAY_BE_CLASSES)]
    if doubtful:
        message = f"{source}: row 1: may be the class, or not: {doubtful[0]!r}"
        raise AnnotationError(message, hint="call the column label if it is; remove it if not")
    scores, radians, degrees, ignores = map(those, (_SCORES, _RADIANS, _DEGREES, _IGNORES))
    paths, folders, splits = map(those, (_IMAGES, _FOLDERS, _SPLITS))
    return Columns(
        header=tuple(header),
        image=names.index(image),
        box=box,
        edges=edges,
        names=classes,
        ids=ids,
        scores=scores,
        radians=radians,
        degrees=degrees,
        ignores=ignores,
        size=None if height_width is None else (height_width[0], height_width[1]),
        paths=paths,
        folders=folders,
        splits=splits,
        unread=tuple(n for n in range(len(names)) if n not in taken),
        is_known=_is_known([name.lower() for name in header]),
    )


def is_retinanet_row(cells: Sequence[str]) -> bool:
    """Tell whether a row is one of Keras RetinaNet's tables, which have no header: path,x1,y1,x2,y2,class."""
    if len(cells) != 6 or PurePosixPath(cells[0].replace("\\", "/")).suffix.lower() not in PHOTO_SUFFIXES:
        return False
    if not any(cells[1:]):
        return True
    last = number_in(cells[5])
    is_class = cells[5] != "" and (last is None or cells[5].isdecimal())  # a fraction may be a score
    return is_class and all(number_in(cell) is not None for cell in cells[1:5])


def are_parts(boxes: Iterable[tuple[str, Corners]]) -> bool:
    """Tell whether boxes are in parts of the photo; if not, they are in pixels.

    No box in pixels lies within the first two of a photo, and none in parts reaches to 2.

    Raises:
        AnnotationError: some are and some are not; the place of the first in pixels is named.
    """
    pixels: list[tuple[str, Corners]] = []
    parts: list[tuple[str, Corners]] = []
    for where, corners in boxes:
        if any(corners):
            (pixels if max(map(abs, corners)) >= 2 else parts).append((where, corners))
    if pixels and parts:
        where, corners = pixels[0]
        values = ", ".join(
            f"{name}={value:g}" for name, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        )
        hint = "if the boxes are in pixels, name the columns x1, y1, x2, y2 instead of xmin, ymin, xmax, ymax"
        raise AnnotationError(f"{where}: every edge must be from 0 to 1: {values}", hint=hint)
    return bool(parts)


def class_column(columns: Columns, rows: Sequence[tuple[str, Sequence[str]]]) -> int | None:
    """The column with the classes of the boxes, or none if the table names no class.

    Args:
        columns: what the columns are.
        rows: where each row with a box stands, and its cells.

    Raises:
        AnnotationError: two columns may be it and disagree.
    """
    used = [n for n in (*columns.names, *columns.ids) if any(cells[n] for _, cells in rows)]
    numbers = [
        n for n in used if n in columns.ids or all(cells[n].isdecimal() for _, cells in rows if cells[n])
    ]
    texts = [n for n in used if n not in numbers]
    if not used:
        return next(iter((*columns.names, *columns.ids)), None)
    chosen = (texts or [n for n in numbers if n in columns.names] or numbers)[0]
    for other in used:
        if other in texts or not texts:
            pairs = [(where, cells[chosen], cells[other]) for where, cells in rows]
            differ = next((pair for pair in pairs if pair[1] != pair[2]), None)
        else:
            differ = _not_one_to_one([(where, cells[chosen], cells[other]) for where, cells in rows])
        if differ is not None:
            where, one, two = differ
            both = f"{columns.header[chosen]} {one!r}, {columns.header[other]} {two!r}"
            message = f"{where}: two columns name the class and disagree: {both}"
            raise AnnotationError(message, hint="keep the one that is meant, and remove or rename the other")
    return chosen


def degrees_in(columns: Columns, cells: Sequence[str], where: str) -> float:
    """By how much a box is turned; where the unit of an angle is not known, the larger one is assumed."""
    turns = [number(cells[n], f"{where}: {columns.header[n]}") for n in columns.degrees if cells[n]]
    turns += [
        math.degrees(number(cells[n], f"{where}: {columns.header[n]}")) for n in columns.radians if cells[n]
    ]
    return max(turns, key=abs, default=0.0)


def number(cell: str, where: str) -> float:
    """The number in a cell.

    Raises:
        AnnotationError: it is none.
    """
    value = number_in(cell)
    if value is None:
        hint = "write a number with a decimal point, or leave all four box columns empty"
        raise AnnotationError(f"{where}: not a number: {cell[:40]!r}", hint=hint)
    return value


def _only_edges(names: Sequence[str]) -> Edges | None:
    """The only four columns that are a box; corners are believed before sides, which may be the photo's."""
    for known in (_CORNERS, _SIDES):
        there = [edges for edges in known if all(names.count(name) == 1 for name in edges.names)]
        if there:
            return there[0] if len(there) == 1 else None
    return None


def _not_one_to_one(pairs: Iterable[tuple[str, str, str]]) -> tuple[str, str, str] | None:
    """The first row in which a number stands for another name, or a name for another number, than before."""
    by_name: dict[str, str] = {}
    by_number: dict[str, str] = {}
    for where, name, digits in pairs:
        if by_name.setdefault(name, digits) != digits or by_number.setdefault(digits, name) != name:
            return where, name, digits
    return None


def _is_known(header: Sequence[str]) -> bool:
    known = (
        "image x1 y1 x2 y2",
        "image xmin ymin xmax ymax",
        "filename width height class xmin ymin xmax ymax",
    )
    return any({*names.split()} <= {*header} for names in known)
