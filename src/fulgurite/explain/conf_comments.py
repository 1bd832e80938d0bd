"""Writes each option's YAML file from its declarations: `python -m fulgurite.explain.conf_comments [--check]`.

A file has the text of the option as a comment, then each parameter as a live line, `name: default  # meaning`. The
values are the defaults, so that the file changes nothing until somebody edits it.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml

from fulgurite.config.paths import find_conf_dir
from fulgurite.config.run import load_options
from fulgurite.config.schema import Knob, Option, list_groups, list_knobs

WIDTH = 118
MOST_INDENT = 40
"""The column at which comments begin at the latest."""
NOTE = "# Each line below is the default; edit it here, or give it on the command line. `make conf` writes this file."


def build_file(cls: type[Option], package: str = "") -> str:
    """Returns the YAML of one option; `package` is its line `# @package`, which Hydra reads in the first line."""
    lines = [package] if package else []
    lines += [f"# {line}".rstrip() for line in inspect.cleandoc(cls.__doc__ or "").splitlines()]
    lines += [f"# More: fulgurite explain {cls.room}={cls.name}"]
    knobs = list_knobs(cls)
    lines += [NOTE] if knobs else []
    lines += ["defaults:", f"  - /schema/{cls.room}/{cls.name}@_here_"]
    if knobs:
        values = [f"{knob.name}: {format_default(knob.default)}" for knob in knobs]
        indent = min(max(map(len, values)) + 2, MOST_INDENT)
        lines += ["  - _self_", ""]
        for value, knob in zip(values, knobs, strict=True):
            lines += _format_line(value, _describe(knob), indent)
    return "\n".join(lines) + "\n"


def _format_line(value: str, meaning: str, indent: int) -> list[str]:
    """Returns `name: default  # meaning`, whole: a long meaning goes on in comments below."""
    first, *rest = textwrap.wrap(meaning, WIDTH - indent - 2, break_long_words=False, break_on_hyphens=False)
    start = value.ljust(indent) if len(value) + 2 <= indent else f"{value}  "
    return [f"{start}# {first}", *(f"{'':{indent}}# {line}" for line in rest)]


def _describe(knob: Knob) -> str:
    if knob.default is None and knob.empty:
        return f"{knob.meaning} Empty: {knob.empty.words}."
    return knob.meaning


def format_default(value: Any) -> str:
    """Returns a default as YAML on one line, with quotes if YAML would read something else."""
    plain = str(value) if isinstance(value, str) else value  # the text of an enum
    return str(yaml.safe_dump(plain, default_flow_style=True, width=1000)).removesuffix("...\n").strip()


def refresh(path: Path, cls: type[Option]) -> str:
    """Returns the text that the file should have; keeps its line `# @package`."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return build_file(cls, first if first.startswith("# @package") else "")


def main(words: list[str]) -> int:
    """Writes every file, or with --check names the stale ones; returns 1 if there are any."""
    load_options()
    stale = []
    for group, named in list_groups().items():
        for name, cls in named.items():
            path = find_conf_dir() / group / f"{name}.yaml"
            if not path.is_file() or (text := refresh(path, cls)) == path.read_text(encoding="utf-8"):
                continue
            stale.append(path)
            if "--check" not in words:
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in words:
        names = ", ".join(f"{path.parent.name}/{path.name}" for path in stale)
        print(f"Stale files of conf/, run python -m fulgurite.explain.conf_comments: {names}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
