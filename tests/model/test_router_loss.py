"""The balance loss of a mixture of experts is the one that transformers' own forward adds, and only if asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import losses, rows, tiny
from transformers import (
    AutoModelForCausalLM,
    GraniteMoeConfig,
    JetMoeConfig,
    LlamaConfig,
    MixtralConfig,
    OlmoeConfig,
    PhimoeConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
    Qwen3NextConfig,
)

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.errors import ConfigError
from fulgurite.loss.language import IGNORE
from fulgurite.model.router_loss import build_router, find_own_coefficient, refuse_without_router
from fulgurite.plan.meta_model import outline_model
from fulgurite.precision.policy import build as settle

SMALL: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 128, "num_experts_per_tok": 2, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}
EXPERTS: dict[str, PretrainedConfig] = {
    "mixtral": MixtralConfig(**SMALL, num_local_experts=4),
    "qwen2_moe": Qwen2MoeConfig(**SMALL, num_experts=4, moe_intermediate_size=16, shared_expert_intermediate_size=16),
    "qwen3_moe": Qwen3MoeConfig(**SMALL, num_experts=4, moe_intermediate_size=16, head_dim=16),
    "qwen3_moe_some_dense": Qwen3MoeConfig(
        **SMALL, num_experts=4, moe_intermediate_size=16, head_dim=16, mlp_only_layers=[0]
    ),
    "olmoe": OlmoeConfig(**SMALL, num_experts=4),
    "granitemoe": GraniteMoeConfig(**SMALL, num_local_experts=4),
    "phimoe": PhimoeConfig(**SMALL, num_local_experts=4, router_jitter_noise=0.0, input_jitter_noise=0.0),
    "jetmoe": JetMoeConfig(**SMALL, num_local_experts=4, kv_channels=16),
    "qwen3_next": Qwen3NextConfig(
        **SMALL,
        num_experts=4,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        layer_types=["linear_attention", "full_attention"],
    ),
}
COEFFICIENT = 0.3


def made(config: PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(7)
    found: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for name, parameter in found.named_parameters():
        if "router" in name or "gate.weight" in name:
            torch.nn.init.normal_(parameter, std=0.5)  # far from balance
    return found


def stage_of(model: PreTrainedModel, *words: str) -> Any:
    run = compose(["stage=sft", "model=tiny", "method=full", "precision=fp32", *words]).run
    dtypes = settle(run.precision, "cpu")
    return build(run.stage, build(run.method, model, dtypes), run, dtypes, 1).train()


def batch_of(lengths: list[int], seed: int = 1) -> dict[str, Any]:
    """Right-padded rows; the first three tokens of each are a prompt."""
    random, longest = torch.Generator().manual_seed(seed), max(lengths)
    ids, targets = torch.zeros(len(lengths), longest, dtype=torch.int64), torch.full((len(lengths), longest), IGNORE)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, 500, (length,), generator=random)
        targets[row, 2 : length - 1] = ids[row, 3:length]
    return {"input_ids": ids, "targets": targets, "lengths": torch.tensor(lengths)}


def theirs(model: PreTrainedModel, batch: dict[str, Any]) -> Any:
    labels = torch.full_like(batch["input_ids"], IGNORE)
    labels[:, 1:] = batch["targets"][:, :-1]
    mask = torch.arange(labels.shape[1]) < batch["lengths"][:, None]
    more = {} if bool(mask.all()) else {"attention_mask": mask.long()}
    return model(input_ids=batch["input_ids"], labels=labels, output_router_logits=True, use_cache=False, **more)


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("lengths", [[24], [24, 13]], ids=["one row", "padded"])
@pytest.mark.parametrize("name", EXPERTS)
def test_the_loss_and_its_gradient_are_those_of_the_models_own_forward(name: str, lengths: list[int]) -> None:
    model, batch = made(EXPERTS[name]), batch_of(lengths)
    for holder in (model, model.config):
        for key in ("router_aux_loss_coef", "aux_loss_coef"):
            if hasattr(holder, key):
                setattr(holder, key, COEFFICIENT)
    stage = stage_of(model, f"stage.router_aux_loss_coef={COEFFICIENT}")
    expected = theirs(model, batch)
    expected.loss.backward()
    wanted = gradients(model)
    ours = stage.compute_total_loss(batch) / stage.loss_units(batch)
    ours.backward()
    torch.testing.assert_close(ours, expected.loss, rtol=1e-5, atol=1e-5)
    assert stage.reduce_metrics()["router_aux_loss"] == pytest.approx(float(expected.aux_loss.detach()), rel=1e-5)
    found = gradients(model)
    for key, gradient in wanted.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-6, msg=key)

    plain = stage_of(model, "stage.router_aux_loss_coef=0")
    (plain.compute_total_loss(batch) / plain.loss_units(batch)).backward()
    without = gradients(model)
    routers = [key for key in without if "router" in key or key.endswith(".gate.weight")]
    assert routers
    assert all((found[key] - without[key]).abs().max() > 1e-4 for key in routers)
    assert not plain.reduce_metrics()


def test_layers_computed_twice_have_the_same_gradient() -> None:
    batch = batch_of([24])
    found = []
    for words in ([], ["trainer.gradient_checkpointing=true"]):
        model = made(EXPERTS["mixtral"])
        stage_of(model, f"stage.router_aux_loss_coef={COEFFICIENT}", *words).compute_total_loss(batch).backward()
        found.append(gradients(model))
    for key, gradient in found[0].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=1e-4, atol=1e-5, msg=key)


def test_micro_batches_count_by_their_targets() -> None:
    stage = stage_of(made(EXPERTS["mixtral"]), f"stage.router_aux_loss_coef={COEFFICIENT}")
    plain = stage_of(stage.model, "stage.router_aux_loss_coef=0")
    parts = [batch_of([24]), batch_of([13], 2)]
    alone = [
        float((stage.compute_total_loss(b) - plain.compute_total_loss(b)).detach()) / stage.loss_units(b) / COEFFICIENT
        for b in parts
    ]
    shares = [stage.loss_units(b) for b in parts]
    expected = sum(a * n for a, n in zip(alone, shares, strict=True)) / sum(shares)
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)
    assert stage.reduce_metrics()["router_aux_loss"] == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_the_validation_loss_is_without_it() -> None:
    batch, model = batch_of([24]), made(EXPERTS["mixtral"])
    with_it, without = (stage_of(model, f"stage.router_aux_loss_coef={value}").eval() for value in (COEFFICIENT, 0))
    assert torch.equal(with_it.compute_total_loss(batch), without.compute_total_loss(batch))


def test_left_empty_it_is_what_transformers_adds_by_itself() -> None:
    batch = batch_of([24])
    silent = stage_of(made(MixtralConfig(**SMALL, num_local_experts=4, router_aux_loss_coef=0.3)))
    assert silent.router is None
    asking = made(MixtralConfig(**SMALL, num_local_experts=4, router_aux_loss_coef=0.3, output_router_logits=True))
    stage = stage_of(asking)
    assert (find_own_coefficient(asking), stage.router.coefficient) == (0.3, 0.3)
    torch.testing.assert_close(
        stage.compute_total_loss(batch) / stage.loss_units(batch), theirs(asking, batch).loss, rtol=1e-5, atol=1e-5
    )
    assert stage_of(asking, "stage.router_aux_loss_coef=0").router is None


def test_a_model_without_a_router_is_refused_in_one_sentence(tmp_path: Path) -> None:
    llama = made(LlamaConfig(**{name: value for name, value in SMALL.items() if name != "num_experts_per_tok"}))
    assert build_router(llama, None) is None
    assert build_router(llama, 0.0) is None
    for ask in (build_router, refuse_without_router):
        with pytest.raises(ConfigError, match=r"is for mixtures of experts, .* for LlamaForCausalLM; leave it out"):
            ask(llama, 0.01)
    run = compose(["stage=pt", "model=tiny", "method=full", "precision=fp32", "stage.router_aux_loss_coef=0.01"]).run
    with pytest.raises(ConfigError, match="no balance loss of a router for LlamaForCausalLM"):
        outline_model(run, settle(run.precision, "cpu"))


def test_a_mixture_whose_layers_are_all_dense_is_refused() -> None:
    dense = made(Qwen3MoeConfig(**SMALL, num_experts=4, moe_intermediate_size=16, head_dim=16, mlp_only_layers=[0, 1]))
    with pytest.raises(ConfigError, match=r"balance loss of Qwen3MoeForCausalLM .*set stage\.router_aux_loss_coef=0"):
        build_router(dense, 0.01)


def test_other_stages_and_privacy_refuse_it() -> None:
    with pytest.raises(ConfigError, match="router_aux_loss_coef"):
        compose(["stage=dpo", "stage.router_aux_loss_coef=0.01"])
    run = compose(["stage=sft", "privacy=dp_sgd", "stage.router_aux_loss_coef=0.01"]).run
    assert "which privacy keeps apart" in str(run.stage.find_refusal(run))


def test_a_run_of_lora_trains_with_it_and_logs_it(tmp_path: Path) -> None:
    from fulgurite.model.tiny import build as build_tiny

    base = compose(["model=tiny"]).run.model
    tokenizer = build_tiny(base, torch.float32).tokenizer
    made(MixtralConfig(**{**SMALL, "max_position_embeddings": 1024}, num_local_experts=4)).save_pretrained(
        tmp_path / "m"
    )
    tokenizer.save_pretrained(tmp_path / "m")
    words = ["model=hf", f"model.path={tmp_path / 'm'}", "trainer.max_steps=3", "trainer.global_batch_size=4",
        "optim.lr=1e-3"]
    plain = tiny(tmp_path / "plain", *words, "trainer.micro_batch_size=2")
    folder = tiny(tmp_path / "run", *words, "trainer.micro_batch_size=2", "stage.router_aux_loss_coef=0.1")
    aux = [row["train/router_aux_loss"] for row in rows(folder) if "train/router_aux_loss" in row]
    assert len(aux) == 3
    assert losses(folder)[0] == pytest.approx(losses(plain)[0] + 0.1 * aux[0], rel=1e-6)
    assert all("train/router_aux_loss" not in row for row in rows(plain))
