"""What a folder holds of a reward model: transformers' sequence-classification form, and the head of an adapter. No
weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fulgurite.errors import ModelError
from fulgurite.files.json import read_object
from fulgurite.model.config import CANNOT_SPEAK

HEAD = "score"
"""What transformers calls the head of its causal models' sequence-classification form."""
TASK = "SEQ_CLS"
"""peft's word for an adapter of such a model."""


def is_classifier(folder: Path) -> bool:
    """Whether a folder's config.json is that of a model in sequence-classification form."""
    try:
        return names_classifier(read_object(folder / "config.json").get("architectures"))
    except (OSError, ValueError):
        return False


def names_classifier(architectures: Any) -> bool:
    """Whether the `architectures` of a config name a sequence-classification form; read as a causal model, its head
    would be lost."""
    return isinstance(architectures, list) and any(
        str(kind).endswith("ForSequenceClassification") for kind in architectures
    )


def check_classifier(path: str | Path, config: Any, reward: bool) -> None:
    """Raise ModelError unless the head of a classifier can be trained on: only by stage=rm (`reward`), and with one
    label.

    `config` is transformers' own. The head of a folder is looked up in its weight files.
    """
    if not reward:
        raise ModelError(CANNOT_SPEAK.format(path))
    labels = list(getattr(config, "id2label", None) or {})
    if len(labels) != 1:
        shown = ", ".join(str(config.id2label[label]) for label in labels[:4]) + (", ..." if len(labels) > 4 else "")
        raise ModelError(
            f"{path} is a classifier of {len(labels)} labels ({shown}), and a reward model has one; start from a "
            f"model whose config.json "
            "has one label in id2label, or from the model that it was trained from."
        )
    for file in sorted(Path(path).expanduser().glob("*.safetensors")):
        if f"{HEAD}.bias" in _shapes(file):
            raise ModelError(
                f"{file} has a bias in its reward head ({HEAD}.bias), which transformers' {config.architectures[0]} "
                f"has not and would "
                "lose; remove that tensor (all rewards move by the same number, their order stays), or start from "
                "another model."
            )


def has_head(folder: Path, config: dict[str, Any], reward: bool) -> bool:
    """Whether an adapter's folder holds a reward head; `config` is its adapter_config.json.

    Raises ModelError unless that head can be trained on, as `check_classifier` does.
    """
    if config.get("task_type") != TASK:
        return False
    if not reward:
        raise ModelError(CANNOT_SPEAK.format(folder))
    shapes = _shapes(folder / "adapter_model.safetensors")
    found = [shape for name, shape in shapes.items() if name.endswith(f".{HEAD}.weight")]
    if shapes and not found:
        raise ModelError(
            f"{folder}/adapter_model.safetensors lacks {HEAD}.weight, the head of its reward model; give the adapter "
            f"whole, or start from "
            "the model that it was trained from."
        )
    if found and found[0][:1] != [1]:
        raise ModelError(
            f"{folder} is the adapter of a classifier of {found[0][0]} labels, and a reward model has one; start from "
            f"an adapter with one "
            "label, or from the model that it was trained from."
        )
    return True


def _shapes(file: Path) -> dict[str, list[int]]:
    """The shape of each tensor in a file, from its header; none of a file that cannot be read, which loading
    refuses."""
    try:
        with safe_open(file, "pt") as opened:
            return {name: list(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}
