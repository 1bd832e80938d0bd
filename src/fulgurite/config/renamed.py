"""Parameters and options under their earlier names: refused on a command line, read in the files of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fulgurite.errors import ConfigError
from fulgurite.language.message import UserMessage, message

RENAMED: dict[str, str] = {
    "trainer.batch_size": "trainer.global_batch_size",
    "trainer.micro_batch": "trainer.micro_batch_size",
    "trainer.processes": "trainer.devices",
    "trainer.workers": "trainer.num_workers",
    "trainer.clip": "trainer.clip_algorithm",
    "trainer.keep": "trainer.keep_checkpoints",
    "trainer.patience": "trainer.early_stopping_patience",
    "optim.gap": "optim.update_proj_gap",
    "optim.every": "optim.switch_every",
    "optim.order": "optim.switch_mode",
    "optim.newton_steps": "optim.ns_steps",
    "optim.decay": "optim.weight_decay_on",
    "stage.group": "stage.num_generations",
    "stage.mask_cut": "stage.mask_truncated",
    "stage.cut_penalty": "stage.missing_eos_penalty",
    "stage.scale_by_deviation": "stage.scale_rewards",
    "stage.center": "stage.center_rewards_coefficient",
    "stage.smoothing": "stage.gae_lambda",
    "stage.discount": "stage.gamma_discount",
    "stage.value_weight": "stage.vf_coef",
    "stage.inner_epochs": "stage.epochs_per_rollout",
    "method.start": "method.adapter_path",
    "method.reuse": "method.adapter_mode",
    "method.b_lr_ratio": "method.loraplus_lr_ratio",
    "method.quant": "method.quant_type",
    "method.train": "method.trainable",
    "method.also": "method.extra_trainable",
    "find.what": "lr_finder.enabled",
    "find.steps": "lr_finder.steps",
    "find.low": "lr_finder.min_lr",
    "find.high": "lr_finder.max_lr",
    "watch.quiet": "monitor.ignore",
}
"""The earlier name of a parameter and its name of today."""
RENAMED_UNDER: dict[tuple[str, str], dict[str, str]] = {
    ("stage", "grpo"): {"stage.beta": "stage.kl_coefficient"},
    ("stage.loss", "orpo"): {"stage.beta": "stage.orpo_weight"},
}
"""Parameters that have another name under one option, or under one value of another
parameter, and keep it elsewhere."""
RENAMED_OPTIONS: dict[tuple[str, str], dict[str, str]] = {
    ("trainer", "auto"): {"trainer": "default"},
    ("trainer", "cpu"): {"trainer": "default", "trainer.accelerator": "cpu"},
    ("trainer", "ddp_cpu"): {"trainer": "default", "trainer.accelerator": "cpu", "strategy": "ddp"},
}
"""An option that is gone, and what is chosen in its place."""
VALUES: dict[str, dict[str, str]] = {"lr_finder.enabled": {"lr": "true", "null": "false"}}
"""Values of today for those that a parameter had under its earlier name."""
OPTION = "option"
"""The key of a group's option in config.yaml."""


def map_names(choices: Mapping[str, Any]) -> dict[str, str]:
    """Earlier and new names of a run's parameters; `choices` are its options by group, and its parameters by path."""
    found = dict(RENAMED)
    for (chooser, value), names in RENAMED_UNDER.items():
        if str(choices.get(chooser)) == value:
            found.update(names)
    return found


def list_earlier_names(path: str) -> list[str]:
    """The names that a parameter had earlier."""
    every = [RENAMED, *RENAMED_UNDER.values()]
    return sorted({old for names in every for old, new in names.items() if new == path})


def refuse_renamed(overrides: Sequence[str]) -> None:
    """Raises ConfigError, with the new words, if an override has the earlier name of a parameter or of an option."""
    choices = dict(_split_word(text) for text in overrides)
    names = map_names(choices)
    for text in overrides:
        name, value = _split_word(text)
        if name in names:
            raise ConfigError(describe_renamed(name, names[name], value if "=" in text else None))
        if (instead := RENAMED_OPTIONS.get((name, value))) is not None:
            words = [f"{key}={item}" for key, item in instead.items() if f"{key}={item}" != "trainer=default"]
            if words:
                raise ConfigError(
                    "{name}={value} is now {words}; write {words}.", name=name, value=value, words=" ".join(words)
                )
            raise ConfigError("{name}={value} is now the default; leave it out.", name=name, value=value)


def describe_renamed(old: str, new: str, value: str | None = None) -> UserMessage:
    """Returns the refusal of an earlier name, with the word to write if a value was given."""
    if value is None:
        return message("{old} is now {new}.", old=old, new=new)
    return message(
        "{old} is now {new}; write {new}={value}.", old=old, new=new, value=VALUES.get(new, {}).get(value, value)
    )


def refuse_renamed_file(path: object, tree: Mapping[str, Any], prefix: str) -> None:
    """Raises ConfigError if a YAML file sets a parameter by its earlier name;
    `prefix` is the group that the file is of."""
    flat = dict(_flatten(tree, f"{prefix}." if prefix else ""))
    names = map_names({key: str(value) for key, value in flat.items()})
    for name in flat:
        if name in names:
            raise ConfigError(
                "{path}: {renamed} Write that name in the file.",
                path=path, renamed=describe_renamed(name, names[name]),
            )


def rename_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a run's config.yaml under the names of today, but for options that are gone
    (`stored.add_strategy`)."""
    found = {key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    choices = {group: value.get(OPTION) for group, value in found.items() if isinstance(value, dict)}
    names = map_names(choices | {"stage.loss": _find_inside(found, "stage").get("loss")})
    for old, new in names.items():
        _move(found, old, new)
    finder = found.get("lr_finder")
    if isinstance(finder, dict) and finder.get("enabled") in (None, "lr"):
        finder["enabled"] = finder.get("enabled") == "lr"
    return found


def rename_keys(knobs: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping by the path of a parameter, such as provenance.json has, under the names of today."""
    loss = knobs.get("stage.loss")
    names = map_names({**choices, "stage.loss": loss.get("value") if isinstance(loss, Mapping) else loss})
    return {names.get(key, key): value for key, value in knobs.items()}


def rename_words(overrides: Sequence[str]) -> list[str]:
    """The overrides of an earlier run under the names of today; signs before a name (`+`) are kept."""
    names = map_names(dict(_split_word(text) for text in overrides))
    found = []
    for text in overrides:
        name, value = _split_word(text)
        head = text[: len(text) - len(text.lstrip("+~"))]
        if (instead := RENAMED_OPTIONS.get((name, value))) is not None:
            found += [f"{key}={item}" for key, item in instead.items()]
        elif name in names:
            found.append(f"{head}{names[name]}={VALUES.get(names[name], {}).get(value, value)}")
        else:
            found.append(text)
    return found


def _split_word(text: str) -> tuple[str, str]:
    name, _, value = text.lstrip("+~").partition("=")
    return name.strip(), value


def _find_inside(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = tree.get(key)
    return value if isinstance(value, Mapping) else {}


def _flatten(tree: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        found.append((f"{prefix}{key}", value))
        if isinstance(value, Mapping):
            found += _flatten(value, f"{prefix}{key}.")
    return found


def _move(tree: dict[str, Any], old: str, new: str) -> None:
    """Moves one value; a section that is left empty is dropped. A value that has its new name already stays."""
    section, key = old.split(".")
    if not isinstance(tree.get(section), dict) or key not in tree[section]:
        return
    value = tree[section].pop(key)
    target, name = new.split(".")
    tree.setdefault(target, {}).setdefault(name, value)
    if not tree[section]:
        del tree[section]
