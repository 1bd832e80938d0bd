"""Rollouts: what is drawn is what the model says, from a seed alone, with log-probabilities as in training."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.stage.log_probs import TokenScorer
from fulgurite.stage.rollout import TransformersRollouts
from fulgurite.stage.rollout_buffer import Buffer

PROMPTS = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3], [100], [200, 201]]


@pytest.fixture(scope="module")
def loaded() -> Any:
    made = build(compose(["model=tiny"]).run.model, torch.float32)
    made.model.requires_grad_(True)
    with torch.no_grad():  # a sharper model: a random one finds every token alike
        made.model.get_input_embeddings().weight.mul_(3)
    return made


def engine(loaded: Any, temperature: float = 1.0, batch: int = 64, most: int = 9) -> TransformersRollouts:
    stops = [loaded.tokenizer.eos_token_id, *range(300, 380)]
    return TransformersRollouts(
        loaded.model, stops, loaded.tokenizer.pad_token_id, max_new_tokens=most, temperature=temperature, batch=batch,
        context=contextlib.nullcontext,
    )


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_drawn_and_recomputed_log_probabilities_agree(loaded: Any, temperature: float) -> None:
    prompts = PROMPTS * 4
    drawn = engine(loaded, temperature).generate(prompts, [1, 0])
    assert {len(t) for t in drawn.tokens} != {9}  # some stopped early
    assert [t[-1] in engine(loaded)._stops for t in drawn.tokens] == drawn.stopped
    buffer = Buffer.of(0, list(range(16)), prompts, drawn, torch.device("cpu"))
    batch = buffer.build_micro_batch(list(range(16)))
    found, entropy, _ = TokenScorer(loaded.model, temperature, 512).score(batch)
    torch.testing.assert_close(found.detach(), buffer.of_token["drawn"], rtol=0, atol=5e-6)
    for i, (prompt, answer) in enumerate(zip(prompts, drawn.tokens, strict=True)):  # each alone, without padding
        logits = loaded.model(input_ids=torch.tensor([prompt + answer])).logits[0].detach() / temperature
        alone = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        own = torch.tensor(answer)
        mask = buffer.targets_NT[i] >= 0
        torch.testing.assert_close(found[i][mask].detach(), alone[range(len(own)), own], rtol=0, atol=5e-6)
        torch.testing.assert_close(entropy[i][mask], -(alone.exp() * alone).sum(-1), rtol=0, atol=5e-6)


def test_what_is_drawn_hangs_on_the_seed_alone_and_leaves_the_random_state(loaded: Any) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = engine(loaded).generate(PROMPTS, [1, 4])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert engine(loaded).generate(PROMPTS, [1, 4]) == first
    assert engine(loaded).generate(PROMPTS, [1, 5]).tokens != first.tokens
    assert engine(loaded).generate(PROMPTS, [2, 4]).tokens != first.tokens


def test_each_portion_draws_from_its_own_seed(loaded: Any) -> None:
    same = [PROMPTS[0]] * 4
    drawn = engine(loaded, batch=2).generate(same, [1, 0])
    assert len(drawn.tokens) == 4
    assert drawn.tokens[:2] != drawn.tokens[2:]


def test_tokens_are_drawn_as_often_as_their_probability(loaded: Any) -> None:
    drawn = engine(loaded, 0.7, batch=4000, most=1).generate([PROMPTS[0]] * 4000, [1, 0])
    said = (loaded.model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].detach() / 0.7).softmax(-1)
    count = torch.bincount(torch.tensor([t[0] for t in drawn.tokens]), minlength=len(said))
    top = said.topk(5).indices
    # 4000 draws: a share p is found within 4 standard errors
    for token in top.tolist():
        p = float(said[token])
        assert abs(float(count[token]) / 4000 - p) < 4 * (p * (1 - p) / 4000) ** 0.5
