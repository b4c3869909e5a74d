"""The command line as a person meets it: what it prints, what it leaves behind, how it fails."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from exports import exported
from fewbox.cli import build_parser, main
from fewbox.commands.finetune import _held_out, _tell_written
from fewbox.config import FinetuneConfig
from fewbox.data import DEMO_FOLDER, demo_photos
from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats import write_coco
from fewbox.detection.detector import Detector
from fewbox.detection.drawing import save_picture
from fewbox.errors import OutputError
from fewbox.evaluation.report import save_report
from fewbox.models import BASE_HEADER, cached_base_path
from fewbox.models.weights import write_weights
from reference_fields import fields_of
from report_samples import evaluation_of
from tiny import make_base, make_photos
from tiny_yolox import random_yolox, tiny_yolox_config
from waiting import LONG

EACH_IN_A_FORK = """
import gc, os, runpy, sys
import fewbox.cli

stdout, stderr, *commands = sys.argv[1:]
for number, command in enumerate(commands):
    if command.startswith(("show", "detect", "evaluate")):
        import torch
        gc.freeze()  # or each fork would look through all of torch when it ends
    child = os.fork()
    if not child:
        os.dup2(int(stdout), 1)
        os.dup2(os.open(f"{stderr}{number}", os.O_CREAT | os.O_WRONLY), 2)
        sys.argv = ["fewbox", *command.split("|")]
        runpy.run_path(fewbox.cli.__file__, run_name="__main__")
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs commands as ``python -m fewbox.cli`` does, down to how Python ends, but imports torch once for all."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Three photos, and their boxes as COCO JSON."""
    folder = tmp_path / "photos"
    folder.mkdir()
    write_coco(make_photos(folder), folder / "boxes.json")
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def small_base(cache: Path) -> None:
    """The tiny base under the name of the default one, so that commands find it without a download."""
    config = tiny_yolox_config()
    base = make_base(config, random_yolox(config).state_dict())
    header = {"name": base.name, "architecture": "yolox", "config": config.to_dict()}
    header |= {
        "weights_sha256": base.weights_sha256,
        "source": "tests",
        "source_sha256": "0",
        "licence": "none",
    }
    path = cache / "bases" / "ssd_resnet50_fpn_640.safetensors"
    write_weights(path, base.weights, BASE_HEADER, header)


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What fine-tuning has written, for tests of what comes after it."""
    folder = tmp_path_factory.mktemp("finetuned")
    (folder / "photos").mkdir()
    write_coco(make_photos(folder / "photos"), folder / "photos" / "boxes.json")
    assert run_finetune(folder) == 0
    return folder / "d.safetensors"


def run_finetune(project: Path, *more: str, photos: tuple[Path, ...] = ()) -> int:
    boxes = project / "photos" / "boxes.json"
    folders = [str(folder) for folder in (project / "photos", *photos)]
    arguments = ["finetune", *folders, "--boxes", str(boxes), "-o", str(project / "d.safetensors")]
    return main([*arguments, "--recipe", "seed", "--steps", "3", *more])


@pytest.mark.slow
def test_the_next_command_can_be_copied(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector = project / "sp ace.safetensors"
    assert run_finetune(project, "-o", str(detector)) == 0
    (command,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("next: "))
    words = shlex.split(command)
    assert words == ["next:", "fewbox", "detect", str(detector), "PHOTOS", "-o", "found/"]
    photos = str(project / "photos")
    assert main(["detect", str(detector), photos, "-o", str(project / "f g.pdf")]) == 2
    assert f"name a folder: -o '{project / 'f g'}'" in failure(capsys)


def failure(capsys: pytest.CaptureFixture[str]) -> str:
    """The error message; it is one line, and at most a hint follows."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, lines
    assert all(line.startswith("hint: ") for line in lines[lines.index(errors[0]) + 1 :])
    return "\n".join(lines[lines.index(errors[0]) :])


@pytest.mark.slow
def test_finetune_then_detect(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_finetune(project) == 0
    printed = capsys.readouterr()
    assert "tensors from tiny; new, for your classes: 6 tensors, head.cls_preds.0.bias to " in printed.err
    assert "step 3 of 3, loss" in printed.err
    assert "wrote" in printed.out
    assert Image.open(project / "d_loss.png").size[0] > 400
    out, gif = project / "found", project / "found.gif"
    arguments = ["detect", str(project / "d.safetensors"), str(project / "photos"), "-o", str(out)]
    assert main([*arguments, "--gif", str(gif), "--threshold", "0.001"]) == 0
    printed = capsys.readouterr()
    assert "detections in 3 photos" in printed.out
    assert "be one of them" not in printed.err
    document = json.loads((out / "detections.json").read_text())
    assert document.keys() == fields_of("detections.json") - {"tiles", "mirror", "agnostic_nms"}
    assert document["photos"][0].keys() == fields_of("detections.json", table=1)
    assert len(document["photos"]) == 3
    assert gif.exists()
    arguments[-1] = str(project / "listed")
    assert main([*arguments, "--no-pictures", "--threshold", "0.001"]) == 0
    assert sorted(path.name for path in (project / "listed").iterdir()) == ["counts.csv", "detections.json"]
    listed = json.loads((project / "listed/detections.json").read_text())
    assert [row["detections"] for row in listed["photos"]] == [
        row["detections"] for row in document["photos"]
    ]
    assert main([*arguments, "--no-pictures", "--gif", str(gif)]) == 2


class TestFinetuneWritesOnnx:
    @pytest.mark.slow
    def test_which_every_command_takes(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        output = project / "d.onnx"
        assert run_finetune(project, "-o", str(output), "--label", "cup") == 0
        printed = capsys.readouterr().out.splitlines()
        assert printed[0].startswith("finds the same: ")
        assert printed[1].startswith(f"wrote {output} (")
        assert sorted(path.name for path in project.iterdir()) == ["d.onnx", "d_loss.png", "photos"]
        assert run_finetune(project) == 0  # the same photos and seed: the same detector, in the other format
        capsys.readouterr()
        facts = []
        for file in ("d.onnx", "d.safetensors"):
            assert main(["show", str(project / file), "--json"]) == 0
            facts.append(json.loads(capsys.readouterr().out))
        del facts[0]["export"]
        assert facts[0] == facts[1]
        photos = str(project / "photos")
        assert main(["detect", str(output), photos, "-o", str(project / "found")]) == 0
        assert main(["evaluate", str(output), photos, "--boxes", f"{photos}/boxes.json"]) == 0

    def test_whole_or_not_at_all(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_finetune(project, "-o", str(project / "d.onnx"), "--heads-only") == 2
        assert "d.onnx: an ONNX file holds the whole network" in failure(capsys)

    @pytest.mark.slow
    def test_what_was_learnt_is_kept_if_the_export_finds_something_else(
        self, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fewbox.export.MIN_IOU", 1.1)
        assert run_finetune(project, "-o", str(project / "d.onnx")) == 2
        kept = project / "d_not_exported.safetensors"
        said = failure(capsys)
        assert "d.onnx: not written: it does not find the same in ONNX Runtime" in said
        assert f"hint: the detector itself is in {kept}" in said
        assert not (project / "d.onnx").exists()
        assert main(["show", str(kept)]) == 0

    @pytest.mark.slow
    def test_from_which_nothing_more_is_made(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        detector = project / "d.onnx"
        detector.write_bytes(exported("yolox_all_novel"))
        assert run_finetune(project, "--base", str(detector)) == 2
        said = failure(capsys)
        assert "d.onnx: a detector that fewbox exported: nothing can learn from it" in said
        assert "hint: fine-tune again from its base" in said
        assert main(["export", str(detector), str(project / "e.onnx")]) == 2
        said = failure(capsys)
        assert "d.onnx: is an export already, which cannot be exported again" in said
        assert "hint: give the .safetensors file it was made from" in said


@pytest.mark.skipif(os.name == "nt", reason="a closed pipe is another error on Windows")
class TestOutputThatNobodyReads:
    """As after ``fewbox ... | head -1``: no traceback, and the exit code that shells report of ``cat``."""

    def run(self, *arguments: str, closed: str) -> tuple[int, bytes]:
        """The exit code, and what went to the other of stdout and stderr."""
        reader, writer = os.pipe()
        os.close(reader)
        outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, closed: writer}
        command = [sys.executable, "-m", "fewbox.cli", *arguments]
        try:
            ended = subprocess.run(command, **outputs, check=False)
        finally:
            os.close(writer)
        return ended.returncode, (ended.stderr if closed == "stdout" else ended.stdout) or b""

    @pytest.mark.slow
    def test_of_every_command_that_prints(self, project: Path, finetuned: Path) -> None:
        photos, boxes = str(project / "photos"), str(project / "photos" / "boxes.json")
        detector = str(finetuned)
        commands = [
            ["bases"],
            ["bases", "--json"],
            ["check", photos, "--boxes", boxes],
            ["check", photos, "--boxes", boxes, "--json"],
            ["convert", boxes, photos, "-o", str(project / "boxes.csv")],
            ["show", detector],
            ["show", detector, "--json"],
            ["detect", detector, photos, "-o", str(project / "found")],
            ["evaluate", detector, photos, "--boxes", boxes, "--json"],
        ]
        reader, writer = os.pipe()
        os.close(reader)
        program = [sys.executable, "-c", EACH_IN_A_FORK, str(writer), str(project / "stderr")]
        forks = subprocess.run(
            [*program, *map("|".join, commands)], pass_fds=[writer], stdout=subprocess.PIPE, check=True
        )
        os.close(writer)
        codes = [int(code) for code in forks.stdout.split()]
        for number, (command, code) in enumerate(zip(commands, codes, strict=True)):
            said = (project / f"stderr{number}").read_text()
            assert code == 141, (command, said)
            assert not any(word in said for word in ("Traceback", "BrokenPipe", "Exception ignored")), command
        assert (project / "boxes.csv").exists()  # what was to be written is
        assert (project / "found" / "detections.json").exists()

    @pytest.mark.parametrize("command", [["--help"], ["detect", "--help"], ["--version"]])
    def test_of_help(self, command: list[str]) -> None:
        code, said = self.run(*command, closed="stdout")
        assert code in (0, 141)  # argparse passes over it
        assert said == b""

    @pytest.mark.slow
    def test_of_errors(self, tmp_path: Path) -> None:
        assert self.run("check", str(tmp_path / "gone"), closed="stderr") == (141, b"")
        code, said = self.run("check", str(tmp_path / "gone"), closed="stdout")
        assert code == 2
        assert said.startswith(b"error: ")

    @pytest.mark.slow
    def test_a_closed_stderr_does_not_put_errors_into_the_results(self, tmp_path: Path) -> None:
        command = f"{sys.executable} -m fewbox.cli check {tmp_path / 'gone'} 2>&-"
        ended = subprocess.run(command, shell=True, stdout=subprocess.PIPE, check=False)
        assert (ended.returncode, ended.stdout) == (2, b"")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk_is_said(self) -> None:
        with Path("/dev/full").open("w") as full:
            command = [sys.executable, "-m", "fewbox.cli", "bases"]
            ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
        assert ended.returncode == 2
        assert ended.stderr == b"error: the output cannot be written: no space left on the disk\n"


@pytest.mark.slow
def test_detect_writes_the_picture_of_one_photo(
    project: Path, finetuned: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    detector, photo = str(finetuned), project / "photos" / "photo0.png"
    for name in ("found1.jpg", "new/found1.png", "found1.JPEG"):
        target = project / name
        assert main(["detect", detector, str(photo), "-o", str(target)]) == 0
        assert capsys.readouterr().out.endswith(f" in 1 photo: {target}\n")
        with Image.open(target) as picture, Image.open(photo) as original:
            assert picture.size == original.size
        assert list(target.parent.glob("*.json")) == []
    for name, photos, more, message in (
        ("f.jpg", project / "photos", [], "one picture, but 3 photos"),
        ("f.webp", photo, [], r"results cannot be written as '\.webp'"),
        ("f.json", photo, [], r"results cannot be written as '\.json'"),
        ("f.PDF", photo, [], r"results cannot be written as '\.pdf'"),
        ("f.webm", photo, [], r"a video cannot be written in this format"),
        ("f.jpg", photo, ["--no-pictures"], "a picture, but no pictures are wanted"),
        ("photos/photo0.png", photo, [], "the picture would replace the photo"),
    ):
        assert main(["detect", detector, str(photos), "-o", str(project / name), *more]) == 2
        assert re.search(message, failure(capsys))
        assert not (project / name).exists() or name == "photos/photo0.png"
    (project / "run.jpg").mkdir()  # a folder is a folder, whatever its name
    assert main(["detect", detector, str(photo), "-o", str(project / "run.jpg")]) == 0
    assert (project / "run.jpg" / "detections.json").exists()
    monkeypatch.chdir(project)
    assert main(["detect", detector, str(photo), "-o", "run1.5"]) == 0
    assert (project / "run1.5" / "detections.json").exists()


def test_bases_lists_what_there_is_to_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bases"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("ssd_resnet50_fpn_640"))
    for fact in ("640x640", "32.8 M", "34.3 [2]", "244 MB", " yes ", "Apache-2.0", "ResNet-50"):
        assert fact in row
    assert any("[2] https://" in line for line in lines)
    assert any("CC BY 4.0" in line for line in lines)
    assert lines[-1] == "without --base fewbox starts from: ssd_resnet50_fpn_640"


def test_bases_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bases", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["yolox_nano"]["coco_ap"] == 25.8
    assert entries["starter"]["at_hand"]
    assert not entries["yolox_x"]["at_hand"]


def test_where_memory_is_full_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> int:
        raise MemoryError

    monkeypatch.setattr("fewbox.commands.check.run_check", fail)
    assert main(["check", "photos"]) == 2
    assert (
        capsys.readouterr().err == "error: there is not enough memory\nhint: end other programs that use it\n"
    )


def test_an_empty_command_line_changes_no_default() -> None:
    parsed = build_parser().parse_args(["finetune", "photos", "--boxes", "b.csv", "-o", "d.safetensors"])
    assert all(getattr(parsed, name) == value for name, value in vars(FinetuneConfig()).items())


def edit_boxes(project: Path, change: str) -> None:
    path = project / "photos" / "boxes.json"
    document = json.loads(path.read_text())
    box = document["annotations"][1]["bbox"]
    if change == "degenerate":
        box[2] = -5
    elif change == "outside":
        box[0] = 500
    elif change == "no box":
        del document["annotations"][1]
        document["images"][1].pop("reviewed", None)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("degenerate", "photo1.png: box 1: "),
        ("outside", "photo1.png: box 1: lies outside the photo"),
        ("no box", "1 of 3 photos has no boxes and is not marked as reviewed: photo1.png"),
    ],
)
def test_wrong_boxes(project: Path, capsys: pytest.CaptureFixture[str], change: str, says: str) -> None:
    edit_boxes(project, change)
    assert run_finetune(project) == 2
    assert says in failure(capsys)
    assert not (project / "d.safetensors").exists()


@pytest.mark.slow
def test_photos_nobody_looked_at_can_be_left_out(project: Path) -> None:
    edit_boxes(project, "no box")
    assert run_finetune(project, "--reviewed-only") == 0


def test_missing_photo(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "photos" / "photo2.png").unlink()
    assert run_finetune(project) == 2
    assert "photo2.png" in failure(capsys)


@pytest.mark.slow
def test_unreadable_photo(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = project / "photos" / "photo2.png"
    photo.write_bytes(photo.read_bytes()[:2000])
    assert run_finetune(project) == 2
    assert "photo2.png" in failure(capsys)


def test_two_photos_with_one_name_are_told_apart(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = project / "more"
    twin.mkdir()
    shutil.copy(project / "photos" / "photo1.png", twin)
    assert run_finetune(project, photos=(twin,)) == 2
    assert "1 of 4 photos has no boxes and is not marked as reviewed: more/photo1.png" in failure(capsys)


@pytest.mark.slow
def test_boxes_that_were_drawn_need_no_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, output = project / "photos", project / "d.safetensors"
    command = ["finetune", str(photos), "-o", str(output), "--recipe", "seed", "--steps", "1"]
    assert main(command) == 2
    assert "annotations.json: no such file\nhint: draw boxes with: fewbox annotate" in failure(capsys)
    (photos / "boxes.json").rename(photos / "annotations.json")
    assert main(command) == 0
    assert output.exists()
    assert main([command[0], str(project), *command[1:]]) == 2
    assert "name them: --boxes FILE" in failure(capsys)


def test_what_a_recipe_does_not_heed_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = ["--boxes", str(project / "photos" / "boxes.json"), "-o", str(project / "d.safetensors")]
    for options, says in (
        (["--steps", "500"], "steps is a setting of seed, not of the recipe best"),
        (["--recipe", "seed", "--effort", "long"], "effort is a setting of best"),
        (["--recipe", "seed", "--keep-classes"], "the recipe seed does not keep the base's classes"),
    ):
        assert main(["finetune", str(project / "photos"), *boxes, *options]) == 2
        assert says in failure(capsys)
    boxes[-1] = str(project / "detector")
    assert main(["finetune", str(project / "photos"), *boxes]) == 2
    assert "detector: no ending says what to write\nhint: use a name that ends in one of" in failure(capsys)


def test_that_fewer_photos_are_held_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = make_photos(tmp_path, 3).images
    paths = [image.path for image in images]
    for number in range(7):
        paths.append(shutil.copy(images[0].path, tmp_path / f"again{number}.png"))
    photos = AnnotationSet.from_arrays(paths, [[(1, 2, 30, 40)]] * len(paths), "square")
    assert len(_held_out(photos, 0.4, 0)[1]) == 2
    assert "held out: 2 of 10 photos, not 40%: photos that look alike stay" in capsys.readouterr().err
    assert len(_held_out(photos[:3], 0.34, 0)[1]) == 1
    assert capsys.readouterr().err == ""


def test_a_class_of_which_all_photos_are_held_out_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    duck, cup = make_photos(tmp_path, 2)
    again = [shutil.copy(duck.path, tmp_path / f"again{number}.png") for number in range(2)]
    photos = AnnotationSet.from_arrays([duck.path, *again], [[(1, 2, 30, 40)]] * 3, "duck")
    photos += AnnotationSet.from_arrays([cup.path], [[(1, 2, 30, 40)]], "cup")
    taught, apart = _held_out(photos, 0.25, 0)
    assert (len(taught), len(apart)) == (3, 1)
    assert "held out: all photos with cup: nothing is learnt of it; add" in capsys.readouterr().err
    _held_out(photos[2:], 0.5, 0)
    assert "nothing is learnt of it" in capsys.readouterr().err, "two photos, one of each class"
    _held_out(AnnotationSet.from_arrays([duck.path, cup.path], [[(1, 2, 30, 40)]] * 2, "square"), 0.5, 0)
    assert capsys.readouterr().err == ""


def test_what_is_named_twice_is_joined_or_refused_and_never_forgotten(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parse = build_parser().parse_args
    deep = ["finetune-deep", "p", "--base", "b", "-o", "d"]
    for command, option in (
        (["finetune", "p", "-o", "d"], "--negatives"),
        (deep, "--negatives"),
        (deep, "--held-out"),
        (["check", "p"], "--test"),
        (["export", "d", "f"], "--photos"),
        (["bases"], "--download"),
    ):
        parsed = parse([*command, option, "a", "b", option, "c"])
        assert getattr(parsed, option.strip("-").replace("-", "_")) == ["a", "b", "c"]
        assert not getattr(parse(command), option.strip("-").replace("-", "_"))
    for command, option in (
        (["finetune", "p", "-o", "d"], "--boxes"),
        (["evaluate", "d", "p"], "--boxes"),
        (["check", "p"], "--test-boxes"),
        (["export", "d", "f"], "--boxes"),
        (deep, "--held-out-boxes"),
    ):
        assert main([*command, option, "a.csv", option, "b.csv"]) == 2
        assert f"{option} was given twice: a.csv, b.csv\nhint: make one file" in failure(capsys)


def test_unknown_base_lists_the_known_ones(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_finetune(project, "--base", "resnet") == 2
    message = failure(capsys)
    assert "resnet: no base model of this name and no such file" in message
    assert "ssd_resnet50_fpn_640" in message


def test_the_page_does_not_open_on_an_unknown_base(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["annotate", str(project / "photos"), "--base", "resnet", "--no-browser", "--port", "0"]) == 2
    assert "resnet: no base model of this name and no such file" in failure(capsys)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("annotate photos --frames 5 --base gone", "--frames is for a film, not for photos"),
        ("bases --download starter --json", "--json is for the list, not for --download"),
        (
            "finetune-deep photos --base yolox_s -o d.safetensors --held-out-boxes b.json",
            "--held-out-boxes are those of --held-out",
        ),
    ],
)
def test_options_that_would_change_nothing_are_refused(
    command: str,
    says: str,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    assert main(command.split()) == 2
    assert says in failure(capsys)


def test_outputs_that_cannot_be_written_are_refused_before_the_work(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_finetune(project, "-o", str(project / "d.pth")) == 2
    assert "d.pth: cannot be written as '.pth'" in failure(capsys)
    (project / "file").write_text("")
    assert run_finetune(project, "-o", str(project / "file" / "d.safetensors")) == 2
    assert "d.safetensors: cannot be written" in failure(capsys)
    (project / "d.safetensors").mkdir()
    assert run_finetune(project, "-o", str(project / "d.safetensors")) == 2
    assert "d.safetensors: cannot be written: it is a folder\nhint: name a file" in failure(capsys)
    arguments = ["detect", "missing.safetensors", str(project / "photos"), "-o", str(project / "out")]
    assert main([*arguments, "--gif", str(project / "film.mp4")]) == 2
    assert "film.mp4: cannot be written as '.mp4'" in failure(capsys)
    photo = project / "photos" / "photo.gif"
    Image.new("RGB", (80, 60)).save(photo)
    before = photo.read_bytes()
    assert main([*arguments, "--gif", str(photo)]) == 2
    assert "photo.gif: the animation would replace the photo" in failure(capsys)
    assert photo.read_bytes() == before


@pytest.mark.parametrize(
    "command",
    [
        "finetune photos --boxes photos/boxes.json --base mine.onnx -o mine.onnx",
        "finetune photos --boxes photos/boxes.json --base mine.onnx -o same.onnx",
        "finetune-deep photos --boxes photos/boxes.json --base mine.onnx -o mine.onnx",
        "export mine.onnx -o ./mine.onnx",
        "export duck.safetensors --base mine.onnx -o mine.onnx",
        "export --base mine.onnx -o mine.onnx",
        "annotate photos --base mine.onnx -o mine.onnx",
    ],
)
def test_the_file_that_is_read_is_not_written_over(
    command: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    Path("mine.onnx").write_bytes(b"a base")
    Path("same.onnx").hardlink_to("mine.onnx")
    assert main(command.split()) == 2
    assert "would replace the file that is read\nhint: choose another name" in failure(capsys)
    assert Path("mine.onnx").read_bytes() == b"a base"


def test_wrong_setting(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_finetune(project, "--learning-rate", "-1") == 2
    assert "learning_rate must be a number from 1e-08 to 10: -1.0" in failure(capsys)


@pytest.mark.slow
def test_corrupt_archive_and_truncated_shard(
    project: Path, capsys: pytest.CaptureFixture[str], golden_archive: Path
) -> None:
    corrupt = project / "corrupt.tar.gz"
    corrupt.write_bytes(golden_archive.read_bytes()[:1_000_000])
    assert run_finetune(project, "--base", str(corrupt)) == 2
    assert "corrupt.tar.gz" in failure(capsys)

    with tarfile.open(golden_archive) as tar:
        tar.extractall(project, filter="data")
    (folder,) = project.glob("ssd_*")
    shard = next(folder.rglob("*.data-*"))
    with shard.open("rb+") as file:
        file.truncate(60_000_000)
    assert run_finetune(project, "--base", str(folder)) == 2
    assert "ckpt-0.data-00000-of-00001" in failure(capsys)

    config = folder / "pipeline.config"
    config.write_text(config.read_text().replace("  ssd {", "  faster_rcnn {"))
    assert run_finetune(project, "--base", str(folder)) == 2
    assert "model.faster_rcnn: not a supported kind of model" in failure(capsys)
    bases = cached_base_path("x").parent
    assert {path.name for path in bases.iterdir()} == {"ssd_resnet50_fpn_640.safetensors"}


@pytest.mark.slow
@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="only root can make a disk of a given size"
)
def test_full_disk(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = project / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not allow a disk of a given size to be mounted")
    try:
        assert run_finetune(project, "-o", str(disk / "d.safetensors")) == 2
        assert "d.safetensors: no space left on the disk" in failure(capsys)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_ctrl_c_while_the_commands_are_being_imported() -> None:
    program = """
import runpy, sys
class CtrlC:
    def find_spec(self, name, *_):
        if name == "fewbox.commands.detect":
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
runpy.run_module("fewbox.cli", run_name="__main__")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 130
    assert ended.stderr == "stopped; nothing half-written is left behind\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as a terminal sends them")
def test_ctrl_c_leaves_no_half_file(project: Path, request: pytest.FixtureRequest) -> None:
    (project / "d.safetensors").write_text("kept")
    command = [sys.executable, "-m", "fewbox.cli", "finetune", str(project / "photos")]
    command += ["--boxes", str(project / "photos" / "boxes.json"), "-o", str(project / "d.safetensors")]
    process = subprocess.Popen(
        [*command, "--recipe", "seed", "--steps", "100000"], stderr=subprocess.PIPE, text=True
    )
    request.addfinalizer(process.kill)
    assert process.stderr is not None
    while "step 10 of" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "stopped; nothing half-written is left behind"
    assert "Traceback" not in err
    assert sorted(path.name for path in project.iterdir()) == ["d.safetensors", "photos"]
    assert (project / "d.safetensors").read_text() == "kept"


@pytest.mark.slow
def test_photos_held_out_are_evaluated_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, boxes = str(DEMO_FOLDER / "train"), tmp_path / "boxes.json"
    write_coco(demo_photos()[0], boxes)
    output = tmp_path / "duck.safetensors"
    command = ["finetune", photos, "--boxes", str(boxes), "--effort", "quick"]
    assert main([*command, "--hold-out", "40%", "-o", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "not learnt from: 2 photos" in printed
    assert "COCO AP" in printed
    assert (tmp_path / "duck_report.html").stat().st_size > 10_000
    assert len(Detector.load(output).provenance["photos"]) == 3
    assert main([*command, "-o", str(output)]) == 0
    assert not (tmp_path / "duck_report.html").exists(), "it is of the detector before"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_boxes_of_one_photo_alone_are_learnt_and_nothing_is_evaluated(
    project: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    coco = project / "photos" / "boxes.json"
    boxes = json.loads(coco.read_text())
    boxes["images"] = [image | {"reviewed": True} for image in boxes["images"]]
    boxes["annotations"] = boxes["annotations"][:1]
    coco.write_text(json.dumps(boxes))
    assert run_finetune(project, "--hold-out", "50%", "--seed", str(seed), "-o", str(project / "d.onnx")) == 0
    told = capsys.readouterr()
    assert "without a box: nothing to evaluate on" in told.err
    assert "not evaluated: no box in the photos held out" in told.out
    assert not (project / "d_report.html").exists()


@pytest.mark.slow
def test_files_beside_a_detector_stay_until_there_is_another(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("d.safetensors", "d_held_out.jpg", "d_report.html", "d_loss.png")
    for name in names:
        (project / name).write_text("kept")

    def full_disk(*_arguments: object, **_options: object) -> None:
        raise OutputError("no space left on the disk")

    with monkeypatch.context() as patch:
        patch.setattr(Detector, "save", full_disk)
        assert run_finetune(project, "--recipe", "probe", "--effort", "quick", "--steps", "100") == 2
    assert "no space left on the disk" in failure(capsys)
    assert [(project / name).read_text() for name in names] == ["kept"] * 4

    assert run_finetune(project, "--recipe", "probe", "--effort", "quick", "--steps", "100") == 0
    assert Image.open(project / "d_held_out.jpg").size[0] > 400
    told = f"{project / 'd_report.html'}: left as it is: it does not say that fewbox has written it"
    assert told in capsys.readouterr().err
    assert (project / "d_report.html").read_text() == "kept"


@pytest.mark.parametrize("is_own", [pytest.param(True, marks=pytest.mark.slow), False])
def test_of_files_beside_the_detector_before_only_those_of_fewbox_are_removed(
    tmp_path: Path, is_own: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture and a page that were called so by chance were gone."""
    folder = tmp_path / "out"
    folder.mkdir()
    picture, report, output = (folder / f"d{name}" for name in ("_held_out.jpg", "_report.html", ".onnx"))
    if is_own:
        save_picture(Image.new("RGB", (9, 9)), picture)
        save_report(evaluation_of(make_photos(tmp_path, count=4)), report, title="d" * 200 + ".onnx")
    else:
        Image.new("RGB", (9, 9)).save(picture)
        report.write_text("<!doctype html><title>my own</title>")
    output.write_text("a detector")
    made: Any = SimpleNamespace(history=[{"step": 1, "total": 1.0}], provenance={})
    _tell_written(made, output)
    names = {"d.onnx", "d_loss.png"} | ({picture.name, report.name} if not is_own else set())
    assert {path.name for path in folder.iterdir()} == names
    assert capsys.readouterr().err.count(": left as it is: ") == (0 if is_own else 2)


@pytest.mark.slow
def test_what_cannot_be_written_beside_a_detector_is_a_remark(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("d_held_out.jpg", "d_report.html", "d_loss.png"):
        (project / name).mkdir()
    quick = ("--recipe", "probe", "--effort", "quick", "--steps", "100")
    assert run_finetune(project, *quick, "--hold-out", "40%") == 0
    told = capsys.readouterr()
    assert f"wrote {project / 'd.safetensors'} (" in told.out
    assert "not learnt from: " in told.out
    assert "d_report.html: cannot be written" in told.err
    assert "d_loss.png: cannot be written" in told.err


def test_a_refused_run_leaves_no_folder(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = project / "found"
    assert main(["detect", str(project / "none.safetensors"), str(project / "photos"), "-o", str(found)]) == 2
    assert "none.safetensors: no such file" in capsys.readouterr().err
    assert not found.exists()


@pytest.mark.parametrize("share", ["0", "100%", "1.5", "some", "nan"])
def test_a_share_that_leaves_nothing_is_refused(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["finetune", "photos", "-o", "d.safetensors", "--hold-out", share])
    assert ended.value.code == 2
    assert "a share between 0% and 100%, such as 20%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message", "which"),
    [
        ("detect", "required: DETECTOR, PHOTOS", "fewbox detect"),
        ("fly", "invalid choice: 'fly'", "fewbox"),
        ("show duck.onnx --treshold 1", "unrecognized arguments: --treshold 1", "fewbox show"),
        ("annotate photos --port 99999", "a port is from 0 to 65535: 99999", "fewbox annotate"),
        ("serve duck.onnx --port -1", "a port is from 0 to 65535: -1", "fewbox serve"),
    ],
)
def test_a_wrong_command_line_is_a_line_and_a_hint(
    command: str, message: str, which: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(command.split())
    what, hint = capsys.readouterr().err.splitlines()
    assert what.startswith("error: ")
    assert message in what
    assert hint == f"hint: {which} --help says what it takes"


@pytest.mark.parametrize("named", [[], ["a.onnx", "-o", "b.onnx"]])
def test_an_export_has_one_name(named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "duck.safetensors", *named]) == 2
    assert "one file to write is needed" in capsys.readouterr().err


def test_an_export_may_be_named_as_in_other_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for named in (["duck.txt"], ["-o", "duck.txt"]):
        assert main(["export", "duck.safetensors", *named]) == 2
        assert "duck.txt: cannot be written" in capsys.readouterr().err
