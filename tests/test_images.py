"""Photos are found in the order a person expects, and read as a person sees them."""

from __future__ import annotations

import base64
import importlib.util
import io
import struct
import sys
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, TiffImagePlugin, features

from fewbox.data import decoding, photo_file
from fewbox.data.images import (
    ReducedImage,
    find_photos,
    photo_places,
    read_image,
    read_reduced,
    read_size_hw,
    upright_array,
)
from fewbox.data.photo_file import PhotoBytes
from fewbox.data.project import Project
from fewbox.detection.drawing import save_gif, save_picture
from fewbox.errors import FewboxError, PhotoError, SettingError
from orientations import STORED, orientation

LOSSLESS = {"png": {}, "tiff": {}, "lzw.tiff": {"compression": "tiff_lzw"}, "webp": {"lossless": True}}

# 96 x 64, left half red, right half blue, to be turned right: upright it is red above blue.
HEIC = zlib.decompress(
    base64.b85decode(
        "c-muNV30{GsVvAy%}izhg51nBLl8SRGck>UfpKAOYDppk1Sn>t<P<^K3<a6VB@Af5Br_);Y>0~k0}}%yh{bpmLIXiQPz(r|OyD9a"
        "Kx~njnU@CUfn-I2oK&zfpqh-bWJ3ldK}L`g*NRNAa=wDhl3WI;N`?oS1w{ow`aotuaz2o*0P1ySWCjUM04tLF!0_kqj~@&S{LBeJ"
        "9TE<VJdFSUgA_1>R4{{(+%6`EM4+U$6C)#<%mRZ()@iRiHP_`aN%3%igie464u>S5dUhAagGC#Z9DvpcC+FuB<t67-0EKxO*cyOB"
        "BALYnsZb9m05M3JKtX0jCP;vpg9B(917~JYehJVf28qmqTv%{3GBC0>GBLBX0@+fTMX6~}alYh~;$(36f_y$ZHzg4i5!o7y>p34h"
        "_Lv<g|NrlcegFUGC13a-b+z%Czx}_Dv$X%%ytDu2?b~v?{bb71dMoSozHimfifmZKfAS;WhFRA0H7zQ`Gu4a3`gP7O`#Sf@+NT~X"
        "uXf%j`nrAN8cQwzW$V|>|GcqLHAU?0%h^-?f!47>;=$LKK?}&^U|?hv0tFS&No){T0sxDpiTV"
    )
)


@pytest.fixture
def upright() -> np.ndarray:
    """A small photo in which no turn or flip looks like another."""
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[:12, :20] = (250, 10, 10)
    pixels[:12, 20:] = (10, 250, 10)
    pixels[12:, :20] = (10, 10, 250)
    return pixels


def save(folder: Path, name: str, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.ascontiguousarray(pixels))
    image.save(folder / name, **options)
    return folder / name


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has almost no pixels."""
    return png(struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"\0" * 9)


def png(header: bytes, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))


def save_png_of_16_bits(path: Path, rgb: np.ndarray) -> None:
    height, width, _ = rgb.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)
    path.write_bytes(png(struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0), rows))


def save_tiff(path: Path, grey: np.ndarray, compression: str, white_is_0: bool) -> None:
    """A TIFF of grey in the byte order of ``grey``; Pillow reads some that it does not write."""
    order = ">" if grey.dtype.str[0] == ">" else "<"
    pixels = grey.tobytes()
    if compression == "tiff_lzw":
        with io.BytesIO() as file:  # compressed as bytes, and the bytes are what is meant
            Image.frombytes("L", (len(pixels), 1), pixels).save(file, "TIFF", compression=compression)
            file.seek(0)
            with Image.open(file) as packed:
                at, length = packed.tag_v2[273][0], packed.tag_v2[279][0]
            pixels = file.getvalue()[at : at + length]
    form = {"u": 1, "i": 2, "f": 3}[grey.dtype.kind]
    if white_is_0 and form == 2:
        form = 1
    bits, packing = 8 * grey.dtype.itemsize, 5 if compression == "tiff_lzw" else 1
    write_tiff(path, order, grey.shape, bits, packing, 0 if white_is_0 else 1, form, pixels)


def save_tiff_of_12_bits(path: Path, values: np.ndarray, white_is_0: bool) -> None:
    """Two values in three bytes, as scientific cameras pack them."""
    first, second = values.reshape(-1, 2).T
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8)
    write_tiff(path, "<", values.shape, 12, 1, 0 if white_is_0 else 1, 1, packed.tobytes())


def write_tiff(
    path: Path,
    order: str,
    size_hw: tuple[int, ...],
    bits: int,
    packing: int,
    meaning: int,
    form: int,
    data: bytes,
) -> None:
    """A TIFF of one strip, by hand (TIFF 6.0)."""
    height, width = size_hw
    short = {256: width, 257: height, 258: bits, 259: packing, 262: meaning, 277: 1, 278: height, 339: form}
    entries = {tag: struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in short.items()}
    for tag, value in ((273, 8), (279, len(data))):
        entries[tag] = struct.pack(f"{order}HHII", tag, 4, 1, value)
    table = b"".join(entries[tag] for tag in sorted(entries))
    begin = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
    path.write_bytes(begin + data + struct.pack(f"{order}H", len(entries)) + table + bytes(4))


def save_tiff_of_planes(path: Path, rgb: np.ndarray, meaning: int = 2) -> None:
    """A TIFF of 16 bits whose channels lie one after the other, as of many microscopes; 1: they are greys."""
    order = ">" if rgb.dtype.str[0] == ">" else "<"
    height, width, _ = rgb.shape
    plane, end = rgb[..., 0].nbytes, 8 + rgb.nbytes
    lists = struct.pack(f"{order}4H6I", 16, 16, 16, 0, 8, 8 + plane, 8 + 2 * plane, plane, plane, plane)
    more = [(338, 3, 2, 0)] if meaning == 1 else []
    table = struct.pack(f"{order}H", 9 + len(more))
    for tag, kind, count, value in (
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, end)),
        *((262, 3, 1, meaning), (273, 4, 3, end + 8), (277, 3, 1, 3)),
        *((278, 4, 1, height), (279, 4, 3, end + 20), (284, 3, 1, 2), *more),
    ):
        short = kind == 3 and count == 1
        table += struct.pack(f"{order}HHI" + ("H2x" if short else "I"), tag, kind, count, value)
    begin = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, end + len(lists))
    path.write_bytes(begin + rgb.transpose(2, 0, 1).tobytes() + lists + table + bytes(4))


class TestFindPhotos:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("out10.jpg", "out2.JPG", "out1.png", "notes.txt", ".hidden.jpg", "._out1.png"):
            (tmp_path / name).touch()
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "deep.jpg").touch()
        (tmp_path / "empty.jpg").mkdir()
        return tmp_path

    def names(self, found: list[Path]) -> list[str]:
        return [path.name for path in found]

    def test_a_folder_gives_its_photos_in_natural_order(self, folder: Path) -> None:
        assert self.names(find_photos(folder)) == ["out1.png", "out2.JPG", "out10.jpg"]
        assert self.names(find_photos(str(folder))) == ["out1.png", "out2.JPG", "out10.jpg"]

    def test_in_a_folder_what_is_drawn_beside_a_detector_is_no_photo(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Who works in the folder of photos has there, too, what fewbox has written."""
        photos = find_photos(folder)
        for name in ("d_loss.png", "d_held_out.jpg", "duck_loss.png"):
            Image.new("RGB", (8, 8)).save(folder / name)
        (folder / "d.safetensors").touch()
        for _ in range(2):
            assert find_photos(folder) == [folder / "duck_loss.png", *photos]
        assert capsys.readouterr().err.count("no photos: d_held_out.jpg, d_loss.png") == 1
        (folder / "duck.onnx").touch()
        assert find_photos(folder) == photos
        assert find_photos([folder / "d_loss.png", folder / "d_*.jpg"]) == [
            folder / "d_loss.png",
            folder / "d_held_out.jpg",
        ]

    def test_what_fewbox_has_drawn_is_a_photo_only_where_it_is_named(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        picture = Image.new("RGB", (8, 8))
        for name in ("out1.png", "out10.jpg"):
            picture.save(folder / name)
        photos, deep = find_photos(folder), folder / "more" / "deep.jpg"
        drawn = folder / "drawn.png"
        save_picture(picture, drawn)
        save_picture(picture, folder / "more" / "drawn.jpg")
        save_gif([picture], folder / "found.gif")
        assert find_photos(folder) == photos
        assert [Path(place) for place in photo_places(folder)] == photos
        assert Project(folder).photo_names() == self.names(photos)
        assert find_photos(folder / "**" / "*.[jp]*g") == [deep, photos[0], photos[2]]
        told = capsys.readouterr().err
        assert f"{folder}: drawn by fewbox, and no photos: drawn.png, found.gif\n" in told
        assert f"no photos: {drawn}, {folder / 'more' / 'drawn.jpg'}\n" in told
        assert find_photos([drawn, folder / "found.gif"]) == [drawn, folder / "found.gif"]
        for photo in photos:
            photo.unlink()
        for place in (folder, folder / "d*.png"):
            with pytest.raises(PhotoError, match="only pictures that fewbox has drawn") as failure:
                find_photos(place)
            assert failure.value.hint == "name one by itself to take it as a photo"
        picture.save(drawn)  # by another program, without the comment
        assert find_photos(folder) == [drawn]

    def test_patterns_may_reach_into_sub_folders(self, folder: Path) -> None:
        assert self.names(find_photos(folder / "out*")) == ["out1.png", "out2.JPG", "out10.jpg"]
        assert self.names(find_photos(folder / "**" / "*.jpg")) == ["deep.jpg", "out10.jpg"]

    def test_given_order_is_kept_and_a_photo_appears_once(self, folder: Path) -> None:
        again = folder / "more" / ".." / "out10.jpg"
        found = find_photos([again, folder, folder / "out10.jpg"])
        assert self.names(found) == ["out10.jpg", "out1.png", "out2.JPG"]

    def test_a_name_with_brackets_is_a_name_if_it_exists(self, tmp_path: Path) -> None:
        (tmp_path / "a[1].jpg").touch()
        assert self.names(find_photos(tmp_path / "a[1].jpg")) == ["a[1].jpg"]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("gone.jpg", "no such photo or folder"),
            ("notes.txt", "not a photo by its name"),
            ("empty.jpg", "no photos in this folder"),
            ("*.tif", "no photo matches"),
            ("x" * 5000, "cannot be read"),
        ],
    )
    def test_what_is_not_there_is_named(self, folder: Path, name: str, message: str) -> None:
        with pytest.raises(PhotoError, match=message) as caught:
            find_photos([folder, folder / name])
        assert name in caught.value.message

    @pytest.mark.parametrize("suffix", ["jfif", "JFIF", "jpe", "JPE", "Jif", "mpo", "hif", "apng"])
    def test_other_names_of_the_formats_that_are_read(self, tmp_path: Path, suffix: str) -> None:
        photo = tmp_path / f"a.{suffix}"
        photo.touch()
        assert find_photos(tmp_path) == find_photos(photo) == find_photos(tmp_path / "*") == [photo]

    def test_nothing_given(self) -> None:
        with pytest.raises(PhotoError, match="no photos given"):
            find_photos([])


class TestUpright:
    @pytest.mark.parametrize("suffix", LOSSLESS)
    @pytest.mark.parametrize("value", STORED)
    def test_every_orientation_is_applied_once(
        self, tmp_path: Path, upright: np.ndarray, value: int, suffix: str
    ) -> None:
        options = {"exif": orientation(value), **LOSSLESS[suffix]}
        path = save(tmp_path, f"a.{suffix}", STORED[value](upright), **options)
        np.testing.assert_array_equal(read_image(path), upright)
        assert read_size_hw(path) == (24, 40)
        with Image.open(path) as image:
            np.testing.assert_array_equal(upright_array(image), upright)
        with Image.open(path) as image:
            np.testing.assert_array_equal(upright_array(ImageOps.exif_transpose(image)), upright)

    @pytest.mark.parametrize("suffix", ["jpg", "avif"])
    @pytest.mark.parametrize("value", STORED)
    def test_lossy_formats(self, tmp_path: Path, upright: np.ndarray, value: int, suffix: str) -> None:
        if suffix == "avif" and not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        path = save(tmp_path, f"a.{suffix}", STORED[value](upright), exif=orientation(value), quality=95)
        assert np.abs(read_image(path).astype(int) - upright).mean() < 6
        assert read_size_hw(path) == (24, 40)

    def test_a_png_may_say_so_after_its_pixels(self, tmp_path: Path, upright: np.ndarray) -> None:
        path = save(tmp_path, "a.png", STORED[6](upright), exif=orientation(6))
        data = path.read_bytes()
        start = data.index(b"eXIf") - 4
        end = start + 12 + struct.unpack(">I", data[start : start + 4])[0]
        path.write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])
        np.testing.assert_array_equal(read_image(path), upright)
        assert read_size_hw(path) == (24, 40)

    @pytest.mark.parametrize("value", [0, 9, 255])
    def test_other_orientations_mean_nothing(self, tmp_path: Path, upright: np.ndarray, value: int) -> None:
        path = save(tmp_path, "a.png", upright, exif=orientation(value))
        np.testing.assert_array_equal(read_image(path), upright)
        assert read_size_hw(path) == (24, 40)

    @pytest.mark.parametrize("exif", [b"", b"garbage", b"II*\0\x08\0\0\0\xff\xff\x12\x01"])
    @pytest.mark.filterwarnings("ignore")
    def test_damaged_exif_costs_no_photo(self, tmp_path: Path, upright: np.ndarray, exif: bytes) -> None:
        path = save(tmp_path, "a.jpg", upright, exif=b"Exif\0\0" + exif)
        assert read_image(path).shape == (24, 40, 3)
        assert read_size_hw(path) == (24, 40)

    @pytest.mark.skipif(importlib.util.find_spec("pi_heif") is None, reason="needs pi_heif")
    @pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
    def test_heic_is_turned_once_whatever_its_name(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(HEIC)
        image = read_image(tmp_path / name)
        assert image.shape == (96, 64, 3)
        assert read_size_hw(tmp_path / name) == (96, 64)
        assert image[10, 32, 0] > 200
        assert image[85, 32, 2] > 200

    def test_heic_without_its_reader(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pi_heif", None)
        Image.init()
        monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
        (tmp_path / "a.heic").write_bytes(HEIC)
        with pytest.raises(PhotoError, match=r"a\.heic.*fewbox\[heic\]"):
            read_image(tmp_path / "a.heic")


class TestModes:
    def test_grey(self, tmp_path: Path) -> None:
        path = save(tmp_path, "a.png", np.array([[0, 100], [200, 255]], np.uint8))
        np.testing.assert_array_equal(read_image(path)[..., 1], [[0, 100], [200, 255]])

    def test_one_bit(self, tmp_path: Path) -> None:
        path = save(tmp_path, "a.png", Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"))
        np.testing.assert_array_equal(read_image(path), [[[0] * 3, [255] * 3]])

    def test_palette(self, tmp_path: Path, upright: np.ndarray) -> None:
        path = save(tmp_path, "a.gif", Image.fromarray(upright).quantize(8))
        np.testing.assert_array_equal(read_image(path), upright)

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    @pytest.mark.parametrize("suffix", ["png", "tiff"])
    def test_transparent_parts_are_white(self, tmp_path: Path, mode: str, suffix: str) -> None:
        image = Image.new(mode, (3, 1))
        for x, alpha in enumerate((0, 128, 255)):
            image.putpixel((x, 0), (0,) * (len(mode) - 1) + (alpha,))
        path = save(tmp_path, f"a.{suffix}", image)
        np.testing.assert_allclose(read_image(path)[0, :, 0], [255, 127, 0], atol=1)

    def test_a_transparent_palette_colour_is_white(self, tmp_path: Path, upright: np.ndarray) -> None:
        image = Image.fromarray(upright).quantize(8)
        path = save(tmp_path, "a.png", image, transparency=image.getpixel((0, 0)))
        assert read_image(path)[0, 0].tolist() == [255, 255, 255]
        assert read_image(path)[0, -1].tolist() == [10, 250, 10]

    @pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGB", (7, 7, 7))])
    def test_a_transparent_colour_is_white(self, tmp_path: Path, mode: str, colour: object) -> None:
        path = save(tmp_path, "a.png", Image.new(mode, (2, 2), colour), transparency=colour)
        assert read_image(path).min() == 255

    def test_a_transparent_grey_of_16_bits_is_white(self, tmp_path: Path) -> None:
        data = save(tmp_path, "a.png", np.array([[512, 520, 65535]], np.uint16)).read_bytes()
        body = b"tRNS" + struct.pack(">H", 520)
        chunk = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
        (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])  # behind the header
        assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [2, 255, 255]

    def test_cmyk(self, tmp_path: Path) -> None:
        path = save(tmp_path, "a.jpg", Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK"), quality=95)
        np.testing.assert_allclose(read_image(path)[8, 8], (200, 30, 60), atol=4)

    @pytest.mark.parametrize("suffix", ["png", "tiff"])
    def test_16_bit_grey_keeps_its_upper_bits(self, tmp_path: Path, suffix: str) -> None:
        path = save(tmp_path, f"a.{suffix}", np.array([[0, 255, 256, 32768, 65535]], np.uint16))
        np.testing.assert_array_equal(read_image(path)[0, :, 2], [0, 0, 1, 128, 255])

    @pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
    def test_float_grey_is_read_in_its_range(self, tmp_path: Path, white: float) -> None:
        shades = np.array([[0, 191, 255]], np.float32)
        path = save(tmp_path, "a.tiff", shades * np.float32(white / 255))
        np.testing.assert_array_equal(read_image(path)[0, :, 0], [0, 191, 255])

    def test_other_grey(self, tmp_path: Path) -> None:
        path = save(tmp_path, "a.tiff", np.array([[0, 128, 255]], np.int32))
        np.testing.assert_array_equal(read_image(path)[0, :, 0], [0, 128, 255])
        path = save(tmp_path, "a.tiff", np.array([[np.nan, 255]], np.float32))
        np.testing.assert_array_equal(read_image(path)[0, :, 0], [0, 255])
        path = save(tmp_path, "a.tiff", np.array([[-3, 70000]], np.float32))
        with pytest.raises(PhotoError, match=r"a\.tiff: .*-3 to 70000"):
            read_image(path)

    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
    @pytest.mark.parametrize("kind", ["<u1", "<u2", ">u2", "<i4", ">i4", "<f4", ">f4"])
    @pytest.mark.parametrize("white_is_0", [False, True])
    def test_tiff_says_whether_0_is_white(
        self, tmp_path: Path, kind: str, compression: str, white_is_0: bool
    ) -> None:
        shades = np.tile(np.linspace(0, 255, 40).round(), (24, 1))
        stored = 255 - shades if white_is_0 else shades
        stored = stored * {"u1": 1, "u2": 257, "i4": 257, "f4": np.float32(1 / 255)}[kind[1:]]
        path = tmp_path / "a.tiff"
        save_tiff(path, stored.astype(kind), compression, white_is_0)
        np.testing.assert_array_equal(read_image(path)[..., 0], shades)
        np.testing.assert_array_equal(read_image(PhotoBytes("a", path.read_bytes()))[..., 0], shades)
        np.testing.assert_allclose(
            read_reduced(path, (1, 1)).image[1, 1, 0], shades[8:16, 8:16].mean(), atol=1
        )

    def test_where_0_is_white_too_what_is_no_number_is_black(self, tmp_path: Path) -> None:
        save_tiff(tmp_path / "a.tiff", np.array([[np.nan, 0, 1]], "<f4"), "raw", True)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tiff")[0, :, 0], [0, 255, 0])

    @pytest.mark.parametrize("white_is_0", [False, True])
    def test_12_bit_grey_is_not_dark(self, tmp_path: Path, white_is_0: bool) -> None:
        values = np.array([[0, 16, 2048, 4095]])
        save_tiff_of_12_bits(tmp_path / "a.tiff", 4095 - values if white_is_0 else values, white_is_0)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tiff")[0, :, 0], [0, 1, 128, 255])

    @pytest.mark.parametrize("kind", ["<u2", ">u2"])
    def test_16_bit_colours_in_planes(self, tmp_path: Path, kind: str) -> None:
        rgb = np.random.default_rng(0).integers(0, 256, (24, 40, 3))
        save_tiff_of_planes(tmp_path / "a.tiff", (rgb * 257).astype(kind))
        np.testing.assert_array_equal(read_image(tmp_path / "a.tiff"), rgb)

    def test_pillow_is_left_as_it_was(self, tmp_path: Path) -> None:
        before = dict(TiffImagePlugin.OPEN_INFO)
        save_tiff(tmp_path / "a.tiff", np.zeros((4, 4), ">u2"), "raw", True)
        read_image(tmp_path / "a.tiff")
        assert before == TiffImagePlugin.OPEN_INFO

    @pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
    def test_of_an_animation_the_first_frame_is_read(self, tmp_path: Path, suffix: str) -> None:
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
        path = save(tmp_path, f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(read_image(path)[4, 4], (255, 0, 0), atol=4)

    def test_bytes_in_memory_are_read_like_the_file(self, tmp_path: Path, upright: np.ndarray) -> None:
        path = tmp_path / "turned.png"
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        Image.fromarray(upright).save(path, exif=exif)
        photo = PhotoBytes("turned.png", path.read_bytes())
        assert np.array_equal(read_image(photo), read_image(path))
        assert read_size_hw(photo) == read_size_hw(path) == (upright.shape[1], upright.shape[0])
        with pytest.raises(PhotoError, match=r"^turned\.png: .*damaged or incomplete"):
            read_image(PhotoBytes("turned.png", path.read_bytes()[:60]))
        with pytest.raises(PhotoError, match=r"^nothing: the file is empty"):
            read_image(PhotoBytes("nothing", b""))

    def test_the_array_is_the_callers_own(self, tmp_path: Path, upright: np.ndarray) -> None:
        image = read_image(save(tmp_path, "a.png", upright))
        assert image.dtype == np.uint8
        assert image.flags.writeable
        assert image.flags.c_contiguous


class TestJpegWithoutEnd:
    """All its pixels are there, or it is refused: a picture that anything else would change is not whole."""

    KINDS = (
        {"subsampling": 0},
        {"subsampling": 2},
        {"subsampling": 2, "restart_marker_rows": 1},
        {"progressive": True},
        {"progressive": True, "restart_marker_blocks": 3},
    )

    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_is_read_and_told_and_one_that_lacks_more_is_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: dict[str, object], mode: str
    ) -> None:
        colours = np.random.default_rng(3).integers(0, 256, (6, 9, 3), np.uint8)
        image = Image.fromarray(colours).resize((107, 85)).convert(mode)
        path = save(tmp_path, "a.jpg", image, quality=90, exif=orientation(6), **kind)
        data, whole = path.read_bytes(), read_image(path)
        reduced = read_reduced(path, (40, 40)).image
        capsys.readouterr()
        for left_out in (2, 1):
            cut = tmp_path / f"cut{left_out}.jpg"
            cut.write_bytes(data[:-left_out])
            np.testing.assert_array_equal(read_image(cut), whole)
            np.testing.assert_array_equal(read_reduced(cut, (40, 40)).image, reduced)
            np.testing.assert_array_equal(read_image(PhotoBytes("cut", cut.read_bytes())), whole)
            with Image.open(cut) as given:
                np.testing.assert_array_equal(upright_array(given), whole)
            told = capsys.readouterr().err.splitlines()
            assert len(told) == 1 or (mode == "CMYK" and not told)  # which Pillow may read by itself
            assert all(f"{cut}: lacks its end marker, but all its pixels are there" in line for line in told)
        for left_out in (*range(3, 16), *range(16, len(data), len(data) // 9)):
            path.write_bytes(data[:-left_out])
            try:
                read = read_image(path)
            except PhotoError:
                continue
            assert left_out <= 8  # the last bits may say nothing that is seen
            np.testing.assert_array_equal(read, whole)

    def test_one_that_lacks_whole_scans_or_restarts_is_refused(self, tmp_path: Path) -> None:
        """Cut between two parts, where nothing looks damaged."""
        path = save(tmp_path, "a.jpg", Image.new("RGB", (200, 160), "orange"), progressive=True)
        data = path.read_bytes()
        last_scan = data.rindex(b"\xff\xda")
        path.write_bytes(data[: data.rindex(b"\xff\xc4", 0, last_scan)])
        with pytest.raises(PhotoError, match="damaged or incomplete"):
            read_image(path)
        path = save(tmp_path, "a.jpg", Image.new("RGB", (200, 160), "orange"), restart_marker_rows=1)
        data = path.read_bytes()
        for mark in (0xD7, 0xD3):
            path.write_bytes(data[: data.rindex(bytes((0xFF, mark)))])
            with pytest.raises(PhotoError, match="damaged or incomplete"):
                read_image(path)


class TestDamage:
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "bmp", "gif"])
    def test_a_photo_cut_short(self, tmp_path: Path, suffix: str) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        path = save(tmp_path, f"a.{suffix}", noise)
        path.write_bytes(path.read_bytes()[:1500])
        with pytest.raises(PhotoError, match=rf"a\.{suffix}: ") as caught:
            read_image(path)
        assert caught.value.hint

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "the file is empty"),
            (b"dear diary, today I photographed a duck", "not a photo in a format"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a photo in a format"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "not a photo in a format"),
            (png_header(20_000, 20_000), "larger than 200 megapixels"),
            (png_header(40_000, 40_000), "larger than 200 megapixels"),
        ],
    )
    def test_what_is_no_photo(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "a.jpg").write_bytes(content)
        for read in (read_image, read_size_hw):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with pytest.raises(PhotoError, match=rf"a\.jpg: {message}") as caught:
                    read(tmp_path / "a.jpg")
            assert caught.value.hint

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        for path, message in ((tmp_path / "gone.jpg", "no such photo"), (tmp_path, "cannot be read")):
            with pytest.raises(PhotoError, match=message):
                read_image(path)
        with pytest.raises(PhotoError):
            read_image("a\0b.jpg")

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")
    def test_seeded_damage_is_an_error_or_a_photo(self, tmp_path: Path, upright: np.ndarray) -> None:
        random = np.random.default_rng(7)
        for suffix in ("jpg", "png", "webp", "tiff", "gif", "bmp"):
            path = save(tmp_path, f"a.{suffix}", upright)
            whole = np.frombuffer(path.read_bytes(), np.uint8)
            for _ in range(60):
                data = whole.copy()
                data[random.integers(0, min(len(data), 400), 4)] = random.integers(0, 256, 4)
                path.write_bytes(data.tobytes())
                for read in (read_image, read_size_hw):
                    try:
                        read(path)
                    except PhotoError as error:
                        assert f"a.{suffix}" in error.message  # noqa: PT017 - most of the files are readable


class TestSizes:
    def test_a_size_costs_no_pixels(
        self, tmp_path: Path, upright: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        suffixes = ("jpg", "png", "tiff", "webp", "gif", "bmp")
        paths = [save(tmp_path, f"a.{suffix}", upright) for suffix in suffixes]
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
        assert [read_size_hw(path) for path in paths] == [(24, 40)] * len(paths)

    def test_190_megapixels_are_read_without_a_warning(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(png_header(19_000, 10_000))
        before = Image.MAX_IMAGE_PIXELS
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_size_hw(tmp_path / "a.png") == (10_000, 19_000)
        assert before == Image.MAX_IMAGE_PIXELS

    def test_pillows_own_limit_comes_back(self, tmp_path: Path, upright: np.ndarray) -> None:
        good, bad = save(tmp_path, "a.png", upright), tmp_path / "b.png"
        bad.write_bytes(b"no")

        def read() -> None:
            for path in (good, bad) * 20:
                try:
                    read_image(path)
                except PhotoError:
                    continue

        before = Image.MAX_IMAGE_PIXELS
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert before == Image.MAX_IMAGE_PIXELS
        assert photo_file._photos_open == 0


class TestUprightArray:
    def test_rgb_is_handed_through(self, upright: np.ndarray) -> None:
        assert upright_array(upright) is upright

    def test_grey_and_alpha(self) -> None:
        np.testing.assert_array_equal(upright_array(np.full((2, 3), 9, np.uint8)), np.full((2, 3, 3), 9))
        clear = np.zeros((2, 3, 4), np.uint8)
        np.testing.assert_array_equal(upright_array(clear), np.full((2, 3, 3), 255))
        np.testing.assert_array_equal(clear, 0)

    @pytest.mark.parametrize(
        "wrong",
        [
            np.zeros((2, 3, 3), np.float32),
            np.zeros((3, 8, 8), np.uint8),
            np.zeros((1, 2, 3, 3), np.uint8),
            np.zeros((0, 3, 3), np.uint8),
            np.zeros(5, np.uint8),
            Image.new("RGB", (0, 4)),
        ],
    )
    def test_other_arrays_are_refused(self, wrong: object) -> None:
        with pytest.raises(PhotoError, match="an image") as caught:
            upright_array(wrong)
        assert caught.value.hint or isinstance(wrong, Image.Image)

    def test_a_damaged_pillow_image(self, upright: np.ndarray) -> None:
        buffer = io.BytesIO()
        Image.fromarray(upright).save(buffer, "PNG")
        with pytest.raises(PhotoError, match="image: the photo is damaged"):
            upright_array(Image.open(io.BytesIO(buffer.getvalue()[:70])))


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "tiff"])
def test_xmp_turns_no_photo_as_it_does_in_no_browser(
    tmp_path: Path, upright: np.ndarray, suffix: str
) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("needs a Pillow with AVIF")
    more: dict[str, object] = {"xmp": XMP.encode()}
    if suffix == "png":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP)
        more = {"pnginfo": text}
    elif suffix == "tiff":
        more = {"tiffinfo": {700: XMP.encode()}}
    photo = save(tmp_path, f"a.{suffix}", upright, **more)
    plain = save(tmp_path, f"plain.{suffix}", upright)
    assert read_size_hw(photo) == upright.shape[:2]
    assert np.array_equal(read_image(photo), read_image(plain))
    with Image.open(photo) as image:  # which Pillow has been asked about
        assert image.getexif()[0x0112] == 6
        assert np.array_equal(upright_array(image), read_image(plain))
    stated = (
        {"tiffinfo": {700: XMP.encode(), 274: 3}} if suffix == "tiff" else more | {"exif": orientation(3)}
    )
    turned = read_image(save(tmp_path, f"turned.{suffix}", upright, **stated))
    assert turned[-1, 0, 1] > 200  # what was in the upper right corner
    assert turned.shape == upright.shape


@pytest.mark.shared
def test_real_photos(shared: Path) -> None:
    photos = find_photos(shared / "data" / "ducky" / "test")
    assert [path.name for path in photos[:3]] == ["out1.jpg", "out2.jpg", "out3.jpg"]
    assert len(photos) == 49
    assert read_image(photos[0]).shape == (*read_size_hw(photos[0]), 3) == (540, 960, 3)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_grey_of_twelve_bits_in_sixteen_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(decoding, "_told", set())
    grey = np.linspace(0, 4095, 60).reshape(6, 10).astype(np.uint16)
    paths = [tmp_path / f"{number}{suffix}" for number in range(2)]
    for path in paths:
        Image.fromarray(grey).save(path)
        assert read_image(path).max() == 15
    assert capsys.readouterr().err.count("almost black") == 1
    monkeypatch.setattr(decoding, "_told", set())
    colours = np.stack([grey] * 3, axis=-1)
    save_colours = {".tif": save_tiff_of_planes, ".png": save_png_of_16_bits}[suffix]
    save_colours(paths[0], colours)
    assert read_image(paths[0]).max() == 15
    assert capsys.readouterr().err.count("almost black") == 1
    monkeypatch.setattr(decoding, "_told", set())
    save_colours(paths[0], colours * 16)
    assert read_image(paths[0]).max() == 255
    Image.fromarray(grey * 16).save(paths[0])
    assert read_image(paths[0]).max() == 255
    assert capsys.readouterr().err == ""


def test_several_greys_in_planes_are_no_damage(tmp_path: Path) -> None:
    save_tiff_of_planes(tmp_path / "a.ome.tif", np.full((6, 10, 3), 4000, np.uint16), 1)
    says = r"a\.ome\.tif: its pixels are laid out in a way that cannot be read here"
    with pytest.raises(PhotoError, match=says):
        read_image(tmp_path / "a.ome.tif")


def test_an_array_of_sixteen_bits_is_refused_with_a_way_that_does_not_wrap_round() -> None:
    with pytest.raises(PhotoError, match=r"uint8, 0 to 255: uint16\nhint: .*of 16 bits: image // 256"):
        upright_array(np.full((4, 5), 4000, np.uint16))


def test_a_photo_that_is_transparent_everywhere_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_told", set())
    Image.new("RGBA", (10, 6), (9, 90, 9, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").min() == 255
    assert "a.png: transparent everywhere" in capsys.readouterr().err
    Image.new("RGBA", (10, 6), (9, 90, 9, 1)).save(tmp_path / "b.png")
    read_image(tmp_path / "b.png")
    assert capsys.readouterr().err == ""


def test_of_a_pattern_photos_are_listed_first(tmp_path: Path) -> None:
    with pytest.raises(
        PhotoError, match=r"no such photo\nhint: of a pattern list the photos: fewbox.find_photos"
    ):
        read_image(tmp_path / "*.jpg")


def test_that_other_pages_are_not_read_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_told", set())
    pages = [Image.new("L", (10, 6), shade) for shade in (90, 200)]
    pages[0].save(tmp_path / "one.tif")
    assert read_image(tmp_path / "one.tif").max() == 90
    assert capsys.readouterr().err == ""
    for name in ("stack.tif", "other.tif"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        assert read_image(tmp_path / name).max() == 90
    (told,) = capsys.readouterr().err.splitlines()
    assert "stack.tif: only the first of its pages is read" in told


def test_an_avif_of_which_the_end_is_missing_is_incomplete(tmp_path: Path) -> None:
    if not features.check("avif"):
        pytest.skip("needs a Pillow with AVIF")
    path = save(tmp_path, "a.avif", Image.new("RGB", (40, 60), "red"))
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(PhotoError, match=r"a\.avif: the photo is damaged or incomplete"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".avif"])
def test_that_other_frames_are_not_read_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("needs a Pillow with AVIF")
    monkeypatch.setattr(decoding, "_told", set())
    frames = [Image.new("RGB", (40, 60), shade) for shade in ("red", "blue")]
    frames[0].save(tmp_path / f"one{suffix}")
    read_image(tmp_path / f"one{suffix}")
    assert capsys.readouterr().err == ""
    for name in ("film", "other"):
        frames[0].save(tmp_path / f"{name}{suffix}", save_all=True, append_images=frames[1:])
        assert read_image(tmp_path / f"{name}{suffix}")[0, 0].argmax() == 0
    told = " ".join(capsys.readouterr().err.split())
    assert f"film{suffix}: only the first of its frames is read" in told
    assert told.count("only the first") == 1


@pytest.mark.parametrize(
    ("pixels", "size_hw", "error", "told"),
    [
        (np.zeros((24, 32, 3), np.uint16), (48, 64), PhotoError, "uint8, 0 to 255: uint16"),
        (np.zeros((24, 32, 3)), (48, 64), PhotoError, "uint8, 0 to 255: float64"),
        (np.zeros((3, 24, 32), np.uint8), (48, 64), PhotoError, "channels last"),
        (np.zeros((24, 32, 3), np.uint8), (64, 48), SettingError, "32 x 24 pixels .* photo of 48 x 64: its"),
        (np.zeros((24, 32, 3), np.uint8), (23, 32), SettingError, "cannot be a smaller picture"),
        (np.zeros((24, 32, 3), np.uint8), (48.0, 64.0), SettingError, "two whole numbers"),
        (np.zeros((24, 32, 3), np.uint8), 64, SettingError, "two whole numbers"),
    ],
)
def test_a_reduced_photo_must_be_one(pixels: Any, size_hw: Any, error: type[FewboxError], told: str) -> None:
    with pytest.raises(error, match=told):
        ReducedImage(pixels, size_hw)


@pytest.mark.parametrize("size_hw", [(48, 64), (47, 63), (481, 635), (24, 32), (9000, 12000)])
def test_a_reduced_photo_may_be_rounded(size_hw: tuple[int, int]) -> None:
    grey = np.zeros((24, 32), np.uint8)
    assert ReducedImage(grey, size_hw).image.shape == (24, 32, 3)


@pytest.mark.parametrize("size_hw", [(9, 8000), (17, 4001), (1, 1), (15, 16)])
def test_a_photo_of_any_proportions_is_read_smaller(size_hw: tuple[int, int], tmp_path: Path) -> None:
    for suffix in (".png", ".jpg"):
        Image.new("RGB", size_hw[::-1]).save(tmp_path / f"long{suffix}")
        assert read_reduced(tmp_path / f"long{suffix}", (1, 1)).size_hw == size_hw
