"""A trained reward model as a reward: what `stage.reward=<run folder>` stands for.

Shapes: S answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from fulgurite.data.config import Mask
from fulgurite.data.example import Conversation, from_dicts
from fulgurite.errors import ModelError
from fulgurite.model.reward_head import compute_rewards
from fulgurite.run.load import load_run
from fulgurite.stage.reward_functions import Answered

AT_A_TIME = 16
"""Answers that are judged in one pass."""


def load_reward_model(folder: Path, device: torch.device | None = None) -> Callable[[Answered], list[float]]:
    """The reward of each answer, in the rm run's own compute type, tokenizer and template, read where the answer ends.

    An answer that was cut is read at its last token: the end that the template writes behind it was never said.
    Raises ModelError where the run is no reward model, CheckpointError where it is not whole.
    """
    loaded = load_run(folder)
    if not loaded.run.stage.gives_rewards:
        raise ModelError(
            f"stage.reward={folder} is of stage={loaded.run.stage.name}, which gives no rewards; train "
            "one with stage=rm."
        )
    model = loaded.model.eval().requires_grad_(False)
    where = device or next(model.parameters()).device
    model.to(where)

    def tokens(turns: list[dict[str, Any]], tools: Sequence[Any], answer: str, stopped: bool) -> list[int]:
        whole = Conversation((*from_dicts(turns), loaded.template.answer(answer)), tuple(tools))
        ids, learn = loaded.template.encode_chat(whole, Mask.last)
        begin, end = (
            learn.index(True),
            len(ids) - learn[::-1].index(True),
        )  # as in training: what follows the end is not read
        if not stopped:
            end = next((i for i in range(begin, end) if ids[i] in loaded.template.stop_ids), end)
        return ids[: max(end, begin)]

    @torch.no_grad()
    def score(answered: Answered) -> list[float]:
        turns = answered.columns["messages"]
        tools = answered.columns.get("tools", [()] * len(turns))
        every = [tokens(*one) for one in zip(turns, tools, answered.answers, answered.stopped, strict=True)]
        found: list[float] = []
        for start in range(0, len(every), AT_A_TIME):
            part = every[start : start + AT_A_TIME]
            lengths_S = torch.tensor([len(ids) for ids in part], device=where)
            ids_ST = torch.tensor([ids + [0] * (int(lengths_S.max()) - len(ids)) for ids in part], device=where)
            with loaded.dtypes.autocast(where.type):
                found += compute_rewards(model, ids_ST, lengths_S).tolist()
        return found

    return score
