"""What PyTorch saved is read as PyTorch reads it, and damage is never more than an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fewbox.errors import CheckpointError
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
        "none": torch.zeros(0, 3),
        **{str(kind): (numbers / 3).to(kind) for kind in kinds},
    }


@pytest.mark.parametrize("new_form", [True, False])
def test_every_tensor_is_what_it_was(tmp_path: Path, new_form: bool) -> None:
    weights, path = some_weights(), tmp_path / "w.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=new_form)
    read = read_pickled_weights(path, needed="weights")
    assert read.keys() == weights.keys()
    for name, tensor in weights.items():
        assert read[name].shape == tuple(tensor.shape)
        assert np.array_equal(read[name].astype(np.float64), tensor.detach().double().numpy()), name


def test_a_trained_module_is_read(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save({"model": module.state_dict(), "epoch": 3}, tmp_path / "w.pth")  # which says more than names
    read = read_pickled_weights(tmp_path / "w.pth", needed="weights", entry="model")
    assert list(read) == list(module.state_dict())


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
