"""A reward is read at an answer's last token, for padding on each side and of each token; a head is never random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.errors import ModelError
from fulgurite.model.reward_head import add_reward_head, compute_rewards, get_head

END = 2
"""The tiny tokenizer's end token, here also padding, and also inside a prompt."""
ANSWERS = ([5, 6, END, 7, 8, 9, END], [5, 6, 7, END], [11, END, END, 12, 13, END, 14, 15, END])


def model() -> PreTrainedModel:
    made = add_reward_head(build(compose(["model=tiny"]).run.model, torch.float32).model).eval()
    torch.nn.init.normal_(get_head(made).weight, generator=torch.Generator().manual_seed(1))
    return made


def padded(side: str, pad: int, more: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, ANSWERS)) + more
    ids, mask = torch.full((3, longest), pad), torch.zeros(3, longest, dtype=torch.long)
    for i, answer in enumerate(ANSWERS):
        where = slice(0, len(answer)) if side == "right" else slice(longest - len(answer), longest)
        ids[i, where], mask[i, where] = torch.tensor(answer), 1
    return ids, mask


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", [0, END, 5])
@pytest.mark.parametrize("more", [0, 4])
@torch.no_grad()
def test_reward_does_not_depend_on_padding_or_other_rows(side: str, pad: int, more: int) -> None:
    made = model()
    alone = torch.cat([compute_rewards(made, torch.tensor([a]), torch.tensor([len(a)])) for a in ANSWERS])
    lengths, (ids, mask) = torch.tensor([len(a) for a in ANSWERS]), padded(side, pad, more)
    torch.testing.assert_close(compute_rewards(made, ids, lengths, mask), alone, rtol=1e-5, atol=1e-5)
    if side == "right":
        torch.testing.assert_close(compute_rewards(made, ids, lengths), alone, rtol=1e-5, atol=1e-5)
    assert alone.unique().numel() == 3


@torch.no_grad()
def test_it_is_the_head_on_the_last_hidden_state_of_the_causal_model() -> None:
    causal = build(compose(["model=tiny"]).run.model, torch.float32).model
    made = model()
    ids = torch.tensor([ANSWERS[0]])
    hidden = causal.get_decoder()(input_ids=ids).last_hidden_state[0, -1]
    torch.testing.assert_close(compute_rewards(made, ids, torch.tensor([7]))[0], hidden @ get_head(made).weight[0])


def test_a_fresh_head_gives_every_answer_0() -> None:
    made = add_reward_head(build(compose(["model=tiny"]).run.model, torch.float32).model)
    assert not get_head(made).weight.any()
    assert made.config.num_labels == 1


def test_a_model_without_a_head_is_an_error() -> None:
    causal = build(compose(["model=tiny"]).run.model, torch.float32).model
    with pytest.raises(
        ModelError, match="LlamaForCausalLM is not a reward model: it has no head called score; train one with stage=rm"
    ):
        get_head(causal)


def test_another_architecture_and_one_that_has_no_such_form(monkeypatch: pytest.MonkeyPatch) -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=32, n_positions=32))
    ids = torch.tensor([[3, 4, 5]])
    assert compute_rewards(add_reward_head(gpt2).eval(), ids, torch.tensor([3])).tolist() == [0.0]

    def refuse(config: Any, **more: Any) -> None:
        raise ValueError("Unrecognized configuration class")

    monkeypatch.setattr("fulgurite.model.reward_head.AutoModelForSequenceClassification.from_config", refuse)
    with pytest.raises(
        ModelError, match="GPT2LMHeadModel has no sequence-classification form in transformers; use another model"
    ):
        add_reward_head(gpt2)


def test_a_reward_models_folder_is_no_causal_model(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    config = compose(["model=hf", f"model.path={tmp_path}"]).run.model
    with pytest.raises(ModelError, match="is a reward model or classifier, which cannot generate text"):
        build(config, torch.float32)
