"""`fulgurite convert llamafactory FILE.yaml`: another trainer's settings in our words."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fulgurite.cli.parser import parse
from fulgurite.convert.conversion import Verdict
from fulgurite.convert.convert import TRAINERS, convert_file
from fulgurite.convert.report import convert_to_json, format_conversion
from fulgurite.errors import ConfigError
from fulgurite.plan.value_check import find_value_troubles
from fulgurite.text.console import show


def convert_main(words: Sequence[str]) -> int:
    """Prints the conversion; returns 0. Raises ConfigError, after it was printed if a setting has no counterpart."""
    given = parse("convert", words)
    if len(given.words) != 2:
        raise ConfigError(
            "`fulgurite convert` takes a trainer ({trainers}) and a file of its settings.", trainers=", ".join(TRAINERS)
        )
    name, path = given.words
    conversion = convert_file(name.lower().replace("-", "").replace("_", ""), path, defaults=not given.no_defaults)
    troubles = find_value_troubles(conversion.words)
    if given.json:
        print(json.dumps(convert_to_json(path, conversion, troubles), indent=1, ensure_ascii=False))
    else:
        show(format_conversion(path, conversion, troubles))
    if refused := conversion.select(Verdict.refused):
        raise ConfigError(
            "{path}: without a counterpart here: {keys}. The words leave them out, so it is another run.",
            path=path, keys=", ".join(line.key for line in refused),
        )
    return 0
