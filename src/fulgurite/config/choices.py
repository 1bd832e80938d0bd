"""Which options a group has, and what to write in place of a path or a hub id that was given for one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fulgurite.config.paths import find_conf_dir, is_there
from fulgurite.config.run import GROUPS, SEVERAL, list_all_knobs
from fulgurite.config.schema import list_options
from fulgurite.errors import ConfigError, join_or, suggest_similar
from fulgurite.foreign_names.settings import find_value
from fulgurite.language.message import UserMessage, message

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""`owner/name`, as on the hub."""
DATA_FILE = re.compile(r".*\.(jsonl?|ndjson|csv|tsv|parquet|arrow|txt|text)(\.gz)?", re.IGNORECASE)


EARLIER_TRAINERS = {
    "auto": "strategy=auto", "cpu": "trainer.accelerator=cpu",
    "ddp_cpu": "strategy=ddp trainer.devices=2 trainer.accelerator=cpu",
}
"""What the options of `trainer` were before there was `strategy`, and how each is written now."""


def list_names(group: str, config_dir: Path | None = None) -> list[str]:
    """The names that `group=` takes: YAML files of ours and of the user, and registered options."""
    folders = [folder / group for folder in (find_conf_dir(), config_dir) if folder is not None]
    files = {path.stem for folder in folders for path in folder.glob("*.yaml")}
    return sorted(files | set(list_options(group)))


@cache
def read_defaults() -> dict[str, str | list[str]]:
    """What conf/train.yaml lists: a name, or the names of a group of several options."""
    listed = read_conf(find_conf_dir() / "train.yaml").get("defaults", [])
    named = {k: v for entry in listed if isinstance(entry, dict) for k, v in entry.items()}
    return {group: name for group, name in named.items() if group.isidentifier()}  # not `override hydra/job_logging`


def read_conf(path: Path) -> dict[str, Any]:
    """Returns a file of conf/."""
    import yaml

    # libyaml's parser reads all of conf/ in a tenth of the time; PyYAML is also built without it
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader) or {}


def check_choice(group: str, value: object, typed: str, config_dir: Path | None) -> None:
    """Raise ConfigError if the value of `group=` names no option of it; `typed` is the override as it was typed."""
    names = list_names(group, config_dir)
    if value is None and group not in GROUPS:
        return  # no preset
    if isinstance(value, list) and group not in SEVERAL:
        raise ConfigError(
            "{typed} is not allowed: a run has only one {group}; use {group}={value}.",
            typed=typed, group=group, value=value[0] if value else names[0],
        )
    for word in _walk_words(value):
        if not isinstance(word, str):
            raise ConfigError(
                "{typed} is not allowed: {group} is one of {names}; write {group}={example}.",
                typed=typed, group=group, names=', '.join(names), example=names[0],
            )
        # folder/name
        inside = [folder / group / f"{word}.yaml" for folder in (find_conf_dir(), config_dir) if folder is not None]
        if word not in names and not any(is_there(str(file)) for file in inside):
            hint = suggest_instead(group, word) or suggest_similar(word, names) or suggest_own(group)
            raise ConfigError(
                "There is no {group}={value}.{hint} There are: {names}.",
                group=group, value=word, hint=hint, names=', '.join(names),
            )


def _walk_words(value: object) -> Iterator[object]:
    yield from value if isinstance(value, list) else [value]


def suggest_instead(group: str, word: str) -> UserMessage:
    """What to write for a path, a hub id or a former option, as ` Write ...` with a leading space;
    an empty message if it is none of them."""
    if group == "trainer" and word in EARLIER_TRAINERS:
        return _advise(EARLIER_TRAINERS[word])
    if group == "strategy" and (words := find_value(group, word)) is not None:
        return _advise(words)
    if group not in ("model", "data"):
        return UserMessage()
    path = (
        is_there(word)
        or word.startswith(("/", "./", "../", "~"))
        or (group == "data" and DATA_FILE.fullmatch(word) is not None)
    )
    shown = f"'{word}'" if re.search(r"[\s,()\[\]{}]", word) else word
    if path:
        return _advise(f"data=file data.path={shown}" if group == "data" else f"model=hf model.path={shown}")
    if HUB_ID.fullmatch(word):
        return _advise(f"data=file data.path=hub:{word}" if group == "data" else f"model=hf model.path={word}")
    return UserMessage()



def suggest_own(group: str) -> UserMessage:
    """Returns how to give a model or data of one's own, as a sentence with a leading space; else an empty message."""
    if group == "model":
        return message(" Another model is model=hf model.path=FOLDER, or its id on the hub.")
    if group == "trainer":
        kinds = next(knob.type for knob in list_all_knobs() if knob.path == "trainer.accelerator")
        return message(
            " The kind of device is trainer.accelerator={kinds}.", kinds=join_or([kind.value for kind in kinds])
        )
    return message(" Other data is data=file data.path=FILE.") if group == "data" else UserMessage()


def _advise(words: str) -> UserMessage:
    return message(" Write {words}.", words=words)