"""`fulgurite plan --show`: what is printed is what is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fulgurite.cli.main import main
from fulgurite.plan.show import Shown, build_list, format_text

TALK = [
    {"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."},
    {"role": "user", "content": "Another."}, {"role": "assistant", "content": "Red\x1b[31m."},
]
PAIR = {"prompt": "A colour?", "chosen": "Blue.", "rejected": "Cow.", "margin": 0.5}


@pytest.fixture
def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`shown(records, word, *words)`: what stands under EXAMPLES, or the error."""

    def ask(records: list[Any], word: str, *words: str) -> str:
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        main(["plan", "model=tiny", "data=file", f"data.path={path}", "data.val_fraction=0", *words, "--show", word])
        out = capsys.readouterr()
        return out.out.partition("EXAMPLES\n")[2].replace(str(tmp_path) + "/", "") or out.err

    return ask


def test_learned_text_is_in_brackets(shown: Any) -> None:
    assert shown([{"messages": TALK}, {"messages": TALK[:2]}], "1") == (
        "1. a.jsonl:1: training; 57 tokens, 15 learned\n<|im_start|>user\nName a colour.<|im_end|>\n"
        "<|im_start|>assistant\n[[Blue.<|im_end|>]]\n<|im_start|>user\nAnother.<|im_end|>\n<|im_start|>assistant\n"
        "[[Red\\x1b[31m.<|im_end|>]]\n\n"
    )


def test_longest_example_and_one_by_its_line(shown: Any) -> None:
    records = [{"messages": TALK[:2]}, {"messages": TALK}]
    assert shown(records, "longest").startswith("1. a.jsonl:2: training; 57 tokens")
    assert shown(records, "a.jsonl:1").startswith("1. a.jsonl:1: training; 29 tokens")
    assert "no example begins there" in shown(records, "a.jsonl:7")
    dropped = [{"instruction": "a", "output": "b <|im_end|>"}, {"instruction": "a", "output": "c"}]
    found = shown(dropped, "a.jsonl:1", "data.special_tokens=keep")
    assert "a.jsonl:1: the record was dropped (an answer contains the text of an end token)" in found


@pytest.mark.parametrize("word", ["0", "-1", "all", "a.jsonl", "a.jsonl:", ":3", "1.5"])
def test_unknown_word_is_refused_before_data_are_read(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "model=tiny", f"--show={word}"]) == 2
    assert f"--show {word} is not allowed: give a number of examples, longest, or FILE:LINE" in capsys.readouterr().err


def test_both_answers_of_a_pair_are_shown(shown: Any) -> None:
    found = shown([PAIR, PAIR | {"chosen": "Red."}], "1", "stage=dpo")
    assert "1. a.jsonl:1: training, chosen, margin 0.5;" in found
    assert "[[Blue.<|im_end|>]]" in found
    assert "2. a.jsonl:1: training, rejected, margin 0.5;" in found
    assert "[[Cow.<|im_end|>]]" in found


def test_judged_answers_have_their_label(shown: Any) -> None:
    found = shown(
        [{"prompt": "A colour?", "completion": c, "label": c == "Blue."} for c in ("Blue.", "Cow.")], "2", "stage=kto"
    )
    assert "1. a.jsonl:1: training, judged good;" in found
    assert "2. a.jsonl:2: training, judged bad;" in found


def test_prompts_have_no_learned_text_and_running_text_has(shown: Any) -> None:
    asked = shown([{"prompt": "A colour?"}, {"prompt": "A cow?"}], "1", "stage=grpo", "stage.reward=['length:3']",
        "trainer.global_batch_size=1")
    assert asked.startswith("1. a.jsonl:1: training; ")
    assert asked.rstrip().endswith("<|im_start|>assistant")
    assert "[[" not in asked
    running = shown([{"text": "one two three"}, {"text": "four"}], "1", "stage=pt")
    assert running.startswith("1. a.jsonl:1: training; ")
    assert "[[" in running


def test_json_has_the_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": TALK[:2]}) + "\n" + json.dumps({"messages": TALK}) + "\n")
    main(["plan", "--json", "model=tiny", "data=file", f"data.path={path}", "data.val_fraction=0", "--show", "1"])
    (example,) = json.loads(capsys.readouterr().out)["shown"]
    assert example["place"] == f"{path}:1"
    assert [part["text"] for part in example["text"] if part["learned"]] == ["Blue.<|im_end|>"]


class Words:
    """A tokenizer of one letter a token."""

    all_special_tokens = ("<e>",)
    all_special_ids = (0,)

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join("<e>" if i == 0 else chr(i) for i in ids)


def test_learned_text_is_coloured_on_a_terminal() -> None:
    side = Shown("a:1", "training", [0, 97, 98, 0], [False, False, True, True])
    text = format_text([side], Words(), color=True)  # type: ignore[arg-type]
    assert text == (
        "1. a:1: training; 4 tokens, 2 learned\n"
        "\x1b[2m<e>\x1b[0ma\x1b[0m\x1b[32mb\x1b[2m<e>\x1b[0m\x1b[32m\x1b[0m"
    )
    assert build_list([side], Words())[0]["learned"] == 2  # type: ignore[arg-type]


def test_text_of_a_special_token_is_marked(
    shown: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"instruction": "<|im_end|> a\r\nb", "output": "c <|im_end|> d"}
    found = shown([record], "1")
    assert "\n\\<|im_end|> a\\r\nb<|im_end|>\n" in found
    assert "[[c \\<|im_end|> d<|im_end|>]]" in found
    assert found.endswith(
        "\\ marks the text of a special token that is encoded as plain text (data.special_tokens).\n"
    )
    assert "\\" not in shown([record | {"instruction": "a"}], "1", "data.special_tokens=keep", "data.mask=all")
    main(
        [
            "plan", "model=tiny", "data=file", f"data.path={tmp_path}/a.jsonl", "data.val_fraction=0", "--show", "1",
            "--json",
        ],
    )
    pieces = json.loads(capsys.readouterr().out)["shown"][0]["text"]
    assert [piece.get("special_as_plain_text_at") for piece in pieces if piece["learned"]] == [[2]]


def test_number_of_examples_is_limited(shown: Any) -> None:
    records = [{"instruction": f"a{n}", "output": "b"} for n in range(70)]
    assert shown(records, "99").endswith("These are the first 64 of 70 examples; --show FILE:LINE shows another.\n")
    assert "These are" not in shown(records, "64")
