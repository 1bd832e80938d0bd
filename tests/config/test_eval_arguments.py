"""The words of `fulgurite eval`: its own, and those of `fulgurite train`."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.config.arguments import parse
from fulgurite.config.eval_arguments import EvalSettings, read
from fulgurite.errors import ConfigError, RequestError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    return tmp_path / "run"


def test_words_of_training_are_kept_apart(run: Path) -> None:
    found = read([f"run={run}", "data=file", "data.path=x.jsonl", "max_examples=3", "plugins=[mine]"])
    assert found.train_words == ("data=file", "data.path=x.jsonl")
    assert (found.config.max_examples, found.allowed.plugins) == (3, ("mine",))
    other = read(["model=tiny", "stage=sft", "precision=fp32"])
    assert (other.config.model, other.train_words) == ("tiny", ("stage=sft", "precision=fp32"))


@pytest.mark.parametrize(("text", "values"), [
    ("bleu,chrf", ["bleu", "chrf"]), ("[bleu, chrf]", ["bleu", "chrf"]), ("bleu", ["bleu"]), ("[]", []), ("", []),
    ('["regex:a,b",match:answer]', ["regex:a,b", "match:answer"]),
])
def test_a_list_has_commas(text: str, values: list[str]) -> None:
    assert parse(EvalSettings, [f"metrics={text}"], "eval").metrics == values


@pytest.mark.parametrize(("words", "sentence"), [
    ([], "needs run=<run folder> or model="), (["run=RUN", "model=tiny"], "and not both"),
    (["run=RUN", "optim.lr=1"], "has no parameter optim.lr"),
    (["run=RUN", "precision=fp32"], "is not possible with run="),
    (["run=RUN", "against=/nothing"], "against=/nothing does not exist"),
    (["judged=/nothing.csv"], "judged=/nothing.csv does not exist"),
    (["run=RUN", "out=x.csv"], "is the table of a comparison"),
    (["model=tiny", "against=start"], "compares a run with its own beginning"),
    (["run=RUN", "against=start", "out=RUN/config.yaml"], "exists already"),
    (["run=RUN", "max_examples=0"], "eval.max_examples=0 is not allowed"),
    (["run=RUN", "batch_size=many"], "batch_size must be a whole number"),
])
def test_wrong_words_are_refused(run: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        read([word.replace("RUN", str(run)) for word in words])


def test_a_run_keeps_its_settings(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"only data=\.\.\. and stage=\.\.\. may differ"):
        read([f"run={run}", "trainer.micro_batch_size=1"])
