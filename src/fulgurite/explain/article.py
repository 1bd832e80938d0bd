"""The page "From LLaMA-Factory's article": `python -m fulgurite.explain.article [--check]` writes docs/article*.md and
docs/schedules.svg; the guide holds the same text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import cast

from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.explain.article_text import SCHEDULES, ArticleBlock, list_blocks
from fulgurite.explain.curves import HEIGHT, WIDTH, draw_schedule
from fulgurite.explain.page_parts import build_table, format_rich
from fulgurite.language import message
from fulgurite.language.current import LANGUAGES, get_language, use_language
from fulgurite.scheduler.config import Scheduler

DOCS = Path(__file__).resolve().parents[3] / "docs"
NAMES = {"en": "article.md", "zh": "article.zh.md"}
GUIDES = {"en": "guide.html", "zh": "guide.zh.html"}
FIGURE = "schedules.svg"
PANEL = (WIDTH + 84, HEIGHT + 60)
"""The room of a curve in the figure."""
STYLE = (
    "text{font:12px ui-monospace,monospace;fill:#5b6670}.name{font-size:14px;fill:#1c2127}"
    "polyline{fill:none;stroke:#1f5fa8;stroke-width:2}.axis{fill:none;stroke:#c3c9cf}"
    "@media(prefers-color-scheme:dark){text{fill:#9aa5af}.name{fill:#e4e7ea}"
    "polyline{stroke:#7db4f0}.axis{stroke:#4a525b}}"
)


def build_article_section() -> str:
    """Returns the article as a section of the guide."""
    title, lead = _get_title(), _get_lead()
    body = "".join(map(_to_html, list_blocks()))
    return (
        f'<section id="article"><details class="group"><summary><h3>{escape(title)}</h3><p>{format_rich(lead)}</p>'
        f"</summary>{body}</details></section>\n"
    )


def build_markdown() -> str:
    """Returns the article as Markdown in the language in use."""
    other = next(language for language in LANGUAGES if language != get_language())
    name = "中文" if other == "zh" else "English"
    links = f"[{name}]({NAMES[other]}) · [{message('the guide')}]({GUIDES[get_language()]})"
    parts = [f"# {_get_title()}", links, _get_lead(), *map(_to_markdown, list_blocks())]
    return "\n\n".join(parts) + "\n"


def build_figure() -> str:
    """Returns the curves of the eight schedules as one picture, two in a row."""
    columns, (width, height) = 2, PANEL
    panels = []
    for at, (name, picture) in enumerate(draw_schedules()):
        x, y = (at % columns) * width, (at // columns) * height
        inner = picture.replace("<svg ", f'<svg x="{x}" y="{y + 24}" width="{width - 20}" height="{HEIGHT + 26}" ', 1)
        panels.append(f'<text class="name" x="{x + 56}" y="{y + 16}">{escape(name)}</text>{inner}')
    rows = -(-len(panels) // columns)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * width} {rows * height}" '
        f'width="{columns * width}"><style>{STYLE}</style>{"".join(panels)}</svg>\n'
    )


def draw_schedules() -> Iterator[tuple[str, str]]:
    """Yields the name and the curve of each schedule of the article."""
    for name in SCHEDULES:
        yield name, draw_schedule(cast("type[Scheduler]", list_options("scheduler")[name]))


def _get_title() -> str:
    return str(message("From LLaMA-Factory's article"))


def _get_lead() -> str:
    return str(message(
        "Many people begin with an article on the parameters of LLaMA-Factory's form. This page follows its headings: "
        "what it says, what is right, and what to set here. The numbers come from this program's declarations."
    ))


def _to_html(block: ArticleBlock) -> str:
    if block.head:
        return f"<h4>{escape(block.head)}</h4>"
    if block.figure:
        figures = "".join(f"<figure>{svg}<figcaption>{name}</figcaption></figure>" for name, svg in draw_schedules())
        return f'<div class="curves">{figures}</div>'
    if block.rows:
        kind = "grid" if len(block.columns) > 3 else "verdicts"
        usual = str(message("usual"))
        cells = [[f"<b>{cell}</b>" if cell == usual else format_rich(cell) for cell in row] for row in block.rows]
        return build_table(list(map(escape, block.columns)), cells, kind)
    return f"<p>{format_rich(block.text)}</p>"


def _to_markdown(block: ArticleBlock) -> str:
    if block.head:
        return f"## {block.head}"
    if block.figure:
        return f"![{message('the curves of the eight schedules')}]({FIGURE})"
    if block.rows:
        usual = str(message("usual"))
        rows = ([f"**{cell}**" if cell == usual else cell for cell in row] for row in block.rows)
        lines = [block.columns, ("---",) * len(block.columns), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return block.text


def list_files() -> Iterator[tuple[str, str]]:
    """Yields the name and the text of each file of the article."""
    for language, name in NAMES.items():
        with use_language(language):
            yield name, build_markdown()
    yield FIGURE, build_figure()


def main(words: list[str]) -> int:
    """Writes the files into docs/, or with --check prints which are stale; returns 1 then."""
    load_options()
    stale = []
    for name, text in list_files():
        path = DOCS / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in words:
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in words:
        print(f"Stale in docs/: {', '.join(stale)}; run python -m fulgurite.explain.article.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
