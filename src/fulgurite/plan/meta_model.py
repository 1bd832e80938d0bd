"""A run's model without its weights: built on torch's meta device, with the run's own method on it, so that counts
are exact."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from fulgurite.config.guard import Allowed
from fulgurite.config.run import RunConfig
from fulgurite.config.stored import rebuild_run
from fulgurite.errors import ModelError, excerpt
from fulgurite.language.library_errors import quote_foreign
from fulgurite.method.config import Method
from fulgurite.method.four_bits import count_four_bit_bytes
from fulgurite.method.modules import find_linear_layers
from fulgurite.model.attention import is_unsupported, with_attention
from fulgurite.model.classifier import check_classifier, has_head, names_classifier
from fulgurite.model.config import Model, describe_reward_model
from fulgurite.model.load import Loaded, loaded
from fulgurite.model.probe import Behaviour
from fulgurite.model.reward_head import add_reward_head
from fulgurite.model.router_loss import refuse_without_router
from fulgurite.model.safety import check_adapter
from fulgurite.model.twin import attends_by_documents, find_behaviour
from fulgurite.model.unwrap import unwrap_model
from fulgurite.plan.context import ModelFacts, Weights
from fulgurite.precision.policy import Dtypes
from fulgurite.run.folder import read_config
from fulgurite.run.load import apply_method, find_adapter_base, get_allowed, load_start
from fulgurite.run.sources import is_run, read_adapter_base
from fulgurite.stage.config import Stage

WIDTHS = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
"""What architectures call the width inside their feed-forward part."""
KINDS = (
    ("adapter", re.compile(r"lora_|oft_|ia3_|vera_|trainable_tokens|value_head")),
    ("norm", re.compile(r"norm|\bln_|\.ln\b|layernorm", re.IGNORECASE)),
    ("head", re.compile(r"lm_head|embed_out|\bscore\b")),
    ("embedding", re.compile(r"embed|\bwte\b|\bwpe\b")),
    ("attention", re.compile(r"att|query_key_value|[qkvo]_proj|out_proj")),
    ("mlp", re.compile(r"mlp|feed_forward|ffn|fc\d|gate|dense|expert")),
)
"""By a part of the name, in this order."""


def outline_model(run: RunConfig, dtypes: Dtypes) -> tuple[Loaded, ModelFacts]:
    """The model that trains, with its tokenizer, on the meta device; and its numbers. Raises ModelError and
    ConfigError as loading does.

    What cannot be built so (a method of a person's own that computes with weights) is loaded.
    """
    # The form of the method that makes shapes only, since the meta device has no values.
    bare_run = replace(run, method=run.method.outlined())
    dtype = dtypes.trained if run.method.loads_trained else dtypes.frozen
    behaviour: Behaviour | None = None
    try:
        with torch.device("meta"):
            found, stored = outline_bare(run.model, dtype, reward=run.stage.gives_rewards)
            # Counted before the method adds its own parameters.
            base = sum(p.numel() for p in found.model.parameters())
            behaviour = find_behaviour(found.model.config)
            if behaviour is not None and behaviour.positions is not None:
                found.length = min(found.length, behaviour.positions)
            refuse_without_router(found.model, getattr(run.stage, "router_aux_loss_coef", None))
            if run.stage.gives_rewards:
                found.model = add_reward_head(found.model)
            found.model = apply_method(bare_run.method, bare_run.stage.gives_rewards, found, dtypes)
    except (NotImplementedError, RuntimeError):
        found = load_start(run.model, run.method, run.stage.gives_rewards, dtypes)
        base, stored = sum(p.numel() for p in found.model.parameters()), ""
        found.model = apply_method(run.method, run.stage.gives_rewards, found, dtypes)
    facts = collect_facts(found, run.model, run.method, run.stage, dtypes, base, stored)
    facts.without_adapter = count_without_adapter(found.model) if run.method.adapter else {}
    facts.notes, facts.attention = found.notes, found.attention
    if behaviour is not None:
        facts.causal, facts.packs = behaviour.causal, behaviour.packs
    if facts.packs and found.attention == "sdpa":
        facts.documents = attends_by_documents(unwrap_model(found.model).config)
    return found, facts


def outline_bare(model: Model, dtype: torch.dtype, reward: bool = False) -> tuple[Loaded, str]:
    """The causal model that `model=` names, in `dtype`, and the dtype that its checkpoint names.

    Of a run it is the base, which has the shape of what was merged into it. A reward model, refused unless `reward`,
    is without its head.
    """
    folder = model.folder()
    if folder is not None and is_run(folder):
        return _outline_run(folder, dtype, get_allowed(model), reward)
    if folder is not None and (folder / "adapter_config.json").is_file():
        said = read_adapter_base(folder)
        has_head(folder, check_adapter(folder), reward)
        return outline_bare(find_adapter_base(said, get_allowed(model)), dtype, reward)
    if not model.outlines:
        with torch.device("cpu"):
            found: Loaded = _import_function(model.builds)(model, dtype)
        shape, words = found.model.config, found.tokenizer
    else:
        shape, words = _import_function(model.outlines)(model)
        if names_classifier(shape.architectures):
            check_classifier(getattr(model, "path", model.name), shape, reward)
    stored = _name_dtype(getattr(shape, "dtype", None))
    code = bool(getattr(model, "trust_remote_code", False))
    made, attention = with_attention(partial(_make_model, shape, dtype, code), str(model.attention))
    outline = loaded(made, words, model.add_tokens)
    outline.attention = attention
    return outline, stored


def _outline_run(folder: Path, dtype: torch.dtype, may: Allowed, reward: bool) -> tuple[Loaded, str]:
    before = rebuild_run(read_config(folder), may, folder)
    if before.stage.gives_rewards and not reward:
        raise ModelError(describe_reward_model(folder))
    found, stored = outline_bare(before.model, dtype, before.stage.gives_rewards)
    if before.method.grows:
        if before.stage.gives_rewards:
            found.model = add_reward_head(found.model)
        found.model = apply_method(
            before.method, before.stage.gives_rewards, found, Dtypes("fp32", "32-true", dtype, dtype, dtype, "")
        )
        # The earlier method froze the layers around those that it added; here all of them are the base of a new run.
        found.model.requires_grad_(True)
    return found, stored


def _import_function(named: str) -> Any:
    module, _, name = named.partition(":")
    return getattr(importlib.import_module(module), name)


def _make_model(shape: Any, dtype: torch.dtype, code: bool, attention: str) -> PreTrainedModel:
    try:
        made: PreTrainedModel = AutoModelForCausalLM.from_config(
            shape, dtype=dtype, attn_implementation=attention, trust_remote_code=code,
        )
    except (NotImplementedError, RuntimeError):
        raise  # what computes with weights is loaded instead
    except Exception as error:  # a shape of foreign origin: transformers and torch raise every type there is
        if is_unsupported(error):
            raise
        raise ModelError(
            "{name} is not a causal language model that transformers builds ({kind}: {reason}); correct it.",
            name=shape.model_type, kind=type(error).__name__, reason=quote_foreign(excerpt(error), 600),
        ) from error
    return made


def collect_facts(
    found: Loaded, model: Model, method: Method, stage: Stage, dtypes: Dtypes, base: int, stored: str
) -> ModelFacts:
    """The numbers of a model whose method is applied."""
    within = unwrap_model(found.model)
    text = within.config.get_text_config()
    hidden, heads = int(text.hidden_size), int(getattr(text, "num_attention_heads", 1) or 1)
    # Architectures name this width differently; four times the hidden size is the custom for those that do not name
    # it.
    wide = next((int(w) for name in WIDTHS if (w := getattr(text, name, None))), 4 * hidden)
    embedding, head = within.get_input_embeddings(), within.get_output_embeddings()
    tensors = list(list_weights(found.model, stage, method, dtypes))
    return ModelFacts(
        parameters=sum(math.prod(t.shape) for t in tensors),
        trained=sum(math.prod(t.shape) for t in tensors if t.trained),
        tensors=tensors,
        layers=int(text.num_hidden_layers),
        hidden=hidden,
        heads=heads,
        kv_heads=int(getattr(text, "num_key_value_heads", None) or heads),
        intermediate=wide,
        vocab=int(embedding.weight.shape[0]),
        tied=head is not None and head.weight is embedding.weight,
        max_positions=found.length,
        stored_dtype=stored,
        frozen_dtype=_name_dtype(dtypes.frozen),
        trained_dtype=_name_dtype(dtypes.trained),
        compute_dtype=_name_dtype(dtypes.compute),
        has_template=_has_template(found.tokenizer),
        path=str(getattr(model, "path", "") or model.name),
        architecture=type(within).__name__,
        billions=base / 1e9,
    )


def list_weights(model: nn.Module, stage: Stage, method: Method, dtypes: Dtypes) -> Iterator[Weights]:
    """Every parameter of the stage, tied ones once: the model's, and of PPO the value head."""
    packed = _measure_quantised(model, method, dtypes)
    for name, p in model.named_parameters():
        quarter = packed.get(id(p))
        yield Weights(
            name,
            tuple(p.shape),
            p.requires_grad,
            classify_weight(name),
            p.numel() * p.element_size() if quarter is None else quarter,
        )
    if stage.value_head:
        hidden, size = unwrap_model(model).config.get_text_config().hidden_size, dtypes.trained.itemsize
        yield Weights("value_head.weight", (1, hidden), True, "head", hidden * size)
        yield Weights("value_head.bias", (1,), True, "head", size)


def _measure_quantised(model: Any, method: Method, dtypes: Dtypes) -> dict[int, int]:
    """The bytes of each weight that the method keeps in four bits, by the parameter's id."""
    if not method.quantised or dtypes.plain_base:
        return {}
    found = {}
    for name, layer in find_linear_layers(unwrap_model(model)).items():
        weight = layer.weight
        if isinstance(weight, nn.Parameter) and not weight.requires_grad and not KINDS[0][1].search(name):
            found[id(weight)] = count_four_bit_bytes(weight.numel(), bool(getattr(method, "double_quant", False)))
    return found


def classify_weight(name: str) -> str:
    """What a parameter is part of, by its name."""
    inner = name.removesuffix(".weight").replace(".base_layer", "")
    return next(
        (kind for kind, pattern in KINDS if pattern.search(inner)), "bias" if inner.endswith("bias") else "other"
    )


def count_without_adapter(model: Any) -> dict[str, int]:
    """How many numbers of weights that multiply the states have no adapter and are frozen, by the last two parts of
    their names."""
    ends = {
        id(end.weight)
        for end in (unwrap_model(model).get_input_embeddings(), unwrap_model(model).get_output_embeddings())
        if end is not None
    }
    found: dict[str, int] = {}
    for name, p in model.named_parameters():
        if (
            p.ndim < 2
            or p.requires_grad
            or ".base_layer." in name
            or id(p) in ends
            or classify_weight(name) == "embedding"
        ):
            continue
        # Layers differ by their number only: self_attn.q_proj is one entry.
        short = ".".join(name.removesuffix(".weight").split(".")[-2:])
        found[short] = found.get(short, 0) + p.numel()
    return found


def _name_dtype(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.") if dtype is not None else ""


def _has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    return bool(tokenizer.chat_template)
