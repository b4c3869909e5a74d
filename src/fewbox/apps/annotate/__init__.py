"""Draw boxes in a browser page, served to this machine alone, or inside a notebook: :func:`fewbox.annotate`.

    page = fewbox.annotate("photos/")
    page                                             # draw
    page.boxes                                       # in another cell: one array [M, 4] per photo
    fewbox.finetune(page.annotations, "starter")

Every change goes into ``annotations.json`` beside the photos at once, as with ``fewbox annotate``, so
everything is there again after the cell is run again or the kernel restarted. The server is in ``app.py``.
Torch is for bases that need it to learn.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewbox.core.arguments import checked_path, require_kind
from fewbox.core.files import replacing
from fewbox.data.decoding import RGBArray
from fewbox.data.images import StrPath, find_photos, read_image, upright_array
from fewbox.data.project import Project
from fewbox.data.remote import is_remote
from fewbox.errors import AnnotationError, BaseModelError, OutputError, PhotoError, SettingError
from fewbox.models import default_base

if TYPE_CHECKING:
    from fewbox.apps.annotate.notebook_page import NotebookPage

_NAME = re.compile(r"image0*([1-9]\d*)\.png")

Picture = npt.NDArray[np.generic] | Image.Image


def annotate(
    images: StrPath | Sequence[StrPath] | Sequence[Picture],
    labels: Sequence[str] = (),
    *,
    folder: StrPath = "annotated",
    base: StrPath | None = None,
    learn: bool = True,
) -> NotebookPage:
    """Show the annotation page for some photos below the cell.

    Once boxes are drawn in two photos, boxes are proposed in the others. They are learnt in a process of
    its own, which begins when the page is shown and ends with the kernel.

    Args:
        images: a folder, a pattern, or photos by their names; or N images in memory, each an array
            ``[H, W, 3]`` uint8 RGB, or a Pillow image.
        labels: classes to begin with, beside those that the project has already.
        folder: where images in memory are kept, as PNG, with their boxes beside them.
        base: what proposals are learnt from, a base model's name or file; if not given, the best one at hand.
        learn: propose boxes, or not.

    Returns:
        The page. Its results are up to date whenever they are asked for.

    Raises:
        SettingError: anywidget is not installed.
        PhotoError: there are no photos, they are not on this machine, an image in memory has a wrong
            shape or type, or there are both images in memory and names.
        AnnotationError: the project file is malformed, or ``folder`` holds other images.

    Examples:
        >>> page = fewbox.annotate("ducks/test", labels=["duck"])  # the last line of a cell shows it
        >>> len(page.paths), page.labels[0], page.boxes[0].shape
        (40, [], (0, 4))
    """
    if isinstance(images, str | os.PathLike):
        checked_path(images, "a folder of photos", PhotoError)
    else:
        require_kind(
            images, Sequence, "images", PhotoError, "a folder, a pattern, or a list of photos or images"
        )
    labels = [labels] if isinstance(labels, str) else labels
    require_kind(labels, Sequence, "labels", SettingError, "give a list of names: ['mug', 'lid']")
    page_class = _page_class()  # before anything is written
    for image in [images] if isinstance(images, str | os.PathLike) else images:
        if is_remote(image):
            raise PhotoError(
                f"{image}: boxes are kept beside photos, not at addresses", hint="copy them first"
            )
    if isinstance(images, str | os.PathLike):
        project = Project(Path(images).absolute())  # wherever the notebook goes to later
        names = project.photo_names() or [path.name for path in find_photos(images)]
    else:
        target = checked_path(folder, "the folder for images in memory", OutputError)
        paths = _paths_of(images, target)
        project = Project(os.path.commonpath([path.parent for path in paths]))
        names = [path.relative_to(project.folder).as_posix() for path in paths]
    if labels:
        with project.editing() as content:
            content.add_labels(labels)
    name = default_base() if base is None else os.fspath(checked_path(base, "a base model", BaseModelError))
    return page_class(project, names, name, learn=learn)


def _page_class() -> type[NotebookPage]:
    try:
        from fewbox.apps.annotate.notebook_page import NotebookPage
    except ModuleNotFoundError as error:
        hint = "pip install '.[notebook]'; or use a browser page: fewbox annotate photos/"
        raise SettingError(
            f"a notebook's page needs {error.name}, which is not installed", hint=hint
        ) from error
    return NotebookPage


def _paths_of(images: Sequence[StrPath] | Sequence[Picture], folder: Path) -> list[Path]:
    """Where the photos are; images in memory are written first."""
    in_memory = [image for image in images if not isinstance(image, str | os.PathLike)]
    if not in_memory:
        return [path.absolute() for path in find_photos([os.fspath(image) for image in images])]  # type: ignore[arg-type]
    if len(in_memory) < len(images):
        raise PhotoError("give either names of photos, or images in memory: not both")
    target = folder.absolute()
    known: dict[int, list[Path]] = {}
    for path in sorted(target.glob("image*.png"), key=lambda path: len(path.name)):
        if numbered := _NAME.fullmatch(path.name):
            known.setdefault(int(numbered[1]), []).append(path)
    return [
        _kept(target / f"image{number}.png", known.get(number, []), upright_array(image))
        for number, image in enumerate(in_memory, start=1)
    ]


def _kept(path: Path, known: Sequence[Path], image: RGBArray) -> Path:
    """Where an image is; it is written unless it is there already, and must not get the boxes of another one.

    Args:
        path: where it belongs, however many images there are: the next cell may have more of them.
        known: files of its number. Former versions put zeros before it, by how many images there were.
        image: the image.
    """
    same = [file for file in known if np.array_equal(read_image(file), image)]
    if known and not same:
        hint = "choose another folder: fewbox.annotate(images, folder=...)"
        raise AnnotationError(f"{known[0]}: holds another image, which may have boxes", hint=hint)
    if len(same) > 1:
        states = Project(path.parent).states([file.name for file in same])
        said = {file: (bool(state.boxes), state.reviewed) for file, state in zip(same, states, strict=True)}
        return max(same, key=said.__getitem__)  # the first one of those of which most is said
    if not same:
        with replacing(path) as temporary:
            Image.fromarray(image).save(temporary)
    return same[0] if same else path
