"""The files that serve contributors say what is true: commands parse, versions are those we promise."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from fewbox import cli

ROOT = Path(__file__).resolve().parents[1]
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def read(path: str | Path) -> Any:
    return yaml.load((ROOT / path).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def asked_for(form: Path) -> dict[str, bool]:
    """The fields of an issue form, and whether each must be filled in."""
    fields = [field for field in read(form)["body"] if field["type"] != "markdown"]
    return {field["id"]: field.get("validations", {}).get("required") == "true" for field in fields}


def test_the_workflow_runs_what_has_to_pass_everywhere() -> None:
    jobs = read(".github/workflows/ci.yml")["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f">={matrix['python'][0]}" == oldest
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert runs == [".ci/run", "make wheel", "make docs"]


def test_hooks_download_nothing_and_run_what_is_checked_before_a_change_lands() -> None:
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert [(hook["language"], hook["entry"]) for hook in repository["hooks"]] == [("system", "make check")]
    assert "make check" in (ROOT / ".ci/run").read_text().splitlines()


def test_a_bug_report_has_what_is_needed_to_see_the_bug() -> None:
    required = {name for name, needed in asked_for(ROOT / ".github/ISSUE_TEMPLATE/bug.yml").items() if needed}
    assert required >= {"command", "output", "expected", "input", "version", "system"}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_commands_in_forms_parse(form: Path) -> None:
    assert asked_for(form)
    for command in re.findall(r'"fewbox ([^"]*)"', " ".join(form.read_text(encoding="utf-8").split())):
        if command == "--version":
            continue
        assert callable(cli.build_parser().parse_args(shlex.split(command)).run)
