"""The list of base models says of each what a user must know before choosing it."""

from __future__ import annotations

import dataclasses
import tarfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fewbox.models import ZOO, ZooEntry

SSD = pytest.mark.parametrize(
    "entry", [entry for entry in ZOO.values() if entry.reader == "tf_ssd"], ids=lambda entry: entry.name
)
FETCHED = pytest.mark.parametrize(
    "entry", [entry for entry in ZOO.values() if entry.url is not None], ids=lambda entry: entry.name
)


def test_names_are_the_keys_and_easy_to_type():
    assert [entry.name for entry in ZOO.values()] == list(ZOO)
    assert all(name.isascii() and name.islower() and name.isidentifier() for name in ZOO)


def test_no_two_entries_share_a_file():
    assert len({entry.file_name for entry in ZOO.values()}) == len(ZOO)


@FETCHED
def test_the_address_is_safe_and_names_a_file(entry: ZooEntry):
    parts = urlsplit(entry.url)
    assert parts.scheme == "https"
    assert (parts.username, parts.query, parts.fragment) == (None, "", "")
    assert entry.file_name == entry.url.rpartition("/")[2]
    assert entry.file_name.endswith({"tf_ssd": ".tar.gz"}.get(entry.reader, ".pth"))


@FETCHED
def test_every_fact_is_stated(entry: ZooEntry):
    for field in ("title", "coco_ap_source", "licence", "data_licence"):
        assert getattr(entry, field).strip(), field
    assert entry.licence.startswith(("Apache-2.0", "BSD-3-Clause"))
    assert "CC BY 4.0" in entry.data_licence
    assert "Flickr" in entry.data_licence
    assert 20 < entry.coco_ap < 70
    assert entry.bytes is None or entry.bytes > 4 * entry.parameters  # float32, hardly packed
    assert entry.sha256 is None or len(bytes.fromhex(entry.sha256)) == 32


def test_the_base_of_the_package_is_as_it_says():
    from fewbox.models.base import STARTER_PATH, load_base

    entry, base = ZOO["starter"], load_base("starter")
    side = base.config.size_hw[0]
    assert entry.input_size == f"{side}x{side}"
    assert entry.input_size in entry.title
    assert sum(weight.size for weight in base.weights.values()) == pytest.approx(entry.parameters, rel=0.01)
    assert STARTER_PATH.stat().st_size == pytest.approx(entry.bytes, rel=0.05)
    assert STARTER_PATH.stat().st_size < 12e6
    assert base.licence == "Apache-2.0"


@SSD
def test_name_address_and_size_speak_of_the_same_model(entry: ZooEntry):
    _, backbone, _, side = entry.name.split("_")
    assert f"ssd_{backbone}_v1_fpn_{side}x{side}_coco17" in entry.file_name
    assert entry.input_size == f"{side}x{side}"
    assert f"ResNet-{backbone.removeprefix('resnet')} " in entry.title
    assert entry.input_size in entry.title


@pytest.mark.parametrize(
    ("name", "coco_ap"),
    [
        ("ssd_resnet50_fpn_640", 34.3),
        ("ssd_resnet50_fpn_1024", 38.3),
        ("ssd_resnet101_fpn_640", 35.6),
        ("ssd_resnet101_fpn_1024", 39.5),
        ("ssd_resnet152_fpn_640", 35.4),
        ("ssd_resnet152_fpn_1024", 39.6),
        ("yolox_nano", 25.8),
        ("yolox_x", 51.1),
        ("retinanet_resnet50_fpn", 36.4),
        ("retinanet_resnet50_fpn_v2", 41.5),
    ],
)
def test_accuracy_is_that_of_the_published_table(name: str, coco_ap: float):
    assert ZOO[name].coco_ap == coco_ap


def test_entries_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ZOO["ssd_resnet50_fpn_640"].url = "https://elsewhere.example/model.tar.gz"  # type: ignore[misc]


@pytest.mark.golden
@SSD
def test_parameters_are_those_of_the_network(entry: ZooEntry, shared: Path):
    torch = pytest.importorskip("torch")
    from fewbox.models.ssd.network import SsdDetector
    from fewbox.models.ssd.pipeline_config import parse_ssd_config

    with tarfile.open(shared / "golden" / ZOO["ssd_resnet50_fpn_640"].file_name) as archive:
        member = next(name for name in archive.getnames() if name.endswith("pipeline.config"))
        config = parse_ssd_config(archive.extractfile(member).read().decode())
    side = int(entry.input_size.partition("x")[0])
    depth = int(entry.name.split("_")[1].removeprefix("resnet"))
    with torch.device("meta"):
        network = SsdDetector(dataclasses.replace(config, backbone_depth=depth, size_hw=(side, side)))
    trained = [t for name, t in network.state_dict().items() if "running_" not in name]
    assert sum(t.numel() for t in trained) == entry.parameters
