"""Text stays as it was typed, on the command line, in a multirun and in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fulgurite.cli import flags
from fulgurite.config.compose import compose
from fulgurite.config.hydra_app import hydra_main
from fulgurite.config.overrides import escape_literal, quote_typed, quote_verbatim, split, unescape
from fulgurite.config.provenance import Composed
from fulgurite.config.run import list_all_knobs
from fulgurite.config.stored import rebuild_run
from fulgurite.errors import ConfigError
from fulgurite.run.folder import read_config, write_run

KNOBS = {k.path: k for k in list_all_knobs()}


def value(composed: Composed, name: str) -> Any:
    return composed.provenance[name].value


TYPED = [
    ("name", "name=2026_11_29", "2026_11_29"), ("name", "name=1e5", "1e5"), ("name", "name=007", "007"),
    ("name", "name=true", "true"),
    ("name", "name=inf", "inf"), ("name", "name=0.10", "0.10"), ("name", "name='1e3'", "1e3"),
    ("name", 'name="a"', "a"),
    ("run_dir", "run_dir=1e3", "1e3"), ("run_dir", "run_dir=runs/a, b (c)", "runs/a, b (c)"),
    ("model.path", "model.path=1e3", "1e3"), ("model.revision", "model.revision=12e4567", "12e4567"),
    ("model.revision", "model.revision=null", None), ("stage.prompts", "stage.prompts=[1e3]", ["1e3"]),
    ("stage.prompts", "stage.prompts=[1e3,null,true,'a, b',\"c\",2_0]", ["1e3", "null", "true", "a, b", "c", "2_0"]),
    ("stage.prompts", "stage.prompts=[Don't, what (is) it?]", ["Don't", "what (is) it?"]),
    ("stage.prompts", "stage.prompts=[]", []),
    ("stage.prompts", "stage.prompts=12", ["12"]), ("stage.prompts", "stage.prompts=null", None),
    ("data.path", "data.path=2024_01", ["2024_01"]),
    ("data.path", "data.path=[2024_01,b.jsonl]", ["2024_01", "b.jsonl"]),
    ("data.path", "data.path=/a/b (c).jsonl", ["/a/b (c).jsonl"]),
    ("model.add_tokens", "model.add_tokens=[<x>,<y>]", ["<x>", "<y>"]),
    ("data.columns", "data.columns={instruction: 1e3}", {"instruction": "1e3"}),
    ("data.columns", "data.columns={instruction: a:b, output: 'c, d'}", {"instruction": "a:b", "output": "c, d"}),
    ("data.columns", "data.columns.instruction=1_0", {"instruction": "1_0"}),
    ("data.columns", "data.columns={问题: prompt, 'the answer': response, a (b)?: system}",
     {"问题": "prompt", "the answer": "response", "a (b)?": "system"}),
    ("data.columns", "data.columns={'a: b': prompt}", {"a: b": "prompt"}),
]


@pytest.mark.parametrize(("name", "word", "meant"), TYPED, ids=[word for _, word, _ in TYPED])
def test_text_stays_as_it_was_typed(name: str, word: str, meant: Any) -> None:
    choices = {"model": "model=hf", "data": "data=file"}
    group = name.partition(".")[0]
    composed = compose([*filter(None, [choices.get(group)]), word])
    assert value(composed, name) == meant
    assert composed.overrides[-1] == word  # provenance keeps the words themselves


def test_every_text_parameter_keeps_a_number_in_its_digits() -> None:
    """Not a list of names: whatever is declared as text."""
    for knob in KNOBS.values():
        for typed in ("1e3", "2026_11_29", "12", "inf", "true"):
            kept = quote_typed(f"{knob.path}={typed}", KNOBS)
            if knob.type in (str, str | None):
                assert kept == f"{knob.path}='{typed}'"
            elif knob.type in (list[str], list[str] | None):
                assert kept == f"{knob.path}=['{typed}']"
            else:
                assert kept == f"{knob.path}={typed}"


def test_a_comma_is_part_of_a_text_and_separates_values_in_a_multirun(tmp_path: Path) -> None:
    word = "method.trainable=layers:0,1"
    assert value(compose(["method=freeze", word]), "method.trainable") == "layers:0,1"
    seen: list[tuple[Any, Any]] = []

    def job(composed: Composed) -> int:
        seen.append((value(composed, "method.trainable"), composed.run.name))
        return 0

    words = ["model=tiny", "method=freeze", "method.trainable='layers:0,1',all", "name=1e3,2026_1",
        f"run_dir={tmp_path / 'runs'}"]
    assert hydra_main(job, words, ["--multirun"]) == 0
    assert seen == [("layers:0,1", "1e3"), ("layers:0,1", "2026_1"), ("all", "1e3"), ("all", "2026_1")]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b", ["a", "b"]), ("'a,b',c", ["'a,b'", "c"]), ("f(a,b),[c,d]", ["f(a,b)", "[c,d]"]),
        ("it's,ok", ["it's", "ok"]),
        ("'it\\'s, a',b", ["'it\\'s, a'", "b"]), ("a\\,b", ["a\\,b"]), ("", [""]), ("a)b,c", ["a)b", "c"]),
    ],
)
def test_commas_inside_quotes_and_brackets_separate_nothing(text: str, parts: list[str]) -> None:
    assert split(text) == parts


def test_yaml_that_reads_text_as_a_number_is_refused_with_the_quotes(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    for body, said in (
        ("name: 2026_11_29\n",
         "name is text, and YAML reads 2026_11_29 as 20261129; put it into quotes: name: '2026_11_29'"),
        ("stage:\n  prompts: [1e3]\n",
         "stage.prompts is text, and YAML reads 1e3 as 1000.0; put it into quotes: prompts: '1e3'"),
    ):
        file.write_text(f"# @package _global_\n{body}")
        with pytest.raises(ConfigError, match=r"mine\.yaml: ") as caught:
            compose(["+experiment=mine"], tmp_path)
        assert said in str(caught.value)
    file.write_text("# @package _global_\nname: '2026_11_29'\nseed: 1_0\nstage:\n  prompts: ['1e3', hello]\n")
    run = compose(["+experiment=mine"], tmp_path).run
    assert (run.name, run.seed, run.stage.prompts) == ("2026_11_29", 10, ["1e3", "hello"])


TEXTS = ["What is ${x}?", "${x", "${oc.env:HOME}", "\\${x}", "a\\\\${x} b", "$x {y}", "it's ${'", "plain"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_run_keeps_text_that_looks_like_a_reference_and_looks_nothing_up(tmp_path: Path, text: str) -> None:
    assert unescape(escape_literal(text)) == text
    composed = compose(["model=tiny", f"stage.prompts=[{quote_verbatim(text)}]"])
    assert composed.run.stage.prompts == [text]
    write_run(tmp_path, composed)
    stored = read_config(tmp_path)
    assert stored["stage"]["prompts"] == [text]
    assert rebuild_run(stored).stage.prompts == [text]


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    composed = compose(["model=tiny", "run_dir=~/new", "resume.run=~/old"])
    assert (composed.run.run_dir, composed.run.resume.run) == (str(tmp_path / "new"), str(tmp_path / "old"))
    assert value(composed, "run_dir") == str(tmp_path / "new")
    (tmp_path / "options").mkdir()
    assert flags.read(["--config-dir", "~/options"]).config_dir == tmp_path / "options"
