"""Drafts from words, YAML and run folders; words mean the same before and after."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from fulgurite.board.draft import Draft, build_words
from fulgurite.board.draft_yaml import write_yaml
from fulgurite.board.open_draft import OWN_FOLDER, open_run, open_text, open_words, open_yaml
from fulgurite.board.typed_values import format_typed, get_kind
from fulgurite.config.compose import compose
from fulgurite.config.provenance import to_plain
from fulgurite.config.run import list_all_knobs
from fulgurite.config.schema import Knob, strip_none
from fulgurite.errors import ConfigError, FulguriteError
from fulgurite.run.folder import write_run

LINES = [
    "stage=dpo method=dora data=guide_preference stage.loss=ipo optim.lr=5e-5 method.rank=32",
    "data=file data.path=['a b.jsonl','c, d.jsonl'] "
    "data.columns={instruction: q, 'x: y': '{z}'} data.columns.output=answer",
    "model=hf model.path='it\\'s \\${x} [a]' name='1e3'",
    "stage.prompts=[Don't, 'a, b', \"null\", '\\${x}', ''] optim.betas=[0.9,0.95] scheduler=linear data.shuffle=false",
    "callback=[samples,monitor] logger=csv trainer.max_steps=20 data.max_samples=null data.packing=none seed=7",
    "method.rank_pattern={q_proj:8} data.template_arguments={effort:low,n:3,deep:{a:[1,x]}} "
    "method.targets=[q_proj,v_proj]",
    "stage=grpo data=guide_prompts 'stage.reward=[\"match:answer\",\"regex:^\\\\S+$\"]' stage.reward_weights=[1.0,0.5]",
    "+experiment=dpo_guide optim.lr=１e-5 trainer.epochs＝２",
]


def split_line(line: str) -> list[str]:
    """Returns the words as the program gets them: cut before each `name=`."""
    words = re.split(r" (?='?\+?[a-z][a-z_.]*[=＝])", line)
    return [word.strip("'") if word.startswith("'") else word for word in words]


@pytest.mark.parametrize("line", LINES)
def test_words_mean_the_same_before_and_after(line: str) -> None:
    words = split_line(line)
    opened = open_words(words)
    assert opened.notes == []
    again = build_words(opened.draft, is_allowed=lambda path: True)
    one, other = (compose(["logger=none", *w]) for w in (map(_narrow, words), again))
    assert to_plain(one.run) == to_plain(other.run)
    assert open_words(again).draft == opened.draft


def _narrow(word: str) -> str:
    return word.replace("１", "1").replace("２", "2").replace("＝", "=")


@pytest.mark.parametrize("line", LINES)
def test_yaml_means_the_same_as_its_words(line: str, tmp_path: Path) -> None:
    draft = open_words(split_line(line)).draft
    text = write_yaml(draft)
    assert (open_yaml(text).draft.choices, open_yaml(text).draft.adds) == (draft.choices, draft.adds)
    again = build_words(open_yaml(text).draft, is_allowed=lambda path: True)
    words = build_words(draft, is_allowed=lambda path: True)
    assert to_plain(compose(["logger=none", *words]).run) == to_plain(compose(["logger=none", *again]).run)
    if draft.adds:
        return
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text, encoding="utf-8")
    one, other = compose(words).run, compose(["+experiment=mine"], tmp_path).run
    assert to_plain(one) == to_plain(other)


TEXTS = [
    "plain", "a b, c", "it's", '"x"', "[a]", "{a: b}", "${seed}", "1e3", "true", "null x",
    "数据８", "a\nb", "\\", "=", "a:b",
]


def list_typed(knob: Knob) -> list[str]:
    """Values of a parameter as a person could type them."""
    kind = get_kind(knob)
    if kind == "choice":
        return list(knob.choices)
    if kind == "list" and get_args(strip_none(knob.type))[0] is str:
        return [format_typed(TEXTS), "[]", *TEXTS[:2]]
    if kind == "map" and get_args(strip_none(knob.type))[1] is str:
        return [format_typed({text: text for text in TEXTS if text.strip()})]
    few = {"number": ["1", "2"], "bool": ["true", "no"], "list": ["[0.5, 1]"], "map": ["{q_proj: 8}"]}
    return few.get(kind, TEXTS) if kind != "list" or get_args(strip_none(knob.type))[0] is float else []


@pytest.mark.parametrize("group", sorted({knob.group for knob in list_all_knobs()}))
def test_every_parameter_reads_back_what_it_wrote(group: str) -> None:
    for knob in (knob for knob in list_all_knobs() if knob.group == group):
        choices = {knob.group: knob.option} if knob.option and "." not in knob.group else {}
        for text in list_typed(knob):
            words = build_words(Draft(choices, {knob.path: text}), allow_code=True)
            if knob.path in OWN_FOLDER:
                continue
            opened = open_words(words, allow_code=True)
            assert opened.notes == [], (knob.path, text)
            assert build_words(opened.draft, allow_code=True) == words, (knob.path, text)


def test_run_folder_gives_its_draft_without_its_folder_and_code(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    composed = compose(["model=hf", "model.path=a/b", "data=file", f"data.path={tmp_path}/data.jsonl", "optim.lr=1e-4",
                        f"run_dir={tmp_path}/run"])
    (tmp_path / "run").mkdir()
    write_run(tmp_path / "run", composed)
    stored = json.loads((tmp_path / "run" / "provenance.json").read_text())
    stored["overrides"] += ["model.trust_remote_code=true", "plugins=[evil]", "hydra.searchpath=[x]"]
    (tmp_path / "run" / "provenance.json").write_text(json.dumps(stored))
    opened = open_run(tmp_path / "run")
    assert opened.draft == Draft(
        {"model": "hf", "data": "file"},
        {"model.path": "a/b", "data.path": f"[{tmp_path}/data.jsonl]", "optim.lr": "1e-4"},
    )
    notes = [str(note).partition(" ")[0] for note in opened.notes]
    assert sorted(notes) == ["hydra.searchpath", "model.trust_remote_code", "plugins", "run_dir"]
    assert open_run(tmp_path / "run", allow_code=True).draft.values["plugins"] == "[evil]"
    text = (tmp_path / "run" / "config.yaml").read_text()
    again = open_yaml(text).draft
    assert (again.choices["model"], again.values["model.path"], again.values["optim.lr"]) == ("hf", "a/b", "1e-4")
    with pytest.raises(FulguriteError):
        open_run(tmp_path)


def test_command_line_is_read_as_a_shell_reads_it() -> None:
    line = "$ fulgurite train -m +sweep=sft_lora \\\n  'stage.prompts=[a b]' optim.lr=1e-4,1e-3 ~seed x --foo"
    opened = open_text(line)
    assert opened.draft == Draft({}, {"stage.prompts": "[a b]"}, {"sweep": "sft_lora"})
    assert len(opened.notes) == 4
    with pytest.raises(ConfigError):
        open_text("name='a")


def test_settings_of_llama_factory_become_a_draft_with_a_note_for_each_key_without_a_counterpart() -> None:
    opened = open_yaml(
        "stage: sft\nfinetuning_type: lora\nlora_rank: 8\nlora_target: all\nlearning_rate: 1.0e-4\nbf16: true\n"
        "per_device_train_batch_size: 2\ngradient_accumulation_steps: 8\nmodel_name_or_path: Qwen/Qwen3-4B\n"
        "trust_remote_code: true\nrope_scaling: linear\nmade_up_key: 3\ndeepspeed: ds.json\ncutoff_len: 2048\n"
    )
    draft = opened.draft
    assert draft.choices | {"stage": "sft", "method": "lora", "model": "hf", "precision": "bf16"} == draft.choices
    assert draft.values == {
        "method.rank": "8", "optim.lr": "0.0001", "trainer.global_batch_size": "16", "model.path": "Qwen/Qwen3-4B",
        "data.max_length": "2048", "data.too_long": "truncate",
    }
    notes = "\n".join(map(str, opened.notes))
    for name in ("rope_scaling", "made_up_key", "deepspeed", "model.trust_remote_code", "lora_target"):
        assert name in notes
    assert "LLaMA-Factory" in notes


@pytest.mark.parametrize("text", [
    "", "[", "a: [*b]", "x: &a [1]\ny: *a", "3", "what: ever", "[" * 5000, "a: " + "x" * 1_000_001,
])
def test_other_yaml_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        open_yaml(text)
