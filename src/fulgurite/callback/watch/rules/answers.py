"""What the model says: without an end, over and over, or as before."""

from __future__ import annotations

import re
from typing import Any

from fulgurite.callback.watch import limits
from fulgurite.callback.watch.chance import wilson
from fulgurite.callback.watch.rules import Finding, Moment, rule
from fulgurite.callback.watch.seen import Seen

PIECES = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]|\w+|[^\w\s]")
"""A word, a mark, or a sign of a writing without spaces."""


@rule("samples-endless", Moment.samples)
def samples_endless(seen: Seen) -> Finding | None:
    """In the second half of the run, where the answers trained on would fit into the limit."""
    about, rows = seen.about, _newest(seen)
    fits = about.answer_tokens is not None and about.answer_tokens <= about.max_new_tokens
    if about.stage == "pt" or not fits or len(rows) < limits.PROMPTS or 2 * rows[0]["step"] < about.total:
        return None
    endless = sum(not row["stopped"] for row in rows)
    if wilson(endless / len(rows), len(rows))[0] <= limits.ENDLESS:
        return None
    return Finding(
        f"{endless} of {len(rows)} sample answers do not end within stage.max_new_tokens={about.max_new_tokens}, though nine of ten "
        f"trained ones have at most {about.answer_tokens} tokens.",
        "See first whether the end token is in the labels (the tokenizer's own chat format has it); then train longer, or raise optim.lr.",
        {"endless": endless, "samples": len(rows), "answer_tokens": about.answer_tokens or 0},
    )


@rule("samples-repeat", Moment.samples)
def samples_repeat(seen: Seen) -> Finding | None:
    """Not more than before training: a small model repeats itself when it decodes greedily."""
    rows = _newest(seen)
    if seen.about.stage == "pt" or len(rows) < limits.PROMPTS or rows[0]["step"] == 0:
        return None
    before = _repeating(_of(seen, 0))
    now = _repeating(rows)
    if wilson(now / len(rows), len(rows))[0] <= limits.ENDLESS or now <= before:
        return None
    return Finding(
        f"{now} of {len(rows)} sample answers repeat themselves (more than {limits.REPEATED:.0%} of their 4-grams stood there before); "
        f"{before} did before training.",
        "Lower optim.lr or take fewer trainer.epochs; look for rows that repeat themselves.",
        {"repeating": now, "before": before, "samples": len(rows)},
    )


@rule("before-after", Moment.end)
def before_after(seen: Seen) -> Finding | None:
    """The same prompts, greedy, at step 0 and now."""
    old, new = {row["prompt"]: row["answer"] for row in _of(seen, 0)}, _newest(seen)
    pairs = [(old[row["prompt"]], row["answer"]) for row in new if row["step"] > 0 and row["prompt"] in old]
    same = sum(a == b for a, b in pairs)
    if len(pairs) < limits.PROMPTS or same <= limits.SAME * len(pairs):
        return None
    return Finding(
        f"The model answers as before on {same} of {len(pairs)} prompts: the rate (optim.lr={seen.about.lr:g}) is too low, the run of "
        f"{seen.about.total} steps too short, or the prompts are unlike the data.",
        "Leave optim.lr empty for the usual rate; more trainer.epochs or a smaller trainer.batch_size give more steps.",
        {"same": same, "prompts": len(pairs), "lr": seen.about.lr, "steps": seen.about.total},
    )


def repetition(text: str) -> float:
    """The share of a text's 4-grams that stood in it before; 0 for a text too short to say."""
    pieces = PIECES.findall(text)
    grams = [tuple(pieces[i : i + 4]) for i in range(len(pieces) - 3)]
    return 1 - len(set(grams)) / len(grams) if len(grams) >= limits.GRAMS else 0.0


def _repeating(rows: list[dict[str, Any]]) -> int:
    return sum(repetition(str(row["answer"])) > limits.REPEATED for row in rows)


def _of(seen: Seen, step: int) -> list[dict[str, Any]]:
    return [dict(row) for row in seen.samples if row["step"] == step]


def _newest(seen: Seen) -> list[dict[str, Any]]:
    return _of(seen, max((row["step"] for row in seen.samples), default=0))
