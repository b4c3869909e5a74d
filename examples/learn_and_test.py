"""Learn from annotated photos, test on others, draw with supervision, score with pycocotools.

python examples/learn_and_test.py photos/ boxes.json out/
"""

import sys
from pathlib import Path

import supervision as sv
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import fewbox

photos, boxes, out = map(Path, sys.argv[1:])
train, test = fewbox.read_annotations(boxes, photos).split(0.7, seed=0)
detector = fewbox.finetune(train, effort="quick")
detector.save(out / "detector.safetensors")
print(fewbox.evaluate(detector, test))

found = detector.detect([image.path for image in test], threshold=0.01)
draw_boxes, draw_labels = sv.BoxAnnotator(), sv.LabelAnnotator()
for one in found:
    shown = one.above(detector.threshold).to_supervision()
    picture = draw_boxes.annotate(fewbox.read_image(one.source), shown)
    Image.fromarray(draw_labels.annotate(picture, shown)).save(out / one.photo_name)

fewbox.write_coco(test, out / "truth.json")
truth = COCO(out / "truth.json")
ids = {one["name"]: one["id"] for one in truth.dataset["categories"]}
results = [row for number, one in enumerate(found, start=1) for row in one.to_coco(number, ids)]
score = COCOeval(truth, truth.loadRes(results), "bbox")
score.evaluate()
score.accumulate()
score.summarize()
