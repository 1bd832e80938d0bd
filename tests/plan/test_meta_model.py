"""What is counted without weights is what the loaded model has: every architecture, method and stage that is tried."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.conftest import cells
from tests.method.models import stored_bytes
from transformers import AutoConfig, AutoModelForCausalLM

from fulgurite.config.compose import compose
from fulgurite.config.provenance import Composed
from fulgurite.config.resolve import fill
from fulgurite.config.schema import build
from fulgurite.method.modules import count_elements, count_parameters
from fulgurite.model.tiny_tokenizer import tokenizer
from fulgurite.plan.context import Machine
from fulgurite.plan.memory import estimate
from fulgurite.plan.meta_model import outline_model
from fulgurite.precision.policy import Dtypes
from fulgurite.precision.policy import build as settle
from fulgurite.run.load import apply_method, load_start

METHODS = {
    "full": [], "freeze": ["method.trainable=last:1"], "lora": ["method.rank=4"], "qlora": ["method.rank=4"],
    "oft": ["method.block=8"],
    "layerwise": ["method.rules=['last:1 full','rest lora rank=4']"], "vera": [],
    "llama_pro": ["method.blocks=1"], "dora": ["method.rank=4"],
}
SIZES = {
    "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
WIDE = {"intermediate_size": 48}
GROUPED = {**WIDE, "num_key_value_heads": 2}
SHAPES: dict[str, dict[str, object]] = {
    "llama": GROUPED, "mistral": GROUPED, "qwen2": GROUPED, "qwen3": {**GROUPED, "head_dim": 8},
    "gemma": {**GROUPED, "head_dim": 8},
    "gemma2": {**GROUPED, "head_dim": 8}, "phi": GROUPED, "phi3": {**GROUPED, "pad_token_id": 0}, "gpt2": {},
    "gpt_neox": WIDE,
    "gptj": {"rotary_dim": 4}, "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32}, "bloom": {}, "falcon": {},
    "olmo": GROUPED,
    "olmo2": GROUPED,
    "stablelm": GROUPED, "starcoder2": GROUPED, "cohere": GROUPED, "granite": GROUPED,
    "smollm3": {**GROUPED, "pad_token_id": 0},
    "qwen2_moe": {**GROUPED, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "num_experts": 4},
    "mixtral": {**GROUPED, "num_local_experts": 4},
}
QUANTISABLE = ("llama", "qwen2", "gemma", "phi", "mistral", "gpt_neox", "opt", "bloom", "falcon")


def counts(
    composed: Composed
) -> tuple[tuple[int, int], tuple[int, int], dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """(trained, all) and the trained tensors: without weights, then of the stage over the loaded model."""
    run = composed.run
    dtypes: Dtypes = settle(run.precision, "cpu")
    _, facts = outline_model(run, dtypes)
    # memory can be estimated of each
    assert estimate(run, facts, None, Machine()).peak > sum(t.bytes for t in facts.tensors)
    model = apply_method(
        run.method, run.stage.gives_rewards, load_start(run.model, run.method, run.stage.gives_rewards, dtypes), dtypes,
    )
    stage = build(run.stage, model, run, dtypes, 10)
    real = {n.removeprefix("model."): tuple(p.shape) for n, p in stage.named_parameters() if p.requires_grad}
    trained = {t.name: t.shape for t in facts.tensors if t.trained}
    return (facts.trained, facts.parameters), count_parameters(stage), trained, real


def filled(*words: str) -> Composed:
    from fulgurite.config.facts import Facts

    composed = compose(["logger=none", "precision=fp32", *words])
    composed = fill(composed, Facts(percentile_99=60, rows=100, model_length=64), "data")
    return fill(composed, Facts(total_steps=10), "steps")


@pytest.mark.parametrize("method", METHODS)
def test_the_tiny_model_is_counted_as_it_is_loaded(method: str) -> None:
    said, real, outline, loaded = counts(filled("model=tiny", "model.layers=2", f"method={method}", *METHODS[method]))
    assert said == real
    assert outline == loaded


@pytest.mark.parametrize(
    "words", [["stage=rm"], ["stage=ppo"], ["stage=dpo"], ["stage=pt"], ["model.add_tokens=[mark_one,mark_two]"]],
)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_every_stage_is_counted_as_it_is_built(words: list[str], method: str) -> None:
    more = ["stage.reward=['count:e']"] if words == ["stage=ppo"] else []
    said, real, outline, loaded = counts(filled("model=tiny", f"method={method}", *words, *more))
    assert said == real
    assert outline == loaded


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved model of each architecture, with the tiny model's tokenizer."""
    found, words = {}, tokenizer(320)
    for name, more in SHAPES.items():
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(1)
        shape = AutoConfig.for_model(name, **SIZES, bos_token_id=None, eos_token_id=2, **({"pad_token_id": 0} | more))
        AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
        words.save_pretrained(folder)
        found[name] = folder
    return found


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.parametrize(("name", "method"), cells(SHAPES, ["full", "freeze", "lora", "qlora"]))
def test_every_architecture_is_counted_as_it_is_loaded(folders: dict[str, Path], name: str, method: str) -> None:
    if method == "qlora" and name not in QUANTISABLE:
        method = "dora" if name in ("qwen2", "llama") else "lora"
    composed = filled("model=hf", f"model.path={folders[name]}", f"method={method}", *METHODS[method])
    run = replace(composed.run, model=replace(composed.run.model, attention="eager"))
    dtypes: Dtypes = settle(run.precision, "cpu")
    found, facts = outline_model(run, dtypes)
    model = apply_method(
        run.method, run.stage.gives_rewards, load_start(run.model, run.method, run.stage.gives_rewards, dtypes), dtypes,
    )
    assert (facts.trained, facts.parameters) == count_parameters(model)
    learned = {n: tuple(p.shape) for n, p in model.named_parameters() if p.requires_grad}
    assert {t.name: t.shape for t in facts.tensors if t.trained} == learned
    assert facts.tied == (model.get_output_embeddings().weight is model.get_input_embeddings().weight)
    assert (facts.layers, facts.hidden, facts.vocab) == (2, 32, model.get_input_embeddings().weight.shape[0])
    assert all(p.device.type == "meta" for p in found.model.parameters())


def test_qlora_is_counted_in_the_bytes_that_bitsandbytes_holds() -> None:
    run = filled("model=tiny", "method=qlora", "method.rank=4").run
    dtypes: Dtypes = settle(run.precision, "cpu")
    _, facts = outline_model(run, dtypes)
    model = apply_method(
        run.method, run.stage.gives_rewards, load_start(run.model, run.method, run.stage.gives_rewards, dtypes), dtypes,
    )
    named = dict(model.named_parameters())
    four = [t for t in facts.tensors if getattr(named[t.name], "quant_state", None) is not None]
    assert len(four) == 14  # seven linear layers in each of two
    for tensor in four:
        assert tensor.bytes == stored_bytes(named[tensor.name])
    assert sum(count_elements(p) for p in model.parameters()) == facts.parameters


@pytest.mark.bundled
@pytest.mark.parametrize("method", [pytest.param("full", marks=pytest.mark.matrix), "lora"])
def test_the_bundled_model_is_counted_as_it_is_loaded(method: str) -> None:
    run = filled("model=smollm2_135m", f"method={method}").run
    dtypes: Dtypes = settle(run.precision, "cpu")
    _, facts = outline_model(run, dtypes)
    assert (facts.trained, facts.parameters) == count_parameters(
        apply_method(
            run.method,
            run.stage.gives_rewards,
            load_start(run.model, run.method, run.stage.gives_rewards, dtypes),
            dtypes,
        )
    )
    assert facts.billions == pytest.approx(0.1345, abs=1e-4)
