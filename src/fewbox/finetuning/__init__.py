"""From annotated photos and a base model to a detector: :func:`fewbox.finetune`.

Here: what a caller may ask for, which recipe does it, and what the detector's file says of its making.
How it is learnt: ``linear_probe/`` and ``adapt/``, between which ``best`` chooses, and ``seed.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbox import __version__
from fewbox.config import FinetuneConfig
from fewbox.core import (
    TRAIN,
    importing_torch,
    install_command,
    installed_version,
    is_installed,
    require_packages,
)
from fewbox.core.arguments import AUTO, require_kind
from fewbox.core.files import require_writable
from fewbox.core.progress import console
from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats import annotation_set
from fewbox.data.images import StrPath
from fewbox.data.photo_file import content_hash
from fewbox.detection.detector import Detector
from fewbox.detection.drawing import PICTURE_FORMATS, require_another
from fewbox.detection.precision import check_bfloat16
from fewbox.errors import FinetuneError, OutputError, PhotoError, SettingError
from fewbox.finetuning.estimate import estimate_in_words, mean_ap50
from fewbox.finetuning.features import require_runnable
from fewbox.finetuning.input_size import Judge, SizedBase, choose_input_size, likeliest_cure
from fewbox.finetuning.linear_probe.recipe import Fitted, Probe
from fewbox.finetuning.resume import UnfinishedRun
from fewbox.models.base import BaseModel, best_or_fetched, load_base
from fewbox.models.device import choose_processor_or, device_in_words, full_memory_told, usual_torch_state
from fewbox.models.families import family_of, require_adaptable

if TYPE_CHECKING:
    import torch

RECIPES = ("best", "probe", "adapt", "seed")
"""``best`` chooses between ``probe`` and ``adapt``."""
STEPS = {"quick": 60, "normal": 200, "long": 600}
"""Of adapting to eight photos, each from eight views."""
FEWER_STEPS, MORE_STEPS = 0.3, 3.0
"""Of those at the least and at the most: measured, docs/decisions/0080-adapting-on-cached-maps.md."""
VIEWS = {"quick": 8, "normal": 16, "long": 32}
"""Of each photo that adapting learns from, itself among them."""
WELL_FOUND = 0.9
"""AP50 of the linear probe in photos held out from which on ``best`` leaves it at that."""
HINDERS_ADAPTING = (FinetuneError, OutputError, PhotoError, SettingError)
"""What may end it: no room, no memory, a loss that is no number, a photo that is gone meanwhile."""
PRECISION_PHOTOS = 2
"""Photos on which bfloat16 is tried; each costs two passes of the network."""


def finetune(
    annotations: AnnotationSet | StrPath,
    base: BaseModel | StrPath = "auto",
    *,
    effort: str | None = None,
    recipe: str = "best",
    config: FinetuneConfig | None = None,
    negatives: StrPath | Sequence[StrPath] = (),
    keep_classes: bool = False,
    show_progress: bool = True,
    held_out: StrPath | None = None,
    device: str | torch.device = AUTO,
) -> Detector:
    """Teach a base model the classes of ``annotations``.

    ``recipe="best"`` begins with the linear probe: logistic regression on frozen features of augmented views.
    With a YOLOX or the starter it then tries, on photos held out, whether to let all but the first stages of
    the backbone learn too, which objects need that look like nothing in COCO, and does so unless that finds
    less.
    With the effort ``quick``, or if the linear probe finds nine objects in ten, that is left out.
    ``recipe="probe"`` is the linear probe in any case, and ``recipe="adapt"`` adapts it in any case.
    ``recipe="seed"`` is the one of TensorFlow's "eager few shot" notebook: a new class head,
    everything else from the base, and plain gradient descent on the two heads alone.

    With 20 photos or more, what the frozen network gives for each is kept in the cache until the detector is
    there: where this was interrupted, the same call goes on with it, and gives the same detector.

    Args:
        annotations: photos with boxes; every one must have been looked at. Or where they are, as for
            :func:`read_annotations`: a folder in which boxes were drawn, or a file of boxes.
        base: a base model, or its name or file as for :func:`fewbox.load_base`; ``"auto"`` is the best one at
            hand, and where that is the starter ``yolox_nano`` is fetched if it can be.
        effort: ``"quick"``, ``"normal"`` or ``"long"``, instead of that of ``config``.
        recipe: ``"best"``, ``"probe"``, ``"adapt"`` or ``"seed"``.
        config: settings; those of gradient descent are for the seed recipe alone.
        negatives: folders, files or patterns of photos in which there is none of the objects.
        keep_classes: find the base's own classes too, exactly as the base does if the input keeps its size;
            only with ``"best"`` and ``"probe"``; then nothing is adapted. They share one threshold.
        show_progress: print the loss as it goes and show how far the work has come.
        held_out: a picture (.jpg or .png) to write of photos as a detector sees them that has not learnt
            from them, beside their boxes; not with ``"seed"``, and if there are photos enough.
        device: what computes, and for the detector that is returned: ``"auto"``, the GPU if there is one;
            ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``. Its file opens on any machine.

    Raises:
        AnnotationError: a photo has not been looked at, or there is no box at all.
        PhotoError: a photo cannot be read.
        OutputError: ``held_out`` cannot be written there, or is one of the photos.
        BaseModelError: the base cannot be found or used.
        FinetuneError: the loss is no longer a finite number.
        SettingError: there is no such recipe or device.

    Examples:
        >>> photos = fewbox.read_annotations("ducks/train.json", "ducks/train")
        >>> detector = fewbox.finetune(photos, "starter", effort="quick", show_progress=False)
        >>> detector.labels
        ('rubber_duck',)
        >>> detector.save("duck.safetensors")
    """
    settings = checked_settings(config, effort, recipe, keep_classes=keep_classes)
    if held_out is not None:
        require_writable(held_out, list(PICTURE_FORMATS))
    with UnfinishedRun() as run:
        return finetune_within(
            run,
            annotations,
            base,
            settings,
            recipe=recipe,
            negatives=negatives,
            keep_classes=keep_classes,
            show_progress=show_progress,
            held_out=held_out,
            device=device,
        )


@usual_torch_state()
def finetune_within(
    run: UnfinishedRun,
    annotations: AnnotationSet | StrPath,
    base: BaseModel | StrPath,
    settings: FinetuneConfig,
    *,
    recipe: str,
    negatives: StrPath | Sequence[StrPath],
    keep_classes: bool,
    show_progress: bool,
    held_out: StrPath | None,
    device: str | torch.device,
) -> Detector:
    """As :func:`finetune`, for whoever has more to do before the run ends, such as writing a file."""
    chosen = choose_processor_or(device)
    if show_progress:
        console.print(f"computing on: {device_in_words(chosen)}")
    annotations = annotation_set(annotations)
    if negatives is not None and not (isinstance(negatives, Sequence) and len(negatives) == 0):
        annotations = annotations.with_negatives(negatives)
    annotations.require_reviewed()
    if held_out is not None:
        require_another(Path(held_out), [image.path for image in annotations])
    if base == "auto":
        base = best_or_fetched(show_progress=show_progress)
    base_model = base if isinstance(base, BaseModel) else load_base(base)
    if recipe == "seed":
        require_packages(["torch"], "the recipe seed")
    else:
        require_runnable(base_model, settings.precision, chosen)
    sized = SizedBase(base_model)
    if recipe != "seed" or settings.input_size:
        sized = choose_input_size(
            annotations,
            base_model,
            settings,
            keep_classes=keep_classes,
            judge=_judge_of_sizes(base_model, settings, recipe),
            show_progress=show_progress,
            device=chosen,
        )
    base_model = sized.base
    if recipe == "seed":
        detector = _by_seed(annotations, base_model, settings, show_progress=show_progress, device=chosen)
    else:
        detector = _probed_or_adapted(
            annotations,
            base_model,
            settings,
            recipe=recipe,
            keep_classes=keep_classes,
            show_progress=show_progress,
            held_out=None if held_out is None else Path(held_out),
            device=chosen,
            run=run,
        )
    detector.provenance |= provenance(annotations, recipe, settings, detector.history)
    if sized.reasons:
        detector.provenance["plan"] = (*sized.reasons, *detector.provenance.get("plan", ()))
    return with_fastest_precision(detector, annotations, show_progress=show_progress)


def _judge_of_sizes(base: BaseModel, settings: FinetuneConfig, recipe: str) -> Judge | None:
    """Sizes of the input are compared by a few steps of adapting, where adapting is what follows."""
    family = family_of(base.config)
    adapts = family.adapts(family.probe_config(base.config, 1, keep_classes=False))
    follows = recipe in ("best", "adapt") and settings.effort != "quick"
    if not (adapts and follows and is_installed("torch")):
        return None

    def judge(*of: Any) -> float | None:  # PyTorch is loaded only if there is anything to compare
        with importing_torch():
            from fewbox.finetuning.adapt import ap50_of_brief_adapting

        try:
            return ap50_of_brief_adapting(*of)
        except HINDERS_ADAPTING:  # the base's size stays, and adapting itself will tell
            return None

    return judge


def _by_seed(
    annotations: AnnotationSet,
    base: BaseModel,
    settings: FinetuneConfig,
    *,
    show_progress: bool,
    device: torch.device | None,
) -> Detector:
    """As :func:`finetune_seed`, for which PyTorch is loaded."""
    with importing_torch():
        from fewbox.finetuning.seed import finetune_seed

    return finetune_seed(annotations, base, settings, show_progress=show_progress, device=device)


def checked_settings(
    config: FinetuneConfig | None, effort: str | None, recipe: str, *, keep_classes: bool
) -> FinetuneConfig:
    """The settings that were asked for, if they and the recipe go together.

    Raises:
        SettingError: there is no such recipe, or it does not do what is asked for.
    """
    if recipe not in RECIPES:
        raise SettingError(f"unknown recipe: {recipe!r}", hint=f"recipes: {', '.join(RECIPES)}")
    if keep_classes and recipe not in ("best", "probe"):
        message = f"the recipe {recipe} does not keep the base's classes"
        raise SettingError(message, hint="use the recipe: best")
    settings = FinetuneConfig() if config is None else config
    require_kind(settings, FinetuneConfig, "config", SettingError, "FinetuneConfig(seed=1), for example")
    settings = settings if effort is None else replace(settings, effort=effort)
    # What would change nothing is refused: who asks for more steps wants to get something for them.
    others = ("effort",) if recipe == "seed" else ("steps", "batch_size", "learning_rate", "momentum")
    for name in others:
        if getattr(settings, name) != getattr(FinetuneConfig, name):
            hint = "leave it out, or choose its recipe"
            hint += "" if recipe == "seed" else "; for more work: --effort long, effort='long' in Python"
            whose = "best, probe and adapt" if recipe == "seed" else "seed"
            raise SettingError(f"{name} is a setting of {whose}, not of the recipe {recipe}", hint=hint)
    return settings


def _probed_or_adapted(
    annotations: AnnotationSet,
    base: BaseModel,
    settings: FinetuneConfig,
    *,
    recipe: str,
    keep_classes: bool,
    show_progress: bool,
    held_out: Path | None,
    device: torch.device | None,
    run: UnfinishedRun,
) -> Detector:
    """What the linear probe learns, or what adapting makes of it: as the recipe or photos held out say."""
    labels, must_adapt = annotations.labels, recipe == "adapt"
    if must_adapt:
        config = family_of(base.config).probe_config(base.config, len(labels), keep_classes=False)
        require_adaptable(config, base.name)
        require_packages(["torch"], "the recipe adapt")
    probe = Probe.of(annotations, base, settings, show_progress=show_progress, device=device, run=run)
    reasons = probe.budget.reasons
    if show_progress:
        console.print("\n".join(reasons))
    fitted = probe.fit(keep_classes=keep_classes)
    reason = why_not_adapt(fitted, settings, keep_classes=keep_classes) if recipe == "best" else ""
    if must_adapt or reason is None:
        fitted = _adapted(
            probe, fitted, settings, may_stay=not must_adapt, show_progress=show_progress, run=run
        )
    elif reason:
        fitted = fitted.with_reason(reason)
    cure = likeliest_cure(annotations, base, settings, fitted)
    if cure is not None:
        fitted = fitted.with_remark(cure)
    if show_progress:
        said = fitted.detector.provenance["plan"][len(reasons) :]
        console.print("\n".join((*said, estimate_in_words(fitted.estimate.to_dict()))))
    if held_out is not None:
        try:
            with full_memory_told():
                probe.save_held_out(held_out, fitted)
        except (OutputError, PhotoError, SettingError) as error:  # what was learnt is worth more than it
            console.print(f"no picture of photos held out: {error}")
    return fitted.detector


def _adapted(
    probe: Probe,
    fitted: Fitted,
    settings: FinetuneConfig,
    *,
    may_stay: bool,
    show_progress: bool,
    run: UnfinishedRun,
) -> Fitted:
    """As :func:`adapt_fitted`, for which PyTorch is loaded only now; what hinders it leaves what there is."""
    if show_progress and "torch" not in sys.modules:
        console.print("loading PyTorch, to see what adapting brings")
    steps = adapting_steps(settings.effort, sum(bool(photo.objects) for photo in probe.annotations))
    try:
        with full_memory_told():
            try:
                with importing_torch():
                    from fewbox.finetuning.adapt import adapt_fitted
                    from fewbox.finetuning.adapt.learn import AdaptSettings
            except KeyboardInterrupt:  # that takes seconds, and the linear probe's detector is there
                if not may_stay:
                    raise
                return fitted.untried()
            how = AdaptSettings(steps=steps, views=VIEWS[settings.effort], seed=settings.seed)
            return adapt_fitted(probe, fitted, how, may_stay=may_stay, show_progress=show_progress, run=run)
    except HINDERS_ADAPTING as error:
        if not may_stay:
            raise
        hint = "" if error.hint is None else f" ({error.hint})"
        return fitted.with_reason(f"not adapted: {error.message}{hint}")


def adapting_steps(effort: str, num_photos: int) -> int:
    """In proportion to photos with boxes: two are known by heart after steps in which sixteen hardly are."""
    return round(STEPS[effort] * min(max(num_photos / 8, FEWER_STEPS), MORE_STEPS))


def why_not_adapt(fitted: Fitted, settings: FinetuneConfig, *, keep_classes: bool) -> str | None:
    """Why ``best`` does not try what adapting brings; empty where nobody expects it, None if it does try."""
    config = fitted.detector.config
    if keep_classes or settings.effort == "quick" or not family_of(config).adapts(config):
        return ""
    # Measured on one photo: halfway gives 6 AP more of raccoons, and 8 less of ducks.
    if fitted.estimate.photos == 1 and fitted.boxes_hold():
        return "not adapted: one photo with boxes, and the base's boxes hold its objects already"
    if fitted.outcomes is not None:
        found = mean_ap50(fitted.outcomes, len(fitted.detector.labels))
        if found >= WELL_FOUND:
            return f"not adapted: AP50 in photos held out is {found:.0%} already"
    if not is_installed("torch"):
        return f"not adapted, which might find more: it needs torch, not installed: {install_command(TRAIN)}"
    return None


def provenance(
    annotations: AnnotationSet, recipe: str, settings: Any, history: Sequence[Mapping[str, float]]
) -> dict[str, object]:
    """What a detector file says of its making; nothing in it changes from one run to the next."""
    return {
        "fewbox": __version__,
        "torch": installed_version("torch"),
        "onnxruntime": installed_version("onnxruntime"),
        "recipe": recipe,
        "settings": asdict(settings),
        "photos": [
            {"name": name, "boxes": len(image.objects), "sha256": content_hash(image.path)}
            for name, image in zip(annotations.names, annotations, strict=True)
        ],
        "final_loss": history[-1]["total"],
    }


def with_fastest_precision(
    detector: Detector, annotations: AnnotationSet, *, show_progress: bool
) -> Detector:
    """The detector in bfloat16 if its boxes on photos it learnt from stay where they are, else as it is."""
    photos = sorted(annotations, key=lambda image: -len(image.boxes))[:PRECISION_PHOTOS]
    try:
        with full_memory_told():
            check = check_bfloat16(detector, [image.path for image in photos])
    except (PhotoError, SettingError) as error:  # what was learnt is worth more than a faster detector
        console.print(f"detecting in float32: bfloat16 cannot be tried: {error.message}")
        return detector
    if show_progress:
        console.print(str(check))
    return detector.with_precision("bfloat16") if check.holds else detector
