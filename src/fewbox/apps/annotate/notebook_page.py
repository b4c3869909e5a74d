"""The annotation page as a widget in a notebook, and what has been drawn in it as arrays.

The page's modules are put together into one, as a notebook takes no more than one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import numpy.typing as npt

from fewbox.apps.annotate.answers import Answers
from fewbox.apps.annotate.background import BackgroundLearner
from fewbox.apps.annotate.finishing import Finishing, Result
from fewbox.apps.annotate.questions import (
    BadRequestError,
    NoSuchPhotoError,
    read_label_change,
    read_photo_change,
)
from fewbox.data.annotations import AnnotationSet
from fewbox.data.project import Project
from fewbox.errors import FewboxError, OutputError

_PAGE = Path(__file__).with_name("page")
_IMPORT = re.compile(r'^import \{ (?P<names>[^}]+) \} from "\./(?P<module>\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|function|class) (?P<name>\w+))", re.MULTILINE)


def bundled(entry: str) -> str:
    """One ES module whose default export is what the page's module ``entry`` exports.

    Each module becomes a function that is called once and returns what the module exports, so its other names
    stay its own. Only what the page's modules use of the language is understood:
    ``import { a, b } from "./module.js"`` in one line, and ``export`` before what it exports.
    """
    written: dict[str, str] = {}
    _add(entry, written)
    return "\n".join([*written.values(), f"export default {entry};\n"])


def _add(module: str, written: dict[str, str]) -> None:
    source = (_PAGE / f"{module}.js").read_text(encoding="utf-8")
    for found in _IMPORT.finditer(source):
        if found["module"] not in written:
            _add(found["module"], written)
    exported = ", ".join(found["name"] for found in _EXPORT.finditer(source))
    body = _EXPORT.sub("", _IMPORT.sub(r"const { \g<names> } = \g<module>;", source))
    written[module] = f"const {module} = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();"


def style() -> str:
    """The page's style sheet."""
    return (_PAGE / "style.css").read_text(encoding="utf-8")


class NotebookPage(anywidget.AnyWidget):
    """The annotation page in a notebook; see :func:`annotate`."""

    _esm = bundled("widget")
    _css = style()

    def __init__(self, project: Project, names: Sequence[str], base: str, *, learn: bool = True) -> None:
        super().__init__()
        self._project = project
        self._photo_names = list(names)
        self._base = base
        self._learn = learn
        self.on_msg(self._answer)

    @cached_property
    def _answers(self) -> Answers:
        """Made when the page asks first, so that nothing is learnt for a page that is never shown."""
        learner = _learner_of(self._project, self._base, self._learn)
        return Answers(self._project, learner, self._photo_names)

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
        """The reviewed photos with their boxes, to fine-tune on.

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
            "trash": self._answers.trash,
            "restore": self._answers.restore,
            "labels": lambda change: self._answers.change_labels(read_label_change(_bytes(change))),
            "beside": self._answers.beside,
            "takeOver": self._answers.take_over,
            "labelCounts": self._answers.label_counts,
            "image": self._answers.image,
            "learning": self._answers.learning,
            "proposals": partial(self._answers.proposals, reviewed=True),  # as http_store.js asks
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
        except (FewboxError, BadRequestError, NoSuchPhotoError) as error:
            answer["error"] = {
                "message": getattr(error, "message", str(error)),
                "hint": getattr(error, "hint", None),
                "refused": not isinstance(error, OutputError),  # a full disk may have room later
            }
        self.send(answer, pictures)


def _bytes(change: object) -> bytes:
    return json.dumps(change).encode()


class NotebookLearner(BackgroundLearner):
    """Learns in a process of its own, so that it neither waits for cells nor holds them up.

    The process ends with the kernel. Finishing is left to a cell, where the detector is then at hand.
    """

    def __init__(self, project: Project, base: str, *, learn: bool = True) -> None:
        super().__init__(project, base=base, output=Path("detector.safetensors"), learn=learn)
        self._base_name = base

    def finish(self) -> None:
        """Do nothing."""

    def finishing(self) -> Finishing:
        """The state ``off``, with what to write into another cell."""
        command = (
            f"detector = fewbox.finetune(page.annotations, {self._base_name!r}, held_out='held_out.jpg')"
        )
        steps = (
            ("See held-out photos", 'IPython.display.Image("held_out.jpg")'),
            ("Find it in another photo", 'detector.detect("photo.jpg")'),
            ("Keep it", 'detector.save("detector.safetensors")'),
        )
        says = "write this into another cell; it prints how good the detector is expected to be"
        return Finishing("off", says, command, "", Result(None, steps))


_learners: dict[tuple[Path, str, bool], NotebookLearner] = {}


def _learner_of(project: Project, base: str, learn: bool) -> NotebookLearner:
    """The one that learns from these photos already, as when a cell is run again; or else a new one."""
    key = (project.photos.absolute(), base, learn)
    if key in _learners and _learners[key].learning().state not in ("off", "failed"):
        return _learners[key]
    if key in _learners:
        _learners[key].close()
    _learners[key] = NotebookLearner(project, base, learn=learn)
    return _learners[key]
