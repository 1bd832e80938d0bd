"""The page: whole, of one file, with everything that the declarations say, in each language."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fulgurite.cli.explain import explain_main
from fulgurite.config.schema import list_options
from fulgurite.errors import RequestError
from fulgurite.explain import html as guide
from fulgurite.explain.knob_index import list_every_knob
from fulgurite.explain.pages import list_all_groups, list_choices
from fulgurite.language.current import LANGUAGES, use_language
from fulgurite.stage.preference_table import list_names

VOID = {"meta", "input", "br", "line", "link", "path", "polyline", "rect", "circle"}


class Reader(HTMLParser):
    """Tags that are open, ids, what is loaded from where, links inside the page, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.loaded: list[str] = []
        self.inside: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.open += [] if tag in VOID else [tag]
        self.ids += [given["id"]] if given.get("id") else []
        self.loaded += [v for k, v in attrs if k in ("src", "srcset", "data", "action") and v]
        self.loaded += [tag] if tag in ("link", "img", "iframe", "object") else []
        self.inside += [(given.get("href") or "")[1:]] if (given.get("href") or "").startswith("#") else []

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open[-1:] != ["script"] else ""


@pytest.fixture(scope="module", params=LANGUAGES)
def page(request: pytest.FixtureRequest) -> tuple[str, Reader]:
    with use_language(request.param):
        made = guide.build_page()
    return request.param, Reader(made)


def test_the_page_is_whole(page: tuple[str, Reader]) -> None:
    _, read = page
    assert read.open == []
    assert len(read.ids) == len(set(read.ids))
    assert set(read.inside) <= set(read.ids)
    assert {k.path for k in list_every_knob()} <= set(read.ids)
    assert {f"{g}={n}" for g in list_all_groups() for n in list_options(g)} <= set(read.ids)


def test_nothing_is_loaded_from_anywhere(page: tuple[str, Reader]) -> None:
    language, read = page
    assert read.loaded == []
    with use_language(language):
        made = guide.build_page()
    assert "default-src 'none'" in made
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", made)


def test_what_is_said_is_on_the_page(page: tuple[str, Reader]) -> None:
    language, read = page
    assert all(name in read.text for g in list_all_groups() for name in list_choices(g))
    assert all(f"dpo: {loss}" in read.text for loss in list_names())
    if language == "en":
        told = " ".join(read.text.replace("`", "").split())
        for knob in list_every_knob():
            for text in (knob.meaning, knob.raise_when, knob.lower_when, knob.memory, knob.time, knob.misread):
                assert not text or "https://" in text or text.replace("`", "") in told, text
        assert "DPO is Direct Preference Optimization. It is not differential privacy" in told
    else:
        assert "直接偏好优化" in read.text
        assert "When " not in re.sub(r"<script.*", "", read.text)


def test_the_page_is_small_and_in_order(page: tuple[str, Reader]) -> None:
    language, read = page
    with use_language(language):
        made = guide.build_page()
    assert len(made.encode()) < 700_000
    order = [read.ids.index(anchor) for anchor, _ in guide.CHAPTERS]
    assert order == sorted(order)
    assert not re.search(r"https?://[^\s\"'<>]*[，。；：）、]", made), "a link that swallowed punctuation"


def test_titles_are_human(page: tuple[str, Reader]) -> None:
    language, read = page
    expected = {"en": ("Learning rate", "Fine-tuning method"), "zh": ("学习率", "微调方法")}[language]
    assert all(title in read.text for title in expected)
    with use_language(language):
        made = guide.build_page()
    for path in {knob.path for knob in list_every_knob()}:
        assert re.search(rf'id="{re.escape(path)}"[^>]*><summary><b>[^<]+</b> <code>', made), path


def test_the_script_finds_what_it_looks_for(page: tuple[str, Reader]) -> None:
    """Every id and class that guide.js names is on the page."""
    _, read = page
    script = (guide.ASSETS / "guide.js").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\('(\w+)'\)", script)) <= set(read.ids)
    with use_language("en"):
        made = guide.build_page()
    for name in ("ask", "copy", "hit", "symptom"):
        assert f'class="{name}' in made or f' {name}"' in made, name


def test_the_command_prints_the_page_and_nothing_but_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain_main(["--html", "--lang", "en"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("<!doctype html>")
    assert out.rstrip().endswith("</html>")
    with pytest.raises(RequestError, match="the whole guide"):
        explain_main(["method", "--html"])


def test_pages_are_written_and_a_stale_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (guide, guide.article):
        monkeypatch.setattr(module, "DOCS", tmp_path)
    assert guide.main(["--check"]) == 1
    assert guide.main([]) == 0
    assert guide.main(["--check"]) == 0
    assert capsys.readouterr().out.count("run python -m fulgurite.explain.html") == 1
    (tmp_path / "guide.zh.html").write_text("old", encoding="utf-8")
    assert guide.main(["--check"]) == 1
    assert "Stale in docs/: guide.zh.html;" in capsys.readouterr().out
