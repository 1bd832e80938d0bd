"""One foreign name: what its words name, and how its spelling is compared."""

from __future__ import annotations

from fulgurite.foreign_names.entry import ForeignName, build_names, normalize_name
from fulgurite.language.message import message


def test_targets_are_the_parameters_groups_and_options_of_the_words() -> None:
    assert ForeignName("x", "o", "optim.lr").targets == ("optim.lr",)
    assert ForeignName("x", "o", "method").targets == ("method",)
    assert ForeignName("x", "o", "method=freeze method.trainable=last:{value}").targets == (
        "method=freeze", "method.trainable",
    )
    assert ForeignName("x", "o", "").targets == ()


def test_switch_is_a_name_whose_words_have_a_fixed_value() -> None:
    assert ForeignName("x", "o", "method=qlora").is_switch
    assert not ForeignName("x", "o", "optim.lr").is_switch
    assert not ForeignName("x", "o", "model=hf model.path={value}").is_switch


def test_names_with_a_note_alone_have_no_words() -> None:
    plain, noted = build_names("o", {"a": "optim.lr"}, notes={"b": message("Not needed.")}, computed=["a"])
    assert (plain.name, plain.words, plain.carries) == ("a", "optim.lr", False)
    assert (noted.name, noted.words, str(noted.note)) == ("b", "", "Not needed.")


def test_spelling_of_a_name_does_not_matter() -> None:
    assert {normalize_name(word) for word in ("LoRA 秩", "lora_秩", "LoRA秩", "ＬｏＲＡ秩")} == {"lora秩"}
    assert normalize_name("learning-rate") == normalize_name("Learning rate") == "learningrate"
