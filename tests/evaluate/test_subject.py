"""What is loaded for an evaluation: the model of a checkpoint, and the examples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fulgurite.config.guard import Allowed
from fulgurite.data.dataset import TokenDataset
from fulgurite.errors import ConfigError, ModelError
from fulgurite.evaluate.held_out import measure_held_out
from fulgurite.evaluate.subject import Subject, draw_rows, find_model_words, load_model_subject, load_run_subject
from fulgurite.run.load import load_run


def measure(subject: Subject) -> dict[str, float]:
    assert subject.data is not None
    assert subject.stage is not None
    return measure_held_out(subject.stage, subject.data.rows, subject.tokenizer).numbers


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    """Three records, one of them with two answers."""
    path = tmp_path / "own.jsonl"
    rows = [{"messages": [{"role": "user", "content": f"Say {n}"}, {"role": "assistant", "content": f"{n} times"}]}
        for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_weights_are_those_of_the_checkpoint(sft: Path) -> None:
    subject = load_run_subject(sft, "last", Allowed(), [], False)
    expected = load_run(sft, "last").model.state_dict()
    assert subject.data is None
    assert subject.stage is None
    assert all(torch.equal(tensor, expected[name]) for name, tensor in subject.model.state_dict().items())


def test_start_is_the_model_before_training(sft: Path) -> None:
    """An adapter that is zero: the loss of the base model, and another one than after training."""
    begun, trained = (load_run_subject(sft, word, Allowed(), [], True) for word in ("start", "last"))
    base = load_model_subject("tiny", Allowed(), ["data=guide", "precision=fp32"], 4, True)
    assert begun.checkpoint is None
    assert trained.checkpoint is not None
    assert trained.checkpoint.name == "step-4"
    assert measure(trained)["loss"] != measure(begun)["loss"]
    assert measure(base)["loss"] == pytest.approx(measure(begun)["loss"], rel=1e-5)


def test_other_data_are_evaluated_whole(sft: Path, conversations: Path) -> None:
    subject = load_run_subject(sft, "last", Allowed(), ["data=file", f"data.path={conversations}"], True)
    assert subject.data is not None
    assert (len(subject.data.rows), subject.data.part) == (3, "all")
    assert measure(subject)["loss"] > 0


def test_validation_files_of_other_data_are_evaluated_alone(sft: Path, conversations: Path) -> None:
    train = conversations.with_name("train.jsonl")
    train.write_text(conversations.read_text().replace("Say", "Tell"))
    words = ["data=file", f"data.path={train}", f"data.val_path={conversations}"]
    subject = load_run_subject(sft, "last", Allowed(), words, True)
    assert subject.data is not None
    assert subject.data.part == "files"
    assert {place.rpartition(":")[0] for i in range(3) for place in subject.data.rows.places(i)} == {str(conversations)}


def test_no_example_is_left_out_for_the_length_of_training(sft: Path, conversations: Path) -> None:
    with conversations.open("a") as out:
        turns = [{"role": "user", "content": "Say much"}, {"role": "assistant", "content": "much " * 150}]
        out.write(json.dumps({"messages": turns}) + "\n")
    subject = load_run_subject(sft, "last", Allowed(), ["data=file", f"data.path={conversations}"], True)
    assert subject.data is not None
    assert int(max(subject.data.rows.lengths)) > (subject.run.data.max_length or 0) >= 0
    assert len(subject.data.rows) == 4


def test_another_stage_measures_the_same_model(dpo: Path, conversations: Path) -> None:
    data = ["data=file", f"data.path={conversations}"]
    subject = load_run_subject(dpo, "last", Allowed(), ["stage=sft", *data], True)
    assert "perplexity" in measure(subject)


@pytest.mark.parametrize(("words", "sentence"), [
    (["stage=sft"], "needs data=..."), (["stage=rm", "data=guide_preference"], "cannot be measured on a run"),
])
def test_a_stage_that_cannot_be_measured_is_refused(dpo: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_run_subject(dpo, "last", Allowed(), words, True)


def test_drawn_rows_are_the_same_for_a_seed(sft: Path, dpo: Path) -> None:
    for folder in (sft, dpo):
        data = load_run_subject(folder, "start", Allowed(), [], True).data
        assert data is not None
        rows = data.rows
        some = draw_rows(rows, 5, 7)
        assert len(some) == 5
        assert np.array_equal(some.lengths, draw_rows(rows, 5, 7).lengths)
        whole = [rows.places(i) for i in range(len(rows))]
        drawn = [some.places(i) for i in range(5)]
        assert drawn == sorted(drawn, key=whole.index)
        assert draw_rows(rows, None, 0) is rows
        assert draw_rows(rows, 10_000, 0) is rows


def test_rows_that_are_taken_keep_their_tokens(sft: Path) -> None:
    data = load_run_subject(sft, "start", Allowed(), [], True).data
    assert data is not None
    assert isinstance(data.rows, TokenDataset)
    some = data.rows.take(np.array([4, 1]))
    for mine, theirs in ((0, 4), (1, 1)):
        assert np.array_equal(some[mine].input_ids, data.rows[theirs].input_ids)
        assert np.array_equal(some[mine].targets, data.rows[theirs].targets)


@pytest.mark.parametrize(("name", "words"), [
    ("tiny", ["model=tiny"]), ("owner/name", ["model=hf", "model.path='owner/name'"]),
])
def test_words_of_a_model(name: str, words: list[str]) -> None:
    assert find_model_words(name, Allowed()) == words


def test_code_of_a_model_runs_only_if_it_is_allowed() -> None:
    words = find_model_words("owner/name", Allowed(model_code=True, revision="abc"))
    assert words[2:] == ["model.trust_remote_code=true", "model.revision='abc'"]


def test_an_unknown_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="Did you mean tiny"):
        find_model_words("tinny", Allowed())


def test_a_run_without_validation_is_told_what_to_give(tmp_path: Path, dpo: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(dpo, copy, symlinks=True)
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("val_fraction: 0.3", "val_fraction: 0.0"))
    with pytest.raises(ConfigError, match="has held out no examples"):
        load_run_subject(copy, "last", Allowed(), [], True)
