"""Answers in batches are those of one at a time, and scores follow from them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from fulgurite.data.example import Conversation, Message
from fulgurite.data.template import load_template
from fulgurite.errors import ConfigError, RequestError
from fulgurite.evaluate.generation import Answerer, Decoding, build_answered, load_rewards, score_answers
from fulgurite.evaluate.metrics import find_metrics
from fulgurite.evaluate.questions import HeldOutQuestion
from fulgurite.model.config import Tiny
from fulgurite.model.generate import Answer, generate
from fulgurite.model.tiny import build


@pytest.fixture(scope="module")
def answerer() -> Answerer:
    tiny = build(Tiny(hidden=32, layers=1), torch.float32)
    return Answerer(tiny.model, tiny.tokenizer, load_template(None, tiny.tokenizer), 400, nullcontext)


def ask(*texts: str) -> list[HeldOutQuestion]:
    return [
        HeldOutQuestion(f"f:{n}", Conversation((Message("user", text),)), None, "a", {"answer": "a"})
        for n, text in enumerate(texts)
    ]


def test_batched_answers_are_those_of_generate_in_the_given_order(answerer: Answerer) -> None:
    questions = ask("What is a warmup, and why?", "Hi", "What is the rank?", "Why?", "How many epochs are enough here?")
    expected = [
        generate(answerer.model, answerer.tokenizer, answerer.template, q.messages, max_new_tokens=6) for q in questions
    ]
    for size in (1, 2, 5):
        assert answerer.answer(questions, Decoding(6, batch_size=size)) == expected


def test_a_seed_repeats_drawn_answers(answerer: Answerer) -> None:
    questions = ask("What is a warmup?", "Hi", "Why?")
    first, again, other = (
        answerer.answer(questions, Decoding(8, temperature=1.0, batch_size=2, seed=seed)) for seed in (3, 3, 4)
    )
    assert first == again != other


def test_a_question_without_room_has_an_empty_answer_that_is_cut(answerer: Answerer) -> None:
    short = Answerer(answerer.model, answerer.tokenizer, answerer.template, 12, nullcontext)
    (answer,) = short.answer(ask("What is a warmup, and what is a schedule good for?"), Decoding(6))
    assert answer == Answer("", 0, False)


def test_numbers_of_answers_by_hand() -> None:
    answers = [Answer("a", 2, True), Answer("b", 6, False)]
    scored = score_answers(ask("q", "r"), answers, find_metrics(["exact_match"]), load_rewards(
        ["match:answer", "length:2"], torch.device("cpu")))
    assert scored.numbers == {
        "exact_match": 0.5, "reward/match:answer": 0.5, "reward/length:2": 0.5, "answer_length": 4.0, "cut": 0.5,
    }
    assert scored.each[1] == {"exact_match": 0.0, "reward/match:answer": 0.0, "reward/length:2": 0.0}


def test_a_rule_over_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="the data have no column solution"):
        score_answers(ask("q"), [Answer("a", 1, True)], [], load_rewards(["match:solution"], torch.device("cpu")))


def test_a_reward_that_fails_in_an_evaluation_names_no_checkpoint(tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    code.write_text("def score(prompts, answers, **columns):\n    raise KeyError('price')\n")
    rewards = load_rewards([f"{code}:score"], torch.device("cpu"))
    with pytest.raises(RequestError, match="failed on 1 answers: KeyError: 'price'; this evaluation is not") as found:
        score_answers(ask("q"), [Answer("a", 1, True)], [], rewards)
    assert "checkpoint" not in str(found.value)


def test_rewards_get_the_conversation_and_its_functions() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    asked = Conversation((Message("system", "s"), Message("user", "u")), (tool,))
    answered = build_answered([HeldOutQuestion("f:1", asked, columns={"x": 1}), *ask("v")], [Answer("a", 1, True)] * 2)
    assert answered.prompts == ["u", "v"]
    assert answered.columns["messages"][0] == [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert answered.columns["tools"] == [[tool], []]
    assert answered.columns["x"] == [1, None]
    assert answered.places == ["f:1", "f:0"]


def test_a_reward_model_is_loaded(rm: Path) -> None:
    rewards = load_rewards([str(rm)], torch.device("cpu"))
    answers = [Answer("a", 1, True), Answer("a longer answer", 4, True)]
    numbers = score_answers(ask("q", "q"), answers, [], rewards).numbers
    (name,) = [name for name in numbers if name.startswith("reward/")]
    assert name == "reward/run"
    assert numbers[name] != 0
