"""What can be chosen in each group: options, the default among them, and presets, which only conf/ knows.

A preset is an option's YAML with other values. conf/ is read with PyYAML rather than through compose.py: Hydra alone
takes longer to import than the whole answer may.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from fulgurite.config.choices import read_conf, read_defaults
from fulgurite.config.paths import find_conf_dir
from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options


@dataclass(frozen=True, slots=True)
class Preset:
    """A YAML of conf/ without a class of its own. `base` is the option it starts from; `changes` its knobs by name."""

    group: str
    name: str
    summary: str
    base: str = ""
    changes: dict[str, Any] = field(default_factory=dict)


@cache
def read_default_options() -> dict[str, str]:
    """The option of each group of one option that a run has without a word, as conf/train.yaml lists them."""
    return {group: name for group, name in read_defaults().items() if isinstance(name, str)}


def is_default(group: str, name: str) -> bool:
    """Whether a run has this option without a word."""
    listed = read_defaults().get(group, ())
    return name == listed or (not isinstance(listed, str) and name in listed)


@cache
def list_presets(group: str | None = None) -> tuple[Preset, ...]:
    """The presets of one group, or of all."""
    return tuple(p for p in _read_presets() if group in (None, p.group))


@cache
def _read_presets() -> tuple[Preset, ...]:
    load_options()  # a file whose option is not loaded yet would count as a preset
    files = [(path.parent.name, path) for path in sorted(find_conf_dir().glob("*/*.yaml"))]
    return tuple(_read_preset(group, path) for group, path in files if path.stem not in list_options(group))


def _read_preset(group: str, path: Path) -> Preset:
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line.lstrip("# ").rstrip() for line in lines if line.startswith("#")]
    summary = next((line for line in comments if line and not line.startswith("@package")), "")
    body = read_conf(path)
    named = [str(entry) for entry in body.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    base = next(
        (name for entry in named if (name := entry.split("@")[0].rsplit("/", 1)[-1]) in list_options(group)), ""
    )
    return Preset(group, path.stem, summary, base, dict(_flatten(body, "")))


def _flatten(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
