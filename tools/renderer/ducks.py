"""The photos of the demo: rubber ducks to learn from, and photos to find them in.

Beside the ducks lie things that are easily taken for one: yellow balls, orange cones, other birds.
The photos to find them in are harder: smaller and larger ducks, several in one photo, half hidden
ones, and in every eighth there is no duck at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fewbox.core.files import replacing
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.formats import write_coco
from renderer.birds import bird, bird_materials, penguin, rubber_duck, rubber_duck_materials
from renderer.families import FAMILIES, NO_BIRDS
from renderer.fields import Y, rotation
from renderer.forms import ball, cone
from renderer.light import Light
from renderer.materials import plain, random_materials, random_rotation, rgb
from renderer.photograph import Exposure, RGBArray, take_photo
from renderer.room import Room
from renderer.scene import Drawing, Scene, draw, is_visible, place, random_camera
from renderer.solids import Thing

LABEL = "rubber_duck"
BOXES_NAME = "boxes.json"

_EMPTY_EVERY = 8
_ARRANGEMENTS = 30
_OTHER_SIZES = (0.06, 0.3)


@dataclass(frozen=True)
class _Difficulty:
    """What the photos of one set are like.

    Attributes:
        sizes: the least and greatest longer side of a duck's box, in parts of the photo's.
        duck_counts: how probable one, two, three ducks are.
        others: the least and greatest number of other things.
        max_hidden: the greatest part of a box that another thing may overlap.
        fallen: how often a duck does not stand.
    """

    sizes: tuple[float, float]
    duck_counts: tuple[float, float, float]
    others: tuple[int, int]
    max_hidden: float
    fallen: float


# Who teaches the difference shows it: each photo to learn from has other things in it.
_TRAIN = _Difficulty((0.12, 0.4), (0.6, 0.4, 0.0), others=(3, 5), max_hidden=0.1, fallen=0.0)
_TEST = _Difficulty((0.07, 0.5), (0.65, 0.25, 0.1), others=(0, 4), max_hidden=0.4, fallen=0.1)


def render_ducks(
    folder: Path,
    *,
    num_train: int = 5,
    num_test: int = 40,
    seed: int = 0,
    size_hw: tuple[int, int] = (480, 640),
    quality: int = 90,
) -> tuple[AnnotationSet, AnnotationSet]:
    """Render the photos of the demo into ``folder/train`` and ``folder/test``: photos and a file of boxes.

    Each photo depends on the seed and its number alone, so fewer photos are the first of more. ``quality``
    is that of the JPEG files, 1 to 95.

    Returns:
        What is in the photos to learn from, and in those to test on; all are reviewed.

    Raises:
        OutputError: a file cannot be written.
        ValueError: the photos are so small that no duck can be seen.
    """
    train = _render_set(folder / "train", num_train, (seed, 0), size_hw, quality, _TRAIN, empty_every=None)
    test = _render_set(folder / "test", num_test, (seed, 1), size_hw, quality, _TEST, _EMPTY_EVERY)
    return train, test


def _render_set(
    folder: Path,
    count: int,
    seed: tuple[int, int],
    size_hw: tuple[int, int],
    quality: int,
    difficulty: _Difficulty,
    empty_every: int | None,
) -> AnnotationSet:
    images = []
    for number in range(1, count + 1):
        rng = np.random.default_rng((*seed, number))
        with_ducks = empty_every is None or number % empty_every != 0
        photo, boxes = _render_photo(rng, size_hw, difficulty, with_ducks=with_ducks)
        path = folder / f"duck_{number:02d}.jpg"
        with replacing(path) as temporary:
            Image.fromarray(photo).save(temporary, format="JPEG", quality=quality, optimize=True)
        images.append(AnnotatedImage(path, size_hw, boxes, reviewed=True))
    annotations = AnnotationSet(tuple(images), (LABEL,), folder.name)
    write_coco(annotations, folder / BOXES_NAME)
    return annotations


def _render_photo(
    rng: np.random.Generator, size_hw: tuple[int, int], difficulty: _Difficulty, *, with_ducks: bool
) -> tuple[RGBArray, tuple[Box, ...]]:
    # Until every duck shows enough of itself: a hidden one without a box would teach wrong.
    for _ in range(_ARRANGEMENTS):
        scene = _arrange(rng, size_hw, difficulty, with_ducks=with_ducks)
        ducks = [number for number, thing in enumerate(scene.things) if thing.family == LABEL]
        if with_ducks and not ducks:
            continue
        drawing = draw(scene)
        if is_visible(drawing)[ducks].all():
            photo = take_photo(rng, drawing.radiance, Exposure.random(rng, scale=max(size_hw) / 480))
            return photo, _boxes_of(drawing, ducks)
    raise ValueError(f"photos of {size_hw[1]} x {size_hw[0]} pixels are too small for ducks")


def _boxes_of(drawing: Drawing, numbers: list[int]) -> tuple[Box, ...]:
    corners: list[list[float]] = drawing.boxes[numbers].tolist()
    return tuple(Box(x1, y1, x2, y2, LABEL) for x1, y1, x2, y2 in corners)


def _arrange(
    rng: np.random.Generator, size_hw: tuple[int, int], difficulty: _Difficulty, *, with_ducks: bool
) -> Scene:
    camera = random_camera(rng, size_hw, floating=False)
    num_ducks = 1 + int(rng.choice(3, p=difficulty.duck_counts)) if with_ducks else 0
    wanted = [_duck(rng, difficulty.fallen) for _ in range(num_ducks)]
    fewest, most = difficulty.others
    wanted += [_other(rng) for _ in range(rng.integers(fewest if with_ducks else 2, most + 1))]
    things: list[Thing] = []
    for thing in wanted:
        smallest, largest = difficulty.sizes if thing.family == LABEL else _OTHER_SIZES
        extent = max(size_hw) * math.exp(rng.uniform(math.log(smallest), math.log(largest)))
        placed = place(
            rng,
            camera,
            thing,
            extent,
            things,
            floating=False,
            min_inside=0.7,
            max_hidden=difficulty.max_hidden,
        )
        things += [] if placed is None else [placed]
    room = Room.random(rng, camera, things, floating=False)
    return Scene(camera, Light.random(rng), room, tuple(things))


def _duck(rng: np.random.Generator, fallen: float) -> Thing:
    upright = rotation(Y, rng.uniform(0, math.tau))
    pose = random_rotation(rng) if rng.random() < fallen else upright
    return Thing(rubber_duck(rng), rubber_duck_materials(rng), LABEL, rotation=pose)


def _other(rng: np.random.Generator) -> Thing:
    """A yellow ball, an orange cone, another bird, or anything else."""
    upright = rotation(Y, rng.uniform(0, math.tau))
    kind = rng.integers(4)
    if kind == 0:
        yellow = plain(rgb(rng.normal(0.14, 0.01), rng.uniform(0.8, 0.95), rng.uniform(0.85, 1)), gloss=0.5)
        return Thing(ball(rng), (yellow, *random_materials(rng)[1:]), "ball", rotation=upright)
    if kind == 1:
        orange = plain(rgb(rng.normal(0.05, 0.01), rng.uniform(0.85, 0.98), rng.uniform(0.85, 1)))
        return Thing(cone(rng), (orange, *random_materials(rng)[1:]), "cone", rotation=upright)
    if kind == 2:
        solid = bird(rng) if rng.random() < 0.7 else penguin(rng)
        return Thing(solid, bird_materials(rng), "bird", rotation=upright)
    name = str(rng.choice(NO_BIRDS))
    return Thing(FAMILIES[name](rng), random_materials(rng), name, rotation=upright)
