"""The modules of the page as one module: a notebook takes no more than one."""

from __future__ import annotations

import re
from pathlib import Path

_PAGE = Path(__file__).with_name("page")
_IMPORT = re.compile(r'^import \{ (?P<names>[^}]+) \} from "\./(?P<module>\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|function|class) (?P<name>\w+))", re.MULTILINE)


def bundled(entry: str) -> str:
    """One ES module that exports as its default what the module ``entry`` of the page exports.

    Each module becomes a function that is called once, and returns what the module exports; so
    names inside of it stay its own. Only what the page's modules use of the language is understood:
    ``import { a, b } from "./module.js"`` in one line, and ``export`` before what it exports.
    """
    written: dict[str, str] = {}
    _add(entry, written)
    return "\n".join([*written.values(), f"export default {entry};\n"])


def _add(module: str, written: dict[str, str]) -> None:
    source = (_PAGE / f"{module}.js").read_text(encoding="utf-8")
    for found in _IMPORT.finditer(source):
        if found["module"] not in written:
            _add(found["module"], written)
    exported = ", ".join(found["name"] for found in _EXPORT.finditer(source))
    body = _EXPORT.sub("", _IMPORT.sub(r"const { \g<names> } = \g<module>;", source))
    written[module] = f"const {module} = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();"


def style() -> str:
    """The page's style sheet."""
    return (_PAGE / "style.css").read_text(encoding="utf-8")
