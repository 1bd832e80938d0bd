"""Pieces of HTML that every part of the guide uses: rich text, links, tables, badges and range bars."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from fulgurite.config.confidence import Sure, grade_source
from fulgurite.config.decision import Decision
from fulgurite.config.schema import LINK, Range, Usual
from fulgurite.explain.citations import find_links
from fulgurite.explain.layout import format_usual, format_value
from fulgurite.explain.pages import SURE
from fulgurite.explain.titles import get_title
from fulgurite.language import UserMessage, get_language, message
from fulgurite.language.catalogue import PLACE, load_messages, translate

CODE = re.compile(r"`([^`]+)`")
WIDTH, MARGIN, TRACK = 320, 46, 22
"""A range bar: its width, the room for labels at both ends, and the height of its line."""
SPREAD, BEYOND, DASHED = 20, 30, 14
"""A range whose ends differ by more than the first factor is drawn on a logarithmic scale, and at most the second one
beyond the values that are known; what is left out is dashed, this long."""


def format_rich(text: str) -> str:
    """Returns text as HTML: lines, `code`, and addresses as links."""
    html = CODE.sub(r"<code>\1</code>", escape(text, quote=False))
    html = LINK.sub(lambda found: f'<a href="{found[0].rstrip(".")}">{found[0].partition("://")[2]}</a>', html)
    return html.replace("\n", "<br>")


def link_names(source: str) -> str:
    """Returns a source with its names and addresses as links."""
    html = format_rich(source)
    for name, address in find_links(source):
        if address not in source:
            html = re.sub(
                # not inside a word, an address or a link that was made before; the first mention only
                rf"(?<![\w/>-]){re.escape(escape(name))}(?![\w+<-])",
                f'<a href="{address}">{escape(name)}</a>',
                html,
                count=1,
            )
    return html


def join_sentences(sentences: Iterable[UserMessage]) -> str:
    """Returns sentences as one text; Chinese has no space between them."""
    return ("" if get_language() == "zh" else " ").join(map(str, sentences))


def link_knob(path: str) -> str:
    """Returns a link to a parameter of the reference: its title and its path."""
    return f'<a href="#{escape(path)}">{escape(get_title(path))} <code>{escape(path)}</code></a>'


def build_table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Returns a table in a box that scrolls by itself if the screen is narrow; cells are HTML."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    named = f' class="{kind}"' if kind else ""
    return f'<div class="wide"><table{named}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def build_badge(sure: Sure | None) -> str:
    """Returns the badge that shows how sure a value is; nothing if its source does not show it."""
    if sure is None:
        return ""
    words = escape(translate(SURE[sure]))
    return f'<span class="badge {sure.value}" title="{words}">{escape(str(BADGES[sure]))}</span>'


BADGES = {
    Sure.measured: message("measured"), Sure.verified: message("verified"), Sure.paper: message("paper"),
    Sure.practice: message("practice"), Sure.ours: message("our choice"),
}
"""The word on each badge."""


def grade_value(sure: Sure | None, derived: Decision | None) -> Sure | None:
    """Returns how sure the shown value is: by its own reason, else by its parameter's source."""
    known = derived.sure or grade_source(derived.because.english) if derived else None
    return known or sure


def is_translated(sentence: UserMessage) -> bool:
    """Returns whether a sentence and the sentences in it exist in the language in use."""
    inner = [fact for fact in sentence.facts.values() if isinstance(fact, UserMessage)]
    known = get_language() == "en" or sentence.template in load_messages(get_language())
    # a template without letters of its own, such as `{a}, {b}`, is the same in every language
    bare = not re.search(r"[^\W\d_]", PLACE.sub("", sentence.template))
    return (known or bare) and all(map(is_translated, inner))


def draw_range(bounds: Range | None, usual: Usual | None, values: Sequence[float]) -> str:
    """Returns a bar: the legal range as a line, the usual one as a band or dots, the value in use as a mark."""
    marks = [float(v) for v in usual if isinstance(v, int | float)] if isinstance(usual, tuple) else []
    band = usual if isinstance(usual, Range) else Range()
    ends = [end for end in (band.low, band.high) if end is not None]
    known = [*marks, *values, *ends]
    if not marks and not ends:
        return ""
    scale = build_scale(bounds or Range(), known)
    parts, labels = _draw_legal(bounds or Range(), scale)
    if ends:
        left, right = (MARGIN if band.low is None else scale.place(band.low),
                       WIDTH - MARGIN if band.high is None else scale.place(band.high))
        box = f'x="{left:.1f}" y="{TRACK - 5}" width="{max(right - left, 4):.1f}" height="10"'
        parts.append(f'<rect class="usual" {box}/>')
        labels += [(left, TRACK + 19, "end", band.low), (right, TRACK + 19, "start", band.high)]
    parts += [f'<circle class="tick" cx="{scale.place(v):.1f}" cy="{TRACK}" r="4"/>' for v in marks]
    labels += [(scale.place(v), TRACK + 19, "middle", v) for v in ([min(marks), max(marks)] if marks else [])]
    parts += [f'<circle class="value" cx="{scale.place(v):.1f}" cy="{TRACK}" r="6"/>' for v in values]
    labels += [(scale.place(v), TRACK - 11, "middle", v) for v in values]
    texts = "".join(
        f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{_write(value)}</text>'
        for x, y, anchor, value in labels if value is not None
    )
    label = escape(_describe(bounds, usual, values))
    return (
        f'<svg class="range" viewBox="0 0 {WIDTH} {TRACK + 26}" role="img" aria-label="{label}">'
        f"{''.join(parts)}{texts}</svg>"
    )


def _draw_legal(legal: Range, scale: Scale) -> tuple[list[str], list[tuple[float, int, str, float | None]]]:
    """Returns the line of the legal range and its ends; an end beyond the drawing is dashed."""
    left, right = MARGIN, WIDTH - MARGIN
    open_left = legal.low is None or scale.bottom > legal.low
    open_right = legal.high is None or scale.top < legal.high
    first, last = left + (DASHED if open_left else 0), right - (DASHED if open_right else 0)
    parts = [f'<line class="legal" x1="{first}" x2="{last}" y1="{TRACK}" y2="{TRACK}"/>']
    parts += [f'<line class="legal beyond" x1="{left}" x2="{first}" y1="{TRACK}" y2="{TRACK}"/>'] if open_left else []
    parts += [f'<line class="legal beyond" x1="{last}" x2="{right}" y1="{TRACK}" y2="{TRACK}"/>'] if open_right else []
    return parts, [(left - 8, TRACK + 4, "end", legal.low), (right + 8, TRACK + 4, "start", legal.high)]


def _describe(bounds: Range | None, usual: Usual | None, values: Sequence[float]) -> str:
    legal = f"{translate('legal')}: {format_usual(bounds)}; " if bounds else ""
    shown = ", ".join(map(format_value, values))
    return f"{legal}{translate('usual')}: {format_usual(usual) if usual else ''}" + (f"; = {shown}" if shown else "")


@dataclass(frozen=True, slots=True)
class Scale:
    """From a value to its place on a bar."""

    bottom: float
    top: float
    logarithmic: bool

    def place(self, value: float) -> float:
        """Returns the place of a value; of one beyond the ends that of the end."""
        value = min(max(value, self.bottom), self.top)
        if self.logarithmic:
            share = math.log(value / self.bottom) / math.log(self.top / self.bottom)
        else:
            share = (value - self.bottom) / ((self.top - self.bottom) or 1)
        return MARGIN + share * (WIDTH - 2 * MARGIN)


def build_scale(legal: Range, known: Sequence[float]) -> Scale:
    """Returns a scale for the known values: logarithmic if they or their legal range span decades."""
    low, high = min(known), max(known)
    # only positive values have a logarithm
    if low > 0:
        bottom = max(low / BEYOND, legal.low or 0)
        top = min(high * BEYOND, high * BEYOND if legal.high is None else legal.high)
        if top / low > SPREAD:
            return Scale(bottom, top, True)
    bottom = min(low, 0.0) if legal.low is None else legal.low
    top = (high * 1.5 or 1.0) if legal.high is None else min(legal.high, high * BEYOND if high > 0 else legal.high)
    return Scale(bottom, top, False)


def _write(value: float) -> str:
    """Returns a number short enough for the end of a bar: `1e6`, not `1000000`."""
    text = f"{value:.3g}".replace("e+0", "e").replace("e+", "e") if abs(value) >= 1e5 else format_value(value)
    return escape(text)


def build_facts(rows: Mapping[str, str]) -> str:
    """Returns labels with their texts as a list; rows without a text are left out."""
    body = "".join(f"<dt>{escape(label)}</dt><dd>{text}</dd>" for label, text in rows.items() if text)
    return f"<dl>{body}</dl>" if body else ""
