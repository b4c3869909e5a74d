"""Hypothesis tries the same examples in every run, whatever the tests before have imported."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def examples() -> list[tuple[list[int], str]]:
    tried = []

    @settings(max_examples=300, database=None)
    @given(st.lists(st.integers()), st.text())
    def try_one(numbers: list[int], words: str) -> None:
        tried.append((numbers, words))

    try_one()
    return tried


@pytest.mark.skipif(settings.get_current_profile_name() != "same", reason="others are wanted here")
@pytest.mark.slow
def test_another_module_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = examples()
    file = tmp_path / "numbers_and_words.py"
    file.write_text(f"numbers, words = {list(range(10_000, 10_500))}, ['some', 'others']\n")
    module = types.ModuleType(file.stem)
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, file.stem, module)
    assert examples() == before
