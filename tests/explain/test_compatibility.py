"""Which options work together."""

from __future__ import annotations

import re
from math import comb

from fulgurite.config.schema import list_options
from fulgurite.explain import compatibility
from fulgurite.explain.compatibility import GROUPS, build_matrix, find_refusal, list_names, list_pairs


def test_refusal_is_the_sentence_of_the_option() -> None:
    assert find_refusal(method="full", optim="adamw", precision="bf16") is None
    said = find_refusal(method="lora", optim="galore")
    assert said.startswith("optim=galore cannot be used with method=lora")


def test_automatic_compute_type_makes_no_pairs() -> None:
    assert "auto" in list_options("precision")
    assert "auto" not in list_names("precision")
    assert list_names("optim") == list(list_options("optim"))


def test_every_pair_is_asked_once() -> None:
    found = [frozenset(pair.items()) for pair, _ in list_pairs()]
    assert len(GROUPS) == 3
    assert comb(3, 2) == 3
    sizes = [len(list_names(group)) for group in GROUPS]
    assert len(found) == len(set(found)) == sizes[0] * sizes[1] + sizes[0] * sizes[2] + sizes[1] * sizes[2]
    assert all(said == find_refusal(**pair) for pair, said in list(list_pairs())[:20])


def test_matrix_numbers_each_sentence_once() -> None:
    head, rows, sentences = build_matrix("method", "optim")
    assert head == ["", *list_options("optim")]
    cells = {(row[0], optim): cell for row in rows for optim, cell in zip(head[1:], row[1:], strict=True)}
    assert cells["lora", "adamw"] == "yes"
    number = int(re.fullmatch(r"no \((\d+)\)", cells["lora", "galore"])[1])
    # the sentence holds for the row and the column, and does not name them
    assert sentences[number - 1] == find_refusal(method="lora", optim="galore").replace(
        "optim=galore", "this optim").replace("method=lora", "this method")
    assert len(sentences) == len(set(sentences))
    assert {cell for cell in cells.values() if cell != "yes"} <= {f"no ({n + 1})" for n in range(len(sentences))}


def test_half_precision_needs_a_gpu() -> None:
    head, rows, _ = build_matrix("method", "precision")
    column = head.index("fp16")
    assert {row[column] for row in rows if not row[column].startswith("no")} == {"GPU"}
    assert compatibility.STAYS["method"] == "full"
