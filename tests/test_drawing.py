"""A drawing shows the box where it is, its tag in full, and leaves everything else as it was."""

from __future__ import annotations

import errno
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageFont

from fewbox.detection import tags
from fewbox.detection.drawing import class_color, contact_sheet, draw_boxes, save_gif, save_picture
from fewbox.errors import OutputError
from orientations import orientation

HEIGHT, WIDTH = 120, 200


def grey(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def drawn(
    image: np.ndarray, *boxes: tuple[float, ...], tag: str = "", class_id: int = 0, **options
) -> np.ndarray:
    tags, class_ids = [tag] * len(boxes), [class_id] * len(boxes)
    return np.asarray(draw_boxes(image, np.reshape(boxes, (-1, 4)), tags, class_ids, **options))


def is_color(pixels: np.ndarray, class_id: int = 0) -> np.ndarray:
    return (pixels == class_color(class_id)).all(-1)


def tag_pixels(text: str, class_id: int = 0) -> np.ndarray:
    """How the tag looks where there is room for it, cut out of a drawing."""
    box = (20.0, 60.0, 120.0, 100.0)
    without, with_tag = (drawn(grey(), box, tag=tag, class_id=class_id) for tag in ("", text))
    rows, columns = np.nonzero((without != with_tag).any(-1))
    return with_tag[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def contains(picture: np.ndarray, part: np.ndarray) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(picture[..., 2], part.shape[:2])
    return bool((windows == part[..., 2]).all((2, 3)).any())


def test_a_line_runs_along_every_edge_and_the_rest_is_untouched():
    picture = drawn(grey(), (30, 20, 150, 90))
    line = is_color(picture)
    for on_edge in (line[50, 28:32], line[50, 148:152], line[18:22, 80], line[88:92, 80]):
        assert on_edge.any()
    assert (picture[26:84, 36:144] == 128).all()
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[16:94, 26:154] = False
    assert (picture[outside] == 128).all()


def test_the_input_stays_as_it_is():
    image = grey()
    image.flags.writeable = False
    before = image.copy()
    assert (drawn(image, (10, 10, 90, 90), tag="duck 97%") != before).any()
    assert np.array_equal(image, before)


def test_no_boxes_give_the_photo_itself():
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    assert np.array_equal(draw_boxes(image, np.zeros((0, 4)), [], []), image)
    assert np.array_equal(draw_boxes(image, [], [], []), image)


@given(
    box=st.tuples(*[st.floats(-300, 400, width=32) for _ in range(4)]),
    size_hw=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    tag=st.sampled_from(["", "d", "rubber_ducky 97%"]),
    dashed=st.booleans(),
)
def test_any_box_can_be_drawn_on_any_picture(box, size_hw, tag, dashed):
    x1, y1, x2, y2 = box
    ordered = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    assert drawn(grey(*size_hw), ordered, tag=tag, dashed=[dashed]).shape == (*size_hw, 3)


def test_a_box_partly_outside_is_cut_off_at_the_border():
    line = is_color(drawn(grey(), (-50.5, 40.2, 60.7, 300.0)))
    assert line[60:, 0].all()
    assert line[-1, :55].all()
    assert line[38:43, 20].any()


def test_a_box_wholly_outside_is_not_drawn():
    assert np.array_equal(drawn(grey(), (WIDTH, 10, WIDTH + 20, 30), (-9, 0, 0, 9), tag="duck"), grey())


def test_a_box_of_one_pixel_can_be_seen():
    assert is_color(drawn(grey(), (50, 60, 51, 61)))[59:62, 49:52].any()


def test_a_box_of_the_whole_picture_is_framed_on_all_sides():
    line = is_color(drawn(grey(), (0, 0, WIDTH, HEIGHT)))
    assert line[0].all()
    assert line[-1].all()
    assert line[:, 0].all()
    assert line[:, -1].all()


def test_a_grey_thumbnail_becomes_a_colour_picture():
    picture = draw_boxes(np.full((30, 40), 90, np.uint8), [[5, 5, 30, 25]], ["duck 97%"], [0])
    assert picture.mode == "RGB"
    assert is_color(np.asarray(picture)).any()


def test_a_dashed_line_has_gaps():
    solid, dashed = (is_color(drawn(grey(), (30, 20, 150, 90), dashed=[flag])) for flag in (False, True))
    assert 0.3 < dashed.sum() / solid.sum() < 0.8
    assert solid[dashed].all()


@pytest.mark.parametrize(("width", "height"), [(15, 8), (30, 14), (9, 60), (40, 40)])
def test_what_is_in_a_small_box_is_seen(width: int, height: int) -> None:
    """In a large picture, whose lines are wide."""
    x, y = 700, 300
    plain = grey(800, 1600)
    changed = (drawn(plain, (x, y, x + width, y + height)) != plain).any(-1)
    assert changed[y, x : x + width].all()
    inside = changed[y : y + height, x : x + width]
    assert inside.mean() < 0.7  # 0.9 and more with the lines of a large box
    assert not inside[height // 2, width // 3 : -(width // 3)].any()


def test_lines_and_letters_grow_with_the_photo():
    def columns_of_line_and_rows_of_tag(scale: int) -> tuple[int, int]:
        box = (20 * scale, 60 * scale, 180 * scale, 110 * scale)
        picture = is_color(drawn(grey(HEIGHT * scale, WIDTH * scale), box, tag="d"))
        tag = picture[: 60 * scale - 4 * scale, 22 * scale]
        return picture[85 * scale, : 100 * scale].sum(), tag.sum()

    small, large = columns_of_line_and_rows_of_tag(4), columns_of_line_and_rows_of_tag(16)
    assert 3 < large[0] / small[0] < 5
    assert 3 < large[1] / small[1] < 5


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 40, 30),
        (WIDTH - 40, 0, WIDTH, 30),
        (0, HEIGHT - 30, 40, HEIGHT),
        (WIDTH - 40, HEIGHT - 30, WIDTH, HEIGHT),
        (0, 0, WIDTH, HEIGHT),
        (-30, -30, 5, 5),
        (WIDTH - 1, HEIGHT - 1, WIDTH + 9, HEIGHT + 9),
    ],
)
def test_a_tag_is_whole_wherever_its_box_is(box):
    assert contains(drawn(grey(), box, tag="rubber_ducky 97%"), tag_pixels("rubber_ducky 97%"))


def test_tags_of_boxes_that_crowd_do_not_hide_each_other():
    boxes = [(60 + 4 * i, 50 + 3 * i, 120 + 4 * i, 80 + 3 * i) for i in range(3)]
    tags = ["first 97%", "second 90%", "third 80%"]
    picture = np.asarray(draw_boxes(grey(), boxes, tags, [0, 1, 2]))
    assert all(contains(picture, tag_pixels(tag, class_id)) for class_id, tag in enumerate(tags))


def test_one_text_is_the_tag_of_all_boxes():
    boxes = [(10, 20, 50, 60), (90, 20, 130, 60)]
    assert draw_boxes(grey(), boxes, "duck") == draw_boxes(grey(), boxes, ["duck", "duck"])
    assert draw_boxes(grey(), boxes, "a\nb\r") == draw_boxes(grey(), boxes, "a b")


def test_tags_hide_no_other_box():
    """A tag above the second box, as of old, would hide the first one."""
    boxes = [(40, 30, 100, 45), (40, 47, 100, 62), (40, 64, 100, 79)]
    without, tagged = (draw_boxes(grey(), boxes, [tag] * 3, [0, 1, 2]) for tag in ("", "duck 97%"))
    for left, top, right, bottom in boxes:
        inside = (left, top, right, bottom)
        assert not ImageChops.difference(without.crop(inside), tagged.crop(inside)).getbbox()
    assert all(contains(np.asarray(tagged), tag_pixels("duck 97%", class_id)) for class_id in range(3))


def test_many_boxes_stay_visible_and_some_have_tags():
    grid = [(x, y, x + 24, y + 24) for y in range(4, 600, 40) for x in range(4, 600, 40)]
    picture = grey(640, 640)
    without, tagged = (draw_boxes(picture, grid, [tag] * len(grid), None) for tag in ("", "pill 97%"))
    changed = np.asarray(ImageChops.difference(without, tagged)).any(-1)
    assert changed.any()
    assert max(changed[y1:y2, x1:x2].mean() for x1, y1, x2, y2 in grid) <= 0.25


def test_where_tags_would_cover_much_of_a_picture_all_are_small():
    rows = [(8, y, 40, y + 30) for y in range(20, 620, 48)]
    areas = []
    for boxes in (rows[:1], rows):
        tags = ["a rather long name of a thing 97%"] * len(boxes)
        without, tagged = (draw_boxes(grey(640, 640), boxes, texts) for texts in ([""] * len(boxes), tags))
        areas.append(np.asarray(ImageChops.difference(without, tagged)).any(-1).sum() / len(boxes))
    assert areas[0] > 2 * areas[1] > 0


def test_of_boxes_in_one_place_the_first_is_on_top():
    picture = np.asarray(draw_boxes(grey(), [(30, 30, 90, 90)] * 2, ["", ""], [1, 0]))
    assert is_color(picture, 1).any()
    assert not is_color(picture, 0).any()


def test_a_tag_wider_than_the_picture_is_cut_short():
    picture = drawn(grey(60, 50), (5, 30, 45, 55), tag="a very long name of a thing 97%")
    assert is_color(picture)[:25].any()
    assert (picture[:10] == 128).all()


@pytest.mark.parametrize("class_id", range(7))
def test_text_stands_out_from_its_tag(class_id):
    def luminance(color: np.ndarray) -> float:
        return float(((np.asarray(color) / 255) ** 2.2) @ [0.2126, 0.7152, 0.0722])

    pixels = tag_pixels("HHH", class_id).reshape(-1, 3)
    ink = max(pixels, key=lambda pixel: abs(luminance(pixel) - luminance(class_color(class_id))))
    dark, light = sorted([luminance(ink), luminance(class_color(class_id))])
    assert (light + 0.05) / (dark + 0.05) > 4.5  # WCAG AA


def test_the_colours_of_seven_classes_differ():
    assert len({class_color(class_id) for class_id in range(7)}) == 7
    assert class_color(7) == class_color(0)


def test_letters_beyond_ascii_are_drawn():
    unknown = tag_pixels("\U0010ffff")
    for letter in "éñüßłУπ":
        shown = tag_pixels(letter)
        assert shown.shape != unknown.shape or (shown != unknown).any(), letter


def test_arrays_pillow_images_and_paths_give_the_same_pictures(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    path = tmp_path / "lying.png"  # as a phone stores it, with the note to turn it
    Image.fromarray(np.rot90(image)).save(path, exif=orientation(6))
    given = (image, Image.fromarray(image), path, str(path), Image.open(path))
    assert len({contact_sheet([one], 1, 100).tobytes() for one in given}) == 1
    assert len({draw_boxes(one, [(5, 5, 30, 25)], ["duck"], [0]).tobytes() for one in given}) == 1
    for number, one in enumerate(given):
        save_gif([one], str(tmp_path / f"{number}.gif"))
    assert (tmp_path / "0.gif").read_bytes() == (tmp_path / "1.gif").read_bytes()


def test_boxes_without_classes_have_one_colour():
    boxes = [(10, 10, 60, 60), (80, 10, 150, 60)]
    assert draw_boxes(grey(), boxes, ["a", "b"]) == draw_boxes(grey(), boxes, ["a", "b"], [0, 0])


def test_an_east_asian_label_asks_for_a_font_that_has_it(monkeypatch):
    asked = []
    original = ImageFont.truetype

    def truetype(font, size):
        asked.append(str(font))
        return original(font, size)

    tags._font.cache_clear()
    monkeypatch.setattr(ImageFont, "truetype", truetype)
    drawn(grey(), (20, 60, 90, 100), tag="duck")
    assert asked[0].endswith("DejaVuSans.ttf")
    drawn(grey(), (20, 60, 90, 100), tag="鸭子 97%")
    assert asked[1] == "NotoSansCJK-Regular.ttc"


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"boxes must be \[M, 4\]: \[4\]"):
        draw_boxes(grey(), [1, 2, 3, 4], ["a"], [0])
    with pytest.raises(ValueError, match="1 box, 0 tags, 1 class id"):
        draw_boxes(grey(), [[1, 2, 3, 4]], [], [0])
    for wrong in ([0.9], np.array([0.9]), None):
        with pytest.raises(ValueError, match="tags must be texts"):
            draw_boxes(grey(), [[1, 2, 3, 4]], wrong)
    with pytest.raises(ValueError, match="boxes must be finite"):
        draw_boxes(grey(), [[1, 2, math.nan, 4]], ["a"])


@pytest.mark.parametrize(
    "one",
    [
        np.zeros((9, 8, 3), np.uint8),
        np.zeros((9, 8), np.uint8),
        "photo.jpg",
        Path("a.jpg"),
        Image.new("L", (9, 8)),
    ],
)
def test_one_picture_is_not_taken_for_several(one, tmp_path):
    for show in (contact_sheet, lambda pictures: save_gif(pictures, tmp_path / "a.gif")):
        with pytest.raises(ValueError, match=r"pictures must be several, .* write \[picture\]"):
            show(one)
    batch = np.zeros((4, 30, 40, 3), np.uint8)
    assert contact_sheet(batch, 2, 40).size == contact_sheet(list(batch), 2, 40).size
    assert contact_sheet(batch[..., 0], 2, 40).size == contact_sheet(batch, 2, 40).size


def plain(*colors: str, size: tuple[int, int] = (80, 60)) -> Iterator[Image.Image]:
    return (Image.new("RGB", size, color) for color in colors)


def test_a_contact_sheet_shows_every_picture_once():
    sheet = contact_sheet(plain("red", "lime", "blue", "red", "lime"), columns=2, tile_width=100)
    colors = {color: count for count, color in sheet.getcolors()}
    assert [colors[color] for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))] == [15000, 15000, 7500]
    assert 200 < sheet.width < 240
    assert 225 < sheet.height < 260


def test_a_contact_sheet_takes_pictures_of_all_shapes():
    shapes = [(10, 300), (300, 10), (1, 1), (640, 480)]
    sheet = contact_sheet([Image.new("L", shape) for shape in shapes], tile_width=64)
    assert sheet.mode == "RGB"
    assert sheet.width < 64 * 5


def test_captions_lie_below_their_pictures_and_within_their_columns():
    pictures = list(plain("red", "blue"))
    with_text = contact_sheet(pictures, 2, 100, ["a caption far too long for its narrow column", "ok"])
    without = contact_sheet(pictures, 2, 100, ["", ""])
    left, top, right, bottom = ImageChops.difference(with_text, without).getbbox()
    assert top > 75
    assert (with_text.width, with_text.height) == (without.width, without.height)
    assert left >= 4
    assert right < with_text.width
    assert bottom < with_text.height
    assert (np.asarray(with_text)[80:, 105:109] == 255).all()


@pytest.mark.parametrize("width", [120, 200, 300])
def test_of_a_caption_with_a_name_the_name_is_cut(width: int) -> None:
    font = tags.font_for("a", 11)
    cut = tags.caption_to_width("frame_000_t0s_0232.jpg: 5 of 12 found", font, width)
    assert font.getlength(cut) <= width
    assert cut.startswith("f")
    assert cut.endswith(": 5 of 12 found")
    assert ("…" in cut) == (width < 300)
    assert tags.caption_to_width(f"a: {'what ' * 30}", font, width).endswith("…")


def test_a_very_narrow_picture_is_shown_a_pixel_wide(tmp_path: Path):
    for size_wh in ((5000, 3), (3, 5000)):
        narrow = Image.new("RGB", size_wh, "red")
        sheet = contact_sheet([narrow, Image.new("RGB", (50, 50))], columns=2, tile_width=100)
        red = np.asarray(sheet)[:, :108, 0] > np.asarray(sheet)[:, :108, 1]
        assert red.sum() == 100
        save_gif([Image.new("RGB", (100, 80)), narrow], tmp_path / "a.gif")
        with Image.open(tmp_path / "a.gif") as animation:
            animation.seek(1)
            assert (np.asarray(animation.convert("RGB")) > 100).any()


@pytest.mark.parametrize(("pictures", "captions"), [([], None), (list(plain("red")), ["a", "b"])])
def test_a_contact_sheet_needs_pictures_and_a_caption_for_each(pictures, captions):
    with pytest.raises(ValueError, match="pictures"):
        contact_sheet(pictures, captions=captions)


@pytest.mark.parametrize("name", ["a.jpg", "b.JPEG", "new/folder/c.png"])
def test_a_picture_is_saved_as_its_name_says(tmp_path, name):
    picture = draw_boxes(grey(), [(30, 30, 90, 90)], ["duck 97%"], [0])
    save_picture(picture, tmp_path / name)
    with Image.open(tmp_path / name) as saved:
        assert saved.format == ("PNG" if name.endswith("png") else "JPEG")
        assert np.abs(np.asarray(saved).astype(int) - np.asarray(picture)).mean() < 2


def test_a_picture_with_transparency_can_be_a_jpeg(tmp_path):
    save_picture(Image.new("RGBA", (8, 8), "red"), tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").stat().st_size > 0


def test_an_unknown_suffix_is_refused_with_those_that_work(tmp_path):
    with pytest.raises(OutputError, match=r"found\.bmp.*'\.bmp'\nhint: .*\.jpg, \.jpeg, .*\.png"):
        save_picture(next(plain("red")), tmp_path / "found.bmp")
    with pytest.raises(OutputError, match=r"found\.mp4.*'\.mp4'\nhint: .*\.gif"):
        save_gif(plain("red"), tmp_path / "found.mp4")
    assert not list(tmp_path.iterdir())


def test_an_animation_does_not_replace_one_of_its_photos(tmp_path):
    save_gif(plain("red", "lime"), tmp_path / "a.gif")
    Image.new("RGB", (80, 60)).save(tmp_path / "b.png")
    before = (tmp_path / "a.gif").read_bytes()
    for names in (["a.gif", "b.png"], ["b.png", "a.gif"]):
        with pytest.raises(OutputError, match=r"a\.gif: the animation would replace the photo"):
            save_gif([tmp_path / name for name in names], tmp_path / "a.gif")
        with pytest.raises(OutputError, match=r"a\.gif: the animation would replace the photo"):
            save_gif([f"file://{tmp_path / name}" for name in names], tmp_path / "a.gif")
    assert (tmp_path / "a.gif").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_gif_shows_every_frame_for_its_time_and_repeats(tmp_path):
    save_gif(plain("red", "lime", "blue"), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["loop"], gif.size) == (3, 0, (80, 60))
        for index, color in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
            gif.seek(index)
            assert gif.info["duration"] == 200
            assert gif.convert("RGB").getpixel((40, 30)) == color


def test_gif_frames_of_other_sizes_are_fitted_to_the_first(tmp_path):
    pictures = [Image.new("RGB", (1280, 640), "red"), Image.new("RGB", (300, 600), "blue")]
    save_gif(pictures, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.size == (640, 320)
        gif.seek(1)
        second = gif.convert("RGB")
    assert second.getpixel((320, 160)) == (0, 0, 255)
    assert second.getpixel((20, 160)) == (0, 0, 0)


def test_a_small_bright_thing_keeps_its_colour_in_a_gif(tmp_path):
    photo = np.random.default_rng(0).integers(0, 120, (240, 320, 3), dtype=np.uint8)
    photo[100:120, 100:120] = (250, 220, 30)
    save_gif([Image.fromarray(photo), Image.fromarray(photo[::-1])], tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        patch = np.asarray(gif.convert("RGB"))[102:118, 102:118]
    assert np.abs(patch.mean((0, 1)) - (250, 220, 30)).max() < 10


@pytest.mark.parametrize("frames_per_second", [0, -1, 51])
def test_a_gif_needs_pictures_and_a_sensible_speed(tmp_path, frames_per_second):
    with pytest.raises(ValueError, match="frames_per_second"):
        save_gif(plain("red"), tmp_path / "a.gif", frames_per_second=frames_per_second)
    with pytest.raises(ValueError, match="at least one picture"):
        save_gif([], tmp_path / "a.gif")


@pytest.mark.parametrize("save", [save_picture, lambda picture, target: save_gif([picture], target)])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch, save, failure):
    target = tmp_path / ("a.jpg" if save is save_picture else "a.gif")
    target.write_bytes(b"the old picture")

    def half(_image: Image.Image, path: Path, **_options: object) -> None:
        path.write_bytes(b"half a pic")
        raise failure

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OutputError if isinstance(failure, OSError) else KeyboardInterrupt):
        save(next(plain("red")), target)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_bytes() == b"the old picture"


def test_importing_the_module_imports_nothing_slow():
    code = "import sys, fewbox.detection; print({'torch', 'matplotlib'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
