"""Deep fine-tuning: one process or two learn the same, and a run cut short goes on as if it had not been."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fewbox.cli import main
from fewbox.config import DeepConfig
from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats import write_coco
from fewbox.detection.detector import Detector
from fewbox.detection.drawing import save_picture
from fewbox.errors import FinetuneError, OutputError, PhotoError, SettingError
from fewbox.finetuning import samples
from fewbox.finetuning.deep import Trainer, finetune_deep
from fewbox.finetuning.samples import AugmentedDataset, batches_of, loaders_with_room
from fewbox.models import BASE_HEADER
from fewbox.models.base import STARTER_PATH, BaseModel, read_base
from fewbox.models.device import ProcessGroup
from fewbox.models.network import IGNORED_ID, PADDING_ID, Batch
from fewbox.models.weights import write_weights
from fewbox.models.yolox.loss import yolox_loss
from fewbox.models.yolox.network import make_cells
from tiny import make_base, make_photos, tiny_base
from tiny_yolox import random_yolox, tiny_yolox_config
from waiting import LONG

ALONE = ProcessGroup(0, 1, torch.device("cpu"))
NUM_PHOTOS = 6
SETTINGS = {"layers": "all", "epochs": 2, "batch_size": 4, "precision": "float32", "loaders": 0}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> AnnotationSet:
    return make_photos(tmp_path_factory.mktemp("photos"), NUM_PHOTOS)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    config = tiny_yolox_config("tiny")
    return make_base(config, random_yolox(config).state_dict())


def settings(**changes: object) -> DeepConfig:
    return DeepConfig(**(SETTINGS | changes))


@pytest.fixture
def command(tmp_path: Path, photos: AnnotationSet, base: BaseModel) -> list[str]:
    """The command and its arguments, without the output."""
    write_coco(photos, tmp_path / "boxes.json")
    header = {"name": base.name, "architecture": "yolox", "config": base.config.to_dict()}
    header |= {"weights_sha256": base.weights_sha256, "source": "", "source_sha256": "", "licence": ""}
    write_weights(tmp_path / "base.safetensors", base.weights, BASE_HEADER, header)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    folder = str(photos.images[0].path.parent)
    files = ["--boxes", str(tmp_path / "boxes.json"), "--base", str(tmp_path / "base.safetensors")]
    return ["finetune-deep", folder, *files, *options]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(command, base, tmp_path, capsys) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    assert main([*command, "-o", str(one)]) == 0
    capsys.readouterr()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, "-m", "fewbox.cli", *command, "-o", str(two)],
        env=environment, capture_output=True, text=True, timeout=LONG,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1
    losses = [read_losses(path) for path in (one, two)]
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    weights = [Detector.load(path).weights for path in (one, two)]
    moved = 0.0
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-5)
        if "cls_preds" not in name:
            moved += float(np.abs(value - base.weights[name]).sum())
    assert moved > 1
    assert not list(tmp_path.glob("*_checkpoint.pt"))
    assert (tmp_path / "two_loss.png").exists()
    assert Detector.load(two).provenance["recipe"] == "deep"


@pytest.mark.slow
def test_what_lies_beside_the_detector_before_is_removed_or_a_remark(command, tmp_path, capsys) -> None:
    former = [tmp_path / "d_report.html", tmp_path / "d_held_out.jpg"]
    former[0].write_text("<!doctype html><title>d · fewbox</title>", encoding="utf-8")
    save_picture(Image.new("RGB", (9, 9)), former[1])
    (tmp_path / "d_loss.png").mkdir()
    assert main([*command, "-o", str(tmp_path / "d.safetensors")]) == 0
    told = capsys.readouterr()
    assert f"wrote {tmp_path / 'd.safetensors'} (" in told.out
    assert "d_loss.png: cannot be written" in told.err
    assert not any(path.exists() for path in former)


@pytest.mark.slow
def test_options_for_photos_hold_for_those_held_out_too(command, tmp_path, capsys) -> None:
    (tmp_path / "apart").mkdir()
    apart = make_photos(tmp_path / "apart", 4)
    apart.images[0].path.unlink()
    boxes = tmp_path / "apart.json"
    write_coco(apart, boxes)
    told = json.loads(boxes.read_text())
    told["annotations"] = [box for box in told["annotations"] if box["image_id"] != told["images"][1]["id"]]
    told["images"][1].pop("reviewed", None)
    boxes.write_text(json.dumps(told))
    held_out = ["--held-out", str(tmp_path / "apart"), "--held-out-boxes", str(boxes)]
    output = ["-o", str(tmp_path / "d.safetensors")]
    assert main([*command, *held_out, *output]) == 2
    assert "photo0.png" in capsys.readouterr().err
    assert main([*command, *held_out, *output, "--skip-missing"]) == 2
    assert "photo1.png" in capsys.readouterr().err
    assert main([*command, *held_out, *output, "--skip-missing", "--reviewed-only"]) == 0


def read_losses(detector: Path) -> list[float]:
    lines = detector.with_name(f"{detector.stem}_checkpoint.jsonl").read_text().splitlines()
    return [json.loads(line)["total"] for line in lines]


@pytest.mark.slow
def test_it_learns(photos, tmp_path, capsys) -> None:
    starter = read_base(STARTER_PATH)  # random weights would have too much else to learn first
    base = replace(starter, config=replace(starter.config, size_hw=(160, 160)))
    config = settings(layers="neck", epochs=12, learning_rate=0.005)
    detector = finetune_deep(photos, base, tmp_path / "c.pt", ALONE, config=config, held_out=photos)
    losses = [row["total"] for row in detector.history]
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3])
    printed = capsys.readouterr().err
    assert (
        len(re.findall(r"epoch \d+ of 12, loss [\d.]+, AP [\d.]+, AP50 [\d.]+ on photos held out", printed))
        == 12
    )
    last = float(printed.rpartition("AP50 ")[2].split()[0])
    assert last > 90
    assert "held out: 6 of 6 photos seem to be ones it learnt from" in printed
    assert detector.threshold != 0.5
    found = [detector.detect(image.path) for image in photos]
    assert sum(len(some) == 1 for some in found) >= NUM_PHOTOS - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layers", "learnt"),
    [("towers", {"head"}), ("neck", {"head", "neck"}), ("all", {"head", "neck", "backbone"})],
)
def test_only_the_chosen_layers_learn(photos, base, tmp_path, layers, learnt) -> None:
    detector = finetune_deep(
        photos, base, tmp_path / "c.pt", ALONE, config=settings(layers=layers, epochs=1), show_progress=False
    )
    changed = {
        "head" if name.startswith("head") else "backbone" if name.startswith("backbone.backbone") else "neck"
        for name, value in detector.weights.items()
        if "cls_preds" not in name and not np.array_equal(value, base.weights[name])
    }
    assert changed == learnt
    statistics = [name for name in base.weights if "running" in name]
    assert statistics
    assert all(np.array_equal(detector.weights[name], base.weights[name]) for name in statistics)


@pytest.mark.slow
def test_a_run_cut_short_goes_on_as_if_it_had_not_been(photos, base, tmp_path) -> None:
    whole = finetune_deep(photos, base, tmp_path / "w.pt", ALONE, config=settings(), show_progress=False)
    trainer = Trainer(photos, base, settings(), ALONE)
    trainer.train_step(next(trainer.batches()))
    trainer.save(tmp_path / "c.pt")
    again = finetune_deep(photos, base, tmp_path / "c.pt", ALONE, config=settings(), show_progress=False)
    assert again.history == whole.history
    for name, value in whole.weights.items():
        assert np.array_equal(again.weights[name], value)
    with pytest.raises(
        SettingError, match=r"c\.pt: of a run with other photos or boxes, another base or other settings"
    ):
        finetune_deep(photos, base, tmp_path / "c.pt", ALONE, config=settings(seed=1))


@pytest.mark.slow
def test_a_checkpoint_of_other_classes_or_boxes_is_of_another_run(photos, base, tmp_path) -> None:
    one_more = replace(photos, labels=(*photos.labels, "other"))
    Trainer(one_more, base, settings(), ALONE).save(tmp_path / "c.pt")
    first, *others = photos.images
    moved = replace(first, boxes=tuple(replace(box, x1=box.x1 + 1) for box in first.boxes))
    for changed in (
        replace(one_more, labels=one_more.labels[::-1]),
        replace(one_more, images=(moved, *others)),
    ):
        with pytest.raises(SettingError, match="of a run with other photos or boxes"):
            Trainer(changed, base, settings(), ALONE).resume_from(tmp_path / "c.pt")
    Trainer(one_more, base, settings(), ALONE).resume_from(tmp_path / "c.pt")
    Trainer(one_more, base, settings(loaders=3), ALONE).resume_from(tmp_path / "c.pt")
    other = replace(base, config=replace(base.config, norm_epsilon=2 * base.config.norm_epsilon))
    with pytest.raises(SettingError, match="another base or other settings"):
        Trainer(one_more, other, settings(), ALONE).resume_from(tmp_path / "c.pt")


def test_a_checkpoint_of_photos_that_have_changed_is_of_another_run(base, tmp_path) -> None:
    photos = make_photos(tmp_path, 2)
    Trainer(photos, base, settings(), ALONE).save(tmp_path / "c.pt")
    path = photos.images[0].path
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(SettingError, match="of a run with other photos"):
        Trainer(photos, base, settings(), ALONE).resume_from(tmp_path / "c.pt")


def test_a_full_disk_is_told_and_the_checkpoint_before_stays(photos, base, tmp_path, monkeypatch) -> None:
    trainer, checkpoint = Trainer(photos, base, settings(), ALONE), tmp_path / "c.pt"
    trainer.save(checkpoint)
    before = checkpoint.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"c\.pt: no space left on the disk"):
        trainer.save(checkpoint)
    assert checkpoint.read_bytes() == before


@pytest.mark.slow
def test_a_batch_of_several_epochs_ends_at_the_last(photos, base, tmp_path, capsys) -> None:
    config = settings(epochs=3, batch_size=4 * NUM_PHOTOS)
    finetune_deep(photos, base, tmp_path / "c.pt", ALONE, config=config)
    assert "epoch 3 of 3" in capsys.readouterr().err


def test_loaders_without_room_leave_reading_to_the_process_that_trains(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(samples, "_SHARED", tmp_path)
    room = 5 * 16 * 3 * 640 * 640 * 4  # of two loaders, each two batches ahead, and the one in use
    for free, left in ((room, 2), (room - 1, 0)):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(samples.shutil, "disk_usage", lambda _, usage=usage: usage)
        assert loaders_with_room(2, (640, 640), 16, show=True) == left
    assert "--shm-size=413m" in capsys.readouterr().err.replace("\n", "")
    assert loaders_with_room(0, (640, 640), 16, show=True) == 0
    monkeypatch.setattr(samples, "_SHARED", tmp_path / "none")
    assert loaders_with_room(2, (640, 640), 16, show=True) == 2


class Dying(AugmentedDataset):
    def __getitem__(self, number: int) -> None:
        os._exit(1)


@pytest.mark.slow
def test_a_loader_that_ends_is_told_with_the_cure(photos) -> None:
    dataset = Dying(photos, random_yolox(tiny_yolox_config()), 0)
    with pytest.raises(FinetuneError, match=r"reads photos has failed(.|\n)*--loaders 0"):
        list(batches_of(dataset, [[0]], loaders=1, pin_memory=False))


def test_a_damaged_checkpoint_is_named(photos, base, tmp_path) -> None:
    trainer, checkpoint = Trainer(photos, base, settings(), ALONE), tmp_path / "c.pt"
    trainer.save(checkpoint)
    for content in (b"", b"garbage", checkpoint.read_bytes()[:5000]):
        checkpoint.write_bytes(content)
        with pytest.raises(FinetuneError, match=r"c\.pt: not a checkpoint of this command, or damaged"):
            trainer.resume_from(checkpoint)


@pytest.mark.slow
def test_what_cannot_be_is_refused(photos, base, tmp_path) -> None:
    with pytest.raises(SettingError, match=r"multiple of the 3 processes: 4(.|\n)*--batch-size 6"):
        finetune_deep(photos, base, tmp_path / "c.pt", ProcessGroup(0, 3, ALONE.device), config=settings())
    with pytest.raises(SettingError, match="deep fine-tuning is for a YOLOX: tiny"):
        finetune_deep(photos, tiny_base(), tmp_path / "c.pt", ALONE, config=settings())
    with pytest.raises(FinetuneError, match="the loss is not finite"):
        finetune_deep(
            photos, base, tmp_path / "c.pt", ALONE, config=settings(learning_rate=10, warm_up=0, epochs=60)
        )
    with pytest.raises(SettingError, match="layers must be one of towers, neck, all: 'some'"):
        settings(layers="some")


@pytest.mark.parametrize("loaders", [0, 1])
def test_a_photo_that_cannot_be_read_is_told_without_a_traceback(base, tmp_path, loaders) -> None:
    photos = make_photos(tmp_path, 2)
    photos.images[1].path.write_bytes(photos.images[1].path.read_bytes()[:200])
    with pytest.raises(PhotoError) as failure:
        finetune_deep(photos, base, tmp_path / "c.pt", ALONE, config=settings(loaders=loaders))
    assert failure.value.message.startswith(f"{photos.images[1].path}: the photo is damaged or incomplete")
    assert failure.value.hint
    assert "Traceback" not in str(failure.value)


def test_samples_follow_from_their_number(photos) -> None:
    network = random_yolox(tiny_yolox_config())
    one, other = AugmentedDataset(photos, network, 5), AugmentedDataset(photos, network, 5)
    later = other[NUM_PHOTOS + 1]
    for number in range(NUM_PHOTOS + 2):
        last = one[number]
    assert all(np.array_equal(a, b) for a, b in zip(last, later, strict=True))
    assert not np.array_equal(one[0][0], AugmentedDataset(photos, network, 6)[0][0])
    assert one[0][0].shape == (3, 64, 96)
    names = [one[n][0].sum().item() for n in range(NUM_PHOTOS)]
    assert len(set(names)) == NUM_PHOTOS


def test_boxes_to_ignore_are_neither_learnt_nor_background(photos) -> None:
    ignored = replace(
        photos,
        images=tuple(replace(i, boxes=tuple(replace(b, ignore=True) for b in i.boxes)) for i in photos),
    )
    network = random_yolox(tiny_yolox_config())
    batch = Batch.of([AugmentedDataset(ignored, network, 0)[n] for n in range(3)])
    assert set(batch.class_ids.unique().tolist()) <= {IGNORED_ID, PADDING_ID}
    cells = make_cells((64, 96))
    whole = torch.tensor([[[0.0, 0.0, 96.0, 64.0]]])
    logits = torch.zeros(1, len(cells), 2)
    everything = Batch(torch.zeros(1, 3, 64, 96), whole, torch.tensor([[IGNORED_ID]]))
    loss = yolox_loss(torch.zeros(1, len(cells), 4), logits, cells, everything)
    assert (loss.total.item(), loss.num_matched.item()) == (0, 0)
    nothing = replace(everything, class_ids=torch.tensor([[PADDING_ID]]))
    loss = yolox_loss(torch.zeros(1, len(cells), 4), logits, cells, nothing)
    assert loss.object.item() == pytest.approx(len(cells) * 0.6931, rel=1e-3)
    learnt = replace(everything, boxes=torch.tensor([[[30.0, 20, 60, 50]]]), class_ids=torch.tensor([[0]]))
    loss = yolox_loss(torch.zeros(1, len(cells), 4), logits, cells, learnt)
    assert loss.num_matched.item() >= 1
    assert loss.box.item() > 0


def test_the_step_size_rises_and_falls() -> None:
    config = settings(learning_rate=1.0, warm_up=0.1)
    rates = [config.rate_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] == pytest.approx(0.05, abs=0.01)
