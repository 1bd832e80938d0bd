"""Words and values that must not reach a run: secrets, the environment, and names of code."""

# Whoever may write this command line may also run anything else on the machine, so these are no walls against them.
# They keep a secret out of the files that a run writes and shares, and a config that came from
# elsewhere from running code.

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fulgurite.config.secrets import has_key, has_password
from fulgurite.errors import ConfigError, suggest_similar

RESOLVER = re.compile(r"(?<!\\)\$\{\s*([\w.$ {}]*?)\s*:")
HARMLESS = {"now", "hydra", "oc.select", "oc.dict.keys", "oc.dict.values"}
"""Resolvers that read the config and the clock alone."""

ALLOWING = ("plugins", "model.trust_remote_code", "model.revision")
"""Words with which `chat` and `export` allow what a run's config.yaml asks for."""

HYDRA = (
    "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.searchpath", "hydra.sweeper", "hydra.launcher", "hydra/sweeper",
    "hydra/launcher",
)
"""Which of Hydra's own keys may be set. The others name code (callbacks, logging) or places that a run chooses."""

HYDRA_CODE = ("hydra.", "hydra_plugins.", "optuna.")
"""Modules of which Hydra may make objects: itself, its launchers and sweepers (ours too), and the samplers of one."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The code that may run beside ours because this command line names it:
    a run's folder may not allow any by itself."""

    plugins: tuple[str, ...] = ()
    model_code: bool = False
    revision: str | None = None


def split_allowed(words: Sequence[str]) -> tuple[Allowed, list[str]]:
    """What the words of `chat` or `export` allow, and the other words. Raises ConfigError for a value that is none."""
    given = {
        name: text for name, equals, text in (word.partition("=") for word in words) if equals and name in ALLOWING
    }
    rest = [word for word in words if word.partition("=")[0] not in ALLOWING or "=" not in word]
    code = given.get("model.trust_remote_code", "false").lower()
    if code not in ("true", "false"):
        raise ConfigError(
            "model.trust_remote_code={code} is not allowed: it must be true or false.",
            code=code,
        )
    plugins = tuple(re.findall(r"[\w.]+", given.get("plugins", "")))
    return Allowed(plugins, code == "true", given.get("model.revision")), rest


def refuse_stored_code(stored: Sequence[str], given: Sequence[str], folder: str) -> list[str]:
    """The overrides that a run's folder stores, without those that `given`, the words of now, replace.

    Raises ConfigError if a stored one lets code run: who resumes a run has to name it.
    """
    named = {_read_name(word) for word in given}
    kept = [word for word in stored if _read_name(word) not in named]
    if "model.trust_remote_code" in named:
        # the pin is of whoever trusts, and typed with it
        kept = [word for word in kept if _read_name(word) != "model.revision"]
    code = [word for word in kept if _has_code(word)]
    if code:
        raise ConfigError(
            "{folder} was run with {code}, which lets code run; that counts only if this command line allows it: "
            "read the code, then add those words to it.",
            folder=folder, code=' '.join(code),
        )
    return kept


def _has_code(word: str) -> bool:
    name, value = _read_name(word), word.partition("=")[2]
    return (
        (name == "plugins" and value.strip() not in ("", "[]", "null"))
        or (name == "model.trust_remote_code" and value.strip().lower() not in ("false", "no", "off", "0"))
        or (name in ("launcher.setup", "launcher.options") and value.strip() not in ("", "[]"))
        or (name == "stage.reward" and (".py" in value or "${" in value))
        or re.split(r"[./]", name)[0] == "hydra"
    )


def _read_name(word: str) -> str:
    return word.lstrip("+~").partition("=")[0].partition("@")[0].strip()


def refuse_secret(name: str, text: str) -> None:
    """Raise ConfigError where the value of `name` looks like a key: config.yaml would keep it.
    A revision is a commit's hash."""
    if has_key(text, commit=name.endswith("revision")):
        raise ConfigError(
            "{name} contains what looks like a secret, which config.yaml would store; set it in the environment "
            "instead.",
            name=name,
        )
    if has_password(text):
        raise ConfigError(
            "{name} holds a password, which config.yaml would keep; leave it out: PostgreSQL reads ~/.pgpass, "
            "MySQL ~/.my.cnf, git and other tools ~/.netrc.",
            name=name,
        )


def refuse_resolver(name: str, text: str) -> None:
    """Raise ConfigError where `text` would read the environment or anything but the config."""
    for found in RESOLVER.finditer(text):
        if found[1] not in HARMLESS:
            raise ConfigError(
                "{name} may not hold ${{{found}:...}}, since config.yaml would keep what it reads; write the "
                "value, or let the shell put it in.",
                name=name, found=found[1],
            )


def refuse_hydra_code(config: Any) -> None:
    """Raise ConfigError if Hydra's part of a config, which any YAML file may set, names code outside
    of Hydra and its plug-ins."""
    for name, value in _walk_leaves(config, "hydra"):
        last = name.rpartition(".")[2]
        code = (last == "_target_" and not str(value).startswith(HYDRA_CODE)) or (
            "logging." in name and (last == "()" or (last == "class" and not str(value).startswith("logging.")))
        )
        if code or name.startswith(("hydra.callbacks.", "hydra.job.env_set.")):
            raise ConfigError(
                "{name} is set in a YAML file; it would let code run, or change the environment: remove it there.",
                name=name,
            )


def _walk_leaves(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _walk_leaves(value, f"{name}.{key}")
    elif isinstance(node, list):
        for value in node:
            yield from _walk_leaves(value, name)
    else:
        yield name, node


def refuse_hydra(name: str) -> None:
    """Raise ConfigError where `name` is a key of Hydra's that is not for the command line."""
    if name == "hydra.run.dir":
        raise ConfigError("hydra.run.dir is not for a run here; give run_dir=<folder>.")
    known = any(name == key or name.startswith((f"{key}.", f"{key}/")) for key in HYDRA)
    if not known or name.rpartition(".")[2].startswith("_"):
        raise ConfigError(
            "{name} cannot be set here.{similar} Of Hydra's own there are {HYDRA}.",
            name=name, similar=suggest_similar(name, HYDRA), HYDRA=', '.join(HYDRA),
        )
