"""The files of the shipped dataset, and the five questions that a first run asks before and after training."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
WRITTEN = HERE / "written.jsonl"
"""The hand-written part, the one to edit: {"subject", "turns": [question, answer, ...], "held_out": true or absent}."""
TRAIN = HERE / "train.jsonl"
"""Generated: the training examples of `data=guide`, one {"messages": [...]} per line."""
HELD_OUT = HERE / "heldout.jsonl"
"""Generated: questions on taught subjects in wordings that are not in TRAIN, with their answers."""
QUESTIONS = HERE / "questions.jsonl"
"""Generated: the five below, as {"messages": [question]}."""
PROMPTS = HERE / "prompts.jsonl"
"""Generated: the training prompts of `data=guide_prompts`, one {"prompt", "answer", "kind"} per line."""
PROMPTS_HELD_OUT = HERE / "prompts_heldout.jsonl"
"""Generated: the same kinds of question with other numbers."""
FORM = HERE / "form.jsonl"
"""Generated: the pairs of `data=guide_form`, one {"prompt", "chosen", "rejected"} per line."""
FORM_HELD_OUT = HERE / "form_heldout.jsonl"
"""Generated: pairs for the held-out prompts."""

ASKED = (
    "What learning rate should I use for LoRA?",
    "How do I choose the LoRA rank?",
    "My model never stops generating. What is wrong?",
    "What does warmup do?",
    "Is DPO differential privacy?",
)
"""Questions of the held-out part. The 135M model answers them vaguely or wrongly before training, so that the change is
easy to see."""
