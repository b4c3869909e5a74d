"""The errors a user can cause, and nothing else.

``FewboxError`` is the one base class. The command line prints it as one line on
stderr (and its hint on a second) and exits with status 2; any other exception is a
fault of ours and keeps its traceback.

    FewboxError
    ├── PhotoError          a photo is missing, unreadable, or not a photo
    ├── VideoError          a video or stream cannot be opened, or breaks off
    ├── AnnotationError     boxes are missing, malformed, or do not fit their photo
    ├── SettingError        a setting is unknown or out of its limits
    ├── BaseModelError      a base model cannot be found, read or used
    │   ├── CheckpointError     its files are corrupt or do not fit the network
    │   ├── ConfigError         its pipeline.config asks for what we do not compute
    │   └── DownloadError       it could not be fetched
    ├── DetectorFileError   a saved detector cannot be read
    ├── FinetuneError       fine-tuning could not go on
    ├── ExportError         an exported detector does not find what the original finds
    └── OutputError         a result cannot be written

A message says what is wrong, where (file, photo, number of the box) and, in the
hint, what to do: lower case, no final full stop, the offending value after a colon.
"""

from __future__ import annotations


class FewboxError(Exception):
    """What went wrong, where, and what to do about it.

    Examples:
        >>> try:
        ...     fewbox.read_annotations("boxes.csv")
        ... except fewbox.FewboxError as error:
        ...     print(error)
        boxes.csv: no such file
        hint: check the spelling, and the folder you are in
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"

    @property
    def one_line(self) -> str:
        """Message and hint, for a list of such errors."""
        return self.message if self.hint is None else f"{self.message}; {self.hint}"


class PhotoError(FewboxError):
    """A photo is missing, unreadable, or not a photo."""


class VideoError(FewboxError):
    """A video or stream cannot be opened, or breaks off."""


class AnnotationError(FewboxError):
    """Boxes are missing, malformed, or do not fit their photo."""


class SettingError(FewboxError):
    """A setting is unknown or out of its limits."""


class BaseModelError(FewboxError):
    """A base model cannot be found, read or used."""


class CheckpointError(BaseModelError):
    """The files of a base model are corrupt or do not fit the network."""


class ConfigError(BaseModelError):
    """A ``pipeline.config`` asks for something that is not computed here."""


class DownloadError(BaseModelError):
    """A base model could not be fetched."""


class DetectorFileError(FewboxError):
    """A saved detector cannot be read."""


class FinetuneError(FewboxError):
    """Fine-tuning could not go on."""


class ExportError(FewboxError):
    """An exported detector does not find what the original finds."""


class OutputError(FewboxError):
    """A result cannot be written."""
