"""What the pages say about files, commands, links and configuration is true."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from livedex import errors
from livedex.cli import app
from livedex.config import load

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
pages = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page ends in."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def mentioned_commands(page: Path) -> Iterator[list[str]]:
    """The words after `livedex`, of every code span, shell line and `$(...)`."""
    spans = re.findall(r"`livedex ([^`]+)`", prose(page))
    shell = [line for block in blocks(page, "sh") for line in block.splitlines()]
    started = [match for line in shell for match in re.findall(r"(?:^|&& )livedex ([^#]+)", line)]
    nested = [match for line in shell for match in re.findall(r"\$\(livedex ([^)]+)\)", line)]
    yield from (shlex.split(words.replace("\n", " ")) for words in [*spans, *started, *nested])


@pages
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        file = page if not path else (page.parent / path).resolve()
        if not re.match(r"https?:", target) and (not file.exists() or (anchor and anchor not in anchors(file))):
            broken.append(target)
    assert broken == []


@pages
def test_configurations_load(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "yaml"):
        file = tmp_path / "livedex.yaml"
        file.write_text(block, encoding="utf-8")
        environ = dict.fromkeys(re.findall(r"\$\{(\w+)", block), "postgresql://reader@db/kb") | {"HOME": str(tmp_path)}
        assert load(file, environ).views


@pages
def test_python_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pages
def test_commands_and_their_options_exist(page: Path) -> None:
    assert [problem for words in mentioned_commands(page) if (problem := _problem(words))] == []


def _problem(words: list[str]) -> str | None:
    """What is wrong with a command line, if anything is."""
    command: Any = typer.main.get_command(app)
    options = {name: parameter for parameter in command.params for name in parameter.opts}
    rest = list(words)
    while rest and (rest[0].startswith("-") or hasattr(command, "commands")):
        word = rest.pop(0)
        if word in ("...", "COMMAND", "--help"):
            return None
        if word.startswith("-"):
            if word not in options:
                return f"{' '.join(words)}: no option {word}"
            if options[word].metavar:
                rest = rest[1:]
            continue
        if word not in command.commands:
            return f"{' '.join(words)}: no command {word}"
        command = command.commands[word]
        options = {name: parameter for parameter in command.params for name in parameter.opts}
    unknown = [word for word in rest if word.startswith("-") and word not in options]
    return f"{' '.join(words)}: no option {unknown[0]}" if unknown else None


@pages
def test_extras_that_are_installed_exist(page: Path) -> None:
    named = re.findall(r"(?:livedex|\.)\[([\w,]+)\]", page.read_text(encoding="utf-8"))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {extra for several in named for extra in several.split(",")} - set(extras) == set()


@pytest.mark.parametrize("name", ["cli", "sql"])
def test_generated_page_is_current(name: str) -> None:
    script = DOCS / f"generate_{name}_reference.py"
    page = (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")
    assert page == runpy.run_path(str(script))["render"](), f"run: python {script.relative_to(ROOT)}"


@pytest.mark.parametrize("page", ["reference/cli.md", "how-to/operate.md"])
def test_exit_codes_are_those_of_the_errors(page: str) -> None:
    table = (DOCS / page).read_text(encoding="utf-8").partition("## Exit codes")[2].partition("\n## ")[0]
    written = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    raised = {error.exit_code for error in vars(errors).values() if hasattr(error, "exit_code")}
    assert written == raised | {0, 130}


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page.suffix == ".md" and page.exists() and page not in reached:
            reached.add(page)
            targets = re.findall(r"\]\(([^)#\s]+)", prose(page))
            waiting += [(page.parent / target).resolve() for target in targets if not target.startswith("http")]
    assert [name for name, page in zip(NAMES, PAGES, strict=True) if page not in reached] == []


def test_the_readme_names_every_how_to_page() -> None:
    linked = set(re.findall(r"\]\(docs/how-to/([\w-]+\.md)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert linked == {page.name for page in (DOCS / "how-to").iterdir()}


def test_decisions_are_listed_by_their_titles() -> None:
    listed = re.findall(r"^(\d+)\. \[(.+)\]\((.+)\)$", (DOCS / "decisions" / "README.md").read_text(), re.MULTILINE)
    files = sorted(DOCS.glob("decisions/0*.md"))
    titled = [(file.read_text(encoding="utf-8").partition("\n")[0], file.name) for file in files]
    assert [(f"# {number}. {title}", name) for number, title, name in listed] == titled


def test_the_readme_tells_the_two_commands() -> None:
    commands = [
        "pip install -c constraints.txt -e . && livedex demo",
        "pip install -c constraints.txt -e '.[dev]' && pytest",
    ]
    assert [command for command in commands if f"```sh\n{command}\n```" not in (ROOT / "README.md").read_text()] == []
