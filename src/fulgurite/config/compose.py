"""Composes overrides through Hydra into a tree of typed dataclasses with provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, ValueNode, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fulgurite.config.guard import refuse_hydra_code, refuse_resolver
from fulgurite.config.hydra_errors import explain_error, find_owners, refuse_foreign
from fulgurite.config.hydra_internals import keep_configs
from fulgurite.config.override_checks import NAME, prepare
from fulgurite.config.paths import find_conf_dir
from fulgurite.config.provenance import Composed
from fulgurite.config.registry import import_plugins
from fulgurite.config.resolve import Job, resolve
from fulgurite.config.run import GROUPS, SEVERAL, RunConfig
from fulgurite.config.schema import Option, list_options
from fulgurite.errors import ConfigError, suggest_similar

NOT_COMPOSED = (OverflowError, ValueError, TypeError, AttributeError, KeyError, AssertionError, RecursionError)
"""What Hydra and OmegaConf let through for values that no type of theirs can hold, beside their own errors."""


def compose(overrides: Sequence[str] = (), config_dir: Path | None = None) -> Composed:
    """Compose `overrides` into a typed run. Raises ConfigError in one sentence with the nearest name or the remedy."""
    words = prepare(overrides, config_dir)
    # a Hydra that an earlier composition left initialised would refuse to be initialised again
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(find_conf_dir()), version_base="1.3"):
            keep_configs()
            extra = [f"hydra.searchpath=[file://{config_dir.resolve()}]"] if config_dir else []
            try:
                config = hydra_compose("train", overrides=[*words, *extra], return_hydra_config=True)
            except NOT_COMPOSED as error:
                raise explain_error(error, overrides) from error
            return _build_composed(config, overrides)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise explain_error(error, overrides) from error


def build_composed(config: DictConfig, overrides: Sequence[str]) -> Composed:
    """The typed run of a composed Hydra config, checked against every knob's bounds, its config-time knobs filled."""
    return _build_composed(config.copy(), overrides)


def _build_composed(body: DictConfig, overrides: Sequence[str]) -> Composed:
    """As `build_composed`; takes the node `hydra` out of its argument."""
    hydra = body.hydra
    choices = {k: str(v) for k, v in hydra.runtime.choices.items() if not str(k).startswith("hydra")}
    with open_dict(body):
        body.pop("hydra")
    refuse_hydra_code(OmegaConf.to_container(hydra))
    _refuse_strangers(body)
    run = OmegaConf.to_object(body)
    if not isinstance(run, RunConfig):
        raise ConfigError("conf/train.yaml must begin with /schema/run; restore that line.")
    for group in GROUPS:
        if group not in SEVERAL and not isinstance(getattr(run, group), Option):
            raise ConfigError(
                "No option is chosen for {group}; choose one: {names}.",
                group=group, names=', '.join(sorted(list_options(group))),
            )
    for group in SEVERAL:
        for name, option in getattr(run, group).items():
            if not isinstance(option, Option):
                raise ConfigError(
                    "{group}.{name} is set, and {group}={name} is not chosen; choose it, or remove "
                    "{group}.{name}.",
                    group=group, name=name,
                )
    import_plugins(run.plugins)
    if run.name is not None and not NAME.fullmatch(run.name):
        raise ConfigError(
            "name={name} is not allowed: use at most 64 letters, digits, dots, dashes and underscores.",
            name=run.name,
        )
    if run.run_dir == "":
        raise ConfigError("run_dir= is empty; give a folder, or leave it out.")
    # only the jobs of a multirun have a number
    number = None if OmegaConf.is_missing(hydra.job, "num") else int(hydra.job.num)
    multirun = str(hydra.mode) == "RunMode.MULTIRUN"
    job = Job(True, number, str(hydra.runtime.output_dir)) if multirun else Job()
    return resolve(run, choices, overrides, job)


def _refuse_strangers(config: DictConfig) -> None:
    """Raise where a node has a key that its type does not declare (Hydra opens a config for `+key`),
    or reads what it may not."""

    def walk(node: DictConfig, path: str) -> None:
        kind = OmegaConf.get_type(node)
        declared = {f.name for f in fields(kind)} if is_dataclass(kind) else None
        for key in map(str, node):
            name = f"{path}.{key}" if path else key
            if declared is not None and key not in declared:
                if find_owners(name):
                    given = node._get_node(key)
                    raise refuse_foreign(name, str(given._value()) if isinstance(given, ValueNode) else "...")
                raise ConfigError(
                    "There is no parameter {name}.{hint} Remove it, or correct its name.",
                    name=name, hint=suggest_similar(key, declared),
                )
            # `node[key]` would resolve an interpolation, here before `refuse_resolver` has seen it
            child = node._get_node(key)
            if isinstance(child, ValueNode | ListConfig):
                refuse_resolver(
                    name, str(OmegaConf.to_container(child)) if isinstance(child, ListConfig) else str(child._value())
                )
            if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
                walk(child, name)

    walk(config, "")
