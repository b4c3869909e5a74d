"""Detect in many photos: annotated pictures, one JSON file, a table, and an animation if wanted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from fewbox import __version__
from fewbox.core import counted, quoted, some_of
from fewbox.core.arguments import AUTO, CPU, checked_threshold, may_have_gpu, takes_score_threshold
from fewbox.core.boxes import checked_tiles
from fewbox.core.files import drawings_among, is_drawing, is_there, not_own, require_own, require_writable
from fewbox.core.progress import console, progress_bar
from fewbox.data.images import (
    PHOTO_SUFFIXES,
    ReducedImage,
    StrPath,
    find_photos,
    read_reduced,
    read_size_hw,
)
from fewbox.data.photo_file import PhotoBytes
from fewbox.detection import Detections
from fewbox.detection.drawing import PICTURE_FORMATS, require_another, save_gif, save_picture
from fewbox.detection.loading import open_detector, remark_on_tiles, say_what_computes
from fewbox.detection.parallel import run_parallel, threads_per_photo
from fewbox.detection.photo_detector import PhotoDetector, TtaDetector
from fewbox.detection.rows import FullPhotos, RowFile, limit_of, write_counts, write_rows
from fewbox.errors import OutputError, PhotoError, SettingError

PICTURE_SIDE = 1600
"""Pictures of photos more than twice as long are drawn at a reduced size, with a longer side above this."""

COUNTS_NAME = "counts.csv"
"""How many objects of each class are in each photo, beside ``detections.json``."""

_FILE_SUFFIXES = PHOTO_SUFFIXES | {
    *(".json", ".jsonl", ".txt", ".html", ".pdf", ".svg", ".xml", ".yaml", ".zip", ".parquet"),
    *(".safetensors", ".onnx"),
}


@dataclass(frozen=True)
class FolderSummary:
    """What came of a run over many photos."""

    written: Path
    """``detections.json``; or the picture, if only one was to be written."""
    num_photos: int
    num_detections: int
    failed: tuple[str, ...]
    """Names of photos that could not be read; the others are done."""
    gif: Path | None = None
    """The animation, if one was written."""
    full: FullPhotos = field(default_factory=FullPhotos)
    """Photos in which there may be more."""
    drawn_before: tuple[str, ...] = ()
    """Names of pictures and animations of an earlier run that are still in the folder."""
    remark: str = ""
    """On tiles that were asked for, where no photo has any."""

    def __str__(self) -> str:
        done = self.num_photos - len(self.failed)
        lines = []
        if done or self.written.suffix == ".json":  # no picture is drawn of a photo that cannot be read
            found = counted(self.num_detections, "detection")
            table = f", {COUNTS_NAME}" if self.written.suffix == ".json" else ""
            animation = "" if self.gif is None else f", {self.gif}"
            lines.append(f"{found} in {counted(done, 'photo')}: {self.written}{table}{animation}")
        if self.full.count:
            lines.append(str(self.full))
        if self.remark:
            lines.append(self.remark)
        if self.drawn_before:
            still = counted(
                len(self.drawn_before), "picture of an earlier run is", "pictures of an earlier run are"
            )
            lines.append(
                f"{self.written.parent}: {still} still there; this run has not drawn "
                f"{'them' if len(self.drawn_before) > 1 else 'it'}: {some_of(self.drawn_before)}"
            )
        if self.failed:
            names, count = ", ".join(self.failed), counted(self.num_photos, "photo")
            lines.append(f"{len(self.failed)} of {count} could not be read: {names}")
        return "\n".join(lines)


@takes_score_threshold
def detect_folder(
    detector: StrPath,
    photos: StrPath | Sequence[StrPath],
    output: StrPath,
    *,
    threshold: float | None = None,
    gif: StrPath | None = None,
    base: str | None = None,
    engine: str = AUTO,
    device: str = AUTO,
    mirror: bool = False,
    tiles: int | str | None = None,
    agnostic_nms: bool = False,
    pictures: bool = True,
    show_progress: bool = True,
) -> FolderSummary:
    """Run a detector file over photos; write a picture of each, ``detections.json`` and ``counts.csv``.

    A photo that cannot be read is reported and left out; the others are done all the same. Large photos
    are read, and their pictures drawn, at a reduced size; boxes are in pixels of the whole photo.

    Args:
        detector: a file that ``fewbox finetune`` or ``fewbox export`` wrote.
        photos: folders, files or patterns.
        output: the folder for the results; made if it is not there. Or, for one photo, the picture to
            write: then there is no ``detections.json``.
        threshold: only detections with a higher score; the detector's own if not given.
        gif: where to write an animation of all pictures.
        base: the base model of a file with only the heads.
        engine: what computes; see :func:`open_detector`.
        device: where; see :func:`open_detector`.
        mirror: detect in each photo's mirror image too; see :class:`TtaDetector`.
        tiles: detect in tiles of each photo too, so many along its longer side, or ``"auto"``; see
            :class:`TiledDetector`. Then large photos are read whole.
        agnostic_nms: one class for each object; see :class:`AgnosticDetector`.
        pictures: write a picture of each photo; without, only the numbers are written, sooner.
        show_progress: show how far the work has come.

    Raises:
        DetectorFileError: the detector cannot be read.
        PhotoError: no photos there, or two of them have one name and pictures are wanted, which go into one
            folder; without pictures, the folders of such photos tell them apart.
        SettingError: the threshold is not from 0 to 1, there cannot be so many tiles, or an animation is
            wanted of no pictures.
        OutputError: a result cannot be written, or would replace a photo, or what fewbox has not written.
    """
    if threshold is not None:
        threshold = checked_threshold(threshold)
    if gif is not None and not pictures:
        raise SettingError(f"no pictures, nothing to animate: {gif}")
    tiles = None if tiles is None else checked_tiles(tiles)
    paths = find_photos(photos)
    written, targets = _results_of(paths, Path(output), pictures)
    if gif is not None:
        require_writable(gif, [".gif"])
        require_another(Path(gif), paths, "animation")
        require_own(Path(gif))
    loaded, num_threads = _opened(Path(detector), paths, engine, base, device)
    if show_progress:
        say_what_computes(loaded)
    loaded = (TtaDetector(loaded) if mirror else loaded).with_tiles(tiles).with_agnostic_nms(agnostic_nms)
    threshold = loaded.threshold if threshold is None else threshold
    file: tuple[object, ...] = (str(detector),)  # a base model by its name
    if Path(detector).exists():
        about = Path(detector).stat()
        file = (Path(detector).resolve(), about.st_size, about.st_mtime_ns, base)
    how = (__version__, type(loaded).__name__, engine, device, {**loaded.options}, threshold, pictures)
    with RowFile(paths, written.parent, file, how) as rows:
        failed = _detect_and_draw(loaded, paths, targets, threshold, num_threads, rows, show_progress)
        if written not in targets:
            head = _head(Path(detector).name, loaded.labels, threshold, loaded.options)
            write_rows(written, head, iter(rows), failed)
            write_counts(written.with_name(COUNTS_NAME), loaded.labels, iter(rows))
        animation = Path(gif) if gif is not None and rows else None
        if animation is not None:
            _animate([written.with_name(row["picture"]) for row in rows], animation)
        remark = remark_on_tiles(loaded, ((row["height"], row["width"]) for row in rows)) if len(rows) else ""
        drawn = [target for number, target in enumerate(targets) if target and number in rows]
    full = FullPhotos(limit_of(loaded))
    for name in rows.full_photos():
        full.add(name)
    left = () if written in targets else _drawn_before(written.parent, [*drawn, animation])
    return FolderSummary(
        written, len(paths), rows.num_detections, tuple(failed), animation, full, left, remark
    )


def _drawn_before(folder: Path, drawn: Iterable[Path | None]) -> tuple[str, ...]:
    """The names of pictures and animations in a folder of results that are not among those just drawn."""
    known = {os.path.realpath(path) for path in drawn if path is not None}
    names = os.listdir(folder)  # noqa: PTH208 - thousands of names, of which few become paths
    others = set(names) - drawings_among(names)
    return tuple(
        sorted(
            name
            for name in others
            if (path := os.path.realpath(folder / name)) not in known and is_drawing(path)
        )
    )


def _results_of(paths: Sequence[Path], output: Path, pictures: bool) -> tuple[Path, Sequence[Path | None]]:
    """The file to name in the end, and where the picture of each photo goes, if one is wanted.

    Raises:
        OutputError: they could not be written, or would replace a photo.
        PhotoError: two photos have one name.
    """
    if _is_picture(output, len(paths), pictures):
        require_another(output, paths)
        require_own(output)
        written, targets = output, [output]
    else:
        written = output / "detections.json"
        targets = _targets(paths, output) if pictures else []
        _require_own_results(written, targets)
    require_writable(written, [written.suffix.lower()])
    return written, targets or [None] * len(paths)


def _require_own_results(written: Path, targets: Sequence[Path]) -> None:
    """Refuse a folder in which a file is called as a result, and is none.

    Raises:
        OutputError: it is.
    """
    for target in targets:
        require_own(target)
    require_own(written, r'\s*{\s*"detector"\s*:')
    counts = written.with_name(COUNTS_NAME)
    require_own(counts, "photo[,\n]")
    if is_there(counts) and not is_there(written):  # the two are written together
        raise not_own(counts)


def names_a_file(output: Path) -> bool:
    """Whether the name is that of a file: it ends like one, and there is no folder of this name."""
    return output.suffix.lower() in _FILE_SUFFIXES and not output.is_dir()


def _is_picture(output: Path, num_photos: int, pictures: bool) -> bool:
    """Whether the output is the picture of one photo, and not a folder, by its name.

    Raises:
        OutputError: it is the name of a file, but there are several photos, or it cannot be that file.
    """
    suffix = output.suffix.lower()
    if not names_a_file(output):
        return False
    folder_hint = f"name a folder: -o {quoted(output.with_suffix(''))}"
    if suffix not in PICTURE_FORMATS:
        formats = ", ".join(PICTURE_FORMATS)
        hint = f"{folder_hint}; or, for one photo, a picture: {formats}"
        raise OutputError(f"{output}: results cannot be written as {suffix!r}", hint=hint)
    if num_photos > 1:
        raise OutputError(f"{output}: one picture, but {num_photos} photos", hint=folder_hint)
    if not pictures:
        raise OutputError(f"{output}: a picture, but no pictures are wanted", hint=folder_hint)
    return True


def save_found(found: Sequence[Detections], detector: str, threshold: float, output: Path, gif: Path) -> None:
    """Write what :func:`detect_folder` writes, for photo files in which objects were found already.

    Args:
        found: the detections of each photo; those with a score up to ``threshold`` are left out.
        detector: the name of the detector's file.
        threshold: only detections with a higher score.
        output: the folder for the results; made if it is not there.
        gif: where to write an animation of all pictures.

    Raises:
        OutputError: a result cannot be written.
    """
    shown = [one.above(threshold) for one in found]
    targets = _targets([Path(str(one.source)) for one in shown], output)
    for one, target in zip(shown, targets, strict=True):
        save_picture(one.draw(), target)
    rows = [one.to_dict() | {"picture": target.name} for one, target in zip(shown, targets, strict=True)]
    write_rows(output / "detections.json", _head(detector, shown[0].class_names, threshold), iter(rows), [])
    write_counts(output / COUNTS_NAME, shown[0].class_names, iter(rows))
    _animate(targets, gif)


def _head(
    detector: str, labels: Sequence[str], threshold: float, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What ``detections.json`` says before its photos."""
    return {"detector": detector, "labels": labels, "score_threshold": threshold, **(options or {})}


def _opened(
    detector: Path, photos: Sequence[Path], engine: str, base: str | None, device: str
) -> tuple[PhotoDetector, int]:
    """The detector, and how many threads each photo may take."""

    def open_with(threads: int) -> PhotoDetector:
        return open_detector(
            detector,
            engine=engine,
            base=base,
            num_photos=len(photos),
            num_threads=threads,
            device=device,
        )

    if device != CPU and (device != AUTO or may_have_gpu()):
        return open_with(1), 1  # beside a GPU: one thread to read and prepare each photo
    num_threads = threads_per_photo(detector, photos, engine, open_with)
    return open_with(num_threads), num_threads


def _detect_and_draw(
    detector: PhotoDetector,
    paths: Sequence[Path],
    targets: Sequence[Path | None],
    threshold: float,
    num_threads: int,
    rows: RowFile,
    show_progress: bool,
) -> list[str]:
    """Make a row of ``detections.json`` for every photo; the names of those that cannot be read.

    Args:
        detector: the detector.
        paths: the photos.
        targets: where the picture of each goes, if one is wanted.
        threshold: only detections with a higher score.
        num_threads: how many threads each photo may take.
        rows: where they go, and which of them there are already.
        show_progress: show how far the work has come.
    """

    def detect(photo_and_target: tuple[Path, Path | None]) -> tuple[dict[str, Any], bool]:
        path, target = photo_and_target
        if target is None:
            found = detector.detect(path, threshold=threshold)
            return found.to_dict(), found.full_at > threshold
        seen, drawn = read_for_both(path, detector)
        found = replace(detector.detect(seen, threshold=threshold), source=path)
        save_picture(found.draw(drawn), target)
        return found.to_dict() | {"picture": target.name}, found.full_at > threshold

    todo = [number for number in range(len(paths)) if number not in rows]
    if show_progress and len(rows):
        console.print(
            f"{len(rows)} of {counted(len(paths), 'photo')} were done by a run that was interrupted"
        )
    results = run_parallel(detect, ((paths[number], targets[number]) for number in todo), num_threads)
    failed: list[str] = []
    with progress_bar("detecting", len(paths), show=show_progress) as advance:
        advance("", len(rows))
        for number, result in zip(todo, results, strict=True):
            try:
                row, is_full = result.result()
                rows.add(number, row, is_full=is_full)
            except PhotoError as error:
                console.print(f"skipped: {error.message}")
                failed.append(rows.names[number])
            advance(rows.names[number])
    return failed


def read_for_both(photo: StrPath | PhotoBytes, detector: PhotoDetector) -> tuple[ReducedImage, ReducedImage]:
    """The photo as the detector reads it where no picture is drawn, and as large as its picture is.

    Raises:
        PhotoError: it cannot be read.
    """
    size_hw = read_size_hw(photo)
    height, width = size_hw
    enough, times = detector.enough_hw(size_hw), PICTURE_SIDE / max(size_hw)
    drawn = height * times, width * times
    larger = read_reduced(photo, (max(enough[0], drawn[0]), max(enough[1], drawn[1])))
    seen = larger.reduced(enough)
    if seen.image.shape != larger.image.shape:
        # Made smaller twice, or while it is decoded, it is not quite the same, and what is found neither.
        seen = read_reduced(photo, enough)
    # Tiles may have needed more of it than the picture does.
    return seen, larger.reduced(drawn) if "tiles" in detector.options else larger


def _targets(paths: Sequence[Path], output: Path) -> list[Path]:
    """Where the picture of each photo goes: the photo's name, as PNG where its format is only read."""
    targets: dict[Path, Path] = {}
    for path in paths:
        name = path.name if path.suffix.lower() in PICTURE_FORMATS else f"{path.name}.png"
        target = output / name
        if target in targets:
            raise PhotoError(
                f"two photos have one name: {targets[target]} and {path}",
                hint="rename one of them, or detect in their folders one after the other",
            )
        require_another(target, [path])
        targets[target] = path
    return list(targets)


def _animate(pictures: Sequence[Path], target: Path) -> None:
    """Join the pictures just written; they are opened one at a time."""
    save_gif((Image.open(path) for path in pictures), target)
