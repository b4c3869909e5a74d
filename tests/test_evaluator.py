"""Evaluating as a person meets it: in Python and on the command line, with good photos and bad ones."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fewbox
from fewbox.cli import main
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.formats import write_coco
from fewbox.data.photo_file import content_hash
from fewbox.detection.detector import Detector
from fewbox.errors import AnnotationError, PhotoError, SettingError
from fewbox.evaluation import Evaluation, evaluate
from fewbox.evaluation.report import render_report
from fewbox.finetuning import provenance
from known_detector import KnownDetector, corners
from reference_fields import fields_of
from tiny import make_photos, tiny_base, tiny_config


def finds_all(annotations: AnnotationSet, score: float = 0.8, threshold: float = 0.5) -> KnownDetector:
    """A detector that is right about every box."""
    rows = {image.path.name: [(corners(box), score, 0) for box in image.boxes] for image in annotations}
    return KnownDetector(rows, annotations.labels, threshold)


@pytest.fixture
def squares(tmp_path: Path) -> AnnotationSet:
    (tmp_path / "photos").mkdir()
    return make_photos(tmp_path / "photos", count=4)


def test_a_detector_that_is_always_right(squares: AnnotationSet):
    evaluation = fewbox.evaluate(finds_all(squares), squares)
    assert isinstance(evaluation, fewbox.Evaluation)
    assert evaluation.metrics.ap == evaluation.metrics.ap50 == 1
    assert evaluation.at(0.5) == {
        "score_threshold": 0.5,
        "annotations": 4,
        "found": 4,
        "false_alarms": 0,
        "false_alarm_kinds": {"duplicate": 0, "localization": 0, "confusion": 0, "background": 0},
        "miss_kinds": {"low_score": 0, "localization": 0, "confusion": 0, "shared_box": 0, "not_seen": 0},
        "precision": 1.0,
        "recall": 1.0,
        "f1": 1.0,
    }
    assert "finds all 4; none of its 4 boxes is wrong" in str(evaluation)
    assert evaluation.expected_calibration_error == pytest.approx(0.2)  # always right, and says 0.8


def test_where_a_photo_is_crowded_all_boxes_count(squares: AnnotationSet):
    """COCO looks at the surest hundred of a class; who counts pills wants to know of all."""
    image = squares.images[0]
    places = [(4 * (n % 15), 4 * (n // 15)) for n in range(130)]
    boxes = tuple(Box(x, y, x + 3, y + 3, "square") for x, y in places)
    crowded = replace(squares, images=(replace(image, boxes=boxes), squares.images[1]))
    detector = finds_all(crowded)
    detector.found[squares.images[1].path.name] = [((0, 0, 3, 3), 0.9, 0)]
    evaluation = fewbox.evaluate(detector, crowded)
    at = evaluation.at(0.5)
    assert (at["annotations"], at["found"], at["false_alarms"]) == (131, 130, 1)
    assert evaluation.metrics.ar_100 < 0.8
    assert "there is a photo with more than 100 objects of one class: COCO looks at" in str(evaluation)
    assert "more than 100 objects" not in str(fewbox.evaluate(finds_all(squares), squares))


def test_ten_sure_boxes_tell_from_which_threshold_nine_in_ten_are_right(squares: AnnotationSet):
    boxes = tuple(Box(4 * n, 0, 4 * n + 3, 3, "square") for n in range(12))
    photos = replace(squares, images=(replace(squares.images[0], boxes=boxes),))
    found = [(corners(box), 0.9 if n < 10 else 0.5, 0) for n, box in enumerate(boxes)]
    found += [((4 * n, 40, 4 * n + 3, 43), 0.5, 0) for n in range(2)]
    evaluation = evaluate(KnownDetector({photos.images[0].path.name: found}, photos.labels, 0.1), photos)
    words = "from which nine boxes in ten are right: finds 10 of 12 (83%); none of its 10 boxes is wrong"
    assert f"at threshold 0.50, {words}" in str(evaluation)
    assert "at threshold 0.10, the detector's own: finds all 12; 2 of its 14 boxes are wrong (14%)" in str(
        evaluation
    )
    assert "nine in ten right: 0.50</button>" in render_report(evaluation, "d")
    assert "cannot be told" not in str(evaluation) + render_report(evaluation, "d")


def test_the_threshold_for_so_many_right_boxes(squares: AnnotationSet):
    # Right at 0.9, 0.7 and 0.3, wrong at 0.625 and 0.25, where a score of just the threshold does not count.
    rows = {}
    for image, score in zip(squares, (0.9, 0.7, 0.3), strict=False):
        rows[image.path.name] = [(corners(image.boxes[0]), score, 0)]
    rows[squares.images[0].path.name] += [((0, 0, 9, 9), 0.625, 0), ((100, 0, 109, 9), 0.25, 0)]
    evaluation = evaluate(KnownDetector(rows, squares.labels, 0.1), squares)
    assert evaluation.threshold_for(1) == evaluation.threshold_for(0.9) == pytest.approx(0.63)
    assert evaluation.threshold_for(0.65) == pytest.approx(0.25)
    words = "nine boxes in ten are right cannot be told: only 2 boxes above 0.63, where they are so here"
    assert f"\nfrom which threshold {words}\n" in str(evaluation)
    assert f"From which threshold {words}." in render_report(evaluation, "d")
    assert evaluation.precise_threshold is None
    assert "nine in ten right" not in render_report(evaluation, "d")
    for told in (str, lambda found: render_report(found, "d")):
        assert "nine" not in told(evaluate(finds_all(squares), squares))  # at its own they are
    nothing = evaluate(KnownDetector({}, squares.labels), squares)
    assert nothing.threshold_for(0.5) is None
    with pytest.raises(SettingError, match=r"95% is precision=0\.95"):
        evaluation.threshold_for(95)


@pytest.mark.parametrize("threshold", [40, -0.1, math.nan, "0.4", None])
def test_what_is_no_threshold_is_refused_wherever_one_is_given(squares: AnnotationSet, threshold: Any):
    evaluation = evaluate(finds_all(squares), squares)
    asked = (
        evaluation.at,
        evaluation.in_words,
        evaluation.mistakes_in_words,
        evaluation.counts.of_class(0).at,
        lambda one: evaluation.outcomes.confusion(one, 1),
    )
    for one in asked:
        with pytest.raises(SettingError, match="the threshold must be a number from 0 to 1") as error:
            one(threshold)
        assert threshold != 40 or error.value.hint == "40% is threshold=0.4"


def test_mistakes_on_an_object_are_told_apart_from_those_on_something_else(squares: AnnotationSet):
    """Of four squares: found twice; a box that is off; a box elsewhere; nothing."""
    boxes = [corners(image.boxes[0]) for image in squares]
    x1, y1, x2, y2 = boxes[1]
    off = (x1 + (x2 - x1) / 2, y1, x2 + (x2 - x1) / 2, y2)  # IoU 1/3
    found = {
        "photo0.png": [(boxes[0], 0.9, 0), (boxes[0], 0.8, 0)],
        "photo1.png": [(off, 0.95, 0), (boxes[1], 0.01, 0)],
        "photo2.png": [((0, 0, 8, 8), 0.7, 0)],
    }
    evaluation = evaluate(KnownDetector(found, squares.labels), squares)
    assert "  3 missed: 1 with the box too far off, 2 not seen\n" in str(evaluation)
    assert (
        "  3 false alarms: 2 on an object (1 duplicate, 1 localization error), 1 on the background\n"
    ) in str(evaluation)
    at = evaluation.to_dict()["at_own_threshold"]
    assert at["false_alarm_kinds"] == {
        "duplicate": 1,
        "localization": 1,
        "confusion": 0,
        "background": 1,
    }
    html = render_report(evaluation, "d")
    assert "box too far off: IoU 0.33, score 0.95; a right box has only 0.01" in html
    assert "its score is only 0.01" not in html
    assert "boxes on something else" not in html


def test_ids_of_other_tools_that_begin_at_0_count(squares: AnnotationSet, tmp_path: Path):
    """pycocotools takes an annotation with id 0 for "no match": the same file would give it less than 1."""
    path = tmp_path / "boxes.json"
    write_coco(squares, path)
    document = json.loads(path.read_text())
    for section in ("images", "annotations", "categories"):
        for entry in document[section]:
            entry["id"] -= 1
    for entry in document["annotations"]:
        entry["image_id"], entry["category_id"] = entry["image_id"] - 1, entry["category_id"] - 1
    path.write_text(json.dumps(document))
    got = fewbox.read_annotations(path)
    assert evaluate(finds_all(got), got).metrics.ap == 1


def test_the_detectors_own_threshold_counts_exactly(squares: AnnotationSet):
    evaluation = evaluate(finds_all(squares, score=0.437, threshold=0.4375), squares)
    assert evaluation.at(evaluation.threshold)["found"] == 0
    assert evaluation.at(0.43)["found"] == 4
    assert "at threshold 0.21, the best balance: finds all 4" in str(evaluation)


def test_a_detector_that_finds_nothing(squares: AnnotationSet):
    evaluation = evaluate(KnownDetector({}, squares.labels), squares)
    assert evaluation.metrics.ap == 0
    assert evaluation.best_threshold is None
    assert "finds none of 4; no boxes" in str(evaluation)
    assert evaluation.to_dict()["at_best_threshold"] is None
    json.dumps(evaluation.to_dict(), allow_nan=False)


def test_boxes_to_ignore_count_neither_way(squares: AnnotationSet):
    first = squares.images[0]
    ignored = replace(first, boxes=tuple(replace(box, ignore=True) for box in first.boxes))
    annotations = replace(squares, images=(ignored, *squares.images[1:]))
    assert evaluate(finds_all(squares), annotations).at(0.5)["annotations"] == 3
    assert evaluate(finds_all(squares), annotations).at(0.5)["false_alarms"] == 0
    assert evaluate(KnownDetector({}, squares.labels), annotations).at(0.5)["annotations"] == 3


def test_a_box_to_ignore_may_have_any_label(squares: AnnotationSet):
    """As of a crowd: no detector has such a class, and what is found in it counts neither way."""
    first = squares.images[0]
    crowd = replace(first.boxes[0], label="crowd", ignore=True)
    images = (replace(first, boxes=(crowd,)), *squares.images[1:])
    annotations = AnnotationSet(images, ("square", "crowd", "circle"))
    found = finds_all(squares).found
    found["photo0.png"] = [(*row[:2], class_id) for row in found["photo0.png"] for class_id in (0, 1)]
    evaluation = evaluate(KnownDetector(found, ("square", "circle")), annotations)
    assert evaluation.at(0.5)["annotations"] == 3
    assert evaluation.at(0.5)["false_alarms"] == 0
    assert evaluation.metrics.ap50 == 1
    assert render_report(evaluation, "d").count(">to ignore</text>") == 1
    object_of_it = replace(annotations, images=(replace(first, boxes=(replace(crowd, ignore=False),)),))
    with pytest.raises(AnnotationError, match="labels that the detector does not know: crowd"):
        evaluate(finds_all(squares), object_of_it)


def test_photos_that_cannot_be_read_are_reported_and_left_out(
    squares: AnnotationSet, capsys: pytest.CaptureFixture[str]
):
    broken = squares.images[1].path
    broken.write_bytes(broken.read_bytes()[:2000])
    evaluation = evaluate(finds_all(squares), squares)
    assert evaluation.skipped == ("photo1.png",)
    assert len(evaluation.annotations) == 3
    assert evaluation.at(0.5)["annotations"] == 3
    assert "skipped: " in capsys.readouterr().err
    assert "1 photo could not be read: photo1.png" in str(evaluation)
    for image in squares:
        image.path.write_bytes(b"")
    with pytest.raises(PhotoError, match=r"none of 4 photos can be read: photo0\.png, photo1\.png") as error:
        evaluate(finds_all(squares), squares)
    assert error.value.hint == "copy the photos again"
    squares.images[0].path.parent.rename(squares.images[0].path.parent.with_name("renamed"))
    with pytest.raises(PhotoError, match=r"none of 4 photos .*\nhint: check the spelling, and the folder"):
        evaluate(finds_all(squares), squares)


def test_photos_of_one_name_are_told_apart_by_their_folders(squares: AnnotationSet, tmp_path: Path):
    """In what is said, in the report, and in the detector's file."""
    images = []
    for folder, image in zip("abcd", squares, strict=True):
        (tmp_path / folder).mkdir()
        images.append(replace(image, path=image.path.rename(tmp_path / folder / "x.png")))
    images[0].path.write_bytes(b"")
    alike = replace(squares, images=tuple(images))
    detector = KnownDetector({}, squares.labels)
    history = [{"total": 0.0}]
    detector.provenance = provenance(alike[2:], "probe", fewbox.FinetuneConfig(), history)
    assert [photo["name"] for photo in detector.provenance["photos"]] == ["c/x.png", "d/x.png"]
    evaluation = evaluate(detector, alike)
    assert evaluation.skipped == ("a/x.png",)
    assert evaluation.learnt_from == ("c/x.png", "d/x.png")
    report = render_report(evaluation, "squares")
    assert all(f"{name}/x.png" in report for name in "abcd")


def test_photos_it_learnt_from_are_pointed_out(squares: AnnotationSet):
    detector = finds_all(squares)
    taught = [{"name": "photo2.png", "boxes": 1}, {"name": "photo3.png", "boxes": 7}]
    detector.provenance = {"photos": taught}
    evaluation = evaluate(detector, squares)
    assert evaluation.learnt_from == ("photo2.png",)
    assert "1 of 4 photos seems to be one it learnt from" in str(evaluation)
    detector.provenance = {"photos": [*taught, {"name": "photo9.png", "boxes": 1}]}
    assert evaluate(detector, squares).learnt_from == ()  # one common name of three is a coincidence


def test_photos_it_learnt_from_are_known_by_their_content(squares: AnnotationSet, tmp_path: Path):
    detector = finds_all(squares)
    first, *_, last = (image.path for image in squares)
    taught = [{"name": f"{number}.png", "boxes": 1, "sha256": "0" * 64} for number in range(20)]
    detector.provenance = {"photos": [*taught, {"name": "x.png", "boxes": 9, "sha256": content_hash(first)}]}
    evaluation = evaluate(detector, squares)
    assert evaluation.learnt_from == (first.name,)  # one of 21, under another name, with other boxes
    detector.provenance = {"photos": [{"name": last.name, "boxes": 1, "sha256": "0" * 64}]}
    assert evaluate(detector, squares).learnt_from == ()  # another photo of the same name
    assert content_hash(tmp_path / "gone.png") is None


@pytest.mark.parametrize(
    ("given", "folder"),
    [("rep/report.html", "rep"), ("rep.html", "rep"), ("a.json", "a"), ("a b.json", "'a b'")],
)
def test_the_results_go_into_a_folder(
    given: str,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "d.safetensors", "photos", "-o", given]) == 2
    assert f"{given}: report.html and evaluation.json go into a folder\nhint: name one: -o {folder}\n" in (
        capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


def test_two_detectors_are_evaluated_one_after_the_other(capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", "old.safetensors", "new.onnx", "photos"]) == 2
    assert "one detector at a time, not new.onnx too\nhint: evaluate each" in capsys.readouterr().err


def test_what_was_expected_stands_beside_what_is(squares: AnnotationSet):
    detector = finds_all(squares)
    assert evaluate(detector, squares).expected_ap50 is None
    (label,) = squares.labels
    one = {"label": label, "objects": 5, "ap50": 0.8, "low": 0.6, "high": 0.9}
    other = {"label": "other", "objects": 4, "ap50": 0.2, "low": 0.1, "high": 0.3}
    both = {"label": "", "objects": 9, "ap50": 0.5, "low": 0.35, "high": 0.6}
    for classes, overall in (([one], one | {"label": ""}), ([one, other], both)):
        detector.provenance = {"estimate": {"overall": overall, "classes": classes}}
        evaluation = evaluate(detector, squares)  # which have objects of one class only
        assert evaluation.to_dict()["expected_ap50"] == pytest.approx({"ap50": 0.8, "low": 0.6, "high": 0.9})
        assert "expected of it was AP50 0.800, four times in five between 0.600 and 0.900" in str(evaluation)
    renamed = {"overall": one | {"label": ""}, "classes": [one | {"label": "its former name"}]}
    detector.provenance = {"estimate": renamed}
    assert evaluate(detector, squares).expected_ap50 == {"ap50": 0.8, "low": 0.6, "high": 0.9}
    nothing = {"label": "", "objects": 0, "ap50": None, "low": None, "high": None}
    detector.provenance = {"estimate": {"overall": both, "classes": [nothing | {"label": label}, other]}}
    evaluation = evaluate(detector, squares)
    assert evaluation.to_dict()["expected_ap50"] is None
    assert "expected" not in str(evaluation)
    assert "when it was made" not in render_report(evaluation, "d")


def test_photos_nobody_looked_at_are_refused(squares: AnnotationSet):
    unseen = replace(squares.images[0], boxes=(), reviewed=False)
    annotations = replace(squares, images=(unseen, *squares.images[1:]))
    with pytest.raises(AnnotationError, match=r"1 of 4 photos has no boxes and is not marked as reviewed"):
        evaluate(finds_all(squares), annotations)


def test_photos_without_any_box_are_refused(squares: AnnotationSet):
    empty = AnnotationSet(
        tuple(AnnotatedImage(image.path, image.size_hw, (), reviewed=True) for image in squares),
        squares.labels,
    )
    with pytest.raises(AnnotationError, match="no box in any of 4 photos"):
        evaluate(finds_all(squares), empty)


def test_labels_the_detector_does_not_know_are_named(squares: AnnotationSet):
    with pytest.raises(AnnotationError) as error:
        evaluate(KnownDetector({}, ("squares", "circle")), squares)
    assert "labels that the detector does not know: square" in str(error.value)
    assert "'square' may be 'squares'" in str(error.value)
    assert "the detector knows squares, circle" in str(error.value)


def test_classes_are_told_apart(squares: AnnotationSet):
    found = {image.path.name: [(corners(image.boxes[0]), 0.9, 1)] for image in squares}
    annotations = replace(squares, labels=("square", "circle"))
    evaluation = evaluate(KnownDetector(found, ("square", "circle")), annotations)
    assert evaluation.not_annotated == {}
    assert evaluation.to_dict()["confusion"] == [[0, 4, 0], [0, 0, 0], [0, 0, 0]]
    square, circle = evaluation.to_dict()["classes"]
    assert (square["ap"], circle["ap"]) == (0, None)
    assert circle["at_own_threshold"]["false_alarms"] == 4
    # Nothing is annotated as a circle, so nothing says how well circles are found.
    assert [circle["at_own_threshold"][name] for name in ("recall", "f1")] == [None, None]
    assert circle["best_threshold"] is None
    assert evaluation.metrics.ap50 == square["ap50"]
    assert "4 missed: 4 taken for another class" in str(evaluation)
    assert "4 false alarms: 4 on an object (4 class confusions)" in str(evaluation)
    assert math.isnan(evaluation.metrics.class_ap[1])


def test_boxes_of_classes_that_nobody_annotated_count_neither_way(squares: AnnotationSet):
    """As of a base by its name, or with --keep-classes: there may be circles in the photos."""
    right = finds_all(squares, score=0.6)
    more = {
        name: [*rows, ((0, 0, 9, 9), 0.9, 1), ((50, 0, 59, 9), 0.9, 2)] for name, rows in right.found.items()
    }
    more["photo0.png"] += [((9, 9, 19, 19), 0.9, 1), ((9, 9, 19, 19), 0.3, 1)]
    alone, evaluation = (
        evaluate(KnownDetector(found, ("square", "circle", "dot")), squares) for found in (right.found, more)
    )
    assert evaluation.at(0.5) == alone.at(0.5)
    assert evaluation.at(0.5)["false_alarms"] == 0
    assert evaluation.best_threshold == alone.best_threshold
    assert evaluation.reliability == alone.reliability
    assert evaluation.metrics.ap50 == alone.metrics.ap50 == 1
    told = "not counted: 9 boxes of classes that nobody annotated in these photos (5 circle, 4 dot)"
    assert told in str(evaluation)
    assert told in render_report(evaluation, "d")
    assert "not counted: 9" not in str(alone)
    assert evaluation.to_dict()["not_annotated"] == {"circle": 5, "dot": 4}


@pytest.fixture(scope="module")
def detector_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of one class with random weights."""
    base = tiny_base(tiny_config(num_classes=1))
    detector = Detector(
        config=base.config, weights=base.weights, labels=["square"], base=base.origin(), provenance={}
    )
    path = tmp_path_factory.mktemp("detector") / "square.safetensors"
    detector.save(path)
    return path


@pytest.fixture
def project(tmp_path: Path, squares: AnnotationSet, detector_file: Path) -> Path:
    """A detector, and a folder of photos with their boxes in the project's file."""
    (tmp_path / detector_file.name).symlink_to(detector_file)
    write_coco(squares, tmp_path / "photos" / "annotations.json")
    return tmp_path


def run(project: Path, *more: str) -> int:
    return main(["evaluate", str(project / "square.safetensors"), str(project / "photos"), *more])


@pytest.mark.slow
def test_the_numbers_are_kept_where_no_report_can_be_made(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads every photo once more."""

    def gone(*_arguments: object, **_options: object) -> None:
        raise PhotoError("it is gone")

    monkeypatch.setattr("fewbox.evaluation.report.save_report", gone)
    assert run(project, "-o", str(project / "report")) == 2
    assert json.loads((project / "report" / "evaluation.json").read_text())["photos"] == 4


@pytest.mark.slow
def test_the_command_prints_words_and_writes_a_report(project: Path, capsys: pytest.CaptureFixture[str]):
    assert run(project, "--tiles", "2", "-o", str(project / "report")) == 0
    printed = capsys.readouterr().out
    assert "4 photos, 4 boxes" in printed
    assert "at threshold 0.50, the detector's own: finds " in printed
    assert "COCO AP " in printed
    assert f"wrote {project / 'report' / 'report.html'}" in printed
    assert "square.safetensors" in (project / "report" / "report.html").read_text()
    numbers = json.loads((project / "report" / "evaluation.json").read_text())
    assert numbers.keys() == fields_of("evaluation.json") - {"mirror", "agnostic_nms"}
    assert (numbers["detector"], numbers["tiles"]) == ("square.safetensors", 2)
    assert (numbers["photos"], numbers["skipped"]) == (4, [])


@pytest.mark.slow
def test_json_alone_goes_to_stdout(project: Path, capsys: pytest.CaptureFixture[str]):
    assert run(project, "--json") == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["at_own_threshold"]["annotations"] == 4
    assert list(numbers["coco"])[:2] == ["ap", "ap50"]
    assert len(numbers["classes"][0]["found_above"]) == len(numbers["thresholds"]) == 100


@pytest.mark.slow
def test_boxes_without_a_label_are_of_the_only_class(project: Path):
    rows = ["image,x1,y1,x2,y2", *(f"photo{n}.png,1,1,9,9" for n in range(4))]
    (project / "boxes.csv").write_text("\n".join(rows))
    assert run(project, "--boxes", str(project / "boxes.csv")) == 0


def test_no_file_of_boxes(project: Path, capsys: pytest.CaptureFixture[str]):
    (project / "photos" / "annotations.json").unlink()
    assert run(project) == 2
    message = capsys.readouterr().err
    assert "annotations.json: no such file" in message
    assert "--boxes FILE" in message


@pytest.mark.slow
def test_reviewed_only(project: Path, capsys: pytest.CaptureFixture[str]):
    Image.new("RGB", (50, 50)).save(project / "photos" / "new.png")
    assert run(project) == 2
    assert "new.png" in capsys.readouterr().err
    assert run(project, "--reviewed-only") == 0
    assert "4 photos" in capsys.readouterr().out


@pytest.mark.slow
def test_a_damaged_photo_makes_the_exit_code_2_and_leaves_a_report(
    project: Path, capsys: pytest.CaptureFixture[str]
):
    broken = project / "photos" / "photo1.png"
    broken.write_bytes(broken.read_bytes()[:2000])
    assert run(project, "-o", str(project / "report")) == 2
    printed = capsys.readouterr()
    assert "1 photo could not be read: photo1.png" in printed.out
    assert (
        "1 photo could not be read and is left out: photo1.png"
        in (project / "report" / "report.html").read_text()
    )


def test_a_report_that_cannot_be_written_is_refused_before_the_work(
    project: Path, capsys: pytest.CaptureFixture[str]
):
    (project / "file").write_text("")
    assert run(project, "-o", str(project / "file" / "report")) == 2
    printed = capsys.readouterr()
    assert "report.html: cannot be written" in printed.err
    assert printed.out == ""


def test_evaluation_holds_what_it_measured(squares: AnnotationSet):
    evaluation: Evaluation = evaluate(finds_all(squares), squares, show_progress=False)
    assert evaluation.labels == ("square",)
    assert [image.path.name for image in evaluation.annotations] == [f"photo{n}.png" for n in range(4)]
    assert len(evaluation.outcomes.predictions) == 4
