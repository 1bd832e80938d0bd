"""A draft as YAML: a file of the group `experiment`, which `--config-dir` finds and which the page reads back."""

from __future__ import annotations

from typing import Any

import yaml

from fulgurite.board.draft import Draft, find_knob
from fulgurite.board.typed_values import NUMBER, TYPED_WORDS, UNSET, parse_typed
from fulgurite.config.overrides import escape_literal
from fulgurite.explain.choices import read_default_options

HEAD = """# @package _global_
# As FOLDER/experiment/NAME.yaml it is the run: fulgurite train --config-dir FOLDER +experiment=NAME
"""


def write_yaml(draft: Draft) -> str:
    """Returns the YAML of a draft. Raises DraftError if a value fits no parameter."""
    together = " ".join(f"+{group}={name}" for group, name in draft.adds.items())
    head = HEAD + (f"# with: {together}\n" if together else "")
    tree: dict[str, Any] = {}
    if draft.choices:
        tree["defaults"] = [
            {f"override /{group}": name if isinstance(name, str) else list(name)}
            for group, name in draft.choices.items()
        ]
    options = {**read_default_options(), **draft.choices}
    for name, text in draft.values.items():
        value = parse_typed(find_knob(name, options), text)
        if value is UNSET:
            continue
        *parents, last = name.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = escape_literal(value)
    body = yaml.dump(tree, Dumper=TextDumper, sort_keys=False, allow_unicode=True, width=110) if tree else ""
    return head + body


class TextDumper(yaml.SafeDumper):
    """Writes texts that look like a number in quotes: OmegaConf reads `1e3` as one, PyYAML does not."""


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    looks_typed = NUMBER.fullmatch(text) is not None or text.lower() in TYPED_WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if looks_typed else None)


TextDumper.add_representer(str, _write_text)
