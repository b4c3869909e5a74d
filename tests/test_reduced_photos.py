"""Large photos read smaller than they are: the same picture, upright, with its full size beside it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from exports import detector_of
from fewbox.data.images import read_image, read_reduced, read_size_hw, upright_array
from fewbox.data.photo_file import PhotoBytes
from fewbox.detection.folder import read_for_both
from fewbox.errors import PhotoError
from orientations import STORED, orientation

SUFFIXES = {
    "jpg": {"quality": 95, "subsampling": 0},
    "progressive.jpg": {"quality": 95, "subsampling": 0, "progressive": True},
    "png": {},
    "tiff": {},
    "webp": {"lossless": True},
}


def scene(width: int, height: int) -> np.ndarray:
    """A smooth picture in which no turn or flip looks like another."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.rint(np.stack([255 * x, 255 * y, 200 * (x - 0.3) ** 2 + 100 * y], -1)).astype(np.uint8)


def means(image: np.ndarray, divisor: int) -> np.ndarray:
    """The means of all whole squares of pixels."""
    h, w = image.shape[0] // divisor, image.shape[1] // divisor
    squares = image[: h * divisor, : w * divisor].reshape(h, divisor, w, divisor, 3)
    return squares.astype(float).mean((1, 3))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("value", STORED)
def test_every_orientation_and_format(tmp_path: Path, suffix: str, value: int) -> None:
    upright = scene(320, 192)
    path = tmp_path / f"a.{suffix}"
    stored = Image.fromarray(np.ascontiguousarray(STORED[value](upright)))
    stored.save(path, exif=orientation(value), **SUFFIXES[suffix])
    for divisor, enough in ((1, (97, 161)), (2, (96, 160)), (4, (48, 70)), (8, (24, 40)), (8, (1, 1))):
        read = read_reduced(path, enough)
        assert read.size_hw == (192, 320) == read_size_hw(path)
        assert read.image.shape == (192 // divisor, 320 // divisor, 3)
        np.testing.assert_allclose(read.image, means(upright, divisor), atol=4)
        assert read.scale_xyxy.tolist() == [divisor] * 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_is_what_the_whole_photo_is_made_smaller(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(scene(160, 96))
    if mode == "I;16":
        image = Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16)) * 257)
    elif mode == "LA":
        image.putalpha(Image.fromarray(scene(160, 96)[..., 1]))
        image = image.convert("LA")
    else:
        image = image.convert(mode)
    path = tmp_path / "a.tiff"
    image.save(path)
    np.testing.assert_allclose(read_reduced(path, (12, 20)).image, means(read_image(path), 8), atol=1)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_jpeg_modes(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(scene(320, 192)).convert(mode)
    image.save(tmp_path / "a.jpg", quality=95)
    whole = means(read_image(tmp_path / "a.jpg"), 4)
    np.testing.assert_allclose(read_reduced(tmp_path / "a.jpg", (48, 80)).image, whole, atol=4)


def test_photos_of_phones_that_hold_several_pictures(tmp_path: Path) -> None:
    upright = scene(320, 192)
    first = Image.fromarray(np.ascontiguousarray(STORED[6](upright)))
    path = tmp_path / "a.jpg"
    depth = Image.new("RGB", (80, 48), "red")
    first.save(path, "MPO", save_all=True, append_images=[depth], exif=orientation(6), quality=95)
    np.testing.assert_allclose(read_image(path), upright, atol=6)
    read = read_reduced(path, (48, 80))
    np.testing.assert_allclose(read.image, means(upright, 4), atol=6)
    assert read.size_hw == (192, 320)


@pytest.mark.slow
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    value=st.sampled_from(sorted(STORED)),
    enough=st.tuples(st.floats(0.5, 80), st.floats(0.5, 80)),
    suffix=st.sampled_from(["JPEG", "PNG"]),
)
@settings(max_examples=150, deadline=None)
def test_never_smaller_than_asked_and_never_another_shape(
    tmp_path_factory: pytest.TempPathFactory,
    width: int,
    height: int,
    value: int,
    enough: tuple[float, float],
    suffix: str,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"odd.{suffix}"
    stored = Image.fromarray(np.ascontiguousarray(STORED[value](scene(width, height))))
    stored.save(path, suffix, exif=orientation(value))
    read = read_reduced(path, enough)
    h, w, _ = read.image.shape
    assert read.size_hw == (height, width)
    assert h >= min(height, enough[0])
    assert w >= min(width, enough[1])
    assert any((h, w) == (-(-height // divisor), -(-width // divisor)) for divisor in (1, 2, 4, 8))
    # The box of the whole image is the box of the whole photo.
    np.testing.assert_allclose(np.array([0, 0, w, h]) * read.scale_xyxy, [0, 0, width, height], rtol=1e-6)


def test_a_large_jpeg_is_not_decoded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(scene(1600, 1200)).save(tmp_path / "a.jpg")
    sizes = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: (sizes.append(image.size), load(image))[1])
    read_reduced(tmp_path / "a.jpg", (100, 100))
    assert set(sizes) == {(200, 150)}


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_refused_at_every_size(tmp_path: Path, progressive: bool) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG", progressive=progressive)
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    for enough in ((240, 320), (30, 40)):
        with pytest.raises(PhotoError, match=r"cut\.jpg: the photo is damaged or incomplete"):
            read_reduced(tmp_path / "cut.jpg", enough)


@pytest.mark.slow
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]),
    suffix=st.sampled_from(["PNG", "TIFF", "WEBP", "BMP", "GIF"]),
    value=st.sampled_from(sorted(STORED)),
    seed=st.integers(0, 2**32 - 1),
    size_wh=st.tuples(st.integers(1, 24), st.integers(1, 24)),
)
@settings(max_examples=300, deadline=None)
def test_any_mode_orientation_and_format_gives_the_same_upright_rgb(
    tmp_path_factory: pytest.TempPathFactory,
    mode: str,
    suffix: str,
    value: int,
    seed: int,
    size_wh: tuple[int, int],
) -> None:
    keeps = {
        "PNG": {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"},
        "TIFF": {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"},
        "WEBP": {"L", "LA", "RGB", "RGBA"},
        "BMP": {"1", "L", "P", "RGB"},
        "GIF": {"1", "L", "P"},
    }
    if mode not in keeps[suffix]:
        return
    random = np.random.default_rng(seed)
    height, width = size_wh
    pixels = random.integers(0, 256, (height, width, 4), np.uint8)
    stored, expected = stored_and_expected(mode, pixels, value)
    path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    # BMP and GIF have no EXIF: what is stored is upright.
    has_exif = suffix not in ("BMP", "GIF")
    options = {"exif": orientation(value)} if has_exif else {}
    image = stored if has_exif else stored_and_expected(mode, pixels, 1)[0]
    image.save(path, suffix, lossless=True, **options)
    # Blending with white rounds, and WebP keeps the colour of what can be seen only.
    atol = 2 if mode in ("LA", "RGBA") else 1 if mode == "CMYK" else 0
    np.testing.assert_allclose(read_image(path), expected, atol=atol)
    assert read_size_hw(path) == (height, width)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(upright_array(opened), read_image(path))


def stored_and_expected(mode: str, pixels: np.ndarray, value: int) -> tuple[Image.Image, np.ndarray]:
    """What a camera stores of random pixels ``[H, W, 4]``, and what a person sees, worked out with numpy."""

    def lying(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(STORED[value](array))

    rgb, first, last = pixels[..., :3], pixels[..., 0], pixels[..., 3:]
    grey = np.repeat(first[..., None], 3, -1)
    white = 255 * (1 - last / 255)
    match mode:
        case "1":
            ink = np.where(first > 127, 255, 0).astype(np.uint8)
            image = Image.fromarray(lying(ink)).convert("1", dither=Image.Dither.NONE)
            return image, ink[..., None].repeat(3, -1)
        case "L":
            return Image.fromarray(lying(first)), grey
        case "LA":
            return Image.fromarray(lying(pixels[..., [0, 3]]), "LA"), grey * (last / 255) + white
        case "P":
            palette = np.random.default_rng(0).permutation(256).astype(np.uint8)
            image = Image.fromarray(lying(first), "P")
            image.putpalette(np.stack([palette, palette[::-1], palette], -1).tobytes())
            return image, np.stack([palette, palette[::-1], palette], -1)[first]
        case "RGB":
            return Image.fromarray(lying(rgb)), rgb
        case "RGBA":
            return Image.fromarray(lying(pixels), "RGBA"), rgb * (last / 255) + white
        case "CMYK":
            ink = 255 - pixels.astype(float)
            return Image.fromarray(lying(pixels), "CMYK"), ink[..., :3] * ink[..., 3:] / 255
        case _:
            deep = first.astype(np.uint16) * 256 + pixels[..., 1]
            return Image.fromarray(lying(deep)), grey


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["jpg", "progressive.jpg", "png"])
@pytest.mark.parametrize("tiles", [None, 2])
@pytest.mark.parametrize("picture_side", [1600, 500])
def test_a_detector_sees_the_same_whether_a_picture_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, tiles: int | None, picture_side: int
) -> None:
    """A photo of noise is not quite the same made smaller once, twice, or while it is decoded."""
    monkeypatch.setattr("fewbox.detection.folder.PICTURE_SIDE", picture_side)
    noise = np.random.default_rng(0).integers(90, 120, (901, 1301, 3), np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path, **SUFFIXES[suffix])
    detector = detector_of("yolox").with_tiles(tiles)
    enough = detector.enough_hw((901, 1301))
    file = PhotoBytes("a", path.read_bytes())
    for photo in (path, file):
        seen, drawn = read_for_both(photo, detector)
        np.testing.assert_array_equal(seen.image, read_reduced(path, enough).image)
        assert seen.size_hw == drawn.size_hw == (901, 1301)
        assert drawn.image.shape[:2] == ((901, 1301) if picture_side == 1600 else (451, 651))
