"""The whole guide as one page: `fulgurite explain --html`; `python -m fulgurite.explain.html [--check]` writes
docs/guide*.html.

One file, no network: style, script and curves are inside. Jinja would make templates of it; these are a dozen
f-strings.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import cast

from fulgurite.config.run import load_options
from fulgurite.config.schema import LINK, Option, list_options
from fulgurite.explain.choices import list_presets
from fulgurite.explain.citations import find_links
from fulgurite.explain.curves import draw_loss, draw_schedule
from fulgurite.explain.knob_index import Shared, list_every_knob, merge_knobs
from fulgurite.explain.layout import format_value
from fulgurite.explain.pages import (
    build_knob_rows,
    derive_default,
    describe_group,
    get_costs,
    get_doc,
    get_knob_text,
    get_misread,
    get_purpose,
    list_all_groups,
)
from fulgurite.language.catalogue import translate
from fulgurite.language.current import LANGUAGES, get_language, use_language
from fulgurite.scheduler.config import Scheduler
from fulgurite.stage.preference_table import list_names

ASSETS = Path(__file__).resolve().parent / "assets"
"""The page's style and script, guide.css and guide.js."""
DOCS = Path(__file__).resolve().parents[3] / "docs"
NAMES = {"en": "guide.html", "zh": "guide.zh.html"}
CODE = re.compile(r"`([^`]+)`")


def build_page() -> str:
    """The page in the language spoken."""
    groups = list_all_groups()
    title = translate("Fulgurite: every knob explained")
    nav = "".join(f'<a href="#{g}">{g}</a>' for g in [*groups, "run"])
    other = next(language for language in LANGUAGES if language != get_language())
    of_run = _build_section(
        "run", translate("Knobs of the run itself:").rstrip(":："),
        merge_knobs(k for k in list_every_knob() if not k.group), "",
    )
    return f"""<!doctype html>
<html lang="{get_language()}"><head><meta charset="utf-8">\
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" \
content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{escape(title)}</title><style>{_read_asset("guide.css")}</style></head><body>
<header><h1>{escape(title)}</h1><a class="language" href="{NAMES[other]}">{"中文" if other == "zh" else "English"}</a>
<p>{_format_rich(translate("A run is one choice a group (GROUP=OPTION), and knobs (GROUP.KNOB=VALUE)."))}</p>
<input id="ask" type="search" placeholder="{escape(translate("search: words, all of them"))}" \
aria-label="{escape(translate("search"))}" autofocus>
<nav>{nav}</nav><p id="none" hidden>{escape(translate("Nothing speaks of this."))}</p></header>
<main>
{_build_misreadings()}
{"".join(_build_group(group) for group in groups)}
{of_run}
</main><script>{_read_asset("guide.js")}</script></body></html>
"""


def _read_asset(name: str) -> str:
    return "\n" + (ASSETS / name).read_text(encoding="utf-8")


def _build_misreadings() -> str:
    """What is popularly taken wrongly, gathered from the options and the knobs."""
    rows = [
        (f"{g}={n}", get_misread(cls), g)
        for g in list_all_groups()
        for n, cls in list_options(g).items()
        if cls.misread
    ]
    rows += [
        (s.knob.path, get_knob_text(s.knob, "misread"), s.knob.path)
        for s in merge_knobs(list_every_knob())
        if s.knob.misread
    ]
    items = "".join(
        f'<li class="hit"><a href="#{anchor}">{escape(name)}</a> {_format_rich(text)}</li>'
        for name, text, anchor in rows
    )
    return f'<section><h2>{escape(translate("often misread"))}</h2><ul class="misread">{items}</ul></section>\n'


def _build_group(group: str) -> str:
    """A group: a table of its options, its curves, its knobs."""
    named = list_options(group)
    rows = "".join(_build_option(group, name, cls) for name, cls in named.items())
    rows += "".join(
        f'<tr class="hit"><th><code>{escape(p.name)}</code></th><td>{_format_rich(get_purpose(p))}</td><td></td></tr>'
        for p in list_presets(group)
    )
    head = "".join(f"<th>{escape(translate(word))}</th>" for word in ("option", "what it is, when to take it", "costs"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
    knobs = merge_knobs(k for k in list_every_knob() if k.group.partition(".")[0] == group)
    return _build_section(
        group, f"{group}", knobs, f"<p>{_format_rich(describe_group(group))}</p>{table}{_draw_curves(group)}"
    )


def _build_option(group: str, name: str, cls: type[Option]) -> str:
    wrong = f'<p class="wrong">{_format_rich(get_misread(cls))}</p>' if cls.misread else ""
    return (
        f'<tr class="hit" id="{group}={name}"><th><code>{escape(name)}</code></th>'
        f"<td>{_format_rich(get_doc(cls))}{wrong}</td><td>{_format_rich(get_costs(cls))}</td></tr>"
    )


def _build_section(anchor: str, title: str, knobs: Sequence[Shared], before: str) -> str:
    # a knob that options declare each in their own way has one anchor
    first = {s.knob.path: s for s in reversed(knobs)}
    articles = "".join(_build_knob(shared, anchored=first[shared.knob.path] is shared) for shared in knobs)
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{before}<div class="knobs">{articles}</div></section>\n'


def _draw_curves(group: str) -> str:
    if group == "scheduler":
        drawn = [(name, draw_schedule(cast("type[Scheduler]", cls))) for name, cls in list_options(group).items()]
    elif group == "stage":
        drawn = [(f"dpo: {loss}", draw_loss(loss)) for loss in list_names()]
    else:
        return ""
    said = {
        "scheduler": "The share of optim.lr by optimizer step",
        "stage": "The preference losses over the margin of log-probabilities, each at its own beta; "
        "the dashed line is a margin of 0",
    }
    figures = "".join(
        f'<figure class="hit">{picture}<figcaption>{escape(name)}</figcaption></figure>' for name, picture in drawn
    )
    return f'<h3>{escape(translate(said[group]))}</h3><div class="curves">{figures}</div>'


def _build_knob(shared: Shared, anchored: bool) -> str:
    knob = shared.knob
    anchor = f' id="{escape(knob.path)}"' if anchored else ""
    derived = derive_default(knob)
    value = format_value(knob.default)
    value += (
        translate(", which is {value} in the default run").format(value=format_value(derived.value)) if derived else ""
    )
    source, addresses = translate("source"), translate("links")
    rows = []
    for label, text in build_knob_rows(shared):
        if text and label != addresses:
            body = f"<pre>{escape(text)}</pre>" if label == translate("usual") and "\n" in text else _format_rich(text)
            rows.append(f"<dt>{escape(label)}</dt><dd>{_link_names(knob.source) if label == source else body}</dd>")
    return (
        f'<article class="hit"{anchor}><h3><code>{escape(knob.path)}</code> <small>= {escape(value)}</small></h3>'
        f"<p>{_format_rich(get_knob_text(knob, 'meaning'))}</p><dl>{''.join(rows)}</dl></article>"
    )


def _link_names(source: str) -> str:
    """The source's words, with its names and addresses as links."""
    html = _format_rich(source)
    for name, address in find_links(source):
        if address not in source:
            html = re.sub(
                rf"(?<![\w/>-]){re.escape(escape(name))}(?![\w+<-])",
                f'<a href="{address}">{escape(name)}</a>',
                html,
                count=1,
            )
    return html


def _format_rich(text: str) -> str:
    """Text as HTML: lines, `code`, and addresses as links."""
    html = CODE.sub(r"<code>\1</code>", escape(text, quote=False))
    html = LINK.sub(lambda found: f'<a href="{found[0].rstrip(".")}">{found[0].partition("://")[2]}</a>', html)
    return html.replace("\n", "<br>")


def main(words: list[str]) -> int:
    """Write the pages of every language into docs/, or with --check say which are stale; returns 1 then."""
    load_options()
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
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
