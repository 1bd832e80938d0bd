"""What a run prints: each value that nobody gave, once, and from what it was derived."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.end_to_end.runs import tiny

from fulgurite.config.compose import compose
from fulgurite.language.current import use_language
from fulgurite.text.layout import count_cells
from fulgurite.train.messages import describe_precision, format_decisive, format_derived, shorten_reason


def test_a_run_prints_each_derived_value_once_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FULGURITE_VERBOSE", "1")
    folder = tiny(tmp_path, "precision=auto", "optim.lr=1e-3")
    lines = capsys.readouterr().err.splitlines()
    knobs = json.loads((folder / "provenance.json").read_text())["knobs"]
    derived = {name for name, known in knobs.items() if known["origin"] == "derived" and known["value"] is not None}
    # in the line of the steps, in the folder's status, and only printed if there are several processes
    told_elsewhere = {"precision", "name", "trainer.devices", "trainer.num_nodes"}
    assert told_elsewhere < derived
    assert "optim.lr" not in derived
    for name in derived - told_elsewhere:
        assert sum(line.startswith(f"  {name} = ") and line.endswith(knobs[name]["reason"]) for line in lines) == 1, (
            name
        )
    assert {"method.alpha", "trainer.epochs", "trainer.micro_batch_size", "scheduler.warmup_steps",
        "data.max_length"} <= derived


def test_run_prints_at_most_eight_lines_before_its_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny(tmp_path, "optim.lr=1e-3")
    lines = capsys.readouterr().err.splitlines()
    opening = lines[: next(n for n, line in enumerate(lines) if line.startswith("step 1/"))]
    opening = [line for line in opening if not line.startswith("warning")]
    assert 5 <= len(opening) <= 8
    parts = ("parameters train", "for validation", "of memory", "  optim.lr = 0.001: ", "  trainer.glob", "run folder")
    for part in parts:
        assert sum(part in line for line in opening) == 1, part


def test_derived_lines_give_the_value_and_the_reason_of_what_nobody_gave() -> None:
    composed = compose(["optim.weight_decay=0.1", "stage=dpo", "logger=none"])
    lines = format_derived(composed.provenance, 1)
    assert "  stage.beta = 0.1: sigmoid: DPO 0.1, Zephyr 0.01, SmolLM2 0.5 (verified)" in lines
    assert any(line.startswith("  optim.lr = 0.0003: ") for line in lines)
    names = [line.split(" = ")[0].strip() for line in lines]
    assert len(names) == len(set(names))
    assert "optim.weight_decay" not in names  # given
    assert not {"name", "run_dir", "precision", "trainer.devices", "trainer.num_nodes"} & set(names)


def test_devices_are_printed_only_for_several_processes() -> None:
    composed = compose(["strategy=ddp", "trainer.accelerator=cpu", "logger=none"])
    lines = format_derived(composed.provenance, composed.run.world_size)
    assert [line for line in lines if line.startswith("  trainer.devices = 2: two processes")] != []


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("words", [[], ["stage=dpo"], ["method=full"], ["precision=fp32"]])
def test_reasons_of_the_opening_fit_on_one_line_of_80_columns(language: str, words: list[str]) -> None:
    composed = compose([*words, "logger=none"])
    with use_language(language):
        lines = format_decisive(composed.provenance)
        reason = "a reason of the compute type that goes on and on. " * 3 + "它可以是中文的理由，" * 8
        option = composed.run.precision.name
        lines += [str(describe_precision(reason, option, "2 × cuda", peak)) for peak in (None, 7e9)]
        assert len(lines) > 2
        assert max(map(count_cells, lines)) <= 80


def test_a_reason_is_cut_between_words() -> None:
    assert shorten_reason("1024 tokens, at most", 20) == "1024 tokens, at most"
    assert shorten_reason("1024 tokens, at most", 17) == "1024 tokens …"
    assert shorten_reason("每条 1024 个 token，适合这台机器", 20) == "每条 1024 个 …"
