"""Detectors of any kind are opened, with the fastest engine there is; an exported one without torch."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from exports import detector_of, exported, noise, save_noise
from fewbox.apps.serve.detecting import ServedDetector
from fewbox.cli import main
from fewbox.detection import loading as opening
from fewbox.detection.detector import Detector
from fewbox.detection.export_cache import find_export
from fewbox.detection.loading import ExportedDetector, open_detector
from fewbox.detection.photo_detector import PhotoDetector
from fewbox.errors import DetectorFileError, ExportError, OutputError, SettingError
from fewbox.export import compare_found
from fewbox.export import onnx as onnx_model
from fewbox.runtimes import HEADER_KEY
from waiting import LONG

SOURCE = Path(opening.__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``d.safetensors``, its export ``d.onnx``, and photos of noise, one of them large."""
    folder = tmp_path_factory.mktemp("detectors")
    detector_of("yolox_all_novel").save(folder / "d.safetensors")
    (folder / "d.onnx").write_bytes(exported("yolox_all_novel"))
    (folder / "photos").mkdir()
    Image.fromarray(noise((900, 1300))).save(folder / "photos" / "large.jpg")
    save_noise(folder / "photos")
    return folder


def same(first: Path, second: Path) -> bool:
    """Whether two ``detections.json`` hold the same boxes."""
    one, other = (json.loads(path.read_text())["photos"] for path in (first, second))
    agreements = []
    for rows in zip(one, other, strict=True):
        found = []
        for row in rows:
            boxes = np.array([d["box"] for d in row["detections"]], np.float32).reshape(-1, 4)
            scores = np.array([d["score"] for d in row["detections"]], np.float32)
            found.append((boxes, scores, np.array([d["class_id"] for d in row["detections"]], np.int64)))
        agreements.append(compare_found(*found))
    return all(agreement.holds for agreement in agreements)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["graph", "onnxruntime"])
def test_a_detector_that_has_looked_is_copied_and_handed_to_other_processes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Sessions and networks cannot be; they are made anew."""
    monkeypatch.chdir(folder)
    if engine == "graph":  # as without torch
        detector: PhotoDetector = Detector.load("d.safetensors")
        detector._session = detector._as_graph(optimizes=False)
    else:
        detector = open_detector("d.onnx", engine=engine)
    image = noise((64, 64))
    detector.threshold = 0.3
    found = detector.detect(image)
    assert len(found)
    handed = pickle.dumps(detector)
    monkeypatch.chdir(folder.parent)
    other = pickle.loads(handed)  # copy.deepcopy asks the same of it
    again = other.detect(image)
    assert other.threshold == 0.3
    assert np.allclose(again.boxes, found.boxes, atol=0.01)
    assert again.labels == found.labels


FORKED = """
import multiprocessing, sys, fewbox

path, *photos = sys.argv[1:]
opened = fewbox.open_detector(path, engine="torch")

def find(photo, detector=opened):
    return len(detector.detect(photo, threshold=0.1))

def find_with(photo_and_detector):
    return find(*photo_and_detector)

def open_and_find(photo):
    return find(photo, fewbox.open_detector(path, engine="torch"))

forking = multiprocessing.get_context("fork")

def in_children():
    with forking.Pool(2) as pool:
        yield pool.map(find, photos)
        yield pool.map(find_with, [(photo, opened) for photo in photos])
        yield pool.map(open_and_find, photos)

before = list(in_children())
right = [find(photo) for photo in photos]  # from here on the parent has threads that a fork does not copy
assert min(right) > 0
assert [*before, *in_children()] == [right] * 6
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_detector_in_torch_works_in_processes_that_are_forked(folder: Path) -> None:
    """They waited for ever for threads of OpenMP, which only their parent had."""
    photos = map(str, sorted((folder / "photos").iterdir()))
    subprocess.run(
        [sys.executable, "-c", FORKED, str(folder / "d.safetensors"), *photos],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        timeout=LONG,
        check=True,
    )


@pytest.mark.parametrize("engine", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)])
def test_a_copy_of_a_detector_whose_file_is_another_since_is_refused(
    folder: Path, tmp_path: Path, engine: str
) -> None:
    """It would find what the other one finds, under the labels of the first."""
    path = tmp_path / "d.onnx"
    path.write_bytes((folder / "d.onnx").read_bytes())
    detector = open_detector(path, engine=engine)
    model = onnx.load(path)
    header = json.loads(model.metadata_props[0].value)
    header["labels"].reverse()
    onnx.helper.set_model_props(model, {HEADER_KEY: json.dumps(header)})
    onnx.save(model, path)
    with pytest.raises(DetectorFileError, match=r"d\.onnx: has changed since it was opened") as caught:
        copy.deepcopy(detector)
    assert caught.value.hint == f"open it anew: fewbox.open_detector({str(path)!r})"


class TestEveryCommandTakesAnExport:
    @pytest.mark.slow
    def test_detect_in_a_folder(self, folder: Path, tmp_path: Path) -> None:
        for engine, file in (("torch", "d.safetensors"), ("onnxruntime", "d.onnx")):
            arguments = [str(folder / file), str(folder / "photos"), "--threshold", "0.3", "--engine", engine]
            assert main(["detect", *arguments, "-o", str(tmp_path / engine)]) == 0
            assert len(list((tmp_path / engine).glob("*"))) == 5  # three pictures, the numbers, the counts
        assert same(tmp_path / "torch" / "detections.json", tmp_path / "onnxruntime" / "detections.json")

    @pytest.mark.slow
    def test_detect_in_a_video(self, folder: Path, tmp_path: Path) -> None:
        for file in ("d.safetensors", "d.onnx"):
            table = tmp_path / f"{file}.csv"
            assert main(["detect", str(folder / file), str(folder / "photos"), "-o", str(table)]) == 0
        assert len((tmp_path / "d.onnx.csv").read_text().splitlines()) > 3
        counts = [len((tmp_path / f"{f}.csv").read_text().splitlines()) for f in ("d.safetensors", "d.onnx")]
        assert counts[0] == counts[1]

    def test_show(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        told = []
        for file in ("d.safetensors", "d.onnx"):
            assert main(["show", str(folder / file), "--json"]) == 0
            told.append(json.loads(capsys.readouterr().out))
        export = told[1].pop("export")
        assert told[0] == told[1]
        assert export["input"] == "photos"
        assert main(["show", str(folder / "d.onnx")]) == 0
        assert "exported by: fewbox" in capsys.readouterr().out

    def test_serve(self, folder: Path) -> None:
        served = ServedDetector("d", folder / "d.onnx")
        assert isinstance(served.current.detector, ExportedDetector)
        assert len(served.current.detector.detect(noise((90, 120)), threshold=0.3)) > 0

    @pytest.mark.slow
    def test_evaluate(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        boxes = tmp_path / "boxes.csv"
        rows = [f"{name},10,10,60,60,cup" for name in ("noise0.png", "noise1.png", "large.jpg")]
        boxes.write_text("\n".join(["image,x1,y1,x2,y2,label", *rows]) + "\n")
        told = []
        for engine, file in (("torch", "d.safetensors"), ("onnxruntime", "d.onnx")):
            arguments = [str(folder / file), str(folder / "photos"), "--boxes", str(boxes), "--json"]
            assert main(["evaluate", *arguments, "--engine", engine]) == 0
            told.append(json.loads(capsys.readouterr().out))
        # Mean scores are the same but for the last digits.
        first, second = ({**one, "detector": "", "calibration": ""} for one in told)
        assert first == second


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "installed"),
    [
        (["detect", "{}/d.onnx", "{}/photos", "-o", "{}/found"], ("numpy", "PIL", "onnxruntime")),
        (["show", "{}/d.onnx"], ("numpy", "PIL")),
    ],
    ids=["detect", "show"],
)
def test_nothing_else_needs_to_be_installed(
    folder: Path, tmp_path: Path, arguments: list[str], installed: tuple[str, ...]
) -> None:
    for name in installed:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        libraries = [p for p in package.parent.glob("*.libs") if p.name.startswith((name, "pillow"))]
        for part in (package, *libraries):
            if not (tmp_path / part.name).exists():
                (tmp_path / part.name).symlink_to(part)
    given = [argument.format(folder) for argument in arguments]
    code = f"import sys; from fewbox.cli import main; assert main({given}) == 0; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{SOURCE}{os.pathsep}{tmp_path}"},
    )
    assert done.returncode == 0, done.stderr
    assert "torch" not in done.stdout.splitlines()[-1].split()


@pytest.mark.slow
def test_torch_stays_out_even_where_it_is_installed(folder: Path, tmp_path: Path) -> None:
    arguments = ["detect", str(folder / "d.onnx"), str(folder / "photos"), "-o", str(tmp_path)]
    code = f"import sys; from fewbox.cli import main; assert main({arguments}) == 0; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(SOURCE)}
    )
    assert done.returncode == 0, done.stderr
    assert not {"torch", "matplotlib"} & set(done.stdout.splitlines()[-1].split())


def replace_making(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let exporting take a model that is there already; the list grows with each that it would have made."""
    made: list[str] = []

    def make_model(*_arguments: object, **_options: object) -> onnx.ModelProto:
        made.append("one")
        return onnx.load_from_string(exported("yolox_all_novel"))

    monkeypatch.setattr(onnx_model, "make_model", make_model)
    return made


class TestTheEngine:
    def test_an_exported_file_runs_in_what_is_installed(self, folder: Path) -> None:
        detector = open_detector(folder / "d.onnx")
        assert isinstance(detector, ExportedDetector)
        assert detector.engine.name in opening.EXPORT_ENGINES

    def test_an_exported_file_is_not_saved_again(self, folder: Path, tmp_path: Path) -> None:
        detector: Any = open_detector(folder / "d.onnx")
        detector.threshold = 0.7
        for given in ({}, {"heads_only": True}):
            with pytest.raises(OutputError, match="an exported detector is not written again") as error:
                detector.save(tmp_path / "d.safetensors", **given)
            assert "export it again; or give detect(..., threshold=)" in (error.value.hint or "")

    @pytest.mark.slow
    def test_one_asked_for_by_name_is_exported_to_once(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))
        path = folder / "d.safetensors"
        assert isinstance(open_detector(path), Detector)  # nothing in the cache, and few photos
        made = replace_making(monkeypatch)
        assert isinstance(open_detector(path, engine="onnxruntime"), ExportedDetector)
        assert len(made) == 1
        for engine in ("onnxruntime", "auto"):  # now from the cache
            assert isinstance(open_detector(path, engine=engine), ExportedDetector)
        assert isinstance(open_detector(path, engine="torch"), Detector)
        assert len(made) == 1

    @pytest.mark.slow
    def test_for_many_photos_it_is_exported_unasked(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path))
        replace_making(monkeypatch)
        path = folder / "d.safetensors"
        assert isinstance(open_detector(path, num_photos=opening.MANY_PHOTOS - 1), Detector)
        detector = open_detector(path, num_photos=opening.MANY_PHOTOS)
        assert isinstance(detector, ExportedDetector)
        assert find_export(path) is not None
        assert len(detector.detect(noise((90, 120)), threshold=0.3)) > 0

    @pytest.mark.slow
    def test_what_cannot_be_exported_runs_in_torch_unless_asked_otherwise(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path))

        def refuse(*_arguments: object, **_options: object) -> None:
            raise ExportError("it does not find the same")

        monkeypatch.setattr("fewbox.export.export_detector", refuse)
        path = folder / "d.safetensors"
        assert isinstance(open_detector(path, num_photos=opening.MANY_PHOTOS), Detector)
        with pytest.raises(ExportError):
            open_detector(path, engine="onnxruntime")

    @pytest.mark.slow
    def test_what_computes_in_bfloat16_stays_in_torch_without_openvino(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(opening, "EXPORT_ENGINES", ("onnxruntime",))
        path = tmp_path / "d.safetensors"
        Detector.load(folder / "d.safetensors").with_precision("bfloat16").save(path)
        assert isinstance(open_detector(path, num_photos=opening.MANY_PHOTOS), Detector)

    def test_wrong_ones(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(SettingError, match="unknown engine: 'onnx'") as caught:
            open_detector(folder / "d.onnx", engine="onnx")
        assert caught.value.hint == f"choose one of: {', '.join(opening.ENGINES)}"
        with pytest.raises(SettingError, match="unknown engine: None"):
            open_detector(folder / "d.onnx", engine=None)  # type: ignore[arg-type]
        for name in ("num_photos", "num_threads"):
            with pytest.raises(SettingError, match=f"{name} must be a whole number from 0: '3'"):
                open_detector(folder / "d.onnx", **{name: "3"})  # type: ignore[arg-type]
        with pytest.raises(SettingError, match="an exported file does not run in torch"):
            open_detector(folder / "d.onnx", engine="torch")
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(
            SettingError, match=r"d\.onnx: needs onnxruntime, which is not installed"
        ) as caught:
            open_detector(folder / "d.onnx", engine="onnxruntime")
        assert caught.value.hint == "pip install onnxruntime"


class TestBadFiles:
    def refused(self, path: Path, words: str) -> None:
        with pytest.raises(DetectorFileError, match=words) as caught:
            open_detector(path)
        assert str(path) in caught.value.message
        assert caught.value.hint

    def test_none_or_empty_or_something_else(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "none.onnx", "no such file")
        (tmp_path / "empty.onnx").touch()
        self.refused(tmp_path / "empty.onnx", "the file is empty")
        (tmp_path / "text.onnx").write_text("this is not a network")
        self.refused(tmp_path / "text.onnx", "not an ONNX file, or damaged")

    @pytest.mark.parametrize("part", [0.001, 0.5, 0.999])
    def test_cut_off(self, folder: Path, tmp_path: Path, part: float) -> None:
        content = (folder / "d.onnx").read_bytes()
        (tmp_path / "cut.onnx").write_bytes(content[: int(len(content) * part)])
        self.refused(tmp_path / "cut.onnx", "not an ONNX file, or damaged")

    def test_damaged_inside(self, folder: Path, tmp_path: Path) -> None:
        content = (folder / "d.onnx").read_bytes()
        (tmp_path / "bad.onnx").write_bytes(content.replace(b"NonMaxSuppression", b"NonMinSuppression"))
        self.refused(tmp_path / "bad.onnx", "cannot be run, or is damaged")

    def test_a_strangers(self, tmp_path: Path) -> None:
        info = onnx.helper.make_tensor_value_info
        node = onnx.helper.make_node("Identity", ["a"], ["b"])
        graph = onnx.helper.make_graph([node], "g", [info("a", 1, [1])], [info("b", 1, [1])])
        onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
        self.refused(tmp_path / "other.onnx", "not a detector that fewbox exported")

    @pytest.mark.slow
    def test_of_another_format_or_with_a_bad_header(self, folder: Path, tmp_path: Path) -> None:
        for change, words in (
            ({"format_version": 2}, "exported in format 2, this fewbox reads format 1"),
            ({"architecture": "unheard_of"}, "its header is damaged: unknown kind of network"),
            ({"labels": None}, "its header is damaged"),
            ({"labels": ["x"]}, "its header is damaged: 3 classes, but 1 label"),
            ({"score_threshold": None}, r"d\.onnx: the threshold must be a number from 0 to 1: None"),
            ({"input": "images"}, "exported with --raw"),
        ):
            model = onnx.load(folder / "d.onnx")
            header = json.loads(model.metadata_props[0].value) | change
            onnx.helper.set_model_props(model, {HEADER_KEY: json.dumps(header)})
            onnx.save(model, tmp_path / "d.onnx")
            self.refused(tmp_path / "d.onnx", words)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"architecture": "newer"}, "its header is damaged: unknown kind of network: 'newer'"),
            ({"detector_sha256": ...}, "its header is damaged: 'detector_sha256'"),
            ({"config": {"odd": 1}}, "its header is damaged"),
        ],
    )
    def test_show_names_what_is_wrong_with_a_header(
        self,
        folder: Path,
        tmp_path: Path,
        change: dict[str, Any],
        words: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        model = onnx.load(folder / "d.onnx")
        header = json.loads(model.metadata_props[0].value) | change
        header = {name: value for name, value in header.items() if value is not ...}
        onnx.helper.set_model_props(model, {HEADER_KEY: json.dumps(header)})
        onnx.save(model, tmp_path / "d.onnx")
        assert main(["show", str(tmp_path / "d.onnx")]) == 2
        assert f"d.onnx: {words}" in capsys.readouterr().err
