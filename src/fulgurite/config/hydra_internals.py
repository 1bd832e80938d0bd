"""Private parts of Hydra that Fulgurite replaces, in one place; tested with hydra-core 1.3.8.

Hydra 1.3 reads and parses each YAML file of conf/ again for every composition, and copies the whole ConfigStore, which
is a third of the time. It has no public way to keep what was read: `ConfigSource` plugins cannot replace the scheme
`file` of `initialize_config_dir`.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

HYDRA_TESTED = "1.3.8"
"""The version of hydra-core whose private names are used here."""


class KeptConfigs(ConfigRepository):
    """Hydra's repository of configs, which reads a YAML file again only after it has changed."""

    _kept: ClassVar[dict[tuple[str, int, int], ConfigResult]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> KeptConfigs:
        """Copies the list of sources, which `hydra.searchpath` replaces, and shares the sources, which never change."""
        made = copy.copy(self)
        made.sources = list(self.sources)
        return made

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Returns a config that the caller may change."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() != "file":
            return super().load_config(config_path)
        path = Path(source.path, source._normalize_file_name(config_path))
        state = path.stat()
        key = (f"{source.provider} {path}", state.st_mtime_ns, state.st_size)
        if key not in self._kept:
            found = super().load_config(config_path)
            if found is None:
                return None
            self._kept[key] = found
        return copy.deepcopy(self._kept[key])


def keep_configs() -> None:
    """Let the Hydra that is initialised now keep what it reads."""
    loader = GlobalHydra.instance().config_loader()
    if isinstance(loader, ConfigLoaderImpl):
        loader.repository = KeptConfigs(loader.get_search_path())


@contextlib.contextmanager
def watch_hydra(
    see_batches: Callable[[Any], None], see_config: Callable[[DictConfig], None], words: list[str]
) -> Iterator[None]:
    """Within, `hydra.main` reads `words` as its command line, hands each config that it composed to `see_config` before
    it makes the callbacks and loggers of it, and what a multirun brought back to `see_batches`: it drops that."""
    from hydra._internal.hydra import Hydra

    multirun, load, before = Hydra.multirun, ConfigLoaderImpl.load_configuration, sys.argv

    def keeping(*args: Any, **named: Any) -> Any:
        batches = multirun(*args, **named)
        see_batches(batches)
        return batches

    def checking(*args: Any, **named: Any) -> DictConfig:
        config = load(*args, **named)
        see_config(config)
        return config

    sys.argv = ["fulgurite", *words]
    Hydra.multirun = keeping  # type: ignore[method-assign]
    ConfigLoaderImpl.load_configuration = checking  # type: ignore[method-assign]
    try:
        yield
    finally:
        sys.argv, Hydra.multirun = before, multirun  # type: ignore[method-assign]
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]
