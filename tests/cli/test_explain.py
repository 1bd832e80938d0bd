"""`fulgurite explain`: which page is printed for which words, plots, JSON, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fulgurite.cli.explain import explain_main
from fulgurite.config.renamed import RENAMED
from fulgurite.config.schema import list_options
from fulgurite.errors import ConfigError, RequestError
from fulgurite.explain.knob_index import list_every_knob
from fulgurite.stage.preference_table import list_names


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["optim.lrr"], "There is no parameter, group or option optim.lrr. Did you mean optim.lr"),
        (["method=qlorra"], "method has no option 'qlorra'. Did you mean"),
        (["cosin"], "Did you mean scheduler=cosine"),
        (["method="], "method has no option ''. There are full, freeze, layerwise, lora, qlora"),
        (["zzzzzz"], "No results for 'zzzzzz'. The groups are stage, method"),
        (["resume=x"], "resume has no options"),
        (["method", "--plot"], "--plot draws schedules and preference losses"),
        (["scheduler=cosine", "scheduler.cycles=3", "--plot"], "scheduler=cosine has no parameter scheduler.cycles"),
        (["scheduler=cosine_with_restarts", "scheduler.cycles=0", "--plot"], "scheduler.cycles=0 is not allowed"),
        (["scheduler=cosine_with_restarts", "scheduler.cycles=a", "--plot"], "scheduler.cycles=a is not a whole"),
        (["scheduler=polynomial", "scheduler.lr_end=1", "--plot"], "scheduler.lr_end=1 must be below optim.lr"),
    ],
)
def test_wrong_request_is_one_sentence_with_a_remedy(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        explain_main(words)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_unknown_flag_is_refused() -> None:
    with pytest.raises(RequestError, match="has no flag --foo"):
        explain_main(["--foo"])


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        ([], "A run picks one option per group"),
        (["optim.lr"], "optim.lr = "), (["lr"], "optim.lr = "), (["method"], "method: "),
        (["method=lora"], "method=lora"), (["lora"], "method=lora"), (["optim.lr=1e-4"], "optim.lr=1e-4 is usual"),
        (["--search", "warmup"], "scheduler.warmup_ratio"), (["scheduler=cosine", "--plot"], "scheduler=cosine: "),
        (["logger.wandb.wait"], "logger.wandb.wait = 5"), (["seed", "name"], "seed = 42"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_command_prints_the_page_of_each_word(
    words: list[str], begins: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain_main(words) == 0
    assert capsys.readouterr().out.startswith(begins)


def test_plot_takes_parameters_steps_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    explain_main(["scheduler=linear", "--plot", "trainer.max_steps=40", "optim.lr=2e-3", "scheduler.warmup_steps=10"])
    out = capsys.readouterr().out
    assert "step 40" in out
    assert "2e-3 ┤" in out
    assert "warmup ends at step 10" in out


def test_plot_of_the_group_draws_every_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    explain_main(["scheduler", "--plot"])
    out = capsys.readouterr().out
    assert all(f"scheduler={name}:" in out for name in list_options("scheduler"))


def test_plot_draws_one_preference_loss_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    explain_main(["stage=dpo", "--plot", "--lang", "en"])
    out = capsys.readouterr().out
    assert all(f"stage.loss={loss} " in out for loss in list_names())
    explain_main(["stage=dpo", "stage.loss=ipo", "stage.beta=0.5", "--plot", "--lang", "en"])
    out = capsys.readouterr().out
    assert out.startswith("stage.loss=ipo stage.beta=0.5: ")
    assert out.rstrip().endswith("2")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["stage.loss=dpo"], "stage.loss=dpo is no loss of stage=dpo; there are sigmoid"),
        (["stage.beta=1"], "give stage.loss=... first"),
        (["stage.loss=ipo", "stage.gamma=1"], "stage.gamma is not read here"),
        (["stage.loss=ipo", "stage.beta=0"], "stage.beta=0.0 is not allowed"),
        (["stage.loss=ipo", "stage.beta=x"], "stage.beta=x is not a number"),
        (["stage.loss=exo_pair", "stage.label_smoothing=0"], "take 0.001"),
    ],
)
def test_preference_loss_that_cannot_be_drawn_is_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        explain_main(["stage=dpo", *words, "--plot"])
    assert sentence in str(refused.value)


def test_earlier_name_is_answered_with_the_name_of_today(capsys: pytest.CaptureFixture[str]) -> None:
    known = {knob.path for knob in list_every_knob()}
    old, new = next((old, new) for old, new in RENAMED.items() if new in known and old not in known)
    assert explain_main([old, "--lang", "en"]) == 0
    first, _, page = capsys.readouterr().out.partition("\n\n")
    assert first == f"{old} is now {new}."
    assert page.startswith(f"{new} = ")


def test_json_of_an_option_has_its_parameters_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain_main(["scheduler=cosine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = [knob.path for knob in list_every_knob() if (knob.group, knob.option) == ("scheduler", "cosine")]
    assert [entry["knob"] for entry in found] == expected
    assert expected


def test_json_is_english_in_a_chinese_terminal_and_the_page_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    explain_main(["seed", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["meaning"].isascii()
    explain_main(["seed"])
    assert not capsys.readouterr().out.isascii()


def test_whole_guide_takes_no_other_words() -> None:
    with pytest.raises(RequestError, match="--html prints the whole guide"):
        explain_main(["--html", "optim.lr"])


def test_value_is_judged_by_the_rules_of_plan_in_a_new_process() -> None:
    """The options of all groups are known, whichever the words name."""
    words = ["optim.lr=1e-7", "stage=dpo", "method=full", "--lang", "en"]
    command = [sys.executable, "-m", "fulgurite", "explain", *words]
    said = " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert "(5e-07) is 5 times as high. → optim.lr=1e-06" in said
    assert "below what is usual" not in said  # the rule has judged it; the range alone would say it again
