"""Formats with one file per photo: the files of a folder, and what they have in common."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.data.formats.text_file import read_text_of_windows
from fewbox.data.formats.walking import folders_of_photos, own_folders, visible_folders
from fewbox.errors import AnnotationError

LABELS_NAME = "labels.txt"


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files in ``folder`` and below whose names end so, sorted; hidden ones are left out."""
    paths = (place / name for place, names in visible_folders(folder) for name in names)
    return sorted(path for path in paths if path.suffix.lower() in suffixes)


def files_in(folder: Path) -> list[Path]:
    """The files directly in ``folder``, in the order of their names; none if it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError:
        return []


def name_below(path: Path, folder: Path) -> str:
    """The path of a file from ``folder``, for messages."""
    return path.relative_to(folder).as_posix()


def source_name(files: Sequence[Path], folder: Path) -> str:
    """What messages begin with: the name of the only file, or of the folder."""
    return files[0].name if len(files) == 1 else folder.resolve().name


def places_of(form: str, files: Sequence[Path], folder: Path) -> tuple[Path, ...]:
    """Where the photos of ``files`` may be: below ``folder``, which is the first, and where they belong."""
    places = dict.fromkeys(path.parent for path in files)
    own = [found for place in places for found in own_folders(form, place)]
    return tuple(dict.fromkeys([folder, *places, *own, *folders_of_photos(folder)]))


def listed_labels(files: Sequence[Path], folder: Path) -> list[str]:
    """The labels in ``labels.txt``, one a line: the files themselves have no order of classes."""
    lists = [place / LABELS_NAME for place in dict.fromkeys([folder, *(path.parent for path in files)])]
    texts = [read_text_of_windows(path)[0] for path in lists if path.is_file()]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    # labelme begins its list with these two, of which no box has one.
    return [line for line in lines if line not in ("", "__ignore__", "_background_")]


def labels_text(annotations: AnnotationSet) -> str:
    """``labels.txt``."""
    return "".join(f"{label}\n" for label in annotations.labels)


def images_by_stem(annotations: AnnotationSet) -> dict[str, AnnotatedImage]:
    """The photos that somebody has looked at, by the name that their files have.

    Raises:
        AnnotationError: two photos would have one file, also where capital letters do not count.
    """
    images: dict[str, AnnotatedImage] = {}
    stems: dict[str, str] = {}
    for image in annotations.reviewed_only():
        stem, name = image.path.stem, image.path.name
        if stem.casefold() in stems:
            message = (
                f"{annotations.source}: {stems[stem.casefold()]} and {name} would have one file of boxes"
            )
            hint = "rename one of them, or choose a format that is one file: coco"
            raise AnnotationError(message, hint=hint)
        stems[stem.casefold()] = name
        images[stem] = image
    return images
