"""The argparse tree: what is read, and refusals in one sentence."""

from __future__ import annotations

import pytest

from fulgurite.cli.parser import build_parser, parse
from fulgurite.errors import RequestError


def test_every_command_has_a_parser() -> None:
    root, commands = build_parser()
    assert list(commands) == [
        "train", "plan", "explain", "chat", "eval", "export", "average", "serve", "convert", "runs", "board"
    ]
    assert root.format_help().startswith("fulgurite ")
    assert commands["train"].prog == "fulgurite train"


def test_flags_and_words_may_be_mixed() -> None:
    given = parse("plan", ["optim.lr=1e-4", "--json", "method=lora", "--show", "3", "~seed"])
    assert given.words == ["optim.lr=1e-4", "method=lora", "~seed"]
    assert (given.json, given.show, given.probe) == (True, "3", False)


@pytest.mark.parametrize(
    ("command", "words", "sentence"),
    [
        ("plan", ["--jsn"], "fulgurite plan has no flag --jsn. Did you mean --json? There are --help, --show, "),
        ("train", ["--frob=1"], "fulgurite train has no flag --frob."),
        ("train", ["--cfg", "jobb"], "jobb is not allowed: one of job, hydra, all"),
        ("explain", ["--lang", "de"], "invalid choice: 'de'"),
        ("plan", ["--show"], "expected one argument; see `fulgurite plan --help`."),
    ],
)
def test_wrong_flag_is_refused_with_a_remedy(command: str, words: list[str], sentence: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse(command, words)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_abbreviated_flag_is_refused() -> None:
    with pytest.raises(RequestError, match="has no flag --prob"):
        parse("plan", ["--prob"])


def test_hydra_flags_that_load_code_are_no_flags() -> None:
    flags = build_parser()[1]["train"].flags
    assert not {"--experimental-rerun", "--config-name", "--config-path", "--run"} & set(flags)
    assert {"--multirun", "--cfg", "--config-dir"} <= set(flags)
