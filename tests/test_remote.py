"""Photos at addresses: fetched when read, within limits, and told by a name without secrets."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from fewbox.data import FOLDER_FORMATS, FORMATS, remote
from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats import read_annotations, write_annotations
from fewbox.data.images import find_photos, read_image, read_reduced, read_size_hw
from fewbox.data.remote import cached_path, is_remote
from fewbox.detection.folder import detect_folder
from fewbox.errors import PhotoError
from fewbox.finetuning import finetune
from tiny import make_photos, tiny_base
from web_server import WebServer, serving


def jpeg(shade: int, size_wh: tuple[int, int] = (40, 24)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size_wh, (shade, shade, shade)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def web() -> Iterator[WebServer]:
    pytest.importorskip("aiohttp")
    with serving() as web:
        yield web


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    for number in (1, 2, 10):
        system.pipe(f"/shelf/cup{number}.jpg", jpeg(20 * number))
    system.pipe("/shelf/notes.txt", b"hello")
    system.pipe("/shelf/.hidden.jpg", jpeg(0))
    system.pipe("/shelf/more/deep.jpg", jpeg(0))
    yield system
    system.rm("/shelf", recursive=True)


def names(photos: list[Path]) -> list[str]:
    return [photo.name for photo in photos]


def test_what_is_an_address() -> None:
    for address in ("s3://bucket/a.jpg", "https://x.org/a", "memory://a", "GS://b/"):
        assert is_remote(address)
    for place in ("photos/a.jpg", "C:\\photos", "c:/photos", "c://photos", Path("photos"), "1s://a"):
        assert not is_remote(place)


def test_a_name_of_many_bytes_fits_the_cache() -> None:
    path = cached_path(f"https://x.org/{'%E5%86%99' * 110}.jpg")
    assert path.name.endswith("写写.jpg")
    assert len(os.fsencode(path.name)) <= 120


class TestMemory:
    def test_folders_patterns_and_lists(self, memory: object) -> None:
        assert names(find_photos("memory://shelf")) == ["cup1.jpg", "cup2.jpg", "cup10.jpg"]
        assert names(find_photos("memory://shelf/cup1*.jpg")) == ["cup1.jpg", "cup10.jpg"]
        assert names(find_photos("memory://shelf/**/d*.jpg")) == ["deep.jpg"]
        assert names(find_photos(["memory://shelf/cup2*.jpg", "memory://shelf"])) == [
            "cup2.jpg",
            "cup1.jpg",
            "cup10.jpg",
        ]

    def test_every_reader_takes_an_address(self, memory: object) -> None:
        address = "memory://shelf/cup10.jpg"
        assert read_image(address)[0, 0].tolist() == [200, 200, 200]
        assert read_size_hw(address) == (24, 40)
        assert read_reduced(address, (6, 10)).size_hw == (24, 40)

    def test_a_photo_is_fetched_when_it_is_read_and_once(self, memory: fsspec.AbstractFileSystem) -> None:
        (photo,) = find_photos("memory://shelf/cup1.jpg")
        assert not photo.exists()
        read_size_hw(photo)
        memory.pipe("/shelf/cup1.jpg", jpeg(99))
        assert read_image(photo)[0, 0, 0] == 20

    def test_named_again_it_is_fetched_again(self, memory: fsspec.AbstractFileSystem) -> None:
        assert read_image("memory://shelf/cup1.jpg")[0, 0, 0] == 20
        memory.pipe("/shelf/cup1.jpg", jpeg(99))
        assert read_image("memory://shelf/cup1.jpg")[0, 0, 0] == 99

    def test_the_oldest_copies_make_room(
        self, memory: object, monkeypatch: pytest.MonkeyPatch, own_cache: Path
    ) -> None:
        monkeypatch.setattr(remote, "MAX_CACHE_BYTES", 2 * len(jpeg(20)) + 100)
        monkeypatch.setattr(remote, "_FETCHES_PER_CLEANING", 1)
        photos = find_photos("memory://shelf")
        for age, photo in zip((300, 200, 100), photos, strict=True):
            read_image(photo)
            os.utime(photo, (time.time() - age, time.time() - age))
        assert [photo.exists() for photo in photos] == [False, True, True]
        assert read_image(photos[0])[0, 0, 0] == 20  # and come back when they are read again

    def test_what_is_not_there(self, memory: object) -> None:
        for place, says in (
            ("memory://shelf/gone.jpg", r"memory://shelf/gone\.jpg: no such photo or folder"),
            ("memory://nowhere", "memory://nowhere: no such photo or folder"),
            ("memory://shelf/*.png", r"memory://shelf/\*\.png: no photos there"),
        ):
            with pytest.raises(PhotoError, match=says):
                read_image(find_photos(place)[0])


class TestWeb:
    def test_photos_and_folders(self, web: WebServer) -> None:
        web.files = {"/p/a 1.jpg": jpeg(50), "/p/b.jpg": jpeg(60), "/p/readme.txt": b"x", "/latest": jpeg(70)}
        assert names(find_photos(f"{web.address}/p/")) == ["a 1.jpg", "b.jpg"]
        assert read_image(f"{web.address}/p/a%201.jpg")[0, 0, 0] == 50
        assert read_image(f"{web.address}/latest?camera=3")[0, 0, 0] == 70  # no suffix says that it is one

    def test_refused(self, web: WebServer) -> None:
        web.statuses["/locked.jpg"] = 403
        for path, says in (("/gone.jpg", "no such photo"), ("/locked.jpg", "could not be fetched: 403")):
            with pytest.raises(PhotoError, match=says) as caught:
                read_image(f"{web.address}{path}?signature=geheim")
            assert "geheim" not in str(caught.value)
            assert f"{web.address}{path}: " in caught.value.message

    def test_nobody_answers(self) -> None:
        with pytest.raises(PhotoError, match=r"http://127\.0\.0\.1:9/a\.jpg: could not be fetched") as caught:
            read_image("http://user:geheim@127.0.0.1:9/a.jpg")
        assert "geheim" not in caught.value.message

    def test_a_damaged_photo_is_told_by_its_address(self, web: WebServer) -> None:
        web.files["/cut.jpg"] = jpeg(50)[:400]
        with pytest.raises(PhotoError, match=rf"{web.address}/cut\.jpg: the photo is damaged"):
            read_image(f"{web.address}/cut.jpg")

    def test_too_large_is_refused_before_it_is_fetched(
        self, web: WebServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        web.files["/huge.jpg"] = jpeg(50)
        web.stated_bytes["/huge.jpg"] = 10**9
        with pytest.raises(PhotoError, match=r"huge\.jpg: larger than 500 MB"):
            read_image(f"{web.address}/huge.jpg")

    def test_too_slow_is_given_up(
        self, web: WebServer, monkeypatch: pytest.MonkeyPatch, own_cache: Path
    ) -> None:
        monkeypatch.setattr(remote, "MAX_SECONDS", 0.3)
        web.files["/slow.jpg"] = jpeg(50)
        web.seconds_between_bytes["/slow.jpg"] = 0.05
        started = time.monotonic()
        with pytest.raises(PhotoError, match=r"slow\.jpg: not there after 0\.3 seconds"):
            read_image(f"{web.address}/slow.jpg")
        assert time.monotonic() - started < 10
        assert not list(own_cache.rglob("slow.jpg"))

    def test_cut_off_in_the_middle(self, web: WebServer, own_cache: Path) -> None:
        web.files["/a.jpg"] = jpeg(50)
        web.stated_bytes["/a.jpg"] = len(jpeg(50)) + 10
        with pytest.raises(PhotoError, match=r"/a\.jpg: could not be fetched"):
            read_image(f"{web.address}/a.jpg")
        assert not list(own_cache.rglob("*.jpg"))

    @pytest.mark.slow
    def test_detecting_goes_on_after_what_cannot_be_fetched(self, web: WebServer, tmp_path: Path) -> None:
        sample = make_photos(tmp_path)
        finetune(sample, tiny_base(), effort="quick", show_progress=False).save(tmp_path / "d.safetensors")
        web.files = {"/a.jpg": jpeg(50), "/b.jpg": jpeg(60)[:300]}
        photos = [f"{web.address}/{name}.jpg" for name in "abc"]
        summary = detect_folder(tmp_path / "d.safetensors", photos, tmp_path / "out", show_progress=False)
        assert summary.failed == ("b.jpg", "c.jpg")
        assert "2 of 3 photos could not be read: b.jpg, c.jpg" in str(summary)
        assert (tmp_path / "out" / "a.jpg").exists()


def test_s3(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ENDPOINT_URL", web.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    web.files = {"/bucket/p/a.jpg": jpeg(50), "/bucket/p/b.jpg": jpeg(60)}
    photos = find_photos("s3://bucket/p/")
    assert names(photos) == ["a.jpg", "b.jpg"]
    assert [read_image(photo)[0, 0, 0] for photo in photos] == [50, 60]


def test_a_missing_backend_says_what_to_install() -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(("s3fs", "aiohttp", "gcsfs")))
from fewbox.data.images import read_image
for address in ("s3://bucket/a.jpg", "https://x.org/a.jpg", "gs://bucket/a.jpg"):
    try:
        read_image(address)
    except Exception as error:
        print(error)
"""
    # In a Python of its own: fsspec remembers what it could import before.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "s3://bucket/a.jpg: cannot be reached without s3fs",
        "hint: pip install '.[remote]'",
        "https://x.org/a.jpg: cannot be reached without aiohttp",
        "hint: pip install '.[remote]'",
        "gs://bucket/a.jpg: cannot be reached without gcsfs",
        "hint: pip install gcsfs",
    ]


def test_unknown_kinds_of_address() -> None:
    with pytest.raises(PhotoError, match=r"gopher://x/a\.jpg: could not be fetched: .*gopher"):
        read_image("gopher://x/a.jpg")


@pytest.mark.parametrize(
    ("address", "shown", "name"),
    [
        ("https://me:geheim@x.org/a/b%20c.jpg?sig=geheim#d", "https://x.org/a/b%20c.jpg", "b c.jpg"),
        ("https://x.org/..%2f..%2fetc.jpg", "https://x.org/..%2f..%2fetc.jpg", "_.._etc.jpg"),
        ("https://x.org", "https://x.org", "photo"),
        ("http://[x/a.jpg", "http://[x/a.jpg", "a.jpg"),
        ("s3://bucket/50%25 #1?.jpg", "s3://bucket/50%25 #1?.jpg", "50%25 #1_.jpg"),
        ("sftp://me:geheim@host/a.jpg", "sftp://host/a.jpg", "a.jpg"),
    ],
)
def test_names_of_addresses(address: str, shown: str, name: str, own_cache: Path) -> None:
    photo = remote.cached_path(address)
    assert remote.without_secrets(address) == remote.shown_name(photo) == shown
    assert photo.name == name
    assert photo.parent.parent == own_cache / "photos"
    assert os.name != "posix" or (own_cache / "photos").stat().st_mode & 0o077 == 0


def test_a_cached_path_is_only_one_in_the_cache(tmp_path: Path) -> None:
    (tmp_path / "address.txt").write_text("memory://shelf/a.jpg")
    with pytest.raises(PhotoError, match="no such photo"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("folders", [("x", "x"), ("x y", "z")])
def test_files_of_boxes_name_remote_photos_by_their_address(
    tmp_path: Path, own_cache: Path, memory: fsspec.AbstractFileSystem, form: str, folders: tuple[str, str]
) -> None:
    addresses = [f"memory://shelf/{folder}/{name}.jpg" for folder, name in zip(folders, "ab", strict=True)]
    for number, address in enumerate(addresses, start=1):
        memory.pipe(address, jpeg(number))
    boxes = [[(1, 2, 10 * number, 20)] for number in (1, 2)]
    before = AnnotationSet.from_arrays([cached_path(one) for one in addresses], boxes, "mug")
    suffix = {"csv": ".csv", "cvat": ".xml"}.get(form, ".json")
    target = tmp_path / ("made" if form in FOLDER_FORMATS else f"made{suffix}")
    write_annotations(before, target, form)
    texts = [path.read_text() for path in [target, *target.rglob("*")] if path.is_file()]
    folders_of_cache = [image.path.parent.name for image in before] + [str(own_cache), own_cache.name]
    assert not [name for text in texts for name in folders_of_cache if name in text]
    if form == "coco":
        assert f'"{folders[1]}/b.jpg"' in texts[0]
    after = read_annotations(target, addresses)
    found = {image.path: [round(box.x2) for box in image.boxes] for image in after}
    assert found == {image.path: [box.x2 for box in image.boxes] for image in before}


@pytest.mark.parametrize(
    "folders", [("shelf/day", "shelf/night"), ("shelf/day", "desk/day"), ("shelf", "desk")]
)
def test_remote_photos_of_one_name_are_told_apart_in_a_file_of_boxes(
    tmp_path: Path, memory: fsspec.AbstractFileSystem, folders: tuple[str, str]
) -> None:
    addresses = [f"memory://{folder}/1.jpg" for folder in folders]
    for address in addresses:
        memory.pipe(address, jpeg(9))
    boxes = [[(1, 2, 10 * number, 20)] for number in (1, 2)]
    before = AnnotationSet.from_arrays([cached_path(one) for one in addresses], boxes, "mug")
    for name in ("made.json", "made.csv", "made.xml"):
        write_annotations(before, tmp_path / name)
        after = read_annotations(tmp_path / name, addresses)
        assert {image.path: image.boxes for image in after} == {image.path: image.boxes for image in before}
    write_annotations(before, tmp_path / "tasks.json", "labelstudio")
    after = read_annotations(tmp_path / "tasks.json", addresses)
    assert [[round(box.x2) for box in image.boxes] for image in after] == [[10], [20]]
