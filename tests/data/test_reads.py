"""What a stage reads: the formats it takes, the margin, and what it refuses."""

from __future__ import annotations

import pytest
from tests.data.made_records import Write
from tests.data.preference_records import PAIR, A, Q

from fulgurite.data.build import build_source
from fulgurite.data.config import File
from fulgurite.data.reads import CHAT, reads_of
from fulgurite.errors import DataError


def test_only_a_reward_model_reads_the_margin(write: Write) -> None:
    path = str(write("a.jsonl", [{**PAIR, "margin": 2}]))
    for stage, unread in (("rm", {}), ("dpo", {"margin": 1})):
        source = build_source(File(path=[path]), stage=stage, seed=1)
        assert source.check().unread == unread
        assert next(iter(source.examples())).margin == 2.0  # type: ignore[union-attr]


FITS = {
    "pairs in sft": ("sft", PAIR,
        ":1: field 'rejected': found a chosen/rejected pair, expected one answer to learn; use"),
    "talks in dpo": ("dpo", {"messages": [Q, A]},
        " contains conversations (openai), but stage=dpo expects pairs of answers; use"),
    "judged under another name": (
        "kto", {"messages": [Q, A], "kto_tag": True},
        " contains conversations (openai), but stage=kto expects answers with a label; if the records have them under "
        "another name, set data.columns={label: kto_tag}, otherwise use stage=sft.",
    ),
    "judged in rm": ("rm", {"messages": [Q, A], "label": True},
        " contains answers with a label (kto), but stage=rm expects pairs of"),
    "talks in kto": ("kto", {"messages": [Q, A]},
        " contains conversations (openai), but stage=kto expects answers with a label; use"),
    "text in dpo": ("dpo", {"text": "a"},
        " contains running text, but stage=dpo expects pairs of answers; use stage=pt."),
}


@pytest.mark.parametrize("what", FITS)
def test_the_stage_and_the_data_must_fit(what: str, write: Write) -> None:
    stage, record, said = FITS[what]
    path = write("a.jsonl", [record])
    with pytest.raises(DataError) as caught:
        build_source(File(path=[str(path)]), stage=stage, seed=1)
    assert str(caught.value).startswith(f"{path}{said}")


@pytest.mark.parametrize(("stage", "formats", "compares"), [
    ("sft", {"alpaca", "sharegpt", "openai"}, False), ("dpo", {"preference"}, True), ("rm", {"preference"}, True),
    ("kto", {"kto", "preference"}, True), ("grpo", {"alpaca", "sharegpt", "openai", "prompts"}, False),
    ("pt", {"text"}, False),
    ("a stage without a declaration", {"alpaca", "sharegpt", "openai"}, False),
])
def test_the_formats_that_a_stage_reads(stage: str, formats: set[str], compares: bool) -> None:
    reads = reads_of(stage)
    assert {str(format) for format in reads.formats} == formats
    assert reads.compares is compares
    assert reads.assumed in reads.formats | CHAT
