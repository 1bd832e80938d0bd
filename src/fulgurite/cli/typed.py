"""Words that a person types first: flags, names of other trainers, spaces, files. Each is answered with what to write.

Nothing is changed silently, but for full-width letters and punctuation of a Chinese keyboard, which can mean only one
thing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from fulgurite.config.choices import DATA_FILE, HUB_ID, list_names
from fulgurite.config.half_width import widen_nothing
from fulgurite.config.override_names import read_name
from fulgurite.config.overrides import find_text_kind, quote_typed
from fulgurite.config.paths import is_there
from fulgurite.config.renamed import RENAMED
from fulgurite.config.run import GROUPS, PRESETS, SEVERAL, list_all_knobs
from fulgurite.config.schema import Knob, list_groups, strip_none
from fulgurite.errors import ConfigError
from fulgurite.foreign_names import notes
from fulgurite.foreign_names.entry import ForeignName
from fulgurite.foreign_names.notes import DEEPSPEED
from fulgurite.foreign_names.settings import Setting, find_value, quote_value, translate_entry
from fulgurite.foreign_names.settings_file import (
    PER_DEVICE,
    STEPS,
    TOTAL,
    compute_batch_size,
    is_settings_file,
    read_settings,
)
from fulgurite.foreign_names.sharding import find_strategy
from fulgurite.foreign_names.table import find_names
from fulgurite.language.message import UserMessage, message

MICRO = "trainer.micro_batch_size"
DECIMAL_COMMA = re.compile(r"0,\d+")
"""A number as it is written in German or French; with another first digit it may be a list of values."""


@dataclass(slots=True)
class Repair:
    """What to write in place of words that were typed: the reason, and a note if there is more to know."""

    words: list[str]
    reason: UserMessage
    note: UserMessage = field(default_factory=UserMessage)


@dataclass(slots=True)
class TypedWords:
    """The words of `train` or `plan`, which are repaired one after the other."""

    command: str
    switches: Collection[str]
    """Flags of the command without a value."""
    valued: Collection[str]
    """Flags of the command that take the next word."""
    kept: list[str] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)

    typed_numbers: dict[str, int] = field(default_factory=dict)
    """Whole numbers that names of other trainers were given, by these names."""

    def multiply_batches(self) -> None:
        """Puts the product of a batch size per device and accumulated steps, if both were typed, in place of both."""
        names = (*PER_DEVICE, *STEPS)
        given = {name: self.typed_numbers[name] for name in names if name in self.typed_numbers}
        if len(given) == 2 and f"{TOTAL}=..." in self.kept:
            total = compute_batch_size(given)[TOTAL]
            self.kept = [word for word in self.kept if word != f"{MICRO}=..."]
            self.kept[self.kept.index(f"{TOTAL}=...")] = total
            reason = message("{names} are {total} together, on one device.", names=", ".join(given), total=total)
            replaced = [repair for repair in self.repairs if repair.words == [f"{MICRO}=..."]]
            for repair in replaced:
                repair.reason, repair.note = reason, notes.ACCUMULATION

    def note_number(self, word: str, following: str) -> None:
        """Keeps the whole number that `--name 4`, `--name=4` or `name=4` gives."""
        name, equals, value = word.lstrip("-").partition("=")
        number = value if equals else following
        if number.isdecimal():
            self.typed_numbers[name.replace("-", "_")] = int(number)

    def add(self, repair: Repair) -> None:
        """Keeps a repair and its words."""
        self.repairs.append(repair)
        self.kept += [word for word in repair.words if word not in self.kept]


def check_typed(command: str, words: Sequence[str], switches: Collection[str], valued: Collection[str]) -> list[str]:
    """Returns the words of `train` or `plan`. Raises ConfigError with the whole command if it is written otherwise."""
    typed = TypedWords(command, switches, valued)
    knobs = {knob.path: knob for knob in list_all_knobs()}
    rest = [widen_nothing(word, knobs) for word in words]
    while rest:
        rest = rest[_repair_next(typed, rest, knobs) :]
    known = {*switches, *valued}
    unknown = any(_is_flag(word) and word.partition("=")[0] not in known for word in typed.kept)
    if not typed.repairs or unknown:  # argparse refuses unknown flags
        return typed.kept
    typed.multiply_batches()
    raise ConfigError(
        "{reason} Write `{command}`.{note}",
        reason=typed.repairs[0].reason, command=" ".join(["fulgurite", command, *map(_quote_word, typed.kept)]),
        note=_join_notes(typed.repairs),
    )


def _repair_next(typed: TypedWords, rest: list[str], knobs: dict[str, Knob]) -> int:
    """Keeps or repairs the first of the words, and returns how many of them were used."""
    word, following = rest[0], rest[1] if len(rest) > 1 else ""
    typed.note_number(word, following)
    flag = word.partition("=")[0]
    if flag in typed.switches or (flag in typed.valued and "=" in word):
        typed.kept.append(word)
        return 1
    if flag in typed.valued:
        typed.kept += rest[:2]
        return 2
    if _is_flag(word):
        return _repair_flag(typed, word, following, knobs)
    if word.endswith(":") and word[:-1] in knobs and following:
        typed.add(Repair([f"{word[:-1]}={following}"], message("A value comes after an equals sign.")))
        return 2
    if following.startswith("=") or (word.endswith("=") and following and "=" not in following):
        # `a = 1` is three words, `a =1` and `a= 1` are two
        used = 3 if following == "=" and len(rest) > 2 else 2
        joined = "".join(rest[:used])
        typed.add(Repair([joined], message("There are no spaces around the equals sign.")))
        return used
    if used := _repair_apart(typed, word, following, knobs):
        return used
    if found := _repair_word(word, knobs, "--multirun" in typed.kept or "-m" in (*typed.kept, *rest)):
        typed.add(found)
    else:
        typed.kept.append(word)
    return 1


def _repair_apart(typed: TypedWords, word: str, following: str, knobs: dict[str, Knob]) -> int:
    """Repairs `optim.lr 1e-4` and `"optim.lr=1e-4 seed=1"`; returns how many words were used, 0 if this is neither."""
    if word in knobs and following and "=" not in following and not _is_flag(following):
        typed.add(Repair([f"{word}={following}"], message("A value comes after an equals sign.")))
        return 2
    # inside one word: quotes around several settings, of which each begins with a name that is known
    each = word.split()
    if len(each) > 1 and all("=" in part and read_name(part) in {*knobs, *list_groups()} for part in each):
        typed.add(Repair(each, message("Each setting is a word of its own.")))
        return 1
    return 0


def _is_flag(word: str) -> bool:
    return word.startswith("-") and word[1:2] != "" and not word[1:2].isdigit()


def _repair_flag(typed: TypedWords, word: str, following: str, knobs: dict[str, Knob]) -> int:
    """Repairs a flag that is a parameter; a flag that means nothing is kept, and argparse refuses it."""
    name, equals, value = word.lstrip("-").partition("=")
    takes_next = not equals and following and not _is_flag(following) and "=" not in following
    if takes_next:
        value = following
    names_strategy = any(entry.words == "strategy" for entry in find_names(name))
    if takes_next and is_settings_file(following) and not names_strategy:
        typed.add(_repair_file(following))
        return 2
    if (found := _translate(name.replace("-", "_"), value or "true", knobs)) is None:
        typed.kept.append(word)
        return 1
    reason = message("Parameters are written without dashes, as NAME=VALUE.")
    typed.add(Repair(found.words, reason, found.note or UserMessage()))
    return 2 if takes_next else 1


def _repair_word(word: str, knobs: dict[str, Knob], multirun: bool) -> Repair | None:
    if is_settings_file(word):
        return _repair_file(word)
    if "=" not in word:
        return _repair_bare(word, knobs)
    name, value = read_name(word), word.partition("=")[2]
    if word[0] == "~" or name.startswith(("hydra", "chat.", "export.")) or (word[0] == "+" and name in PRESETS):
        return None
    if name in knobs:
        return _repair_value(word, name, value, knobs, multirun)
    if (new := RENAMED.get(name)) is not None:
        return Repair([f"{new}={value}"], _explain_other(word, [f"{new}={value}"]))
    if name in list_groups():
        options = list_options_for(name, value)
        note = DEEPSPEED if name == "strategy" and find_strategy(value) is not None else UserMessage()
        return None if options in ([word], []) else Repair(options, _explain_other(word, options), note)
    return None if "." in name and name.rpartition(".")[0] in knobs else _translate(name, value, knobs)


def _repair_value(word: str, name: str, value: str, knobs: dict[str, Knob], multirun: bool) -> Repair | None:
    """Repairs a value that other trainers have for a parameter, and a list without brackets."""
    if (known := find_value(name, value)) is not None:
        flash = name == "model.attention" and value.casefold().startswith(("flash", "fa"))
        return Repair(known.split(), _explain_other(word, known.split()), notes.ATTENTION if flash else UserMessage())
    if value.startswith("="):
        return Repair([f"{name}={value.lstrip('=')}"], message("One equals sign separates name and value."))
    is_list = find_text_kind(name, knobs) == "list"
    if strip_none(knobs[name].type) in (int, float):
        if value.endswith(",") and value.count(",") == 1:
            return Repair([f"{name}={value[:-1]}"], message("No comma separates settings."))
        # in a multirun a comma separates two values
        if DECIMAL_COMMA.fullmatch(value) and not multirun:
            return Repair([f"{name}={value.replace(',', '.')}"], message("Decimals begin with a point."))
    if is_list and "," in value and value[0] not in "[({'\"" and not multirun and quote_typed(word, knobs) == word:
        return Repair([f"{name}=[{value}]"], message("{name} is a list, which is written in brackets.", name=name))
    return None


def list_options_for(group: str, value: str) -> list[str]:
    """Returns the words for an option that a person may have meant; `[group=value]` if it is one, `[]` if unknown."""
    names = list_names(group)
    if value in names or not value or value[0] in "[({'\"$":
        return [f"{group}={value}"]
    if (known := find_value(group, value)) is not None:
        return known.split()
    if value.lower() in names:
        return [f"{group}={value.lower()}"]
    if group in SEVERAL and "," in value and set(value.split(",")) <= {*names}:
        return [f"{group}=[{value}]"]
    path = is_there(value) or value.startswith(("/", "./", "../", "~")) or HUB_ID.fullmatch(value)
    if group == "model" and path:
        return ["model=hf", f"model.path={value}"]
    if group == "data" and (path or DATA_FILE.fullmatch(value)):
        hub = "" if is_there(value) or DATA_FILE.fullmatch(value) or not HUB_ID.fullmatch(value) else "hub:"
        return ["data=file", f"data.path={hub}{value}"]
    return []


def _repair_bare(word: str, knobs: dict[str, Knob]) -> Repair | None:
    """Repairs a word without a value: an option, a file, a model, a run folder; none if it means nothing."""
    if word[0] in "~+":
        return None
    reason = message("{word} is a value without the name of its group or parameter.", word=word)
    option = word.lower()
    # several groups have an option `none`, so that alone it names none of them
    group = next((name for name in GROUPS if option != "none" and option in list_names(name)), None)
    if group is not None:
        return Repair([f"{group}={option}"], reason)
    if is_there(f"{word}/checkpoints"):
        return Repair([f"resume.run={word}"], reason)
    if DATA_FILE.fullmatch(word):
        return Repair(["data=file", f"data.path={word}"], reason)
    if HUB_ID.fullmatch(word) or is_there(f"{word}/config.json"):
        return Repair(["model=hf", f"model.path={word}"], reason)
    name, colon, value = word.partition(":")
    if colon and (name in knobs or name in list_groups() or find_names(name)) and (r := _translate(name, value, knobs)):
        return Repair(r.words, message("A value comes after an equals sign."), r.note)
    if word in knobs:
        return Repair([f"{word}=..."], message("{word} needs a value.", word=word))
    return _translate(word, "...", knobs)


def _repair_file(path: str) -> Repair:
    """Repairs a file of another trainer's settings: all of them in our words."""
    found = read_settings(path)
    return Repair(found.words, found.reason, found.note)


def _translate(name: str, value: str, knobs: dict[str, Knob]) -> Repair | None:
    """Returns the words for a name, ours or another trainer's, with a value; None if nobody has such a name."""
    if name in list_groups():
        return Repair(list_options_for(name, value) or [f"{name}={value}"], _explain_other(name, [f"{name}={value}"]))
    own = [path for path in knobs if path == name or path.rpartition(".")[2] == name]
    # a name of `chat` or `export` is no word of these commands
    entries = tuple(e for e in find_names(name) if all(_is_word(target, knobs) for target in e.targets))
    # a whole path is ours; its last part, such as `lr`, only if no other trainer has that name
    if own and (name in own or not entries):
        return Repair([f"{own[0]}={quote_value(value)}"], _explain_other(name, [f"{own[0]}={value}"]))
    if not entries:
        return None
    setting = translate_entry(entries[0], value)
    words = list(setting.words) if setting.is_copied else [f"{word}=..." for word in setting.words]
    return Repair(words, explain_foreign(entries, setting), setting.entry.note)


def _is_word(target: str, knobs: dict[str, Knob]) -> bool:
    return target in knobs or target.partition("=")[0] in list_groups()


def explain_foreign(entries: Sequence[ForeignName], setting: Setting) -> UserMessage:
    """Returns what a foreign name is called here, or that nothing here corresponds."""
    name, owners = entries[0].name, list_owners(entries)
    if entries[0].words:
        words = " ".join(setting.words) or entries[0].words
        return message("{name} ({owners}) is called {words} here.", name=name, owners=owners, words=words)
    return message("{name} ({owners}) has no counterpart here.", name=name, owners=owners)


def list_owners(entries: Sequence[ForeignName]) -> str:
    """Returns the owners of names, each once."""
    owners = dict.fromkeys(entry.owner for entry in entries)
    return ", ".join(str(message("other tools")) if owner == "other tools" else owner for owner in owners)


def _explain_other(word: str, words: Sequence[str]) -> UserMessage:
    if not words:
        return message("{word} is what happens here without it; leave it out.", word=word)
    return message("{word} is written {words} here.", word=word, words=" ".join(words))


def _join_notes(repairs: Sequence[Repair]) -> UserMessage:
    notes: list[UserMessage] = []
    for repair in repairs:
        absent = repair.reason if "has no counterpart" in repair.reason.template else UserMessage()
        for sentence in (absent, repair.note):
            if sentence and sentence not in notes and sentence != repairs[0].reason:
                notes.append(sentence)
    joined = UserMessage()
    for note in notes[:3]:
        joined = message("{before} {note}", before=joined, note=note)
    return joined


def _quote_word(word: str) -> str:
    return f"'{word}'" if set(word) & set("[]{}()$*? |;&<>") and "'" not in word else word
