"""Run an exported detector: the one thing an engine does, and what the detector's file says of itself.

That is JSON under one key of the file's metadata, the header:

format_version      1
fewbox_version      what wrote it; goldeneye_version in files from before the package was renamed
input               "photos", or "images" of a file written with --raw
architecture, config, labels, score_threshold, precision, base, provenance
as in the detector it was made from
detector_sha256     identifies that detector
weights_sha256      of an .xml of OpenVINO: of the .bin that belongs to it
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from fewbox.core import named_entry
from fewbox.core.arguments import checked_threshold
from fewbox.errors import CheckpointError, DetectorFileError, SettingError
from fewbox.models import BASE_HEADER
from fewbox.models.protobuf import blaming, onnx_metadata

HEADER_KEY = "fewbox"
NETWORK_INPUT = "network/images"
"""The tensor between what prepares photos and the network, in every exported file."""
VERSION_KEY = "fewbox_version"
FORMAT_VERSION = 1
EXPORT_ONE = "write one with: fewbox export duck.safetensors duck.onnx"


class Outputs(NamedTuple):
    """The detections of N photos, best score first, each photo's filled up to D rows."""

    boxes: NDArray[np.float32]
    """``[N, D, 4]`` in pixels of the photos, clipped to them."""
    scores: NDArray[np.float32]
    """``[N, D]``; 0 where there is no detection."""
    class_ids: NDArray[np.int64]
    """``[N, D]``; -1 where there is no detection."""

    def of_photo(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """The boxes ``[K, 4]``, scores ``[K]`` and class ids ``[K]`` of one of the photos."""
        count = int((self.class_ids[number] >= 0).sum())
        return self.boxes[number, :count], self.scores[number, :count], self.class_ids[number, :count]


class Engine(Protocol):
    """Runs one exported detector; may be used by several threads at once."""

    name: str
    """``"onnxruntime"``, ...: what ``--engine`` calls it."""
    precision: str
    """What the network computes in: ``"float32"``, ``"bfloat16"`` or ``"int8"``."""
    runs_on: str
    """What computes: ``cpu``, or a provider of ONNX Runtime's."""
    header: Mapping[str, Any]
    """What the file says of itself."""

    def run(self, photos: NDArray[np.uint8], threshold: float) -> Outputs:
        """The objects in ``photos`` ``[N, H, W, 3]``, upright RGB, whose score is above the threshold."""
        ...


_Engine = TypeVar("_Engine", bound=Engine)


def opened_again(opening: partial[_Engine], header: Mapping[str, Any]) -> _Engine:
    """An engine that was copied or handed to another process: what runs cannot be, so its file is opened.

    Args:
        opening: opens it; its first argument is the file.
        header: of the file when it was opened first.

    Raises:
        DetectorFileError: another detector has taken its place, whose classes are not those of the copy.
    """
    engine = opening()
    if json.dumps(engine.header) != json.dumps(header):
        path = opening.args[0]
        hint = f"open it anew: fewbox.open_detector({str(path)!r})"
        raise DetectorFileError(f"{path}: has changed since it was opened", hint=hint)
    return engine


class StrangersFileError(DetectorFileError):
    """A whole file, but no detector that fewbox exported."""


def read_onnx_header(path: Path) -> Mapping[str, Any]:
    """The header of an ``.onnx`` file, without any library for ONNX, and without reading the network.

    Raises:
        DetectorFileError: the file is missing, damaged, a stranger's, or from a newer fewbox.
    """
    if not path.is_file():
        raise DetectorFileError(f"{path}: no such file", hint=EXPORT_ONE)
    if path.stat().st_size == 0:
        raise DetectorFileError(f"{path}: the file is empty", hint=EXPORT_ONE)
    try:
        with blaming(path, if_damaged=EXPORT_ONE), path.open("rb") as file:
            # Not closed here: whoever tells of a fault still holds pieces of it.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            stored = onnx_metadata(memoryview(content))
    except CheckpointError as error:
        raise DetectorFileError(f"{error.message}: not an ONNX file, or damaged", hint=error.hint) from error
    if BASE_HEADER in stored:
        raise DetectorFileError(
            f"{path}: a base to learn from in a browser, no detector yet",
            hint="open it in the page of examples/web: what is learnt there is a detector's file",
        )
    return parse_header(path, named_entry(stored, HEADER_KEY))


def is_exported_detector(path: Path) -> bool:
    """Whether an ``.onnx`` file says of itself that it is a detector; of a damaged one nobody knows."""
    try:
        read_onnx_header(path)
    except StrangersFileError:
        return False
    except DetectorFileError:
        return True  # whoever opens it as one says what is wrong
    return True


def read_openvino_header(path: Path) -> Mapping[str, Any]:
    """The header of an ``.xml`` file of OpenVINO, without OpenVINO; errors as :func:`read_onnx_header`."""
    try:
        content = path.read_bytes()
        if b"<!" in content:  # a document type, whose entities may grow beyond all memory
            raise ElementTree.ParseError("a document type is declared")
        told = {one.tag: one.get("value") for one in ElementTree.fromstring(content).iterfind("rt_info/*")}
    except FileNotFoundError:
        raise DetectorFileError(f"{path}: no such file", hint=EXPORT_ONE) from None
    except (OSError, ElementTree.ParseError) as error:
        raise DetectorFileError(f"{path}: not OpenVINO's, or damaged: {error}", hint=EXPORT_ONE) from error
    return parse_header(path, named_entry(told, HEADER_KEY))


def files_of(path: Path) -> list[Path]:
    """The files that an exported detector is made of: OpenVINO's keeps its weights in one beside it."""
    return [path, path.with_suffix(".bin")] if path.suffix.lower() == ".xml" else [path]


def parse_header(path: Path, text: str | None) -> Mapping[str, Any]:
    """The header of the exported detector at ``path``, given the text in its metadata.

    Raises:
        DetectorFileError: it is a stranger's, damaged, or from a newer fewbox.
    """
    if text is None:
        raise StrangersFileError(f"{path}: not a detector that fewbox exported", hint=EXPORT_ONE)
    try:
        header = dict(json.loads(text))
        version = header["format_version"]
        header[VERSION_KEY] = named_entry(header, VERSION_KEY)
        if "provenance" in header:
            header["provenance"] = known_provenance(header["provenance"])
    except (ValueError, TypeError, KeyError) as error:
        raise DetectorFileError(f"{path}: its header is damaged: {error}", hint=EXPORT_ONE) from error
    if version != FORMAT_VERSION:
        raise DetectorFileError(
            f"{path}: exported in format {version}, this fewbox reads format {FORMAT_VERSION}",
            hint="install a newer fewbox: git pull && pip install .",
        )
    if "score_threshold" in header:
        header["score_threshold"] = known_threshold(path, header, EXPORT_ONE)
    return header


def known_threshold(path: Path, header: Mapping[str, Any], hint: str) -> float:
    """The threshold that a detector's file states; what it states may be anything, of an earlier fewbox.

    Raises:
        DetectorFileError: it is no number from 0 to 1.
    """
    try:
        return checked_threshold(header.get("score_threshold"))
    except SettingError as error:
        raise DetectorFileError(f"{path}: {error.message}", hint=hint) from error


def known_provenance(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """How a detector was made, as its file says, without numbers that nothing speaks for.

    Files written before classes without held-out objects had no AP50 hold a guess for them, which is also
    in the mean over the classes and in its interval. Both are made again from the classes that are known:
    their intervals were averaged end by end, so the new one is right but for rounding, outwards.
    """
    if "estimate" not in provenance:
        return dict(provenance)
    estimate = provenance["estimate"]
    unknown = dict.fromkeys(("ap50", "low", "high"))
    classes = [one if one["objects"] else {**one, **unknown} for one in estimate["classes"]]
    known = [one for one in classes if one["objects"]]
    if classes == estimate["classes"]:
        return dict(provenance)
    overall = unknown | {name: estimate["overall"][name] for name in ("label", "objects")}
    if known:
        overall |= _mean_of(known)
    told = {**estimate, "overall": overall, "classes": classes}
    return {**provenance, "estimate": told if known else {**told, "precise_threshold": None}}


def expected_ap50(
    provenance: Mapping[str, Any], labels: Sequence[str], class_ids: Set[int]
) -> Mapping[str, float] | None:
    """The AP50 to expect of some of a detector's classes: ``ap50``, ``low`` and ``high``.

    None if it is not known of each. Labels may have been renamed since; with ``--keep-classes`` only the new
    ones were looked at.
    """
    classes = provenance.get("estimate", {}).get("classes", ())
    by_label = {one["label"]: one for one in classes}
    if len(classes) == len(labels):
        by_label = dict(zip(labels, classes, strict=True))
    asked = [by_label[labels[c]] for c in class_ids if by_label.get(labels[c], {}).get("objects")]
    if not asked or len(asked) < len(class_ids):
        return None
    if len(asked) < sum(bool(one["objects"]) for one in classes):
        return _mean_of(asked)
    return {name: provenance["estimate"]["overall"][name] for name in ("ap50", "low", "high")}


def _mean_of(classes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    ap50, low, high = (sum(one[name] for one in classes) / len(classes) for name in ("ap50", "low", "high"))
    # Rounded first: 0.29 * 100 is a little less than 29.
    low, high = math.floor(round(100 * low, 6)) / 100, math.ceil(round(100 * high, 6)) / 100
    return {"ap50": ap50, "low": low, "high": high}


def require_photos(path: Path, header: Mapping[str, Any]) -> None:
    """Refuse a file that holds the network alone.

    Raises:
        DetectorFileError: it does not take photos.
    """
    if header.get("input") != "photos":
        raise DetectorFileError(
            f"{path}: was exported with --raw, for other programs: it takes no photos",
            hint="export it again without --raw",
        )
