"""What the pages show is run: each command and program of a page in order, in a folder with what it assumes.

What needs something that no test has is listed, with the reason.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fewbox
from annotate_client import write_certificate
from exported_duck import ExportedDuck, export_once, keep_in_cache, quantize_once
from fewbox import cli
from fewbox.data.formats import write_coco
from fewbox.models import cached_base_path
from fewbox.models.weights import write_weights
from films import TICKS, write_film
from tiny import make_base
from tiny_yolox import random_yolox, tiny_yolox_config
from waiting import LONG, free_port

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]

NOT_RUN = {
    "pip": "the wheel is installed and tried by tests/test_without_torch.py and by make wheel",
    "git": "this is a clone",
    "make": "what CI calls",
    "npm": "tests/browser has what it installs",
    "docker": "needs Docker",
    "ray": "starts a cluster of several machines",
    "--cluster-address": "needs that cluster; tests/test_batch.py has one on this machine",
    "torchrun": "needs eight processes; tests/test_deep.py starts two",
    "benchmarks/": "minutes to hours, on the photos beside the project",
    "tools/": "makes what comes with fewbox: photos, and the starter in ten minutes of a large machine",
    "http.server": "tests/browser/test_web_example.py serves that folder",
    ".tar.gz": "an archive of 244 MB; tests/test_ssd_checkpoint.py reads one",
}
"""Words of commands that are not run, and why."""


def steps(page: Path) -> list[tuple[str, str]]:
    """The page's commands and programs in order: ``sh`` with one command line, ``python`` with a block."""
    found = []
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S):
        lines = [block] if language == "python" else block.replace("\\\n", " ").splitlines()
        found += [(language, line) for line in lines if line.strip()]
    return found


def why_not_run(line: str) -> str | None:
    words = shlex.split(line, comments=True)
    arguments = [word for word in words[1:] if re.search("[-/.]", word)]
    for named, reason in NOT_RUN.items():
        if words[0] == named or any(word.startswith(named) or word.endswith(named) for word in arguments):
            return reason
    return None


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


RUN = [
    page
    for page in PAGES
    if any(language == "python" or why_not_run(text) is None for language, text in steps(page))
]


@pytest.fixture
def desk(tmp_path: Path, exported_duck: ExportedDuck, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pages assume."""
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))
    desk = tmp_path / "desk"
    train, test = fewbox.demo_photos()
    shown = (
        ("train", "duck", train.images[:3]),
        ("photos", "cup", train.images[:3]),
        ("test", "out", test.images[:2]),
    )
    for folder, word, images in shown:
        (desk / folder).mkdir(parents=True)
        rows = ["image,x1,y1,x2,y2"]
        for number, image in enumerate(images, start=1):
            name = f"{word}{number}.jpg"
            shutil.copy(image.path, desk / folder / name)
            rows += [f"{name},{box.x1},{box.y1},{box.x2},{box.y2}" for box in image.boxes]
        (desk / f"{folder}.csv").write_text("\n".join(rows))
    _name_as_pages_do(desk)
    for number, name in enumerate(("film.mp4", "yard.mov")):
        ticks = range(0, (8 + number) * TICKS // 25, TICKS // 25)
        write_film(desk / name, ticks=ticks, audio=False)
    for name in ("duck.safetensors", "duck.onnx"):
        exported = exported_duck.onnx.with_name(name)
        shutil.copy(exported, desk / name)
    keep_in_cache(exported_duck, desk / "duck.safetensors")  # so that no worker loads PyTorch
    export_once(monkeypatch, exported_duck)
    quantize_once(monkeypatch)
    shutil.copy(desk / "duck.onnx", desk / "mug.onnx")
    shutil.copy(desk / "duck.safetensors", desk / "new_duck.safetensors")
    (desk / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(desk)
    return desk


def _name_as_pages_do(desk: Path) -> None:
    """The same photos and boxes again, under each name by which a page has them."""
    shutil.copy(desk / "train.csv", desk / "train_boxes.csv")
    shutil.copy(desk / "photos.csv", desk / "boxes.csv")
    shutil.copytree(desk / "test", desk / "new")
    for folder in ("train", "test"):  # as "fewbox demo" leaves it
        there = shutil.copytree(desk / folder, desk / "demo/photos" / folder)
        boxes = fewbox.read_annotations(desk / f"{folder}.csv", there, label="rubber_duck")
        write_coco(boxes, there / "boxes.json")
    shutil.copytree(desk / "photos", desk / "bucket/photos")
    shutil.copy(desk / "test/out1.jpg", desk / "duck.jpg")
    shutil.copy(desk / "test/out1.jpg", desk / "bucket/one.jpg")
    Image.open(desk / "test/out1.jpg").resize((2560, 1920)).save(desk / "large.jpg")
    for file, folder in {"boxes": "photos", "photos/annotations": "photos", "test": "test"}.items():
        boxes = fewbox.read_annotations(desk / f"{folder}.csv", desk / folder, label="rubber_duck")
        write_coco(boxes, desk / f"{file}.json")
    for part, folder in {"train": "train", "valid": "test"}.items():  # as an export of Roboflow has them
        boxes = fewbox.read_annotations(desk / f"{folder}.csv", desk / folder, label="rubber_duck")
        fewbox.write_annotations(boxes, desk / "chess" / part, "yolo", copy_photos=True)
    write_certificate(desk)


def cache_a_small_yolox_s() -> None:
    tiny = make_base(tiny_yolox_config(), random_yolox(tiny_yolox_config()).state_dict())
    header = tiny.origin() | {"architecture": "yolox", "config": tiny.config.to_dict()}
    write_weights(cached_base_path("yolox_s"), tiny.weights, "fewbox_base", header)


class Shell:
    """Runs a page's steps; what listens is started behind them, and stopped by the next that listens."""

    def __init__(self, desk: Path) -> None:
        self.desk = desk
        self.server: subprocess.Popen[str] | None = None
        self.port = free_port()
        self.environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self.names: dict[str, Any] = {
            "fewbox": fewbox,
            "boxes_in_image": np.ones((1, 4), np.float32),
            "frames": [np.full((480, 640, 3), 90, np.uint8)] * 2,
        }

    def here(self, text: str) -> str:
        """The same with this machine's addresses in place of those a page makes up."""
        text = re.sub(r"(127\.0\.0\.1|duck\.example):8000", f"127.0.0.1:{self.port}", text)
        text = text.replace("https://example.org", "s3://bucket")
        # A cluster of Ray's takes ten seconds to start; tests/test_batch.py starts one.
        text = text.replace("--engine-cluster ray", "--engine-cluster processes")
        return text.replace("s3://bucket", f"file://{self.desk}/bucket")

    def run(self, line: str) -> None:
        """One command line."""
        line = self.here(line)
        words = shlex.split(line, comments=True)
        if words[0] == "export":
            name = words[1].partition("=")[0]
            self.environment[name] = self.output_of(f'{line}; printf %s "${name}"')
        elif words[:2] in (["fewbox", "serve"], ["fewbox", "annotate"]):
            self.listen(line.partition("#")[0])
        elif words[0] == "fewbox" and "$" not in line and "|" not in line:
            assert cli.main(words[1:]) == 0, line
        else:
            self.output_of(line)

    def output_of(self, line: str) -> str:
        done = subprocess.run(line, shell=True, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def listen(self, line: str) -> None:
        """Start a server, and wait until it answers."""
        self.stop()
        no_browser = " --no-browser" if "annotate" in line else ""
        self.server = subprocess.Popen(
            f"exec {sys.executable} -m fewbox.cli {line.strip()[7:]} --port {self.port}{no_browser}",
            shell=True,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.server.stdout is not None
        for said in self.server.stdout:
            if said.startswith(("serving at", "open http")):
                break
        else:
            pytest.fail(f"{line} ended")

    def stop(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.wait(LONG)
            assert self.server.stdout is not None
            self.server.stdout.close()
            self.server = None

    def execute(self, program: str) -> None:
        exec(compile(self.here(program), "page", "exec"), self.names)


@pytest.fixture
def shell(desk: Path) -> Iterator[Shell]:
    shell = Shell(desk)
    yield shell
    shell.stop()
    if hasattr(shell.names.get("page"), "close"):
        shell.names["page"].close()


@pytest.mark.slow
@pytest.mark.usefixtures("short_adapting", "in_float32")
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="needs curl and openssl")
@pytest.mark.parametrize("page", RUN, ids=page_name)
def test_what_a_page_shows_runs(page: Path, shell: Shell) -> None:
    told = page.read_text("utf-8")
    if "-o boxes.json" in told:
        (shell.desk / "boxes.json").unlink()  # which the page makes
    if "--base yolox_s" in told:
        cache_a_small_yolox_s()
    for language, text in steps(page):
        if language == "python":
            shell.execute(text)
        elif why_not_run(text) is None:
            shell.run(text)
        else:
            continue
        for name in re.findall(r'\.save\("(.+?)"\)|(?:-o|--gif) ([\w.]+\.\w+)', text):
            assert (shell.desk / "".join(name)).is_file(), name


def test_each_reason_for_not_running_is_needed() -> None:
    lines = [text for page in PAGES for language, text in steps(page) if language == "sh"]
    reasons = {why_not_run(line) for line in lines}
    assert reasons - {None} == set(NOT_RUN.values())
