"""The answers to what the page asks, whether by HTTP or inside a notebook.

The methods of :class:`Answers` are those of the page's store (``page/http_store.js``). They return what
goes into JSON, and photos as JPEGs of the size that is shown. The page names a photo by an id made from
its name in the project, never by a path, so no request can reach a file that is not a photo of the
project.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence, Set
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from fewbox.apps.annotate.background import Learner
from fewbox.apps.annotate.previews import Previews, UnreadablePhotos
from fewbox.apps.annotate.questions import LabelChange, LostLabel, NoSuchPhotoError, PhotoChange
from fewbox.apps.annotate.trying import TriedPhotos
from fewbox.core import counted, files
from fewbox.data import FORMATS, PROJECT_FILE, photo_key
from fewbox.data.annotations import require_size
from fewbox.data.beside import find_beside, take_over
from fewbox.data.formats.writing import AnnotationFile, annotation_file
from fewbox.data.images import read_size_hw
from fewbox.data.photo_file import content_hash
from fewbox.data.project import Project
from fewbox.data.project_file import DrawnBox, PhotoState, ProjectFile
from fewbox.errors import PhotoError


class Answers:
    """The answers about one project. May be used from several threads.

    Args:
        project: the photos.
        learner: who proposes boxes.
        names: show these photos of the project, in this order; if None, all.
    """

    def __init__(self, project: Project, learner: Learner, names: Sequence[str] | None = None) -> None:
        self._project = project
        self._learner = learner
        self._only = names
        self._previews = Previews()
        self._tried = TriedPhotos(project, learner.try_photo)
        self._names: dict[str, str] = {}
        self._sizes: dict[str, tuple[str, tuple[int, int]]] = {}  # with the file that had it
        self._last: dict[str, tuple[str, str]] = {}  # versions before and after the last change
        self._unreadable = UnreadablePhotos()

    @property
    def key(self) -> str:
        """By which the page tells this folder from others that are shown at the same address."""
        return photo_id(os.path.realpath(self._project.folder))

    def project(self) -> dict[str, Any]:
        """All photos, without their boxes, and the labels."""
        version = self.version()  # before all else: what changes meanwhile is asked for again
        names = self._list_names()
        rows = map(self._row, names, self._project.states(names))
        return {
            "name": Path(os.path.realpath(self._project.folder)).name,
            "key": self.key,
            "labels": self._project.labels(),
            "photos": list(rows),
            "suggested_next": self._suggested(),
            "version": version,
        }

    def _list_names(self) -> Sequence[str]:
        names = self._project.photo_names() if self._only is None else self._only
        if self._only is not None:
            states = zip(names, self._project.states(names), strict=True)
            names = [name for name, state in states if not state.left_out or self._project.is_there(name)]
        self._names.update({photo_id(name): name for name in names})  # one in the trash can come back
        return names

    def _row(self, name: str, state: PhotoState) -> dict[str, Any]:
        path = self._project.path_of(name)  # made once: there are thousands of rows
        is_there = self._project.is_there(name)
        file = files.version_of(path) if is_there else ""
        measured, size_hw = self._sizes.get(name, ("", None))
        height, width = (size_hw if measured == file else None) or state.size_hw or (None, None)
        error = self._unreadable.why(path)
        if not is_there:
            error = f"no longer there; its {counted(len(state.boxes), 'box is', 'boxes are')} kept"
        return {
            "id": photo_id(name),
            "name": name,
            "width": width,
            "height": height,
            "file": file,
            "reviewed": state.reviewed,
            "left_out": state.left_out,
            "num_boxes": len(state.boxes),
            "labels": sorted({drawn.box.label for drawn in state.boxes}),
            "tried": bool(self._tried.proposals(name)),
            "error": error,
        }

    def photo(self, key: str) -> dict[str, Any]:
        """One photo with its boxes."""
        name = self._name(key)
        content = content_hash(self._project.path_of(name)) or ""  # before all else, as its version is
        file, size_hw = self._measured(name)
        (state,) = self._project.states([name])
        if state.boxes and state.size_hw:
            require_size(state.size_hw, size_hw, f"{PROJECT_FILE}: {name}")
        return _photo(name, size_hw, state, file, content)

    def change_photo(self, key: str, asked: PhotoChange) -> dict[str, Any]:
        """Put and delete boxes; answered when they are on the disk.

        ``meanwhile`` of the answer is the photo as somebody else had left it right before, if that is not
        what the page has seen. ``files`` are the versions of the project before and after.

        Raises:
            PhotoError: the photo was turned or replaced since the page has shown it, so that boxes would lie
                elsewhere, or it cannot be read.
        """
        name = self._name(key)
        path = self._project.path_of(name)
        file, content = (files.version_of(path) if path.exists() else ""), content_hash(path) or ""
        if (asked.put or asked.reviewed) and content and asked.content not in (None, content):
            hint = "discard the change, and look at the photo again"
            raise PhotoError(f"{name}: the photo has changed since it was shown", hint=hint)
        with self._project.noting() as versions:
            before, after = self._project.exchange_photo(
                name, put=asked.put, delete=asked.delete, reviewed=asked.reviewed, left_out=asked.left_out
            )
        self._learner.photos_changed()
        answer = _photo(name, after.size_hw, after, file, content) | {"files": versions}
        was, now = _version_of(before), _version_of(after)
        if was != now:
            self._last[name] = (was, now)
        # A change that changes nothing was sent before, and its answer was lost. Was nobody there since?
        if asked.seen not in (None, was) and self._last.get(name) not in (None, (asked.seen, now)):
            answer["meanwhile"] = _photo(name, before.size_hw, before, file, content)
        return answer

    def version(self) -> str:
        """Changes whenever somebody changes the project."""
        return self._project.version

    def trash(self, key: str) -> dict[str, Any]:
        """Move a photo into the trash, and say where it is now."""
        place = self._project.trash(self._name(key))
        self._learner.photos_changed()
        return {"place": str(place)}

    def restore(self, key: str) -> dict[str, Any]:
        """Move a photo back from the trash."""
        self._project.restore(self._name(key))
        return {}

    def change_labels(self, asked: LabelChange) -> dict[str, Any]:
        """Add, rename, remove, merge and delete labels, and bring one back.

        ``before`` of the answer has for each photo whose boxes were merged or deleted its id and the change
        that brings them back. ``lost`` is what brings the label back to its place, with the boxes of photos
        that are not there, as those in the trash, to which nobody else can put any. ``files`` as of a photo.
        """
        losing = {*asked.delete, *(asked.merge or ())[:1]}
        there = set(filter(self._project.is_there, self._list_names() if losing else ()))
        with self._project.noting() as versions, self._project.editing() as content:
            known = {photo_key(name): name for name in (*content.names, *there)}
            names = sorted(known.values()) if losing else ()
            before = [(name, _restoring(content.photo(name), losing)) for name in names]
            before = [(name, change) for name, change in before if change["put"]]
            content.add_labels(asked.add)
            gone = [(label, content.category_id(label)) for label in (*losing, *asked.remove)]
            if asked.rename is not None:
                content.rename_label(*asked.rename)
            for label in asked.remove:
                content.remove_label(label)
            if asked.merge is not None:
                content.merge_label(*asked.merge)
            for label in asked.delete:
                content.delete_label(label)
            if asked.restore is not None:
                _restore(content, asked.restore)
        if asked.rename is not None or losing:
            self._learner.photos_changed()
        answer: dict[str, Any] = {"labels": self._project.labels(), "files": versions}
        if losing:
            answer["before"] = [[photo_id(name), change] for name, change in before if name in there]
        if gone:
            photos = [{"name": name, **change} for name, change in before if name not in there]
            answer["lost"] = {"label": gone[-1][0], "id": gone[-1][1], "photos": photos}
        return answer

    def beside(self) -> dict[str, Any]:
        """What boxes lie beside the photos, by format, and what cannot be read."""
        found = find_beside(self._project)
        offers = [
            {
                "format": one.format,
                "name": FORMATS[one.format].partition(",")[0],
                "boxes": one.num_boxes,
                "classes": len(one.labels),
                "photos": sum(bool(image.boxes) for image in one.images.values()),
                "empty": sum(not image.boxes for image in one.images.values()),
            }
            for one in found
            if one.images
        ]
        return {"offers": offers, "problems": [problem for one in found for problem in one.problems]}

    def take_over(self, form: str) -> dict[str, Any]:
        """Take over the boxes of one format, and say what takes them back, as :meth:`change_labels` does."""
        taken = take_over(self._project, form)
        self._learner.photos_changed()
        back = [
            [photo_id(name), {"put": [], "delete": ids, "reviewed": False}] for name, ids in taken.items()
        ]
        return {"boxes": sum(map(len, taken.values())), "before": back}

    def export(self, form: str) -> AnnotationFile:
        """The boxes in another format, as one file."""
        return annotation_file(self._project.annotation_set(), self._project.folder, form)

    def label_counts(self) -> dict[str, list[int]]:
        """For each label how many boxes have it, and in how many photos; of photos left out too."""
        counts = {label: [0, 0] for label in self._project.labels()}
        for state in self._project.states(self._list_names()):
            labels = [drawn.box.label for drawn in state.boxes]
            for label in labels:
                counts[label][0] += 1
            for label in set(labels):
                counts[label][1] += 1
        return counts

    def image_tag(self, key: str, side: int | None) -> str:
        """The tag of a photo's picture, which changes with it; the picture is not made for that."""
        return self._previews.tag(partial(self._project.whereabouts, self._name(key)), side)

    def image(self, key: str, side: int | None) -> tuple[bytes, str]:
        """The photo, upright, as a JPEG no larger than asked for; and its tag. Also of one in the trash."""
        name = self._name(key)
        path = self._project.path_of(name)
        with self._unreadable.noting(path):
            picture = self._previews.picture(partial(self._project.whereabouts, name), side)
        self._unreadable.forget(path)
        return picture

    def proposals(self, key: str, *, reviewed: bool = False) -> dict[str, Any]:
        """The boxes that the learner proposes for a photo that has not been reviewed.

        Args:
            key: of the photo.
            reviewed: propose boxes for a reviewed photo too. The page asks for them while a person draws in
                it, and where the photo was marked as empty before the answer came.
        """
        name = self._name(key)
        (state,) = self._project.states([name])
        if state.left_out or (state.reviewed and not reviewed):
            return {"round": self._learner.learning().round, "boxes": [], "pending": False}
        found = self._learner.proposals(name)
        proposed = found.boxes or self._tried.proposals(name)
        boxes = [{"box": each.box, "label": each.label, "score": each.score} for each in proposed]
        return {"round": found.round, "boxes": boxes, "pending": found.pending}

    def learning(self) -> dict[str, Any]:
        """How far learning has come."""
        learning = self._learner.learning()
        answer = {"state": learning.state, "message": learning.message, "round": learning.round}
        return answer | {"progress": learning.progress, "suggested_next": self._suggested()}

    def finish(self) -> dict[str, Any]:
        """Start making the detector file."""
        self._learner.finish()
        return self.finishing()

    def finishing(self) -> dict[str, Any]:
        """How far the making of the detector file has come."""
        answer = asdict(self._learner.finishing())
        if answer["result"] is None:
            del answer["result"]
        return answer

    def held_out_picture(self) -> bytes:
        """The picture of held-out photos, a JPEG.

        Raises:
            NoSuchPhotoError: there is none.
        """
        result = self._learner.finishing().result
        if result is None or result.picture is None:
            raise NoSuchPhotoError("no such picture")
        try:
            return Path(result.picture).read_bytes()
        except OSError as error:
            raise NoSuchPhotoError("no such picture") from error

    def trying(self) -> dict[str, Any]:
        """With what photos are tried, in words; None if there is no detector yet."""
        return {"detector": self._learner.detector()}

    def try_photo(self, name: str, content: bytes) -> dict[str, Any]:
        """Detect in a photo that is not in the project; it is kept for a while."""
        return self._tried.look(name, content)

    def tried_image(self, key: str, side: int | None) -> bytes:
        """A photo that was tried, upright, as a JPEG."""
        return self._tried.image(key, side)

    def take_in(self, key: str) -> dict[str, Any]:
        """Copy a photo that was tried into the project; what was found in it is proposed there."""
        name = self._tried.take(key)
        return {"id": photo_id(name), "name": name}

    def _suggested(self) -> str | None:
        name = self._learner.learning().suggested_next
        if name is None or (self._only is not None and name not in self._only):
            return None
        (state,) = self._project.states([name])
        if state.reviewed or state.left_out:
            return None
        return photo_id(name)

    def _name(self, key: str) -> str:
        if key not in self._names:  # the photo may be new, or this server may be
            self._list_names()
        if key not in self._names:
            raise NoSuchPhotoError("no such photo")
        return self._names[key]

    def _measured(self, name: str) -> tuple[str, tuple[int, int]]:
        """The version of a photo's file, other once it is turned or replaced, and the size in it."""
        path = self._project.path_of(name)
        if not path.exists():
            raise PhotoError(f"{name}: no longer there", hint="put the photo back; its boxes are kept")
        with self._unreadable.noting(path):
            self._sizes[name] = (files.version_of(path), read_size_hw(path))
        return self._sizes[name]


@cache
def photo_id(name: str) -> str:
    """What the page calls a photo: the same in every run, and nothing that could be a path."""
    return hashlib.blake2b(os.fsencode(name), digest_size=12).hexdigest()


def _photo(
    name: str, size_hw: tuple[int, int] | None, state: PhotoState, file: str, content: str
) -> dict[str, Any]:
    height, width = size_hw or (None, None)
    return {
        "id": photo_id(name),
        "name": name,
        "width": width,
        "height": height,
        "file": file,
        "content": content,
        "reviewed": state.reviewed,
        "left_out": state.left_out,
        "boxes": [_box(drawn) for drawn in state.boxes],
        "version": _version_of(state),
    }


def _version_of(state: PhotoState) -> str:
    """Other for any other boxes or flags of a photo."""
    says = repr((state.boxes, state.reviewed, state.left_out)).encode()
    return hashlib.blake2b(says, digest_size=12).hexdigest()


def _restoring(state: PhotoState, labels: Set[str]) -> dict[str, Any]:
    """The change that brings boxes of these labels back, once they have got another one or are gone."""
    boxes = [_box(drawn) for drawn in state.boxes if drawn.box.label in labels]
    return {"put": boxes, "delete": [], "reviewed": state.reviewed}


def _restore(content: ProjectFile, lost: LostLabel) -> None:
    """Bring a label back, and its boxes in photos that are not there, whose size the file has."""
    content.restore_label(lost.label, lost.category_id)
    for name, change in lost.photos:
        size_hw = content.photo(name).size_hw
        if size_hw is not None:
            content.change_photo(name, size_hw, put=change.put, reviewed=change.reviewed)


def _box(drawn: DrawnBox) -> dict[str, Any]:
    box = drawn.box
    corners = [box.x1, box.y1, box.x2, box.y2]
    return {"id": drawn.id, "box": corners, "label": box.label, "ignore": box.ignore}
