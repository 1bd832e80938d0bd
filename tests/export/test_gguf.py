"""GGUF files: transformers and llama.cpp's own reader find in them the weights that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf as library
import numpy as np
import pytest
import torch
from tests.end_to_end.runs import tiny
from tests.export.exports import IDS, compute_logits, export
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from fulgurite.cli.main import main
from fulgurite.config.export_arguments import GgufType
from fulgurite.errors import ModelError
from fulgurite.export.gguf import (
    NAME,
    check_architecture,
    permute_halves,
    read_logits,
    restore_halves,
    round_tensor,
    write_gguf,
)
from fulgurite.model.tiny_tokenizer import tokenizer
from fulgurite.run.load import load_run

# peft asks by the old name
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
SHAPE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "tie_word_embeddings": True,
}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "llama, a head of its own": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": False, "rope_theta": 5e4}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": None}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 128}),
}
TEXTS = (
    "The learning rate, 1000 things — déjà vu!", "<|im_start|>user\n  hello<|im_end|>\n", "学习率 🙂\tx=1\n\n\n  y", "",
)
HALF_STEP = {"F32": 0.0, "F16": 2.0**-11, "BF16": 2.0**-8}
"""How far a number may be rounded, relative to its own size."""


def build(name: str) -> Any:
    """A model whose every parameter counts: norms and biases are random too."""
    kind, config, more = MODELS[name]
    torch.manual_seed(0)
    model = kind(config(vocab_size=len(tokenizer(512)), **(SHAPE | more)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize(("name", "kind"), [
    *((name, GgufType.F16) for name in MODELS), ("llama", GgufType.Q8_0), ("qwen2", GgufType.BF16),
    ("qwen3", GgufType.F32),
])
def test_transformers_reads_the_model_that_was_written(name: str, kind: GgufType, tmp_path: Path) -> None:
    model, words = build(name), tokenizer(512)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    write_gguf(model, words, tmp_path / NAME, kind, words.eos_token_id, "a model")
    assert torch.equal(read_logits(tmp_path / NAME, compute_logits), compute_logits(model))
    for key, value in model.state_dict().items():  # rounded once, and by no more than the type does
        if value.dim() == 1:
            assert torch.equal(value, before[key]), key
        elif kind in HALF_STEP:
            assert bool(((value - before[key]).abs() <= before[key].abs() * HALF_STEP[kind] + 1e-7).all()), key
        else:
            most = before[key].unflatten(-1, (-1, 32)).abs().amax(-1, keepdim=True).expand(*value.shape[:-1], -1, 32)
            assert bool(((value - before[key]).abs() <= most.flatten(-2) * (0.5 / 127 + 1e-3)).all()), key
    found = AutoTokenizer.from_pretrained(tmp_path, gguf_file=NAME)
    assert [found(text)["input_ids"] for text in TEXTS] == [words(text)["input_ids"] for text in TEXTS]
    assert (found.eos_token_id, found.chat_template) == (words.eos_token_id, words.chat_template)


def test_the_reader_of_llama_cpp_finds_each_tensor(tmp_path: Path) -> None:
    model, words = build("llama"), tokenizer(512)
    write_gguf(model, words, tmp_path / NAME, GgufType.F32, words.eos_token_id, "a model")
    read = library.GGUFReader(tmp_path / NAME)
    tensors = {tensor.name: np.array(tensor.data) for tensor in read.tensors}
    layer = model.model.layers[1].self_attn
    assert np.array_equal(tensors["blk.1.attn_v.weight"], layer.v_proj.weight.detach().numpy())
    assert np.array_equal(
        tensors["blk.1.attn_q.weight"], permute_halves(layer.q_proj.weight.detach(), 4).numpy()
    )
    assert "output.weight" not in tensors  # the embedding is the head
    fields = {name: field.contents() for name, field in read.fields.items()}
    assert fields["general.architecture"] == "llama"
    assert fields["llama.attention.head_count_kv"] == 2
    assert fields["llama.rope.freq_base"] == 10000.0
    assert fields["tokenizer.ggml.pre"] == "gpt-2"
    assert fields["tokenizer.ggml.add_bos_token"] is False


def test_rows_of_a_rotary_embedding_change_places_and_come_back() -> None:
    """Element i of a head turns with i + width/2 in transformers, 2i with 2i + 1 in llama.cpp."""
    rows = torch.arange(16.0)[:, None]
    assert permute_halves(rows, 2)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    assert torch.equal(restore_halves(permute_halves(rows, 2), 2), rows)


def test_rows_that_do_not_divide_into_blocks_are_float16() -> None:
    values = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    rounded = round_tensor(values, GgufType.Q8_0)
    assert rounded.kind is library.GGMLQuantizationType.F16
    assert torch.equal(rounded.read, values.half().float())


@pytest.mark.parametrize(("config", "reason"), [
    (LlamaConfig(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}), "rope_type=linear"),
    (MistralConfig(sliding_window=64), "sliding_window=64"),
    (LlamaConfig(hidden_act="gelu"), "hidden_act=gelu"),
    (Qwen3Config(head_dim=64), "head_dim=64"),
])
def test_what_llama_cpp_might_compute_differently_is_refused(config: Any, reason: str) -> None:
    with pytest.raises(ModelError, match=f"format=gguf cannot write {reason} .*export with format=safetensors"):
        check_architecture(config)


def test_a_run_is_exported_with_its_adapter_and_its_template(lora: Path, tmp_path: Path) -> None:
    out = export(lora, tmp_path / "out", "format=gguf", "gguf_type=F32", "modelfile=true")
    assert sorted(path.name for path in out.iterdir()) == ["Modelfile", "README.md", NAME]
    with_adapter = compute_logits(load_run(lora, exact=True).model)
    found = AutoModelForCausalLM.from_pretrained(out, gguf_file=NAME, dtype=torch.float32)
    assert (compute_logits(found) - with_adapter).abs().max() / with_adapter.abs().max() < 1e-5
    assert (out / "Modelfile").read_text().startswith("FROM ./model.gguf\nTEMPLATE ")


def test_wrong_words_are_refused_before_anything_is_loaded(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, reason in (
        (["format=gguf", "dtype=float16"], "dtype=float16 is for format=safetensors"),
        (["gguf_type=Q8_0"], "gguf_type=Q8_0 is for format=gguf"),
        (["format=gguf", "merge=false"], "merge=false writes an adapter alone"),
        (["format=onnx"], "format"),
    ):
        assert main(["export", f"run={lora}", f"out={tmp_path / 'out'}", *words]) == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_reward_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny(tmp_path / "run", "stage=rm", "data=guide_preference", "method=full")
    assert main(["export", f"run={run}", f"out={tmp_path / 'out'}", "format=gguf"]) == 2
    assert "this one gives rewards" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.matrix
@pytest.mark.bundled
def test_the_bundled_model_has_the_metadata_of_the_file_it_came_from(tmp_path: Path) -> None:
    from fulgurite.config.compose import compose
    from fulgurite.config.schema import build as build_option
    from fulgurite.model.smollm2 import packaged

    loaded = build_option(compose(["model=smollm2_135m"]).run.model, torch.float32)
    end = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    write_gguf(loaded.model, loaded.tokenizer, tmp_path / NAME, GgufType.F16, end, "SmolLM2")
    assert torch.equal(read_logits(tmp_path / NAME, compute_logits), compute_logits(loaded.model))
    ours, theirs = (
        {name: field.contents() for name, field in library.GGUFReader(path).fields.items()}
        for path in (tmp_path / NAME, packaged())
    )
    same = [name for name in theirs if name.startswith("llama.")]
    same += [f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "merges", "eos_token_id", "add_bos_token")]
    for name in same:
        assert ours[name] == theirs[name], name


def test_fixed_tokens_are_in_the_vocabulary() -> None:
    assert int(IDS.max()) < len(tokenizer(512))
