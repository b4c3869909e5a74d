"""Rendered photos depend on their seed alone, and their boxes are those of what is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fewbox.data import DEMO_FOLDER, demo_photos
from fewbox.data.formats import read_annotations
from fewbox.errors import OutputError
from renderer import render_ducks, render_scene
from renderer.camera import Camera, look_at
from renderer.families import BIRDS, FAMILIES
from renderer.fields import box, rotation, sphere, torus
from renderer.light import Light
from renderer.materials import noise, random_materials, random_pattern, random_rotation
from renderer.room import Room
from renderer.scene import Scene, arrange, draw, is_visible, random_thing
from renderer.solids import Solid, Thing
from renderer.surroundings import random_backdrop, random_texture

SIZE_HW = (96, 128)


def floating(*things: Thing, size_hw: tuple[int, int] = SIZE_HW) -> Scene:
    """Things before a backdrop, which takes no shadow: what differs without a thing is the thing."""
    rng = np.random.default_rng(3)
    camera = Camera.looking(size_hw, view_angle=0.8, height=1.0, down=0.0, roll=0.0)
    room = Room.random(rng, camera, things, floating=True)
    return Scene(camera, Light.random(rng), room, things)


def thing(solid: Solid, x: float, z: float, scale: float = 0.3, family: str = "ball") -> Thing:
    materials = random_materials(np.random.default_rng(4))
    return Thing(solid, materials, family, position=np.float32([x, 1.0, z]), scale=scale)


def bounds(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.fixture(scope="module")
def ducks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ducks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("renderer.ducks._EMPTY_EVERY", 2)  # and not 8, or it would take seven photos more
        return folder, *render_ducks(folder, num_train=2, num_test=3, size_hw=SIZE_HW)


@pytest.mark.slow
def test_a_scene_depends_on_its_seed_alone():
    first, again, other = (render_scene(np.random.default_rng(seed), SIZE_HW) for seed in (1, 1, 2))
    assert first.image.tobytes() == again.image.tobytes()
    assert np.array_equal(first.boxes, again.boxes)
    assert np.array_equal(first.family_ids, again.family_ids)
    assert first.image.tobytes() != other.image.tobytes()


@pytest.mark.parametrize("seed", range(4))
def test_a_scene_is_a_photo_with_boxes_inside_it(seed):
    scene = render_scene(np.random.default_rng(seed), SIZE_HW)
    assert scene.image.shape == (*SIZE_HW, 3)
    assert scene.image.dtype == np.uint8
    assert scene.image.std() > 3
    assert scene.boxes.shape == (len(scene.family_ids), 4)
    assert scene.boxes.dtype == np.float32
    assert (scene.boxes[:, :2] >= 0).all()
    assert (scene.boxes[:, 2:] <= SIZE_HW[::-1]).all()
    assert (scene.boxes[:, 2:] - scene.boxes[:, :2] >= 4).all()
    assert not BIRDS & {scene.family_names[number] for number in scene.family_ids}


def test_families_can_be_chosen():
    scenes = [render_scene(np.random.default_rng(seed), SIZE_HW, families=["mug"]) for seed in range(2)]
    numbers = {int(number) for scene in scenes for number in scene.family_ids}
    assert numbers == {scenes[0].family_names.index("mug")}
    with pytest.raises(ValueError, match="unknown families: \\['unicorn'\\]"):
        render_scene(np.random.default_rng(0), SIZE_HW, families=["mug", "unicorn"])


@pytest.mark.parametrize("seed", range(6))
def test_a_box_touches_what_differs_without_its_thing(seed):
    rng = np.random.default_rng(seed)
    name = list(FAMILIES)[seed * 7]
    placed = replace(thing(FAMILIES[name](rng), 0.0, 2.0, 0.4, name), rotation=random_rotation(rng))
    scene = floating(placed)
    drawing, without = draw(scene), draw(replace(scene, things=()))
    left, top, right, bottom = drawing.boxes[0].astype(int)
    differs = np.abs(drawing.radiance - without.radiance).max(-1) > 1e-6
    for edge in (differs[top, left:right], differs[bottom - 1, left:right]):
        assert edge.any()
    for edge in (differs[top:bottom, left], differs[top:bottom, right - 1]):
        assert edge.any()
    # A pixel that a thing covers by less than half takes some of its colour and is outside.
    differs[top - 1 : bottom + 1, left - 1 : right + 1] = False
    assert not differs.any()


@pytest.mark.parametrize("seed", range(3))
def test_boxes_of_things_that_hide_each_other_are_those_of_the_pixels_they_own(seed):
    rng = np.random.default_rng(seed)
    things = [random_thing(rng, name, floating=False) for name in ("ball", "mug", "star") * 2]
    scene = arrange(rng, SIZE_HW, things, floating=False)
    drawing = draw(scene)
    assert len(scene.things) == len(drawing.boxes) == len(drawing.visible)
    for number in np.flatnonzero(drawing.visible > 0):
        assert drawing.boxes[number].tolist() == bounds(drawing.owner == number)
    assert (drawing.visible <= 1).all()


def test_a_thing_behind_another_has_no_box():
    near, far = thing(Solid(sphere(0.9)), 0.0, 2.0), thing(Solid(sphere(0.9)), 0.0, 4.0)
    drawing = draw(floating(far, near))
    assert drawing.visible.tolist() == [0, 1]
    assert is_visible(drawing).tolist() == [False, True]


def test_a_thing_that_the_border_halves_is_half_visible():
    camera = floating().camera
    edge = 2.0 * (SIZE_HW[1] / 2) / camera.focal
    drawing = draw(floating(thing(Solid(sphere(0.9)), edge, 2.0, scale=0.2)))
    assert drawing.visible[0] == pytest.approx(0.5, abs=0.06)
    assert drawing.boxes[0, 2] == SIZE_HW[1]


def test_a_ball_is_seen_where_and_as_large_as_geometry_says():
    ball = thing(Solid(sphere(1.0)), 0.1, 2.0, scale=0.25)
    scene = floating(ball, size_hw=(300, 400))
    away, focal = np.hypot(0.1, 2.0), scene.camera.focal
    sight = look_at(ball, scene.camera)
    angle = np.arcsin(0.25 / away)
    middle = np.arctan2(0.1, 2.0)
    expected = [200 + focal * np.tan(middle + side * angle) for side in (-1, 1)]
    assert [sight.columns.min(), sight.columns.max() + 1] == pytest.approx(expected, abs=1.5)
    centre = np.argmin(sight.range)
    assert sight.range[centre] == pytest.approx(away - 0.25, abs=0.005)
    np.testing.assert_allclose(sight.normals[:, centre], -sight.rays[:, centre], atol=0.02)
    assert sight.num_pixels == pytest.approx((sight.cover >= 0.5).sum())


def test_fields_are_distances():
    points = np.float32([[3, 0, 0], [0, 0, 0], [0.2, 2, 0]]).T
    np.testing.assert_allclose(sphere(1)(points), [2, -1, np.hypot(0.2, 2) - 1], rtol=1e-6)
    np.testing.assert_allclose(box(1, 1, 1, 0.0)(points), [2, -1, 1], rtol=1e-6)
    np.testing.assert_allclose(torus(1, 0.25)(points), [1.75, 0.75, np.hypot(0.8, 2) - 0.25], rtol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_makes_things_that_can_be_seen(name):
    for seed in range(2):
        rng = np.random.default_rng(seed)
        solid = FAMILIES[name](rng)
        # What lies outside the grid that samples the surface would be cut off.
        assert np.abs(solid.surface).max() < 1.28
        assert (solid.high - solid.low).max() > 0.7
        points = rng.uniform(-1.2, 1.2, (3, 200)).astype(np.float32)
        said = solid.distance(points)
        measured = np.linalg.norm(points[:, :, None] - solid.surface[:, None], axis=0).min(1)
        assert said.dtype == np.float32
        assert (said <= 1.15 * measured + 0.03).all()  # or rays would pass through it
    placed = replace(thing(solid, 0.0, 3.5, 0.8, name), rotation=rotation(1, 0.7))
    scene = floating(placed)
    drawing = draw(scene)
    assert np.isfinite(drawing.radiance).all()
    assert drawing.visible[0] == pytest.approx(1, abs=0.02)
    assert (drawing.owner == 0).sum() > 60
    columns, rows, _ = scene.camera.project(placed.surface)
    surface = [columns.min(), rows.min(), columns.max(), rows.max()]
    np.testing.assert_allclose(drawing.boxes[0], surface, atol=3)


@pytest.mark.parametrize("seed", range(6))
def test_patterns_and_textures_stay_in_range(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-2, 2, (3, 1000)).astype(np.float32)
    for share in (random_pattern(rng)(points), noise(points)):
        assert share.shape == (1000,)
        assert ((share >= 0) & (share <= 1)).all()
    for texture in (random_texture(rng), random_backdrop(rng)):
        assert texture.shape == (256, 256, 3)
        assert (texture > 0).all()
        assert (texture <= 1.5).all()


def test_ducks_are_read_back_with_the_same_boxes(ducks):
    folder, train, test = ducks
    assert read_annotations(folder / "train" / "boxes.json") == train
    assert read_annotations(folder / "test" / "boxes.json") == test


def test_ducks_are_in_every_photo_but_the_empty_ones(ducks):
    _, train, test = ducks
    assert train.labels == test.labels == ("rubber_duck",)
    assert [image.path.name for image in train] == ["duck_01.jpg", "duck_02.jpg"]
    assert all(image.boxes for image in train)
    assert [bool(image.boxes) for image in test] == [True, False, True]
    assert all(image.reviewed for image in (*train, *test))
    for image in (*train, *test):
        assert image.size_hw == SIZE_HW
        assert all(0 <= b.x1 < b.x2 <= SIZE_HW[1] and 0 <= b.y1 < b.y2 <= SIZE_HW[0] for b in image.boxes)


def test_fewer_ducks_are_the_first_of_more_and_another_seed_gives_others(ducks, tmp_path):
    folder, _, _ = ducks
    name = "test/duck_01.jpg"
    render_ducks(tmp_path / "same", num_train=0, num_test=1, size_hw=SIZE_HW)
    assert (tmp_path / "same" / name).read_bytes() == (folder / name).read_bytes()
    render_ducks(tmp_path / "other", num_train=0, num_test=1, seed=1, size_hw=SIZE_HW)
    assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


@pytest.mark.slow
def test_the_photos_in_the_package_are_those_that_are_rendered(tmp_path):
    shipped, rendered = demo_photos(), render_ducks(tmp_path, num_train=1, num_test=1)
    assert [len(photos.images) for photos in shipped] == [5, 40]
    assert [bool(image.boxes) for image in shipped[1]] == ([True] * 7 + [False]) * 5
    for theirs, ours in zip(shipped, rendered, strict=True):
        assert [replace(i, path=i.path.name) for i in theirs.images[:1]] == [
            replace(i, path=i.path.name) for i in ours
        ]
        images = [np.asarray(Image.open(s.images[0].path), np.float32) for s in (theirs, ours)]
        assert np.abs(images[0] - images[1]).mean() < 3  # what JPEG makes of noise
    assert all(image.reviewed for photos in shipped for image in photos)
    assert sum(file.stat().st_size for file in DEMO_FOLDER.rglob("*.*")) <= 2_000_000


@pytest.mark.slow
def test_ducks_that_cannot_be_written_or_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("renderer.ducks._ARRANGEMENTS", 5)
    (tmp_path / "train").write_text("not a folder")
    with pytest.raises(OutputError, match="train"):
        render_ducks(tmp_path, num_train=1, num_test=0, size_hw=SIZE_HW)
    with pytest.raises(ValueError, match="4 x 3 pixels are too small"):
        render_ducks(tmp_path / "tiny", num_train=1, num_test=0, size_hw=(3, 4))
