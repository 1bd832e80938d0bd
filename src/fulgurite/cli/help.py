"""`fulgurite train --help` and `fulgurite export --help`, from the declarations alone: no Hydra, no torch."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

ASKING = frozenset({"-h", "--help"})

TRAIN = """fulgurite train [GROUP=OPTION] [KNOB=VALUE] ...

Groups and their options:

{groups}
Presets, each a whole run or a search:
{presets}

  fulgurite train -h NAME    a group, an option (optim=adamw)
                             or a parameter (optim.lr)
  fulgurite train -m A=1,2   one run for each value
  fulgurite train --cfg job  the composed config
  --config-dir DIR           a folder of your own options

`fulgurite explain` has what each of them does and its usual values."""
WIDEST = 100
"""Columns of the text on a wide terminal."""


def asks(words: Sequence[str]) -> bool:
    """Whether a command line asks for help."""
    return not ASKING.isdisjoint(words)


def train_help(words: Sequence[str]) -> int:
    """Print the help of `fulgurite train`, or the page of `explain` for each word beside the flag; returns the exit status."""
    named = [word for word in words if not word.startswith("-")]
    if named:
        from fulgurite.cli.explain import explain_main

        return max(explain_main([word]) for word in named)
    print(TRAIN.format(groups=_groups(), presets=_presets()))
    return 0


def export_help() -> int:
    """Print the parameters of `fulgurite export`."""
    from fulgurite.config.arguments import usage
    from fulgurite.config.export_arguments import Export

    print(usage(Export, "export"))
    return 0


def _groups() -> str:
    from fulgurite.config.choices import named
    from fulgurite.config.run import GROUPS, load_options

    load_options()
    lines = []
    for group in GROUPS:
        names = textwrap.wrap(", ".join(named(group)), _width() - 13)
        lines += [f"  {group:10} {names[0]}", *(f"  {'':10} {line}" for line in names[1:])]
    return "\n".join(lines) + "\n"


def _presets() -> str:
    from fulgurite.config.paths import conf_dir

    found = [f"+{kind}={path.stem}" for kind in ("experiment", "sweep", "find") for path in sorted((conf_dir() / kind).glob("*.yaml"))]
    return textwrap.fill(", ".join(found), _width(), initial_indent="  ", subsequent_indent="  ")


def _width() -> int:
    return max(40, min(WIDEST, shutil.get_terminal_size().columns))
