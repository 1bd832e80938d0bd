"""The pages for contributors name files that exist, and the layers that import-linter checks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`((?:src/fulgurite|tests|conf|docs|\.ci)/[\w./]*)`")
PAGES = ("docs/architecture.md", "CONTRIBUTING.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    named = NAMED.findall((ROOT / page).read_text(encoding="utf-8"))
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_layers_are_those_of_import_linter() -> None:
    contracts = tomllib.loads(
        (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    shown = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("## The layers")[1].split("```")[1]
    assert shown.split() == [name for layer in layers for name in re.split(r"[ :|]+", layer)]


def test_the_tree_names_every_package() -> None:
    tree = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("```")[1]
    packages = {path.parent.name for path in (ROOT / "src/fulgurite").glob("*/__init__.py")}
    assert packages <= set(re.findall(r"(\w+)/", tree))
