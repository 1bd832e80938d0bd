"""Reads a file of another trainer's settings and converts it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fulgurite.convert.conversion import Conversion, Verdict
from fulgurite.convert.engine import SourceTrainer, convert_tree
from fulgurite.convert.llama_factory import LLAMA_FACTORY, VERSION_1
from fulgurite.convert.others import AXOLOTL, TRL
from fulgurite.errors import ConfigError, suggest_similar
from fulgurite.files.yaml_text import LARGEST, load_yaml
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import UserMessage, message

TRAINERS: Mapping[str, SourceTrainer] = {"llamafactory": LLAMA_FACTORY, "axolotl": AXOLOTL, "trl": TRL}
"""The trainers by their names on the command line."""
SIGNS_OF_VERSION_1 = ("train_dataset", "model_class", "dist_config", "peft_config")
OTHER_USES: Mapping[str, UserMessage] = {
    "distributed_type": message("{path} is a file of accelerate, with no training in it; strategy=ddp or "
                                "strategy=fsdp, trainer.devices and trainer.num_nodes take its place."),
    "do_predict": message("{path} generates answers, and trains nothing; `fulgurite chat run=RUN` answers questions "
                          "that are piped in."),
    "export_dir": message("{path} exports a model, and trains nothing; write `fulgurite export run=RUN out=FOLDER`."),
    "infer_backend": message("{path} talks with a model, and trains nothing; write `fulgurite chat run=RUN`."),
}
"""The keys of files that are for something else, and what to type instead."""


def convert_file(name: str, path: str, *, defaults: bool = True) -> Conversion:
    """Returns a file of a trainer in our words. Raises ConfigError if it is none."""
    if name not in TRAINERS:
        raise ConfigError("There is no conversion from {name}.{hint} There are {known}.",
                          name=name, hint=suggest_similar(name, TRAINERS), known=", ".join(TRAINERS))
    tree = _read(path)
    for key, use in OTHER_USES.items():
        if find_key(tree, key):
            raise ConfigError(use.template, path=path)
    source = _choose_form(TRAINERS[name], tree)
    conversion = convert_tree(source, tree, defaults=defaults)
    if not conversion.select(Verdict.taken):
        raise ConfigError("{path} has no setting of {owner} that is known here.", path=path, owner=source.owner)
    return conversion


def convert_settings(owner: str, tree: Mapping[Any, Any]) -> Conversion | None:
    """Returns settings that were read already, without defaults of their trainer; None if it is not known here."""
    source = next((source for source in TRAINERS.values() if owner == source.owner), None)
    if owner == "Hugging Face":
        source = TRL
    return convert_tree(_choose_form(source, tree), tree, defaults=False) if source is not None else None


def _choose_form(source: SourceTrainer, tree: Mapping[Any, Any]) -> SourceTrainer:
    is_version_1 = source is LLAMA_FACTORY and any(sign in tree for sign in SIGNS_OF_VERSION_1)
    return VERSION_1 if is_version_1 else source


def find_key(tree: Mapping[Any, Any], key: str) -> bool:
    """Returns whether a key is set in a file or in an object of it, and not to false."""
    found = tree.get(key)
    inner = (value for value in tree.values() if isinstance(value, Mapping))
    return (found is not None and found is not False) or any(find_key(value, key) for value in inner)


def _read(path: str) -> Mapping[Any, Any]:
    file = Path(path).expanduser()
    try:
        if file.stat().st_size > LARGEST:
            raise ConfigError("{path} is larger than {most:,} bytes, and no file of settings.", path=path, most=LARGEST)
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError("{path} cannot be read: {reason}.", path=path, reason=translate_error(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError("{path} is not UTF-8 text; give a YAML file of settings.", path=path) from error
    tree = load_yaml(text)
    if not isinstance(tree, Mapping):
        raise ConfigError("{path} holds no settings; a YAML file with a key on each line was expected.", path=path)
    return tree
