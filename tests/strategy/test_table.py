"""Cells of docs/strategies.md: several processes are one, also if resumed and exported; or the run is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.strategy.table import OUT, STRATEGIES, Row, compare, format_page, list_cells

SHOWN = {("pt", "full", "ddp"), ("kto", "lora", "ddp"), ("rm", "qlora", "ddp")}
"""Cells of `make test`. Its other tests have further ones: sft, dpo, ppo and grpo under ddp, and those of fsdp."""


def list_marked() -> list[Any]:
    """The cells as parameters."""
    return [
        pytest.param(*cell, id="-".join(cell), marks=() if cell in SHOWN else pytest.mark.matrix)
        for cell in list_cells()
    ]


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
@pytest.mark.parametrize(("stage", "method", "strategy"), list_marked())
def test_several_processes_are_one(stage: str, method: str, strategy: str, tmp_path: Path) -> None:
    row = compare(tmp_path, stage, method, strategy)
    assert row.right, row


def test_a_difference_is_seen() -> None:
    """A row is right only if all of it is, or if the run is refused with a reason."""
    right = Row("sft", "full", "ddp", 1e-6, True, True)
    assert right.right
    wrong = [Row("sft", "full", "ddp", 2e-5, True, True), Row("sft", "full", "ddp", 1e-6, False, True),
             Row("sft", "full", "ddp", 1e-6, True), Row("sft", "full", "ddp"), Row("sft", "full", "ddp", failure="x")]
    assert not any(row.right for row in wrong)
    text = format_page([right, *wrong[-1:]])
    assert "| sft | full | `strategy=ddp` | 2 | **fails** |" in text
    assert "| dpo | lora | `strategy=ddp` | 2 | not run |" in text


def test_the_page_has_every_cell() -> None:
    found = re.findall(r"^\| (\w+) \| (\w+) \| `(.*?)` \| (\d) \|", OUT.read_text(encoding="utf-8"), re.M)
    expected = [(stage, method, STRATEGIES[name][0], str(STRATEGIES[name][1])) for stage, method, name in list_cells()]
    assert found == expected
