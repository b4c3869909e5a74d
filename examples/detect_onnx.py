"""Find objects with an exported detector, without fewbox: to read, to paste, to change.

    pip install numpy onnxruntime pillow
    python detect_onnx.py duck.onnx photo.jpg

prints what it finds and writes photo_boxes.png. The detector is what

    fewbox export duck.safetensors duck.onnx

writes, or fewbox finetune with -o duck.onnx: see docs/export.md.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps


class Detector:
    """Exported detector at ``path``; ``labels`` are its classes, ``threshold`` its own."""

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        metadata = self.session.get_modelmeta().custom_metadata_map
        # "goldeneye" is what fewbox was called before.
        header = json.loads(metadata.get("fewbox", metadata.get("goldeneye", "{}")))
        if header.get("input") != "photos":
            raise SystemExit(f"{path}: not written by 'fewbox export', or with --raw")
        self.labels, self.threshold = header["labels"], header["score_threshold"]

    def detect(self, image, threshold=None):
        """Label, score and box (x1, y1, x2, y2 in pixels) of each object in a photo, the best first."""
        threshold = self.threshold if threshold is None else threshold
        photos = np.asarray(image)[np.newaxis]  # [1, H, W, 3] uint8; photos of one size may go together
        inputs = {"photos": photos, "score_threshold": np.array(threshold, np.float32)}
        boxes, scores, class_ids = self.session.run(["boxes", "scores", "class_ids"], inputs)
        return [
            (self.labels[class_id], float(score), box.tolist())
            for box, score, class_id in zip(boxes[0], scores[0], class_ids[0], strict=True)
            if class_id >= 0  # the rest of the rows is filled with -1
        ]


def drop_xmp(photo):
    """Pillow would turn a photo by an orientation that stands in XMP alone, and no browser does."""
    for key in ("xmp", "XML:com.adobe.xmp"):
        photo.info.pop(key, None)


def read_photo(path):
    """The photo as a person sees it: RGB, turned as the camera was held, white where it is transparent."""
    photo = Image.open(path)
    drop_xmp(photo)  # before: a TIFF is turned while it is loaded
    photo.load()
    drop_xmp(photo)  # and after: in a PNG it may come last
    photo = ImageOps.exif_transpose(photo)
    if photo.mode == "F" or photo.mode.startswith("I"):
        raise SystemExit(f"{path}: grey of more than 8 bits: save it as 8 bits first")
    photo = photo.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")


def main():
    parser = argparse.ArgumentParser(description="Find objects in photos with an exported detector.")
    parser.add_argument("detector", help="duck.onnx")
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--threshold", type=float, help="0 to 1; the detector's own if not given")
    parsed = parser.parse_args()
    if parsed.threshold is not None and not 0 <= parsed.threshold <= 1:
        raise SystemExit(f"the threshold must be a number from 0 to 1: {parsed.threshold}")
    detector = Detector(parsed.detector)
    for path in parsed.photos:
        photo = read_photo(path)
        found = detector.detect(photo, parsed.threshold)
        canvas = ImageDraw.Draw(photo)
        print(f"{path}: {len(found)} found")
        for label, score, box in found:
            print(f"  {label} {score:.4f} at", *(f"{edge:.2f}" for edge in box))
            canvas.rectangle(box, outline="#d55e00", width=max(2, photo.width // 300))
            canvas.text(box[:2], f" {label} {score:.2f}", fill="white", stroke_width=2, stroke_fill="black")
        photo.save(f"{path.stem}_boxes.png")


if __name__ == "__main__":
    main()
