from __future__ import annotations

import errno
import gzip
import hashlib
import io
import random
import tarfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from fewbox.errors import BaseModelError, CheckpointError, OutputError
from fewbox.models import archive as archive_module
from fewbox.models.archive import content_sha256, open_checkpoint
from fewbox.models.ssd.tf_checkpoint import TensorBundle
from tensor_bundle_writer import VARIABLE, write_bundle

KEY = f"model/kernel{VARIABLE}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The unpacked folder of a model, laid out like the official ones."""
    folder = tmp_path / "models" / "ssd_model"
    write_model(folder)
    return folder


def write_model(folder: Path, *names: str, value: float = 1) -> None:
    for number, name in enumerate(names or ["checkpoint/ckpt-0"]):
        write_bundle(folder / name, {"model/kernel": np.full((2, 3), value + number, np.float32)})
    (folder / "pipeline.config").write_text("model {}")


def packed(folder: Path, archive: Path | None = None) -> Path:
    archive = archive or folder.with_name(f"{folder.name}.tar.gz")
    with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as tar:
        tar.add(folder, folder.name)
    return archive


def read_value(path: Path) -> float:
    with open_checkpoint(path) as files, TensorBundle.open(files.prefix) as bundle:
        assert files.pipeline_config.read_text() == "model {}"
        return float(bundle.read(KEY)[0, 0])


@pytest.mark.parametrize(
    "form",
    [
        lambda folder: folder,
        lambda folder: folder.parent,
        lambda folder: folder / "checkpoint",
        lambda folder: folder / "checkpoint" / "ckpt-0",
        lambda folder: folder / "checkpoint" / "ckpt-0.index",
        lambda folder: folder / "checkpoint" / "ckpt-0.data-00000-of-00001",
        packed,
        lambda folder: packed(folder, folder.with_name("a browser took the gz off.tar")),
    ],
)
def test_every_form_of_a_checkpoint_gives_its_tensors(folder: Path, form: Callable[[Path], Path]) -> None:
    assert read_value(form(folder)) == 1


def test_a_prefix_in_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "checkpoint")
    assert read_value(Path("ckpt-0")) == 1


def test_files_side_by_side(tmp_path: Path) -> None:
    write_model(tmp_path / "flat", "ckpt-3")
    assert read_value(tmp_path / "flat") == 1
    assert read_value(tmp_path / "flat" / "ckpt-3") == 1
    assert read_value(packed(tmp_path / "flat")) == 1


def test_what_was_unpacked_is_gone_afterwards(folder: Path) -> None:
    with open_checkpoint(packed(folder)) as files:
        assert files.prefix.with_name("ckpt-0.index").is_file()
    assert not files.prefix.parent.exists()


@pytest.mark.parametrize(
    ("state", "value"),
    [
        (None, 3.0),  # ckpt-10 is later than ckpt-7
        ('model_checkpoint_path: "ckpt-7"\nall_model_checkpoint_paths: "ckpt-10"\n', 2.0),
        ('model_checkpoint_path: "/home/someone/train/ckpt-0"\n', 1.0),
        ('model_checkpoint_path: "ckpt-99"\n', 3.0),
        ("\0 not text at all", 3.0),
    ],
)
def test_the_latest_of_several_checkpoints(tmp_path: Path, state: str | None, value: float) -> None:
    folder = tmp_path / "model"
    write_model(folder, "checkpoint/ckpt-0", "checkpoint/ckpt-7", "checkpoint/ckpt-10")
    if state is not None:
        (folder / "checkpoint" / "checkpoint").write_text(state)
    assert read_value(folder) == value
    assert read_value(packed(folder)) == value
    assert read_value(folder / "checkpoint" / "ckpt-7") == 2


def test_several_models_are_not_guessed_among(tmp_path: Path) -> None:
    archive = tmp_path / "zoo.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("one", "two"):
            write_model(tmp_path / "zoo" / name)
            tar.add(tmp_path / "zoo" / name, name)
    for path in (tmp_path / "zoo", archive):
        with pytest.raises(BaseModelError, match="several models: one/checkpoint, two/checkpoint"):
            read_value(path)


def test_sha256_tells_content_from_other_content(folder: Path) -> None:
    archive = packed(folder)
    of_archive, of_folder = content_sha256(archive), content_sha256(folder)
    assert of_archive == hashlib.sha256(archive.read_bytes()).hexdigest()
    for path in (archive, folder, folder / "checkpoint" / "ckpt-0"):
        with open_checkpoint(path) as files:
            assert files.sha256 == content_sha256(path)
    assert content_sha256(folder / "checkpoint" / "ckpt-0") == of_folder
    write_bundle(folder / "checkpoint" / "ckpt-5-other", {"a": np.ones(1)})  # not part of ckpt-0
    assert content_sha256(folder) == of_folder
    for name in ("pipeline.config", "checkpoint/ckpt-0.index", "checkpoint/ckpt-0.data-00000-of-00001"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        assert content_sha256(folder) != of_folder
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("names", "asked", "message"),
    [
        ([], "missing.tar.gz", r"missing\.tar\.gz: no such file or folder"),
        ([], "checkpoint/ckpt-0.index", r"ckpt-0\.index: no such file"),
        (["photos/a.jpg"], "", "holds no checkpoint"),
        (["checkpoint/ckpt-x.index", "checkpoint/ckpt-0.data-00000-of-00001"], "", "holds no checkpoint"),
        (["model.ckpt.meta", "model.ckpt.index", "frozen_inference_graph.pb"], "", "TensorFlow 1"),
        (["model.ckpt.meta", "model.ckpt.index"], "model.ckpt", "model.ckpt.meta: .*TensorFlow 1"),
        (["model.ckpt.meta", "model.ckpt.index"], "model.ckpt.index", "TensorFlow 1"),
        (["model.ckpt.meta"], "model.ckpt.meta", "TensorFlow 1"),
        (["saved_model.pb", "variables/variables.index"], "", "SavedModel"),
        (["saved_model/saved_model.pb"], "", "SavedModel"),
        (["saved_model.pb"], "saved_model.pb", "SavedModel"),
        (["frozen_inference_graph.pb"], "frozen_inference_graph.pb", "frozen graph"),
        (["frozen_inference_graph.pb"], "", "frozen graph"),
        (["detect.tflite"], "detect.tflite", "TensorFlow Lite"),
        (["weights.h5"], "weights.h5", "Keras"),
        (["ckpt-0.index", "ckpt-0.data-00000-of-00001"], "", r"no pipeline\.config"),
    ],
)
def test_what_is_no_checkpoint_is_called_by_its_name(
    tmp_path: Path, names: list[str], asked: str, message: str
) -> None:
    folder = tmp_path / "given" / "model"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"?")
    for ask in (content_sha256, read_value):
        with pytest.raises(BaseModelError, match=message) as caught:
            ask(folder / asked)
        assert caught.value.hint
    if not asked:
        with pytest.raises(BaseModelError, match=rf"model\.tar\.gz: .*{message}"):
            read_value(packed(folder))


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 100, b"\x1f\x8b", b"\x1f\x8b" * 400])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.tar.gz"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.tar\.gz: (not a .tar.gz|damaged)") as caught:
        read_value(path)
    assert caught.value.hint is not None
    assert "download" in caught.value.hint


def test_a_cut_archive_is_refused_wherever_it_is_cut(folder: Path) -> None:
    archive = packed(folder)
    content = archive.read_bytes()
    for size in range(0, len(content), 5):
        archive.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match=r"ssd_model\.tar\.gz"):
            read_value(archive)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar"])
def test_flipped_bytes_of_an_archive(folder: Path, suffix: str) -> None:
    archive = packed(folder, folder.with_name(f"model{suffix}"))
    content = archive.read_bytes()
    rng = random.Random(0)
    num_refused = 0
    for _ in range(200):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        archive.write_bytes(flipped)
        try:
            with open_checkpoint(archive) as files, TensorBundle.open(files.prefix) as bundle:
                assert bundle.read(KEY).tolist() == [[1, 1, 1], [1, 1, 1]]
        except BaseModelError:
            num_refused += 1
    assert 0 < num_refused < 200  # as bytes that matter to nobody are among them


Change = Callable[[tarfile.TarInfo], None]


def tar_with(folder: Path, name: str, change: Change, content: bytes = b"") -> Path:
    """The archive of a model with one more member in front, which ``change`` may make hostile."""
    archive = folder.with_name("hostile.tar.gz")
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        change(member)
        tar.addfile(member, io.BytesIO(content))
        tar.add(folder, folder.name)
    return archive


def is_of(kind: bytes, target: str = "") -> Change:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, target

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("/tmp/ckpt-0.index", is_of(tarfile.REGTYPE)),
        ("../ckpt-0.index", is_of(tarfile.REGTYPE)),
        ("a/../../../ckpt-0.index", is_of(tarfile.REGTYPE)),
        ("..\\..\\ckpt-0.index", is_of(tarfile.REGTYPE)),
        ("C:/ckpt-0.index", is_of(tarfile.REGTYPE)),
        ("../../readme", is_of(tarfile.REGTYPE)),
        ("model/pipeline.config", is_of(tarfile.SYMTYPE, "/etc/passwd")),
        ("model/ckpt-0.index", is_of(tarfile.LNKTYPE, "/etc/passwd")),
        ("model/ckpt-0.index", is_of(tarfile.CHRTYPE)),
        ("model/ckpt-0.index", is_of(tarfile.FIFOTYPE)),
        ("ssd_model/pipeline.config", is_of(tarfile.REGTYPE)),  # there is another of this name
        ("ssd_model", is_of(tarfile.SYMTYPE, "/tmp")),  # the folder of the others
        ("pipeline.config/checkpoint", is_of(tarfile.REGTYPE)),
    ],
)
def test_hostile_members_are_refused_or_left_out(folder: Path, name: str, change: Change) -> None:
    archive = tar_with(folder, name, change)
    around = sorted(folder.parent.parent.rglob("*"))
    if name in ("ssd_model", "pipeline.config/checkpoint"):
        assert read_value(archive) == 1  # harmless: never written, or just a file
    else:
        with pytest.raises(CheckpointError, match=r"hostile\.tar\.gz: ") as caught:
            read_value(archive)
        assert caught.value.hint
    assert sorted(folder.parent.parent.rglob("*")) == around


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "hostile.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("ckpt-0.index", "ckpt-0.index/ckpt-0.index"):
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(CheckpointError, match="another member has the same name"):
        read_value(archive)


def test_other_members_are_not_written(folder: Path) -> None:
    (folder / "saved_model").mkdir()
    (folder / "saved_model" / "saved_model.pb").write_bytes(b"?")
    (folder / "checkpoint" / "run.py").write_bytes(b"?")
    with open_checkpoint(packed(folder)) as files:
        names = {file.name for file in files.pipeline_config.parent.rglob("*")}
    assert names == {"pipeline.config", "checkpoint", "ckpt-0.index", "ckpt-0.data-00000-of-00001"}


def test_an_archive_that_unpacks_to_too_much_is_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tar_with(folder, "big", is_of(tarfile.REGTYPE), bytes(3 << 20))
    monkeypatch.setattr(archive_module, "_MAX_UNPACKED", 2 << 20)
    with pytest.raises(CheckpointError, match="unpacks to more than"):
        read_value(archive)


def hostile_headers() -> Iterator[bytes]:
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 7 << 30  # asks for 7 GiB of memory
    yield long_name.tobuf(tarfile.GNU_FORMAT)
    negative = tarfile.TarInfo("a")
    negative.size = -1024  # would lead back to itself for ever
    yield negative.tobuf(tarfile.GNU_FORMAT) * 3
    nested = tarfile.TarInfo("pax")
    nested.type, nested.size = tarfile.XHDTYPE, 512
    yield (nested.tobuf(tarfile.USTAR_FORMAT) + b"9 a=bcde\n".ljust(512, b"\0")) * 1500
    sparse = bytearray(tarfile.TarInfo("ckpt-0.index").tobuf(tarfile.GNU_FORMAT))
    sparse[156:157], sparse[482] = b"S", 1
    sparse[148:156] = b"%06o\0 " % (sum(sparse[:148]) + 8 * 32 + sum(sparse[156:]))
    yield bytes(sparse) + (bytes(504) + b"\1" + bytes(7)) * 10_000  # goes on and on


@pytest.mark.parametrize("number", range(4))
def test_hostile_headers_neither_hang_nor_fill_the_memory(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "_MAX_HEADERS", 5000)
    archive = tmp_path / "hostile.tar.gz"
    archive.write_bytes(gzip.compress(next(islice(hostile_headers(), number, None)), 1))
    with pytest.raises(CheckpointError, match=r"hostile\.tar\.gz: "):
        read_value(archive)


def test_a_full_disk_is_said_to_be_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = packed(folder)
    for name in ("fewbox.models.archive._write", "tempfile.TemporaryDirectory"):
        with monkeypatch.context() as patch:
            patch.setattr(name, lambda *_, **__: fail())
            with pytest.raises(OutputError, match="no space left on the disk"):
                read_value(archive)


def test_what_goes_wrong_in_the_block_is_left_alone(folder: Path) -> None:
    for path in (folder, packed(folder)):
        with pytest.raises(OSError, match="mine"), open_checkpoint(path):
            raise OSError("mine")


@pytest.mark.slow
@pytest.mark.golden
def test_the_official_archive_in_every_form(shared: Path) -> None:
    (archive,) = (shared / "golden").glob("*.tar.gz")
    with open_checkpoint(archive) as files:
        assert files.prefix.name == "ckpt-0"
        assert "num_classes: 90" in files.pipeline_config.read_text()
        of_archive = official_tensors(files.prefix)
        for path in (files.pipeline_config.parent, files.prefix):
            with open_checkpoint(path) as unpacked:
                tensors = official_tensors(unpacked.prefix)
                assert unpacked.pipeline_config == files.pipeline_config
            assert len(tensors) == 464
            assert all(np.array_equal(tensors[key], of_archive[key]) for key in of_archive)


def official_tensors(prefix: Path) -> dict[str, np.ndarray]:
    with TensorBundle.open(prefix) as bundle:
        keys = bundle.keys()
        return {key: bundle.read(key) for key in keys}
