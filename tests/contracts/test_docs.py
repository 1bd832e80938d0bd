"""The README and the pages of docs: their links resolve, their commands compose, and their sizes are limited."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from fulgurite.cli.explain import explain_main
from fulgurite.cli.plan import check_word
from fulgurite.config.compose import compose
from fulgurite.errors import FulguriteError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)
MOST_LINES, MOST_WORDS = 250, 1500


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def get_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def list_anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page, or the ids of an HTML page."""
    if path.suffix == ".html":
        return set(re.findall(r'\bid="([^"]+)"', read(path)))
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", read(path)), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def list_commands(program: str) -> list[str]:
    """The lines of all code blocks that call `fulgurite PROGRAM`, without their remarks."""
    found = []
    for path in PAGES:
        for language, block in FENCE.findall(read(path)):
            lines = [line.partition(" #")[0].strip() for line in block.splitlines() if not language]
            found += [line for line in lines if re.search(rf"\bfulgurite {program} (?!\.\.\.)", line)]
    return found


@pytest.mark.parametrize("page", PAGES, ids=get_name)
def test_every_relative_link_resolves(page: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", read(page))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in list_anchors(path)):
            broken.append(target)
    assert broken == []


def test_links_are_seen() -> None:
    assert sum(len(LINK.findall(read(page))) for page in PAGES) > 30
    assert "what-a-step-costs-in-bf16" in {re.sub(r"[^\w\- ]", "", "what a step costs, in bf16").replace(" ", "-")}


def test_readme_is_short() -> None:
    text = read(ROOT / "README.md")
    assert len(text.splitlines()) <= MOST_LINES
    assert len(text.split()) <= MOST_WORDS


def test_the_index_has_every_page() -> None:
    linked = set(LINK.findall(read(DOCS / "README.md")))
    pages = {path.name for path in DOCS.iterdir() if path.suffix in (".md", ".html")}
    assert pages - {"README.md"} <= linked


def test_nothing_installs_the_package_from_an_index() -> None:
    """The name is registered on no index: whoever registers it would be installed by our own words."""
    sources = [path for path in (ROOT / "src").rglob("*") if path.suffix in (".py", ".yaml", ".jsonl")]
    texts = {get_name(path): read(path) for path in [*PAGES, *sources, *(ROOT / "conf").rglob("*.yaml")]}
    wrong = re.compile(r"""pip install +(-\w+ +)*\\?['"]?fulgurite|extra fulgurite\[""")
    assert [name for name, text in texts.items() if wrong.search(text)] == []


@pytest.mark.parametrize("command", [*list_commands("train"), *list_commands("plan")])
def test_a_command_composes(command: str) -> None:
    words = shlex.split(re.sub(r"<[^>]*>", "some/folder", command).partition("fulgurite ")[2])[1:]
    swept, given = "-m" in words, []
    for word in words:
        if word.startswith("-") or word.isdecimal():
            continue
        if command.partition(f"--show {word}")[1]:
            check_word(word)
        elif not word.startswith(("resume.run=", "+sweep=", "+find=", "sweep.", "hydra")):
            given.append(word.partition(",")[0] if swept else word)
    compose(given)


@pytest.mark.parametrize("command", list_commands("explain"))
def test_explain_answers(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain_main(shlex.split(command.partition(" >")[0].partition("fulgurite ")[2])[1:]) == 0
    assert capsys.readouterr().out


def test_commands_are_seen() -> None:
    assert len(list_commands("train")) >= 12
    assert len(list_commands("plan")) >= 6
    with pytest.raises(FulguriteError):
        compose(["optim.lr=none_such"])
