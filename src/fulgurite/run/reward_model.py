"""Loads the reward model that `stage.reward=<run folder>` names, as a reward function.

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
"""Answers that are scored in one forward pass."""


def load_reward_model(folder: Path, device: torch.device | None = None) -> Callable[[Answered], list[float]]:
    """Returns a function that scores answers with the compute type, tokenizer and template of the rm run, at the end of
    each answer.

    A truncated answer is scored at its last token: the model did not write the end that the template adds. Raises
    ModelError if the run is not a reward model, CheckpointError if it is damaged.
    """
    loaded = load_run(folder)
    if not loaded.run.stage.gives_rewards:
        raise ModelError(
            "stage.reward={path} is a run of stage={stage}, which gives no rewards; give a run of stage=rm.",
            path=folder, stage=loaded.run.stage.name,
        )
    model = loaded.model.eval().requires_grad_(False)
    where = device or next(model.parameters()).device
    model.to(where)

    def tokens(turns: list[dict[str, Any]], tools: Sequence[Any], answer: str, stopped: bool) -> list[int]:
        whole = Conversation((*from_dicts(turns), loaded.template.answer(answer)), tuple(tools))
        ids, learn = loaded.template.encode_chat(whole, Mask.last)
        # as in training, tokens behind the end of the answer are not read
        begin, end = learn.index(True), len(ids) - learn[::-1].index(True)
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
