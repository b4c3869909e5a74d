"""A plain installation, without what is in the extra ``train``: what works, and what says that it cannot.

Each command runs in a process in which torch, and what comes with it alone, cannot be imported; so do the
processes that it starts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from annotate_client import a_box
from exported_duck import ExportedDuck, keep_in_cache
from fewbox.data import demo_photos
from fewbox.detection.detector import Detector
from fewbox.models import BASE_HEADER
from fewbox.models.weights import write_weights
from fewbox.models.yolox import YOLOX_SIZES
from made_once import ROOT
from test_yolox_checkpoint import exported
from tiny import tiny_base
from tiny_yolox import random_yolox
from waiting import LONG

MISSING = ("torch", "matplotlib", "google_crc32c", "onnx", "onnxscript")
INSTALL = "hint: pip install '.[train]'"
NOT_ADAPTED = "not adapted, which might find more: it needs torch, not installed"

NUM_PHOTOS = 3  # two to draw boxes in, and one to find something in

pytestmark = pytest.mark.slow


# What every Python of a test runs first: the packages are not there, for whoever imports or looks for them.
FINDER = f"""
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {MISSING!r} else super().find_spec(name, path, target)

sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""

ONE_AFTER_THE_OTHER = """
import contextlib, io, json
from fewbox.cli import main

answers = {{}}
for command in {commands!r}:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(command.split())
    answers[command] = (code, out.getvalue(), err.getvalue())
print(json.dumps(answers))
"""


class Plain:
    """Runs commands in a folder, as an installation without the missing packages does."""

    def __init__(self, folder: Path, duck: ExportedDuck) -> None:
        self.folder = folder
        (folder / "sitecustomize.py").write_text(FINDER)
        self.environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT / 'src'}"}
        (folder / "photos").mkdir()
        for photo in duck.photos[:NUM_PHOTOS]:
            (folder / "photos" / photo.name).write_bytes(photo.read_bytes())
        (folder / "duck.onnx").write_bytes(duck.onnx.read_bytes())
        duck.detector.save(folder / "duck.safetensors")
        base, labels = tiny_base(), ["a", "b", "c"]
        of_ssd = Detector(
            config=base.config, weights=base.weights, labels=labels, base=base.origin(), provenance={}
        )
        of_ssd.save(folder / "ssd.safetensors")
        header = base.origin() | {"architecture": "ssd_resnet_fpn", "config": base.config.to_dict()}
        write_weights(folder / "ssd_base.safetensors", base.weights, BASE_HEADER, header)
        names = {photo.stem for photo in duck.photos[:NUM_PHOTOS]}
        rows = [
            f"{image.path.stem}.png,{box.x1},{box.y1},{box.x2},{box.y2},{box.label}"
            for image in demo_photos()[1]
            for box in image.boxes
            if image.path.stem in names
        ]
        (folder / "boxes.csv").write_text("\n".join(["image,x1,y1,x2,y2,label", *rows]) + "\n")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str) -> tuple[int, str, str]:
        """The exit code of a command, and what it prints to stdout and stderr."""
        process = self.start("-m", "fewbox.cli", *command.split())
        out, err = process.communicate(timeout=LONG)
        assert "Traceback" not in err, err
        return process.returncode, out, err

    def run_all(self, commands: Sequence[str]) -> dict[str, tuple[int, str, str]]:
        """As :meth:`run`, of each, one after the other in one process: to start one takes half a second."""
        answers = json.loads(self.python(ONE_AFTER_THE_OTHER.format(commands=[*commands])))
        assert not [command for command, (_, _, err) in answers.items() if "Traceback" in err], answers
        return answers

    def python(self, code: str) -> str:
        process = self.start("-c", code)
        out, err = process.communicate(timeout=LONG)
        assert process.returncode == 0, err
        return out


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, exported_duck: ExportedDuck) -> Plain:
    return Plain(tmp_path_factory.mktemp("plain"), exported_duck)


MAKES = {
    "detect duck.onnx photos -o found": "found/detections.json",
    "detect duck.onnx photos/duck_01.png -o one.jpg --tiles --mirror": "one.jpg",
    "detect duck.onnx photos -o tracks.csv": "tracks.csv",
    "evaluate duck.onnx photos --boxes boxes.csv -o report": "report/report.html",
    "detect duck.safetensors photos -o found_by_weights": "found_by_weights/detections.json",
    "detect duck.safetensors photos -o by_graph --engine onnxruntime": "by_graph/detections.json",
    "detect starter photos/duck_01.png -o characters.jpg --engine onnxruntime": "characters.jpg",
    "demo -o demo --base starter": "demo/duck.safetensors",
    "convert boxes.csv photos -o boxes.json": "boxes.json",
    "convert boxes.csv photos -o yolo --to yolo": "yolo/data.yaml",
}


@pytest.fixture(scope="module")
def makes(plain: Plain) -> str:
    """The exit codes of the commands in ``MAKES``, which have run one after the other."""
    commands = [command.split() for command in MAKES]
    code = f"""
from fewbox.commands import demo
from fewbox.cli import main

few = [photos[:4] for photos in demo.demo_photos()]
demo.demo_photos = lambda: few
print([main(arguments) for arguments in {commands!r}])
"""
    return plain.python(code).splitlines()[-1]


def test_what_works_without(plain: Plain, makes: str) -> None:
    assert makes == str([0] * len(MAKES))
    for made in MAKES.values():
        assert (plain.folder / made).stat().st_size > 0


@pytest.mark.usefixtures("makes")
def test_the_same_is_found(plain: Plain, exported_duck: ExportedDuck) -> None:
    found = json.loads((plain.folder / "found/detections.json").read_text())["photos"]
    expected = exported_duck.detector.detect(list(exported_duck.photos[:NUM_PHOTOS]))
    assert sum(map(len, expected)) > 0
    assert [len(photo["detections"]) for photo in found] == [len(one) for one in expected]


def test_videos(plain: Plain) -> None:
    pytest.importorskip("av", reason="needs the extra fewbox[video]")
    answers = plain.run_all(
        ["detect duck.onnx photos -o ducks.mp4", "detect duck.onnx ducks.mp4 -o again.mp4"]
    )
    assert [code for code, _, _ in answers.values()] == [0, 0]


def test_many_workers(plain: Plain) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra fewbox[ray]")
    code, _, err = plain.run("detect duck.onnx photos -o many --engine-cluster processes --workers 1")
    assert code == 0, err
    assert list((plain.folder / "many").rglob("*.parquet"))


def test_words_of_a_detector_and_of_photos(plain: Plain) -> None:
    answers = plain.run_all(["show duck.onnx", "check photos --boxes boxes.csv", "bases"])
    assert [code for code, _, _ in answers.values()] == [0, 0, 0]
    said = answers["show duck.onnx"][1]
    assert "finds:  " in said
    assert "AP50" in said  # the estimate of held-out photos
    assert plain.run("--version")[0] == 0


def test_public_names(plain: Plain) -> None:
    code = """
import fewbox
for name in fewbox.__all__:
    try:
        getattr(fewbox, name)
    except fewbox.FewboxError as error:
        print(name, *str(error).splitlines(), sep="|")
"""
    assert plain.python(code) == ""


def test_the_service(plain: Plain) -> None:
    pytest.importorskip("fastapi", reason="needs the extra fewbox[serve]")

    with serving(plain, "serve duck.onnx --port 0", "serving at ") as url:
        photo = (plain.folder / "photos/duck_01.png").read_bytes()
        headers = {"Content-Type": "image/png"}
        request = urllib.request.Request(f"{url}/v1/detectors/duck/detect", photo, headers)
        with urllib.request.urlopen(request, timeout=LONG) as answer:
            assert len(json.load(answer)["photos"][0]["detections"]) > 0


@contextmanager
def a_page(plain: Plain, options: str) -> Iterator[Any]:
    """A client of the page, with a box drawn in two photos."""
    httpx2 = pytest.importorskip("httpx2")
    pytest.importorskip("starlette", reason="needs the extra fewbox[annotate]")
    drawn = {image.path.stem: image.boxes[0] for image in demo_photos()[1] if image.boxes}
    with serving(plain, f"annotate photos --labels duck --no-browser {options}", "open ") as url:
        origin = url.partition("/?")[0]
        with httpx2.Client(base_url=origin, headers={"Origin": origin}, timeout=LONG) as client:
            client.get(url.removeprefix(origin))
            rows = client.get("/api/project").json()["photos"]
            for row in [row for row in rows if Path(row["name"]).stem in drawn][:2]:
                box = drawn[Path(row["name"]).stem]
                put = [a_box(box=[box.x1, box.y1, box.x2, box.y2], label="duck")]
                assert client.patch(f"/api/photos/{row['id']}", json={"put": put}).status_code == 200
            yield client
    (plain.folder / "photos/annotations.json").unlink()


def comes_to(client: Any, address: str, *states: str) -> dict[str, Any]:
    """The answer, once its state is one of these."""
    until = time.monotonic() + LONG
    while (answer := client.get(address).json())["state"] not in states:
        assert time.monotonic() < until, answer
        time.sleep(0.1)
    return dict(answer)


def test_the_page_learns_proposes_and_finishes(plain: Plain) -> None:
    with a_page(plain, "--base starter -o from_page.onnx") as client:
        learning = comes_to(client, "/api/learning", "ready", "failed", "off")
        assert (learning["state"], learning["round"]) == ("ready", 1), learning
        rows = client.get("/api/project").json()["photos"]
        proposals = [client.get(f"/api/photos/{row['id']}/proposals").json()["boxes"] for row in rows[2:]]
        assert sum(map(len, proposals)) > 0
        for row in rows[:2]:  # of what is not there the linear probe finds little
            client.patch(f"/api/photos/{row['id']}", json={"put": [a_box(label="duck")]})
        assert client.post("/api/finish", json={}).json()["state"] == "running"
        finish = comes_to(client, "/api/finish", "done", "failed")
        wrote, _, did_without = finish["message"].partition("; ")
        assert wrote.startswith("wrote from_page.onnx"), finish
        assert did_without == f"{NOT_ADAPTED}: {INSTALL[6:]}"
    assert plain.run("detect from_page.onnx photos -o found_from_page")[0] == 0


def test_a_notebook_s_page_learns(plain: Plain) -> None:
    pytest.importorskip("anywidget", reason="needs the extra fewbox[notebook]")
    code = """
import time
import fewbox
from fewbox.data.formats import read_annotations
from fewbox.data.project_file import DrawnBox

page = fewbox.annotate("photos", base="starter")
for number, image in enumerate(read_annotations("boxes.csv", "photos").reviewed_only().images[:2]):
    page._project.change_photo(image.path.name, put=[DrawnBox(f"k{number}", image.boxes[0])])
learner = page._answers._learner
while learner.learning().state in ("waiting", "learning"):
    time.sleep(0.1)
print(learner.learning().state, learner.learning().message, sep="|")
"""
    assert plain.python(code).strip() == "ready|learnt from 2 photos"
    (plain.folder / "photos/annotations.json").unlink()


def test_the_page_says_what_its_base_needs(plain: Plain) -> None:
    cure = "needs torch, not installed; pip install '.[train]'"
    with a_page(plain, "--base ssd_base.safetensors") as client:
        assert comes_to(client, "/api/learning", "off", "failed")["message"] == f"learning from tiny {cure}"
        client.post("/api/finish", json={})
        finish = comes_to(client, "/api/finish", "done", "failed")
        assert finish["message"] == f"learning from tiny {cure}"
        assert finish["command"].startswith("fewbox finetune")


@contextmanager
def serving(plain: Plain, command: str, before: str) -> Iterator[str]:
    """A server's address, which it prints after the words ``before``; in the end it is stopped."""
    process = plain.start("-m", "fewbox.cli", *command.split())
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        line = next((line for line in lines if line.startswith(before)), None)
        assert line is not None, process.stderr
        yield line.removeprefix(before).strip()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LONG)
        assert "Traceback" not in err
    finally:
        process.kill()


ASKED = "--boxes boxes.csv --effort quick --reviewed-only"
LEARNT = {
    "learnt.safetensors": "--base starter",
    "learnt.onnx": "--base starter",
    "of_pth.safetensors": "--base nano.pth --heads-only",
    "of_onnx.safetensors": "--base nano.onnx --heads-only",
}
"""Detectors, and how they are asked for; nano.pth and nano.onnx are a YOLOX as its release offers it."""


@pytest.fixture(scope="module")
def learnt(plain: Plain) -> dict[str, tuple[int, str, str]]:
    """Of each detector what ``fewbox finetune`` says; each has detected in the photos too."""
    network = random_yolox(replace(YOLOX_SIZES["nano"], size_hw=(416, 416)))
    torch.save({"model": network.state_dict()}, plain.folder / "nano.pth")
    onnx.save(exported(network.fold()), plain.folder / "nano.onnx")
    teach = {f"finetune photos {ASKED} {how} -o {detector}": detector for detector, how in LEARNT.items()}
    search = {f"detect {detector} photos -o {found_by(detector)}": detector for detector in LEARNT}
    answers = plain.run_all([*teach, *search])
    assert [answers[command][0] for command in search] == [0] * len(LEARNT)
    return {detector: answers[command] for command, detector in teach.items()}


def found_by(detector: str) -> str:
    return f"found_by_{detector.replace('.', '_')}"


@pytest.mark.parametrize("written", ["learnt.safetensors", "learnt.onnx"])
def test_the_linear_probe_learns_and_detects(
    plain: Plain, learnt: dict[str, tuple[int, str, str]], written: str
) -> None:
    code, out, err = learnt[written]
    assert code == 0, err
    assert f"wrote {written}" in out
    found = json.loads((plain.folder / found_by(written) / "detections.json").read_text())["photos"]
    assert sum(len(photo["detections"]) for photo in found) >= len(found)


@pytest.mark.parametrize("kind", ["pth", "onnx"])
def test_an_official_yolox_is_converted_and_learns(
    plain: Plain, learnt: dict[str, tuple[int, str, str]], kind: str
) -> None:
    """As after ``fewbox bases --download yolox_nano``, which converts the file that it has fetched."""
    code, out, err = learnt[f"of_{kind}.safetensors"]
    assert code == 0, err
    assert f"wrote of_{kind}.safetensors (0." in out  # the heads alone
    assert (plain.folder / found_by(f"of_{kind}.safetensors") / "detections.json").is_file()


def test_the_best_recipe_says_what_it_could_not_try(plain: Plain) -> None:
    code = """
import fewbox
from fewbox import finetuning
finetuning.WELL_FOUND = 2
photos = fewbox.read_annotations("boxes.csv", "photos").reviewed_only()
detector = fewbox.finetune(photos, "starter", show_progress=False)
print(detector.provenance["plan"][-1], len(detector.detect("photos/duck_01.png")), sep="|")
"""
    plan, _, count = plain.python(code).strip().partition("|")
    assert plan == f"{NOT_ADAPTED}: {INSTALL[6:]}"
    assert int(count) > 0


REFUSED = [
    (
        "finetune photos --boxes boxes.csv -o d.safetensors --base ssd_base.safetensors",
        "learning from tiny needs torch",
        INSTALL,
    ),
    (
        "finetune photos --boxes boxes.csv -o d.safetensors --base starter --device cuda",
        "computing on cuda needs torch",
        INSTALL,
    ),
    *(
        (
            f"finetune photos --boxes boxes.csv -o d.safetensors --base starter --recipe {recipe}",
            f"the recipe {recipe} needs torch",
            INSTALL,
        )
        for recipe in ("adapt", "seed")
    ),
    (
        "finetune-deep photos --boxes boxes.csv --base yolox_s -o d.safetensors",
        "fine-tuning needs torch",
        INSTALL,
    ),
    (
        "bases --download retinanet_resnet50_fpn",
        "reading retinanet_resnet50_fpn needs torch",
        INSTALL,
    ),
    (
        "export duck.safetensors d.onnx",
        "d.onnx: exporting needs torch, onnx, onnxscript",
        INSTALL,
    ),
    (
        "detect ssd.safetensors photos -o found2",
        "ssd.safetensors: needs torch",
        f"{INSTALL}; or export it where torch is: fewbox export ssd.safetensors ssd.onnx",
    ),
    (
        "show ssd.safetensors",
        "ssd.safetensors: needs torch",
        f"{INSTALL}; or export it where torch is: fewbox export ssd.safetensors ssd.onnx",
    ),
    (
        "detect ssd.safetensors photos -o found2 --engine onnxruntime",
        "ssd.safetensors: needs torch",
        f"{INSTALL}; or export it where torch is: fewbox export ssd.safetensors ssd.onnx",
    ),
    (
        "detect duck.safetensors photos -o found2 --engine torch",
        "duck.safetensors: --engine torch needs torch",
        INSTALL,
    ),
    ("detect starter photos -o found2 --engine torch", "starter: --engine torch needs torch", INSTALL),
    (
        "detect duck.safetensors photos -o found2 --engine openvino",
        "duck.safetensors: exporting it for openvino needs torch, onnx, onnxscript",
        INSTALL,
    ),
]
NOT_THERE = "detect cup.safetensors photos -o found2"


@pytest.fixture(scope="module")
def refused(plain: Plain) -> dict[str, tuple[int, str, str]]:
    """The exit code of each command, and what it prints to stdout and stderr; all of them in one process."""
    commands = [command for command, _, _ in REFUSED] + [NOT_THERE]
    return plain.run_all(commands)


@pytest.mark.parametrize(("command", "says", "cure"), REFUSED)
def test_what_needs_torch_says_so_with_the_cure(
    refused: dict[str, tuple[int, str, str]], command: str, says: str, cure: str
) -> None:
    code, out, err = refused[command]
    assert (code, out) == (2, "")
    assert [line for line in err.splitlines() if not line.startswith("computing on")] == [
        f"error: {says}, not installed",
        cure,
    ]


def test_a_file_that_is_not_there_is_no_reason_to_install_anything(
    refused: dict[str, tuple[int, str, str]],
) -> None:
    _, _, err = refused[NOT_THERE]
    assert err.splitlines()[0] == "error: cup.safetensors: no such file"


def test_an_export_that_the_cache_has_runs(plain: Plain, exported_duck: ExportedDuck) -> None:
    cached = keep_in_cache(exported_duck, plain.folder / "duck.safetensors")
    try:
        assert plain.run("detect duck.safetensors photos -o found3")[0] == 0
    finally:
        cached.unlink()
