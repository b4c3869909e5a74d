"""What PyTorch saved is read as PyTorch reads it, and damage is never more than an error."""

from __future__ import annotations

import argparse
import io
import re
import struct
import tracemalloc
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewbox.errors import CheckpointError
from fewbox.models.pickled import UnknownStepError, read_saved
from fewbox.models.weights import read_pickled_weights


def some_weights() -> dict[str, Tensor]:
    """Of every type, and not all of them rows in a row."""
    numbers = torch.arange(24.0).reshape(2, 3, 4)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool)
    return {
        "plain": numbers,
        "turned": numbers.permute(2, 0, 1),
        "part": numbers[1, 1:, ::2],
        "of a module": torch.nn.Parameter(numbers / 7),
        "one": torch.tensor(7),
        "half of one": torch.tensor(1.5, dtype=torch.bfloat16),
        "none": torch.zeros(0, 3),
        "no halves": torch.zeros(0, 3, dtype=torch.bfloat16),
        **{str(kind): (numbers / 3).to(kind) for kind in kinds},
    }


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("new_form", [True, False])
def test_every_tensor_is_what_it_was(tmp_path: Path, new_form: bool, protocol: int) -> None:
    weights, path = some_weights(), tmp_path / "w.pth"
    torch.save(weights, path, pickle_protocol=protocol, _use_new_zipfile_serialization=new_form)
    read = read_pickled_weights(path, needed="weights")
    assert read.keys() == weights.keys()
    for name, tensor in weights.items():
        assert read[name].shape == tuple(tensor.shape)
        assert tensor.dtype.is_floating_point == np.issubdtype(read[name].dtype, np.floating)
        assert np.array_equal(read[name].astype(np.float64), tensor.detach().double().numpy()), name


def test_packed_numbers_are_not_taken_for_numbers(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(100)}, tmp_path / "w.pth")
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as plain,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in plain.namelist():
            packed.writestr(member, plain.read(member))
    with pytest.raises(UnknownStepError, match="packed numbers"):
        read_saved(tmp_path / "packed.pth")["w"].array()


def test_a_trained_module_is_read(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save({"model": module.state_dict(), "epoch": 3}, tmp_path / "w.pth")  # which says more than names
    read = read_pickled_weights(tmp_path / "w.pth", needed="weights", entry="model")
    assert list(read) == list(module.state_dict())


@pytest.mark.parametrize(
    "beside",
    [
        Counter([8, 11]),  # of a schedule: after which epochs the rate falls
        torch.device("cpu"),
        torch.float16,
        np.float64(0.3),
        {np.int64(0): "duck"},
        {0, 1},
        argparse.Namespace(data_path="coco", lr=0.02, aspect_ratio_group_factor=3, nested=[{"a": None}]),
        [torch.Size([3]), 1 << 70, -5, None, b"x", "é", 1j, bytearray(b"x")],
        OrderedDict(state={0: {"step": 1, "average": torch.ones(2)}}, param_groups=[{"betas": (0.9, 0.99)}]),
    ],
    ids=lambda beside: type(beside).__name__,
)
@pytest.mark.parametrize("new_form", [True, False])
def test_what_trainers_keep_beside_the_weights_is_passed_over(
    tmp_path: Path, new_form: bool, beside: Any
) -> None:
    path = tmp_path / "w.pth"
    noted = torch.nn.Parameter(torch.ones(2))
    noted.decays = False  # type: ignore[attr-defined]
    content = {"model": {"a": torch.ones(2), "noted": noted}, "more": beside}
    torch.save(content, path, _use_new_zipfile_serialization=new_form)
    read = read_pickled_weights(path, needed="weights", entry="model")
    assert {name: values.tolist() for name, values in read.items()} == {"a": [1, 1], "noted": [1, 1]}


def packed(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, "x" * 100)
    return content.getvalue()


def of_numpy() -> bytes:
    content = io.BytesIO()
    np.savez(content, a=np.arange(3))
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html>Not found</html>",
        b"version https://git-lfs.github.com/spec/v1",
        b"hello",
        b"\x89PNG\r\n\x1a\n",
        packed("word/document.xml"),
        packed("w/data.pkl"),
        of_numpy(),
    ],
)
def test_other_files_are_not_called_damaged_downloads(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w\.pth: not a file of weights") as raised:
        read_pickled_weights(path, needed="name a file of weights")
    assert raised.value.hint == "name a file of weights"


@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_a_download_that_broke_off_is_to_be_repeated(tmp_path: Path, part: float) -> None:
    path = tmp_path / "w.pth"
    torch.save(some_weights(), path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"w\.pth: damaged or cut off") as raised:
        read_pickled_weights(path, needed="name a file of weights")
    assert "download the file again" in str(raised.value.hint)


@pytest.mark.parametrize("new_form", [True, False])
def test_a_whole_module_is_no_state_dict(tmp_path: Path, new_form: bool) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth", _use_new_zipfile_serialization=new_form)
    with pytest.raises(CheckpointError, match="not a file of weights"):
        read_pickled_weights(tmp_path / "w.pth", needed="weights")


NUMBER, CLAIM = 12_345, 2_000_000_000


def claiming(content: bytes, where: str) -> bytes:
    """What was saved of a tensor of ``NUMBER`` numbers, saying that it has ``CLAIM``."""
    storage, shape, rest = content.split(b"M" + struct.pack("<H", NUMBER))
    number, claim = b"M" + struct.pack("<H", NUMBER), b"J" + struct.pack("<i", CLAIM)
    content = storage + (claim if where != "tensor" else number) + shape
    content += (claim if where != "storage" else number) + rest
    return content.replace(struct.pack("<q", NUMBER), struct.pack("<q", CLAIM if where == "file" else NUMBER))


@pytest.mark.parametrize("new_form", [True, False])
@pytest.mark.parametrize("where", ["storage", "tensor", "both", "file"])
def test_a_tensor_larger_than_its_file_takes_no_memory(tmp_path: Path, where: str, new_form: bool) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(NUMBER)}, path, _use_new_zipfile_serialization=new_form)
    if new_form:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, claiming(part, where) if name.endswith("data.pkl") else part)
    else:
        path.write_bytes(claiming(path.read_bytes(), where))
    assert_refused_in_little_memory(path)


def test_a_storage_read_again_and_again_takes_no_memory(tmp_path: Path) -> None:
    path, numbers = tmp_path / "w.pth", torch.zeros(100_000)
    torch.save({str(begin): numbers[begin:] for begin in range(1000)}, path)
    assert_refused_in_little_memory(path)


def assert_refused_in_little_memory(path: Path) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=re.escape(f"{path}: ")):
            read_pickled_weights(path, needed="weights")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_damage_is_never_more_than_an_error(tmp_path: Path) -> None:
    """Of the form before 2020, that no checksum protects."""
    path = tmp_path / "w.pth"
    torch.save(some_weights(), path, _use_new_zipfile_serialization=False)
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    outcomes = set()
    for trial in range(300):
        content = bytearray(whole)
        if trial % 3 == 0:
            content = content[: generator.integers(len(whole))]
        else:
            content[generator.integers(len(whole))] = generator.integers(256)
        path.write_bytes(content)
        try:
            read_pickled_weights(path, needed="weights")
            outcomes.add("read")
        except CheckpointError as error:
            outcomes.add("refused" if error.message.startswith(str(path)) else "unnamed")
    assert outcomes == {"read", "refused"}
