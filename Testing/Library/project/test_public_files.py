"""What GitHub, pre-commit and mkdocs read is well formed, and names only what there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import run_all
import yaml

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def loaded(path: Path) -> dict[Any, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)


def commands(workflow: dict[Any, Any]) -> list[str]:
    return [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_read_only_and_end(path: Path) -> None:
    workflow = loaded(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    for name, job in workflow["jobs"].items():
        assert "permissions" not in job, name
        assert 0 < job["timeout-minutes"] <= 90, name
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]), step["uses"]
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_workflow_runs_every_step_of_make_test() -> None:
    """All but the coverage, which needs the suites on one machine."""
    lines = "\n".join(commands(loaded(ROOT / ".github" / "workflows" / "tests.yml")))
    named = [step for found in re.findall(r"python Testing/run_all\.py(.*)", lines) for step in found.split()]
    assert set(named) == {*run_all.EVERYTHING, "docs"} - {"coverage"}
    for step in named:
        assert step in run_all.STEPS
    for found in re.findall(r"pip install (.*)", lines):
        assert "--constraint constraints.txt" in found


def test_workflow_tests_the_versions_of_python_that_are_promised() -> None:
    job = loaded(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["library"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = re.findall(r"Programming Language :: Python :: (\d\.\d+)", "\n".join(project["classifiers"]))
    assert job["strategy"]["matrix"]["python"] == promised
    assert {name.split("-")[0] for name in job["strategy"]["matrix"]["os"]} == {"ubuntu", "windows", "macos"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_have_what_github_asks_for(path: Path) -> None:
    form = loaded(path)
    assert set(form) <= {"name", "description", "title", "labels", "body"}
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_bug_reports_ask_for_what_is_needed_to_repeat_them() -> None:
    fields = {field.get("id"): field for field in loaded(ROOT / ".github/ISSUE_TEMPLATE/bug_report.yml")["body"]}
    for name in ("steps", "version", "slicer", "system", "device", "model", "log"):
        assert fields[name]["validations"]["required"], name


def test_vulnerabilities_are_reported_privately() -> None:
    links = loaded(ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml")["contact_links"]
    private = [link["url"] for link in links if link["url"].endswith("/security/advisories/new")]
    assert len(private) == 1
    assert private[0] in (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_pre_commit_runs_the_ruff_that_make_lint_runs() -> None:
    hooks = [hook for repo in loaded(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    wanted = {package for hook in hooks for package in hook["additional_dependencies"]}
    versions = {package.split("==")[0]: package.split("==")[1] for package in wanted}
    assert len(versions) == len(wanted), "a tool stands there in two versions"
    assert versions["ruff"] == pins()["ruff"]


def test_every_page_of_the_documentation_is_in_the_site() -> None:
    def pages(entries: list[Any]) -> list[str]:
        return [
            page
            for entry in entries
            for page in ([entry] if isinstance(entry, str) else pages(next(iter(entry.values()))))
        ]

    site = loaded(ROOT / "mkdocs.yml")
    assert sorted(pages(site["nav"])) == sorted(path.name for path in (ROOT / "Docs").glob("*.md"))
    assert site["theme"]["font"] is False, "fonts would be loaded from elsewhere"


def test_what_the_extras_name_is_pinned() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    names = {re.split(r"[^A-Za-z0-9-]", need)[0].lower() for needs in extras.values() for need in needs}
    assert names - {"synthgan"} <= set(pins())


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *(ROOT / "Docs").glob("*.md")]), ids=lambda path: path.name
)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://|#", target):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("steps", [["fast"], ["fast", "mypy"], []])
def test_steps_by_name(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`fast` stands for several steps; only the whole measures what it reaches."""
    ran: dict[str, list[str]] = {}

    def noted(name: str, command: list[str]) -> tuple[int, str]:
        ran[name] = command
        return 0, name

    monkeypatch.setattr(run_all, "run_step", noted)
    assert run_all.main(steps) == 0
    expected = [*run_all.FAST, *steps[1:]] if steps else [*run_all.EVERYTHING]
    assert list(ran) == expected
    assert {name for name, command in ran.items() if "--cov" in command} == (set() if steps else set(run_all.SUITES))
    assert sum("--cov-append" in command for command in ran.values()) == (0 if steps else len(run_all.SUITES) - 1)


def test_an_unknown_step_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_all.main(["no-such-step"]) == 2
    assert "no-such-step" in capsys.readouterr().err
