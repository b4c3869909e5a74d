"""What callers give, checked where it can still be said in their words: thresholds, paths, devices.

A device is named as users do: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. No torch here: an exported
detector is opened without it. ``models/device.py`` takes the device.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os
import platform
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from fewbox.core import counted, installed_version
from fewbox.errors import FewboxError, SettingError

AUTO, CPU = "auto", "cpu"
DEVICES = "auto, cpu, cuda, cuda:N, mps"
_KNOWN = re.compile(r"auto|cpu|cuda(:\d{1,3})?|mps(:0)?")
_OF_GPUS = ("nvidiactl", "nvhost-ctrl", "dxg", "kfd")
"""Below ``/dev``: of NVIDIA, of its small boards, of Windows' Linux, of AMD."""
_MOST_SHOWN = 60  # letters
_MOST_STRETCHED = 1.1
"""How much the proportions of a photo and of a smaller picture of it may differ."""

FORMER_THRESHOLD = "score_threshold"
"""What ``threshold`` was called; files still call it so. The name goes with the next version."""

Given = ParamSpec("Given")
Result = TypeVar("Result")
Kind = TypeVar("Kind")


def takes_score_threshold(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let a function that takes ``threshold`` be called with the name it had before, with a warning."""

    @wraps(function)
    def taking(*positional: Given.args, **named: Given.kwargs) -> Result:
        if FORMER_THRESHOLD in named:
            if "threshold" in named:
                raise TypeError(f"{function.__qualname__}: threshold was given under both of its names")
            _warn(f"the argument {FORMER_THRESHOLD} of {function.__qualname__}")
            named["threshold"] = named.pop(FORMER_THRESHOLD)
        return function(*positional, **named)

    return taking


def former_threshold() -> Any:
    """The attribute ``score_threshold`` of an object that has ``threshold``; with a warning."""

    def get(self: Any) -> Any:
        _warn(f"{type(self).__name__}.{FORMER_THRESHOLD}")
        return self.threshold

    def put(self: Any, value: Any) -> None:
        _warn(f"{type(self).__name__}.{FORMER_THRESHOLD}")
        self.threshold = value

    return property(get, put, doc="The former name of ``threshold``.")


def own_threshold() -> Any:
    """The attribute ``threshold`` of a detector: a plain float from 0 to 1, whatever number is put there."""

    def get(self: Any) -> float:
        return float(_put_in(self, "threshold"))

    def put(self: Any, value: Any) -> None:
        if value is None:
            hint = "threshold_for gives None where no threshold is enough; keep the one there is"
            raise SettingError("the threshold must be a number from 0 to 1: None", hint=hint)
        self.__dict__["threshold"] = checked_threshold(value)

    return property(get, put, doc="``detect`` returns detections with a higher score.")


def own_labels() -> Any:
    """The attribute ``labels`` of a detector, which knows how many classes it has by its ``config``."""

    def get(self: Any) -> Any:
        return _put_in(self, "labels")

    def put(self: Any, value: Any) -> None:
        where = type(self).__name__
        labels = names_of_classes(value, where, SettingError, self.config.num_classes)
        if labels != self.__dict__.get("labels", labels):  # those that a file has are taken as they are
            require_distinct(labels, where, SettingError)
        self.__dict__["labels"] = labels

    return property(get, put, doc="The name of each class.")


def names_of_classes(
    value: Any, where: str, error: type[FewboxError], num_classes: int | None = None
) -> tuple[str, ...]:
    """The names of classes as a tuple.

    Args:
        value: a list of texts, or anything else that gives them in an order.
        where: what begins a message.
        error: what to raise.
        num_classes: how many there must be; any number if not given.

    Raises:
        FewboxError: of the type ``error``; they are no texts, or one text, have no order, or are too many or
            too few.
    """
    if isinstance(value, str):  # whose letters would be classes
        raise error(f"{where}: labels are a list of texts: {value!r}", hint=f"write [{value!r}]")
    if isinstance(value, Mapping | set | frozenset) or not isinstance(value, Iterable):
        hint = "a list says which class comes first: ['cup', 'duck']"
        raise error(f"{where}: labels are a list of texts, not {kind_of(value)}", hint=hint)
    labels = tuple(value)
    for label in labels:
        if not isinstance(label, str):
            hint = "of class ids make names first: [names[i] for i in ids]"
            raise error(f"{where}: a label is a text: {label}", hint=hint)
    if num_classes is not None and len(labels) != num_classes:
        told = f"{counted(num_classes, 'class')}, but {counted(len(labels), 'label')}"
        raise error(f"{where}: {told}", hint="give each class one name, in the order of the classes")
    return labels


def require_distinct(labels: Sequence[str], where: str, error: type[FewboxError]) -> None:
    """Refuse names of classes by which these could not be told apart, or not be written in a line.

    Raises:
        FewboxError: of the type ``error``; one is empty, has a line break, or is there twice.
    """
    for label in labels:
        if not label.strip():
            raise error(f"{where}: a label is empty: {label!r}", hint="give every class a name")
        if label.splitlines() != [label]:
            raise error(f"{where}: a label has a line break: {label!r}", hint="rename it")
        if labels.count(label) > 1:
            hint = "rename one of them, or make them one"
            raise error(f"{where}: two classes have one label: {label}", hint=hint)


def _put_in(owner: Any, name: str) -> Any:
    if name not in owner.__dict__:
        raise AttributeError(f"{type(owner).__name__} has no {name} yet")
    return owner.__dict__[name]


def _warn(what: str) -> None:
    warnings.warn(f"{what} is now called threshold", DeprecationWarning, stacklevel=3)


def as_number(value: Any) -> float:
    """Any kind of number as a plain float, numpy's and torch's too; a text or a truth is none: NaN."""
    try:
        return math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return math.nan


def checked_threshold(value: Any, name: str = "threshold") -> float:
    """A score threshold, or another share, as a plain float; any kind of number will do, numpy's too.

    Raises:
        SettingError: it is no number from 0 to 1; above 1 nothing would ever be found.
    """
    threshold = as_number(value)
    if not 0 <= threshold <= 1:
        hint = f"{threshold:g}% is {name}={threshold / 100:g}" if 1 < threshold <= 100 else None
        raise SettingError(f"the {name} must be a number from 0 to 1: {in_short(value)}", hint=hint)
    return threshold


def checked_number(
    value: Any,
    name: str,
    hint: str,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = sys.float_info.max,
) -> float:
    """A number of any kind, such as a ``Fraction``, as a plain float.

    Args:
        value: what was given.
        name: that of the argument, which begins the message.
        hint: what to do about it.
        above: it must be greater.
        least: it must not be less.
        most: it must not be more, nor less than minus that; infinite numbers are, if not said otherwise.

    Raises:
        SettingError: it is no number, or not such a one.
    """
    number = as_number(value)
    if not (-most <= number <= most and number > above and number >= least):
        limits = f" above {above:g}" if above > -math.inf else f" from {least:g}" if least > -math.inf else ""
        if abs(number) > most:
            limits += f" up to {most:g}" if most < sys.float_info.max else ", and finite"
        raise SettingError(f"{name} must be a number{limits}: {in_short(value)}", hint=hint)
    return number


def checked_count(value: Any, name: str, hint: str, least: int = 1) -> int:
    """A whole number of any kind, ``least`` or more, as a plain int; arguments and errors as above."""
    try:
        count = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise SettingError(f"{name} must be a whole number from {least}: {in_short(value)}", hint=hint)
    return count


def several(given: Iterable[Result]) -> Iterable[Result]:
    """What was given as several pictures, but one picture, of which letters or rows would be taken for them.

    Raises:
        ValueError: it is one.
    """
    is_array = getattr(given, "shape", ())[2:] in ((3,), (4,)) or getattr(given, "ndim", 3) < 3
    if is_array or isinstance(given, str | os.PathLike) or not isinstance(given, Iterable):
        raise ValueError(f"pictures must be several, as in a list: {kind_of(given)}; of one write [picture]")
    return given


def checked_path(value: Any, what: str, error: type[FewboxError], hint: str | None = None) -> Path:
    """A path that was given as text or as a path.

    Args:
        value: what was given.
        what: what it is to be, such as ``"a detector's file"``.
        error: what to raise.
        hint: what to do about it.

    Raises:
        FewboxError: of the type ``error``; it is something else, or text that no system takes.
    """
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise error(f"{what} is given by its path, not as {kind_of(value)}", hint=hint)
    if "\0" in os.fspath(value) or not os.fspath(value):
        raise error(f"{what} has no such path: {os.fspath(value)!r}", hint=hint)
    return Path(value)


def checked_least(at_least_hw: Any) -> tuple[float, float]:
    """The least height and width of a photo that is made smaller, as plain floats.

    Raises:
        SettingError: it is not two numbers.
    """
    with contextlib.suppress(TypeError, ValueError):
        height, width = map(float, at_least_hw)
        if not math.isnan(height + width):
            return height, width
    raise SettingError(f"at_least_hw must be two numbers, height and width: {at_least_hw!r}")


def checked_whole_size(size_hw: Any, shape: Sequence[int], stretched: bool) -> tuple[int, int]:
    """Height and width of a photo, of which pixels ``shape`` ``[h, w, ...]`` are a smaller picture.

    Args:
        size_hw: what was given.
        shape: that of the pixels.
        stretched: they need not have the photo's proportions, and may be more.

    Raises:
        SettingError: these are not two whole numbers, or no photo's of which these could be the pixels.
    """
    try:
        height, width = map(operator.index, size_hw)
    except (TypeError, ValueError):
        told = f"size_hw must be two whole numbers, height and width: {in_short(size_hw)}"
        raise SettingError(told, hint="the size of the whole photo: image.shape[:2]") from None
    h, w = shape[:2]
    told = f"{w} x {h} pixels cannot be a smaller picture of a photo of {width} x {height}"
    if not stretched and (height < h or width < w):
        raise SettingError(told, hint="size_hw is height and width of the whole photo, in pixels")
    # By how much both sides were divided, where they were rounded up or down.
    least = max(height / (h + 1), width / (w + 1))
    most = min(height / max(h - 1, 0.5), width / max(w - 1, 0.5))
    if not stretched and least > most * _MOST_STRETCHED:
        hint = "size_hw is height first, then width; make the picture smaller evenly"
        raise SettingError(f"{told}: its proportions differ", hint=hint)
    return height, width


def require_kind(value: Any, kind: type, what: str, error: type[FewboxError], hint: str) -> None:
    """Refuse what is not of a kind.

    Raises:
        FewboxError: of the type ``error``.
    """
    if not isinstance(value, kind):
        wanted, given = kind.__name__, kind_of(value)
        if wanted == given:  # another library's
            wanted, given = (f"{one.__module__.partition('.')[0]}.{wanted}" for one in (kind, type(value)))
        raise error(f"{what} must be of the type {wanted}, not {given}", hint=hint)


def all_of_kind(
    kind: type[Kind], given: Any, what: str, error: type[FewboxError], hint: str
) -> tuple[Kind, ...]:
    """What was given, one after the other.

    Raises:
        FewboxError: of the type ``error``; one is not of the kind, or it is no list.
    """
    if not hasattr(given, "__iter__"):
        raise error(f"{what}: a list of them is needed, not {kind_of(given)}", hint=hint)
    every = tuple(given)
    for number, one in enumerate(every, start=1):
        require_kind(one, kind, f"{what} {number}", error, hint)
    return every


def kind_of(value: Any) -> str:
    """What something is, for a message: never its contents, which may be a million numbers."""
    return "None" if value is None else type(value).__name__


def in_short(value: Any) -> str:
    """Something wrong as it was written, for a message, as far as it fits into a line."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # a whole number of more digits than Python writes
        return kind_of(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def checked_device(value: Any) -> str:
    """The name of a device; a ``torch.device`` will do.

    Raises:
        SettingError: there is no such kind of device.
    """
    name = str(value)
    if not _KNOWN.fullmatch(name):
        raise SettingError(f"unknown device: {name!r}", hint=f"choose one of: {DEVICES}")
    return name


def may_have_gpu() -> bool:
    """Whether PyTorch might find a GPU here; to ask it takes the second that its import takes."""
    version = installed_version("torch")
    if version is None or version.endswith("+cpu"):
        return False
    if platform.system() == "Linux":
        return any(Path("/dev", name).exists() for name in _OF_GPUS)
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    return shutil.which("nvidia-smi") is not None
