"""Make a film of rubber ducks that go to and fro, for the pictures of ``docs/video.md``.

    python tools/duck_film.py ducks.mp4        about half a minute

Nothing in it is left to chance, so that the pages can say what is counted in it.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from renderer.birds import rubber_duck, rubber_duck_materials
from renderer.camera import Camera
from renderer.fields import Floats, Y, rotation
from renderer.light import Light
from renderer.photograph import Exposure, take_photo
from renderer.room import Room
from renderer.scene import Scene, draw
from renderer.solids import Thing

SIZE_HW = (480, 854)
RATE = 10
SECONDS = 4.0
SEED = 6
# Where each duck goes, in parts of the picture: from (x, y), to (x, y), from when to when.
WAYS = (
    ((0.12, 0.42), (0.30, 0.95), (0.0, 3.5)),
    ((0.45, 0.35), (0.62, 0.90), (0.4, 4.0)),
    ((0.86, 0.95), (0.66, 0.40), (0.0, 3.6)),
    ((0.90, 0.38), (0.80, 0.45), (0.0, 4.0)),
)


def main() -> None:
    """Render every frame and write the film."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("film", type=Path)
    film = parser.parse_args().film
    rng = np.random.default_rng(SEED)
    camera = Camera.looking(SIZE_HW, math.radians(60), height=1.0, down=math.radians(38), roll=0.0)
    ducks = [Thing(rubber_duck(rng), rubber_duck_materials(rng), "rubber_duck", scale=0.11) for _ in WAYS]
    room = Room.random(rng, camera, _at(ducks, camera, 0.0), floating=False)
    light, exposure = Light.random(rng), Exposure.random(rng, scale=1.0)
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = SIZE_HW[1], SIZE_HW[0], "yuv420p"
        for number in range(int(SECONDS * RATE)):
            drawing = draw(Scene(camera, light, room, tuple(_at(ducks, camera, number / RATE))))
            # The same state of chance for every frame: the lens does not change in a film.
            photo = take_photo(np.random.default_rng(SEED), drawing.radiance, exposure)
            frame = av.VideoFrame.from_image(Image.fromarray(photo))
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _at(ducks: list[Thing], camera: Camera, time_s: float) -> list[Thing]:
    """The ducks where they are at a moment, each looking where it goes."""
    placed = []
    for duck, (begin, end, (since, until)) in zip(ducks, WAYS, strict=True):
        part = min(max((time_s - since) / (until - since), 0.0), 1.0)
        start, goal = _on_floor(camera, begin), _on_floor(camera, end)
        way = goal - start
        position = start + part * way
        position[1] = -duck.scale * float(duck.solid.low[1])
        heading = rotation(Y, math.atan2(float(way[0]), float(way[2])) - math.pi / 2)  # its beak is along x
        placed.append(replace(duck, position=position.astype(np.float32), rotation=heading))
    return placed


def _on_floor(camera: Camera, spot: tuple[float, float]) -> Floats:
    """The point of the floor, ``[3]``, that is seen at a place ``(x, y)`` in parts of the picture."""
    height, width = camera.size_hw
    ray = camera.rays(np.array([spot[1] * height]), np.array([spot[0] * width]))[:, 0]
    floor: Floats = camera.position - camera.position[1] / ray[1] * ray
    return floor


if __name__ == "__main__":
    main()
