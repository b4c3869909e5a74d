"""The commands, and the options that several of them have."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from fewbox.core import quoted
from fewbox.errors import AnnotationError

if TYPE_CHECKING:
    from fewbox.data.annotations import AnnotationSet
    from fewbox.models import ZooEntry

PHOTOS_HELP = "folders, files, patterns or addresses"
LABEL_HELP = "name of the class, where the file of boxes has none (default: %(default)s)"


class OneOfBoxes(argparse.Action):
    """An option that names boxes; argparse would let a second one replace the first without a word."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Take the name.

        Raises:
            AnnotationError: it is the second one.
        """
        if (first := getattr(namespace, self.dest)) is not None:
            hint = "make one file of them; in Python sets of photos are added: first + second"
            raise AnnotationError(f"{option_string} was given twice: {first}, {values}", hint=hint)
        setattr(namespace, self.dest, values)


@contextmanager
def resumable(has_kept: Callable[[], object]) -> Iterator[None]:
    """Note on Ctrl-C, for the last line printed, that what is done is kept, if ``has_kept`` says so."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        if has_kept():
            stopped.add_note("what is done is kept; the same command goes on from there")
        raise


def add_photos_with_boxes(command: argparse.ArgumentParser) -> None:
    """Add the arguments that :func:`annotations_of` takes."""
    command.add_argument("photos", nargs="+", metavar="PHOTOS", help=PHOTOS_HELP)
    command.add_argument(
        "--boxes",
        action=OneOfBoxes,
        metavar="BOXES",
        help="a file of boxes, or a folder of them (default: those drawn with 'fewbox annotate PHOTOS')",
    )
    add_strict(command)


def add_skip_missing(command: argparse.ArgumentParser) -> None:
    """Add ``--skip-missing``, for commands whose boxes :func:`annotations_of` reads."""
    command.add_argument(
        "--skip-missing",
        action="store_true",
        help="leave out what BOXES says of photos that are not there, and tell how many they are",
    )


def add_reviewed_only(command: argparse.ArgumentParser) -> None:
    """Add ``--reviewed-only``."""
    command.add_argument(
        "--reviewed-only", action="store_true", help="leave out photos that nobody has looked at"
    )


def add_strict(command: argparse.ArgumentParser) -> None:
    """Add ``--strict``, for commands that read files of boxes."""
    command.add_argument(
        "--strict",
        action="store_true",
        help="refuse boxes that reach over the edge of their photo, are turned a little, or are flat; "
        "else they are cut at the edge, read as upright, or left out, and counted",
    )


def annotations_of(
    boxes: str | None,
    photos: Sequence[str],
    label: str,
    strict: bool = False,
    skip_missing: bool = False,
) -> AnnotationSet:
    """The boxes of ``--boxes``; without it, those drawn in the photos: of a pattern or one photo no others.

    Raises:
        AnnotationError: ``--boxes`` is not given for photos from several folders, or boxes cannot be read.
        PhotoError: a photo cannot be read.
    """
    from fewbox.data import PROJECT_FILE
    from fewbox.data.beside import boxes_to_name, photos_of
    from fewbox.data.formats import read_annotations
    from fewbox.data.images import find_photos
    from fewbox.data.project import Project

    if boxes is not None:
        return read_annotations(boxes, photos, label=label, strict=strict, skip_missing=skip_missing)
    if len(photos) > 1:
        raise AnnotationError("no boxes given for photos of several places", hint="name them: --boxes FILE")
    project = Project(photos[0])
    if beside := boxes_to_name(project):
        place = quoted(photos_of(project))
        hint = f"draw boxes with: fewbox annotate {place}; or name those that lie there: {beside}"
        raise AnnotationError(f"{project.folder / PROJECT_FILE}: no such file", hint=hint)
    if not project.folder.is_dir():
        find_photos(photos)  # which says that the folder itself is not there
    return project.annotation_set(label=label, strict=strict, only_asked=True)


def add_engine(command: argparse.ArgumentParser) -> None:
    """Add ``--engine``."""
    command.add_argument(
        "--engine",
        default="auto",
        metavar="{auto,openvino,onnxruntime,torch}",
        help="what computes; auto is the fastest at hand; onnxruntime:NAME takes a provider of its, whatever "
        "the device: cuda, coreml, directml or openvino (default: %(default)s)",
    )


def add_device(command: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    command.add_argument(
        "--device",
        default="auto",
        metavar="{auto,cpu,cuda,cuda:N,mps}",
        help="where it computes; auto is the GPU if there is one (default: %(default)s)",
    )


def add_tiles(command: argparse.ArgumentParser, more: str) -> None:
    """Add ``--tiles``, whose help ends in ``more``."""
    command.add_argument(
        "--tiles",
        nargs="?",
        const="auto",
        metavar="N",
        help=f"for large photos with small objects: look at overlapping tiles of each photo too{more}",
    )


def add_agnostic_nms(command: argparse.ArgumentParser) -> None:
    """Add ``--agnostic-nms``."""
    command.add_argument(
        "--agnostic-nms",
        action="store_true",
        help="one class for each object: of boxes that overlap, the surest stays, whatever their classes",
    )


def add_settings(parser: argparse.ArgumentParser, config: Any) -> None:
    """Add an option for each field of a dataclass, with its default, limits and help."""
    for spec in dataclasses.fields(config):
        limits = spec.metadata
        choices = "{" + ",".join(limits["choices"]) + "}"
        allowed = "" if limits["choices"] else f"{limits['low']} to {limits['high']}; "
        default = limits["default_in_words"] or "%(default)s"
        parser.add_argument(
            f"--{spec.name.replace('_', '-')}",
            type=type(spec.default),
            default=spec.default,
            metavar=choices if limits["choices"] else type(spec.default).__name__.upper(),
            help=f"{limits['help']} ({allowed}default: {default})",
        )


def port(text: str) -> int:
    """The number of a port; of a larger one the system would take what is left over after 65536."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"a port is from 0 to 65535: {number}")
    return number


def add_batch_norm_eps(parser: argparse.ArgumentParser) -> None:
    """Add ``--batch-norm-eps``, which some bases' files do not state; see ``load_base``."""
    parser.add_argument(
        "--batch-norm-eps",
        type=float,
        metavar="EPS",
        help="what the batch-norms of a .pth given as --base add to the variance, where it does not say so",
    )


def base_of(given: str | None) -> str:
    """The base to start from, for ``--base``: as given, or chosen and told.

    ``auto`` fetches a small base where only the starter is at hand. If none is given, a person at the
    terminal is asked whether to, once and for all.
    """
    from fewbox.models import SMALL, STARTER, ZOO, default_base

    if given not in (None, "auto"):
        return str(given)
    name = default_base()
    if name == STARTER and (given == "auto" or _agrees(ZOO[SMALL])):
        from fewbox.models.base import best_or_fetched

        name = best_or_fetched()
    other = "; --base yolox_nano is downloaded once, 8 MB, and has seen real photos"
    print(f"base model: {name}{other if name == STARTER else ''}", file=sys.stderr)
    return name


def _agrees(entry: ZooEntry) -> bool:
    """Whether the person at the terminal agrees to a download; somebody who did not is not asked again."""
    from fewbox.core.files import cache_folder, is_there

    refused = cache_folder() / f"no-{entry.name}"
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or is_there(refused):
        return False
    size = f"{(entry.bytes or 0) / 1e6:.0f} MB"
    print(
        f"fetch the base {entry.name} ({size}, once), which has seen real photos? [Y/n] ",
        end="",
        file=sys.stderr,
    )
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() in ("", "y", "yes"):
        return True
    with suppress(OSError):  # a cache that cannot be written: then the person is asked again
        refused.parent.mkdir(parents=True, exist_ok=True)
        refused.touch()
    return False
