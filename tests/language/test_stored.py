"""Sentences of files in the language in use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fulgurite.errors import TrainingFailed
from fulgurite.language.catalogue import load_messages
from fulgurite.language.current import use_language
from fulgurite.language.message import message
from fulgurite.language.stored import describe_reason, translate_stored
from fulgurite.run.status import track_status

KNOWN = message("The validation loss is {loss} at step {step}: the weights or the evaluation overflow.{best}",
                loss="nan", step=7, best="")


@pytest.mark.parametrize("stored", [
    None, 7, {}, {"key": 3, "facts": {}}, {"key": "Lower optim.lr.", "facts": None}, {"key": "Not ours.", "facts": {}},
    {"key": "{x.__class__}", "facts": {"x": 1}}, {"key": "{x[0]}", "facts": {"x": "secret"}},
    {"key": KNOWN.template, "facts": {}}, {"key": KNOWN.template, "facts": {"loss": 1, "step": 1}},
    {"key": KNOWN.template, "facts": dict(KNOWN.facts) | {"best": {"key": "{a.b}", "facts": {}}}},
])
def test_what_is_not_ours_stays_english(stored: Any) -> None:
    with use_language("zh"):
        assert translate_stored(stored, "English.") == "English."


def test_no_template_of_ours_reads_attributes() -> None:
    """A file of a run cannot bring its own template, and ours only read their facts."""
    for template in load_messages("zh"):
        assert "__" not in template or "{" not in template.split("__")[0][-2:]


def test_reason_of_a_failure_is_the_paragraph_in_both_languages(tmp_path: Path) -> None:
    error = TrainingFailed("{name} is not a file.", name="x.jsonl")
    with pytest.raises(TrainingFailed), track_status(tmp_path):
        raise error
    status = json.loads((tmp_path / "status.json").read_text())
    assert describe_reason(status) == "x.jsonl is not a file."
    with use_language("zh"):
        assert describe_reason(status) == str(error) != "x.jsonl is not a file."
    assert describe_reason({"why": "KeyboardInterrupt"}) == "KeyboardInterrupt"
    assert describe_reason({"why": 7}) == ""
