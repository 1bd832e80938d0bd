"""Rebuilds the typed run of a run folder's config.yaml, of this version or an earlier one."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fulgurite.config.frozen import freeze
from fulgurite.config.guard import Allowed
from fulgurite.config.overrides import escape_literal
from fulgurite.config.provenance import to_plain
from fulgurite.config.registry import IMPORTED, register
from fulgurite.config.run import EARLIER, GROUPS, OWN, SEVERAL, RunConfig, load_options
from fulgurite.config.schema import list_knobs, list_options
from fulgurite.errors import ConfigError
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import UserMessage, message
from fulgurite.text.console import say


def add_strategy(config: dict[str, Any]) -> dict[str, Any]:
    """A config.yaml with the group `strategy`; those of earlier versions had trainer=auto,
    cpu or ddp_cpu in its place."""
    trainer = config.get("trainer")
    if not isinstance(trainer, dict) or trainer.get("option") not in ("auto", "cpu", "ddp_cpu"):
        return config
    now = dict(trainer)
    processes = now.pop("processes", 1)
    several = now["option"] == "ddp_cpu"
    place = {
        "option": "default", "accelerator": "auto" if now["option"] == "auto" else "cpu",
        "devices": now.get("devices", processes),
    }
    usual = {
        knob.name: knob.default for knob in list_knobs(list_options("trainer")["default"]) if knob.name in PASSED_ON
    }
    # the later of the three wins: today's defaults, what the file has, what the option meant
    return config | {
        "trainer": usual | now | place | {"num_nodes": 1}, "strategy": {"option": "ddp" if several else "auto"},
    }


def make_paths_absolute(config: dict[str, Any]) -> dict[str, Any]:
    """A config.yaml whose paths are absolute: those of earlier versions were kept as typed,
    relative to the folder of the command."""
    load_options()
    found = dict(config)
    for group in GROUPS:
        chosen = found.get(group)
        option = chosen.get("option") if isinstance(chosen, dict) else None
        cls = list_options(group).get(option) if isinstance(option, str) else None
        if cls is None or not isinstance(chosen, dict):
            continue
        paths = {knob.name: knob for knob in list_knobs(cls) if knob.resolve is not None}
        found[group] = {
            key: paths[key].make_paths_absolute(value) if key in paths and _is_text(value) else value
            for key, value in chosen.items()
        }
    return found


def add_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """A config.yaml with the defaults of the parameters that its options did not have when it was written."""
    load_options()
    found = dict(config)
    for group in GROUPS:
        chosen = found.get(group)
        option = chosen.get("option") if isinstance(chosen, dict) else None
        cls = list_options(group).get(option) if isinstance(option, str) else None
        if cls is not None and isinstance(chosen, dict):
            found[group] = chosen | {k.name: to_plain(k.default) for k in list_knobs(cls) if k.name not in chosen}
    return found


PASSED_ON = ("profiler", "detect_anomaly", "deterministic", "benchmark", "enable_model_summary")
"""Parameters of Lightning's Trainer that came with the group `strategy`."""


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(word, str) for word in value))


def rebuild_run(config: dict[str, Any], allowed: Allowed | None = None, folder: Path | None = None) -> RunConfig:
    """The typed run of a config.yaml, as `Composed.dump_config` returned it. Raises ConfigError
    where an option is not there.

    The file may come from anywhere, so it lets no code run: its plug-ins are imported and its
    model's code is trusted only as
    `allowed` by the command line of now. Prints once what is left out.
    """
    allowed, place = allowed or Allowed(), f"{folder}/config.yaml" if folder else message("The run's config.yaml")
    register(allowed.plugins)
    asked = config.get("plugins") or ()
    left = [str(m) for m in asked if m not in IMPORTED] if isinstance(asked, list) else []
    hint = message(
        " It asks for plugins=[{modules}], which is imported only if this command line names it.",
        modules=",".join(left),
    ) if left else UserMessage()
    try:
        run = RunConfig(**{name: _rebuild_part(name, value) for name, value in (EARLIER | config).items()})
    except (OmegaConfBaseException, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            "{place} cannot be read by this version: {said}.{hint}",
            place=place, said=translate_error(error), hint=hint,
        ) from error
    if left:
        run = replace(run, plugins=[module for module in asked if module in IMPORTED])
        _say_once(str(message(
            "warning: {place} asks for plugins=[{modules}], which was not imported; to allow it, add those words "
            "here.",
            place=place, modules=",".join(left),
        )))
    frozen: RunConfig = freeze(replace(run, model=_trust_anew(run.model, allowed, place)))
    return frozen


def _rebuild_part(name: str, value: Any) -> Any:
    """One field of a RunConfig from its plain value in config.yaml."""
    if name in SEVERAL:
        return {key: _rebuild_option(name, item) for key, item in value.items()}
    if name in GROUPS:
        return _rebuild_option(name, value)
    if name in OWN:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(OWN[name]), escape_literal(value)))
    return value


def _trust_anew(model: Any, allowed: Allowed, place: str | UserMessage) -> Any:
    """The model, whose own code may run only as `allowed`, under the pin that was typed with it."""
    if not getattr(model, "trust_remote_code", False):
        return model
    if allowed.model_code:
        return replace(model, revision=allowed.revision)
    _say_once(str(message(
        "warning: {place} lets the code in {path} run (model.trust_remote_code=true), which does not count here; to "
        "allow it, read the code, then add model.trust_remote_code=true and model.revision=<its pin>.",
        place=place, path=model.path,
    )))
    pinned = str(model.revision).startswith("sha256:")
    return replace(model, trust_remote_code=False, revision=None if pinned else model.revision)


@functools.cache
def _say_once(text: str) -> None:
    say(text)


def _rebuild_option(group: str, values: dict[str, Any]) -> Any:
    cls = list_options(group)[values["option"]]
    return OmegaConf.to_object(
        OmegaConf.merge(OmegaConf.structured(cls), {k: escape_literal(v) for k, v in values.items() if k != "option"})
    )
