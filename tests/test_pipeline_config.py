from __future__ import annotations

import contextlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbox.errors import ConfigError
from fewbox.models.protobuf import parse_text_protobuf
from fewbox.models.ssd import SsdConfig
from fewbox.models.ssd.pipeline_config import parse_ssd_config, read_ssd_config
from tiny import PIPELINE


def test_text_protobuf_forms() -> None:
    text = """
    # a comment
    name: 'a # b' other: "c"  numbers: [1, 2.5, -3e-4], numbers: 4;
    child { flag: true } child < flag: false >  empty {}
    """
    assert parse_text_protobuf(text, "x") == {
        "name": ["a # b"],
        "other": ["c"],
        "numbers": ["1", "2.5", "-3e-4", "4"],
        "child": [{"flag": ["true"]}, {"flag": ["false"]}],
        "empty": [{}],
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a {", "ends before a closing '}'"),
        ("a: \n\n }", "line 3: expected a value"),
        ("a: [1, 2", "in the middle of a field"),
        ("a: @", "line 1: unexpected character: '@'"),
        ("{ }", "expected the name of a field"),
        ("a {" * 100, "nested too deep"),
    ],
)
def test_malformed_text_names_the_line(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"my\.config: ") as caught:
        parse_text_protobuf(text, "my.config")
    assert says in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_ssd_config(text)


@given(
    st.integers(0, len(PIPELINE) - 1), st.integers(0, 40), st.sampled_from(["", "{", "}", "9", "x", ": -1 "])
)
def test_damaged_config_is_read_or_refused(start: int, length: int, instead: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_ssd_config(PIPELINE[:start] + instead + PIPELINE[start + length :])


def test_published_settings() -> None:
    config = parse_ssd_config(PIPELINE)
    assert config.size_hw == (640, 640)
    assert config.num_classes == 90
    assert config.aspect_ratios == (1.0, 2.0, 0.5)
    assert config.coder_scales == (10.0, 10.0, 5.0, 5.0)
    assert config.class_bias == -4.6
    assert config.score_threshold == 1e-8
    assert SsdConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.golden
def test_official_file_reads_as_our_short_one(tmp_path: Path, golden_archive: Path) -> None:
    with tarfile.open(golden_archive) as tar:
        member = next(m for m in tar if m.name.endswith("pipeline.config"))
        content = tar.extractfile(member)
        assert content is not None
        (tmp_path / "pipeline.config").write_bytes(content.read())
    assert read_ssd_config(tmp_path / "pipeline.config") == parse_ssd_config(PIPELINE)


@pytest.mark.parametrize(
    ("old", "new", "field", "value"),
    [
        ("num_classes: 90", "num_classes: 7", "num_classes", 7),
        ("ssd_resnet50_v1", "ssd_resnet101_v1", "backbone_depth", 101),
        ("ssd_resnet50_v1", "ssd_resnet152_v1", "backbone_depth", 152),
        ("height: 640 width: 640", "height: 1024 width: 1024", "size_hw", (1024, 1024)),
        ("gamma: 2.0", "gamma: 1.5", "focal_gamma", 1.5),
        ("alpha: 0.25 ", "", "focal_alpha", None),
        ("iou_threshold: 0.6", "iou_threshold: 0.5", "iou_threshold", 0.5),
        ("weighted_smooth_l1 { }", "weighted_smooth_l1 { delta: 0.5 }", "huber_delta", 0.5),
        ("normalize_loc_loss_by_codesize: true", "", "normalize_by_code_size", False),
    ],
)
def test_every_number_comes_from_the_file(old: str, new: str, field: str, value: object) -> None:
    assert old in PIPELINE
    assert getattr(parse_ssd_config(PIPELINE.replace(old, new)), field) == value


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("    loss {", "    loss { hard_example_miner { } ", "model.ssd.loss.hard_example_miner"),
        ("kernel_size: 3", "kernel_size: 3 use_depthwise: true", "use_depthwise"),
        ("score_converter: SIGMOID", "score_converter: SOFTMAX", "score_converter"),
        (
            "override_base_feature_extractor_hyperparams: true",
            "",
            "override_base_feature_extractor_hyperparams",
        ),
        ("activation: RELU_6", "activation: RELU", "activation"),
        ("fixed_shape_resizer", "keep_aspect_ratio_resizer", "keep_aspect_ratio_resizer"),
        ("iou_threshold: 0.6", "iou_threshold: 0.6 soft_nms_sigma: 0.5", "soft_nms_sigma"),
        ("encode_background_as_zeros: true", "", "encode_background_as_zeros"),
        ("ssd_resnet50_v1_fpn_keras", "ssd_mobilenet_v2_fpn_keras", "ssd_mobilenet_v2_fpn_keras"),
        ("num_classes: 90", "num_classes: 90 a_field_of_the_future: 1", "a_field_of_the_future"),
        ("height: 640", "height: 650", "multiples of 32"),
        ("model {", "model { center_net { } }\nother {", "center_net"),
    ],
)
def test_what_would_change_the_result_is_refused_by_name(old: str, new: str, named: str) -> None:
    assert old in PIPELINE
    with pytest.raises(ConfigError) as caught:
        parse_ssd_config(PIPELINE.replace(old, new), "my.config")
    assert named in str(caught.value)
    assert "my.config" in str(caught.value)


def test_the_last_of_two_scalars_counts_and_two_messages_are_refused() -> None:
    assert parse_ssd_config(PIPELINE.replace("gamma: 2.0", "gamma: 2.0 gamma: 1.5")).focal_gamma == 1.5
    twice = PIPELINE.replace(
        "weighted_sigmoid_focal {", "weighted_sigmoid_focal { gamma: 1.5 } weighted_sigmoid_focal {"
    )
    where = r"^my\.config: model\.ssd\.loss\.classification_loss\.weighted_sigmoid_focal: stands 2 times$"
    with pytest.raises(ConfigError, match=where):
        parse_ssd_config(twice, "my.config")


def test_what_the_api_takes_is_taken_and_no_more() -> None:
    """The rest of the file may say anything; numbers are those written, not the nearest of 32 bits."""
    config = parse_ssd_config(PIPELINE + "train_config: { a_field_of_the_future < b: [1, 2] > }")
    assert (config.score_threshold, config.class_bias) == (1e-8, -4.6)
    with pytest.raises(ConfigError, match=r"my\.config: line \d+: messages nested too deep"):
        parse_ssd_config(PIPELINE + "train_config {" * 5000, "my.config")


def test_another_kind_of_model_is_named() -> None:
    with pytest.raises(ConfigError, match=r"model\.faster_rcnn: not a supported kind of model"):
        parse_ssd_config("model { faster_rcnn { num_classes: 3 } }")


def test_a_detector_of_one_class_finds_no_more_than_one_class_may_have() -> None:
    config = replace(parse_ssd_config(PIPELINE), max_per_class=30, max_detections=100)
    assert config.changed(num_classes=1).most_detections == 30
    assert config.changed(num_classes=90).most_detections == 100
