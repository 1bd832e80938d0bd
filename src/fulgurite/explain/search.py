"""Finding what is asked for: by name, with the nearest name where there is none, and by a word in the texts."""

from __future__ import annotations

from dataclasses import dataclass

from fulgurite.config.renamed import list_earlier_names
from fulgurite.config.schema import Knob, list_options
from fulgurite.errors import ConfigError, find_nearest, suggest_similar
from fulgurite.explain.choices import list_presets
from fulgurite.explain.knob_index import list_every_knob, merge_knobs
from fulgurite.explain.layout import format_value
from fulgurite.explain.pages import TEXTS, get_doc, get_knob_text, get_purpose, list_all_groups, list_choices
from fulgurite.language.message import UserMessage
from fulgurite.text.layout import format_labels, measure_width


def search(word: str) -> str:
    """The knobs and options whose names or texts hold every part of `word`, names first. ConfigError for none."""
    parts = word.lower().split()
    found: list[tuple[int, str, str]] = []
    for shared in merge_knobs(list_every_knob()):
        k = shared.knob
        both = [text for name in TEXTS for text in {getattr(k, name), get_knob_text(k, name)}]
        texts = " ".join(
            [k.path, *list_earlier_names(k.path), *both, k.source, k.empty.words if k.empty else "", *k.choices]
        )
        found += _find_hit(parts, k.path, f"{k.path} = {format_value(k.default)}", get_knob_text(k, "meaning"), texts)
    for group in list_all_groups():
        for name, cls in list_options(group).items():
            texts = " ".join([f"{group}={name}", cls.__doc__ or "", get_doc(cls), cls.costs, cls.misread])
            found += _find_hit(parts, name, f"{group}={name}", get_doc(cls), " ".join(texts.split()))
    for p in list_presets():
        found += _find_hit(
            parts, p.name, f"{p.group}={p.name}", get_purpose(p), f"{p.group}={p.name} {p.says} {get_purpose(p)}"
        )
    if not parts or not found:
        known = [*list_all_groups(), *(k.path for k in list_every_knob())]
        hint = suggest_similar(word, known) if parts else ""
        raise ConfigError(f"No knob or option speaks of {word!r}.{hint} `fulgurite explain` lists the groups.")
    return format_labels(
        [(name, text) for _, name, text in sorted(found, key=lambda hit: hit[0])], measure_width(), indent=0
    )


def _find_hit(parts: list[str], name: str, shown: str, text: str, everywhere: str) -> list[tuple[int, str, str]]:
    if not all(part in everywhere.lower() for part in parts):
        return []
    # names before what is shown, and that before the other texts
    rank = sum(0 if part in name.lower() else 1 if part in text.lower() else 2 for part in parts)
    return [(rank, shown, text)]


@dataclass(frozen=True, slots=True)
class Question:
    """What a word names: one group, or (group, option) pairs, or knobs."""

    group: str = ""
    options: tuple[tuple[str, str], ...] = ()
    knobs: tuple[Knob, ...] = ()
    earlier: str = ""
    """The name that was asked for, if the knobs have another one today."""


def parse_question(word: str) -> Question:
    """What `word` names: GROUP=OPTION, a group, a knob (`knob=value` too), or the bare name of a knob or of an option.

    Raises ConfigError with the nearest names.
    """
    name, equals, value = word.partition("=")
    if equals and name in list_all_groups():
        return Question(options=((name, _describe_option(name, value)),))
    if name in list_all_groups():
        return Question(group=name)
    if knobs := [k for k in list_every_knob() if name == k.path] or [k for k in list_every_knob() if name == k.name]:
        return Question(knobs=tuple(knobs))
    if renamed := [k for k in list_every_knob() if name in list_earlier_names(k.path)]:
        return Question(knobs=tuple(renamed), earlier=name)
    if pairs := [(g, name) for g in list_all_groups() if name in list_choices(g)]:
        return Question(options=tuple(pairs))
    if renamed := [k for k in list_every_knob() if any(old.endswith(f".{name}") for old in list_earlier_names(k.path))]:
        return Question(knobs=tuple(renamed), earlier=name)
    raise ConfigError(f"No knob, group or option is called {name}.{_find_nearest(name)}")


def _describe_option(group: str, name: str) -> str:
    if name in list_choices(group):
        return name
    known = list_choices(group)
    hint = suggest_similar(name, known) or f" There are {', '.join(known)}."
    raise ConfigError(f"{group} has no option {name!r}.{hint}" if known else f"{group} has no options.")


def _find_nearest(word: str) -> str | UserMessage:
    names = [
        *list_all_groups(),
        *(k.path for k in list_every_knob()),
        *(f"{g}={o}" for g in list_all_groups() for o in list_choices(g)),
    ]
    tails = [f"{g}={o}" for g in list_all_groups() for o in list_choices(g) if find_nearest(word, [o], 1)]
    hint = suggest_similar(word, names) or (f" Did you mean {' or '.join(tails[:3])}?" if tails else "")
    return hint or f" Try `fulgurite explain --search {word}`, or `fulgurite explain` for the list."
