"""What the pages say: commands parse, Python compiles, names and options are real, links lead somewhere."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import inspect
import io
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

import fewbox
from fewbox import cli
from fewbox.commands.detect_video import FILM_SUFFIXES
from fewbox.data.images import PHOTO_SUFFIXES
from reference_options import commands, with_tables

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "examples/web/README.md"])
REFERENCE = (ROOT / "docs/reference.md").read_text(encoding="utf-8")

# The first words of command lines that are neither ours nor make's.
OTHER_COMMANDS = (
    "pip",
    "python",
    ".venv/bin/python",
    "curl",
    "git",
    "docker",
    "export",
    "npm",
    "torchrun",
    "ray",
    "pre-commit",
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    text = page.read_text(encoding="utf-8")
    return [
        found[2] for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if found[1] == language
    ]


def command_lines(page: Path) -> list[list[str]]:
    """The words of each command in the page's ``sh`` blocks."""
    joined = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def in_pages(language: str) -> list[object]:
    return [
        pytest.param(block, id=f"{name_of(page)}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, language), start=1)
    ]


def in_notebook() -> list[object]:
    cells = json.loads((ROOT / "examples/rubber_ducks.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [pytest.param(cell, id=f"notebook-{number}") for number, cell in enumerate(code, start=1)]


def test_blocks_are_of_known_languages() -> None:
    for page in PAGES:
        opening = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.M)[::2]
        assert set(opening) <= {"sh", "python", "text"}, name_of(page)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_parse(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    variables = set(re.findall(r"^([A-Z]+) \?=", (ROOT / "Makefile").read_text(), re.M))
    told = [line.split("  #")[0] for text in blocks(page, "text") for line in text.splitlines()]
    lines = command_lines(page) + [shlex.split(line) for line in told if line.startswith("fewbox ")]
    for command, *arguments in lines:
        if command == "fewbox":
            parsed = cli.build_parser().parse_args(arguments)  # exits on what it does not know
            assert callable(parsed.run)
        elif command == "make":
            assert {word for word in arguments if "=" not in word} <= targets
            assert {word.split("=")[0] for word in arguments if "=" in word} <= variables
        else:
            assert command in OTHER_COMMANDS, command


@pytest.mark.parametrize("block", [*in_pages("python"), *in_notebook()])
def test_python_compiles_and_uses_public_names(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            assert node.module != "fewbox", "the pages write fewbox.NAME"
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "fewbox":
            assert node.attr in {*fewbox.__all__, "__path__"}
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("fewbox."):
            called = eval(ast.unparse(node.func), {"fewbox": fewbox})
            keywords = {word.arg: None for word in node.keywords if word.arg}
            inspect.signature(called).bind(*node.args, **keywords)


API = (ROOT / "docs/api.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run_examples(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], None]:
    """Runs the examples of public names in one folder, which begins as the page of the Python names says."""
    folder = tmp_path_factory.mktemp("examples")

    def run(names: Sequence[str]) -> None:
        finder = doctest.DocTestFinder(exclude_empty=True)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        with contextlib.chdir(folder):
            if not Path("ducks").exists():
                exec(blocks(ROOT / "docs/api.md", "python")[0], {})
            for name in names:
                tests = [
                    test
                    for test in finder.find(getattr(fewbox, name), name, globs={"fewbox": fewbox})
                    if test.examples
                ]
                assert tests, f"fewbox.{name} has no example"
                for test in tests:
                    text = io.StringIO()
                    failed, _ = runner.run(test, out=text.write)
                    assert not failed, text.getvalue()

    return run


def test_the_page_of_python_names_has_each_once() -> None:
    assert sorted(re.findall(r"^::: fewbox\.(\w+)$", API, re.M)) == sorted(
        {*fewbox.__all__} - {"__version__"}
    )


@pytest.mark.slow  # an export takes most of it
@pytest.mark.usefixtures("short_adapting", "in_float32")
def test_examples_of_python_names_run(run_examples: Callable[[Sequence[str]], None]) -> None:
    run_examples(re.findall(r"^::: fewbox\.(\w+)$", API, re.M))


def in_code(page: Path) -> str:
    """What stands in code in a page, in blocks and within sentences, one a line."""
    text = page.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```\w*\n.*?^```$|`[^`\n]+(?:\n[^`\n]+)?`", text, re.M | re.S))


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*\b", text))


@pytest.mark.slow
def test_options_in_sentences_are_options() -> None:
    parsers = commands()
    ours = {option for parser in parsers.values() for option in parser._option_string_actions}
    of_others = {"--nnodes", "--rdzv-endpoint", "--shm-size"}  # torchrun and docker
    scripts = "".join(
        path.read_text() for name in ("benchmarks", "tools") for path in (ROOT / name).glob("*.py")
    )
    theirs = {f"--{name.replace('_', '-')}" for name in re.findall(r"--([a-z-]+)", scripts)}
    for page in PAGES:
        if "decisions" in page.parts or page.name == "CHANGELOG.md":  # these tell of times gone by
            continue
        sentences = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for code in re.findall(r"`([^`]+)`", sentences):
            command = re.match(r"fewbox ([a-z][a-z-]+)", code)
            if command is not None:
                assert command[1] in parsers, f"{name_of(page)}: {code}"
                known = {*parsers[command[1]]._option_string_actions}
            else:
                known = ours | of_others | theirs
            assert options_in(code) <= known | {"--help"}, f"{name_of(page)}: {code}"


def test_scripts_have_the_options_that_pages_give_them() -> None:
    shown: set[str] = set()
    for page in PAGES:
        if "decisions" in page.parts:
            continue
        for folder, name, arguments in re.findall(
            r"python (benchmarks|tools)/(\w+\.py)([^`\n|]*)", in_code(page).replace("\\\n", " ")
        ):
            sources = [ROOT / folder / name, *(ROOT / folder).glob(f"{name.split('_')[-1][:-3]}_*.py")]
            text = "".join(path.read_text(encoding="utf-8") for path in sources)
            has_settings = options_in(text) | {
                f"--{field.replace('_', '-')}" for field in re.findall(r"^    (\w+): .*= setting", text, re.M)
            }
            assert options_in(arguments) <= has_settings, f"{name_of(page)}: {name}{arguments}"
            shown.add(name)
    begins = {path.name for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text()}
    assert begins <= shown


def test_files_and_tests_that_pages_name_are_there() -> None:
    tests = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    for page in PAGES:
        if "decisions" in page.parts or page.name == "CHANGELOG.md":
            continue
        code = in_code(page)
        for name in re.findall(
            r"`((?:src|tests|tools|benchmarks|examples|docs|\.ci|\.github)/[^`\s]*)`", code
        ):
            assert (ROOT / name).exists(), f"{name_of(page)}: {name}"
    security = in_code(ROOT / "SECURITY.md")
    for name in re.findall(r"`(test_\w+(?:\.py)?|Test[A-Z]\w+)`", security):
        is_defined = any(re.search(rf"(def|class) {name}\b", text) for text in tests.values())
        assert name in tests or is_defined, name


def test_environment_variables_extras_and_metrics_are_those_of_the_code() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "CHANGELOG.md")
    variables = set(re.findall(r"\bFEWBOX_[A-Z_]+\b", source))
    assert set(re.findall(r"^\| `(FEWBOX_\w+)` \|", REFERENCE, re.M)) == variables
    assert set(re.findall(r"\bFEWBOX_[A-Z_]+\b", pages)) == variables
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    table = re.search(r"^\| Extra \|.*?\n\n", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert table is not None
    assert set(re.findall(r"`(\w+)`", table[0])) == extras.keys()
    installed = [
        name for found in re.findall(r"(?:\.|fewbox)\[([a-z,]+)\]", pages) for name in found.split(",")
    ]
    assert set(installed) <= extras.keys()
    for metric in re.findall(r"`(fewbox_[a-z_]+)`", (ROOT / "docs/serve.md").read_text()):
        assert f'"{metric.removesuffix("_total")}"' in source


def test_only_what_needs_torch_is_said_to_need_the_extra() -> None:
    """``tests/test_without_torch.py`` runs the other commands without it."""
    sections = re.split(r"^### fewbox ", REFERENCE, flags=re.M)[1:]
    needs = {
        part.split()[0] for part in sections if re.search(r"needs the\s+extra\s+`fewbox\[train\]", part, re.I)
    }
    assert needs == {"finetune-deep", "export"}
    for page in PAGES:
        if "decisions" not in page.parts and page.name not in ("CHANGELOG.md", "README.md"):
            assert "extra `export`" not in page.read_text(encoding="utf-8"), (
                f"{name_of(page)}: it is `train` now"
            )


def test_endings_of_photos_and_films_and_parameters_of_the_service_are_listed() -> None:
    photos = (ROOT / "docs/photos.md").read_text(encoding="utf-8").partition("## What is refused")[0]
    names = set(re.findall(r"\w+", photos.upper())) | {"TIF"}
    assert {suffix[1:].upper() for suffix in PHOTO_SUFFIXES} <= names
    films = (ROOT / "docs/video.md").read_text(encoding="utf-8")
    assert [suffix for suffix in FILM_SUFFIXES if f"`{suffix}`" not in films] == []
    asked = re.search(r"^_ASKED = (\(.+\))$", (ROOT / "src/fewbox/apps/serve/app.py").read_text(), re.M)
    assert asked is not None
    ask = (ROOT / "docs/serve.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)=", ask, re.M) == list(ast.literal_eval(asked[1]))


def test_contributing_says_what_is_in_each_folder() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone, so nobody knows which folders are the project's")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {file.split("/")[0] for file in files.split("\n") if "/" in file and file[0] != "."}
    _, _, beside = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("Beside `src`, ")
    assert {"src", *re.findall(r"^\| `(\w+)` \|", beside.partition("\n## ")[0], re.M)} == folders


def test_folders_of_the_cache_are_those_of_the_code() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    used = set(re.findall(r"cache_folder\(\) / \"(\w+)\"", source))
    section = re.search(r"^### The cache\n(.*?)^##", REFERENCE, re.M | re.S)
    assert section is not None
    assert set(re.findall(r"^\| `(\w+)/` \|", section[1], re.M)) == used


def test_keys_and_files_of_pages_in_a_browser_are_listed() -> None:
    keys = (
        next((ROOT / "src").rglob("keys.js")).read_text(encoding="utf-8").partition("export const ANSWERS")[0]
    )
    said = re.findall(r'entry\(.+?\], "(.+?)", \(act', keys)
    page = (ROOT / "docs/annotate.md").read_text(encoding="utf-8")
    assert len(said) > 20
    assert [says for says in said if says not in page] == []
    example = ROOT / "examples/web"
    assert {path.name for path in example.glob("*.js")} <= set(
        re.findall(r"\((\w+\.js)\)", (example / "README.md").read_text(encoding="utf-8"))
    )


def test_every_page_is_in_the_site() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = set(re.findall(r"'([\w/]+\.md)'", str(site["nav"])))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").glob("*.md")}
    assert pages <= named


def test_performance_names_what_make_bench_runs() -> None:
    run = re.findall(r"benchmarks/(\w+\.py)$", (ROOT / "Makefile").read_text(), re.M)
    sentence = re.search(
        r"This runs (.+?), one after the other", (ROOT / "docs/performance.md").read_text(), re.S
    )
    assert sentence is not None
    assert re.findall(r"`(\w+\.py)`", sentence[1]) == run


def test_the_reference_has_every_option_as_the_parser_has_it() -> None:
    sections = re.findall(r"^### fewbox ([\w-]+)", REFERENCE, re.M)
    assert sections == re.findall(r"^<!-- options of fewbox ([\w-]+) -->$", REFERENCE, re.M)
    assert sorted(sections) == sorted(commands())
    assert with_tables(REFERENCE) == REFERENCE, "write them anew: make reference"


def test_reference_states_every_public_name_with_its_signature() -> None:
    headings = re.findall(r"^#### `(.+)`$", REFERENCE, re.M)
    for heading in headings:
        name, _, _ = heading.partition("(")
        called = eval(f"fewbox.{name}", {"fewbox": fewbox})
        signature = inspect.signature(called)
        plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
        if inspect.isfunction(called) and "." in name:
            plain = plain[1:]  # self
        shown = signature.replace(parameters=plain, return_annotation=inspect.Signature.empty)
        assert heading == f"{name}{shown}"
    stated = {re.split(r"[(.]", heading)[0] for heading in headings}
    assert stated == set(fewbox.__all__) - {"FewboxError", "__version__"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)}: {link}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs/decisions"
    decisions = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert re.findall(r"\((\d{4}-.+?\.md)\)", (folder / "README.md").read_text()) == decisions
    numbers = [int(name[:4]) for name in decisions]
    assert len(set(numbers)) == len(numbers)
    for number, name in zip(numbers, decisions, strict=True):
        text = (folder / name).read_text()
        assert text.startswith(f"# {number}. ")
        headings = re.findall(r"^## (.+)$", text, re.M)
        assert headings == ["Context", "Decision", "Consequences"]


def test_files_that_decisions_name_are_there_or_have_moved() -> None:
    folder = ROOT / "docs/decisions"
    rows = re.findall(r"^\| (.+) \| (.+) \|$", (folder / "README.md").read_text(encoding="utf-8"), re.M)
    then, now = (set(re.findall(r"`([\w/]+\.py)`", " ".join(row[side] for row in rows))) for side in (0, 1))
    files = [path.as_posix() for name in ("src", "tests", "tools") for path in (ROOT / name).rglob("*.py")]
    files += [path.as_posix() for path in (ROOT / "benchmarks").glob("*.py")]

    def is_there(name: str) -> bool:
        return any(path.endswith(f"/{name}") for path in files)

    assert [name for name in now if not is_there(name)] == []
    named = {
        name
        for path in folder.glob("[0-9]*.md")
        for name in re.findall(r"`(\w[\w/]*/\w+\.py)`", path.read_text(encoding="utf-8"))
    }
    assert {name for name in named if not is_there(name)} <= then


def test_the_licence_is_the_plain_text() -> None:
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert licence.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert licence.rstrip().endswith("limitations under the License.")
