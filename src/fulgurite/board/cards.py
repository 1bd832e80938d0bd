"""Cards of every parameter and option, from the declarations: what the page shows, explains and searches. No torch."""

from __future__ import annotations

from functools import cache
from typing import Any

from fulgurite.board.typed_values import get_kind
from fulgurite.config.renamed import list_earlier_names
from fulgurite.config.run import GROUPS, PRESETS, list_all_knobs, load_options
from fulgurite.config.schema import Option, Range, list_options
from fulgurite.explain.aliases import list_aliases
from fulgurite.explain.choices import is_default, list_presets
from fulgurite.explain.citations import find_links
from fulgurite.explain.knob_index import Shared, merge_knobs
from fulgurite.explain.layout import format_usual, format_value
from fulgurite.explain.pages import (
    SURE,
    describe_choices,
    describe_group,
    describe_interaction,
    get_costs,
    get_doc,
    get_knob_text,
    get_misread,
    get_purpose,
)
from fulgurite.explain.titles import get_group_title, get_title
from fulgurite.foreign_names.table import list_foreign_names
from fulgurite.language.catalogue import translate, translate_text
from fulgurite.language.current import LANGUAGES, get_language, use_language

OWN_GROUPS = ("resume", "plan", "monitor", "sweep", "lr_finder", "run")
"""Groups of parameters without options."""
LABELS = {
    "raise_when": "increase when", "lower_when": "decrease when", "leave": "leave it when", "memory": "memory",
    "time": "time", "misread": "common mistake",
}
"""The texts of a parameter that are rows of its card, with their labels."""


def build_cards() -> dict[str, Any]:
    """Returns the groups with their options, and the cards of all parameters, in the language in use."""
    return _build_cards(get_language())


@cache
def _build_cards(language: str) -> dict[str, Any]:
    load_options()
    with use_language(language):
        groups = [_build_group(group) for group in (*GROUPS, *PRESETS, *OWN_GROUPS)]
        cards: dict[str, list[dict[str, Any]]] = {}
        for shared in merge_knobs(list_all_knobs()):
            cards.setdefault(shared.knob.path, []).append(_build_card(shared))
    return {"groups": groups, "cards": cards}


def _build_group(group: str) -> dict[str, Any]:
    options = [_build_option(group, name, cls) for name, cls in list_options(group).items()]
    options += [
        {"name": preset.name, "about": get_purpose(preset), "costs": "", "misread": "", "preset": True,
         "base": preset.base, "default": is_default(group, preset.name),
         "names": list(list_aliases(f"{group}={preset.name}")),
         "changes": {key: format_value(value) for key, value in preset.changes.items()}}
        for preset in list_presets(group)
    ]
    return {
        "name": group, "title": get_group_title(group), "about": describe_group(group) if group != "run" else "",
        "names": list(list_aliases(group)), "preset": group in PRESETS, "options": options,
    }


def _build_option(group: str, name: str, cls: type[Option]) -> dict[str, Any]:
    return {
        "name": name, "about": get_doc(cls), "costs": get_costs(cls), "misread": get_misread(cls), "preset": False,
        "default": is_default(group, name), "names": list(list_aliases(f"{group}={name}")),
    }


def _build_card(shared: Shared) -> dict[str, Any]:
    knob = shared.knob
    names = [[owner, name] for owner, name in list_foreign_names(knob.path)]
    return {
        "options": list(shared.options), "title": get_title(knob.path), "path": knob.path,
        "group": knob.group.partition(".")[0] or "run", "kind": get_kind(knob), "choices": list(knob.choices),
        "choice_meanings": describe_choices(knob),
        "default": format_value(knob.default), "meaning": get_knob_text(knob, "meaning"),
        "advice": get_knob_text(knob, "advice"), "sure": knob.sure.value if knob.sure else "",
        "sure_words": translate(SURE[knob.sure]) if knob.sure else "",
        "names": names, "rows": _list_rows(shared),
        "source": knob.source, "links": [[name, address] for name, address in find_links(knob.source)],
        "earlier": list_earlier_names(knob.path), "search": build_search_text(shared),
    }


def _list_rows(shared: Shared) -> list[list[str]]:
    """Returns labels and texts of what is known of a parameter beside its meaning and advice."""
    knob = shared.knob
    rows = [[translate("legal"), format_usual(knob.bounds) if knob.bounds else ""]]
    rows.append([translate("values"), "\n".join(f"`{name}`: {text}" for name, text in describe_choices(knob).items())])
    if isinstance(knob.usual, Range | tuple):
        rows.append([translate("usual"), format_usual(knob.usual)])
    rows += [[translate(label), get_knob_text(knob, name)] for name, label in LABELS.items()]
    met = [f"{other}: {describe_interaction(knob, other)}" for other in knob.interacts]
    rows.append([translate("interacts with"), "\n".join(met)])
    if knob.empty is not None:
        rows.append([translate("empty"), translate_text(knob.path, "empty", knob.empty.words)])
    return [row for row in rows if row[1]]


def build_search_text(shared: Shared) -> str:
    """Returns what a search for a parameter looks in: its names everywhere, its titles and texts in both languages."""
    knob = shared.knob
    parts = [knob.path, *list_earlier_names(knob.path), *(name for _, name in list_foreign_names(knob.path))]
    for language in LANGUAGES:
        with use_language(language):
            parts += [get_title(knob.path), get_knob_text(knob, "meaning"), get_knob_text(knob, "advice")]
    parts += [*knob.choices, *(get_knob_text(knob, name) for name in LABELS)]
    return " ".join(dict.fromkeys(part for part in parts if part)).lower()
