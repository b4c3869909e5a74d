"""What the site has beside ``docs/``: pages from elsewhere in the repository, and files that pages link to.

A hook of mkdocs; see ``mkdocs.yml``. Every page is written to be read in the repository too, so links lead
to files there. Here they are turned into links of the site: to a page, or to a copy of the file.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "examples/web/README.md": "examples/web.md",
}
"""Pages outside of ``docs/``, and where they are in the site."""

_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.M | re.S)
_LINK = re.compile(r"(\]\()([^)\s#]+)")
_FETCHED = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
_NOT_FETCHED = re.compile(r"rel=[\"']?(?:canonical|next|prev)")


def on_config(config: Any) -> Any:
    """List the decisions, which are numbered, in the order of their numbers."""
    decisions = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    pages = ["decisions/README.md", *[f"decisions/{path.name}" for path in decisions]]
    for entry in config.nav:
        if "Decisions" in entry:
            entry["Decisions"] = pages
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in ``docs/``, and the files that any page links to."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    pages = [ROOT / source for source in PAGES] + sorted((ROOT / "docs").rglob("*.md"))
    for page in pages:
        folder = page.relative_to(ROOT).parent.as_posix()
        for _, link in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
            target = posixpath.normpath(posixpath.join(folder, link))
            name = _in_site(target)
            if (ROOT / target).is_file() and files.get_file_from_path(name) is None:
                files.append(File.generated(config, name, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    name = page.file.src_uri
    if name == "decisions/README.md":  # a list would be numbered through, and some numbers are not there
        markdown = re.sub(r"^(\d+)\. ", r"- \1. ", markdown, flags=re.M)
    source = next((source for source, there in PAGES.items() if there == name), f"docs/{name}")

    def of_site(match: re.Match[str]) -> str:
        begin, link = match.groups()
        if re.match(r"[a-z]+:", link):
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        return begin + posixpath.relpath(_in_site(target), posixpath.dirname(name) or ".")

    parts: list[str] = []
    end = 0
    for code in _CODE.finditer(markdown):  # what looks like a link in code is none
        parts += [_LINK.sub(of_site, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join(parts) + _LINK.sub(of_site, markdown[end:])


def on_page_content(html: str, **_: Any) -> str:
    """Leave the roles of names in docstrings out, such as ``:func:``, which are for readers of the code."""
    return re.sub(r":(?:attr|class|func|meth|mod):(?=<code>)", "", html)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that would have the reader's browser ask another server for anything."""
    for tag in _FETCHED.findall(output):
        if not _NOT_FETCHED.search(tag):
            raise PluginError(f"{page.file.src_uri}: fetched from another server: {tag}")
    return output


def _in_site(target: str) -> str:
    """Where a file of the repository is in the site."""
    if target.endswith(".html"):  # to be read, not run
        target += ".txt"
    return PAGES.get(target) or target.removeprefix("docs/")
