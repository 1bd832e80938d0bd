"""Where the shipped data set lies, and the five questions that a first run asks before and after training."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
WRITTEN = HERE / "written.jsonl"
"""The hand-written part, the one to edit: {"subject", "turns": [question, answer, ...], "held_out": true or absent}."""
TRAIN = HERE / "train.jsonl"
"""Generated: what `data=guide` trains on, one {"messages": [...]} a line."""
HELD_OUT = HERE / "heldout.jsonl"
"""Generated: questions on taught subjects in wordings that are not in TRAIN, with their answers."""
QUESTIONS = HERE / "questions.jsonl"
"""Generated: the five below, as {"messages": [question]}."""
PROMPTS = HERE / "prompts.jsonl"
"""Generated: what `data=guide_prompts` asks in training, one {"prompt", "answer", "kind"} a line."""
PROMPTS_HELD_OUT = HERE / "prompts_heldout.jsonl"
"""Generated: the same kinds of question with other numbers."""
FORM = HERE / "form.jsonl"
"""Generated: what `data=guide_form` compares, one {"prompt", "chosen", "rejected"} a line."""
FORM_HELD_OUT = HERE / "form_heldout.jsonl"
"""Generated: pairs for the held-out prompts."""

ASKED = (
    "What learning rate should I use for LoRA?",
    "How do I choose the LoRA rank?",
    "My model never stops generating. What is wrong?",
    "What does warmup do?",
    "Is DPO differential privacy?",
)
"""Of the held-out part: untrained, the 135M model answers them vaguely or wrongly, so that anybody sees the change."""
