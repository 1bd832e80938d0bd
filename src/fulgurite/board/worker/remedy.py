"""Remedies as changes of a draft: what a button applies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fulgurite.board.draft import Draft, build_words, find_base
from fulgurite.board.draft_guard import IsAllowed
from fulgurite.board.open_draft import open_words
from fulgurite.config.run import SEVERAL, list_all_knobs
from fulgurite.errors import FulguriteError
from fulgurite.language.message import get_english

WORDS = re.compile(
    r"(?:use|set|try|write|choose|for example)\s+"
    r"((?:\+?[a-z][a-z_.]*=(?:\{[^}]*\}|\[[^\]]*\]|[^\s;,()]+)\s*)+)"
)
"""Words of the command line that an error recommends."""
PLACEHOLDER = re.compile(r"<|\.\.\.|FOLDER|…")


def build_changes(draft: Draft, words: Sequence[str]) -> dict[str, Any] | None:
    """Returns what `words` change in a draft; a value of null is removed. None if they cannot be part of a draft.

    A new option takes away the values of parameters that it does not have.
    """
    opened = open_words(words)
    found = opened.draft
    if not words or opened.notes:
        return None
    values: dict[str, str | None] = dict(found.values)
    for group, option in found.choices.items():
        if group in SEVERAL or not isinstance(option, str):
            continue
        base = find_base(group, option)
        has = {knob.path for knob in list_all_knobs() if knob.path.partition(".")[0] == group and knob.option == base}
        left = [name for name in draft.values if name.partition(".")[0] == group and name not in has]
        values |= {name: None for name in left if name not in values}
    changes: dict[str, Any] = {"choices": dict(found.choices), "values": values}
    return changes | ({"adds": dict(found.adds)} if found.adds else {})


def apply_changes(draft: Draft, changes: dict[str, Any]) -> Draft:
    """Returns the draft with changes, as the page applies them."""
    values = {**draft.values, **changes.get("values", {})}
    return Draft(
        {**draft.choices, **changes.get("choices", {})},
        {name: text for name, text in values.items() if text is not None},
        {**draft.adds, **changes.get("adds", {})},
    )


def find_error_words(
    error: FulguriteError, draft: Draft, allow_code: bool, is_allowed: IsAllowed | None
) -> tuple[str, dict[str, Any] | None]:
    """Returns the words that an error recommends and what they change in the draft; nothing if the page cannot set
    them."""
    found = WORDS.search(get_english(error))
    line = found[1].strip().rstrip(".,;:") if found else ""
    if not line or PLACEHOLDER.search(line):
        return "", None
    changes = build_changes(draft, line.split(" ") if "{" not in line and "[" not in line else [line])
    if changes is None:
        return "", None
    try:
        build_words(apply_changes(draft, changes), allow_code, is_allowed)
    except FulguriteError:
        return "", None
    return line, changes


def find_parameter(error: FulguriteError, draft: Draft) -> str:
    """Returns the parameter or group that an error is about; empty if that cannot be known."""
    about = getattr(error, "about", "")
    if about:
        return str(about)
    facts = [str(fact) for fact in error.message.facts.values()]
    names = [*draft.values, *draft.choices, *draft.adds]
    declared = {knob.path for knob in list_all_knobs()}
    for known in (names, declared):
        if named := next((fact for fact in facts if fact in known), ""):
            return named
    # the names in the sentence itself: values of the draft, then other parameters, then groups
    found = re.findall(r"[a-z_]+(?:\.[a-z_]+)*", get_english(error))
    for some in (draft.values, {name for name in declared if "." in name}, names):
        if inside := next((name for name in found if name in some), ""):
            return inside
    return ""
