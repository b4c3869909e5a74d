"""What ``docs/reference.md`` says is in a file."""

from __future__ import annotations

import re
from pathlib import Path

REFERENCE = Path(__file__).parents[1] / "docs/reference.md"


def fields_of(file: str, table: int = 0) -> set[str]:
    """The names in the first column of a table in the section about ``file``."""
    section = REFERENCE.read_text(encoding="utf-8").partition(f"\n### {file}\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| Field \| Meaning \|\n\|---\|---\|\n((?:\|.*\n)+)", section, re.M)
    return {
        name
        for cell in re.findall(r"^\| (.+?) \|", rows[table], re.M)
        for name in re.findall(r"`(\w+)`", cell)
    }
