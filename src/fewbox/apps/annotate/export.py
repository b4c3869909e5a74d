"""The boxes of a project in another format, as one file to download."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from fewbox.data.formats.writing import annotation_texts
from fewbox.data.project import Project


@dataclass(frozen=True)
class Export:
    """A file to download."""

    name: str
    content: bytes
    remarks: tuple[str, ...]
    """What the format cannot hold."""


def export(project: Project, form: str) -> Export:
    """The boxes as ``fewbox convert`` writes them; a format with a file per photo as a zip file.

    Photos that are left out are not in it, and names of photos start from the folder of the project.

    Raises:
        AnnotationError: nothing has been drawn, or the format cannot hold a name or a label.
        PhotoError: a photo cannot be read.
        SettingError: there is no format of this name.
    """
    texts, remarks = annotation_texts(project.annotation_set(), project.folder, form)
    stem = f"{project.folder.resolve().name or 'boxes'}_{form}"
    if len(texts) == 1 and not any("/" in name for name in texts):
        ((name, text),) = texts.items()
        return Export(f"{stem}{Path(name).suffix}", text.encode(), remarks)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text.encode())
    return Export(f"{stem}.zip", file.getvalue(), remarks)
