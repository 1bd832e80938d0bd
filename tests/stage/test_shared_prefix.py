"""A prompt that both sides of a pair share is computed once; log-probabilities, gradients and runs stay the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import losses, rows, tiny, weights
from tests.plan.test_meta_model import SHAPES, SIZES
from tests.stage.preference_data import written
from transformers import AutoConfig, AutoModelForCausalLM

from fulgurite.stage import shared_prefix as shared
from fulgurite.stage.log_probs import AnswerScorer

LATER_SEE_ALL = sorted(set(SHAPES) - {"mistral", "gemma2"})
"""Of the shapes, those without a sliding window."""


def model_of(kind: str, **more: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **{**SIZES, **SHAPES.get(kind, {}), **more})
    ).eval()


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little it spares."""
    monkeypatch.setattr(shared, "SPARED", 0.0)
    monkeypatch.setattr(shared, "LEAST", 1)


def batch(prompts: tuple[int, ...] = (9, 7), answers: tuple[int, ...] = (4, 2, 6, 3)) -> dict[str, Any]:
    """Two pairs whose prompts and answers have these lengths, chosen sides first; padded on the right."""
    made = torch.Generator().manual_seed(1)
    longest = max(p + a for p, a in zip(prompts * 2, answers, strict=True))
    ids = torch.zeros(4, longest, dtype=torch.int64)
    targets = torch.full_like(ids, -100)
    heads = [torch.randint(5, 300, (p,), generator=made) for p in prompts]
    for i, (head, tail) in enumerate(zip(heads * 2, answers, strict=True)):
        answer = torch.randint(5, 300, (tail,), generator=made)
        ids[i, : len(head) + tail] = torch.cat([head, answer])
        targets[i, len(head) - 1 : len(head) + tail - 1] = answer
    return {"input_ids": ids, "targets": targets, "shared": min(prompts) - 1}


def scored(
    scorer: AnswerScorer, made: dict[str, Any]
) -> tuple[torch.Tensor, dict[str, torch.Tensor], list[tuple[int, ...]]]:
    """The log-probabilities, the gradients of a weighted sum of them, and the shapes that were embedded."""
    seen: list[tuple[int, ...]] = []
    hook = scorer.causal.get_input_embeddings().register_forward_hook(
        lambda module, given, out: seen.append(tuple(given[0].shape))
    )
    scorer.model.zero_grad()
    logp_S = scorer(made)
    (logp_S * torch.tensor([1.0, -2.0, 3.0, -4.0])).sum().backward()
    hook.remove()
    return logp_S.detach(), {n: p.grad.clone() for n, p in scorer.model.named_parameters() if p.grad is not None}, seen


@pytest.mark.parametrize("kind", LATER_SEE_ALL)
def test_answers_and_gradients_are_the_same_and_the_prompt_goes_once(kind: str, always: None) -> None:
    scorer, made = AnswerScorer(model_of(kind), 4), batch()
    assert scorer.shares
    once, gradients, seen = scored(scorer, made)
    assert seen == [(2, 6), (4, 15 - 6)]
    scorer.shares = False
    apart, expected, seen = scored(scorer, made)
    assert seen == [(4, 15)]
    torch.testing.assert_close(once, apart, rtol=1e-5, atol=1e-4)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "mamba", "lfm2"])
def test_windows_and_states_that_move_along_are_left_alone(kind: str, always: None) -> None:
    hybrid = {"lfm2": {"num_key_value_heads": 2, "intermediate_size": 48, "layer_types": ["conv", "full_attention"]}}
    scorer = AnswerScorer(model_of(kind, **hybrid.get(kind, {})), 4)
    assert not scorer.shares
    assert scored(scorer, batch())[2] == [(4, 15)]


def test_recomputed_activations_exclude_a_cache() -> None:
    model = model_of("llama")
    assert shared.is_possible(model)
    (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)(
        {"use_reentrant": False}
    )
    assert not shared.is_possible(model)
    assert not model.training  # as it was


def test_a_pass_of_its_own_must_spare_a_fifth_and_128_tokens() -> None:
    assert shared.is_worth_it(4, 320, 128)
    assert not shared.is_worth_it(4, 321, 128)
    assert not shared.is_worth_it(4, 200, 127)
    assert not shared.is_worth_it(4, 512, 0)
    assert not shared.is_worth_it(0, 0, 0)  # a process without a pair


@pytest.fixture
def long_prompts(tmp_path: Path) -> Path:
    subject = "of the rate and of the schedule, in one line, please. " * 8
    pairs = [
        {
            "prompt": f"{n}: tell me {subject}{'And why? ' * (n % 3)}",
            "chosen": f"it rises {n}.",
            "rejected": f"a little house {n * 7}.",
        }
        for n in range(24)
    ]
    return written(tmp_path / "long.jsonl", pairs)


@pytest.fixture
def spared() -> Iterator[list[int]]:
    """How many tokens went through once, a number for each time."""
    found: list[int] = []
    before = shared.build_cache

    def prompted(causal: Any, ids_BP: torch.Tensor) -> Any:
        found.append(ids_BP.shape[1])
        return before(causal, ids_BP)

    shared.build_cache = prompted
    yield found
    shared.build_cache = before


@pytest.mark.parametrize("words", [
    ["method=lora"], ["method=full"], ["method=full", "stage.reference_mode=precomputed"],
    ["method=lora", "stage.loss=aot"],
    ["method=lora", "stage.loss=simpo"],
])
def test_a_run_is_the_same_and_shares_by_itself(
    words: list[str], tmp_path: Path, long_prompts: Path, spared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = [
        "stage=dpo", "data=file", f"data.path={long_prompts}", "data.max_length=512", "optim.lr=1e-3",
        "trainer.max_steps=3", *words,
    ]
    monkeypatch.setenv("FULGURITE_CACHE", str(tmp_path / "cache"))  # a table of the reference must be made by each
    once = tiny(tmp_path / "once", *usual)
    assert {n >= 128 for n in spared if n > 5} == {True}  # 5: the model was asked
    spared.clear()
    monkeypatch.setattr(shared, "SPARED", 1.0)
    monkeypatch.setenv("FULGURITE_CACHE", str(tmp_path / "other"))
    apart = tiny(tmp_path / "apart", *usual)
    assert set(spared) <= {5}
    assert len(losses(once)) == 3
    for mine, theirs in zip(rows(once), rows(apart), strict=True):
        assert mine == pytest.approx(theirs, rel=2e-4, abs=2e-5)
    for name, tensor in weights(apart).items():
        torch.testing.assert_close(weights(once)[name], tensor, rtol=1e-3, atol=1e-5)
