"""Read a ``pipeline.config`` of the TensorFlow Object Detection API, refusing what is not computed here.

The file is a protobuf in text form. :class:`Message` hands its fields out one by one with the defaults of the
API's ``.proto`` files, and at the end names any field nobody asked for: such a field would change the result
without our knowing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fewbox.errors import ConfigError
from fewbox.models.protobuf import Fields, parse_text_protobuf
from fewbox.models.ssd import SsdConfig

T = TypeVar("T")

BACKBONES = {
    "ssd_resnet50_v1_fpn_keras": 50,
    "ssd_resnet101_v1_fpn_keras": 101,
    "ssd_resnet152_v1_fpn_keras": 152,
}


def read_ssd_config(path: Path) -> SsdConfig:
    """Read a ``pipeline.config``.

    Raises:
        ConfigError: the file is not a text protobuf, describes another kind of model, or has a
            field that would change the result and is not computed here; the field is named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_ssd_config(text, str(path))


def parse_ssd_config(text: str, where: str = "pipeline.config") -> SsdConfig:
    """Read the text of a ``pipeline.config``; ``where`` names it in errors.

    Raises:
        ConfigError: as :func:`read_ssd_config`.
    """
    model = Message(parse_text_protobuf(text, where), "", where).child("model")
    model.path = "model"
    if not model.has("ssd"):
        kind = next(iter(model.fields), "nothing")
        raise ConfigError(
            f"{where}: model.{kind}: not a supported kind of model (only model.ssd)",
            hint="use a base model listed by: fewbox bases",
        )
    ssd = model.child("ssd")
    model.close()
    extractor = _extractor(ssd.child("feature_extractor"))
    values: dict[str, Any] = {
        "num_classes": ssd.integer("num_classes", 0),
        "size_hw": _resizer(ssd.child("image_resizer")),
        **extractor,
        **_predictor(ssd.child("box_predictor")),
        **_anchors(ssd.child("anchor_generator"), extractor["max_level"]),
        "coder_scales": _coder(ssd.child("box_coder")),
        **_matcher(ssd.child("matcher")),
        **_losses(ssd.child("loss")),
        "normalize_by_matches": ssd.flag("normalize_loss_by_num_matches", True),
        "normalize_by_code_size": ssd.flag("normalize_loc_loss_by_codesize", False),
        **_post_processing(ssd.child("post_processing")),
    }
    _rest_of_ssd(ssd)
    _check_numbers(where, values)
    return SsdConfig(**values)


def _rest_of_ssd(ssd: Message) -> None:
    similarity = ssd.child("similarity_calculator")
    similarity.child("iou_similarity").close()
    similarity.close()
    ssd.require("encode_background_as_zeros", True, ssd.flag("encode_background_as_zeros", False))
    ssd.require("add_background_class", True, ssd.flag("add_background_class", True))
    ssd.require("explicit_background_class", False, ssd.flag("explicit_background_class", False))
    ssd.require("negative_class_weight", 1.0, ssd.number("negative_class_weight", 1.0))
    ssd.require("use_confidences_as_targets", False, ssd.flag("use_confidences_as_targets", False))
    # Batch-norm is always frozen here, and how its averages are updated matters only when it is not.
    ssd.harmless("freeze_batchnorm", "inplace_batchnorm_update", "implicit_example_weight")
    ssd.close()


def _resizer(resizer: Message) -> tuple[int, int]:
    fixed = resizer.child("fixed_shape_resizer")
    size_hw = (fixed.integer("height", 300), fixed.integer("width", 300))
    fixed.require("resize_method", "BILINEAR", fixed.word("resize_method", "BILINEAR"))
    fixed.require("convert_to_grayscale", False, fixed.flag("convert_to_grayscale", False))
    fixed.close()
    resizer.close()
    if not all(32 <= side <= 4096 for side in size_hw):
        raise ConfigError(f"{resizer.where}: {fixed.path}: sides must be 32 to 4096 pixels: {size_hw}")
    return size_hw


def _extractor(extractor: Message) -> dict[str, Any]:
    kind = extractor.word("type", "")
    if kind not in BACKBONES:
        raise ConfigError(
            f"{extractor.where}: {extractor.path}.type: not supported: {kind!r}",
            hint=f"supported types: {', '.join(BACKBONES)}",
        )
    extractor.require("depth_multiplier", 1.0, extractor.number("depth_multiplier", 1.0))
    extractor.require("pad_to_multiple", 1, extractor.integer("pad_to_multiple", 1))
    extractor.require("use_explicit_padding", False, extractor.flag("use_explicit_padding", False))
    extractor.require("use_depthwise", False, extractor.flag("use_depthwise", False))
    override = extractor.flag("override_base_feature_extractor_hyperparams", False)
    extractor.require("override_base_feature_extractor_hyperparams", True, override)
    fpn = extractor.child("fpn")
    fpn.require("min_level", 3, fpn.integer("min_level", 3))
    max_level = fpn.integer("max_level", 7)
    channels = fpn.integer("additional_layer_depth", 256)
    fpn.close()
    epsilon, _ = _hyperparams(extractor.child("conv_hyperparams"))
    extractor.harmless("min_depth")  # a floor under depth_multiplier, which is 1
    extractor.close()
    return {
        "backbone_depth": BACKBONES[kind],
        "max_level": max_level,
        "fpn_channels": channels,
        "extractor_norm_epsilon": epsilon,
    }


def _predictor(predictor: Message) -> dict[str, Any]:
    shared = predictor.child("weight_shared_convolutional_box_predictor")
    predictor.close()
    shared.require("kernel_size", 3, shared.integer("kernel_size", 3))
    shared.require("box_code_size", 4, shared.integer("box_code_size", 4))
    shared.require("share_prediction_tower", False, shared.flag("share_prediction_tower", False))
    shared.require("use_depthwise", False, shared.flag("use_depthwise", False))
    shared.require("use_dropout", False, shared.flag("use_dropout", False))
    shared.require("score_converter", "IDENTITY", shared.word("score_converter", "IDENTITY"))
    shared.harmless("dropout_keep_probability")
    epsilon, std = _hyperparams(shared.child("conv_hyperparams"))
    values = {
        "tower_layers": shared.integer("num_layers_before_predictor", 0),
        "tower_channels": shared.integer("depth", 0),
        "tower_norm_epsilon": epsilon,
        "class_bias": shared.number("class_prediction_bias_init", 0.0),
        "head_init_std": std,
    }
    shared.close()
    return values


def _hyperparams(hyperparams: Message) -> tuple[float, float]:
    """Batch-norm epsilon and the standard deviation new kernels are drawn with."""
    hyperparams.require("op", "CONV", hyperparams.word("op", "CONV"))
    hyperparams.require("activation", "RELU_6", hyperparams.word("activation", "RELU"))
    hyperparams.require("force_use_bias", False, hyperparams.flag("force_use_bias", False))
    if not hyperparams.has("batch_norm"):
        hyperparams.require("batch_norm", "present", "absent")
    norm = hyperparams.child("batch_norm")
    epsilon = norm.number("epsilon", 0.001)
    norm.require("center", True, norm.flag("center", True))
    norm.require("scale", True, norm.flag("scale", False))
    norm.harmless("decay", "train")  # only used where statistics are updated
    norm.close()
    initializer = hyperparams.child("initializer")
    std = 0.03
    for kind in ("random_normal_initializer", "truncated_normal_initializer"):
        if initializer.has(kind):
            normal = initializer.child(kind)
            normal.require("mean", 0.0, normal.number("mean", 0.0))
            std = normal.number("stddev", 1.0)
            normal.close()
    initializer.close()
    hyperparams.harmless("regularizer")  # the recipe minimises the two detection losses alone
    hyperparams.close()
    return epsilon, std


def _anchors(generator: Message, pyramid_max_level: int) -> dict[str, Any]:
    multiscale = generator.child("multiscale_anchor_generator")
    generator.close()
    multiscale.require("min_level", 3, multiscale.integer("min_level", 3))
    multiscale.require("normalize_coordinates", True, multiscale.flag("normalize_coordinates", True))
    multiscale.require("max_level", pyramid_max_level, multiscale.integer("max_level", 7))
    values = {
        "anchor_scale": multiscale.number("anchor_scale", 4.0),
        "aspect_ratios": multiscale.numbers("aspect_ratios"),
        "scales_per_octave": multiscale.integer("scales_per_octave", 2),
    }
    multiscale.close()
    return values


def _coder(coder: Message) -> tuple[float, ...]:
    faster = coder.child("faster_rcnn_box_coder")
    coder.close()
    defaults = {"y_scale": 10.0, "x_scale": 10.0, "height_scale": 5.0, "width_scale": 5.0}
    scales = tuple(faster.number(name, default) for name, default in defaults.items())
    faster.close()
    return scales


def _matcher(matcher: Message) -> dict[str, Any]:
    argmax = matcher.child("argmax_matcher")
    matcher.close()
    argmax.require("ignore_thresholds", False, argmax.flag("ignore_thresholds", False))
    lower = argmax.flag("negatives_lower_than_unmatched", True)
    argmax.require("negatives_lower_than_unmatched", True, lower)
    argmax.harmless("use_matmul_gather")  # two ways to compute the same
    values = {
        "matched_iou": argmax.number("matched_threshold", 0.5),
        "unmatched_iou": argmax.number("unmatched_threshold", 0.5),
        "force_match": argmax.flag("force_match_for_each_row", False),
    }
    argmax.close()
    return values


def _losses(loss: Message) -> dict[str, Any]:
    classification, localization = loss.child("classification_loss"), loss.child("localization_loss")
    focal = classification.child("weighted_sigmoid_focal")
    huber = localization.child("weighted_smooth_l1")
    values = {
        "focal_alpha": focal.number("alpha", 0.0) if focal.has("alpha") else None,
        "focal_gamma": focal.number("gamma", 2.0),
        "huber_delta": huber.number("delta", 1.0),
        "class_weight": loss.number("classification_weight", 1.0),
        "box_weight": loss.number("localization_weight", 1.0),
    }
    focal.harmless("anchorwise_output")
    huber.harmless("anchorwise_output")
    for message in (focal, huber, classification, localization, loss):
        message.close()
    return values


def _post_processing(post: Message) -> dict[str, Any]:
    nms = post.child("batch_non_max_suppression")
    post.require("score_converter", "SIGMOID", post.word("score_converter", "IDENTITY"))
    post.require("logit_scale", 1.0, post.number("logit_scale", 1.0))
    nms.require("use_class_agnostic_nms", False, nms.flag("use_class_agnostic_nms", False))
    nms.require("soft_nms_sigma", 0.0, nms.number("soft_nms_sigma", 0.0))
    nms.harmless("use_static_shapes")
    values = {
        "score_threshold": nms.number("score_threshold", 0.0),
        "iou_threshold": nms.number("iou_threshold", 0.6),
        "max_per_class": nms.integer("max_detections_per_class", 100),
        "max_detections": nms.integer("max_total_detections", 100),
    }
    nms.close()
    post.close()
    return values


def _check_numbers(where: str, values: dict[str, Any]) -> None:
    """Refuse numbers that no network of this family can have."""
    if not 5 <= values["max_level"] <= 9:
        raise ConfigError(f"{where}: the pyramid's max_level must be 5 to 9: {values['max_level']}")
    if any(side % 32 for side in values["size_hw"]):
        raise ConfigError(f"{where}: height and width must be multiples of 32: {values['size_hw']}")
    for name in ("num_classes", "fpn_channels", "tower_channels", "scales_per_octave"):
        if not 1 <= values[name] <= 10_000:
            raise ConfigError(f"{where}: {name} must be 1 to 10000: {values[name]}")
    if not 0 <= values["tower_layers"] <= 16 or not values["aspect_ratios"]:
        raise ConfigError(f"{where}: model.ssd: the box predictor or the anchors are not described")
    if any(ratio <= 0 for ratio in values["aspect_ratios"]):
        raise ConfigError(f"{where}: aspect_ratios must be above 0: {values['aspect_ratios']}")


@dataclass
class Message:
    """The fields of one protobuf message, handed out once each.

    Every reader takes the default that the API's ``.proto`` states. :meth:`close` raises
    if a field is left that was neither read nor declared harmless.
    """

    fields: Fields
    path: str
    where: str
    _known: set[str] = field(default_factory=set)

    def number(self, name: str, default: float) -> float:
        """A float or int field."""
        return self._scalar(name, default, float, "a number")

    def integer(self, name: str, default: int) -> int:
        """An integer field."""
        return self._scalar(name, default, int, "a whole number")

    def numbers(self, name: str) -> tuple[float, ...]:
        """A repeated number field, in order; empty where the field is absent."""
        return tuple(self._convert(name, value, float, "a number") for value in self._values(name))

    def word(self, name: str, default: str) -> str:
        """A string or enum field."""
        return self._scalar(name, default, str, "a word")

    def flag(self, name: str, default: bool) -> bool:
        """A boolean field."""
        return self._scalar(name, default, _boolean, "true or false")

    def child(self, name: str) -> Message:
        """A message field; empty, so all defaults, where it is absent."""
        values = self._values(name)
        if len(values) > 1:  # TensorFlow would merge them, field by field
            raise ConfigError(f"{self.where}: {self.path}.{name}: stands {len(values)} times")
        value = values[-1] if values else {}
        if not isinstance(value, dict):
            raise ConfigError(f"{self.where}: {self.path}.{name}: expected a message in braces: {value}")
        return Message(value, f"{self.path}.{name}", self.where)

    def has(self, name: str) -> bool:
        """Whether the field is there; asking does not count as reading it."""
        return name in self.fields

    def require(self, name: str, supported: object, value: object) -> None:
        """Refuse ``value`` of field ``name`` unless it is the one that is computed here."""
        if value != supported:
            message = f"{self.where}: {self.path}.{name}: not supported: {value} (only {supported})"
            raise ConfigError(message, hint="use a base model listed by: fewbox bases")

    def harmless(self, *names: str) -> None:
        """Declare fields that do not change what the network computes."""
        self._known.update(names)

    def close(self) -> None:
        """Raise if a field was neither read nor declared harmless."""
        unknown = sorted(set(self.fields) - self._known)
        if unknown:
            raise ConfigError(
                f"{self.where}: {self.path}.{unknown[0]}: not supported, and it would change the result",
                hint="use a base model listed by: fewbox bases",
            )

    def _values(self, name: str) -> list[str | Fields]:
        self._known.add(name)
        return self.fields.get(name, [])

    def _scalar(self, name: str, default: T, convert: Callable[[str], T], kind: str) -> T:
        values = self._values(name)
        return self._convert(name, values[-1], convert, kind) if values else default

    def _convert(self, name: str, value: str | Fields, convert: Callable[[str], T], kind: str) -> T:
        try:
            if isinstance(value, dict):
                raise ValueError
            return convert(value)
        except ValueError:
            raise ConfigError(f"{self.where}: {self.path}.{name}: expected {kind}: {value}") from None


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise ValueError
    return text.lower() in ("true", "1", "t")
