"""Adapters through peft: each is one config class of its own; here they are put on, and their layers found."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import PreTrainedModel

from fulgurite.errors import ConfigError, ModelError, excerpt, suggest_similar
from fulgurite.language.library_errors import quote_foreign
from fulgurite.language.message import message
from fulgurite.method import config as c
from fulgurite.method.modules import find_linear_layers
from fulgurite.model.peft_internals import ignore_warnings, set_input_cast
from fulgurite.model.safety import check_adapter
from fulgurite.precision.policy import Dtypes

EVERY = ("all", "all-linear", "all_linear")
"""What other tools call every linear layer."""


def attach(model: PreTrainedModel, adapter: Any, dtypes: Dtypes) -> Any:
    """The peft model: base frozen in `dtypes.frozen`, what the adapter trains in `dtypes.trained`.

    Raises ConfigError with peft's reason where the adapter does not fit the model.
    """
    from peft import get_peft_model

    with ignore_warnings():
        try:
            # autocast_adapter_dtype would make every adapter float32; the dtypes are ours, below.
            wrapped = get_peft_model(model, adapter, autocast_adapter_dtype=False)
        except (ValueError, TypeError) as error:
            raise ConfigError(
                "method={method} does not fit this model: {error}",
                method=adapter.peft_type.value.lower(), error=quote_foreign(excerpt(error), 600),
            ) from error
    set_input_cast(wrapped, dtypes.frozen == dtypes.trained)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            # Through .data the Parameter stays the same object, with its attributes, such as lr_scale.
            parameter.data = parameter.data.to(dtypes.trained)
    return wrapped


def load_adapter(model: PreTrainedModel, folder: Path, **more: Any) -> Any:
    """The model under the adapter of a folder, as peft reads it. Raises ModelError if the folder is not safe or not
    whole.

    peft would draw what is missing in the file at random, and leave out what it does not know.
    """
    from peft import PeftModel, get_peft_model_state_dict

    check_adapter(folder)
    with ignore_warnings():
        wrapped = PeftModel.from_pretrained(model, folder, **more)
    if not hasattr(wrapped, "merge_and_unload"):
        raise ModelError(
            "{folder} is an adapter that cannot be merged into a model; use one of LoRA's kind.", folder=folder
        )
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        kept = set(file.keys())
    # peft names the weights of a file without the adapter's name; this gives the names that it should have.
    wanted = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    missing, strange = sorted(wanted - kept), sorted(kept - wanted - set(wrapped.state_dict()))
    if missing or strange:
        fault = message("lacks {name}", name=missing[0]) if missing else message(
            "has weights for which the model has no place: {name}", name=strange[0]
        )
        raise ModelError(
            "{folder}/adapter_model.safetensors {fault} ({missing} missing, {unknown} unknown); use the complete "
            "adapter of this model.",
            folder=folder, fault=fault, missing=len(missing), unknown=len(strange),
        )
    return wrapped


def task(model: PreTrainedModel) -> str | None:
    """peft's word for what the model does; a reward model is none of its tasks."""
    return "CAUSAL_LM" if model.get_output_embeddings() is not None else None


def freeze_base(model: PreTrainedModel, dtypes: Dtypes) -> PreTrainedModel:
    """The model frozen, in the dtype of frozen weights."""
    model.to(dtype=dtypes.frozen)
    model.requires_grad_(False)
    return model


def list_linear_targets(model: PreTrainedModel, wanted: list[str] | None) -> list[str]:
    """The linear layers that get an adapter: all but the head and what no adapter can change, by the last parts of
    their names, or those wanted. A layer whose last part is a number is named in full: peft would take that number
    for any layer's.

    Raises ConfigError where a wanted name or pattern is none.
    """
    full = list(find_linear_layers(model))
    found = sorted({name.rpartition(".")[2] for name in full})
    if wanted is None or (len(wanted) == 1 and wanted[0] in EVERY):
        out = list_layers_read_by_weight(model)
        kept = [name for name in full if name not in out]
        parts = {name.rpartition(".")[2] for name in out}
        # a name that is read by its weight in one place and called in another is given in full
        return sorted({n if (last := n.rpartition(".")[2]).isdigit() or last in parts else last for n in kept})
    chosen: list[str] = []
    for name in wanted:
        by_pattern = [f for f in full if fnmatchcase(f, name)] if "*" in name else []
        if name not in found and not by_pattern:
            hint = suggest_similar(name, found)
            raise ConfigError(
                "method.targets: {name} matches no linear layer.{hint} There are: {layers}.",
                name=name, hint=hint, layers=", ".join(found),
            )
        chosen += by_pattern or [name]
    return chosen


def list_layers_read_by_weight(model: PreTrainedModel) -> list[str]:
    """The linear layers of state-space mixers whose weights a kernel reads by itself: an adapter on them would
    change nothing.

    Such a mixer holds its decay (`A_log`) and its skip (`D`) as parameters of its own; its input projections are
    called as layers.
    """
    # Mamba's fused kernel takes the weight of its output projection and never calls the layer.
    mixers = [
        name for name, m in model.named_modules() if {"A_log", "D"} <= {n for n, _ in m.named_parameters(recurse=False)}
    ]
    own = {f"{name}.{part}" for name in mixers for part in ("out_proj", "dt_proj")}
    return [name for name in find_linear_layers(model) if name in own]


def oft(config: c.Oft, model: PreTrainedModel, dtypes: Dtypes) -> Any:
    """Orthogonal fine-tuning (Qiu et al., https://arxiv.org/abs/2306.07280, in the form of
    https://arxiv.org/abs/2506.19847)."""
    from peft import OFTConfig

    _refuse_uneven(model, config.targets, config.block)
    adapter = OFTConfig(
        r=0,
        oft_block_size=config.block,
        module_dropout=config.dropout,
        target_modules=list_linear_targets(model, config.targets),
        # The exact Cayley transform: its rotations are rotations, which a truncated Neumann series only approaches.
        use_cayley_neumann=False,
        task_type=task(model),
    )
    return attach(freeze_base(model, dtypes), adapter, dtypes)


def ia3(config: c.Ia3, model: PreTrainedModel, dtypes: Dtypes) -> Any:
    """(IA)³ (Liu et al., https://arxiv.org/abs/2205.05638); which layers is peft's knowledge of each architecture."""
    from peft import IA3Config

    return attach(freeze_base(model, dtypes), IA3Config(task_type=task(model)), dtypes)


def vera(config: c.Vera, model: PreTrainedModel, dtypes: Dtypes) -> Any:
    """VeRA (Kopiczko et al., https://arxiv.org/abs/2310.11454). The random matrices are saved with it: they hang on
    the machine."""
    from peft import VeraConfig

    adapter = VeraConfig(
        r=config.rank,
        vera_dropout=config.dropout,
        target_modules=list_linear_targets(model, config.targets),
        task_type=task(model),
        save_projection=True,
    )
    return attach(freeze_base(model, dtypes), adapter, dtypes)


def _refuse_uneven(model: PreTrainedModel, targets: list[str] | None, block: int) -> None:
    chosen = set(list_linear_targets(model, targets))
    for name, layer in find_linear_layers(model).items():
        width = int(layer.weight.shape[1])  # type: ignore[index]
        if (name in chosen or name.rpartition(".")[2] in chosen) and width % block:
            raise ConfigError(
                "method.block={block} does not divide {width}, the inputs of {name}; use a divisor of each "
                "width.",
                block=block, width=width, name=name,
            )
