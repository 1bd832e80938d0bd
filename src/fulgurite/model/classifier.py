"""Finds out whether a folder contains a reward model: transformers' sequence-classification form, or the head of an
adapter. Loads no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fulgurite.errors import ModelError
from fulgurite.files.json import read_object
from fulgurite.model.config import describe_reward_model

HEAD = "score"
"""transformers' name for the head of its causal models' sequence-classification form."""
TASK = "SEQ_CLS"
"""peft's name for the task of such an adapter."""


def is_classifier(folder: Path) -> bool:
    """Returns whether a folder's config.json is that of a model in sequence-classification form."""
    try:
        return names_classifier(read_object(folder / "config.json").get("architectures"))
    except (OSError, ValueError):
        return False


def names_classifier(architectures: Any) -> bool:
    """Returns whether the `architectures` of a config name a sequence-classification form, whose head would be lost
    if it were loaded as a causal model."""
    return isinstance(architectures, list) and any(
        str(kind).endswith("ForSequenceClassification") for kind in architectures
    )


def check_classifier(path: str | Path, config: Any, reward: bool) -> None:
    """Raises ModelError unless the head of a classifier can be trained further: only by stage=rm (`reward`), and with
    one label.

    `config` is transformers' own. The head is looked up in the weight files of the folder.
    """
    if not reward:
        raise ModelError(describe_reward_model(path))
    labels = list(getattr(config, "id2label", None) or {})
    if len(labels) != 1:
        shown = ", ".join(str(config.id2label[label]) for label in labels[:4]) + (", ..." if len(labels) > 4 else "")
        raise ModelError(
            "{path} is a classifier with {count} labels ({shown}), and a reward model has one; start from a model "
            "whose config.json has one label in id2label, or from the model that it was trained from.",
            path=path, count=len(labels), shown=shown,
        )
    for file in sorted(Path(path).expanduser().glob("*.safetensors")):
        if f"{HEAD}.bias" in _shapes(file):
            raise ModelError(
                "{file} has a bias in its reward head ({head}.bias), and {architecture} of transformers has none, so "
                "the bias would be lost; remove that tensor (all rewards change by the same number, their order "
                "stays), or start from another model.",
                file=file, head=HEAD, architecture=config.architectures[0],
            )


def has_head(folder: Path, config: dict[str, Any], reward: bool) -> bool:
    """Returns whether an adapter's folder contains a reward head; `config` is its adapter_config.json.

    Raises ModelError unless that head can be trained further, as `check_classifier` does.
    """
    if config.get("task_type") != TASK:
        return False
    if not reward:
        raise ModelError(describe_reward_model(folder))
    shapes = _shapes(folder / "adapter_model.safetensors")
    found = [shape for name, shape in shapes.items() if name.endswith(f".{HEAD}.weight")]
    if shapes and not found:
        raise ModelError(
            "{folder}/adapter_model.safetensors has no {head}.weight, the head of its reward model; give the complete "
            "adapter, or start from the model that it was trained from.",
            folder=folder, head=HEAD,
        )
    # The head is [labels, width].
    if found and found[0][:1] != [1]:
        raise ModelError(
            "{folder} is the adapter of a classifier with {count} labels, and a reward model has one; start from an "
            "adapter with one label, or from the model that it was trained from.",
            folder=folder, count=found[0][0],
        )
    return True


def _shapes(file: Path) -> dict[str, list[int]]:
    """Returns the shape of each tensor in a file, from its header; none if the file cannot be read, which loading
    refuses."""
    try:
        with safe_open(file, "pt") as opened:
            return {name: list(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}
