"""The house: who may import whom, what stays light, what no file may do. See CONTRIBUTING.md."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

import fewbox
from fewbox.models.families import FAMILIES

SOURCE = Path(fewbox.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
SCRIPTS = sorted([*SOURCE.rglob("*.js"), *(Path(__file__).parents[1] / "examples/web").glob("*.js")])

CONTRIBUTING = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")

RENDERER = sorted((Path(__file__).parents[1] / "tools/renderer").glob("*.py"))

# In the order in which a photo meets them: each imports only from itself and from those before it.
LAYERS = (
    "errors",
    "core",
    "config",
    "data",
    "models",
    "runtimes",
    "export",
    "detection",
    "evaluation",
    "finetuning",
    "video",
    "apps",
    "commands",
    "cli",
)
NO_TORCH = ("core", "data", "runtimes", "apps.annotate", "apps.http")
LEARNS = "apps.annotate.learning"  # a process of its own

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
# What may be longer: "file.py" or "file.py: function", and the reason.
LONGER: dict[str, str] = {}

HEAVY = ("torch", "numpy", "PIL", "matplotlib", "safetensors")


def name_of(path: Path) -> str:
    """A module's path below the package, as tests and messages call it: ``models/ssd.py``."""
    return path.relative_to(SOURCE if path.is_relative_to(SOURCE) else RENDERER[0].parents[1]).as_posix()


def module_of(path: Path) -> str:
    """What follows ``fewbox.`` where a module is imported; a package is its ``__init__``."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree_of(path)))


@pytest.fixture(scope="module", autouse=True)
def _read_once() -> None:
    """Read all modules before the first test, or that one alone would take the seconds it takes."""
    for path in MODULES:
        imported(path)
    for path in RENDERER:
        nodes_of(path)


@cache
def imported(path: Path) -> tuple[str, ...]:
    """The full names of all modules that a file imports, wherever in it the import stands."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    package = ("fewbox", *path.relative_to(SOURCE).parent.parts)
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else [])))
            # "from fewbox import files" means fewbox.core.files; elsewhere a part too much does no harm.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in nodes_of(path) if isinstance(node, ast.Call))


def modules_after(code: str, among: tuple[str, ...] = HEAVY) -> set[str]:
    """Which of the modules ``among`` are loaded once a fresh Python has run ``code``."""
    report = f"import sys\nprint('LOADED', *(name for name in {among!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_every_module_is_in_a_known_place() -> None:
    unknown = [name_of(path) for path in MODULES if layer_of(path) not in (*LAYERS, "__init__")]
    assert not unknown, f"give them a place in the order of the layers: {unknown}"


def test_a_folder_imports_only_from_those_above_it() -> None:
    wrong = [f"{name_of(path)} must not import {module}" for path in MODULES for module in from_below(path)]
    assert wrong == []


def layer_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def from_below(path: Path) -> Iterator[str]:
    """What a module imports of the package and may not."""
    home = layer_of(path)
    if home == "__init__":
        return
    above = (*LAYERS[: LAYERS.index(home) + 1], "__version__")
    for module in imported(path):
        package, _, rest = module.partition(".")
        if package == "fewbox" and rest.partition(".")[0] not in above:
            yield module


def test_nobody_asks_what_kind_a_network_is() -> None:
    """A family of networks is known by its folder alone: all others go through ``models/families.py``."""
    kinds = tuple(FAMILIES)
    wrong = [
        f"{name_of(path)} must not import {module}"
        for path in MODULES
        for module in imported(path)
        if module.startswith(kinds) and not name_of(path).startswith(family_folder(module))
    ]
    assert wrong == []


def family_folder(module: str) -> str:
    """``models/yolox/`` for anything in ``fewbox.models.yolox``."""
    return "/".join(module.split(".")[1:3]) + "/"


def test_the_package_does_without_the_renderer() -> None:
    assert not [name_of(path) for path in MODULES for module in imported(path) if "renderer" in module]


def light_modules() -> dict[str, Path]:
    """The modules that do without torch, by their names below the package."""
    names = {module_of(path): path for path in MODULES}
    return {name: path for name, path in names.items() if name.startswith(NO_TORCH) and name != LEARNS}


def test_photos_and_boxes_know_no_torch() -> None:
    light = light_modules().values()
    assert [name_of(path) for path in light if "torch" in {m.split(".")[0] for m in imported(path)}] == []


@pytest.mark.slow
def test_importing_photos_and_boxes_loads_no_torch() -> None:
    light = [f"fewbox.{name}" for name in light_modules()]
    assert "fewbox.data.formats" in light
    assert modules_after(f"import {', '.join(light)}", ("torch",)) == set()


def test_importing_fewbox_loads_nothing_heavy() -> None:
    assert modules_after("import fewbox") == set()


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], *([command, "--help"] for command in ("finetune", "detect", "evaluate"))],
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"from fewbox.cli import main\ntry: main({arguments})\nexcept SystemExit: pass"
    assert modules_after(code) == set()


def test_listing_bases_loads_no_torch() -> None:
    assert modules_after("from fewbox.cli import main\nassert main(['bases']) == 0", ("torch",)) == set()


@pytest.mark.slow
def test_garbage_is_looked_for_again_once_torch_is_there() -> None:
    code = (
        "import gc\nfrom fewbox.core import importing_torch\n"
        "try:\n    with importing_torch(): raise KeyboardInterrupt\nexcept KeyboardInterrupt: pass\n"
        "assert gc.isenabled() and gc.get_freeze_count() == 0\n"
        "with importing_torch():\n    assert not gc.isenabled()\n    import torch\n"
        "assert gc.isenabled() and gc.get_freeze_count() > 100_000\n"
        "before = gc.get_freeze_count()\nwith importing_torch(): pass\n"
        "assert gc.get_freeze_count() == before"
    )
    assert modules_after(code, ("torch",)) == {"torch"}


def test_public_names_resolve() -> None:
    assert fewbox.__all__ == [*sorted(fewbox.__all__[:-1]), "__version__"]
    for name in fewbox.__all__:
        assert getattr(fewbox, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'finetun'"):
        fewbox.finetun  # noqa: B018


def test_public_names_are_the_same_for_a_type_checker() -> None:
    for_checker = {
        alias.name: (node.module, alias.asname)
        for node in ast.walk(tree_of(SOURCE / "__init__.py"))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fewbox.")
        for alias in node.names
    }
    assert for_checker == {name: (f"fewbox.{home}", name) for name, home in fewbox._HOMES.items()}


def test_no_public_name_is_that_of_a_module() -> None:
    # Once such a module is imported, it would hide the name.
    hidden = [name for name in fewbox.__all__ if importlib.util.find_spec(f"fewbox.{name}") is not None]
    assert not hidden


def test_loading_a_file_cannot_run_code() -> None:
    assert [f"{name_of(path)}: {what}" for path in MODULES for what in could_run_code(path)] == []


def could_run_code(path: Path) -> Iterator[str]:
    """What in a module could run code that a file holds."""
    runs_code = {"dill", "cloudpickle", "joblib", "shelve", "marshal"}
    yield from (
        name for name in imported(path) if name.split(".")[0] in runs_code or name.startswith("pickle.")
    )
    names = [node for node in nodes_of(path) if isinstance(node, ast.alias | ast.Attribute)]
    of_pickle = {ast.unparse(node) for node in names if re.match(r"pickle\b", ast.unparse(node))}
    yield from of_pickle
    for call in calls(path):
        function, keywords = ast.unparse(call.func), {word.arg: word.value for word in call.keywords}
        weights_only = ast.unparse(keywords.get("weights_only", ast.Constant(None))) == "True"
        is_unsafe = function in ("eval", "exec") or (function == "torch.load" and not weights_only)
        if is_unsafe or "allow_pickle" in keywords:
            yield ast.unparse(call)


def test_nothing_is_too_long_to_read() -> None:
    lengths: dict[str, tuple[int, int]] = {}
    for path in [*MODULES, *RENDERER]:
        lengths[name_of(path)] = (len(path.read_text(encoding="utf-8").splitlines()), MAX_FILE_LINES)
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                length -= len((ast.get_docstring(node) or "").splitlines())  # it may hold an example
                lengths[f"{name_of(path)}: {node.name}"] = (length, MAX_FUNCTION_LINES)
    too_long = {what: lines for what, (lines, limit) in lengths.items() if lines > limit}
    assert {what: lines for what, lines in too_long.items() if what not in LONGER} == {}


def test_no_script_of_a_page_is_too_long_to_read() -> None:
    wrong = [f"{'/'.join(path.parts[-2:])}: {what}" for path in SCRIPTS for what in unreadable(path)]
    assert wrong == []


def unreadable(path: Path) -> Iterator[str]:
    """What makes a script hard to read."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines[0].startswith("// "):
        yield "does not say what it is"
    if len(lines) > MAX_FILE_LINES:
        yield f"{len(lines)} lines"
    yield from (f"long line: {line}" for line in lines if len(line) > 120)
    # Functions and methods begin and end in one column: the first, or the third inside a class.
    starts: dict[str, int] = {}
    for number, line in enumerate(lines):
        indent = line[: len(line) - len(line.lstrip())]
        if len(indent) <= 2 and re.search(r"\) (=> )?\{$", line):
            starts[indent] = number
        elif line == f"{indent}}}" and indent in starts and number - starts.pop(indent) >= MAX_FUNCTION_LINES:
            yield f"a long function ends in line {number + 1}"


def test_exceptions_from_length_are_still_there() -> None:
    for what in LONGER:
        file, _, function = what.partition(": ")
        assert (SOURCE / file).is_file()
        names = {node.name for node in ast.walk(tree_of(SOURCE / file)) if isinstance(node, ast.FunctionDef)}
        assert not function or function in names


def test_modules_say_what_they_are() -> None:
    assert [name_of(path) for path in [*MODULES, *RENDERER] if not ast.get_docstring(tree_of(path))] == []
    vague = ("utils", "util", "misc", "helpers", "common")
    assert [name_of(path) for path in [*MODULES, *RENDERER] if path.stem in vague] == []


def test_from_the_command_to_the_loss_are_few_files_each_importing_the_next() -> None:
    """The path that CONTRIBUTING.md tells a newcomer to read."""
    path_to_loss = CONTRIBUTING.partition("From the command `fewbox finetune` to the loss")[2]
    section, _, _ = path_to_loss.partition("\n## ")
    paths = [SOURCE / name for name in re.findall(r"^\d\. `src/fewbox/(.+?)`", section, re.M)]
    assert 2 <= len(paths) <= 5
    assert "def _binary_cross_entropy(" in paths[-1].read_text(encoding="utf-8")
    for path, following in pairwise(paths):
        module = f"fewbox.{module_of(following)}"
        assert any(name.startswith(f"{module}.") for name in imported(path)), f"{path} -> {module}"


def test_contributing_lists_the_layers_in_their_order() -> None:
    table = CONTRIBUTING.partition("\n## Where things are")[2].partition("\nBeside `src`")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.M)) == LAYERS
