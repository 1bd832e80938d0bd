"""Answers: greedy, batched, seeded, and without a trace on training."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from fulgurite.data.example import Message
from fulgurite.data.template import load_template
from fulgurite.errors import ModelError
from fulgurite.model.config import Tiny
from fulgurite.model.generate import continue_prompts, generate
from fulgurite.model.tiny import build


@pytest.fixture(scope="module")
def tiny() -> Any:
    """Its weights are made large, or every prompt would be followed by its own last token."""
    found = build(Tiny(hidden=32, layers=2), torch.float32)
    with torch.no_grad():
        for parameter in found.model.model.layers.parameters():
            parameter.mul_(20)
    return found


def prompts(tokenizer: Any) -> list[list[int]]:
    texts = ("What is a warmup?", "Rank", "The course of the rate over the run is a schedule. What is it?")
    return [tokenizer(text)["input_ids"] for text in texts]


def by_hand(model: Any, ids: list[int], steps: int) -> list[int]:
    """The likeliest next token, again and again, by whole forward passes without a cache."""
    ids = list(ids)
    with torch.no_grad():
        for _ in range(steps):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids


def test_greedy_is_the_likeliest_token_each_time(tiny: Any) -> None:
    ids = prompts(tiny.tokenizer)[0]
    model = tiny.model.eval()
    expected = by_hand(model, ids, 8)[len(ids):]
    answer = continue_prompts(model, tiny.tokenizer, [ids], [], max_new_tokens=8)[0]
    assert answer.text == tiny.tokenizer.decode(expected, skip_special_tokens=True)
    assert (answer.tokens, answer.stopped) == (8, False)


def test_a_batch_gives_what_each_prompt_gives_alone(tiny: Any) -> None:
    every = prompts(tiny.tokenizer)
    together = continue_prompts(tiny.model, tiny.tokenizer, every, [], max_new_tokens=12)
    alone = [continue_prompts(tiny.model, tiny.tokenizer, [ids], [], max_new_tokens=12)[0] for ids in every]
    assert together == alone
    assert len({answer.text for answer in alone}) > 1


def test_it_stops_at_a_stop_token_and_counts_it(tiny: Any) -> None:
    ids = prompts(tiny.tokenizer)[0]
    tokens = by_hand(tiny.model.eval(), ids, 6)[len(ids):]
    stop = tokens[3]
    first = tokens.index(stop)
    answer = continue_prompts(tiny.model, tiny.tokenizer, [ids], [stop], max_new_tokens=20)[0]
    assert (answer.tokens, answer.stopped) == (first + 1, True)
    assert answer.text == tiny.tokenizer.decode(tokens[:first], skip_special_tokens=True)


def test_a_short_answer_in_a_batch_ends_at_its_stop_token(tiny: Any) -> None:
    every = prompts(tiny.tokenizer)
    stop = by_hand(tiny.model.eval(), every[0], 2)[-1]
    together = continue_prompts(tiny.model, tiny.tokenizer, every, [stop], max_new_tokens=10)
    assert together == [
        continue_prompts(tiny.model, tiny.tokenizer, [ids], [stop], max_new_tokens=10)[0] for ids in every
    ]


def test_draws_follow_the_seed_and_temperature(tiny: Any) -> None:
    template, messages = load_template(None, tiny.tokenizer), [Message("user", "What is a warmup?")]

    def draw(**how: Any) -> str:
        return generate(tiny.model, tiny.tokenizer, template, messages, max_new_tokens=16, **how).text

    assert draw(temperature=1.0, seed=1) == draw(temperature=1.0, seed=1)
    assert draw(temperature=1.0, seed=1) != draw(temperature=1.0, seed=2)
    assert draw(temperature=1.0) != draw(temperature=1.0)
    assert draw(temperature=1.0, top_p=1e-6, seed=3) == draw()


def test_the_models_own_generation_config_is_ignored(tiny: Any) -> None:
    ids = prompts(tiny.tokenizer)[:1]
    before = continue_prompts(tiny.model, tiny.tokenizer, ids, [], max_new_tokens=8)
    own = tiny.model.generation_config
    own.do_sample, own.temperature, own.top_k, own.repetition_penalty, own.max_length = True, 0.1, 3, 5.0, 4
    try:
        assert continue_prompts(tiny.model, tiny.tokenizer, ids, [], max_new_tokens=8) == before
    finally:
        own.do_sample, own.temperature, own.top_k, own.repetition_penalty, own.max_length = False, None, None, None, 20


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_training_is_untouched(tiny: Any, temperature: float) -> None:
    model = tiny.model.train()
    frozen = model.model.layers[0].eval()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    weights = [p.clone() for p in model.parameters()]
    continue_prompts(model, tiny.tokenizer, prompts(tiny.tokenizer), [], max_new_tokens=4, temperature=temperature)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()
    assert model.training
    assert model.model.layers[1].training
    assert not frozen.training
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert model.config.use_cache is False
    assert all(p.requires_grad for p in model.parameters())


def test_a_backward_pass_follows_answers_given_inside_inference_mode(tiny: Any) -> None:
    ids, kept = prompts(tiny.tokenizer)[:1], []
    hook = tiny.model.model.rotary_emb.register_forward_hook(lambda m, i, out: kept.extend(out))
    with torch.inference_mode():
        continue_prompts(tiny.model, tiny.tokenizer, ids, [], max_new_tokens=4)
    hook.remove()
    # What a model keeps of it must be fit for training.
    assert kept
    assert not any(tensor.is_inference() for tensor in kept)
    tiny.model.train()
    batch = torch.tensor(ids)
    tiny.model(input_ids=batch, labels=batch).loss.backward()
    assert all(p.grad is not None for p in tiny.model.parameters())
    tiny.model.zero_grad()


def test_the_context_is_the_compute_type(tiny: Any) -> None:
    seen: list[torch.dtype] = []
    hook = tiny.model.model.layers[0].mlp.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    template, messages = load_template(None, tiny.tokenizer), [Message("user", "Rank?")]
    context = torch.autocast("cpu", torch.bfloat16)
    generate(tiny.model, tiny.tokenizer, template, messages, max_new_tokens=2, context=context)
    hook.remove()
    assert set(seen) == {torch.bfloat16}


def learned(positions: int = 24) -> Any:
    """A model with learned positions, which dies of an index beyond them."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = GPT2Config(
        vocab_size=300, n_positions=positions, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1
    )
    return GPT2LMHeadModel(shape).eval()


def test_an_answer_ends_at_the_models_longest_input(tiny: Any) -> None:
    model = learned()
    short, long, full = list(range(5, 10)), list(range(5, 25)), list(range(5, 29))
    answers = continue_prompts(model, tiny.tokenizer, [short, long, full], [], max_new_tokens=16, length=24)
    assert [answer.tokens for answer in answers] == [16, 4, 0]
    assert answers[0] == continue_prompts(model, tiny.tokenizer, [short], [], max_new_tokens=16)[0]
    assert not any(answer.stopped for answer in answers)


def test_padding_beyond_the_embedding_is_not_used(tiny: Any) -> None:
    model, tokenizer = learned(), copy.deepcopy(tiny.tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<far>"})
    assert tokenizer.pad_token_id >= 300
    assert [a.tokens for a in continue_prompts(model, tokenizer, [[5, 6, 7], [8]], [], max_new_tokens=2)] == [2, 2]


def test_a_prompt_with_a_token_without_a_row_is_refused(tiny: Any) -> None:
    with pytest.raises(
        ModelError, match=r"The token '.*' is number 301, and the model's embedding has 300 rows\. Give it a row"
    ):
        continue_prompts(learned(), tiny.tokenizer, [[5, 301]], [], max_new_tokens=2)


FOREIGN = [
    {"penalty_alpha": 0.6, "top_k": 4},
    {"dola_layers": "low"},
    {"constraints": [1]},
    {"stop_strings": ["a"]},
    {"token_healing": True},
    {"return_dict_in_generate": True},
    {"bad_words_ids": []},
    {"suppress_tokens": list(range(200))},
    {"min_p": 0.99},
    {"guidance_scale": 3.0},
    {"min_new_tokens": 10**9},
    {"sequence_bias": [[[5], 1e4]]},
    {"forced_eos_token_id": 7},
    {"num_return_sequences": 3},
]


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft reads it
@pytest.mark.parametrize("fields", FOREIGN)
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "peft"])
def test_a_models_own_generation_config_does_not_steer_the_answers(
    tiny: Any, fields: dict[str, Any], wrapped: bool
) -> None:
    model = get_peft_model(copy.deepcopy(tiny.model), LoraConfig(r=2, task_type="CAUSAL_LM")) if wrapped else tiny.model
    how: dict[str, Any] = {"max_new_tokens": 6, "temperature": 1.0, "seed": 3}
    expected = continue_prompts(tiny.model, tiny.tokenizer, prompts(tiny.tokenizer), [], **how)
    owner, before = (model.base_model.model if wrapped else model), tiny.model.generation_config
    config = owner.generation_config = copy.deepcopy(before)
    for name, value in fields.items():
        setattr(config, name, value)
    try:
        assert continue_prompts(model, tiny.tokenizer, prompts(tiny.tokenizer), [], **how) == expected
        assert owner.generation_config is config
    finally:
        tiny.model.generation_config = before
