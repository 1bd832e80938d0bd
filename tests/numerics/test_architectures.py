"""The scan of `make architectures` on a few architectures: the recorded loss is transformers' own, or training is
refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.architectures import EQUAL, WAYS, Row, configs, scan, table  # noqa: E402

KNOWN = dict(configs())


@pytest.mark.parametrize(("name", "refused"), [
    ("LlamaForCausalLM", ()), ("Gemma2ForCausalLM", ()), ("NanoChatForCausalLM", ()), ("Qwen3MoeForCausalLM", ()),
    ("Llama4ForCausalLM", ()),
    ("RecurrentGemmaForCausalLM", ("packed",)), ("Lfm2ForCausalLM", ("packed",)), ("MarianForCausalLM", ("packed",)),
    ("FalconForCausalLM", ("packed",)), ("XLNetLMHeadModel", WAYS),
])
def test_the_recorded_loss_is_transformers_own(name: str, refused: tuple[str, ...]) -> None:
    row = scan(name, KNOWN[name])
    assert {way for way, value in row.found.items() if value == "refused"} == set(refused)
    assert all(isinstance(row.found[way], float) and row.found[way] <= EQUAL for way in WAYS if way not in refused)  # type: ignore[operator]
    assert row.equal


def test_a_row_that_differs_is_seen() -> None:
    row = Row("X", {"full": 1e-3, "lora": 0.0, "packed": "refused"}, "a|b")
    assert not row.equal
    assert "| X | 1e-03 | 0 | refused |  | a/b |" in table([row])
    assert "| X | 1e-03 | 0 | refused | yes | a/b |" in table([replace(row, documents=True)])


def test_the_table_that_is_kept_has_no_architecture_that_differs() -> None:
    lines = [
        line.split(" | ")
        for line in (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8").splitlines() if "For" in line
    ]
    numbers = [float(cell) for line in lines for cell in line[1:4] if "e-" in cell]
    assert len(numbers) > 300
    assert max(numbers) <= EQUAL
