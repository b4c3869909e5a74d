"""Check a data set: everything that is wrong with it, where an ``AnnotationSet`` stops at the first fault.

    file of boxes -> RawAnnotations -> photos found -> each photo looked at -> findings

A data set has one part to learn from and may have another to test on. Each part is checked alone,
then the two together.
"""

from __future__ import annotations

import heapq
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewbox.core import counted
from fewbox.core.boxes import are_same_boxes
from fewbox.data import plain_label
from fewbox.data.beside import boxes_to_name
from fewbox.data.checks.findings import (
    ERROR,
    KINDS,
    NOTE,
    TILES_BELOW,
    WARNING,
    Finding,
    check_boxes,
    count_small,
    finding,
    may_be_of_stored_photo,
)
from fewbox.data.checks.parts import Part, read_part
from fewbox.data.decoding import LACKS_END
from fewbox.data.formats.folders import without_case
from fewbox.data.formats.raw import Corners, RawPhoto
from fewbox.data.images import StrPath, given_places
from fewbox.data.project import Project
from fewbox.data.remote import is_remote
from fewbox.data.similar import HASH_BITS, NEARLY_SAME, SAME, similar_pairs
from fewbox.errors import AnnotationError, SettingError

RARE = 10
"""A class with so many times fewer boxes than the most frequent one is rare."""

DARK = 32
"""A photo without a brighter grey, of 255, is almost black; 12 bits of a 16-bit file reach 15."""

MANY_SMALL = 0.25
"""Tiles take many times as long: they are worth it where more than such a part of the boxes needs them."""

_JOIN_BOXES = "keep one, with the boxes of both: what has a box in only one is learnt as background too"
_MAY_BE_COPIES = (
    "nothing, if a fixed camera took them and the objects differ; else keep one, with the boxes of both"
)
_NAME_BOXES = "say where they are: --boxes; or draw them: fewbox annotate PHOTOS"


@dataclass(frozen=True)
class CheckReport:
    """What there is, and what is wrong with it, worst first.

    Attributes:
        findings: one row per thing that is wrong.
        num_photos: of both parts together.
        labels: how many boxes each class has to learn from.
        test_labels: how many boxes each class has to be tested on.
        num_train_photos: of those to learn from.
        num_test_photos: of those to test on; a photo may be in both, which is a finding.

    Examples:
        >>> report = fewbox.check_annotations(None, "ducks/train", show_progress=False)
        >>> for finding in report.findings:
        ...     print(f"{finding.severity}: {finding.what}")
        error: no file of boxes was named, and in the page none was drawn
    """

    findings: tuple[Finding, ...]
    num_photos: int
    labels: dict[str, int]
    test_labels: dict[str, int]
    num_train_photos: int
    num_test_photos: int

    def count(self, severity: str) -> int:
        """How many findings there are of a severity."""
        return sum(row.severity == severity for row in self.findings)


def check_annotations(
    boxes: StrPath | None,
    photos: StrPath | Sequence[StrPath] | None = None,
    *,
    test_boxes: StrPath | None = None,
    test_photos: StrPath | Sequence[StrPath] | None = None,
    label: str = "object",
    input_side: int = 640,
    strict: bool = False,
    skip_missing: bool = False,
    reviewed_only: bool = False,
    show_progress: bool = True,
) -> CheckReport:
    """List what is wrong with a data set. Nothing is changed, and a fault never hides another.

    Args:
        boxes: a file or folder of boxes in any format that is read here; without it those drawn in the
            photos, and that there are none is an error.
        photos: where the photos are, as for :func:`read_annotations`.
        test_boxes: the boxes of the photos to test on.
        test_photos: where these are.
        label: the name of the class if a file names none.
        input_side: the longer side of the network's input in pixels, to tell which boxes are tiny in it.
        strict: as for :func:`read_annotations`.
        skip_missing: leave out what is said of photos that are not there, as :func:`read_annotations` does.
        reviewed_only: leave out photos that nobody has looked at, as ``AnnotationSet.reviewed_only`` does.
        show_progress: show how far the work has come.

    Raises:
        PhotoError: there are no photos at one of the places.
        AnnotationError: there is no file of boxes there, or neither boxes nor photos are named.
        SettingError: ``input_side`` is no number above 0.

    Examples:
        >>> report = fewbox.check_annotations("ducks/train.json", "ducks/train", show_progress=False)
        >>> report.count("error"), report.labels
        (0, {'rubber_duck': 8})
    """
    _require_side(input_side)
    if boxes is None and photos is None:
        raise AnnotationError("neither boxes nor photos are named", hint=_NAME_BOXES)
    read = partial(
        read_part,
        label=label,
        skip_missing=skip_missing,
        reviewed_only=reviewed_only,
        show_progress=show_progress,
    )
    train = read(boxes, photos)
    parts = [train]
    if test_boxes is not None or test_photos is not None:
        parts.append(read(test_boxes, test_photos))
    findings = [row for part in parts for row in (*part.findings, *_check_part(part, input_side, strict))]
    findings += _check_balance(train)
    if train.boxes is None and train.photos:
        what = "no file of boxes was named, and in the page none was drawn"
        findings.append(finding("boxes-none", train.source, what, cure=_how_to_name_boxes(photos)))
    for test in parts[1:]:
        findings += _check_across(train, test)
    severities, kinds = [ERROR, WARNING, NOTE], list(KINDS)
    findings.sort(key=lambda row: (severities.index(row.severity), kinds.index(row.kind)))
    real = [{os.path.realpath(photo) for photo in part.photos} for part in parts]
    return CheckReport(
        tuple(findings),
        num_photos=len(set().union(*real)),
        labels=dict(train.labels),
        test_labels=dict(parts[-1].labels) if len(parts) > 1 else {},
        num_train_photos=len(real[0]),
        num_test_photos=len(real[1]) if len(parts) > 1 else 0,
    )


def _how_to_name_boxes(photos: StrPath | Sequence[StrPath] | None) -> str:
    """The cure where there are no boxes: what other programs left beside the photos is named."""
    places = given_places(photos or ())
    if len(places) == 1 and not is_remote(places[0]) and (found := boxes_to_name(Project(places[0]))):
        return f"name those that lie there: {found}; or draw boxes: fewbox annotate PHOTOS"
    return _NAME_BOXES


def _require_side(side: Any) -> None:
    if not isinstance(side, int | float) or not side > 0:
        raise SettingError(f"input_side must be a number of pixels: {side!r}")


def _check_part(part: Part, input_side: int, strict: bool) -> Iterator[Finding]:
    """All that can be said of one part alone."""
    yield from _check_names(part)
    for stated, path in part.stated:
        look = part.looks.get(path)
        if look is None:
            continue
        yield from check_boxes(
            stated, part.names[path], look.size_hw, input_side, strict=strict, is_sideways=look.is_sideways
        )
        if look.orientation != 1 and may_be_of_stored_photo(stated, look.size_hw, look.is_sideways):
            what = f"stored with EXIF orientation {look.orientation}"
            yield finding("photo-flipped", part.names[path], what, place=stated.where)
    yield from _check_small(part, input_side)
    for path, look in part.looks.items():
        if look.brightest < DARK:
            yield finding("photo-dark", part.names[path], f"its brightest pixel is {look.brightest} of 255")
        if look.lacks_end:
            yield finding("photo-without-end", part.names[path], LACKS_END)
    if part.is_annotated:
        yield from _check_reviewed(part)
    yield from _check_twice(part)
    yield from _check_spelling(part)


def _check_small(part: Part, input_side: int) -> Iterator[Finding]:
    """Whether many boxes are small in photos looked at whole, and would not be in tiles."""
    looks = [(stated, part.looks[path]) for stated, path in part.stated if path in part.looks]
    counts = [count_small(stated, look.size_hw, input_side) for stated, look in looks]
    boxes, small = (sum(one[i] for one in counts) for i in (0, 1))
    if small > boxes * MANY_SMALL:
        what = f"{small} of {counted(boxes, 'box')} are below {TILES_BELOW} x {TILES_BELOW} pixels"
        what += f" in an input of {input_side}, but not in tiles of the photos"
        yield finding("boxes-small", part.source, what)


def _check_names(part: Part) -> Iterator[Finding]:
    """Photos listed twice, and two photos of one name."""
    seen: dict[Path, RawPhoto] = {}
    for stated, path in part.stated:
        if path in seen:
            what = f"also at {seen[path].where}"
            yield finding("photo-listed-twice", part.names[path], what, place=stated.where)
        seen.setdefault(path, stated)
    by_name: dict[str, Path] = {}
    for path in part.photos:
        other = by_name.setdefault(path.name, path)
        if other != path:
            yield finding("photo-name-twice", path.name, f"{other} and {path}")


def _check_reviewed(part: Part) -> Iterator[Finding]:
    listed = {path: stated for stated, path in part.stated}
    looked_at = {path for stated, path in part.stated if stated.boxes or stated.reviewed}
    for path in part.looks:
        if path not in listed:
            yield finding("photo-not-reviewed", part.names[path], "the file of boxes does not mention it")
        elif path not in looked_at:
            what = "no boxes, and not marked as reviewed"
            yield finding("photo-not-reviewed", part.names[path], what, place=listed[path].where)
    if part.labels.total() == 0:
        yield finding("boxes-none", part.source, f"no box in any of {counted(len(part.photos), 'photo')}")


def _check_twice(part: Part) -> Iterator[Finding]:
    """Photos that look as another before them does; those that are surely copies first."""
    for alike in sorted(_alike(part, part, SAME), key=lambda alike: not alike.is_copy):
        other, cure = part.names[alike.other], None
        what = f"shows the same as {other}" if alike.is_copy else f"looks like {other}"
        if alike.is_copy and not alike.has_same_boxes:
            what, cure = f"{what}, with other boxes", _JOIN_BOXES
        elif not alike.is_copy:
            cure = _MAY_BE_COPIES
        what = f"{what} (distance {alike.distance:.2f})"
        yield finding("photo-twice", part.names[alike.path], what, cure=cure)


def _check_spelling(part: Part) -> Iterator[Finding]:
    """Labels that differ in capital letters or in what joins words alone."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in part.labels:
        # Not at an end: A- is another class than A.
        spellings[re.sub(r"(?<=\S)[\s_-]+(?=\S)", "", without_case(name.strip()))].append(name)
    for spelling, names in spellings.items():
        # Names that are one but for how an accent is stored are refused, which is told already.
        if spelling and len(set(map(plain_label, names))) > 1:
            listed = ", ".join(f"{name!r} ({counted(part.labels[name], 'box')})" for name in names)
            yield finding("label-alike", part.source, listed)


def _check_balance(part: Part) -> Iterator[Finding]:
    """Whether each class has its share of the boxes to learn from."""
    most = max(part.labels.values(), default=0)
    for name, count in part.labels.items():
        if most and count == 0:
            yield finding("label-unused", part.source, name)
        if 0 < count * RARE <= most:
            yield finding(
                "label-rare", part.source, f"{name}: {count} of up to {counted(most, 'box')} per class"
            )


def _check_across(train: Part, test: Part) -> Iterator[Finding]:
    """What spoils a test: photos that were learnt from, and classes that were not."""
    for alike in _alike(test, train, NEARLY_SAME):
        kind = "photo-in-both" if alike.is_copy else "photo-nearly-in-both"
        shows = "shows the same as" if alike.is_copy else "looks like"
        what = f"{shows} {train.names[alike.other]} (distance {alike.distance:.2f})"
        yield finding(kind, test.names[alike.path], what)
    for name, count in test.labels.items():
        if count and not train.labels[name]:
            yield finding("label-not-learnt", test.source, f"{name}: {counted(count, 'box')}")


_COMPARED = 20
"""So many photos that are nearest are held against each: in a long film of a fixed camera all are near."""


@dataclass(frozen=True)
class _Alike:
    """Two photos that look alike."""

    path: Path
    other: Path
    distance: float
    is_copy: bool
    """They are one picture, or as near as one saved again and with the same boxes.

    The hash alone does not do: a camera that does not move takes photos that are as near, of other objects.
    """
    has_same_boxes: bool


def _alike(part: Part, others: Part, max_distance: float) -> Iterator[_Alike]:
    """Photos of ``part``, each with a copy among ``others`` or else with the one that is most like it.

    Within one part a photo is compared with those before it.
    """
    paths, prints = _hashes(part)
    other_paths, other_prints = _hashes(others)
    boxes, other_boxes = _boxes_by_photo(part), _boxes_by_photo(others)
    for i, pairs in groupby(similar_pairs(prints, other_prints, max_distance), key=itemgetter(0)):
        look, own = part.looks[paths[i]], boxes.get(paths[i], ())
        near = [
            (others.looks[other_paths[j]].pixels != look.pixels, distance, j)
            for _, j, distance in pairs
            if part is not others or j < i
        ]
        found = list[_Alike]()
        for is_other_picture, distance, j in heapq.nsmallest(_COMPARED, near):
            others_own = other_boxes.get(other_paths[j], ())
            has_same_boxes = distance <= SAME and _are_same_boxes(own, others_own)
            is_copy = not is_other_picture or (has_same_boxes and len(own) > 0)
            found.append(_Alike(paths[i], other_paths[j], distance, is_copy, has_same_boxes))
        if found:
            yield min(found, key=lambda alike: (not alike.is_copy, alike.distance))


_Boxes = Sequence[tuple[str, Corners]]
"""Labels, and corners as parts of the photo: a copy may have another size."""


def _boxes_by_photo(part: Part) -> dict[Path, _Boxes]:
    boxes: dict[Path, list[tuple[str, Corners]]] = defaultdict(list)
    for stated, path in part.stated:
        if path in part.looks:
            size_hw = stated.size_hw or part.looks[path].size_hw
            height, width = (max(side, 1) for side in size_hw)
            for box in stated.boxes:
                if not box.ignore:
                    label = part.label if box.label is None else box.label.strip()
                    x1, y1, x2, y2 = box.corners_in(size_hw)
                    boxes[path].append((label, (x1 / width, y1 / height, x2 / width, y2 / height)))
    return {path: sorted(of_photo) for path, of_photo in boxes.items()}


def _are_same_boxes(first: _Boxes, second: _Boxes) -> bool:
    (labels, boxes), (others, theirs) = (
        ([label for label, _ in some], np.array([corners for _, corners in some]).reshape(-1, 4))
        for some in (first, second)
    )
    return bool(are_same_boxes(labels, boxes, others, theirs))


def _hashes(part: Part) -> tuple[list[Path], npt.NDArray[np.bool_]]:
    found = [
        (path, look.perceptual_hash) for path, look in part.looks.items() if look.perceptual_hash is not None
    ]
    bits = np.array([bits for _, bits in found], np.bool_).reshape(-1, HASH_BITS)
    return [path for path, _ in found], bits
