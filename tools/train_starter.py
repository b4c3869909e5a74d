"""Make the starter base: a small YOLOX that has seen nothing but scenes this project renders itself.

    python tools/train_starter.py render WORK --scenes 3000 --processes 2
    python tools/train_starter.py train WORK --minutes 10 --batch-size 256
    python tools/train_starter.py export WORK starter.safetensors
    python tools/train_starter.py evaluate starter.safetensors

``render`` and ``train`` may be killed at any time and go on where they were when started again.
``train`` takes its settings from the command line each time, so that a run can be made longer.
``export`` may be called while ``train`` runs, and ``render`` may still run too: what is new is learnt
from as soon as it is there. A graphics card is used if there is one;
``OMP_NUM_THREADS`` says how many cores to use if there is none.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from fewbox.errors import FewboxError
from fewbox.models.base import BASE_HEADER, read_base
from fewbox.models.weights import hash_weights, write_weights
from fewbox.models.yolox.network import YoloxDetector
from renderer import render_ducks
from starter_fewshot import few_shot_score, real_ducks
from starter_scenes import SceneKind, render_scenes
from starter_training import CHECKPOINT_NAME, TrainSettings, learnt_weights, train

DUCKY = Path(__file__).resolve().parents[2] / "shared/data/ducky"

_SCENES = "scenes"  # in the work folder


def export(checkpoint: Path, target: Path, *, side: int, num_classes: int) -> None:
    """Write the averaged weights of a checkpoint as a base model, for inputs of ``side``.

    Batch-norms are folded first: the variances of raw pixels do not fit into float16, kernels do.

    Raises:
        OutputError: the file cannot be written.
    """
    config, weights = learnt_weights(checkpoint, num_classes)
    network = YoloxDetector(replace(config, size_hw=(side, side)))
    network.load_state_dict(weights)
    network.fold()
    half = {name: value.half().contiguous().numpy() for name, value in network.state_dict().items()}
    sha256 = hash_weights(half)
    header = {
        "name": "starter",
        "architecture": network.architecture,
        "config": network.config.to_dict(),
        "weights_sha256": sha256,
        "source": "tools/train_starter.py of fewbox, on rendered scenes",
        "source_sha256": sha256,
        "licence": "Apache-2.0",
    }
    write_weights(target, half, BASE_HEADER, header)


def evaluate(path: Path, *, seeds: int) -> None:
    """Print what five photos of ducks make of a base, for rendered ducks and for real ones."""
    base = read_base(path)
    with tempfile.TemporaryDirectory() as folder:
        tasks = {"rendered ducks": render_ducks(Path(folder))}
        if DUCKY.is_dir():
            tasks["real ducks"] = real_ducks(DUCKY)
        for name, (few, test) in tasks.items():
            scores = [few_shot_score(base, few, test, seed) for seed in range(seeds)]
            parts = [f"{name}, 5 photos, {seeds} seeds"]
            for title, values in (("AP", [s.ap for s in scores]), ("AP50", [s.ap50 for s in scores])):
                spread = statistics.stdev(values) if seeds > 1 else 0.0
                parts.append(f"{title} {statistics.mean(values):.3f} ± {spread:.3f}")
            print("  ".join(parts), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the four stages; 2 is the status of a user's error."""
    given = _parser().parse_args(arguments)
    try:
        if given.stage == "render":
            kind = SceneKind(given.side, given.seed, given.groups)
            render_scenes(given.work / _SCENES, given.scenes, kind, workers=given.processes)
        elif given.stage == "train":
            names = [field.name for field in dataclasses.fields(TrainSettings)]
            settings = TrainSettings(**{name: getattr(given, name) for name in names})
            train(given.work / _SCENES, given.work, settings, given.start)
        elif given.stage == "export":
            export(given.work / CHECKPOINT_NAME, given.target, side=given.side, num_classes=given.classes)
        else:
            evaluate(given.base, seeds=given.seeds)
    except FewboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    stages = parser.add_subparsers(dest="stage", required=True)
    render = stages.add_parser("render", help="render scenes into WORK/scenes")
    render.add_argument("work", type=Path)
    render.add_argument("--scenes", type=int, required=True, help="how many there shall be in all")
    render.add_argument("--side", type=int, default=320, help="of a scene, in pixels (%(default)s)")
    render.add_argument("--groups", type=int, default=150, help="of 25 characters (%(default)s)")
    render.add_argument("--processes", type=int, default=1, help="(%(default)s)")
    render.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    learn = stages.add_parser("train", help="train on WORK/scenes, or go on with it")
    learn.add_argument("work", type=Path)
    learn.add_argument("--start", type=Path, metavar="CHECKPOINT", help="begin with its averaged weights")
    for field in dataclasses.fields(TrainSettings):
        name, metadata = f"--{field.name.replace('_', '-')}", field.metadata
        kind = type(field.default)
        text = f"{metadata['help']} (%(default)s)"
        learn.add_argument(
            name, type=kind, default=field.default, help=text, choices=metadata["choices"] or None
        )
    write = stages.add_parser("export", help="write the averaged weights as a base model")
    write.add_argument("work", type=Path)
    write.add_argument("target", type=Path)
    write.add_argument("--side", type=int, default=416, help="of the input it will have (%(default)s)")
    write.add_argument(
        "--classes", type=int, default=96, help="how many characters it tells apart (%(default)s)"
    )
    look = stages.add_parser("evaluate", help="fine-tune on five photos of ducks, and score")
    look.add_argument("base", type=Path)
    look.add_argument("--seeds", type=int, default=3, help="how many fine-tunings (%(default)s)")
    return parser


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    sys.exit(main())
