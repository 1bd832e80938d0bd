"""The door to Hydra: what comes in wrong is refused in one sentence, what comes out is typed and knows its origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.override_checks import read_text_value
from fulgurite.config.overrides import quote
from fulgurite.errors import ConfigError
from fulgurite.stage.config import Sft


def test_the_embedded_default_is_typed_and_filled() -> None:
    composed = compose()
    run = composed.run
    assert isinstance(run.stage, Sft)
    assert (run.method.name, run.method.alpha, run.trainer.epochs) == ("lora", 128.0, 2.0)
    assert composed.choices["model"] == "smollm2_135m"


def test_provenance_has_the_origin_of_each_value_and_its_reason() -> None:
    known = compose(["optim.weight_decay=0.1", "method.rank=8"]).provenance
    assert known["optim.weight_decay"].origin == "command line"
    assert known["optim.eps"].origin == "default"
    assert (known["method.alpha"].origin, known["method.alpha"].value) == ("derived", 16.0)
    assert "twice the rank of 8" in known["method.alpha"].reason
    assert "measured on the guide" in known["optim.lr"].reason


def test_a_preset_file_is_named_as_the_origin(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "small.yaml").write_text("defaults: [lora, _self_]\nrank: 4\n")
    composed = compose(["method=small"], config_dir=tmp_path)
    assert (composed.run.method.rank, composed.run.method.alpha) == (4, 8.0)
    assert composed.provenance["method.rank"].origin == "preset"
    assert "small" in composed.provenance["method.rank"].reason


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optim.lrr=1"], r"no parameter optim\.lrr\. Did you mean optim\.lr"),
        (["+optim.lrr=1"], r"no parameter optim\.lrr"),
        (["stge=sft"], r"no parameter stge\. Did you mean stage"),
        (["stage=sftt"], r"no stage=sftt\. Did you mean sft"),
        (["method=loar"], r"no method=loar\. Did you mean lora"),
        (["optim.lr=abc"], r"optim\.lr=abc is not allowed: it must be a number"),
        (["optim.lr=3"], r"optim\.lr=3\.0 is not allowed: it must be 0 to 1, 0 excluded; or leave it out"),
        (["optim.lr=nan"], r"optim\.lr=nan is not allowed"),
        (["optim.betas=[0.9,2]"], r"optim\.betas=2\.0 is not allowed"),
        (["scheduler.cycles=3"], r"not a parameter of the chosen scheduler; it belongs to scheduler=cosine_with"),
        (["scheduler.warmup_steps=0.1"], r"warmup_steps=0\.1 is not allowed: it must be a whole number"),
        (["data.too_long=chop"], r"one of drop, truncate, error"),
        (["data.shuffle=perhaps"], r"data\.shuffle=perhaps is not allowed: it must be true or false"),
        (["trainer.max_grad_norm=-1"], r"must be at least 0; its default is 1\.0"),
        (["trainer.keep_checkpoints=null"], r"trainer\.keep_checkpoints=null is not allowed"),
        (["foo"], r"foo cannot be read; write parameter=value"),
        (["data=file", "data.path={a"], r"cannot be read"),
        (["name=a/b"], r"name=a/b is not allowed"),
        (["seed=-1"], r"seed=-1 is not allowed"),
        (["plugins=no_such_module"], r"plugins=\[no_such_module\] cannot be imported"),
        (["name=hf_abcdefghijklmnopqrstuvwxyz"], r"name contains what looks like a secret"),
        (["logger.wandb.project=x"], r"logger\.wandb\.project"),
    ],
)
def test_wrong_words_are_one_sentence_with_the_remedy(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        compose(words)
    assert "\n" not in str(caught.value)


def test_a_value_outside_the_usual_is_warned_about_and_a_derived_one_never() -> None:
    assert compose().warnings == []
    (warning,) = compose(["optim.lr=0.5"]).warnings
    assert "optim.lr=0.5 is outside what is usual here (0.0001 to 0.002)" in warning
    assert compose(["optim.lr=3e-4"]).warnings == []


def test_the_rate_follows_stage_method_and_size() -> None:
    rates = {
        words: compose(words.split()).run.optim.lr
        for words in (
            "method=lora", "method=full", "method=full model=hf", "stage=pt method=full", "method=full optim=sgd"
        )
    }
    assert rates == {
        "method=lora": 1e-3, "method=full": 1e-4, "method=full model=hf": 1e-5, "stage=pt method=full": 2e-4,
        "method=full optim=sgd": pytest.approx(1e-2),
    }


def test_one_item_is_read_as_a_list_of_one() -> None:
    assert compose(["data=file", "data.path=a.json"]).run.data.path == ["a.json"]
    assert compose(["data=file", "data.path=[a.json,b.json]"]).run.data.path == ["a.json", "b.json"]


def test_a_mapping_is_given_as_it_is_shown() -> None:
    """Hydra alone wants a plus before a key that an empty mapping does not have."""
    for words in (
        ["data.columns={instruction: q, output: a}"], ["data.columns.instruction=q", "data.columns.output=a"]
    ):
        composed = compose(["data=file", "data.path=a.jsonl", *words])
        assert composed.run.data.columns == {"instruction": "q", "output": "a"}
        assert composed.provenance["data.columns"].origin == "command line"
    assert compose(["method.rank_pattern={q_proj: 4}"]).run.method.rank_pattern == {"q_proj": 4}


@pytest.mark.parametrize(
    ("word", "meant"),
    [("learning_rate=1e-4", "optim.lr"), ("lora_rank=8", "method.rank"), ("cutoff_len=512", "data.max_length"),
        ("Optim.LR=1", "optim.lr")],
)
def test_the_names_of_other_trainers_lead_to_ours(word: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean {meant}"):
        compose([word])


@pytest.mark.parametrize(
    ("word", "said"),
    [("optim.betas=[0.9]", "it needs 2 numbers; its default"), ("optim.betas=[]", "it needs 2 numbers"),
        ("seed=4294967296", "must be 0 to"),
     ("run_dir=", "run_dir= is empty")],
)
def test_values_that_would_fail_later_are_refused_now(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose([word])


def test_a_preset_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("a: [1\nb: }")
    with pytest.raises(ConfigError, match=r"mine.yaml cannot be read: .*; mend the file"):
        compose(["+experiment=mine"], config_dir=tmp_path)


@pytest.mark.parametrize("text", ["runs/a", "with space", "é=x", "it's", 'a"b', "a\\b", "[1,2]"])
def test_a_quoted_value_comes_back(text: str) -> None:
    word = f"run_dir={quote(text)}"
    assert read_text_value(word) == text
    assert compose([word]).run.run_dir == text


def test_parameters_of_a_logger_that_is_not_chosen_are_refused_not_dropped(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nlogger: {wandb: {project: mine}}\n")
    with pytest.raises(ConfigError, match=r"logger\.wandb is set, and logger=wandb is not chosen"):
        compose(["+experiment=mine"], tmp_path)
    assert compose(["+experiment=mine", "logger=wandb"], tmp_path).run.logger["wandb"].project == "mine"
