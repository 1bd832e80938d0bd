"""Files of settings of other trainers, such as llama3_lora_sft.yaml, in words of the command line."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fulgurite.foreign_names.entry import ForeignName
from fulgurite.foreign_names.settings import translate_entry
from fulgurite.foreign_names.table import find_names
from fulgurite.language.message import UserMessage, message

SUFFIXES = (".yaml", ".yml", ".json", ".toml")
LARGEST = 1_000_000
"""Bytes of the largest file that is read as settings."""
PER_DEVICE = ("per_device_train_batch_size", "micro_batch_size")
STEPS = ("gradient_accumulation_steps", "accumulate_grad_batches")
TOTAL = "trainer.global_batch_size"


@dataclass(slots=True)
class ForeignSettings:
    """A file in our words: what it is, the words, and what has no counterpart."""

    reason: UserMessage
    words: list[str] = field(default_factory=list)
    note: UserMessage = field(default_factory=UserMessage)
    notes: list[UserMessage] = field(default_factory=list)
    """A sentence for each setting that could not be copied."""
    owner: str = ""
    """Whose names most of the settings have."""


def is_settings_file(word: str) -> bool:
    """Returns whether a word is the path of a file of settings, and no parameter with a value."""
    return "=" not in word and word.lower().endswith(SUFFIXES)


def read_settings(path: str) -> ForeignSettings:
    """Returns the settings of a file in our words; only a reason and a pattern if it is missing or has none."""
    pattern = ["stage=sft", "method=lora", "optim.lr=1e-4"]
    file = Path(path).expanduser()
    if not file.is_file():
        reason = message("{path} is no word of this command, and no file; settings are words: GROUP=OPTION and "
                         "PARAMETER=VALUE.", path=path)
        return ForeignSettings(reason, pattern)
    tree = _load(file)
    # The saved config of one of our runs: the run can be continued, nothing has to be translated.
    if isinstance(tree, Mapping) and (file.parent / "checkpoints").is_dir():
        return ForeignSettings(message("{path} belongs to a run.", path=path), [f"resume.run={file.parent}"])
    found = translate_tree(path, tree) if isinstance(tree, Mapping) else None
    if found is None:
        if file.suffix.lower() == ".json":
            return ForeignSettings(message("{path} is a file of data.", path=path), ["data=file", f"data.path={path}"])
        reason = message("{path} has no setting that is known here; settings are words.", path=path)
        return ForeignSettings(reason, pattern)
    return found


def translate_tree(path: str, tree: Mapping[Any, Any]) -> ForeignSettings | None:
    """Returns the settings of a file, which was read already, in our words; None if none of them is known."""
    settings = dict(_flatten(tree))
    known = {name: entries for name in settings if (entries := find_names(name))}
    if not known:
        return None
    # A name such as learning_rate has several owners; the file belongs to the owner of most of its names.
    owner = Counter(entry.owner for entries in known.values() for entry in entries).most_common(1)[0][0]
    return _translate(path, owner, settings, known)


def _translate(
    path: str, owner: str, settings: Mapping[str, Any], known: Mapping[str, tuple[ForeignName, ...]]
) -> ForeignSettings:
    words: dict[str, str] = {}
    left = [name for name in settings if name not in known]
    notes = [message("{name} has no counterpart here.", name=name) for name in left]
    for name, entries in known.items():
        value = settings[name]
        entry = next((entry for entry in entries if entry.owner == owner), entries[0])
        if value is None or (isinstance(value, Mapping) and entry.words != "strategy"):
            continue  # a mapping is DeepSpeed's own config
        found = translate_entry(entry, _to_text(value))
        if not entry.words:
            # "Not needed" notes a setting whose work is done here anyway, so it is not listed as missing.
            left += [name] if not str(entry.note.template).startswith("Not needed") else []
        elif found.is_copied:
            # By parameter, so that two settings for the same one give one word, the later one.
            words |= {word.partition("=")[0]: word for word in found.words}
        is_computed = name in (*PER_DEVICE, *STEPS)  # together they are the batch size
        if not is_computed and (not entry.words or not found.is_copied):
            notes.append(_describe_left(entry))
    words |= compute_batch_size(settings)
    reason = message("{path} is a file of {owner}; its settings are words here.", path=path, owner=owner)
    note = message("Without a counterpart: {names}.", names=", ".join(left[:12])) if left else UserMessage()
    return ForeignSettings(reason, list(words.values()), note, notes, owner)


def _describe_left(entry: ForeignName) -> UserMessage:
    """Returns why the value of a foreign name was not copied."""
    if entry.words:
        line = message("{name}: its value cannot be copied to {words}.", name=entry.name, words=entry.words)
    else:
        line = message("{name} has no counterpart here.", name=entry.name)
    return message("{line} {note}", line=line, note=entry.note) if entry.note else line


def compute_batch_size(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns the words for examples per device times accumulated steps, on one device."""
    per_device = next((settings[name] for name in PER_DEVICE if name in settings), None)
    steps = next((settings[name] for name in STEPS if name in settings), None)
    if not isinstance(per_device, int) and not isinstance(steps, int):
        return {}
    size = int(per_device or 1) * int(steps or 1)
    return {TOTAL: f"{TOTAL}={size}"}


def _to_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    if isinstance(value, Mapping):
        return json.dumps(value, default=str)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flatten(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yields settings by the last part of their names: litgpt's `train: {epochs: 1}` is `epochs`."""
    for key, value in tree.items():
        # The value of a known name may be a mapping itself, such as DeepSpeed's config.
        if isinstance(value, Mapping) and not find_names(str(key)):
            yield from _flatten(value)
        else:
            yield str(key), value


def _load(file: Path) -> Any:
    if file.stat().st_size > LARGEST:
        return None
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        if file.suffix.lower() == ".toml":
            import tomllib

            return tomllib.loads(text)
        import yaml

        # YAML refuses tabs in indentation, which files written by hand have.
        return yaml.safe_load(re.sub(r"\t", "  ", text))
    except (ValueError, yaml.YAMLError):
        return None
