"""Puts the types of all options into Hydra's config store, those of plug-ins too."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from fulgurite.config.paths import find_conf_dir
from fulgurite.config.run import RunConfig, load_options
from fulgurite.config.schema import list_groups
from fulgurite.errors import ConfigError
from fulgurite.foreign_code import run_foreign

IMPORTED: set[str] = set()
"""The modules of `plugins` that this process was asked to import."""


def import_plugins(modules: Sequence[str]) -> None:
    """Import modules that register options of their own. Raises ConfigError where one cannot be imported."""
    for module in modules:
        with run_foreign(
            lambda why, module=module: ConfigError(  # type: ignore[misc]
                f"plugins=[{module}] cannot be imported: {why}."
            )
        ):
            importlib.import_module(module)
            IMPORTED.add(module)


def register(plugins: Sequence[str] = ()) -> None:
    """Put every option's type into Hydra's store, and options that have no YAML of ours directly into their group."""
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
    """Unless it is there: making configs of all types anew is a third of the time that composing takes."""
    store = ConfigStore.instance()
    there = store.repo
    for part in group.split("/"):
        there = there.get(part, {})
    known = there.get(f"{name}.yaml")
    if known is None or OmegaConf.get_type(known.node) is not cls:
        store.store(group=group, name=name, node=cls, package=package)
