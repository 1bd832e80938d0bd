"""Makes a draft of what there is already: words of a command line, a run's folder, YAML of ours or of another tool."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from fulgurite.board.draft import Choice, Draft, find_knob
from fulgurite.board.draft_guard import has_code
from fulgurite.board.typed_values import DraftError, format_typed, get_kind
from fulgurite.config.half_width import widen_nothing
from fulgurite.config.override_names import decode_key, read_name
from fulgurite.config.overrides import UNREADABLE, quote_typed, read_value, unescape
from fulgurite.config.renamed import rename_config, rename_words
from fulgurite.config.run import GROUPS, PRESETS, SEVERAL, list_all_knobs
from fulgurite.config.schema import Knob, strip_none
from fulgurite.convert.conversion import Line
from fulgurite.convert.convert import convert_settings
from fulgurite.errors import ConfigError
from fulgurite.explain.choices import read_default_options
from fulgurite.files.yaml_text import load_yaml
from fulgurite.foreign_names.settings_file import translate_tree
from fulgurite.language.message import UserMessage, message

PROGRAM = ("fulgurite", "train", "plan")
OWN_FOLDER = ("run_dir", "resume.run", "resume.allow", "sweep.trial")
"""Parameters about the folder of the run that is opened, which another run must not share."""
TOGETHER = re.compile(r"^# with: (.*)$", re.MULTILINE)
"""A line of our YAML with the presets that are chosen beside it."""


@dataclass(slots=True)
class Opened:
    """A draft, and a sentence for each part that is not in it."""

    choices: dict[str, Choice] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    adds: dict[str, str] = field(default_factory=dict)
    notes: list[UserMessage] = field(default_factory=list)
    maps: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Mappings, whose entries may come from several words."""

    @property
    def draft(self) -> Draft:
        """The draft of what was read."""
        values = self.values | {name: format_typed(found) for name, found in self.maps.items()}
        return Draft(self.choices, values, self.adds)

    def to_json(self) -> dict[str, Any]:
        """Returns the answer for the page."""
        return {"draft": self.draft.to_json(), "notes": [str(note) for note in self.notes]}


def open_text(line: str, allow_code: bool = False) -> Opened:
    """Reads a command line as it is typed into a shell. Raises ConfigError if its quotes do not match."""
    try:
        words = shlex.split(line.replace("\\\n", " "))
    except ValueError as error:
        raise ConfigError("The quotes of this command line do not match.") from error
    # a line copied from a terminal begins with its prompt and the command
    while words and words[0] in ("$", *PROGRAM):
        words.pop(0)
    return open_words(words, allow_code)


def open_run(folder: Path, allow_code: bool = False) -> Opened:
    """Reads the words of the run in a folder. Raises CheckpointError if it is no run."""
    from fulgurite.run.stored_words import read_stored_words  # imports Hydra

    return open_words(read_stored_words(folder), allow_code)


def open_words(words: Sequence[str], allow_code: bool = False) -> Opened:
    """Reads words of the command line; what cannot be in a draft is left out with a note."""
    opened, knobs = Opened(), {knob.path: knob for knob in list_all_knobs()}
    plain = [word for word in words if word not in ("-m", "--multirun", "")]
    typed = rename_words([widen_nothing(word, knobs) for word in plain])
    # choices first: which declaration a parameter has depends on them
    later = [word for word in typed if not _add_choice(opened, word)]
    options = {**read_default_options(), **opened.choices}
    for word in later:
        name = read_name(word)
        if "=" not in word or word.startswith(("-", "~")):
            opened.notes.append(message("{word} is left out: it sets no parameter.", word=word))
        elif name in OWN_FOLDER:
            opened.notes.append(message("{name} is left out: a new run has a folder of its own.", name=name))
        elif not allow_code and has_code(name, word.partition("=")[2]):
            opened.notes.append(
                message("{name} is left out: it can let code run. Start the board with --allow-code to keep it.",
                        name=name)
            )
        else:
            _add_value(opened, word, name, options, knobs)
    return opened


def _add_choice(opened: Opened, word: str) -> bool:
    """Adds an option or a preset, and returns whether the word is one."""
    name, _, value = word.lstrip("+").partition("=")
    name, bare = name.strip(), value.strip().strip("'\"")
    if name in PRESETS and bare:
        if bare != "null":
            opened.adds[name] = bare
        return True
    if name not in GROUPS or not bare:
        return False
    if bare.startswith("["):
        opened.choices[name] = [item.strip().strip("'\"") for item in bare.strip("[]").split(",") if item.strip()]
    elif "," in bare or "(" in bare:
        opened.notes.append(message("{word} is left out: the page makes one run, with one value.", word=word))
    else:
        opened.choices[name] = bare
    return True


def _add_value(
    opened: Opened, word: str, name: str, options: Mapping[str, Choice], knobs: Mapping[str, Knob]
) -> None:
    parent, _, key = name.rpartition(".")
    if name not in knobs and parent in knobs and get_kind(knobs[parent]) == "map":
        found = read_value(word.partition("=")[2])
        opened.maps.setdefault(parent, {})[key] = unescape(found) if found is not UNREADABLE else word.partition("=")[2]
        return
    try:
        knob = find_knob(name, options)
        value = _read_word(knob, word, knobs)
    except DraftError as error:
        opened.notes.append(error.message)
        return
    if isinstance(value, Mapping):
        opened.maps[name] = dict(value)
    else:
        opened.maps.pop(name, None)
        opened.values[name] = str(value)


def _read_word(knob: Knob, word: str, knobs: Mapping[str, Knob]) -> str | dict[str, Any]:
    """Returns the value of a word as it would be typed into the field of its parameter, a mapping as it is."""
    kind, raw = get_kind(knob), word.partition("=")[2].strip()
    found = read_value(quote_typed(word, knobs).partition("=")[2], keep_quotes=True)
    if found is UNREADABLE:
        raise DraftError(message("{word} is left out: it cannot be read.", word=word), knob.path)
    # by name: the classes are Hydra's, which the server does not import to start
    if type(found).__name__.endswith("Sweep"):
        raise DraftError(message("{word} is left out: the page makes one run, with one value.", word=word), knob.path)
    if found is None or found == "":
        return "" if kind != "map" else {}
    if kind in ("number", "bool"):
        return raw.strip("'\"")
    plain = unescape(_strip_quotes(found))
    if kind == "map":
        return {decode_key(str(key)): item for key, item in plain.items()} if isinstance(plain, dict) else {}
    if kind == "list":
        items = plain if isinstance(plain, list) else [plain]
        is_text = get_args(strip_none(knob.type))[0] is str
        return format_typed([str(item) if is_text else item for item in items])
    return str(plain)


def _strip_quotes(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(getattr(key, "text", key)): _strip_quotes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strip_quotes(item) for item in value]
    return getattr(value, "text", value)


def open_yaml(text: str, allow_code: bool = False) -> Opened:
    """Reads YAML: a run's config.yaml, a file that the page wrote, or another tool's settings, such as those of
    LLaMA-Factory.

    Raises ConfigError if it is none of these.
    """
    tree = load_yaml(text)
    if isinstance(tree, Mapping):
        if "defaults" in tree or any(isinstance(tree.get(group), Mapping) for group in GROUPS):
            return _open_own(tree, text, allow_code)
        found = translate_tree("YAML", tree)
        if found is not None:
            conversion = convert_settings(found.owner, tree)
            words, notes = (found.words, found.notes) if conversion is None else (
                conversion.words, [note_line(line) for line in conversion.lines if not line.words and line.reason]
            )
            opened = open_words(words, allow_code)
            opened.notes = [found.reason, *notes, *opened.notes]
            return opened
    raise ConfigError("This YAML has no setting that is known here: neither a config of a run nor another tool's.")


def note_line(line: Line) -> UserMessage:
    """Returns why a setting of another trainer is not in the draft."""
    return message("{key}: {reason}", key=line.key, reason=line.reason)


def _open_own(tree: Mapping[str, Any], text: str, allow_code: bool) -> Opened:
    """Reads a config of ours: the options under `option` or in `defaults`, and the values that are not the default."""
    from fulgurite.config.stored import add_strategy  # imports Hydra, which the server does not need to start

    opened = Opened()
    words = [word for line in TOGETHER.findall(text) for word in line.split()]
    words += list(_list_defaults(tree.get("defaults")))
    # A run's config.yaml has every value and no defaults list: only what differs from the default was chosen. A file
    # that the page wrote has only what was chosen.
    whole = "defaults" not in tree
    config = add_strategy(rename_config({str(k): v for k, v in tree.items() if k != "defaults"}))
    words += [f"{group}={choice}" for group, choice in _list_options(config)]
    for word in words:
        _add_choice(opened, word)
    options = {**read_default_options(), **opened.choices}
    for name, value in _list_leaves(config, options):
        if name in OWN_FOLDER or (whole and name == "name"):
            continue
        if not allow_code and has_code(name, format_typed(value)):
            opened.notes.append(
                message("{name} is left out: it can let code run. Start the board with --allow-code to keep it.",
                        name=name)
            )
            continue
        try:
            knob = find_knob(name, options)
        except DraftError as error:
            opened.notes.append(error.message)
            continue
        plain = unescape(value)
        if not whole or plain != _plain_default(knob):
            opened.values[name] = format_typed(plain)
    return opened


def _list_defaults(entries: Any) -> Iterator[str]:
    """Yields words for the entries of Hydra's defaults list that choose an option of a group."""
    for entry in entries if isinstance(entries, Sequence) and not isinstance(entries, str) else ():
        for key, value in entry.items() if isinstance(entry, Mapping) else ():
            # an entry such as `override /optim@pkg: adamw` names the group between the slash and the @
            group = str(key).removeprefix("override ").strip().lstrip("/").partition("@")[0]
            names = f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)
            if group in GROUPS or group in PRESETS:
                yield f"{group}={names}"


def _list_options(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for group in GROUPS:
        node = config.get(group)
        if not isinstance(node, Mapping):
            continue
        if group not in SEVERAL and isinstance(node.get("option"), str):
            yield group, node["option"]
        elif group in SEVERAL and any(isinstance(item, Mapping) and "option" in item for item in node.values()):
            yield group, f"[{','.join(map(str, node))}]"


def _list_leaves(config: Mapping[str, Any], options: Mapping[str, Choice]) -> Iterator[tuple[str, Any]]:
    """Yields the parameters of a config with their values; a mapping that is a parameter is one value."""
    knobs = {knob.path for knob in list_all_knobs()}

    def walk(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            name = f"{prefix}{key}"
            if name in knobs or not isinstance(value, Mapping):
                if key != "option":
                    yield name, value
            else:
                yield from walk(value, f"{name}.")

    yield from walk(config, "")


def _plain_default(knob: Knob) -> Any:
    default = knob.default
    return str(default) if isinstance(default, str) else default
