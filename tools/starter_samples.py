"""Scenes mixed anew for every step: mirrored, zoomed, shifted, recoloured, four in one.

All scenes lie decoded in the memory of the device that learns, and whole batches are made there: a
graphics card would wait for processes that mix sample by sample. Coordinates are pixels of the mixed
sample, which is the network's input.

Letters in shapes: S scenes, N samples, W windows on scenes (one or four for each sample), M boxes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fewbox.errors import SettingError
from fewbox.models.letterbox import PADDING_GREY
from fewbox.models.network import PADDING_ID, Batch
from starter_scenes import kind_of

_MOSAICS = 0.3  # how many samples are put together from four photos
_ZOOM_ALONE = (0.7, 2.2)
_ZOOM_IN_MOSAIC = (0.45, 1.2)
_MIN_VISIBLE = 0.4  # a box that keeps less of its area shows a piece of a thing
_MIN_SIDE = 6.0  # pixels
_LOOK_SECONDS = 5.0  # between two looks for new scenes


@dataclass(frozen=True)
class CastBatch(Batch):
    """A batch that knows who is who: ``characters`` ``[N, M]``."""

    characters: Tensor


@dataclass(frozen=True)
class _Loaded:
    """A scene from the disk: pixels ``[3, side, side]`` blue first, boxes ``[M, 4]``, ids ``[2, M]``."""

    pixels: Tensor
    boxes: Tensor
    ids: Tensor


class ScenePool:
    """All scenes of a folder on a device; those rendered meanwhile join them.

    Attributes:
        pixels: ``[S', 3, side, side]`` uint8, blue first; the first :attr:`count` are filled.
        boxes: ``[S', M, 4]``.
        ids: ``[S', 2, M]`` families and characters, ``PADDING_ID`` where there is no box.
        num_characters: how many characters there are in all.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        kind = kind_of(folder)
        self.folder, self.device, self.side = folder, device, kind.side
        self.num_characters = kind.num_characters
        self.count = 0
        self._known: set[str] = set()
        self._waiting: list[_Loaded] = []
        self._hands_off = threading.Lock()
        self.pixels = torch.zeros(0, 3, self.side, self.side, dtype=torch.uint8, device=device)
        self.boxes = torch.zeros(0, kind.most_things, 4, device=device)
        self.ids = torch.full((0, 2, kind.most_things), PADDING_ID, device=device)
        self.load_new()
        self.take_in()
        if not self.count:
            raise SettingError(f"{folder}: no scenes", hint="render some first")

    def watch(self) -> None:
        """From now on load in the background what is rendered; :meth:`take_in` makes use of it."""
        threading.Thread(target=self._watch, daemon=True).start()

    def take_in(self) -> None:
        """Add the scenes that were loaded since the last call."""
        with self._hands_off:
            new, self._waiting = self._waiting, []
        if not new:
            return
        end = self.count + len(new)
        if end > len(self.pixels):
            self._grow(max(end, 2 * self.count))
        most = self.boxes.shape[1]
        boxes = torch.stack([F.pad(one.boxes, (0, 0, 0, most - len(one.boxes))) for one in new])
        ids = [F.pad(one.ids, (0, most - len(one.boxes)), value=PADDING_ID) for one in new]
        self.pixels[self.count : end] = torch.stack([one.pixels for one in new]).to(self.device)
        self.boxes[self.count : end] = boxes.to(self.device)
        self.ids[self.count : end] = torch.stack(ids).to(self.device)
        self.count = end

    def _grow(self, capacity: int) -> None:
        for name in ("pixels", "boxes", "ids"):
            old: Tensor = getattr(self, name)
            larger = old.new_empty((capacity, *old.shape[1:]))
            larger[: self.count] = old[: self.count]
            setattr(self, name, larger)

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(_LOOK_SECONDS):
            self.load_new()

    def load_new(self) -> None:
        """Read the scenes that were not there before, for the next :meth:`take_in`."""
        for path in sorted(self.folder.glob("scene_*.npz")):
            if path.name in self._known:
                continue
            self._known.add(path.name)
            scene = _load(path)
            with self._hands_off:
                self._waiting.append(scene)


def _load(path: Path) -> _Loaded:
    with np.load(path) as scene:
        boxes, ids = scene["boxes"], np.stack([scene["family_ids"], scene["characters"]])
    with Image.open(path.with_suffix(".jpg")) as photo:
        blue_first = np.asarray(photo.convert("RGB"))[..., ::-1].transpose(2, 0, 1).copy()
    return _Loaded(torch.from_numpy(blue_first), torch.from_numpy(boxes), torch.from_numpy(ids))


@dataclass(frozen=True)
class _Windows:
    """W windows, each a part of one sample that shows a part of one scene.

    Attributes:
        scenes: ``[W]`` the scene.
        scales: ``[W, 2]`` of x and y; x is negative where the scene is mirrored.
        seen: ``[W, 2]`` the point of the scene in the middle of the window, in pixels of the scene.
        rects: ``[W, 4]`` where the windows lie in their samples.
    """

    scenes: Tensor
    scales: Tensor
    seen: Tensor
    rects: Tensor

    @property
    def middles(self) -> Tensor:
        """``[W, 2]`` the middles of the windows in their samples."""
        return (self.rects[:, :2] + self.rects[:, 2:]) / 2

    def place(self, points: Tensor) -> Tensor:
        """Points ``[W, P, 2]`` of the scenes, in their samples."""
        return (points - self.seen[:, None]) * self.scales[:, None] + self.middles[:, None]


def mix(pool: ScenePool, rng: np.random.Generator, count: int, side: int) -> CastBatch:
    """A batch of ``count`` samples of ``side x side``; on one pool it depends on ``rng`` alone."""
    mosaics = round(count * _MOSAICS)
    alone = _draw_windows(rng, pool, _whole(count - mosaics, side), side, _ZOOM_ALONE)
    pieces = _draw_windows(rng, pool, _quarters(rng, mosaics, side), side, _ZOOM_IN_MOSAIC)
    matrix, offset = (torch.from_numpy(x).to(pool.device) for x in _color_changes(rng, count))
    pixels = torch.cat([_look(pool, alone, side), _put_together(_look(pool, pieces, side), pieces)])
    pixels = torch.einsum("ncd,ndhw->nchw", matrix, pixels) + offset[:, None, None, None]
    boxes, ids = zip(_boxes_in(pool, alone, 1), _boxes_in(pool, pieces, 4), strict=True)
    return _batch(pixels.clamp(0, 255).round().byte(), boxes, ids)


def _whole(count: int, side: int) -> np.ndarray:
    return np.tile(np.array([0.0, 0.0, side, side]), (count, 1))


def _quarters(rng: np.random.Generator, count: int, side: int) -> np.ndarray:
    """Four rectangles ``[4 * count, 4]`` around a random point of each sample."""
    x, y = rng.integers(side // 4, 3 * side // 4, (2, count)).astype(float)
    none, full = np.zeros(count), np.full(count, float(side))
    corners = [(none, none, x, y), (x, none, full, y), (none, y, x, full), (x, y, full, full)]
    return np.stack([np.stack(rect, -1) for rect in corners], 1).reshape(-1, 4)


def _draw_windows(
    rng: np.random.Generator, pool: ScenePool, rects: np.ndarray, side: int, zoom: tuple[float, float]
) -> _Windows:
    count = len(rects)
    scale = np.exp(rng.uniform(*np.log(zoom), count)) * side / pool.side
    mirrored = rng.choice([-1.0, 1.0], count)
    scenes = rng.integers(pool.count, size=count)
    seen = pool.side * rng.uniform(0.3, 0.7, (count, 2))
    scales = np.stack([scale * mirrored, scale], 1)
    places = (torch.from_numpy(x).to(pool.device, torch.float32) for x in (scales, seen, rects))
    return _Windows(torch.from_numpy(scenes).to(pool.device), *places)


def _color_changes(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Another saturation, contrast, brightness, colour of light: matrices ``[N, 3, 3]``, offsets ``[N]``."""
    saturation = rng.uniform(0.5, 1.4, (count, 1, 1))
    contrast = np.exp(rng.uniform(np.log(0.7), np.log(1.4), (count, 1, 1)))
    mixed = contrast * (saturation * np.eye(3) + (1 - saturation) / 3)
    light = rng.normal(1, 0.06, (count, 3, 1))
    brightness = 128 * (1 - contrast[:, 0, 0]) + rng.normal(0, 16, count)
    return (mixed * light).astype(np.float32), brightness.astype(np.float32)


def _look(pool: ScenePool, windows: _Windows, side: int) -> Tensor:
    """What the windows show, ``[W, 3, side, side]``, beyond their rectangles too.

    Nothing is smoothed when shrinking, as in the network's own preprocessing.
    """
    # A pixel of the sample is at (p - middle) / scale + seen in the scene; grid_sample counts from
    # -1 to 1 in both.
    factors = side / pool.side / windows.scales
    shifts = ((side / 2 - windows.middles) / windows.scales + windows.seen) * 2 / pool.side - 1
    theta = torch.cat([torch.diag_embed(factors), shifts[..., None]], 2)
    grid = F.affine_grid(theta, [len(theta), 3, side, side], align_corners=False)
    photos = pool.pixels[windows.scenes].float() - PADDING_GREY  # beyond the scene lies 0
    return F.grid_sample(photos, grid, align_corners=False) + PADDING_GREY


def _put_together(shown: Tensor, windows: _Windows) -> Tensor:
    """Every four of ``[4N, 3, side, side]`` in one, each in its rectangle: ``[N, 3, side, side]``."""
    at = torch.arange(shown.shape[3], device=shown.device)
    left, top, right, bottom = windows.rects.T[..., None]
    columns, rows = (at >= left) & (at < right), (at >= top) & (at < bottom)  # [4N, side]
    mask = (rows[:, :, None] & columns[:, None])[:, None]
    return (shown * mask).unflatten(0, (-1, 4)).sum(1)


def _boxes_in(pool: ScenePool, windows: _Windows, each: int) -> tuple[Tensor, Tensor]:
    """Boxes ``[N, each * M, 4]`` and ids ``[N, 2, each * M]`` of the samples that the windows make up.

    Boxes are cut at their window's border; those that lose too much are no boxes any more.
    """
    corners = pool.boxes[windows.scenes].unflatten(2, (2, 2)).flatten(1, 2)
    placed = windows.place(corners).unflatten(1, (-1, 2))  # [W, M, 2, 2]
    whole = torch.cat([placed.amin(2), placed.amax(2)], 2)
    low, high = windows.rects[:, None, :2], windows.rects[:, None, 2:]
    inside = torch.cat([whole[..., :2].clamp(low, high), whole[..., 2:].clamp(low, high)], 2)
    sides, before = inside[..., 2:] - inside[..., :2], whole[..., 2:] - whole[..., :2]
    kept = (sides.prod(2) >= _MIN_VISIBLE * before.prod(2)) & (sides >= _MIN_SIDE).all(2)
    ids = pool.ids[windows.scenes].masked_fill(~kept[:, None], PADDING_ID)
    ids = ids.unflatten(0, (-1, each)).transpose(1, 2).flatten(2)
    return inside.unflatten(0, (-1, each)).flatten(1, 2), ids


def _batch(pixels: Tensor, boxes: Sequence[Tensor], ids: Sequence[Tensor]) -> CastBatch:
    """Put samples with and without mosaic together, with no more rows than the fullest sample needs."""
    longest = max(part.shape[1] for part in boxes)
    all_boxes = torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in boxes])
    all_ids = torch.cat([F.pad(part, (0, longest - part.shape[2]), value=PADDING_ID) for part in ids])
    is_box = all_ids[:, 0] != PADDING_ID
    order = is_box.int().argsort(dim=1, descending=True, stable=True)
    order = order[:, : max(1, int(is_box.sum(1).max()))]
    families, characters = (all_ids[:, row].gather(1, order) for row in (0, 1))
    sorted_boxes = all_boxes.gather(1, order[..., None].expand(-1, -1, 4))
    return CastBatch(pixels, sorted_boxes, families, characters)
