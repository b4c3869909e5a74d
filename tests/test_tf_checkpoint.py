from __future__ import annotations

import random
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fewbox.errors import CheckpointError
from fewbox.models.ssd import tf_checkpoint
from fewbox.models.ssd.tf_checkpoint import TensorBundle
from tensor_bundle_writer import (
    DTYPES,
    VARIABLE,
    Stored,
    bfloat16,
    entry,
    field,
    object_graph,
    plain,
    string,
    table,
    table_of_block,
    table_of_list,
    trailer,
    varint,
    write_bundle,
)

NAMES = st.text(st.characters(codec="utf-8", min_codepoint=1), min_size=1, max_size=30)
ARRAYS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
)


def full_names(bundle: TensorBundle) -> dict[str, str]:
    """Each variable's Keras name and its key; one that two share would not say which is meant."""
    keys: dict[str, set[str]] = {}
    for full_name, key in bundle._graph.variables.values():
        keys.setdefault(full_name, set()).add(key)
    return {name: same.pop() for name, same in keys.items() if name and len(same) == 1}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint" / "ckpt-0"


def some_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    names = [f"model/layer_with_weights-{i}/{leaf}" for i in range(12) for leaf in ("kernel", "bias")]
    return {name: rng.normal(size=(3, i % 4, 5)).astype(np.float32) for i, name in enumerate(names)}


def full_name(path: str) -> str:
    return f"net/{path.removeprefix('model/')}"


def write_some(prefix: Path) -> dict[str, np.ndarray]:
    """Many blocks, two data files, an object graph; the arrays by key."""
    tensors = some_tensors()
    names = {path: full_name(path) for path in tensors}
    write_bundle(prefix, tensors, full_names=names, num_shards=2, block_bytes=200)
    return {f"{path}{VARIABLE}": array for path, array in tensors.items()}


def read_all(prefix: Path) -> dict[str, np.ndarray]:
    with TensorBundle.open(prefix) as bundle:
        keys = bundle.keys()
        return {key: bundle.read(key) for key in keys}


def read_names(prefix: Path) -> dict[str, str]:
    with TensorBundle.open(prefix) as bundle:
        return full_names(bundle)


def assert_equal(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert got.keys() == wanted.keys()
    for key, array in wanted.items():
        assert got[key].dtype == array.dtype
        np.testing.assert_array_equal(got[key], array)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tensors=st.dictionaries(NAMES, ARRAYS, max_size=8),
    num_shards=st.integers(1, 3),
    block_bytes=st.integers(1, 500),
)
def test_what_is_written_is_read(
    prefix: Path, tensors: dict[str, np.ndarray], num_shards: int, block_bytes: int
) -> None:
    write_bundle(prefix, tensors, num_shards=num_shards, block_bytes=block_bytes)
    with TensorBundle.open(prefix) as bundle:
        assert bundle.keys() == sorted(f"{name}{VARIABLE}" for name in tensors)
        for name, array in tensors.items():
            got = bundle.read(f"{name}{VARIABLE}")
            assert bundle.shape(f"{name}{VARIABLE}") == got.shape == array.shape
            assert got.dtype == array.dtype
            np.testing.assert_array_equal(got, array)


def test_many_keys_share_their_beginnings(prefix: Path) -> None:
    tensors = {f"model/a_long_common_path/{i:04d}/kernel": np.array(i) for i in range(500)}
    write_bundle(prefix, tensors, block_bytes=1000)
    wanted = {f"{name}{VARIABLE}": array for name, array in tensors.items()}
    assert Path(f"{prefix}.index").stat().st_size < sum(map(len, wanted))
    assert_equal(read_all(prefix), wanted)


def test_a_tensor_is_a_read_only_view_that_outlives_the_bundle(prefix: Path) -> None:
    write_bundle(prefix, {"a": np.arange(6, dtype=np.float32)})
    with TensorBundle.open(prefix) as bundle:
        array = bundle.read(f"a{VARIABLE}")
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert np.shares_memory(array, bundle.read(f"a{VARIABLE}"))
    assert array.tolist() == [0, 1, 2, 3, 4, 5]


def test_bfloat16_becomes_float32(prefix: Path) -> None:
    array = np.array([[1.0, -2.5], [0.0, np.inf]], np.float32)  # exact in bfloat16
    write_bundle(prefix, {"a": bfloat16(array)})
    assert_equal(read_all(prefix), {f"a{VARIABLE}": array})
    with TensorBundle.open(prefix) as bundle:
        assert not bundle.read(f"a{VARIABLE}").flags.writeable


def test_opening_reads_no_tensor(prefix: Path) -> None:
    write_bundle(prefix, {"a": np.ones(4), "b": np.ones(4)})
    data = Path(f"{prefix}.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:32] + bytes(32))
    with TensorBundle.open(prefix) as bundle:
        assert bundle.read(f"a{VARIABLE}").sum() == 4
        with pytest.raises(CheckpointError, match=rf"ckpt-0\.data-00000-of-00001: b{VARIABLE}: .*damaged"):
            bundle.read(f"b{VARIABLE}")


def test_full_names_and_every_path_lead_to_the_stored_key(prefix: Path) -> None:
    names = {"model/heads/tower/0/kernel": "Predictor/Tower/conv2d_0/kernel", "save_counter": "save_counter"}
    aliases = {"model/tower/0": "model/heads/tower/0/kernel", "top": "model/heads/tower/0/kernel"}
    write_bundle(prefix, {name: np.ones(1) for name in names}, full_names=names, aliases=aliases)
    with TensorBundle.open(prefix) as bundle:
        assert full_names(bundle) == {full: f"{path}{VARIABLE}" for path, full in names.items()}
        for path in ("model/heads/tower/0/kernel", "model/tower/0", "top"):
            assert bundle.key_at(path) == f"model/heads/tower/0/kernel{VARIABLE}"
        assert bundle.key_at("model/heads") is None
        assert bundle.key_at("model/other/kernel") is None


def test_a_full_name_of_two_variables_is_left_out(prefix: Path) -> None:
    names = {"a": "total", "b": "total", "c": "count"}
    write_bundle(prefix, {name: np.ones(1) for name in names}, full_names=names)
    with TensorBundle.open(prefix) as bundle:
        assert full_names(bundle) == {"count": f"c{VARIABLE}"}


def test_a_name_with_a_slash_is_spelled_as_in_keys(prefix: Path) -> None:
    node = field(1, field(1, 1) + field(2, "conv/0.kernel"))
    variable = field(2, field(1, "VARIABLE_VALUE") + field(2, "k") + field(3, "stored"))
    write_bundle(prefix, {}, graph=field(1, node) + field(1, variable))
    with TensorBundle.open(prefix) as bundle:
        assert bundle.key_at("conv.S0..kernel") == "stored"


def test_a_graph_that_goes_in_circles_is_walked(prefix: Path) -> None:
    circle = field(1, field(1, field(1, 1) + field(2, "next"))) + field(1, field(1, field(2, "next")))
    write_bundle(prefix, {}, graph=circle)
    with TensorBundle.open(prefix) as bundle:
        assert full_names(bundle) == {}
        assert bundle.key_at("/".join(["next"] * 1001)) is None


def sound(**overrides: object) -> Stored:
    """One float32 tensor of shape [2], with some parts changed."""
    good = plain(np.ones(2, np.float32))
    return Stored(**{**{name: getattr(good, name) for name in good.__dataclass_fields__}, **overrides})


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (sound(slices=(b"",)), "partitioned"),
        (string(b"text"), "holds strings"),
        (sound(dtype=8), "type number 8"),
        (sound(shape=(3,)), r"shape \[3\] does not fit its 8 bytes"),
        (sound(checksum=0), "CRC32C"),
    ],
)
def test_a_tensor_that_cannot_be_read_is_named(prefix: Path, tensor: Stored, message: str) -> None:
    write_bundle(prefix, {"model/a": tensor})
    with TensorBundle.open(prefix) as bundle:
        with pytest.raises(CheckpointError, match=rf"model/a{VARIABLE}: .*{message}") as caught:
            bundle.read(f"model/a{VARIABLE}")
        assert caught.value.hint


def test_an_unknown_tensor_is_named(prefix: Path) -> None:
    write_bundle(prefix, {"a": np.ones(1)})
    with TensorBundle.open(prefix) as bundle:
        for method in (bundle.read, bundle.shape):
            with pytest.raises(CheckpointError, match=r"ckpt-0\.index: no tensor named b"):
                method("b")


def test_parts_of_a_partitioned_variable_are_no_tensors_of_their_own(prefix: Path) -> None:
    write_bundle(prefix, {"a": sound(slices=(b"",), data=b""), "\0\1a\0": sound()})
    with TensorBundle.open(prefix) as bundle:
        assert bundle.keys() == [f"a{VARIABLE}"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": 1}, "snappy"),
        ({"compression": 9}, "method 9"),
        ({"header": field(1, 1) + field(2, 1)}, "big-endian"),
        ({"header": b"\xff"}, "a number has no end"),
        ({"header": b"\x0b"}, "not a protobuf"),
        ({"header": field(1, "text")}, "not a number"),
        ({"header": field(1, 2)}, "ckpt-0.data-00000-of-00002: no such file"),
        ({"header": field(1, -1)}, "no such file"),
    ],
)
def test_a_bundle_of_another_kind_is_refused(prefix: Path, options: dict[str, object], message: str) -> None:
    write_bundle(prefix, {"a": np.ones(1)}, **options)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=message) as caught:
        TensorBundle.open(prefix)
    assert "ckpt-0." in caught.value.message
    assert caught.value.hint


HEADER = (b"", field(1, 1))
TENSOR = entry(sound(), 0, 0)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b"", "cut short"),
        (b"not an index at all" * 10, "not the index"),
        (table([], 100), "no header"),
        (table([(b"a", TENSOR)], 100), "no header"),
        (table([HEADER, (b"b", TENSOR), (b"a", TENSOR)], 100), "out of order"),
        (table([HEADER, (b"a", TENSOR), (b"a", TENSOR)], 1), "out of order"),
        (table([HEADER, (b"\xff", TENSOR)], 100), "UTF-8"),
        (table([HEADER, (b"k" * 3000, TENSOR)], 100), "adds 3000"),
        (table([HEADER, (b"a", entry(sound(shape=(1,) * 40), 0, 0))], 100), "absurd shape"),
        (table([HEADER, (b"a", entry(sound(shape=(0, 1 << 60)), 0, 0))], 100), "absurd shape"),
        (table([HEADER, (b"a", entry(sound(), 0, 1 << 62))], 100), "a ends at byte"),
        (table([HEADER, (b"a", entry(sound(), 0, -8))], 100), "a ends at byte"),
        (table([HEADER, (b"a", entry(sound(), 1, 0))], 100), "data-00001-of-00001: no such file"),
    ],
)
def test_a_malformed_index_is_refused(prefix: Path, index: bytes, message: str) -> None:
    write_bundle(prefix, {"a": sound()})
    Path(f"{prefix}.index").write_bytes(index)
    with pytest.raises(CheckpointError, match=message) as caught:
        TensorBundle.open(prefix)
    assert caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\1\0\0",
        struct.pack("<I", 1 << 31),
        b"\5\1\0a" + bytes(4),  # shares five bytes with no key
        b"\0\x7f\0a" + bytes(4),  # announces a longer key than there is
        b"\0\1\x7fa" + bytes(4),  # announces a longer value than there is
        b"\0\1" + bytes(4),
        b"\0" + b"\xff" * 9 + b"\1\0a" + bytes(4),  # a key of 2**64 - 1 bytes
    ],
)
def test_a_malformed_block_with_a_right_checksum_is_refused(prefix: Path, content: bytes) -> None:
    write_bundle(prefix, {"a": sound()})
    Path(f"{prefix}.index").write_bytes(table_of_block(content))
    with pytest.raises(CheckpointError, match=r"ckpt-0\.index: "):
        TensorBundle.open(prefix)


def test_a_block_is_not_read_twice(prefix: Path) -> None:
    write_bundle(prefix, {"a": sound()})
    empty = bytes(4)
    block_list = b"".join(varint(0) + varint(4) + varint(2) + b"%04d" % i + b"\0\4" for i in range(50))
    index = table_of_list(empty + trailer(empty), block_list + bytes(4))
    Path(f"{prefix}.index").write_bytes(index)
    with pytest.raises(CheckpointError, match="overlap"):
        TensorBundle.open(prefix)


def test_a_huge_index_is_not_read(prefix: Path) -> None:
    prefix.parent.mkdir()
    with Path(f"{prefix}.index").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointError, match="too large"):
        TensorBundle.open(prefix)


@pytest.mark.parametrize("name", ["ckpt-0.index", "ckpt-0.data-00000-of-00002", "ckpt-0.data-00001-of-00002"])
def test_a_missing_file_is_named(prefix: Path, name: str) -> None:
    write_some(prefix)
    (prefix.parent / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: no such file") as caught:
        TensorBundle.open(prefix)
    assert caught.value.hint is not None
    assert "download" in caught.value.hint


def test_a_folder_in_the_place_of_a_file_is_refused(prefix: Path) -> None:
    write_some(prefix)
    Path(f"{prefix}.data-00001-of-00002").unlink()
    Path(f"{prefix}.data-00001-of-00002").mkdir()
    with pytest.raises(CheckpointError, match="data-00001-of-00002"):
        read_all(prefix)


def test_a_file_cut_after_opening_is_noticed(prefix: Path) -> None:
    write_bundle(prefix, {"a": np.ones(4)})
    with TensorBundle.open(prefix) as bundle:
        Path(f"{prefix}.data-00000-of-00001").write_bytes(b"short")
        with pytest.raises(CheckpointError, match="became shorter"):
            bundle.read(f"a{VARIABLE}")


def test_without_an_object_graph_there_are_no_names(prefix: Path) -> None:
    write_bundle(prefix, {"a": np.ones(1)})
    with (
        TensorBundle.open(prefix) as bundle,
        pytest.raises(CheckpointError, match="no object graph") as caught,
    ):
        full_names(bundle)
    assert caught.value.hint is not None
    assert "TensorFlow 2" in caught.value.hint


@pytest.mark.parametrize(
    "graph",
    [
        b"",
        b"\xff" * 20,
        field(1, field(1, field(1, 5) + field(2, "a"))),  # there is no sixth object
        field(1, field(1, field(1, -1) + field(2, "a"))),
        field(1, field(1, field(2, b"\xff"))),
        field(1, b"\x0a\x7f"),
        field(1, b"") * 1_001,
    ],
)
def test_a_malformed_object_graph_is_refused(
    prefix: Path, graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf_checkpoint, "_MAX_OBJECTS", 1000)
    write_bundle(prefix, {}, graph=graph)
    with TensorBundle.open(prefix) as bundle:
        for ask in (lambda: full_names(bundle), lambda: bundle.key_at("a")):
            with pytest.raises(CheckpointError, match="_CHECKPOINTABLE_OBJECT_GRAPH: "):
                ask()


def test_cut_files_are_refused_wherever_they_are_cut(prefix: Path) -> None:
    write_some(prefix)
    for path in sorted(prefix.parent.iterdir()):
        content = path.read_bytes()
        for size in range(0, len(content), max(1, len(content) // 50)):
            path.write_bytes(content[:size])
            with pytest.raises(CheckpointError, match="ckpt-0"):
                TensorBundle.open(prefix)
        path.write_bytes(content)


def test_flipped_bytes_give_an_error_or_the_right_values(prefix: Path) -> None:
    wanted = write_some(prefix)
    names = {full_name(path): f"{path}{VARIABLE}" for path in some_tensors()}
    rng = random.Random(0)
    outcomes = []
    for path in sorted(prefix.parent.iterdir()):
        content = path.read_bytes()
        for _ in range(50):
            position = rng.randrange(len(content))
            flipped = bytearray(content)
            flipped[position] ^= 1 << rng.randrange(8)
            path.write_bytes(flipped)
            try:
                assert_equal(read_all(prefix), wanted)
                assert read_names(prefix) == names
                outcomes.append("right")
            except CheckpointError:
                outcomes.append("refused")
        path.write_bytes(content)
    assert outcomes.count("refused") > 0.9 * len(outcomes)


def test_damage_under_a_right_checksum_gives_an_error_or_an_array(prefix: Path) -> None:
    """What a hostile writer can do: wrong bytes behind checksums that it computes anew."""
    tensors = some_tensors()
    write_bundle(prefix, tensors, full_names={name: name.upper() for name in tensors}, block_bytes=1 << 20)
    index = Path(f"{prefix}.index").read_bytes()
    empty_block = bytes(4) + trailer(bytes(4))
    content = index[: index.index(empty_block) - len(trailer(b""))]  # of the only block with entries
    rng = random.Random(1)
    assert try_everything(prefix)
    outcomes = []
    for _ in range(150):
        Path(f"{prefix}.index").write_bytes(table_of_block(changed(content, rng)))
        outcomes.append(try_everything(prefix))
    assert set(outcomes) == {True, False}


def test_a_changed_object_graph_gives_an_error_or_names(prefix: Path) -> None:
    graph = object_graph({name: name.upper() for name in some_tensors()}, {})
    rng = random.Random(2)
    outcomes = []
    for _ in range(100):
        write_bundle(prefix, {}, graph=changed(graph, rng))
        outcomes.append(try_everything(prefix))
    assert set(outcomes) == {True, False}


def changed(content: bytes, rng: random.Random) -> bytes:
    """One to three bytes are replaced."""
    changing = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        changing[rng.randrange(len(changing))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    return bytes(changing)


def try_everything(prefix: Path) -> bool:
    """Whether nothing of a checkpoint is found to be damaged; any other error is one too many."""
    is_sound = True
    try:
        with TensorBundle.open(prefix) as bundle:
            keys = bundle.keys()
            for key in keys:
                is_sound &= try_reading(bundle, key)
            assert all(full_names(bundle).values())
            bundle.key_at("model/layer_with_weights-0/kernel")
    except CheckpointError:
        return False
    return is_sound


def try_reading(bundle: TensorBundle, key: str) -> bool:
    try:
        assert bundle.read(key).shape == bundle.shape(key)
    except CheckpointError:
        return False
    return True


@pytest.fixture(scope="module")
def official(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix of a checkpoint that TensorFlow wrote."""
    folder = tmp_path_factory.mktemp("official")
    (archive,) = (shared / "golden").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz") / "checkpoint" / "ckpt-0"


@pytest.fixture(scope="module")
def rows(shared: Path) -> list[tuple[str, str, tuple[int, ...]]]:
    """Path, Keras name and shape of every tensor, as TensorFlow lists them."""
    lines = (shared / "golden" / "checkpoint_keys.tsv").read_text().splitlines()[1:]
    columns = [line.split("\t") for line in lines]
    return [(path, name, tuple(map(int, filter(None, shape.split("x"))))) for path, name, shape in columns]


@pytest.mark.golden
def test_official_keys_shapes_and_names(official: Path, rows: list[tuple[str, str, tuple[int, ...]]]) -> None:
    with TensorBundle.open(official) as bundle:
        assert len(rows) == 464
        shapes = {path + VARIABLE: shape for path, _, shape in rows}
        assert bundle.keys() == sorted(shapes)
        assert all(bundle.shape(key) == shape for key, shape in shapes.items())
        assert full_names(bundle) == {name: path + VARIABLE for path, name, _ in rows}
        for path, _, _ in rows:
            assert bundle.key_at(path) == path + VARIABLE


@pytest.mark.golden
def test_official_paths_that_are_aliases(official: Path) -> None:
    """The first convolution of a tower hangs on two parents, and is stored under one of them."""
    with TensorBundle.open(official) as bundle:
        tower = "model/_box_predictor/_head_scope_conv_layers/BoxPredictionTower/0/kernel"
        alias = "model/_box_predictor/_base_tower_layers_for_heads/box_encodings/3/0/kernel"
        assert bundle.key_at(alias) == bundle.key_at(tower) == tower + VARIABLE


@pytest.mark.golden
def test_official_tensors_are_sound(official: Path) -> None:
    with TensorBundle.open(official) as bundle:
        arrays = list(map(bundle.read, bundle.keys()))
    assert sum(array.size for array in arrays) == 32_916_219
    assert {array.dtype.name for array in arrays} == {"float32", "int64"}
    assert all(np.isfinite(array).all() for array in arrays)
