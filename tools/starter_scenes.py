"""The photos that the starter base learns from, rendered once into a folder.

A scene is two files, ``scene_000012.jpg`` and ``scene_000012.npz`` with its boxes, family ids and
characters. The boxes are written last, so a scene that has them is complete and an interrupted
rendering goes on.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from fewbox.core.files import replacing, write_text
from fewbox.core.progress import console, progress_bar
from fewbox.errors import SettingError
from renderer.scene import is_floating, render_things
from starter_cast import GROUP_SIDE, MOST_THINGS, Character, cast_scene, play

_TOLD_EVERY = 100
_KIND_NAME = "scenes.json"


@dataclass(frozen=True)
class SceneKind:
    """What all scenes of a folder have in common.

    Attributes:
        side: of a scene, in pixels.
        seed: what they follow from, with their numbers.
        groups: how many groups of characters play in them.
        most_things: there are at most so many in one.
    """

    side: int
    seed: int
    groups: int
    most_things: int = MOST_THINGS

    @property
    def num_characters(self) -> int:
        """How many there are in all groups."""
        return self.groups * GROUP_SIDE**2


def render_scenes(folder: Path, count: int, kind: SceneKind, *, workers: int) -> None:
    """Render those of the first ``count`` scenes that ``folder`` lacks.

    Each depends on its kind and its number alone.

    Raises:
        SettingError: the folder holds scenes of another kind.
        OutputError: a file cannot be written.
    """
    _claim(folder, kind)
    missing = [number for number in range(count) if not _boxes_path(folder, number).exists()]
    if not missing:
        return
    console.print(f"{count - len(missing)} of {count} scenes are there, {len(missing)} to render")
    # One process per core is faster than threads inside numpy; read when a worker imports it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    render = partial(_render_one, folder, kind)
    context = multiprocessing.get_context("spawn")
    with (
        progress_bar("rendering", len(missing)) as advance,
        context.Pool(workers, initializer=_be_nice) as pool,
    ):
        for done, number in enumerate(pool.imap_unordered(render, missing, chunksize=4), start=1):
            advance(f"scene {number}")
            if done % _TOLD_EVERY == 0 or done == len(missing):
                console.print(f"rendered {done} of {len(missing)}")


def kind_of(folder: Path) -> SceneKind:
    """What the scenes of a folder are.

    Raises:
        SettingError: there are none.
    """
    path = folder / _KIND_NAME
    if not path.exists():
        raise SettingError(f"{folder}: no scenes", hint="render some first")
    return SceneKind(**json.loads(path.read_text(encoding="utf-8")))


def _claim(folder: Path, wanted: SceneKind) -> None:
    """Write down what the scenes of a folder are, or check that it is the same."""
    if not (folder / _KIND_NAME).exists():
        write_text(folder / _KIND_NAME, json.dumps(asdict(wanted)) + "\n")
    if (found := kind_of(folder)) != wanted:
        raise SettingError(f"{folder}: holds scenes of {found}, not of {wanted}", hint="use another folder")


def _be_nice() -> None:
    if hasattr(os, "nice"):
        os.nice(10)


def _render_one(folder: Path, kind: SceneKind, number: int) -> int:
    rng = np.random.default_rng((kind.seed, number))
    floating = is_floating(rng)
    cast = [play(rng, character, floating=floating) for character in cast_scene(rng, kind.groups)]
    scene = render_things(rng, (kind.side, kind.side), cast, floating=floating)
    characters = [thing.number for thing in scene.things if isinstance(thing, Character)]
    target = _boxes_path(folder, number)
    with replacing(target.with_suffix(".jpg")) as temporary:
        Image.fromarray(scene.image).save(temporary, format="JPEG", quality=92)
    with replacing(target) as temporary:
        np.savez(
            temporary,
            boxes=scene.boxes,
            family_ids=scene.family_ids,
            characters=np.array(characters, np.int64),
        )
    return number


def _boxes_path(folder: Path, number: int) -> Path:
    return folder / f"scene_{number:06d}.npz"
