"""Turns the errors of Hydra and OmegaConf into one sentence of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fulgurite.config.check_value import describe_expected
from fulgurite.config.choices import list_names, read_defaults
from fulgurite.config.renamed import RENAMED, RENAMED_UNDER, describe_renamed
from fulgurite.config.run import list_all_knobs
from fulgurite.config.schema import list_groups, list_options
from fulgurite.errors import ConfigError, RequestError, suggest_similar
from fulgurite.language.library_errors import translate_error

FULL_KEY = re.compile(r"full_key: ([\w.]+)")
"""The name of the parameter in an error of OmegaConf."""
WRONG_TYPE = ("Enum", "convert", "ValidationError", "not Optional", "merging")
"""Words of OmegaConf's errors about a value of the wrong type."""


def explain_error(error: Exception, overrides: Sequence[str]) -> RequestError:
    """Returns an error of Hydra or OmegaConf as one sentence with the value, the place and the remedy."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and len(chain) < 8:
        chain.append(link)
        link = link.__cause__ or link.__context__
    text = " ".join(str(e) for e in chain)
    if (key := FULL_KEY.search(text)) is not None and key[1] in RENAMED:  # in a file that another file names
        return ConfigError(
            "{renamed} Write that name in the file that sets it.",
            renamed=describe_renamed(key[1], RENAMED[key[1]]),
        )
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        if name in list_groups() and (f"{name}/{value}" in text or f"'{name}/" in text):
            return ConfigError(
                "There is no {group}={value}.{hint} There are: {names}.",
                group=name, value=value, hint=suggest_similar(value, list_names(name)),
                names=", ".join(list_names(name)),
            )
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        if (found := _explain_parameter(name, value, text)) is not None:
            return found
    if "Ambiguous value for argument" in text:
        word = text.partition("argument '")[2].partition("'")[0]
        return ConfigError(
            "{word} has several values: add -m to run each of them, or write [...] for a list.", word=word
        )
    return ConfigError("The configuration cannot be composed: {error}", error=translate_error(chain[0], 300))


def _explain_parameter(name: str, value: str, text: str) -> ConfigError | None:
    """Returns the error about one override, None if `text` is not about it."""
    same = [knob for knob in list_all_knobs() if knob.path == name]
    if not same:
        return None
    if f"'{name}'" in text and "Could not override" in text:
        return refuse_foreign(name, value)
    if (name in text or name.rpartition(".")[2] in text) and any(word in text for word in WRONG_TYPE):
        # several options can have a parameter of this path, of different types: the error names the class
        classes = [list_options(knob.group).get(knob.option) for knob in same]
        meant = [k for k, cls in zip(same, classes, strict=True) if cls and f"object_type={cls.__name__}" in text]
        return ConfigError(
            "{name}={value} is not allowed: it must be {kind}.",
            name=name, value=value, kind=describe_expected((meant or same)[0].type),
        )
    return None


def refuse_foreign(name: str, value: str = "...") -> ConfigError:
    """Returns the error about a parameter that belongs to other options than the chosen one, with the words to type."""
    group, owners = name.partition(".")[0], ", ".join(find_owners(name))
    for under, names in RENAMED_UNDER.items():
        if name in names:
            return ConfigError(
                "{name} is not a parameter of the chosen {group}; it belongs to {owners}. With {option} it is {other}.",
                name=name, group=group, owners=owners, option="=".join(under), other=names[name],
            )
    return ConfigError(
        "{name} is not a parameter of the chosen {group}; it belongs to {owners}. To use it, write {option} {word}.",
        name=name, group=group, owners=owners, option=_choose_owner(name), word=f"{name}={value}",
    )


def _choose_owner(name: str) -> str:
    """Returns the option to propose for a parameter: the default of its group if that has it, else the first."""
    owners = find_owners(name)
    default = read_defaults().get(name.partition(".")[0])
    return next((owner for owner in owners if owner.partition("=")[2] == default), owners[0])


def find_owners(name: str) -> list[str]:
    """Returns the options that have a parameter of this path."""
    return sorted({f"{k.group.partition('.')[0]}={k.option}" for k in list_all_knobs() if k.path == name and k.option})
