"""What int8 costs YOLOX-nano on photos of COCO: average precision in float32, bfloat16 and int8.

int8 is fitted to the first 32 photos and tried on the 96 others. "everything" is what NNCF does to the
network if it is told nothing; the last row is what ``fewbox export --precision int8`` writes.

    python benchmarks/int8.py                    some minutes
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from fewbox.apps import openvino_export
from fewbox.data.formats import read_annotations
from fewbox.data.images import read_image
from fewbox.detection.detector import Detector
from fewbox.detection.loading import ExportedDetector
from fewbox.evaluation import evaluate
from fewbox.export import make_header
from fewbox.export.onnx import make_model
from fewbox.models.base import load_base
from fewbox.runtimes.openvino import OpenVinoEngine, last_convolutions, outside_network
from machine import SHARED, describe_machine

COCO128 = SHARED / "data/coco128_val"
NUM_FITTED = 32


def main() -> None:
    """Print a table."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(describe_machine())
    annotations = read_annotations(COCO128 / "labels_yolo", COCO128 / "images")
    base = load_base(SHARED / "weights/yolox_nano_coco.onnx")
    detector = Detector(
        config=base.config, weights=base.weights, labels=annotations.labels, base=base.origin(), provenance={}
    )
    header = make_header(detector, detector.network.architecture, raw=False)
    images = annotations.images
    fitted = [read_image(image.path) for image in images[:NUM_FITTED]]
    others = replace(annotations, images=images[NUM_FITTED:])
    print(f"\n| YOLOX-nano, {len(others)} photos of COCO | AP | AP50 |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder) / "d.onnx"
        onnx.write_bytes(make_model(detector.network, detector.config, header, raw=False).SerializeToString())
        for way, precision in (
            ("float32", "float32"),
            ("bfloat16", "bfloat16"),
            ("int8, everything", "int8"),
            ("int8, all but the last convolutions", "int8"),
            ("int8, all but activations", "int8"),
            ("int8, all but both: as exported", "int8"),
        ):
            model = openvino_export.read_onnx(onnx)
            if way.endswith("as exported"):
                model = openvino_export.quantize(model, fitted)
            elif precision == "int8":
                model = quantize_otherwise(model, fitted, way)
            path = Path(folder) / f"{way[:4]}{len(way)}.xml"
            openvino_export.save_model(model, header | {"precision": precision}, path)
            exported = ExportedDetector(OpenVinoEngine(path), path)
            metrics = evaluate(exported, others, show_progress=False).metrics
            print(f"| {way} | {100 * metrics.ap:.1f} | {100 * metrics.ap50:.1f} |", flush=True)


def quantize_otherwise(model: object, photos: list[np.ndarray], way: str) -> object:
    """As ``openvino_export.quantize``, with less left in float32."""
    with openvino_export.quiet_nncf() as nncf:
        kept = outside_network(model)
        if "last" in way:
            kept += last_convolutions(model)
        rows = [{"photos": photo[None], "score_threshold": np.float32(1)} for photo in photos]
        types = list(openvino_export.ACTIVATIONS) if "activations" in way else []
        return nncf.quantize(
            model,
            nncf.Dataset(rows),
            subset_size=len(rows),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=kept, types=types, validate=False),
        )


if __name__ == "__main__":
    main()
