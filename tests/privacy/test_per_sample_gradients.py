"""A step's clipped gradients are those of one backward pass a row, clipped by hand; its noise has the promised size."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.errors import ConfigError, TrainingFailed
from fulgurite.loss.language import mean_nll_by_row
from fulgurite.precision.policy import build as settle
from fulgurite.privacy.config import DpSgd
from fulgurite.privacy.mechanism import Mechanism
from fulgurite.privacy.per_sample_gradients import RowGradients, probe
from fulgurite.stage.base import StageModule
from fulgurite.trainer.build import quiet

LENGTHS, CLIP, EXPECTED = (5, 9, 3, 12, 7), 4.5, 4
"""Tokens of the step's rows, of which the third has no label; a norm between the rows' own; the expected batch."""


def rows(vocabulary: int = 512) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for n, length in enumerate(LENGTHS):
        ids = torch.randint(0, vocabulary, (length,), generator=generator)
        ids[1] = 0  # what padding is made of, and the padding token of `tiny`
        targets = torch.cat([ids[1:], torch.tensor([-100])])
        targets[: 1 + n % 3] = -100
        if n == 2:
            targets[:] = -100
        made.append((ids, targets))
    return made


def batch_of(chosen: list[int]) -> dict[str, object]:
    every = rows()
    longest = max((LENGTHS[n] for n in chosen), default=0)
    ids = torch.zeros(len(chosen), longest, dtype=torch.int64)
    targets = torch.full_like(ids, -100)
    for i, n in enumerate(chosen):
        ids[i, : LENGTHS[n]], targets[i, : LENGTHS[n]] = every[n]
    return {
        "input_ids": ids,
        "targets": targets,
        "step_targets": 20,
        "rows": chosen,
        "tokens": sum(LENGTHS[n] for n in chosen),
    }


def stage_of(*words: str, noise: float = 0.0, clip: float = CLIP, secret: int = 3) -> StageModule:
    run = compose(
        ["model=tiny", "precision=fp32", "optim=sgd", "optim.momentum=0", "scheduler=constant", "optim.lr=1.0", *words]
    ).run
    dtypes = settle(run.precision, "cpu")
    torch.manual_seed(0)
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes)
    with torch.no_grad():  # a zero vector before a norm would blow its gradient up a thousandfold, and rounding with it
        model.get_input_embeddings().weight[0].normal_(std=0.02)
    if run.method.name == "lora":  # else one of the two factors is zero, and the other has no gradient
        for name, p in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(p, std=0.3)
    made: StageModule = build(run.stage, model, run, dtypes, 1)
    config = DpSgd(delta=1e-3, noise_multiplier=noise, max_grad_norm=clip, noise_seed=secret)
    made.set_mechanism(Mechanism(config, model, rows=40, batch_size=EXPECTED, total_steps=1, secret=secret))
    return made


def fit(stage: StageModule, batches: list[dict[str, object]]) -> None:
    quiet()
    Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, accumulate_grad_batches=len(batches),
    ).fit(stage, torch.utils.data.DataLoader(batches, batch_size=None))


def change(stage: StageModule, windows: list[list[int]]) -> dict[str, Tensor]:
    """What one step of SGD at rate 1 does to each weight: minus the gradient."""
    before = {n: p.detach().clone() for n, p in stage.named_parameters() if p.requires_grad}
    fit(stage, [batch_of(window) for window in windows])
    return {n: p.detach() - before[n] for n, p in stage.named_parameters() if n in before}


def by_hand(*words: str, dft: bool = False, clip: float = CLIP) -> tuple[dict[str, Tensor], list[float]]:
    """Minus the sum of each row's gradient, alone and unpadded through transformers' logits, clipped, over 4."""
    stage = stage_of(*words)
    assert stage.mechanism is not None
    stage.mechanism.gradients.hooks.remove_hooks()
    weights = {n: p for n, p in stage.named_parameters() if p.requires_grad}
    total = {n: torch.zeros_like(p) for n, p in weights.items()}
    lengths = []
    for ids, targets in rows():
        if not (targets >= 0).any():
            continue
        losses = functional.cross_entropy(
            stage.model(input_ids=ids[None]).logits[0], targets, ignore_index=-100, reduction="none"
        )
        losses = losses * (-losses).exp().detach() if dft else losses
        gradients = torch.autograd.grad(losses.sum() / (targets >= 0).sum(), list(weights.values()))
        length = float(torch.sqrt(sum((g.double() ** 2).sum() for g in gradients)))  # type: ignore[arg-type]
        lengths.append(length)
        for name, gradient in zip(weights, gradients, strict=True):
            total[name] -= gradient * min(1.0, clip / length) / EXPECTED
    return total, lengths


CUTS = {
    "whole": [[0, 1, 2, 3, 4]], "singles": [[0], [1], [2], [3], [4]], "uneven": [[3, 1], [0, 2, 4]],
    "one micro-batch has no labels": [[2], [0, 1, 3, 4]], "empty micro-batches first": [[], [], [0, 1], [2, 3, 4]],
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_any_cut_gives_the_clipped_gradients_by_hand(cut: str, method: str) -> None:
    clip = {"full": 7.0, "lora": CLIP}[method]
    expected, lengths = by_hand(f"method={method}", clip=clip)
    assert min(lengths) < clip < max(lengths)  # some rows are clipped and some are not
    stage = stage_of(f"method={method}", clip=clip)
    found = change(stage, CUTS[cut])
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=2e-7)
    clipped = sum(length > clip for length in lengths) / len(LENGTHS)
    assert (stage.step_record["privacy/rows"], stage.step_record["privacy/clipped"]) == (5.0, clipped)


def test_the_tied_embedding_is_trained_and_gets_both_its_parts() -> None:
    stage = stage_of("method=full")
    causal = stage.model
    assert causal.get_input_embeddings().weight is causal.get_output_embeddings().weight
    found = change(stage, CUTS["whole"])
    assert [n for n in found if "embed" in n or "head" in n] == ["model.model.embed_tokens.weight"]
    seen = {int(i) for ids, _ in rows() for i in ids}
    touched = found["model.model.embed_tokens.weight"].abs().sum(1) > 0
    assert touched.all()  # the head's part reaches every token's row, seen in the input or not
    assert len(seen) < 512


def test_dft_is_clipped_row_by_row_too() -> None:
    expected, _ = by_hand("method=lora", "stage.loss=dft", dft=True)
    for name, tensor in change(stage_of("method=lora", "stage.loss=dft"), CUTS["uneven"]).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=2e-7)


def test_loss_of_a_row_does_not_depend_on_other_rows() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    rows_N, targets = torch.tensor([0, 2, 2]), torch.tensor([0, 0, 1])
    # row 0: ln(1 + e^-2); row 1: none; row 2: the mean of ln(1 + e) and ln(1 + e^3)
    by_hand = torch.tensor([0.126928, 0.0, (1.313262 + 3.048587) / 2])
    torch.testing.assert_close(mean_nll_by_row(logits, targets, rows_N, 3), by_hand, rtol=1e-5, atol=1e-6)


def test_noise_has_its_deviation_and_is_another_in_each_step_and_run() -> None:
    def noise(secret: int, step: int) -> Tensor:
        stage = stage_of("method=full", noise=1.5, secret=secret)
        assert stage.mechanism is not None
        stage.mechanism.finish(step)
        return torch.cat([p.grad.flatten() for p in stage.parameters() if p.grad is not None])

    first = noise(3, 0)
    count, deviation = first.numel(), 1.5 * CLIP / EXPECTED
    assert count > 100_000
    assert float(first.std()) == pytest.approx(deviation, rel=4 / (2 * count) ** 0.5)
    assert abs(float(first.mean())) < 4 * deviation / count**0.5
    assert torch.equal(noise(3, 0), first)
    for other in (noise(3, 1), noise(4, 0)):
        assert abs(float(torch.corrcoef(torch.stack([first, other]))[0, 1])) < 4 / count**0.5


def test_a_step_without_rows_is_noise_alone_and_counts() -> None:
    stage = stage_of("method=lora", noise=1.0)
    found = change(stage, [[], []])
    assert stage.mechanism is not None
    assert stage.mechanism.history == [(1.0, 0.1, 1)]
    assert "train/loss" not in stage.step_record
    assert stage.step_record["privacy/rows"] == 0
    every = torch.cat([t.flatten() for t in found.values()])
    assert float(every.std()) == pytest.approx(CLIP / EXPECTED, rel=4 / (2 * every.numel()) ** 0.5)


def test_noise_is_added_once_a_step_to_the_clipped_sum() -> None:
    clipped = change(stage_of("method=lora"), CUTS["singles"])
    whole = change(stage_of("method=lora", noise=0.5), CUTS["singles"])
    added = torch.cat([(whole[n] - clipped[n]).flatten() for n in clipped])
    assert float(added.std()) == pytest.approx(0.5 * CLIP / EXPECTED, rel=4 / (2 * added.numel()) ** 0.5)


def test_positions_that_are_learned_have_a_gradient_for_each_row_and_names_stay() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=1, n_head=2, attn_pdrop=0.1)
    ).train()
    names = [n for n, _ in model.named_parameters()]
    found = RowGradients(model)

    def losses(batch: dict[str, Tensor], positions: Tensor | None) -> Tensor:
        logits = model(input_ids=batch["input_ids"], position_ids=positions, use_cache=False).logits
        taken = functional.cross_entropy(logits.transpose(1, 2), batch["targets"], ignore_index=-100, reduction="none")
        return taken.sum(1)

    def for_each_row(batch: dict[str, Tensor]) -> Tensor:
        return losses(batch, torch.arange(batch["input_ids"].shape[1]).repeat(batch["input_ids"].shape[0], 1))

    found.prove(for_each_row, torch.float32, 64)
    assert [n for n, _ in model.named_parameters()] == names
    assert model.training
    assert all(m.training for m in model.modules())
    with pytest.raises(ConfigError, match=r"wpe\.weight does not have one gradient for each .*without variants"):
        found.prove(lambda batch: losses(batch, None), torch.float32, 64)
    model.zero_grad()
    losses(probe((4, 4), 64), None).sum().backward()
    with pytest.raises(
        TrainingFailed, match=r"wpe\.weight does not have one gradient for each .*the step was not taken"
    ):
        found.take(2)


def test_a_weight_used_outside_its_layer_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(16, 4), nn.Linear(4, 16, bias=False)

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            hidden = self.embed(batch["input_ids"])
            logits = self.out(hidden) + hidden @ self.out.weight.t()  # the second use is not heard
            return functional.cross_entropy(
                logits.transpose(1, 2), batch["targets"], ignore_index=-100, reduction="none"
            ).sum(1)

    torch.manual_seed(0)
    odd = Odd()
    with pytest.raises(ConfigError, match=r"the gradient of out\.weight for one example differs"):
        RowGradients(odd).prove(odd, torch.float32, 16)
    assert probe((5, 3), 16)["input_ids"].shape == (2, 5)


def test_fp16_that_auto_chose_is_refused() -> None:
    stage = stage_of("method=lora")
    mechanism, stage.dtypes = stage.mechanism, dataclasses.replace(stage.dtypes, option="fp16")
    with pytest.raises(ConfigError, match="fp16, the only 16-bit type of this GPU, scales them; use"):
        stage.set_mechanism(mechanism)


@pytest.mark.parametrize(
    "more",
    [{"use_dora": True}, {"target_modules": ["embed_tokens", "q_proj"]}, {"trainable_token_indices": [3, 4, 11]}],
)
def test_adapters_whose_weights_opacus_does_not_hear_are_refused(more: dict[str, Any]) -> None:
    from peft import LoraConfig, get_peft_model

    base = build(compose(["model=tiny"]).run.model, torch.float32).model
    chosen = {"r": 4, "target_modules": ["q_proj", "up_proj"], "task_type": "CAUSAL_LM"} | more
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's own, of tied weights
        model = get_peft_model(base, LoraConfig(**chosen)).train()

    def losses(batch: dict[str, Any]) -> Tensor:
        positions = torch.arange(batch["input_ids"].shape[1]).repeat(batch["input_ids"].shape[0], 1)
        logits = model(input_ids=batch["input_ids"], position_ids=positions, use_cache=False).logits
        return functional.cross_entropy(
            logits.transpose(1, 2), batch["targets"], ignore_index=-100, reduction="none"
        ).sum(1)

    with pytest.raises(
        ConfigError, match=r"privacy=dp_sgd does not support this model: .*; use method=lora without variants"
    ):
        RowGradients(model).prove(losses, torch.float32, 512)


def test_what_opacus_cannot_hear_is_refused() -> None:
    stage = stage_of("method=full")
    model = stage.model
    stage.mechanism.gradients.hooks.remove_hooks()  # type: ignore[union-attr]
    model.activation_checkpointing_enable()
    with pytest.raises(ConfigError, match="gradient checkpointing runs two; turn it off"):
        RowGradients(model)
    with pytest.raises(ConfigError, match=r"torch\.compile removes; turn torch\.compile off"):
        RowGradients(nn.Sequential(torch.compile(nn.Linear(2, 2), backend="eager")))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"does not support this model.*buffers"):
        RowGradients(nn.Sequential(nn.BatchNorm1d(3)))
