"""What a translation must hold: `python -m fulgurite.explain.translate --stale` prints what is stale or missing in
each language."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.explain.choices import list_presets
from fulgurite.explain.knob_index import list_every_knob
from fulgurite.explain.messages import FIXED
from fulgurite.explain.pages import SURE, TEXTS, list_all_groups, read_group_doc
from fulgurite.language.catalogue import compute_digest, load_catalogue
from fulgurite.language.current import LANGUAGES

Text = tuple[str, str, str]
"""A place, a field, the English."""


def list_expected() -> Iterator[Text]:
    """Every text that a translation must have."""
    yield from (("page", "words", english) for english in (*FIXED, *SURE.values()))
    for group in list_all_groups():
        yield group, "about", read_group_doc(group)
        for name, cls in list_options(group).items():
            place = f"{group}={name}"
            yield from (
                (place, "doc", " ".join((cls.__doc__ or "").split())),
                (place, "costs", cls.costs),
                (place, "misread", cls.misread),
            )
    yield from ((f"{p.group}={p.name}", "doc", p.summary) for p in list_presets())
    for knob in list_every_knob():
        yield from ((knob.path, name, getattr(knob, name)) for name in TEXTS)
        yield from ((knob.path, f"interacts {other}", words) for other, words in knob.interacts.items())
        yield from ((knob.path, f"value {name}", words) for name, words in knob.choice_meanings.items())
        if knob.empty:
            yield knob.path, "empty", knob.empty.words


def list_missing(language: str) -> list[Text]:
    """The expected texts that a language lacks, each once."""
    held = load_catalogue(language)
    lacks = (t for t in list_expected() if t[2] and compute_digest(t[2]) not in held.get(t[0], {}).get(t[1], {}))
    return list(dict.fromkeys(lacks))


def list_stale(language: str) -> list[Text]:
    """Returns entries whose English is no longer used: place, field, hash."""
    wanted = {(place, field, compute_digest(english)) for place, field, english in list_expected()}
    held = load_catalogue(language)
    return [
        (p, f, h) for p, fields in held.items() for f, texts in fields.items() for h in texts if (p, f, h) not in wanted
    ]


def main(words: list[str]) -> int:
    """Prints what is to be done in each language; returns 1 if there is anything."""
    load_options()
    todo = 0
    for language in LANGUAGES[1:]:
        for place, field, english in list_missing(language):
            todo += 1
            print(f"{language}: missing  {place} · {field} · {compute_digest(english)}  {english}")
        for place, field, hashed in list_stale(language):
            todo += 1
            print(f"{language}: stale    {place} · {field} · {hashed}")
    if not todo and words:
        print("Every text is there, and none is stale.")
    return 1 if todo else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
