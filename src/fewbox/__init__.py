"""Teach a 2D object detector a new object from a handful of photos.

    import fewbox

    photos = fewbox.read_annotations("train_boxes.csv", "train/")
    detector = fewbox.finetune(photos, "starter")
    detections = detector.detect("test/out1.jpg")
    detections.draw().save("found.jpg")

Names are loaded on first use: importing fewbox takes milliseconds and imports no torch.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fewbox import core as _core

if TYPE_CHECKING:
    from fewbox.apps.annotate import annotate as annotate
    from fewbox.config import FinetuneConfig as FinetuneConfig
    from fewbox.data import demo_photos as demo_photos
    from fewbox.data.annotations import AnnotatedImage as AnnotatedImage
    from fewbox.data.annotations import AnnotationSet as AnnotationSet
    from fewbox.data.annotations import Box as Box
    from fewbox.data.checks import CheckReport as CheckReport
    from fewbox.data.checks import check_annotations as check_annotations
    from fewbox.data.formats import read_annotations as read_annotations
    from fewbox.data.formats import write_annotations as write_annotations
    from fewbox.data.formats import write_coco as write_coco
    from fewbox.data.images import ReducedImage as ReducedImage
    from fewbox.data.images import find_photos as find_photos
    from fewbox.data.images import read_image as read_image
    from fewbox.data.images import read_reduced as read_reduced
    from fewbox.detection import Detections as Detections
    from fewbox.detection.detector import Detector as Detector
    from fewbox.detection.drawing import contact_sheet as contact_sheet
    from fewbox.detection.drawing import draw_boxes as draw_boxes
    from fewbox.detection.drawing import save_gif as save_gif
    from fewbox.detection.loading import open_detector as open_detector
    from fewbox.errors import FewboxError as FewboxError
    from fewbox.evaluation import Evaluation as Evaluation
    from fewbox.evaluation import evaluate as evaluate
    from fewbox.evaluation.report import save_report as save_report
    from fewbox.export import export_detector as export_detector
    from fewbox.finetuning import finetune as finetune
    from fewbox.finetuning.loss_curve import save_loss_curve as save_loss_curve
    from fewbox.models.base import BaseModel as BaseModel
    from fewbox.models.base import load_base as load_base
    from fewbox.video.counting import LineCounter as LineCounter
    from fewbox.video.counting import ZoneCounter as ZoneCounter
    from fewbox.video.tracking import TrackedBox as TrackedBox
    from fewbox.video.tracking import Tracker as Tracker

__version__ = "0.1.0"

_core.let_threads_sleep()
_core.send_no_telemetry()

_HOMES = {
    "AnnotatedImage": "data.annotations",
    "AnnotationSet": "data.annotations",
    "BaseModel": "models.base",
    "Box": "data.annotations",
    "CheckReport": "data.checks",
    "Detections": "detection",
    "Detector": "detection.detector",
    "Evaluation": "evaluation",
    "FewboxError": "errors",
    "FinetuneConfig": "config",
    "LineCounter": "video.counting",
    "ReducedImage": "data.images",
    "TrackedBox": "video.tracking",
    "Tracker": "video.tracking",
    "ZoneCounter": "video.counting",
    "annotate": "apps.annotate",
    "check_annotations": "data.checks",
    "contact_sheet": "detection.drawing",
    "demo_photos": "data",
    "draw_boxes": "detection.drawing",
    "evaluate": "evaluation",
    "export_detector": "export",
    "find_photos": "data.images",
    "finetune": "finetuning",
    "load_base": "models.base",
    "open_detector": "detection.loading",
    "read_annotations": "data.formats",
    "read_image": "data.images",
    "read_reduced": "data.images",
    "save_gif": "detection.drawing",
    "save_loss_curve": "finetuning.loss_curve",
    "save_report": "evaluation.report",
    "write_annotations": "data.formats",
    "write_coco": "data.formats",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name == "GoldeneyeError":  # before the package was renamed
        warnings.warn("GoldeneyeError is now called FewboxError", DeprecationWarning, stacklevel=2)
        name = "FewboxError"
    if name not in _HOMES:
        raise AttributeError(f"module 'fewbox' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"fewbox.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        told: Exception = _core.missing_in_words(error, f"fewbox.{name}")
        raise told from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
