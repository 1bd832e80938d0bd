"""What a model predicts at label positions, against log-softmax of transformers' own logits.

The plain head is one matrix product whose logits are made in chunks; gemma2's caps its logits, and is called whole.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from fulgurite.stage.log_probs import AnswerScorer, LabelHead, TokenScorer

SIZES = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}
KINDS = {"llama": {}, "gemma2": {"head_dim": 16, "final_logit_softcapping": 2.0, "attn_implementation": "eager"}}
LENGTHS = (7, 4, 9, 5)


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(request.param, **SIZES, **KINDS[request.param]))
    with torch.no_grad():
        made.get_input_embeddings().weight.mul_(20)  # a sharper model: logits of 2 and more
    return made.eval()


def batch() -> dict[str, Any]:
    """Four answers behind prompts of two tokens, the sides of two pairs; padded on the right."""
    generator = torch.Generator().manual_seed(1)
    ids, targets = torch.zeros(4, max(LENGTHS), dtype=torch.int64), torch.full((4, max(LENGTHS)), -100)
    for i, length in enumerate(LENGTHS):
        ids[i, :length] = torch.randint(5, 300, (length,), generator=generator)
        targets[i, 1 : length - 1] = ids[i, 2:length]
    return {"input_ids": ids, "targets": targets, "shared": 0}


def by_hand(model: Any, i: int, temperature: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities and entropies at the targets of answer `i`, read alone, and its last hidden states."""
    made, length = batch(), LENGTHS[i]
    out = model(input_ids=made["input_ids"][i : i + 1, :length], output_hidden_states=True)
    logits, own = out.logits[0].float() / temperature, made["targets"][i, :length]
    every = logits.log_softmax(-1)[own >= 0]
    chosen = every.gather(1, own[own >= 0][:, None])[:, 0]
    return chosen, -(every.exp() * every).sum(-1), out.hidden_states[-1][0]


CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 2e-5}


@pytest.mark.parametrize("chunk", [1, 4, 512])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_token_scores_are_those_of_whole_logits(model: Any, temperature: float, chunk: int) -> None:
    made = batch()
    scorer = TokenScorer(model, temperature, chunk)
    logp, entropy, states = scorer.score(made)
    assert logp.dtype is entropy.dtype is torch.float32
    assert not logp[made["targets"] < 0].any()
    assert not entropy.requires_grad
    for i, length in enumerate(LENGTHS):
        chosen, spread, last = by_hand(model, i, temperature)
        own = made["targets"][i] >= 0
        torch.testing.assert_close(logp[i][own], chosen, **CLOSE)
        torch.testing.assert_close(entropy[i][own], spread, **CLOSE)
        torch.testing.assert_close(states[i, :length], last, **CLOSE)
    torch.testing.assert_close(scorer(made), logp, rtol=0, atol=0)
    assert scorer.width == 32


def test_an_answers_score_is_the_sum_over_its_tokens(model: Any) -> None:
    expected = torch.stack([by_hand(model, i)[0].sum() for i in range(4)])
    torch.testing.assert_close(AnswerScorer(model, 4)(batch()), expected, **CLOSE)


def test_a_scorer_of_another_model_keeps_its_settings(model: Any) -> None:
    torch.manual_seed(1)
    other = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES)).eval()
    tokens, answers = TokenScorer(model, 0.7, 4).replace_model(other), AnswerScorer(model, 4).replace_model(other)
    expected = [by_hand(other, i, 0.7)[0].sum() for i in range(4)]
    torch.testing.assert_close(tokens(batch()).sum(1), torch.stack(expected), **CLOSE)
    expected = [by_hand(other, i)[0].sum() for i in range(4)]
    torch.testing.assert_close(answers(batch()), torch.stack(expected), **CLOSE)


@pytest.mark.parametrize("trained", [True, False])
def test_logits_at_label_positions_are_the_models_own(model: Any, trained: bool) -> None:
    made = batch()
    labels = made["targets"] >= 0
    model.requires_grad_(trained)
    found = LabelHead(model, 4).compute_logits(labels, input_ids=made["input_ids"])
    model.requires_grad_(True)
    whole = model(input_ids=made["input_ids"]).logits[labels]
    torch.testing.assert_close(found, whole, **CLOSE)


@pytest.mark.parametrize("chunk", [1, 4, 512])
def test_the_summed_loss_is_torchs_cross_entropy(model: Any, chunk: int) -> None:
    made = batch()
    labels = made["targets"] >= 0
    out = LabelHead(model, chunk).run(labels, input_ids=made["input_ids"], use_cache=False)
    nll = torch.nn.functional.cross_entropy(
        model(input_ids=made["input_ids"]).logits[labels].float(), made["targets"][labels], reduction="none"
    )
    torch.testing.assert_close(out.compute_nll(made["targets"][labels]), nll.sum(), rtol=1e-5, atol=1e-4)
    weighted = out.compute_nll(made["targets"][labels], dft=True)
    torch.testing.assert_close(weighted, ((-nll).exp() * nll).sum(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(out.compute_log_probs(made["targets"][labels]), -nll, **CLOSE)
