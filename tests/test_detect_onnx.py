"""examples/detect_onnx.py, run as a person runs it: where neither fewbox nor torch is installed."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from exported_duck import ExportedDuck, assert_same
from fewbox.data.images import read_image
from orientations import STORED, orientation

EXAMPLE = Path(__file__).parents[1] / "examples/detect_onnx.py"
BLOCKED = ("fewbox", "torch")


def run_example(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    program = "\n".join(
        [
            "import runpy, sys",
            *(f"sys.modules[{name!r}] = None" for name in BLOCKED),
            f"sys.argv = {[str(EXAMPLE), *map(str, arguments)]!r}",
            f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')",
        ]
    )
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)


def read_printed(printed: str) -> list[dict[str, Any]]:
    """What stands in the lines below the photo's own."""
    rows = [line.split() for line in printed.splitlines()[1:]]
    assert all(row[2] == "at" for row in rows)
    return [{"label": row[0], "score": float(row[1]), "box": [*map(float, row[3:])]} for row in rows]


def files_left_at_home(program: str, home: Path) -> list[str]:
    """The names of the files that a program leaves in a home folder that was empty."""
    (home / "tmp").mkdir(parents=True)
    own = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "XDG_CACHE_HOME": ""}
    ours = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", program], env=ours | own, check=True)
    return sorted(path.name for path in home.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks where ONNX Runtime writes on Linux")
def test_onnxruntime_notes_down_nothing_for_its_makers(tmp_path: Path) -> None:
    if "deviceid" not in files_left_at_home("import onnxruntime", tmp_path / "alone"):
        pytest.skip("this ONNX Runtime notes down nothing by itself: older than 1.29")
    opened = "from fewbox.runtimes.onnxruntime import _imported; _imported('duck.onnx')"
    assert files_left_at_home(opened, tmp_path / "fewbox") == []


def test_who_wants_onnxruntime_to_note_down_what_runs_can_have_it() -> None:
    program = "import fewbox, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "0"}
    printed = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert printed.stdout == "0\n"


@pytest.mark.slow
def test_it_finds_what_fewbox_finds(exported_duck: ExportedDuck, tmp_path: Path) -> None:
    for photo in exported_duck.photos[:1]:
        done = run_example(tmp_path, exported_duck.onnx, photo)
        assert done.returncode == 0, done.stderr
        found = read_printed(done.stdout)
        assert done.stdout.startswith(f"{photo}: {len(found)} found\n")
        assert_same(found, exported_duck.detector.detect(photo))
        drawn, plain = (np.asarray(Image.open(p)) for p in (tmp_path / f"{photo.stem}_boxes.png", photo))
        assert drawn.shape == plain.shape
        assert (drawn != plain).any()


@pytest.mark.slow
def test_a_photo_taken_sideways_is_turned(exported_duck: ExportedDuck, tmp_path: Path) -> None:
    upright = exported_duck.photos[0]
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](np.asarray(Image.open(upright)))))
    stored.save(tmp_path / "sideways.png", exif=orientation(6))
    done = run_example(tmp_path, exported_duck.onnx, "sideways.png")
    assert_same(read_printed(done.stdout), exported_duck.detector.detect(upright))
    assert Image.open(tmp_path / "sideways_boxes.png").size == Image.open(upright).size


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("turned", [False, True], ids=["XMP alone", "EXIF too"])
def test_a_photo_is_turned_as_fewbox_turns_it(tmp_path: Path, suffix: str, turned: bool) -> None:
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP)
    more: dict[str, Any] = {"pnginfo": text} if suffix == ".png" else {"xmp": XMP.encode()}
    if suffix == ".tif":
        more = {"tiffinfo": {700: XMP.encode(), **({274: 8} if turned else {})}}
    elif turned:
        more["exif"] = orientation(8)
    photo = tmp_path / f"photo{suffix}"
    Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)).save(photo, **more)
    read = np.asarray(runpy.run_path(str(EXAMPLE))["read_photo"](photo))
    assert read.shape == ((60, 40, 3) if turned else (40, 60, 3))
    assert np.array_equal(read, read_image(photo))


@pytest.mark.slow
def test_another_threshold(exported_duck: ExportedDuck, tmp_path: Path) -> None:
    photo = exported_duck.photos[0]
    done = run_example(tmp_path, exported_duck.onnx, photo, "--threshold", "0.05")
    assert_same(read_printed(done.stdout), exported_duck.detector.detect(photo, threshold=0.05))


@pytest.mark.parametrize("metadata", [{}, {"fewbox": '{"input": "images"}'}], ids=["a stranger's", "raw"])
def test_other_models_are_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    save_identity(tmp_path / "other.onnx", metadata)
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    done = run_example(tmp_path, "other.onnx", "photo.png")
    assert done.returncode != 0
    assert done.stderr == "other.onnx: not written by 'fewbox export', or with --raw\n"


def save_identity(path: Path, metadata: dict[str, str]) -> None:
    """The smallest model there is, with these metadata."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [value("x", onnx.TensorProto.FLOAT, [1])],
        [value("y", onnx.TensorProto.FLOAT, [1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
