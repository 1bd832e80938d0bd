"""Puts the types of all options into Hydra's config store, those of plug-ins too."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from fulgurite.config.paths import find_conf_dir
from fulgurite.config.run import RunConfig, load_options
from fulgurite.config.schema import list_groups
from fulgurite.errors import ConfigError
from fulgurite.foreign_code import run_foreign
from fulgurite.language.message import UserMessage

IMPORTED: set[str] = set()
"""The modules of `plugins` that this process was asked to import."""


def import_plugins(modules: Sequence[str]) -> None:
    """Imports modules that register options of their own. Raises ConfigError if one cannot be imported."""
    for module in modules:
        with run_foreign(partial(_build_import_error, module)):
            importlib.import_module(module)
        IMPORTED.add(module)


def _build_import_error(module: str, why: UserMessage) -> ConfigError:
    return ConfigError("plugins=[{module}] cannot be imported: {error}.", module=module, error=why)


def register(plugins: Sequence[str] = ()) -> None:
    """Puts the types of all options into Hydra's store, and options without a YAML file of ours into their group."""
    import_plugins(plugins)
    load_options()
    conf = find_conf_dir()
    _store("schema", "run", RunConfig)
    for group, classes in list_groups().items():
        for name, cls in classes.items():
            _store(f"schema/{group}", name, cls)
            if not (conf / group / f"{name}.yaml").is_file():
                _store(group, name, cls, f"{group}.{name}" if cls.several else group)


def _store(group: str, name: str, cls: type, package: str | None = None) -> None:
    """Stores a type unless it is stored already: building configs of all types again would take a third of the time
    of composing."""
    store = ConfigStore.instance()
    there = store.repo
    for part in group.split("/"):
        there = there.get(part, {})
    known = there.get(f"{name}.yaml")
    if known is None or OmegaConf.get_type(known.node) is not cls:
        store.store(group=group, name=name, node=cls, package=package)
