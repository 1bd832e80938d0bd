"""Private parts of Hydra and OmegaConf that Fulgurite replaces, in one place; tested with hydra-core 1.3.8.

Hydra 1.3 reads and parses each YAML file of conf/ again for every composition, copies the whole ConfigStore, and merges
some forty configs, also if only values differ from the composition before: three quarters of the time. It has no public
way to keep what was read and merged: `ConfigSource` plugins cannot replace the scheme `file` of
`initialize_config_dir`. OmegaConf parses YAML in Python; libyaml's parser, which PyYAML contains, saves 0.1 s of the
first composition.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf, _utils

HYDRA_TESTED = "1.3.8"
"""The version of hydra-core whose private names are used here."""


MOST_KEPT = 64
"""Merged configs that are kept: one for each combination of options."""


class KeptConfigs(ConfigRepository):
    """Hydra's repository of configs, which reads a YAML file again only after it has changed."""

    _kept: ClassVar[dict[tuple[str, int, int], ConfigResult]] = {}

    def __init__(self, config_search_path: Any) -> None:
        super().__init__(config_search_path)
        self.states: dict[str, object] = {}
        """What each config that was loaded comes from."""

    def __deepcopy__(self, memo: dict[int, Any]) -> KeptConfigs:
        """Copies the list of sources, which `hydra.searchpath` replaces, and shares the sources, which never change."""
        made = copy.copy(self)
        made.sources, made.states = list(self.sources), {}
        return made

    def read_state(self, config_path: str) -> object:
        """Returns what a config comes from: it is equal to an earlier one if the config is still the same."""
        return self._read_state(self._find_object_source(config_path, ObjectType.CONFIG), config_path)

    def _read_state(self, source: ConfigSource | None, config_path: str) -> Any:
        if source is None:
            return None
        name = source._normalize_file_name(config_path)
        if source.scheme() == "file":
            path = Path(source.path, name)
            state = path.stat()
            return f"{source.provider} {path}", state.st_mtime_ns, state.st_size
        # a stored option has no time of change; it is the same while the same class is registered
        if source.scheme() == "structured":
            stored = ConfigStore.instance()._load(name)
            return source.provider, OmegaConf.get_type(stored.node), stored
        return source.provider, source.path

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Returns a config that the caller may change."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        key = self.states[config_path] = self._read_state(source, config_path)
        if source is None or source.scheme() != "file":
            return super().load_config(config_path)
        if key not in self._kept:
            with parse_fast():
                found = super().load_config(config_path)
            if found is None:
                return None
            self._kept[key] = found
        return copy.deepcopy(self._kept[key])


@dataclass(slots=True)
class KeptComposition:
    """What Hydra makes of a choice of options: the list of its configs, and these merged, before values are set."""

    states: dict[str, object]
    found: DefaultsList
    config: DictConfig | None = None


class KeptLoader(ConfigLoaderImpl):
    """Hydra's loader, which lists and merges configs again only for other options or after one has changed."""

    kept: ClassVar[dict[tuple[object, ...], KeptComposition]] = {}

    def _compose_config_from_defaults_list(self, defaults: Any, repo: IConfigRepository) -> DictConfig:
        composition: KeptComposition | None = getattr(repo, "composition", None)
        # `list_defaults` left the composition at the repository; only its own list, not an equal one, was merged before
        if composition is None or composition.found.defaults is not defaults:
            return super()._compose_config_from_defaults_list(defaults, repo)
        if composition.config is None:
            composition.config = super()._compose_config_from_defaults_list(defaults, repo)
        return copy.deepcopy(composition.config)


def list_defaults(
    repo: IConfigRepository, config_name: str | None, overrides_list: list[Override], prepend_hydra: bool,
    skip_missing: bool,
) -> DefaultsList:
    """As Hydra's `create_defaults_list`; keeps the result of a `KeptLoader` with the repository."""
    if not isinstance(repo, CachingConfigRepository) or not isinstance(repo.delegate, KeptConfigs):
        return create_defaults_list(repo, config_name, overrides_list, prepend_hydra, skip_missing)
    configs = repo.delegate
    # Hydra sets values after the merge, so that two runs with the same options share list and merge: values are no
    # part of the key
    values = [override for override in overrides_list if _sets_value(override, repo)]
    key = (
        config_name, prepend_hydra, skip_missing, *((source.provider, source.path) for source in configs.sources),
        *(override.input_line for override in overrides_list if override not in values),
    )
    composition = KeptLoader.kept.get(key)
    if composition is None or any(configs.read_state(path) != was for path, was in composition.states.items()):
        found = create_defaults_list(repo, config_name, overrides_list, prepend_hydra, skip_missing)
        composition = KeptComposition(configs.states, found)
        if len(KeptLoader.kept) >= MOST_KEPT:
            KeptLoader.kept.clear()
        KeptLoader.kept[key] = composition
    repo.composition = composition  # type: ignore[attr-defined]
    known = composition.found
    return DefaultsList(known.defaults, known.defaults_tree, values, known.overrides)


def _sets_value(override: Override, repo: IConfigRepository) -> bool:
    """Whether an override sets a value, and chooses no option; as Hydra distinguishes them."""
    if override.is_sweep_override():
        return False
    return isinstance(override.value(), dict) or not repo.group_exists(override.key_or_group)


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
            # not super(): SafeLoader would also begin its own reader, scanner and parser, which libyaml's replaces
            parser.__init__(self, stream)
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    return FastLoader


def keep_configs() -> None:
    """Makes the Hydra that is initialised now keep what it reads and merges."""
    loader = GlobalHydra.instance().config_loader()
    if isinstance(loader, ConfigLoaderImpl):
        # Hydra builds its loader itself and has no setting for the class of it
        loader.__class__ = KeptLoader
        loader.repository = KeptConfigs(loader.get_search_path())
        # the loader's module imported the function by name, so that it is replaced there
        config_loader_impl.create_defaults_list = list_defaults  # type: ignore[attr-defined]


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

    # hydra.main has no parameter for its words: it parses sys.argv
    sys.argv = ["fulgurite", *words]
    Hydra.multirun = keeping  # type: ignore[method-assign]
    ConfigLoaderImpl.load_configuration = checking  # type: ignore[method-assign]
    try:
        yield
    finally:
        sys.argv, Hydra.multirun = before, multirun  # type: ignore[method-assign]
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]
