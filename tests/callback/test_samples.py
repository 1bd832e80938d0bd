"""Samples: the same prompts before, at evaluations and after, kept in a file and shown side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.callback.toy_stage import ToyStage, fit

from fulgurite.callback.samples import Samples, format_prompt, format_side_by_side
from fulgurite.data.example import Conversation, Message
from fulgurite.data.template import load_template
from fulgurite.model.config import Tiny
from fulgurite.model.generate import Answer, continue_prompts
from fulgurite.model.streaming import printable
from fulgurite.model.tiny import build


@pytest.fixture(scope="module")
def tiny() -> Any:
    return build(Tiny(hidden=32, layers=1), torch.float32)


def samples(folder: Path, tiny: Any, total: int, prompts: list[Any], template: Any = None) -> Samples:
    return Samples(
        folder / "samples.jsonl", tiny.model, tiny.tokenizer, template, prompts, max_new_tokens=5, total_steps=total,
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


class Table:
    """A tracker with tables."""

    save_dir = None
    name, version = "table", "0"

    def __init__(self) -> None:
        self.tables: list[tuple[str, int, list[list[str]]]] = []

    def log_text(self, key: str, columns: list[str], data: list[list[str]], step: int) -> None:
        self.tables.append((key, step, data))

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


def test_before_at_each_evaluation_and_after(tmp_path: Path, tiny: Any) -> None:
    tracker, callback = Table(), samples(tmp_path, tiny, 5, ["Rank?", "Warmup is"])
    fit([callback], steps=5, eval_every=2, loggers=[tracker], folder=tmp_path)
    found = rows(tmp_path)
    prompts = ("Rank?", "Warmup is")
    assert [(row["step"], row["prompt"]) for row in found] == [(s, p) for s in (0, 2, 4, 5) for p in prompts]
    assert all(set(row) == {"step", "prompt", "answer", "tokens", "stopped"} for row in found)
    # The toy stage does not train this model: the answers are those of plain greedy continuation, at every step.
    ids = [tiny.tokenizer(text)["input_ids"] for text in prompts]
    expected = continue_prompts(tiny.model, tiny.tokenizer, ids, [tiny.tokenizer.eos_token_id], max_new_tokens=5)
    assert [row["answer"] for row in found] == [a.text for a in expected] * 4
    assert [step for _, step, _ in tracker.tables] == [0, 2, 4, 5]
    assert len(tracker.tables[-1][2]) == 8
    assert "before (step 0)" in callback.comparison()
    assert "after (step 5)" in callback.comparison()


def test_a_last_evaluation_is_the_answer_after(tmp_path: Path, tiny: Any) -> None:
    fit([samples(tmp_path, tiny, 4, ["Rank?"])], steps=4, eval_every=2, folder=tmp_path)
    assert [row["step"] for row in rows(tmp_path)] == [0, 2, 4]


def test_a_run_that_is_stopped_early_draws_no_last_samples(tmp_path: Path, tiny: Any) -> None:
    fit([samples(tmp_path, tiny, 100, ["Rank?"])], steps=3, folder=tmp_path)
    assert [row["step"] for row in rows(tmp_path)] == [0]


def test_no_prompts_no_file(tmp_path: Path, tiny: Any) -> None:
    callback = samples(tmp_path, tiny, 3, [])
    fit([callback], steps=3, eval_every=1, folder=tmp_path)
    assert not (tmp_path / "samples.jsonl").exists()
    assert callback.comparison() == ""


def test_a_chat_prompt_goes_through_the_template(tmp_path: Path, tiny: Any) -> None:
    template = load_template(None, tiny.tokenizer)
    chat = [Message("system", "Be brief."), Message("user", "Rank?")]
    fit([samples(tmp_path, tiny, 1, ["Rank?", chat], template)], steps=1, folder=tmp_path)
    ids = [template.encode_prompt([Message("user", "Rank?")]), template.encode_prompt(chat)]
    expected = continue_prompts(tiny.model, tiny.tokenizer, ids, template.stop_ids, max_new_tokens=5)
    assert [row["answer"] for row in rows(tmp_path)[:2]] == [a.text for a in expected]
    assert rows(tmp_path)[1]["prompt"] == "system: Be brief.\nuser: Rank?"


def test_calls_are_readable(tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    template = load_template("chatml", tiny.tokenizer)
    tool = {"type": "function", "function": {"name": "heat", "description": "x", "parameters": {}}}
    call = {"type": "function", "function": {"name": "heat", "arguments": {"unit": "C"}}}
    earlier = (
        Message("user", "Hot?"), Message("assistant", "", (call,)), Message("tool", "20"), Message("user", "Now?"),
    )
    written = 'Let me look.\n{"name": "heat", "arguments": {"unit": "C", "days": [1]}}'
    answers = [Answer(written, 9, True, f"{written}{tiny.tokenizer.eos_token}"), Answer(written, 9, True, written)]
    monkeypatch.setattr("fulgurite.callback.samples.continue_prompts", lambda *_, **__: answers)
    fit([samples(tmp_path, tiny, 1, [Conversation(earlier, (tool,)), "Hot?"], template)], steps=1, folder=tmp_path)
    assert [row["answer"] for row in rows(tmp_path)[:2]] == ['Let me look.\nheat(unit="C", days=[1])', written]
    assert rows(tmp_path)[0]["prompt"] == 'user: Hot?\nassistant: heat(unit="C")\ntool: 20\nuser: Now?'


def test_training_is_the_same_with_and_without_samples(tmp_path: Path, tiny: Any) -> None:
    class Drops(ToyStage):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            return super().training_step(torch.nn.functional.dropout(batch, 0.5), batch_idx)

    torch.manual_seed(3)
    plain = fit([], steps=4, eval_every=1, stage=Drops(), folder=tmp_path)
    torch.manual_seed(3)
    sampled = fit([samples(tmp_path, tiny, 4, ["Rank?"])], steps=4, eval_every=1, stage=Drops(), folder=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), sampled.parameters(), strict=True))


def test_a_resumed_run_keeps_the_answers_before(tmp_path: Path, tiny: Any) -> None:
    fit([samples(tmp_path, tiny, 4, ["Rank?"])], steps=4, eval_every=2, folder=tmp_path)
    whole = rows(tmp_path)
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in whole))

    class Resumed:
        is_global_zero, global_step = True, 2

    callback = samples(tmp_path, tiny, 4, ["Rank?"])
    callback.on_train_start(Resumed(), None)  # type: ignore[arg-type]
    assert rows(tmp_path) == callback.rows == [row for row in whole if row["step"] <= 2]


def row(prompt: str, answer: str, step: int = 0, stopped: bool = True) -> dict[str, Any]:
    return {"step": step, "prompt": prompt, "answer": answer, "tokens": 3, "stopped": stopped}


def test_side_by_side_is_two_columns_of_the_given_width() -> None:
    text = format_side_by_side([row("Why?", "word " * 30)], [row("Why?", "Because.", 9)], width=60)
    lines = text.splitlines()
    assert lines[0] == "> Why?"
    assert max(len(line) for line in lines) <= 60
    assert any("before (step 0)" in line and "after (step 9)" in line for line in lines)
    assert sum(line.count("word") for line in lines) == 30


def test_side_by_side_marks_cut_and_empty_answers_and_obeys_no_markup() -> None:
    text = format_side_by_side([row("a", "[bold]x[/bold] \x1b[31m", stopped=False)], [row("a", " ", 1)], width=80)
    assert "[bold]x[/bold] \N{REPLACEMENT CHARACTER}[31m …" in text
    assert "(empty)" in text
    assert "\x1b" not in text


def test_side_by_side_of_chinese_keeps_the_columns() -> None:
    text = format_side_by_side([row("什么?", "学习率" * 20)], [row("什么?", "好", 1)], width=60)
    bars = {sum(2 if ord(c) > 0x2E80 else 1 for c in line.split("│")[0]) for line in text.splitlines() if "│" in line}
    assert len(bars) == 1


@pytest.mark.parametrize("bad", ["\x1b[2J", "\x07", "\x9b31m", "a\rb", "\x08"])
def test_an_answer_cannot_steer_the_terminal(bad: str) -> None:
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in printable(f"x{bad}y\n\tz"))


def test_a_prompt_in_words() -> None:
    assert format_prompt("plain") == format_prompt([Message("user", "plain")]) == "plain"


def test_answers_that_the_models_length_cuts_are_counted_before_training(tmp_path: Path, tiny: Any) -> None:
    def said(length: int | None, prompts: list[Any]) -> str:
        return str(Samples(
            tmp_path / "s.jsonl", tiny.model, tiny.tokenizer, None, prompts, max_new_tokens=5, total_steps=1,
            length=length,
        ).describe_shortened())

    long = len(tiny.tokenizer("Warmup is the start of it")["input_ids"])
    assert (
        said(None, ["Rank?", "Warmup is the start of it"])
        == said(long + 5, ["Rank?", "Warmup is the start of it"])
        == said(9, [])
        == ""
    )
    assert said(long + 2, ["Rank?", "Warmup is the start of it"]) == (
        f"1 of 2 sample answers are shorter than stage.max_new_tokens=5: the model reads {long + 2} tokens, "
        f"and the longest prompt has {long}."
    )
