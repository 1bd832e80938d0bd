"""A small model of the same architecture: built from a config in milliseconds, with random weights.

Whether an architecture keeps packed documents apart, or how its positions are counted, does not depend on its size.
`plan` loads no weights, and measures such a twin instead.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from fulgurite.errors import ModelError
from fulgurite.model.document_probe import BEFORE, use_documents
from fulgurite.model.probe import Behaviour, measure
from fulgurite.model.quiet import silence

SMALL = 4_000_000
"""Maximum parameters of a model that is its own twin."""
LAYERS, WIDTH, HEADS, HEAD, INNER, VOCABULARY, EXPERTS, RANK = 4, 64, 4, 16, 32, 512, 4, 8
"""The sizes of a twin. The width is that of all heads together; a twin has more layers if its first four layers do not
have every kind."""
SEED = 11
HOW: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager"}

SIZES: tuple[tuple[str, int], ...] = (
    (
        r"num_hidden_layers|n_layer|num_layers|"
        r"(encoder_|decoder_)layers|num_encoder_layers|num_decoder_layers|num_blocks|n_layers",
        LAYERS,
    ),
    (
        r"hidden_size|d_model|n_embd|dim|embedding_size|"
        r"word_embed_proj_dim|embedding_dim|lru_width|cross_attention_hidden_size",
        WIDTH,
    ),
    (
        r"num_attention_heads|n_head|n_heads|num_heads|"
        r"(encoder_|decoder_)attention_heads|num_(encoder|decoder)_attention_heads",
        HEADS,
    ),
    (r"num_key_value_heads|num_kv_heads|n_head_kv", HEADS // 2),
    (r"head_dim|dim_head|global_head_dim|v_head_dim|attention_head_dim|kv_channels|swa_head_dim", HEAD),
    (r"qk_rope_head_dim|qk_nope_head_dim|kv_lora_rank|q_lora_rank|rotary_dim|index_head_dim", RANK),
    (r"qk_head_dim", 2 * RANK),
    (
        r"\w*intermediate_size|ffn_dim|(encoder_|decoder_)ffn_dim|n_inner|"
        r"dim_ff|ffn_hidden_size|inner_size|\w*expert_ffn_hidden_size",
        INNER,
    ),
    (r"vocab_size(_per_layer_input)?", VOCABULARY),
    (r"num_experts|num_local_experts|n_routed_experts|moe_num_experts", EXPERTS),
    (r"num_experts_per_tok(en)?|moe_top_?k|moe_k|top_k_experts|num_selected_experts", 2),
    (r"n_group|topk_group|num_expert_group|n_groups_moe", 1),
    (r"linear_num_key_heads|linear_num_value_heads|index_n_heads", HEADS),
    (r"linear_key_head_dim|linear_value_head_dim|hidden_size_per_layer_input|altup_num_inputs_dim|laurel_rank", HEAD),
    (r"mamba_d_ssm", 2 * WIDTH),
    (r"mamba_n_heads|mamba_num_heads|n_mamba_heads", RANK),
    (r"state_size|mamba_d_state|ssm_state_size|mamba_dt_rank|time_step_rank", RANK),
    (r"mamba_n_groups|n_groups|mamba_ngroups", 1),
    (r"mamba_head_dim|mamba_headdim|mamba_d_head", HEAD),
)
"""Names of fields in configs, and their values in a twin."""
MAMBA = (
    ("mamba_n_heads", "mamba_d_head", "mamba_expand"),
    ("n_mamba_heads", "mamba_headdim", "mamba_expand"),
    ("num_heads", "head_dim", "expand"),
)
"""Fields of Mamba's second form: heads, their width, and by how much both together are wider than the model."""
NAMES = tuple((re.compile(names), size) for names, size in SIZES)


def twin(config: PreTrainedConfig) -> PreTrainedModel | None:
    """Builds a model of the config's architecture, in float32 on the CPU; None if none can be built. Does not change
    the random state."""
    for shape in (_own(config), shrink_sizes(config)):
        if shape is None:
            continue
        try:
            # A fixed seed without a trace in the run's own random state; the CPU, because the caller may be on the
            # meta device.
            with silence(), torch.random.fork_rng(devices=[]), torch.device("cpu"):
                torch.manual_seed(SEED)
                made: PreTrainedModel = AutoModelForCausalLM.from_config(shape, trust_remote_code=False, **HOW)
        except Exception:  # a library's own: a width that another field does not divide, a list of another length
            continue
        return made.eval().requires_grad_(False)
    return None


_KNOWN: dict[str, Behaviour | None] = {}
"""Measured behaviours by the config's text: a plan needs them several times."""


def find_behaviour(config: PreTrainedConfig) -> Behaviour | None:
    """Returns the behaviour of a model of this architecture; None if it has no twin, so that only the loaded model can
    be measured."""
    # use_diff=False: defaults of the class count as well.
    key = f"{type(config).__name__} {config.to_json_string(use_diff=False)}"
    if key not in _KNOWN:
        made = twin(config)
        try:
            _KNOWN[key] = measure(made) if made is not None else None
        except ModelError:
            _KNOWN[key] = None
    return _KNOWN[key]


def attends_by_documents(config: PreTrainedConfig) -> bool | None:
    """Returns whether a model of this architecture with sdpa can attend by documents; None if it has no twin."""
    made = twin(config)
    if made is None:
        return None
    with silence():
        made.set_attn_implementation(BEFORE)
    return use_documents(made)


def shrink_sizes(config: PreTrainedConfig) -> PreTrainedConfig:
    """Returns the config with few layers, a small width and a small vocabulary. Fields that define how the model
    computes stay as they are."""
    made = copy.deepcopy(config)
    _shrink(made)
    return made


def _own(config: PreTrainedConfig) -> PreTrainedConfig | None:
    """Returns the config itself if its model is small."""
    made = copy.deepcopy(config)  # transformers writes the dtype into the config that it builds from
    try:
        with silence(), torch.device("meta"):
            whole = AutoModelForCausalLM.from_config(made, trust_remote_code=False, **HOW)
    except Exception:
        return None
    return made if sum(p.numel() for p in whole.parameters()) <= SMALL else None


def _shrink(config: Any) -> None:
    layers = int(getattr(config, "num_hidden_layers", 0) or 0)
    kept = min(layers, max(LAYERS, _first_of_each(config)))
    before = dict(vars(config))
    for name, value in before.items():
        if isinstance(value, PreTrainedConfig):
            _shrink(value)
        # A list with an entry for each layer, such as layer_types.
        elif isinstance(value, list) and len(value) == layers and layers:
            setattr(config, name, value[:kept])
        # Not isinstance: a switch that is True is an int as well.
        elif type(value) is int and value > 0:
            size = next((size for pattern, size in NAMES if pattern.fullmatch(name)), None)
            if size is not None:
                # Numbers of heads and experts are as small as that of layers: only the name distinguishes them.
                setattr(config, name, min(value, kept if size == LAYERS and "layer" in name else size))


    _fit(config, before)


def _fit(config: Any, before: dict[str, Any]) -> None:
    """Makes fields that must agree with others agree again."""
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "padding_idx"):
        own = before.get(name)
        if isinstance(own, list) or (isinstance(own, int) and not 0 <= own < VOCABULARY):
            # Ids outside of the small vocabulary would index past its embedding.
            setattr(config, name, 0 if name.startswith("pad") else 1)
    rope, nope = before.get("qk_rope_head_dim"), before.get("qk_nope_head_dim")
    # Latent attention: head_dim is the rotary part of a head in some configs, and both parts in others.
    if rope and before.get("head_dim") == rope:
        config.head_dim = config.qk_rope_head_dim
    if rope and nope and before.get("head_dim") == rope + nope:
        config.head_dim = config.qk_rope_head_dim + config.qk_nope_head_dim
    if (
        "head_dim" in before
        and before["head_dim"] is None
        and before.get("hidden_size")
        and before.get("num_attention_heads")
    ):
        config.head_dim = config.hidden_size // config.num_attention_heads
    # Without grouped heads each query head has a key head of its own, in the twin too.
    for own, beside in (("num_key_value_heads", "num_attention_heads"), ("num_kv_heads", "num_attention_heads")):
        if before.get(beside) and own in before and before[own] in (None, before[beside]):
            setattr(config, own, getattr(config, beside))
    # Mamba: the heads have to fill the expanded width exactly.
    for count, size, times in MAMBA:
        if before.get(count) and before.get(size) and before.get(times):
            setattr(config, count, int(config.hidden_size * getattr(config, times)) // getattr(config, size))
    # Zamba: attention reads the hidden state and the embedding side by side, so it is twice as wide.
    if before.get("attention_hidden_size") and before.get("num_attention_heads") and before.get("attention_head_dim"):
        config.attention_hidden_size = 2 * config.hidden_size
        config.attention_head_dim = config.attention_hidden_size // config.num_attention_heads


def _first_of_each(config: Any) -> int:
    """Returns how many of the first layers are needed to have one of every kind."""
    kinds = next(
        (k for n in ("layer_types", "layers_block_type") if isinstance(k := getattr(config, n, None), list)), []
    )
    return max((kinds.index(kind) + 1 for kind in set(kinds)), default=0)
