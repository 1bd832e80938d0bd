"""Ollama's Modelfile: its template, run by Go itself if Go is installed, writes what ours does."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from fulgurite.data.example import Message
from fulgurite.data.template import BUILT_IN, load_template
from fulgurite.errors import ModelError
from fulgurite.export.modelfile import find_parts, format_go, write_modelfile
from fulgurite.model.tiny_tokenizer import tokenizer

CHATML = """\
FROM ./model.gguf
TEMPLATE \"""{{ range $i, $m := .Messages }}{{ if eq $m.Role "system" }}<|im_start|>system
{{ $m.Content }}<|im_end|>
{{ else if eq $m.Role "user" }}<|im_start|>user
{{ $m.Content }}<|im_end|>
{{ else if eq $m.Role "assistant" }}<|im_start|>assistant
{{ $m.Content }}<|im_end|>
{{ end }}{{ end }}<|im_start|>assistant
\"""
PARAMETER stop "<|im_end|>"
"""
TALKS = [
    [Message("user", "Hello {{ .Name }}")],
    [Message("system", "Be brief."), Message("user", "Hello")],
    [
        Message("system", "Be brief."), Message("user", "1 < 2?"), Message("assistant", "Yes."),
        Message("user", "And \"3\"?"),
    ],
    [Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d"),
        Message("user", "e")],
]
PROGRAM = """\
package main
import ("encoding/json"; "os"; "text/template")
type Message struct { Role string; Content string }
type Talk struct { Messages []*Message }
func main() {
	var given struct { Template string; Talks []Talk }
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil { panic(err) }
	made := template.Must(template.New("").Parse(given.Template))
	for _, talk := range given.Talks {
		if err := made.Execute(os.Stdout, talk); err != nil { panic(err) }
		os.Stdout.WriteString("\\x00")
	}
}
"""


def test_chatml_is_written_in_go() -> None:
    assert write_modelfile(load_template("chatml", tokenizer(512)), "./model.gguf") == CHATML


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_parts_of_a_template_make_its_text_again(name: str) -> None:
    template = load_template(name, tokenizer(512))
    parts = find_parts(template)
    for talk in TALKS:
        assert parts.render(talk) == template.text(talk, prompt=True)


@pytest.mark.parametrize("name", BUILT_IN)
def test_go_writes_the_same(name: str, tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    template = load_template(name, tokenizer(512))
    parts = find_parts(template)
    given = []
    for talk in TALKS:
        begun = talk
        if parts.default is not None and talk[0].role != "system":  # Ollama puts SYSTEM there
            begun = [Message("system", parts.default), *talk]
        given.append({"Messages": [{"Role": m.role, "Content": m.content} for m in begun]})
    (tmp_path / "main.go").write_text(PROGRAM)
    done = subprocess.run(
        [go, "run", "main.go"], cwd=tmp_path, capture_output=True, text=True, check=False,
        input=json.dumps({"Template": format_go(parts), "Talks": given}),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\0")[:-1] == [template.text(talk, prompt=True) for talk in TALKS]


def test_braces_of_a_template_are_text_in_go() -> None:
    words = tokenizer(512)
    words.chat_template = "{% for m in messages %}{{ '{{' + m.role + '}}' + m.content }}<|im_end|>{% endfor %}"
    assert '{{ "{{" }}user}}{{ $m.Content }}' in format_go(find_parts(load_template(None, words)))


def test_a_template_that_counts_its_messages_is_refused() -> None:
    words = tokenizer(512)
    words.chat_template = "{% for m in messages %}{{ loop.index ~ m.role ~ m.content }}<|im_end|>{% endfor %}"
    with pytest.raises(ModelError, match=r"cannot be written for Ollama, .*leave out modelfile=true"):
        write_modelfile(load_template(None, words), ".")
