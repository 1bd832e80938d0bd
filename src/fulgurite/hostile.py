"""Words and values that must not reach a run: secrets, the environment, and names of code."""

# Whoever may write this command line may also run anything else on the machine, so these are no walls against them. They
# keep a secret out of the files that a run writes and shares, and a config that came from elsewhere from running code.

from __future__ import annotations

import re

from fulgurite.errors import ConfigError, did_you_mean

SECRET = re.compile(r"\b(hf_[A-Za-z0-9]{16,}|wandb_v1_[A-Za-z0-9_]{20,}|sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|[0-9a-f]{40})\b")
RESOLVER = re.compile(r"(?<!\\)\$\{\s*([\w.$ {}]*?)\s*:")
HARMLESS = {"now", "hydra", "oc.select", "oc.dict.keys", "oc.dict.values"}
"""Resolvers that read the config and the clock alone."""

HYDRA = ("hydra.sweep.dir", "hydra.sweep.subdir", "hydra.searchpath", "hydra.sweeper", "hydra.launcher", "hydra/sweeper", "hydra/launcher")
"""What of Hydra's own may be said. The rest names code (callbacks, logging) or places that a run chooses itself."""


def refuse_secret(name: str, text: str) -> None:
    """Raise ConfigError where the value of `name` looks like a key: config.yaml would keep it. A revision is a commit's hash."""
    if not name.endswith("revision") and SECRET.search(text):
        raise ConfigError(f"{name} holds what looks like a secret; put it into the environment, where no file keeps it.")


def refuse_resolver(name: str, text: str) -> None:
    """Raise ConfigError where `text` would read the environment or anything but the config."""
    for found in RESOLVER.finditer(text):
        if found[1] not in HARMLESS:
            raise ConfigError(
                f"{name} may not hold ${{{found[1]}:...}}, since config.yaml would keep what it reads; "
                f"write the value, or let the shell put it in."
            )


def refuse_hydra(name: str) -> None:
    """Raise ConfigError where `name` is a key of Hydra's that is not for the command line."""
    if name == "hydra.run.dir":
        raise ConfigError("hydra.run.dir is not for a run here; give run_dir=<folder>.")
    known = any(name == key or name.startswith((f"{key}.", f"{key}/")) for key in HYDRA)
    if not known or name.rpartition(".")[2].startswith("_"):
        raise ConfigError(f"{name} cannot be set here.{did_you_mean(name, HYDRA)} Of Hydra's own there are {', '.join(HYDRA)}.")
