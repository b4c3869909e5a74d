"""Every box gets to the photo it was drawn on, or there is an error: docs/formats.md, "Names of photos"."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fewbox.cli import main
from fewbox.data import FOLDER_FORMATS, FORMATS
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.checks import check_annotations
from fewbox.data.formats import read_annotations, read_raw, write_annotations
from fewbox.data.formats.photos import PhotoFinder
from fewbox.data.project import Project
from fewbox.detection.drawing import save_picture
from fewbox.errors import AnnotationError

DOCS = Path(__file__).parents[1] / "docs" / "formats.md"
SIZE_WH = (100, 60)
SUFFIXES = {"voc": ".xml", "labelme": ".json", "yolo": ".txt"}


def save_photo(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", SIZE_WH, shade).save(path)
    return path


def voc_text(name: str, x1: float = 1, more: str = "") -> str:
    edges = f"<xmin>{x1}</xmin><ymin>2</ymin><xmax>90</xmax><ymax>40</ymax>"
    box = f"<object><name>duck</name><bndbox>{edges}</bndbox></object>"
    return f"<annotation>{more}<filename>{name}</filename>{box}</annotation>"


def labelme_text(name: str, x1: float = 1) -> str:
    shape = {"label": "duck", "shape_type": "rectangle", "points": [[x1, 2], [90, 40]]}
    return json.dumps({"imagePath": name, "imageHeight": 60, "imageWidth": 100, "shapes": [shape]})


def yolo_text(x1: float = 1) -> str:
    width, height = SIZE_WH
    return f"0 {(x1 + 90) / 2 / width} {21 / height} {(90 - x1) / width} {38 / height}\n"


def coco_text(names: Sequence[str], edges: Sequence[float]) -> str:
    images = [{"id": n, "file_name": name} for n, name in enumerate(names, 1)]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [x1, 2, 90 - x1, 38]}
        for n, x1 in enumerate(edges, 1)
    ]
    return json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "duck"}]})


def csv_text(names: Sequence[str], edges: Sequence[float]) -> str:
    rows = [f"{name},{x1},2,90,40\n" for name, x1 in zip(names, edges, strict=True)]
    return "image,x1,y1,x2,y2\n" + "".join(rows)


def cvat_text(names: Sequence[tuple[str, str]], edges: Sequence[float]) -> str:
    images = [
        f'<image name="{name}"{f" subset={subset!r}" if subset else ""}>'
        f'<box label="duck" xtl="{x1}" ytl="2" xbr="90" ybr="40"/></image>'
        for (name, subset), x1 in zip(names, edges, strict=True)
    ]
    return f"<annotations>{''.join(images)}</annotations>"


def label_studio_text(names: Sequence[str], edges: Sequence[float]) -> str:
    tasks = []
    for name, x1 in zip(names, edges, strict=True):
        value = {"x": x1, "y": 2 / 0.6, "width": 90 - x1, "height": 38 / 0.6, "rectanglelabels": ["duck"]}
        region = {"id": "r", "type": "rectanglelabels", "value": value}
        tasks.append({"data": {"image": name}, "annotations": [{"result": [region]}]})
    return json.dumps(tasks)


def write_boxes(
    root: Path, form: str, says: Sequence[tuple[str, str, str]], edges: Sequence[float] | None = None
) -> None:
    """Write files of boxes, each of which says the name of its photo and, in CVAT, its subset."""
    edges = [1.0] * len(says) if edges is None else edges
    names = [name for _, name, _ in says]
    files = dict.fromkeys(file for file, _, _ in says)
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
    for (file, name, _), x1 in zip(says, edges, strict=True):
        texts = {"voc": voc_text(name, x1), "labelme": labelme_text(name, x1), "yolo": yolo_text(x1)}
        if form in texts:
            (root / file).write_text(texts[form])
    texts = {
        "coco": coco_text(names, edges),
        "csv": csv_text(names, edges),
        "cvat": cvat_text([(name, subset) for _, name, subset in says], edges),
        "labelstudio": label_studio_text(names, edges),
    }
    if form in texts:
        (root / says[0][0]).write_text(texts[form])


def cases() -> list[list[str]]:
    """The rows of the table in the documentation."""
    section = DOCS.read_text(encoding="utf-8").split("### Names of photos\n")[1].split("\n### ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


class TestDocumentation:
    @pytest.mark.parametrize("case", cases(), ids=" | ".join)
    def test_a_case(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: list[str]) -> None:
        form, file_cell, photo_cell, read_cell, means = case
        monkeypatch.chdir(tmp_path)
        for shade, photo in enumerate(code(photo_cell)):
            save_photo(tmp_path / photo, shade)
        says = re.findall(r"`([^`]+)`(?:: `([^`]+)`)?(?: in `([^`]+)`)?", file_cell)
        write_boxes(tmp_path, form, says)
        boxes, *given = code(read_cell)
        report = check_annotations(boxes, given or None, show_progress=False)
        found = {"photo-missing", "photo-ambiguous", "photo-listed-twice"} & {r.kind for r in report.findings}
        if not means.startswith("error"):
            got = read_annotations(boxes, given or None)
            paths = [os.path.relpath(image.path) for image in got if image.boxes]
            assert sorted(paths) == sorted(code(means))
            assert not found
            return
        with pytest.raises(AnnotationError) as caught:
            read_annotations(boxes, given or None)
        assert caught.value.hint
        if both := code(means):
            named = re.findall(r"[\w/.]+\.(?:jpg|png)", caught.value.message.partition(" may be ")[2])
            assert {os.path.relpath(path) for path in named} == set(both)
            assert found == {"photo-ambiguous"}
        else:
            assert means.removeprefix("error: ") in caught.value.message
            assert found == {"photo-listed-twice" if "twice" in means else "photo-missing"}

    def test_the_table_has_every_format(self) -> None:
        assert {case[0] for case in cases()} == {
            "coco", "csv", "cvat", "labelme", "labelstudio", "voc", "yolo"
        }  # fmt: skip
        assert len(cases()) > 30


PHOTO = {"beside": "{0}/{1}.jpg", "labels": "{0}/images/{1}.jpg", "images": "images/{0}/{1}.jpg"}
BOXES = {"beside": "{0}/{1}{2}", "labels": "{0}/labels/{1}{2}", "images": "labels/{0}/{1}{2}"}
folders = st.lists(st.sampled_from(["train", "val", "a", "b", "a/b"]), min_size=1, max_size=4, unique=True)
states = st.sampled_from(["photo and boxes", "photo and boxes", "photo", "boxes"])


@st.composite
def trees(draw: st.DrawFn) -> dict[tuple[str, str], str]:
    """What there is of photos by folder and name; of the first photo of a folder both photo and boxes."""
    tree = {}
    for folder in draw(folders):
        names = draw(st.lists(st.sampled_from(["1", "2", "3"]), min_size=1, unique=True))
        tree |= {(folder, name): draw(states) for name in names}
        tree[folder, names[0]] = "photo and boxes"
    return tree


def assert_boxes_are_right(
    boxes: Path, photos: Sequence[Path] | None, truth: dict[float, Path], *, or_error: bool
) -> None:
    """Each box is on the photo it was drawn on; where ``or_error``, an error is as good."""
    if or_error:
        try:
            got = read_annotations(boxes, photos)
        except AnnotationError:
            return
    else:
        got = read_annotations(boxes, photos)
    assert got.num_boxes == len(truth)
    for image in got:
        for box in image.boxes:
            assert os.path.realpath(image.path) == os.path.realpath(truth[round(box.x1)])


class TestNoBoxOnAnotherPhoto:
    @pytest.mark.slow
    @given(
        tree=trees(),
        form=st.sampled_from(sorted(SUFFIXES)),
        layout=st.sampled_from(sorted(PHOTO)),
        data=st.data(),
    )
    @settings(derandomize=True, max_examples=80, deadline=None)
    def test_with_a_file_per_photo(
        self, tree: dict[tuple[str, str], str], form: str, layout: str, data: st.DataObject
    ) -> None:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            truth, says = {}, []
            for (folder, stem), state in tree.items():
                photo = PHOTO[layout].format(folder, stem)
                if "photo" in state:
                    save_photo(root / photo, len(truth))
                if "boxes" in state:
                    truth[float(len(truth) + 1)] = root / photo
                    says.append((BOXES[layout].format(folder, stem, SUFFIXES[form]), f"{stem}.jpg", ""))
            write_boxes(root, form, says, list(truth))
            places = sorted({photo.parent for photo in truth.values()})
            photos = data.draw(st.none() | st.permutations(places))
            is_whole = all(photo.exists() for photo in truth.values())
            # Folders with a name of their own are no convention of labelme or VOC.
            is_usual = layout == "beside" or form == "yolo"
            assert_boxes_are_right(root, photos, truth, or_error=not (is_whole and is_usual))

    @pytest.mark.slow
    @given(
        tree=trees(),
        form=st.sampled_from(["coco", "csv", "cvat", "labelstudio"]),
        before=st.sampled_from(["", "./", "/home/me/set/", "C:\\set\\"]),
        data=st.data(),
    )
    @settings(derandomize=True, max_examples=80, deadline=None)
    def test_with_paths_in_one_file(
        self, tree: dict[tuple[str, str], str], form: str, before: str, data: st.DataObject
    ) -> None:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            truth, says = {}, []
            for (folder, stem), state in tree.items():
                if "photo" in state:
                    save_photo(root / folder / f"{stem}.jpg", len(truth))
                if "boxes" in state:
                    truth[float(len(truth) + 1)] = root / folder / f"{stem}.jpg"
                    says.append(("boxes.csv", f"{before}{folder}/{stem}.jpg", ""))
            write_boxes(root, form, says, list(truth))
            places = sorted({photo.parent for photo in truth.values()})
            photos = data.draw(st.sampled_from([None, [root]]) | st.permutations(places))
            is_whole = all(photo.exists() for photo in truth.values())
            is_from_here = before in ("", "./") and photos is None
            assert_boxes_are_right(
                root / "boxes.csv", photos, truth, or_error=not (is_whole and is_from_here)
            )

    @pytest.mark.slow
    @given(
        tree=trees(), form=st.sampled_from(["coco", "csv", "cvat", "labelstudio", "voc", "labelme", "yolo"])
    )
    @settings(derandomize=True, max_examples=60, deadline=None)
    def test_in_what_is_written(self, tree: dict[tuple[str, str], str], form: str) -> None:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            truth = {}
            images = []
            for number, (folder, stem) in enumerate(tree, start=1):
                photo = save_photo(root / folder / f"{stem}.jpg", number)
                truth[number] = photo
                images.append(
                    AnnotatedImage(photo, (60, 100), (Box(number, 2, 90, 40, "duck"),), reviewed=True)
                )
            annotations = AnnotationSet(tuple(images), ("duck",))
            target = root / "out" / {"coco": "o.json", "csv": "o.csv", "cvat": "o.xml"}.get(form, form)
            places = sorted({image.path.parent for image in images})
            stems = [image.path.stem for image in images]
            if form in SUFFIXES and len(set(stems)) < len(stems):
                with pytest.raises(AnnotationError, match="would have one file of boxes"):
                    write_annotations(annotations, target, form)
                return
            write_annotations(annotations, target, form)
            # The end of the path "a/b/1.jpg" is a path too, which may be that of a photo in b.
            or_error = form not in ("coco", "csv", "labelme") and "b" in {folder for folder, _ in tree}
            assert_boxes_are_right(target, places, truth, or_error=or_error)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set; messages and results name paths from it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tree(*photos: str) -> None:
    for shade, photo in enumerate(photos):
        save_photo(Path(photo), shade)


def found(boxes: str, *photos: str) -> list[str]:
    """The photos with boxes, in the order of the file."""
    got = read_annotations(boxes, photos or None)
    return [os.path.relpath(image.path) for image in got if image.boxes]


def refusal(boxes: str, *photos: str) -> str:
    with pytest.raises(AnnotationError) as caught:
        read_annotations(boxes, photos or None)
    return str(caught.value)


@pytest.mark.usefixtures("root")
class TestClues:
    def test_the_path_in_a_voc_file_tells_photos_apart_but_does_not_overrule_its_folder(self) -> None:
        tree("day1/1.jpg", "day2/1.jpg")
        Path("xml").mkdir()
        for more in ("<folder>day2</folder>", "<path>C:\\Users\\me\\day2\\1.jpg</path>"):
            Path("xml/1.xml").write_text(voc_text("1.jpg", more=more))
            assert found(".") == ["day2/1.jpg"]
            Path("day1/1.xml").write_text(voc_text("1.jpg", more=more))
            assert found("day1", "day1", "day2") == ["day1/1.jpg"]
            Path("day1/1.xml").unlink()
        Path("xml/1.xml").write_text(
            voc_text("1.jpg", more="<folder>day2</folder><path>/x/day1/1.jpg</path>")
        )
        assert "may be day1/1.jpg or day2/1.jpg" in refusal(".")

    def test_a_name_whose_path_contradicts_the_folder(self) -> None:
        tree("day1/1.jpg", "day2/1.jpg")
        for name in ("day2/1.jpg", "/home/me/day2/1.jpg", "..\\day2\\1.jpg"):
            Path("day1/1.json").write_text(labelme_text(name))
            assert "'1.jpg' may be" not in refusal(".")
            assert "day1/1.jpg" in refusal(".")
            assert "day2/1.jpg" in refusal(".")

    def test_capital_letters_in_the_own_folder_come_before_another_folder(self) -> None:
        tree("day1/1.JPG", "day2/1.jpg")
        Path("day1/1.xml").write_text(voc_text("1.jpg"))
        assert found(".") == found("day1", "day2", "day1") == ["day1/1.JPG"]

    def test_coco_in_a_folder_beside_the_photos(self) -> None:
        tree("images/train/1.jpg", "images/val/1.jpg")
        Path("annotations").mkdir()
        names = ["/data/coco/images/val/1.jpg", "images\\train\\1.jpg"]
        Path("annotations/instances.json").write_text(coco_text(names, [1, 2]))
        assert found(".") == ["images/val/1.jpg", "images/train/1.jpg"]
        assert found("annotations/instances.json", "images/train", "images/val") == found(".")
        assert found("annotations/instances.json", ".") == found(".")

    def test_a_copy_of_its_own_photo_may_be_given_instead(self) -> None:
        tree("set/1.jpg", "other/1.jpg")
        shutil.copytree("set", "copy")
        Path("set/1.xml").write_text(voc_text("1.jpg"))
        assert found("set", "copy") == ["copy/1.jpg"]
        text = refusal("set", "other")
        assert "'1.jpg' may be set/1.jpg or other/1.jpg\nhint: its own photo, the first, is not among" in text

    def test_one_photo_by_two_ways_is_one(self) -> None:
        tree("photos/1.jpg")
        Path("link").symlink_to("photos", target_is_directory=True)
        Path("boxes.csv").write_text(csv_text(["1.jpg"], [1]))
        assert found("boxes.csv", "photos", "link") == ["photos/1.jpg"]
        Path("train").mkdir()
        Path("train/a.jpg").symlink_to("../photos/1.jpg")
        Path("train/a.xml").write_text(voc_text("a.jpg"))
        assert found("train") == ["train/a.jpg"]

    def test_two_entries_about_one_photo(self) -> None:
        tree("a.jpg")
        Path("boxes.csv").write_text(csv_text(["a.jpg", "A.JPG"], [1, 2]))
        text = refusal("boxes.csv")
        assert "row 3: a photo is listed twice: a.jpg\nhint: boxes.csv: row 2 is about it too" in text

    def test_what_a_detector_left_is_no_data(self) -> None:
        tree("images/1.jpg", "found/2.jpg", "runs/detect/predict/1.jpg", "runs/train/exp3/batch.jpg")
        says = [("labels/1.txt", "", ""), ("runs/detect/predict/labels/1.txt", "", "")]
        write_boxes(Path(), "yolo", says)
        Path("found/detections.json").write_text(json.dumps({"detector": "duck.safetensors"}, indent=1))
        got = read_annotations(".")
        assert [os.path.relpath(image.path) for image in got] == ["images/1.jpg"]
        # Who names such a folder means it.
        assert found("runs/detect/predict") == ["runs/detect/predict/1.jpg"]

    def test_missing_photos_are_not_taken_from_other_boxes(self) -> None:
        tree("b/1.jpg", "b/2.jpg")
        write_boxes(Path(), "voc", [("a/1.xml", "1.jpg", ""), ("b/2.xml", "2.jpg", "")])
        text = refusal(".")
        assert "a/1.xml: photo not found: '1.jpg'" in text
        assert "there is b/1.jpg, but the photos of these boxes are in another folder" in text

    def test_a_photo_outside_is_named(self) -> None:
        tree("outside/1.jpg", "set/other/1.jpg")
        Path("set/1.json").write_text(labelme_text("../outside/1.jpg"))
        assert "outside/1.jpg" in refusal("set")
        Path("set/other/1.jpg").unlink()
        assert "hint: there is set/../outside/1.jpg, outside of what was given" in refusal("set")
        assert found("set", "outside") == ["outside/1.jpg"]


class TestWhatIsWritten:
    def test_copies_that_would_have_one_name(self, root: Path) -> None:
        tree("a/1.jpg", "b/1.jpg")
        images = [AnnotatedImage(Path(f"{place}/1.jpg"), (60, 100), (), False) for place in "ab"]
        photos = AnnotationSet(tuple(images), ())
        with pytest.raises(AnnotationError, match="would have one name as copies") as refused:
            write_annotations(photos, root / "out", "voc", copy_photos=True)
        assert refused.value.hint == "rename one of them, or write without --copy-photos"
        write_annotations(photos, root / "out", "voc")

    @pytest.mark.parametrize("form", FOLDER_FORMATS)
    def test_a_cure_for_copies_of_one_name_helps(
        self, root: Path, form: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tree("a/1.jpg", "b/1.jpg")
        images = [AnnotatedImage(Path(f"{place}/1.jpg"), (60, 100), (), True) for place in "ab"]
        write_annotations(AnnotationSet(tuple(images), ("duck",)), root / "all.json")
        how = ["--to", form, "--copy-photos"]
        assert main(["convert", "all.json", ".", "-o", "out", *how]) == 2
        assert "convert each folder of photos by itself (--skip-missing), or" in capsys.readouterr().err
        for place in "ab":
            assert main(["convert", "all.json", place, "-o", f"out_{place}", *how, "--skip-missing"]) == 0

    def test_names_stay_plain_where_all_lie_in_one_folder(self, root: Path) -> None:
        tree("a/1.jpg", "a/2.jpg")
        images = [AnnotatedImage(Path(name), (60, 100), (), True) for name in ("a/1.jpg", "a/2.jpg")]
        write_annotations(AnnotationSet(tuple(images), ()), root / "boxes.csv")
        assert Path("boxes.csv").read_text().splitlines()[1:] == ["1.jpg,,,,,", "2.jpg,,,,,"]

    @pytest.mark.parametrize("form", FORMATS)
    def test_photos_in_folders_below_are_found_again(self, root: Path, form: str) -> None:
        names = ("photos/a/1.jpg", "photos/a/2.jpg", "photos/b/c/3.jpg")
        tree(*names)
        images = [
            AnnotatedImage(Path(name), (60, 100), (Box(number, 2, 90, 40, "duck"),), True)
            for number, name in enumerate(names)
        ]
        boxes = {"csv": "out/boxes.csv", "cvat": "out/boxes.xml"}.get(form, "out/boxes.json")
        boxes = "out/boxes" if form in FOLDER_FORMATS else boxes
        write_annotations(AnnotationSet(tuple(images), ("duck",)), boxes, form)
        if form == "yolo":  # which knows no folders
            text = refusal(boxes, "photos")
            assert "hint: there is photos/a/1.jpg, in a folder below: name that folder" in text
            assert found(boxes, "photos/a", "photos/b/c") == list(names)
            return
        assert found(boxes, "photos") == list(names)
        got = read_annotations(boxes, "photos")
        assert [image.boxes[0].x1 for image in got] == pytest.approx([0, 1, 2])
        save_photo(root / "photos/other/1.jpg")
        Path("photos/a/1.jpg").unlink()
        assert "photo not found" in refusal(boxes, "photos")


def test_thousands_of_photos_of_one_name_are_found_by_looking_at_each_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, count = save_photo(root / "photo.jpg").read_bytes(), 400
    for place in ("train", "val"):
        for number in range(count):
            target = root / place / "images" / f"{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(photo)
            label = root / place / "labels" / f"{number}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(yolo_text())
    raw = read_raw(root)
    asked = []
    is_file = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: asked.append(path) or is_file(path))
    paths = PhotoFinder(raw).find_all(raw.photos)
    assert [path.relative_to(root).parts[0] for path in paths] == ["train"] * count + ["val"] * count
    assert len(asked) <= 6 * len(paths)


@pytest.fixture
def ten_of_many(tmp_path: Path) -> tuple[Path, Path]:
    """A COCO file about 30 photos, of which 10 are there."""
    images, boxes = [], []
    (tmp_path / "photos").mkdir()
    for number in range(30):
        name = f"p{number:02}.png"
        if number < 10:
            Image.new("RGB", (60, 40)).save(tmp_path / "photos" / name)
        images.append({"id": number, "file_name": name, "width": 60, "height": 40})
        boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [1, 1, 20, 20]})
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cup"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    return tmp_path / "boxes.json", tmp_path / "photos"


def test_many_photos_that_are_not_there_are_one_line(ten_of_many: tuple[Path, Path]) -> None:
    with pytest.raises(AnnotationError) as caught:
        read_annotations(*ten_of_many)
    told = "boxes.json: 20 of 30 photos are not there: p10.png, p11.png, p12.png and 17 more"
    assert caught.value.message == told
    assert "--skip-missing" in str(caught.value.hint)


def test_they_are_left_out_on_request_and_told(
    ten_of_many: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    photos = read_annotations(*ten_of_many, skip_missing=True)
    assert [image.path.name for image in photos] == [f"p{number:02}.png" for number in range(10)]
    assert "20 of 30 photos are not there" in " ".join(capsys.readouterr().err.split())
    (ten_of_many[1] / "p00.png").rename(ten_of_many[1] / "q.png")
    for number in range(1, 10):
        (ten_of_many[1] / f"p{number:02}.png").unlink()
    with pytest.raises(AnnotationError, match="photo not found"):  # the wrong folder, most likely
        read_annotations(*ten_of_many, skip_missing=True)


class TestPicturesThatFewboxHasDrawn:
    """Passed over in a folder, but not where boxes are of them."""

    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        folder = tmp_path / "ds" / "images"
        folder.mkdir(parents=True)
        for name in ("a.jpg", "cup.jpg"):
            Image.new("RGB", (80, 60)).save(folder / name)
        for name in ("drawn_a.jpg", "cup.png", "unnamed.png"):
            save_picture(Image.new("RGB", (80, 60)), folder / name)
        return folder

    @pytest.mark.parametrize("form", FORMATS)
    @pytest.mark.parametrize("as_pattern", [False, True])
    def test_one_that_boxes_name_is_a_photo(
        self, photos: Path, form: str, as_pattern: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = ["a.jpg", "cup.jpg", "drawn_a.jpg"]
        boxes = (Box(10, 10, 30, 30, "duck"),)
        images = tuple(AnnotatedImage(photos / name, (60, 80), boxes, reviewed=True) for name in names)
        root = photos.parent
        target = root / ("boxes" + {"csv": ".csv", "cvat": ".xml"}.get(form, ".json"))
        if form in FOLDER_FORMATS:
            target = root / "labels"
        write_annotations(AnnotationSet(images, ("duck",)), target, form)
        place = photos / "*.*" if as_pattern else photos
        capsys.readouterr()
        found = read_annotations(target, place)
        assert [image.path.name for image in found if image.reviewed] == names
        assert len(found) == 3
        told = capsys.readouterr().err
        assert "drawn_a.jpg" not in told
        assert "unnamed.png" in told
        assert "cup.jpg" not in told
        report = check_annotations(target, place, show_progress=False)
        assert report.num_photos == 3
        assert not [finding for finding in report.findings if finding.kind == "photo-missing"]

    def test_one_that_the_project_file_names_is_learnt_from_and_not_told(
        self, photos: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = ["a.jpg", "cup.jpg", "drawn_a.jpg"]
        boxes = (Box(10, 10, 30, 30, "duck"),)
        images = tuple(AnnotatedImage(photos / name, (60, 80), boxes, reviewed=True) for name in names)
        write_annotations(AnnotationSet(images, ("duck",)), photos / "annotations.json", "coco")
        for place in (photos, photos / "*.*"):
            for only_asked in (False, True):
                found = Project(place).annotation_set(only_asked=only_asked)
                assert [image.path.name for image in found] == names
            assert Project(place).photo_names() == names
        told = capsys.readouterr().err
        assert "drawn_a.jpg" not in told
        assert f"{photos}: drawn by fewbox, and no photos: cup.png, unnamed.png\n" in told
