"""Finds what is asked for: by our name or another trainer's, with the nearest name if there is none, and by words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fulgurite.config.renamed import list_earlier_names
from fulgurite.config.schema import Knob, list_options
from fulgurite.errors import ConfigError, find_nearest, join_or, suggest_similar
from fulgurite.explain.choices import list_presets
from fulgurite.explain.knob_index import list_every_knob, merge_knobs
from fulgurite.explain.layout import format_value
from fulgurite.explain.pages import (
    TEXTS,
    describe_group,
    get_doc,
    get_knob_text,
    get_purpose,
    list_all_groups,
    list_choices,
)
from fulgurite.foreign_names.entry import ForeignName, normalize_name
from fulgurite.foreign_names.settings import find_value
from fulgurite.foreign_names.table import find_names, list_foreign_names
from fulgurite.language.message import UserMessage, message
from fulgurite.text.layout import format_labels, measure_width


def search(word: str) -> str:
    """Returns the parameters and options whose names or texts have every part of `word`, names first.

    The names of other trainers count too. Raises ConfigError if nothing is found.
    """
    parts = word.lower().split()
    found: list[tuple[int, str, str]] = []
    for shared in merge_knobs(list_every_knob()):
        k = shared.knob
        # the English text and that of the language in use: a word of either is found
        both = [text for name in TEXTS for text in {getattr(k, name), get_knob_text(k, name)}]
        texts = " ".join(
            [k.path, *list_earlier_names(k.path), *both, k.source, k.empty.words if k.empty else "", *k.choices]
        )
        shown = f"{k.path} = {format_value(k.default)}"
        found += _find_hit(parts, k.path, shown, get_knob_text(k, "meaning"), texts, _name_elsewhere(k.path))
    for group in list_all_groups():
        for name, cls in list_options(group).items():
            texts = " ".join([f"{group}={name}", cls.__doc__ or "", get_doc(cls), cls.costs, cls.misread])
            foreign = _name_elsewhere(f"{group}={name}")
            found += _find_hit(parts, name, f"{group}={name}", get_doc(cls), " ".join(texts.split()), foreign)
        found += _find_hit(parts, group, group, describe_group(group), group, _name_elsewhere(group))
    for p in list_presets():
        texts, foreign = f"{p.group}={p.name} {p.summary} {get_purpose(p)}", _name_elsewhere(f"{p.group}={p.name}")
        found += _find_hit(parts, p.name, f"{p.group}={p.name}", get_purpose(p), texts, foreign)
    # names without a counterpart are answered with the reason
    found += [(0, e.name, str(e.note)) for e in find_names(word) if not e.words]
    if not parts or not found:
        raise build_no_results(word)
    hits = dict.fromkeys((name, text) for _, name, text in sorted(found, key=lambda hit: hit[0]))
    return format_labels(list(hits), measure_width(), indent=0)


def build_no_results(word: str) -> ConfigError:
    """Returns the error for a word that nothing is called, with the groups."""
    groups = ", ".join(list_all_groups())
    return ConfigError("No results for {word!r}. The groups are {groups}.", word=word, groups=groups)


def _name_elsewhere(path: str) -> list[str]:
    return [name for _, name in list_foreign_names(path)]


def _find_hit(
    parts: list[str], name: str, shown: str, text: str, everywhere: str, foreign: Sequence[str]
) -> list[tuple[int, str, str]]:
    asked = normalize_name(" ".join(parts))
    called = [normalize_name(other) for other in foreign]
    if asked and asked in called:
        # the whole name of another trainer's parameter comes before all partial hits
        return [(-1, shown, text)]
    everywhere = f"{everywhere} {' '.join(foreign)}".lower()
    if not all(part in everywhere for part in parts):
        return []
    # names before what is shown, and that before the other texts
    names = f"{name} {' '.join(foreign)}".lower()
    rank = sum(0 if part in names else 1 if part in text.lower() else 2 for part in parts)
    return [(rank, shown, text)]


@dataclass(frozen=True, slots=True)
class Question:
    """What a word names: groups, (group, option) pairs, parameters, or other trainers' names without a counterpart."""

    groups: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    knobs: tuple[Knob, ...] = ()
    earlier: str = ""
    """The name that was asked for, if the parameters have another one today."""
    foreign: tuple[ForeignName, ...] = ()
    """The names of other trainers that were asked for."""

    @property
    def group(self) -> str:
        """The first group; empty if there is none."""
        return self.groups[0] if self.groups else ""


def parse_question(word: str) -> Question:
    """Returns what `word` names: GROUP=OPTION, a group, a parameter (`name=value` too), another trainer's name for
    one, or the bare name of a parameter or an option.

    Raises ConfigError with the nearest names.
    """
    name, equals, value = word.partition("=")
    if equals and name in list_all_groups():
        return Question(options=((name, _describe_option(name, value)),))
    if name in list_all_groups():
        return Question(groups=(name,))
    every = list_every_knob()
    if knobs := tuple(k for k in every if name == k.path):
        return Question(knobs=knobs)
    if renamed := [k for k in every if name in list_earlier_names(k.path)]:
        return Question(knobs=tuple(renamed), earlier=name)
    own = tuple(k for k in every if name == k.name)
    if entries := find_names(name):
        return _join_foreign(entries, own)
    if own:
        return Question(knobs=own)
    if pairs := [(g, name) for g in list_all_groups() if name in list_choices(g)]:
        return Question(options=tuple(pairs))
    if renamed := [k for k in every if any(old.endswith(f".{name}") for old in list_earlier_names(k.path))]:
        return Question(knobs=tuple(renamed), earlier=name)
    hint = _find_nearest(name)
    if not hint:
        raise build_no_results(name)
    raise ConfigError("There is no parameter, group or option {name}.{hint}", name=name, hint=hint)


def _join_foreign(entries: tuple[ForeignName, ...], own: tuple[Knob, ...]) -> Question:
    """Returns the targets of other trainers' names, and after them the parameters of ours with the same bare name."""
    targets = list(dict.fromkeys(target for entry in entries for target in entry.targets))
    groups = [target for target in targets if target in list_all_groups()]
    pairs = [(t.partition("=")[0], t.partition("=")[2]) for t in targets if "=" in t]
    knobs = [k for target in targets for k in list_every_knob() if k.path == target]
    knobs += [k for k in own if k not in knobs]
    return Question(tuple(groups), tuple(pairs), tuple(knobs), foreign=entries)


def describe_foreign(entries: Sequence[ForeignName]) -> str:
    """Returns a line for each of other trainers' names: what it is called here, or why it has no counterpart."""
    lines: dict[tuple[str, str], list[str]] = {}
    notes = {(e.words, e.note.template): e.note for e in entries}
    for entry in entries:
        lines.setdefault((entry.words, entry.note.template), []).append(entry.owner)
    found = []
    for (words, key), owners in lines.items():
        name, owned = entries[0].name, ", ".join(dict.fromkeys(owners))
        ours = " ".join(word.partition("={")[0] for word in words.split())
        line = message("{name} ({owners}) is called {words} here.", name=name, owners=owned, words=ours)
        if not words:
            line = message("{name} ({owners}) has no counterpart here.", name=name, owners=owned)
        found.append(f"{line} {notes[words, key]}".strip())
    return "\n".join(found)


def _describe_option(group: str, name: str) -> str:
    if name in list_choices(group):
        return name
    known = list_choices(group)
    if not known:
        raise ConfigError("{group} has no options.", group=group)
    if words := find_value(group, name):
        raise ConfigError(
            "{group}={name} is written {words} here; {command} shows the options.",
            group=group, name=name, words=words, command=f"`fulgurite explain {group}`",
        )
    hint = suggest_similar(name, known) or message(" There are {names}.", names=", ".join(known))
    raise ConfigError("{group} has no option {name!r}.{hint}", group=group, name=name, hint=hint)


def _find_nearest(word: str) -> UserMessage:
    names = [
        *list_all_groups(),
        *(k.path for k in list_every_knob()),
        *(f"{g}={o}" for g in list_all_groups() for o in list_choices(g)),
    ]
    if found := suggest_similar(word, names):
        return found
    pairs = [f"{g}={o}" for g in list_all_groups() for o in list_choices(g) if find_nearest(word, [o], 1)]
    return message(" Did you mean {names}?", names=join_or(pairs[:3])) if pairs else UserMessage()
