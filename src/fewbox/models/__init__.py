"""Networks, what they are made of, and how official checkpoints are read; here, the base models by name.

Those can be named instead of brought as a file. Each entry of :data:`ZOO` says where its weights come from,
what they may be used for, and how good they were when published. What the weights mean is the business of
the reader named in ``reader``. Where base models are kept between runs, and which ones are at hand, is said
here too, and the names of the classes that a base trained on COCO finds.

All here is light, as the command line names the bases in its ``--help``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from fewbox.core import is_installed
from fewbox.core.files import cache_folder, is_there, sha256_of
from fewbox.errors import DownloadError


@dataclass(frozen=True)
class ZooEntry:
    """One official checkpoint."""

    name: str
    """What a user types."""
    title: str
    """What it is, in one line."""
    url: str | None
    """Where it is fetched from; ``None`` if it comes with the package."""
    sha256: str | None
    """Of the file at ``url``; ``None`` where nobody states it."""
    bytes: int | None
    """About the size of the file; ``None`` where nobody states it."""
    parameters: int
    """Trained numbers, for the classes it was published with."""
    input_size: str
    """Width and height of the input; or the length of its short side and the limit of its long one."""
    coco_ap: float | None
    """COCO AP (IoU 0.50 to 0.95) as published, in hundredths; ``None`` if it does not know COCO's classes."""
    coco_ap_source: str
    licence: str
    """Of the weights."""
    data_licence: str
    """Of what the weights were trained on."""
    reader: str
    """Which code understands the file: ``tf_ssd``, ``retinanet``, ``yolox``; ``fewbox`` for our own."""
    onnx_sha256: str | None = None
    """Of the same weights as an official ``.onnx`` file, where somebody states it."""

    @property
    def file_name(self) -> str:
        """What the file at ``url`` is called."""
        return PurePosixPath(urlsplit(self.url or "").path).name

    @property
    def needs_torch(self) -> bool:
        """Whether only PyTorch runs it; a YOLOX and the starter run in ONNX Runtime too."""
        return self.reader not in ("yolox", "fewbox")


# The bucket behind http://download.tensorflow.org, which the zoo's page links to, by its https address.
_TF2_FOLDER = "https://storage.googleapis.com/download.tensorflow.org/models/object_detection/tf2/20200711"
_TF2_ZOO_PAGE = (
    "https://github.com/tensorflow/models/blob/master/research/object_detection/g3doc/tf2_detection_zoo.md"
)
_COCO_LICENCE = "COCO 2017: annotations CC BY 4.0; images under the Flickr terms of use"


def _ssd_resnet_fpn(depth: int, side: int, *, parameters: int, coco_ap: float, bytes: int | None) -> ZooEntry:
    return ZooEntry(
        name=f"ssd_resnet{depth}_fpn_{side}",
        title=f"RetinaNet{depth}: SSD with ResNet-{depth} v1 and a feature pyramid, {side}x{side}, COCO 2017",
        url=f"{_TF2_FOLDER}/ssd_resnet{depth}_v1_fpn_{side}x{side}_coco17_tpu-8.tar.gz",
        # The zoo states no checksum. What holds the file together instead is the MD5 in the
        # server's answer, and in the checkpoint the CRC32C of each tensor.
        sha256=None,
        bytes=bytes,
        parameters=parameters,
        input_size=f"{side}x{side}",
        coco_ap=coco_ap,
        coco_ap_source=_TF2_ZOO_PAGE,
        licence="Apache-2.0 (TensorFlow Model Garden)",
        data_licence=_COCO_LICENCE,
        reader="tf_ssd",
    )


def _retinanet(
    version: str, file: str, *, sha256: str, bytes: int, parameters: int, coco_ap: float
) -> ZooEntry:
    return ZooEntry(
        name=f"retinanet_resnet50_fpn{version}",
        title=f"RetinaNet{version.replace('_', ' ')}: ResNet-50, feature pyramid, short side 800, COCO 2017",
        url=f"https://download.pytorch.org/models/{file}",
        sha256=sha256,
        bytes=bytes,
        parameters=parameters,
        input_size="800-1333",
        coco_ap=coco_ap,
        coco_ap_source="https://docs.pytorch.org/vision/stable/models/retinanet.html",
        licence="BSD-3-Clause (torchvision)",
        data_licence=_COCO_LICENCE,
        reader="retinanet",
    )


def _yolox(
    size: str,
    side: int,
    *,
    sha256: str,
    bytes: int | None,
    parameters: int,
    coco_ap: float,
    onnx_sha256: str | None = None,
) -> ZooEntry:
    return ZooEntry(
        name=f"yolox_{size}",
        title=f"YOLOX-{size}: anchor-free, CSPDarknet, {side}x{side}, COCO 2017",
        url=f"https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_{size}.pth",
        sha256=sha256,  # the release states none; several projects that use the files state the same
        bytes=bytes,
        parameters=parameters,
        input_size=f"{side}x{side}",
        coco_ap=coco_ap,
        coco_ap_source="https://github.com/Megvii-BaseDetection/YOLOX#benchmark",
        licence="Apache-2.0 (YOLOX)",
        data_licence=_COCO_LICENCE,
        reader="yolox",
        onnx_sha256=onnx_sha256,
    )


# ResNet-101 and -152 at 640: the page's table is followed. The comments in their training
# configurations give the same two numbers the other way round (35.4 and 35.6).
ZOO: dict[str, ZooEntry] = {
    entry.name: entry
    for entry in (
        ZooEntry(
            name="starter",
            title="fewbox's own: anchor-free, small CSPDarknet, 416x416, rendered scenes",
            url=None,
            sha256=None,
            bytes=4_600_000,
            parameters=2_254_399,
            input_size="416x416",
            coco_ap=None,
            coco_ap_source="docs/starter.md",
            licence="Apache-2.0 (fewbox)",
            data_licence="Apache-2.0: rendered by fewbox",
            reader="fewbox",
        ),
        _ssd_resnet_fpn(50, 640, parameters=32_840_570, coco_ap=34.3, bytes=244_000_000),
        _ssd_resnet_fpn(50, 1024, parameters=32_840_570, coco_ap=38.3, bytes=None),
        _ssd_resnet_fpn(101, 640, parameters=51_832_698, coco_ap=35.6, bytes=None),
        _ssd_resnet_fpn(101, 1024, parameters=51_832_698, coco_ap=39.5, bytes=None),
        _ssd_resnet_fpn(152, 640, parameters=67_476_346, coco_ap=35.4, bytes=None),
        _ssd_resnet_fpn(152, 1024, parameters=67_476_346, coco_ap=39.6, bytes=None),
        _yolox(
            "nano",
            416,
            sha256="cd28f55fbbc1829f99d9ac9b38a16d259a22889739c8728ea877610201feff7b",
            bytes=7_694_953,
            parameters=912_159,
            coco_ap=25.8,
            onnx_sha256="c789161ed43c8269fcd4e67c67eeeb4e80c622da2eb296a20bc6007bd18a0b7d",
        ),
        _yolox(
            "tiny",
            416,
            sha256="9de513de589ac98bb92d3bca53b5af7b9acfa9b0bacb831f7999d0f7afaee8f0",
            bytes=40_755_013,
            parameters=5_055_855,
            coco_ap=32.8,
            onnx_sha256="427cc366d34e27ff7a03e2899b5e3671425c262ea2291f88bb942bc1cc70b0f7",
        ),
        _yolox(
            "s",
            640,
            sha256="f55ded7181e1b0c13285c56e7790b8f0e8f8db590fe4edb37f0b7f345c913a30",
            bytes=72_089_125,
            parameters=8_968_255,
            coco_ap=40.5,
            onnx_sha256="c5c2d13e59ae883e6af3b45daea64af4833a4951c92d116ec270d9ddbe998063",
        ),
        _yolox(
            "m",
            640,
            sha256="60076992b32da82951c90cfa7bd6ab70eba9eda243e08b940a396f60ac2d19b6",
            bytes=203_114_461,
            parameters=25_326_495,
            coco_ap=46.9,
        ),
        _yolox(
            "l",
            640,
            sha256="1e6b7fa6240375370b2a8a8eab9066b3cdd43fd1d0bfa8d2027fd3a51def2917",
            bytes=None,
            parameters=54_208_895,
            coco_ap=49.7,
        ),
        _yolox(
            "x",
            640,
            sha256="5652330b6ae860043f091b8f550a60c10e1129f416edfdb65c259be6caf355cf",
            bytes=793_463_373,
            parameters=99_071_455,
            coco_ap=51.1,
        ),
        _retinanet(
            "",
            "retinanet_resnet50_fpn_coco-eeacb38b.pth",
            sha256="eeacb38b7cec8cf93c57867e05eaab621047f19b0d2ec5accaa405f690da15b7",
            bytes=136_595_076,
            parameters=34_014_999,
            coco_ap=36.4,
        ),
        _retinanet(
            "_v2",
            "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth",
            sha256="5905b1c544219215e544dbe319720397bc4e68de61a733a59350d7976645b769",
            bytes=153_130_989,
            parameters=38_198_935,
            coco_ap=41.5,
        ),
    )
}
"""All base models by name."""


BASE_HEADER = "fewbox_base"
"""Under which name the header of a converted file, or of one exported to learn from, says what it is."""
STARTER = "starter"
"""The name of the base that comes with the package."""
SMALL = "yolox_nano"
"""The smallest base that has seen real photos."""


def cached_base_path(name: str) -> Path:
    """Where the converted weights of a base model lie, whether or not they are there."""
    return cache_folder() / "bases" / f"{name}.safetensors"


def entry_of_file(sha256: str) -> ZooEntry | None:
    """The base model that an official file is, whatever somebody has called it; None for any other file."""
    return next((one for one in ZOO.values() if sha256 in (one.sha256, one.onnx_sha256)), None)


def is_at_hand(entry: ZooEntry) -> bool:
    """Whether a base can be used without a download."""
    return entry.url is None or is_there(cached_base_path(entry.name))


def default_base() -> str:
    """The name of the base to start from if none is asked for.

    The one in the cache with the highest published accuracy, of those that run here; without any, the one in
    the package.
    """
    cached = [entry for entry in ZOO.values() if entry.coco_ap is not None and is_at_hand(entry)]
    if not is_installed("torch"):
        cached = [entry for entry in cached if not entry.needs_torch]
    return max(cached, key=lambda entry: entry.coco_ap or 0.0).name if cached else STARTER


COCO_LABELS = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog"),
    *("horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag"),
    *("tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat"),
    *("baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork"),
    *("knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog"),
    *("pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv"),
    *("laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
"""The 80 names in the order of their category ids."""

_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def base_labels(base_name: str, num_classes: int) -> tuple[str, ...]:
    """A name for each class of a base: COCO's, if it has as many as COCO; else its number.

    Networks have 80 classes; or 90, one for each category id from 1 on, used or not; or 91, from 0 on.
    """
    numbered = [f"{base_name} class {number}" for number in range(num_classes)]
    if num_classes == len(COCO_LABELS):
        return COCO_LABELS
    if num_classes in (90, 91):
        used = [category for category in range(1, 91) if category not in _UNUSED_IDS]
        for category, label in zip(used, COCO_LABELS, strict=True):
            numbered[category - (91 - num_classes)] = label
    return tuple(numbered)


def is_published(source: str, sha256: str) -> bool:
    """Whether weights are those of :data:`ZOO`, by what a base says of where it came from."""
    of_name = {entry.url for entry in ZOO.values()} | {
        entry.file_name for entry in ZOO.values() if entry.sha256 is None and entry.url
    }
    return source in of_name or entry_of_file(sha256) is not None


def require_own_file(path: Path, entry: ZooEntry) -> None:
    """Refuse a file that a person gave this name, and is another: what is fetched has been checked.

    Raises:
        DownloadError: it is another, or cannot be read.
    """
    try:
        found = None if entry.sha256 is None else sha256_of(path)
    except OSError as error:
        raise DownloadError(f"{path}: cannot be read: {error.strerror or error}") from error
    if found != entry.sha256:
        hint = f"remove it, and {entry.name} is fetched; to use it, give the file in place of the name"
        raise DownloadError(
            f"{path}: not the file of {entry.name}: its sha256 is {found}, but should be {entry.sha256}",
            hint=hint,
        )
