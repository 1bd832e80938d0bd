"""The article's files: fresh, in two languages, linked to each other, with a picture that stands alone."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fulgurite.config.run import load_options
from fulgurite.explain import article
from fulgurite.explain.article_text import SCHEDULES
from fulgurite.language import use_language

load_options()


def test_the_files_in_docs_are_fresh() -> None:
    assert article.main(["--check"]) == 0


def test_the_markdown_has_tables_of_one_width_and_links_that_lead_somewhere() -> None:
    for name, text in article.list_files():
        if not name.endswith(".md"):
            continue
        widths: set[int] = set()
        for line in [*text.splitlines(), ""]:
            if line.startswith("|"):
                widths.add(line.count("|"))
            else:
                assert len(widths) <= 1, line
                widths = set()
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (article.DOCS / target).is_file() or target in article.GUIDES.values(), target


def test_the_figure_has_eight_curves_and_loads_nothing() -> None:
    root = ElementTree.fromstring(article.build_figure())
    space = "{http://www.w3.org/2000/svg}"
    names = [node.text for node in root.iter(f"{space}text") if node.get("class") == "name"]
    assert names == list(SCHEDULES)
    assert len(list(root.iter(f"{space}polyline"))) == 8
    assert "href" not in article.build_figure()


def test_the_section_of_the_guide_has_the_same_text() -> None:
    section = article.build_article_section()
    assert section.count("<figure>") == 8
    assert "Direct Preference Optimization" in section
    with use_language("zh"):
        assert "不对：DPO 是直接偏好优化" in article.build_article_section()


def test_a_stale_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(article, "DOCS", tmp_path)
    assert article.main(["--check"]) == 1
    assert article.main([]) == 0
    assert article.main(["--check"]) == 0
    (tmp_path / "article.zh.md").write_text("old", encoding="utf-8")
    assert article.main(["--check"]) == 1
    assert "Stale in docs/: article.zh.md;" in capsys.readouterr().out
