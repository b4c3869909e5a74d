"""The photos that the starter base learns from, rendered once into a folder.

A scene is two files, ``scene_000012.jpg`` and ``scene_000012.npz`` with its boxes and family ids. The
boxes are written last, so a scene that has them is complete and an interrupted rendering goes on.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from goldeneye.data.rendered import render_scene
from goldeneye.errors import SettingError
from goldeneye.files import replacing, write_text
from goldeneye.progress import console, progress_bar

_TOLD_EVERY = 100


def render_scenes(folder: Path, count: int, *, side: int, seed: int, workers: int) -> None:
    """Render those of the first ``count`` scenes that ``folder`` lacks.

    Each depends on the seed and its number alone.

    Raises:
        SettingError: the folder holds scenes of another size or seed.
        OutputError: a file cannot be written.
    """
    _claim(folder, {"side": side, "seed": seed})
    missing = [number for number in range(count) if not _boxes_path(folder, number).exists()]
    if not missing:
        return
    console.print(f"{count - len(missing)} of {count} scenes are there, {len(missing)} to render")
    # One process per core is faster than threads inside numpy; read when a worker imports it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    render = partial(_render_one, folder, side, seed)
    context = multiprocessing.get_context("spawn")
    with (
        progress_bar("rendering", len(missing)) as advance,
        context.Pool(workers, initializer=_be_nice) as pool,
    ):
        for done, number in enumerate(pool.imap_unordered(render, missing, chunksize=4), start=1):
            advance(f"scene {number}")
            if done % _TOLD_EVERY == 0 or done == len(missing):
                console.print(f"rendered {done} of {len(missing)}")


def _claim(folder: Path, wanted: dict[str, int]) -> None:
    """Write down what the scenes of a folder are, or check that it is the same."""
    path = folder / "scenes.json"
    if not path.exists():
        write_text(path, json.dumps(wanted) + "\n")
    found = json.loads(path.read_text(encoding="utf-8"))
    if found != wanted:
        raise SettingError(f"{folder}: holds scenes of {found}, not of {wanted}", hint="use another folder")


def _be_nice() -> None:
    if hasattr(os, "nice"):
        os.nice(10)


def _render_one(folder: Path, side: int, seed: int, number: int) -> int:
    scene = render_scene(np.random.default_rng((seed, number)), (side, side))
    target = _boxes_path(folder, number)
    with replacing(target.with_suffix(".jpg")) as temporary:
        Image.fromarray(scene.image).save(temporary, format="JPEG", quality=92)
    with replacing(target) as temporary:
        np.savez(temporary, boxes=scene.boxes, family_ids=scene.family_ids)
    return number


def _boxes_path(folder: Path, number: int) -> Path:
    return folder / f"scene_{number:06d}.npz"
