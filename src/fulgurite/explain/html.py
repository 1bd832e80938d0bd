"""The whole guide as one page: `fulgurite explain --html`; `python -m fulgurite.explain.html [--check]` writes
docs/guide*.html, and the article's page beside them.

One file, no network: style, script, data and curves are inside. It decides, teaches, and then lists. The board serves
the same page with style and script as files, because its Content-Security-Policy allows none inside.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

from fulgurite.config.run import load_options
from fulgurite.explain import article
from fulgurite.explain.article import build_article_section
from fulgurite.explain.page_chapters import build_chapters
from fulgurite.explain.page_decide import build_answers_json, build_decision
from fulgurite.explain.page_reference import build_reference
from fulgurite.explain.pages import list_all_groups
from fulgurite.explain.titles import get_group_title
from fulgurite.language import message
from fulgurite.language.current import LANGUAGES, get_language, use_language

ASSETS = Path(__file__).resolve().parent / "assets"
"""The page's style and script, guide.css and guide.js."""
DOCS = Path(__file__).resolve().parents[3] / "docs"
NAMES = {"en": "guide.html", "zh": "guide.zh.html"}
CHAPTERS = (
    ("decide", message("Decide")), ("choose", message("Choose")), ("train", message("Train")),
    ("diagnose", message("Diagnose")), ("change", message("Change")), ("mistakes", message("Misreadings")),
    ("article", message("The article")), ("reference", message("Reference")),
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def build_page(linked: bool = False) -> str:
    """Returns the page in the language in use; `linked`, it loads /assets/guide.css and /assets/guide.js."""
    load_options()
    title = escape(str(message("Fulgurite: the guide to fine-tuning")))
    body = build_decision() + build_chapters() + build_article_section() + build_reference()
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    style, script = f"<style>{_read_asset('guide.css')}</style>", f"<script>{_read_asset('guide.js')}</script>"
    if linked:  # the server's header has the policy
        policy, style = "", '<link rel="stylesheet" href="/assets/guide.css">'
        script = '<script src="/assets/guide.js"></script>'
    return f"""<!doctype html>
<html lang="{get_language()}"><head><meta charset="utf-8">\
<meta name="viewport" content="width=device-width, initial-scale=1">
{policy}<title>{title}</title>{style}</head><body>
{_build_header(title, linked)}
<main>
{body}</main>
<script type="application/json" id="answers">{build_answers_json()}</script>
{script}</body></html>
"""


def _build_header(title: str, linked: bool) -> str:
    other = next(language for language in LANGUAGES if language != get_language())
    address = f"/guide?lang={other}" if linked else NAMES[other]
    nav = "".join(f'<a href="#{anchor}">{words}</a>' for anchor, words in CHAPTERS)
    hint = escape(str(message("Search: learning_rate, LoRA rank, out of memory …")))
    groups = " ".join(f'<a href="#{g}">{escape(get_group_title(g))}</a>' for g in [*list_all_groups(), "run"])
    none = message("No results. The groups of parameters are:")
    near = message("Nothing has this name. The nearest are:")
    return (
        f'<header><a class="language" href="{address}" lang="{other}">{"中文" if other == "zh" else "English"}</a>'
        f'<h1>{title}</h1><nav>{nav}</nav><div class="js"><input id="ask" type="search" placeholder="{hint}" '
        f'aria-label="{escape(str(message("Search")))}" autocomplete="off"><kbd>/</kbd></div>'
        f'<div id="found" role="status" hidden><p id="near" hidden>{near}</p><ol id="hits"></ol>'
        f'<div id="none" hidden><p>{none}</p><p class="groups">{groups}</p></div></div></header>'
    )


def _read_asset(name: str) -> str:
    return "\n" + (ASSETS / name).read_text(encoding="utf-8")


def main(words: list[str]) -> int:
    """Writes the pages and the article of every language into docs/, or with --check prints which are stale.

    Returns 1 if any is stale.
    """
    stale_article = article.main(words)
    stale = []
    for language, name in NAMES.items():
        with use_language(language):
            text = build_page()
        path = DOCS / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in words:
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in words:
        print(f"Stale in docs/: {', '.join(stale)}; run python -m fulgurite.explain.html.")
        return 1
    return stale_article


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
