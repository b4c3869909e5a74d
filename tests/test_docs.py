"""What the pages say: commands parse, Python runs, names and options are real, links lead somewhere."""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import io
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

import fewbox
from fewbox import cli
from fewbox.models.cache import cached_base_path
from fewbox.models.weights_file import write_weights
from reference_options import commands, with_tables
from tiny import make_photos, tiny_base

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "examples/web/README.md"])
REFERENCE = (ROOT / "docs/reference.md").read_text(encoding="utf-8")

# The first words of command lines that are neither ours nor make's.
OTHER_COMMANDS = (
    "pip",
    "python",
    ".venv/bin/python",
    "curl",
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


def test_blocks_are_of_known_languages() -> None:
    for page in PAGES:
        opening = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.M)[::2]
        assert set(opening) <= {"sh", "python", "text"}, name_of(page)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_parse(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    variables = set(re.findall(r"^([A-Z]+) \?=", (ROOT / "Makefile").read_text(), re.M))
    for command, *arguments in command_lines(page):
        if command == "fewbox":
            parsed = cli.build_parser().parse_args(arguments)  # exits on what it does not know
            assert callable(parsed.run)
        elif command == "make":
            assert {word for word in arguments if "=" not in word} <= targets
            assert {word.split("=")[0] for word in arguments if "=" in word} <= variables
        else:
            assert command in OTHER_COMMANDS, command


@pytest.mark.parametrize("block", in_pages("python"))
def test_python_compiles_and_uses_public_names(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            assert node.module != "fewbox", "the pages write fewbox.NAME"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "fewbox":
            assert node.attr in {*fewbox.__all__, "__path__"}
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("fewbox."):
            called = eval(ast.unparse(node.func), {"fewbox": fewbox})
            keywords = {word.arg: None for word in node.keywords if word.arg}
            inspect.signature(called).bind(*node.args, **keywords)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what the pages assume, and in the cache a small base, which is then the default."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine several threads wait for each other at every small step
    base = tiny_base()
    header = base.origin() | {"architecture": "ssd_resnet_fpn", "config": base.config.to_dict()}
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))
    write_weights(cached_base_path("ssd_resnet50_fpn_640"), base.weights, "fewbox_base", header)
    desk = tmp_path / "desk"
    for folder, boxes, new in (("train", "train_boxes.csv", "test"), ("photos", "boxes.csv", "new")):
        (desk / folder).mkdir(parents=True)
        (desk / new).mkdir()
        rows = ["image,x1,y1,x2,y2"]
        for number, image in enumerate(make_photos(desk / folder), start=1):
            photo = image.path.rename(image.path.with_name(f"cup{number}.jpg"))
            rows += [f"{photo.name},{box.x1},{box.y1},{box.x2},{box.y2}" for box in image.boxes]
        (desk / boxes).write_text("\n".join(rows))
        Image.open(desk / folder / "cup1.jpg").save(desk / new / "out1.jpg")
    # The boxes that the tutorial states in pixels lie in photos of a usual size.
    for photo in (desk / "photos").iterdir():
        Image.open(photo).resize((853, 640)).save(photo)
    monkeypatch.chdir(desk)
    yield desk
    torch.set_num_threads(threads)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs/tutorial.md"], ids=name_of)
def test_commands_and_python_run(page: Path, desk: Path) -> None:
    commands = [words[1:] for words in command_lines(page) if words[0] == "fewbox"]
    commands = [
        arguments for arguments in commands if not any(word.endswith(".tar.gz") for word in arguments)
    ]
    assert commands
    for arguments in commands:
        assert cli.main(arguments) == 0, arguments
    assert (desk / "found/detections.json").is_file()
    assert (desk / "found.gif").is_file()
    (desk / "found.jpg").unlink(missing_ok=True)
    programs = blocks(page, "python")
    assert programs
    for program in programs:
        exec(compile(program, name_of(page), "exec"), {})
    for name in re.findall(r'\.save\("(.+?)"\)', "".join(programs)):
        assert (desk / name).is_file()


API = (ROOT / "docs/api.md").read_text(encoding="utf-8")
EXPORTED = ("export_detector", "open_detector")


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


def test_examples_of_python_names_run(run_examples: Callable[[Sequence[str]], None]) -> None:
    run_examples([name for name in re.findall(r"^::: fewbox\.(\w+)$", API, re.M) if name not in EXPORTED])


@pytest.mark.slow  # an export takes most of it
def test_examples_of_exported_detectors_run(run_examples: Callable[[Sequence[str]], None]) -> None:
    run_examples(("write_coco", "finetune", *EXPORTED))


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


def test_the_licence_is_the_plain_text() -> None:
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert licence.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert licence.rstrip().endswith("limitations under the License.")
