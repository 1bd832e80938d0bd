"""Private parts of Hydra and OmegaConf that Fulgurite replaces, in one place; tested with hydra-core 1.3.8.

Hydra 1.3 reads and parses each YAML file of conf/ again for every composition, and copies the whole ConfigStore, which
is a third of the time. It has no public way to keep what was read: `ConfigSource` plugins cannot replace the scheme
`file` of `initialize_config_dir`. OmegaConf parses YAML in Python; libyaml's parser, which PyYAML contains, saves 0.1 s
of the first composition.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, _utils

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
            with parse_fast():
                found = super().load_config(config_path)
            if found is None:
                return None
            self._kept[key] = found
        return copy.deepcopy(self._kept[key])


@contextlib.contextmanager
def parse_fast() -> Iterator[None]:
    """Makes OmegaConf parse YAML with libyaml inside the block, if PyYAML was built with it."""
    plain = _utils.get_yaml_loader
    if hasattr(yaml, "CSafeLoader"):
        _utils.get_yaml_loader = functools.partial(_build_loader, plain)
    try:
        yield
    finally:
        _utils.get_yaml_loader = plain


def _build_loader(get_plain: Callable[[], Any]) -> Any:
    plain: Any = get_plain()
    parser: Any = yaml.cyaml.CParser  # type: ignore[attr-defined]

    class FastLoader(parser, plain):  # type: ignore[misc]
        """OmegaConf's loader, with its types and its refusal of duplicate keys, over libyaml's parser."""

        def __init__(self, stream: Any) -> None:
            parser.__init__(self, stream)
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    return FastLoader


def keep_configs() -> None:
    """Makes the Hydra that is initialised now keep what it reads."""
    loader = GlobalHydra.instance().config_loader()
    if isinstance(loader, ConfigLoaderImpl):
        loader.repository = KeptConfigs(loader.get_search_path())


@contextlib.contextmanager
def watch_hydra(
    see_batches: Callable[[Any], None], see_config: Callable[[DictConfig], None], words: list[str]
) -> Iterator[None]:
    """Makes `hydra.main` read `words` as its command line inside the block, pass each composed config to `see_config`
    before it builds the callbacks and loggers, and the results of a multirun to `see_batches`, which Hydra drops."""
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
