"""``goldeneye.annotate``: the annotation page inside a notebook, in Jupyter and in Colab.

    page = goldeneye.annotate("photos/")
    page                                             # draw
    page.boxes                                       # in another cell: one array [M, 4] per photo
    goldeneye.finetune(page.annotations, "starter")

Every change goes into ``annotations.json`` beside the photos at once, as ``goldeneye annotate``
does it, so running the cell again, or restarting the kernel, brings everything back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from goldeneye.annotate.answers import Answers, NoSuchPhotoError
from goldeneye.annotate.bundle import bundled, style
from goldeneye.annotate.learner import Finishing, Learning, Proposals
from goldeneye.annotate.requests import BadRequestError, read_label_change, read_photo_change
from goldeneye.data.annotations import AnnotationSet
from goldeneye.data.images import StrPath, find_photos, read_image, upright_array
from goldeneye.data.project import Project
from goldeneye.data.upright import RGBArray
from goldeneye.errors import AnnotationError, GoldeneyeError, OutputError, SettingError
from goldeneye.files import replacing

try:
    import anywidget
except ModuleNotFoundError as error:
    raise SettingError(
        "annotating in a notebook needs anywidget, which is not installed",
        hint="pip install 'goldeneye[notebook]'; or draw in a browser page: goldeneye annotate photos/",
    ) from error

Picture = npt.NDArray[np.generic] | Image.Image


def annotate(
    images: StrPath | Sequence[StrPath] | Sequence[Picture],
    labels: Sequence[str] = (),
    *,
    folder: StrPath = "annotated",
) -> NotebookPage:
    """Show the annotation page for some photos below the cell.

    Args:
        images: a folder, a pattern, photos by their names; or N images in memory, each an array
            ``[H, W, 3]`` uint8 RGB, or a Pillow image.
        labels: classes to begin with, beside those that the project has already.
        folder: where images in memory are kept, as PNG, with their boxes beside them.

    Returns:
        The page. Its results are up to date whenever they are asked for.

    Raises:
        SettingError: anywidget is not installed.
        PhotoError: there are no photos.
        AnnotationError: the project file is malformed, or ``folder`` holds other images.
        ValueError: an image in memory has a wrong shape or type.
    """
    if isinstance(images, str | os.PathLike):
        project = Project(images)
        names = project.photo_names() or [path.name for path in find_photos(images)]
    else:
        paths = _paths_of(images, Path(folder))
        project = Project(os.path.commonpath([path.parent for path in paths]))
        names = [path.relative_to(project.folder).as_posix() for path in paths]
    if labels:
        with project.editing() as content:
            content.add_labels(labels)
    return NotebookPage(project, names)


def _paths_of(images: Sequence[StrPath] | Sequence[Picture], folder: Path) -> list[Path]:
    """Where the photos are; those in memory are written first."""
    in_memory = [image for image in images if not isinstance(image, str | os.PathLike)]
    if not in_memory:
        return [path.absolute() for path in find_photos([os.fspath(image) for image in images])]  # type: ignore[arg-type]
    if len(in_memory) < len(images):
        raise ValueError("give either names of photos, or images in memory: not both")
    digits = len(str(len(images)))
    paths = [folder.absolute() / f"image{number:0{digits}d}.png" for number in range(1, len(images) + 1)]
    for path, image in zip(paths, in_memory, strict=True):
        _keep(path, upright_array(image))
    return paths


def _keep(path: Path, image: RGBArray) -> None:
    """Write an image unless it is there already; the boxes of another one must not become those of this."""
    if path.exists():
        if not np.array_equal(read_image(path), image):
            hint = "choose another folder: goldeneye.annotate(images, folder=...)"
            raise AnnotationError(f"{path}: holds another image, which may have boxes", hint=hint)
        return
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary)


class NotebookPage(anywidget.AnyWidget):
    """The annotation page in a notebook; see :func:`annotate`."""

    _esm = bundled("widget")
    _css = style()

    def __init__(self, project: Project, names: Sequence[str]) -> None:
        super().__init__()
        self._project = project
        self._photo_names = list(names)
        self._answers = Answers(project, NoLearner(), self._photo_names)
        self.on_msg(self._answer)

    @property
    def paths(self) -> list[Path]:
        """The N photos."""
        return [self._project.path_of(name) for name in self._photo_names]

    @property
    def boxes(self) -> list[npt.NDArray[np.float32]]:
        """N arrays ``[M, 4]``, in the order of :attr:`paths`, without boxes to ignore.

        An array is empty, ``[0, 4]``, for a photo without boxes, reviewed or not.
        """
        return [
            np.array([[box.x1, box.y1, box.x2, box.y2] for box in drawn], np.float32).reshape(-1, 4)
            for drawn in self._drawn()
        ]

    @property
    def labels(self) -> list[list[str]]:
        """N lists of M labels, those of :attr:`boxes`."""
        return [[box.label for box in drawn] for drawn in self._drawn()]

    @property
    def annotations(self) -> AnnotationSet:
        """The photos that have been reviewed, with their boxes, to fine-tune on.

        Raises:
            AnnotationError: nothing has been drawn yet.
        """
        everything = self._project.annotation_set()
        shown = set(self.paths)
        images = tuple(image for image in everything.images if image.reviewed and image.path in shown)
        return replace(everything, images=images)

    def _drawn(self) -> list[list[Any]]:
        states = self._project.states(self._photo_names)
        return [[drawn.box for drawn in state.boxes if not drawn.box.ignore] for state in states]

    def _answer(self, _: object, question: dict[str, Any], __: object) -> None:
        """Answer one question of ``page/kernel_store.js``."""
        methods: dict[str, Callable[..., Any]] = {
            "project": self._answers.project,
            "photo": self._answers.photo,
            "patch": lambda key, change: self._answers.change_photo(key, read_photo_change(_bytes(change))),
            "labels": lambda change: self._answers.change_labels(read_label_change(_bytes(change))),
            "image": self._answers.image,
            "learning": self._answers.learning,
            "proposals": self._answers.proposals,
            "finish": self._answers.finishing,
        }
        answer: dict[str, Any] = {"id": question["id"]}
        pictures: list[bytes] = []
        try:
            result = methods[question["method"]](*question["values"])
            if question["method"] == "image":
                pictures = [result[0]]
            else:
                answer["result"] = result
        except (GoldeneyeError, BadRequestError, NoSuchPhotoError) as error:
            answer["error"] = {
                "message": getattr(error, "message", str(error)),
                "hint": getattr(error, "hint", None),
                "refused": not isinstance(error, OutputError),  # a full disk may have room later
            }
        self.send(answer, pictures)


def _bytes(change: object) -> bytes:
    return json.dumps(change).encode()


class NoLearner:
    """The learner of a notebook: none."""

    def photos_changed(self) -> None:
        """Take no notice."""

    def learning(self) -> Learning:
        """Off."""
        return Learning("off", "")

    def proposals(self, name: str) -> Proposals:
        """None."""
        return Proposals(0)

    def finish(self) -> None:
        """Nothing."""

    def finishing(self) -> Finishing:
        """What to write into another cell."""
        return Finishing("off", "", 'detector = goldeneye.finetune(page.annotations, "starter")', "")

    def close(self) -> None:
        """Nothing to end."""
