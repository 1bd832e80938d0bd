"""A trained reward model as a reward: which tokens of an answer are read, and in which order the rewards come."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fulgurite.data.example import Message
from fulgurite.errors import ModelError
from fulgurite.run import reward_model
from fulgurite.run.reward_model import AT_A_TIME, load_reward_model
from fulgurite.stage.reward_functions import Answered

END = 9


class Template:
    """Three tokens of prompt, a token for each letter of the answer, the end of turn, and a newline behind it."""

    stop_ids = (END,)

    def answer(self, text: str) -> Message:
        return Message("assistant", text)

    def encode_chat(self, messages: Any, mask: str) -> tuple[list[int], list[bool]]:
        assert mask == "last"
        answer = [ord(letter) for letter in messages[-1].content]
        return [1, 2, 3, *answer, END, 10], [False] * 3 + [True] * (len(answer) + 1) + [False]


def load_stub(monkeypatch: pytest.MonkeyPatch, gives_rewards: bool = True) -> list[list[list[int]]]:
    """Lets load_run return a stub whose reward is the sum of the tokens; returns the batches that it sees."""
    seen: list[list[list[int]]] = []

    def rewards(model: Any, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        seen.append([row[:length].tolist() for row, length in zip(ids, lengths.tolist(), strict=True)])
        return torch.tensor([float(sum(row)) for row in seen[-1]])

    stage = SimpleNamespace(gives_rewards=gives_rewards, name="sft")
    loaded = SimpleNamespace(
        run=SimpleNamespace(stage=stage), model=torch.nn.Linear(1, 1), template=Template(),
        dtypes=SimpleNamespace(autocast=lambda kind: torch.autocast(kind, enabled=False)),
    )
    monkeypatch.setattr(reward_model, "load_run", lambda folder: loaded)
    monkeypatch.setattr(reward_model, "compute_rewards", rewards)
    return seen


def answered(answers: list[str], stopped: list[bool]) -> Answered:
    count = len(answers)
    turns = [[{"role": "user", "content": "q"}]] * count
    return Answered(["q"] * count, answers, [1] * count, stopped, ["p:1"] * count, {"messages": turns})


def test_an_answer_is_read_to_its_end_and_a_cut_one_to_its_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = load_stub(monkeypatch)
    found = load_reward_model(Path("run"))(answered(["ab", "ab", ""], [True, False, False]))
    assert seen == [[[1, 2, 3, 97, 98, END], [1, 2, 3, 97, 98], [1, 2, 3]]]
    assert found == [6 + 97 + 98 + END, 6 + 97 + 98, 6]


def test_many_answers_are_read_in_parts_and_their_rewards_keep_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = load_stub(monkeypatch)
    answers = ["a" * n for n in range(1, 2 * AT_A_TIME + 2)]
    found = load_reward_model(Path("run"))(answered(answers, [True] * len(answers)))
    assert [len(batch) for batch in seen] == [AT_A_TIME, AT_A_TIME, 1]
    assert found == [6 + 97 * n + END for n in range(1, len(answers) + 1)]


def test_a_run_without_rewards_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    load_stub(monkeypatch, gives_rewards=False)
    with pytest.raises(
        ModelError, match=r"stage\.reward=run is a run of stage=sft, which gives no rewards; give a run of stage=rm"
    ):
        load_reward_model(Path("run"))
