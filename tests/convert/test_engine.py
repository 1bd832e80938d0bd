"""Conversion by handlers, and by the table of foreign names."""

from __future__ import annotations

from typing import Any

import pytest

from fulgurite.convert.conversion import Verdict, take
from fulgurite.convert.engine import SourceTrainer, convert_by_name, convert_tree

HUGGING = SourceTrainer(
    "x", ("Hugging Face",), {"own": lambda settings, value: take(f"seed={settings.get('base') + value}")},
    {"base": 40, "learning_rate": 5e-5, "max_grad_norm": 1.0}, {"learning_rate": ("own",)}, ("base",), ("inner",),
)


def _words(tree: dict[str, Any], **options: Any) -> list[str]:
    return convert_tree(HUGGING, tree, **options).words


def test_a_handler_sees_the_other_settings_and_defaults() -> None:
    assert _words({"own": 2}) == ["seed=42", "trainer.max_grad_norm=1"]
    assert _words({"own": 2, "base": 1}) == ["seed=3", "trainer.max_grad_norm=1"]


def test_defaults_count_unless_another_key_replaces_them_or_they_are_not_wanted() -> None:
    assert "optim.lr=5e-05" in _words({})
    assert "optim.lr=5e-05" not in _words({"own": 1})
    assert _words({"own": 2}, defaults=False) == ["seed=42"]


def test_settings_of_an_object_have_its_name_before_them() -> None:
    found = convert_tree(HUGGING, {"inner": {"learning_rate": 1e-3}})
    assert [line.key for line in found.select(Verdict.taken)] == ["inner.learning_rate"]


@pytest.mark.parametrize(("key", "value", "verdict", "words"), [
    ("learning_rate", 1e-4, Verdict.taken, ("optim.lr=0.0001",)),
    ("lr_scheduler_type", "cosine", Verdict.taken, ("scheduler=cosine",)),
    ("bf16", True, Verdict.taken, ("precision=bf16",)),
    ("bf16", False, Verdict.unneeded, ()),
    ("learning_rate", None, Verdict.unneeded, ()),
    ("remove_unused_columns", True, Verdict.unneeded, ()),
    ("adam_beta1", 0.9, Verdict.refused, ()),  # both betas are one list: a handler makes it
    ("push_to_hub", True, Verdict.refused, ()),
    ("no_such_name", 1, Verdict.refused, ()),
    ("no_such_name", None, Verdict.unneeded, ()),
])
def test_a_name_of_the_table_is_taken_unneeded_or_refused(
    key: str, value: Any, verdict: Verdict, words: tuple[str, ...]
) -> None:
    found, given, reason = convert_by_name(HUGGING, key, value)
    assert (found, given) == (verdict, words)
    assert given or reason
