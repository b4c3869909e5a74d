"""What can be wrong with a data set: how bad each kind of finding is, what it is, and its cure."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING, NOTE = "error", "warning", "note"
"""An error stops fine-tuning or teaches something wrong; a warning may; a note is worth a look."""


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Attributes:
        severity: ``error``, ``warning`` or ``note``.
        title: what it is, of many.
        cure: what to do about it.
    """

    severity: str
    title: str
    cure: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: a key of ``KINDS``.
        file: the photo it is about, or the file of boxes.
        place: where in the file of boxes it stands; empty if nowhere.
        what: what is wrong.
        severity: that of its kind.
        cure: what to do about it.
    """

    kind: str
    file: str
    place: str
    what: str
    severity: str
    cure: str


def finding(kind: str, file: str, what: str, *, place: str = "", cure: str | None = None) -> Finding:
    """A finding; its cure is that of its kind unless there is a better one."""
    known = KINDS[kind]
    return Finding(kind, file, place, what, known.severity, known.cure if cure is None else cure)


KINDS = {
    "boxes-malformed": Kind(
        ERROR, "files of boxes that cannot be read", "write the file again with the tool it comes from"
    ),
    "boxes-none": Kind(ERROR, "no boxes at all", "draw a box around the object in at least one photo"),
    "photo-missing": Kind(
        ERROR,
        "photos that are not there",
        "put the photo back, correct its name in the file of boxes, or remove it there",
    ),
    "photo-ambiguous": Kind(
        ERROR, "names that may mean two photos", "rename one of the two, or name the folder of the right one"
    ),
    "photo-unreadable": Kind(ERROR, "photos that cannot be read", "copy the photo again, or leave it out"),
    "photo-listed-twice": Kind(
        ERROR, "photos listed twice", "keep one of the two entries, with the boxes of both"
    ),
    "photo-turned": Kind(
        ERROR,
        "photos whose boxes were drawn before they were turned upright",
        "draw the boxes again on the upright photo; or, to keep them, remove the EXIF orientation from "
        "the photo, which then lies on its side: exiftool -Orientation= PHOTO",
    ),
    "photo-resized": Kind(
        ERROR,
        "photos that had another size when their boxes were drawn",
        "use the photos that the boxes were drawn on, or draw the boxes again",
    ),
    "photo-in-both": Kind(
        ERROR,
        "photos that are for learning and for testing",
        "take each out of one of the two: a detector knows the photos it has learnt from",
    ),
    "box-outside": Kind(
        ERROR,
        "boxes outside their photo",
        "draw the box again; if there are many, check that the boxes belong to these photos",
    ),
    "box-rotated": Kind(ERROR, "boxes that are rotated", "draw the box again without rotation, or remove it"),
    "box-degenerate": Kind(ERROR, "boxes without an inside", "draw the box again, or remove it"),
    "label-empty": Kind(ERROR, "boxes without a label", "name the class of every box"),
    "box-cut": Kind(
        WARNING,
        "boxes that reach over the edge of their photo, and are cut there",
        "nothing, if the object goes on beyond the edge; else check that the boxes belong to these photos "
        "(--strict refuses them)",
    ),
    "box-tilted": Kind(
        WARNING,
        "boxes that are turned by a pixel or less, and read as upright",
        "nothing; draw the box again if it matters (--strict refuses them)",
    ),
    "box-flat": Kind(
        WARNING,
        "boxes without width or height, which are left out",
        "draw the box again, or remove it: a photo with no other box counts as not looked at "
        "(--strict refuses them)",
    ),
    "box-twice": Kind(WARNING, "boxes drawn twice around one object", "remove one of the two"),
    "box-two-labels": Kind(
        WARNING, "boxes that give one object two classes", "remove the box with the wrong label"
    ),
    "box-tiny": Kind(
        WARNING,
        "boxes that the network hardly sees",
        "take photos from nearer, cut the photos into parts (to detect in them: --tiles), or choose a base "
        "with a larger input",
    ),
    "boxes-small": Kind(
        WARNING,
        "large photos with small objects",
        "look at parts of the photos too: fewbox detect DETECTOR PHOTOS -o found/ --tiles; and learn from "
        "photos taken nearer, or from parts of these",
    ),
    "label-alike": Kind(
        WARNING, "labels that differ only in how they are written", "use one spelling for one class"
    ),
    "label-rare": Kind(
        WARNING,
        "classes with few boxes beside the others",
        "add photos of the rare class: ten times fewer boxes are easily outvoted",
    ),
    "label-unused": Kind(WARNING, "classes without a box", "remove the class, or draw its boxes"),
    "label-not-learnt": Kind(
        WARNING,
        "classes to be tested that are not learnt",
        "add photos with boxes of the class, or give both files the same name for it",
    ),
    "photo-nearly-in-both": Kind(
        WARNING,
        "photos for testing that look like one for learning",
        "test on photos of other moments, or the result looks better than it is; if a fixed camera took "
        "them and only small things change, all is well",
    ),
    "photo-twice": Kind(
        WARNING,
        "photos that show the same",
        "keep one: the other teaches nothing, and if they part ways it spoils the test",
    ),
    "photo-not-reviewed": Kind(
        WARNING,
        "photos that nobody has looked at",
        "draw their boxes, or mark them as reviewed and empty (fewbox annotate); "
        "or leave them out: fewbox finetune --reviewed-only",
    ),
    "photo-name-twice": Kind(
        NOTE,
        "photos that share a name",
        "nothing, if their folders tell them apart; fewbox detect takes one of the folders at a time",
    ),
    "photo-flipped": Kind(
        NOTE,
        "photos with boxes that the camera stored upside down or mirrored",
        "look at their boxes once: a tool that ignores the EXIF orientation leaves them in the wrong "
        "place, and from the numbers nobody can tell",
    ),
    "photo-without-end": Kind(
        NOTE, "photos whose file lacks its end", "copy it again from where it came, if it is still there"
    ),
    "not-read": Kind(NOTE, "things the file says that fewbox does not use", ""),
}
"""The kinds, worst first."""
