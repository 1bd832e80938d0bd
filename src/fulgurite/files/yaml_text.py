"""Reads YAML that somebody else wrote: bounded in size, no objects of Python, no aliases that unfold without end."""

from __future__ import annotations

from typing import Any

import yaml

from fulgurite.errors import ConfigError
from fulgurite.language.library_errors import translate_error

LARGEST = 1_000_000
"""Bytes of the largest YAML."""


def load_yaml(text: str) -> Any:
    """Returns what a YAML text holds. Raises ConfigError."""
    if len(text.encode("utf-8", "replace")) > LARGEST:
        raise ConfigError("This YAML is larger than {most:,} bytes.", most=LARGEST)
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)):
            # a few aliases of aliases would unfold to more than any memory
            raise ConfigError("This YAML has aliases (*name), which are not read here; write the values out.")
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError("This is not YAML: {reason}.", reason=translate_error(error)) from error
