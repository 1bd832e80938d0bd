"""Hydra's and OmegaConf's errors as one sentence of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fulgurite.config.choices import list_names
from fulgurite.config.renamed import RENAMED, RENAMED_UNDER, describe_renamed
from fulgurite.config.run import list_all_knobs
from fulgurite.config.schema import describe_type, list_groups, list_options
from fulgurite.errors import ConfigError, RequestError, suggest_similar

FULL_KEY = re.compile(r"full_key: ([\w.]+)")
"""Where OmegaConf's errors name the parameter."""


def explain_error(error: Exception, overrides: Sequence[str]) -> RequestError:
    """Hydra's or OmegaConf's error as one sentence of ours, with the value, the place and the remedy."""
    knobs = {k.path: k for k in list_all_knobs()}
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and len(chain) < 8:
        chain.append(link)
        link = link.__cause__ or link.__context__
    text = " ".join(str(e) for e in chain)
    if (key := FULL_KEY.search(text)) is not None and key[1] in RENAMED:  # in a file that another file names
        return ConfigError(f"{describe_renamed(key[1], RENAMED[key[1]])} Write that name in the file that sets it.")
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        if name in list_groups() and (f"{name}/{value}" in text or f"'{name}/" in text):
            return ConfigError(f"There is no {name}={value}.{suggest_similar(value, list_names(name))} "
                               f"There are: {', '.join(list_names(name))}.")
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        if name in knobs and f"'{name}'" in text and "Could not override" in text:
            also = "".join(
                f" With {'='.join(under)} it is {names[name]}."
                for under, names in RENAMED_UNDER.items()
                if name in names
            )
            owners = ", ".join(find_owners(name))
            return ConfigError(
                f"{name} is not a knob of the chosen {name.partition('.')[0]}; it belongs to {owners}.{also}"
            )
        if name in knobs and (name in text or name.rpartition(".")[2] in text):
            same = {
                knob.type: list_options(knob.group).get(knob.option) for knob in list_all_knobs() if knob.path == name
            }
            kind = describe_type(
                next((t for t, cls in same.items() if cls and f"object_type={cls.__name__}" in text), knobs[name].type)
            )
            if (
                "Enum" in text
                or "convert" in text
                or "ValidationError" in text
                or "not Optional" in text
                or "merging" in text
            ):
                return ConfigError(f"{name}={value} is not allowed: it must be {_choose_article(kind)}.")
    if "Ambiguous value for argument" in text:
        word = text.partition("argument '")[2].partition("'")[0]
        return ConfigError(
            f"{word} has several values: add -m to run each of them, or write [...] where a list is meant."
        )
    first = " ".join(str(chain[0]).split())
    return ConfigError(f"The configuration cannot be composed: {first[:300]}")


def _choose_article(kind: str) -> str:
    return kind if kind.startswith(("one of", "true", "text", "list", "mapping")) else f"a {kind}"


def find_owners(name: str) -> list[str]:
    """The options that have a parameter of this path."""
    return sorted({f"{k.group.partition('.')[0]}={k.option}" for k in list_all_knobs() if k.path == name and k.option})
