"""Checks overrides before Hydra composes them: names, values, plug-ins, secrets, files of options."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from fulgurite.config.choices import check_choice
from fulgurite.config.guard import refuse_hydra, refuse_resolver, refuse_secret
from fulgurite.config.hydra_internals import parse_fast
from fulgurite.config.override_names import read_name
from fulgurite.config.overrides import UNREADABLE, check_file, quote_typed, read_value
from fulgurite.config.paths import find_conf_dir
from fulgurite.config.registry import register
from fulgurite.config.renamed import refuse_renamed, refuse_renamed_file
from fulgurite.config.run import GROUPS, PRESETS, SEVERAL, list_all_knobs
from fulgurite.config.schema import Knob, list_groups, strip_none
from fulgurite.errors import ConfigError, suggest_similar
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import message

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A run's name, and an option's."""


def prepare(overrides: Sequence[str], config_dir: Path | None = None, multirun: bool = False) -> list[str]:
    """Check overrides before Hydra sees them, import plugins, keep text as it was typed,
    and reads one item as a list of one."""
    # plug-ins first: the checks below know only options that are registered
    register(_find_plugins(overrides, config_dir))
    for text in overrides:
        name, equals, _ = text.lstrip("+~").partition("=")
        if equals and not name.strip():
            raise ConfigError(
                "{text} names no parameter; write PARAMETER=VALUE.",
                text=text,
            )
        refuse_secret(name, text)
        refuse_resolver(name, text)
    refuse_renamed(overrides)
    knobs = {k.path: k for k in list_all_knobs()}
    _check_files(overrides, config_dir, knobs)
    return [_check_word(quote_typed(text, knobs, multirun), text, knobs, config_dir) for text in overrides]


def _check_files(overrides: Sequence[str], config_dir: Path | None, knobs: dict[str, Knob]) -> None:
    """Raise ConfigError if a file that was chosen has text which YAML reads as something else."""
    for text in overrides:
        name, _, value = text.lstrip("+~").partition("=")
        if (name not in PRESETS and name not in GROUPS) or not NAME.fullmatch(value):
            continue
        for folder in (find_conf_dir(), config_dir):
            if folder is not None and (path := folder / name / f"{value}.yaml").is_file():
                loaded = OmegaConf.to_container(_load_file(path))
                # the keys of a preset begin at the root, those of an option below its group, or its name in the group
                place = "" if name in PRESETS else f"{name}.{value}" if name in SEVERAL else name
                if isinstance(loaded, dict):
                    refuse_renamed_file(path, {str(key): item for key, item in loaded.items()}, place)
                check_file(path, place, loaded, knobs)


def _find_plugins(overrides: Sequence[str], config_dir: Path | None) -> list[str]:
    """The modules that the words or the chosen presets name: options must be known before Hydra looks for them."""
    found: list[str] = []
    for text in overrides:
        name, _, value = text.lstrip("+~").partition("=")
        found += re.findall(r"[\w.]+", value) if name == "plugins" else []
        if name in PRESETS and NAME.fullmatch(value):
            files = [folder / name / f"{value}.yaml" for folder in (find_conf_dir(), config_dir) if folder is not None]
            preset = [_load_file(path) for path in files if path.is_file()]
            found += [str(m) for p in preset if isinstance(p, DictConfig) for m in p.get("plugins") or []]
    return found


def _load_file(path: Path) -> Any:
    """The config of a file, not to be changed. Raises ConfigError if it cannot be read."""
    try:
        state = path.stat()
        return _load_file_once(path, state.st_mtime_ns, state.st_size)
    except (YAMLError, OSError, UnicodeError) as error:
        raise ConfigError(
            "{path} cannot be read: {names}; mend the file.",
            path=path, names=translate_error(error),
        ) from error


@functools.lru_cache(maxsize=256)
def _load_file_once(path: Path, changed: int, size: int) -> Any:
    with parse_fast():
        return OmegaConf.load(path)


def _check_word(text: str, typed_text: str, knobs: dict[str, Knob], config_dir: Path | None = None) -> str:
    if (
        (name := read_name(text))
        and "." in name
        and name not in knobs
        and not _is_under_mapping(name, knobs)
        and not name.startswith("hydra.")
    ):
        raise ConfigError(
            "There is no parameter {name}.{similar} `fulgurite explain` lists them.",
            name=name, similar=suggest_similar(name, knobs),
        )
    try:
        override = OverridesParser.create().parse_override(text)
    except (HydraException, ValueError, RecursionError) as error:
        remedy = message("write parameter=value")
        if isinstance(error, RecursionError):
            remedy = message("it is nested too deeply")
        elif not isinstance(error, HydraException):
            remedy = message("a number has too many digits")
        elif "=" in text:
            remedy = message("quote it: '{name}=\"...\"'", name=typed_text.partition("=")[0])
        raise ConfigError(
            "{typed_text} cannot be read; {remedy}.",
            typed_text=typed_text, remedy=remedy,
        ) from error
    name = override.key_or_group
    if override.is_delete():
        raise ConfigError(
            "{typed_text} cannot be: nothing is deleted here; leave {name} out, or set it to another value.",
            typed_text=typed_text, name=name,
        )
    if name.split(".")[0].split("/")[0] == "hydra":
        refuse_hydra(name)
        return text
    heads = {*list_groups(), *GROUPS, *PRESETS}
    if name not in knobs and name not in heads and not _is_under_mapping(name, knobs):
        raise ConfigError(
            "There is no parameter {name}.{similar} `fulgurite explain` lists them.",
            name=name, similar=suggest_similar(name, [*knobs, *heads]),
        )
    knob, value = knobs.get(name), override.value()
    if name in heads and name not in knobs:
        options_named = (
            list(override.sweep_iterator()) if override.is_sweep_override() and override.is_choice_sweep() else [value]
        )
        for option in options_named:
            check_choice(name, _strip_quotes(option), typed_text, config_dir)
    if knob is not None and get_origin(strip_none(knob.type)) is list and isinstance(value, str | int | float):
        if override.is_sweep_override():
            return text
        head, _, tail = text.partition("=")
        return f"{head}=[{tail}]"
    if (
        (knob is None or get_origin(strip_none(knob.type)) is dict)
        and _is_under_mapping(name, knobs)
        and not text.startswith("+")
    ):
        return f"++{text}"  # Hydra knows no key of an empty mapping, unless `++` adds it
    return text


def _strip_quotes(value: Any) -> Any:
    """A value of Hydra's parser without its quotes, also inside a list."""
    if isinstance(value, list):
        return [_strip_quotes(item) for item in value]
    return value.text if isinstance(value, QuotedString) else value


def read_text_value(text: str) -> str:
    """What an override gives a text parameter, without its quotes. Raises ConfigError where it cannot be read."""
    kept = quote_typed(text, {k.path: k for k in list_all_knobs()})
    value = read_value(kept.partition("=")[2])
    if value is UNREADABLE:
        raise ConfigError(
            '{text} cannot be read; quote it: \'{partition}="..."\'.',
            text=text, partition=text.partition('=')[0],
        )
    return "" if value is None else str(value)


def _is_under_mapping(name: str, knobs: dict[str, Knob]) -> bool:
    return any(
        k is not None and get_origin(strip_none(k.type)) is dict
        for k in (knobs.get(name), knobs.get(name.rpartition(".")[0]))
    )
