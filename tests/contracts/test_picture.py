"""The picture of the README: drawn from a run folder, without a network and without an answer that nobody chose."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from benchmarks.picture import Form, draw, list_prompts

from fulgurite.config.compose import compose

PICTURE = Path(__file__).parents[2] / "docs" / "run.svg"


def write_run(folder: Path) -> Path:
    metrics = [{"step": n, "train/loss": 5 - n} for n in (1, 2, 3)] + [{"step": 3, "val/loss": 2.5}]
    samples = [
        {"step": step, "prompt": prompt, "answer": answer, "stopped": step == 3}
        for step, answer in ((0, "A & B, and so on"), (3, "Take it. See `fulgurite explain optim.lr`."))
        for prompt in ("What?", "How?")
    ]
    for name, rows in (("metrics", metrics), ("samples", samples)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def read_texts(svg: str) -> list[str]:
    return [text for node in ElementTree.fromstring(svg).iter() if (text := (node.text or "").strip())]


def test_losses_and_form_are_drawn_and_answers_only_if_chosen(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    texts = read_texts(draw(run))
    assert "training loss 4.00 → 2.00" in texts
    assert "validation loss 2.50 → 2.50" in texts
    assert texts.count("2") == 2
    assert not any("A & B" in text for text in texts)
    shown = read_texts(draw(run, ["What?"]))
    assert "A & B, and so on …" in shown
    assert "> What?" in shown
    assert "> How?" not in shown


def test_the_form_is_counted() -> None:
    rows = [
        {"answer": "Cosine. See `fulgurite explain scheduler=cosine`.", "stopped": True},
        {"answer": "See `fulgurite explain optim.lr` and", "stopped": False},
    ]
    assert Form.of(rows) == Form(answers=2, stopped=1, commands=1, words=5)


def test_prompts_are_held_out_questions_that_a_run_takes() -> None:
    prompts = list_prompts()
    assert len(prompts) > 20
    assert compose([f"stage.prompts={json.dumps(prompts)}"]).run.stage.prompts == prompts  # type: ignore[attr-defined]


def test_a_run_without_answers_or_the_prompt_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    with pytest.raises(ValueError, match="has no answer to"):
        draw(run, ["Who?"])
    (run / "samples.jsonl").write_text("")
    with pytest.raises(ValueError, match="has no answers before and after"):
        draw(run)


def test_the_picture_loads_nothing() -> None:
    text = PICTURE.read_text(encoding="utf-8")
    assert "http" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert len(text) < 60_000
