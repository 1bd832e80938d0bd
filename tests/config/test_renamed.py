"""Earlier names of parameters: refused with the new word, and read in the files of a run of an earlier version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.end_to_end.runs import rows, tiny

from fulgurite.cli.main import main
from fulgurite.config.compose import compose
from fulgurite.config.renamed import RENAMED, RENAMED_OPTIONS, RENAMED_UNDER, rename_words
from fulgurite.errors import ConfigError
from fulgurite.explain.knob_index import list_every_knob
from fulgurite.run.folder import read_config, read_provenance

EVERY = {**RENAMED, **{old: new for names in RENAMED_UNDER.values() for old, new in names.items()}}


def test_each_new_name_is_a_parameter_and_no_earlier_one_is() -> None:
    known = {knob.path for knob in list_every_knob()}
    assert set(EVERY.values()) <= known
    assert not known & set(RENAMED)
    for (group, option), instead in RENAMED_OPTIONS.items():
        assert compose([f"{key}={value}" for key, value in instead.items()]).choices[group] != option


@pytest.mark.parametrize("sign", ["", "+", "++"])
@pytest.mark.parametrize("old", RENAMED)
def test_an_earlier_name_is_refused_with_the_new_word(old: str, sign: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([f"{sign}{old}=3"])
    assert str(caught.value) == f"{old} is now {RENAMED[old]}; write {RENAMED[old]}=3."


@pytest.mark.parametrize(("words", "sentence"), [
    (["~trainer.batch_size"], "trainer.batch_size is now trainer.global_batch_size."),
    (["stage=grpo", "stage.beta=0.1"], "stage.beta is now stage.kl_coefficient; write stage.kl_coefficient=0.1."),
    (["stage=dpo", "stage.loss=orpo", "stage.beta=0.1"],
        "stage.beta is now stage.orpo_weight; write stage.orpo_weight=0.1."),
    (["find.what=lr"], "find.what is now lr_finder.enabled; write lr_finder.enabled=true."),
    (["trainer=cpu"], "trainer=cpu is now trainer.accelerator=cpu; write trainer.accelerator=cpu."),
    (["trainer=auto"], "trainer=auto is now the default; leave it out."),
    (["+experiment=grpo_answers", "stage.beta=0.1"], "With stage=grpo it is stage.kl_coefficient."),
])
def test_renames_that_depend_on_other_words(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(words)
    assert sentence in str(caught.value)
    assert compose(["stage=dpo", "stage.beta=0.2"]).run.stage.beta == 0.2


@pytest.mark.parametrize(("group", "text", "words"), [
    ("experiment", "# @package _global_\ntrainer:\n  batch_size: 16\n", ["+experiment=mine"]),
    ("method", "defaults: [/schema/method/lora@_here_]\nb_lr_ratio: 4\n", ["method=mine"]),
    ("experiment", "# @package _global_\ndefaults: [{override /method: other}]\n", ["+experiment=mine"]),
])
def test_a_file_with_an_earlier_name_is_refused(group: str, text: str, words: list[str], tmp_path: Path) -> None:
    for name, content in ((f"{group}/mine", text), ("method/other",
        "defaults: [/schema/method/lora@_here_]\nb_lr_ratio: 4\n")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(content)
    with pytest.raises(
        ConfigError, match=r"(trainer\.batch_size|method\.b_lr_ratio) is now \w+\.\w+\. Write that name in the file"
    ):
        compose(words, tmp_path)


def test_a_multirun_and_a_search_refuse_an_earlier_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "-m", "trainer.batch_size=1,2"]) == 2
    assert capsys.readouterr().err.endswith("Write `fulgurite train -m trainer.global_batch_size=1,2`.\n")
    assert main(["train", "-m", "+sweep=sft_lora", "sweep.knobs=[trainer.batch_size]", f"run_dir={tmp_path}"]) == 2
    assert "trainer.batch_size is now trainer.global_batch_size." in capsys.readouterr().err


@pytest.mark.parametrize("word", ["trainer.batch_size", "stage.inner_epochs", "inner_epochs", "find.low"])
def test_explain_answers_an_earlier_name_with_the_page_of_the_new_one(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new = next(new for old, new in RENAMED.items() if old.endswith(word))
    assert main(["explain", word, "--lang", "en"]) == 0
    assert capsys.readouterr().out.startswith(f"{word} is now {new}.\n\n{new} = ")
    assert main(["explain", "--json", word]) == 0
    assert json.loads(capsys.readouterr().out)[0]["knob"] == new
    assert main(["explain", "--search", word, "--lang", "en"]) == 0
    assert new in capsys.readouterr().out


def test_words_of_an_earlier_run_get_the_new_names() -> None:
    words = ["stage=grpo", "stage.beta=0.1", "+trainer.batch_size=4", "trainer=ddp_cpu", "optim.lr=1"]
    assert rename_words(words) == [
        "stage=grpo", "stage.kl_coefficient=0.1", "+trainer.global_batch_size=4",
        "trainer=default", "trainer.accelerator=cpu", "strategy=ddp", "optim.lr=1",
    ]


def _renamed_back(folder: Path) -> None:
    """Give a run's config.yaml and provenance.json the names of earlier versions, without newer parts."""
    config: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    origins = json.loads((folder / "provenance.json").read_text())
    for old, new in {**RENAMED, **RENAMED_UNDER["stage.loss", "orpo"]}.items():
        group, name = new.split(".")
        if name in config.get(group, {}):
            config.setdefault(old.split(".")[0], {})[old.split(".")[1]] = config[group].pop(name)
            origins["knobs"][old] = origins["knobs"].pop(new)
    for name in ("accelerator", "devices", "num_nodes", "processes"):
        config["trainer"].pop(name, None)
    config["trainer"]["option"] = origins["choices"]["trainer"] = "auto"
    config["find"]["what"] = None
    for gone in ("strategy", "lr_finder", "monitor"):
        config.pop(gone)
    origins["overrides"] = ["stage=dpo", "stage.loss=orpo", "trainer.batch_size=4"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "provenance.json").write_text(json.dumps(origins))


def test_a_run_of_an_earlier_version_is_read_resumed_listed_and_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["stage=dpo", "stage.loss=orpo", "stage.orpo_weight=0.2", "data=guide_preference", "scheduler=constant"]
    folder = tiny(tmp_path / "runs" / "a", *words)
    now, known = read_config(folder), set(read_provenance(folder)["knobs"])
    _renamed_back(folder)
    assert "batch_size" in yaml.safe_load((folder / "config.yaml").read_text())["trainer"]
    assert read_config(folder) == now
    assert set(read_provenance(folder)["knobs"]) == known
    with pytest.raises(ConfigError,
        match=r"^resume\.allow=trainer\.batch_size: trainer\.batch_size is now trainer\.global_batch_size\.$"):
        tiny(folder, *words, "trainer.max_steps=3", "resume.allow=[trainer.batch_size]")
    tiny(folder, *words, "trainer.max_steps=3", "resume.allow=[trainer.max_steps]")
    assert [row["step"] for row in rows(folder) if "train/loss" in row] == [1, 2, 3]
    _renamed_back(folder)
    capsys.readouterr()
    assert main(["runs", "--json", str(tmp_path / "runs")]) == 0
    [listed] = json.loads(capsys.readouterr().out)
    assert listed["knobs"]["trainer.global_batch_size"] == 4
    assert main(["export", f"run={folder}", f"out={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "out" / "config.json").is_file()
