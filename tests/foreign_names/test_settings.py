"""A setting of another trainer in words of the command line."""

from __future__ import annotations

import pytest

from fulgurite.foreign_names.settings import VALUES, find_value, quote_value, translate_setting


@pytest.mark.parametrize(("name", "value", "words"), [
    ("learning_rate", "1e-4", "optim.lr=1e-4"),
    ("lr_scheduler_type", "cosine", "scheduler=cosine"),
    ("finetuning_type", "lora", "method=lora"),
    ("bf16", "true", "precision=bf16"),
    ("bf16", "False", ""),
    ("quantization_bit", "4", "method=qlora"),
    ("quantization_bit", "8", ""),
    ("load_in_4bit", "true", "method=qlora"),
    ("freeze_trainable_layers", "2", "method=freeze method.trainable=last:2"),
    ("model_name_or_path", "meta-llama/Llama-3-8B", "model=hf model.path=meta-llama/Llama-3-8B"),
    ("lora_target", "all", ""),
    ("lora_target", "q_proj,v_proj", "method.targets=[q_proj,v_proj]"),
    ("packing", "true", "data.packing=best_fit"),
    ("optim", "adamw_torch", "optim=adamw"),
    ("optim", "paged_adamw_8bit", "optim=paged_adamw_8bit"),
    ("precision", "bf16-mixed", "precision=bf16"),
    ("precision", "16-mixed", "precision=fp16"),
    ("precision", "bf16-true", "precision=pure_bf16"),
    ("precision", "32-true", "precision=fp32"),
    ("report_to", "none", "logger=none"),
    ("adapter", "qlora", "method=qlora"),
    ("gradient_checkpointing", "True", "trainer.gradient_checkpointing=true"),
    ("学习率", "5e-5", "optim.lr=5e-5"),
    ("do_train", "true", ""),
])
def test_setting_becomes_words(name: str, value: str, words: str) -> None:
    found = translate_setting(name, value)
    assert found is not None
    assert " ".join(found.words) == words


def test_value_that_means_something_else_is_not_copied() -> None:
    found = translate_setting("gradient_accumulation_steps", "8")
    assert found is not None
    assert (found.words, found.is_copied) == (("trainer.global_batch_size",), False)
    assert found.entry.note


def test_unknown_name_is_no_setting() -> None:
    assert translate_setting("xyzzy", "1") is None


def test_words_for_values_name_options_that_exist() -> None:
    from fulgurite.config.choices import list_names
    from fulgurite.config.run import list_all_knobs
    from fulgurite.config.schema import list_groups

    known = {knob.path for knob in list_all_knobs()}
    listed = [words for values in VALUES.values() for words in values.values()]
    for word in " ".join(listed).split():
        head, _, value = word.partition("=")
        chosen = set(value.strip("[]").split(","))
        assert head in known or (head in list_groups() and chosen <= {*list_names(head)}), word


def test_value_is_found_whatever_its_case() -> None:
    assert find_value("precision", "BFloat16") == "precision=bf16"
    assert find_value("precision", "bf17") is None


def test_values_are_quoted_for_the_command_line() -> None:
    assert quote_value("True") == "true"
    assert quote_value("a,b") == "[a,b]"
    assert quote_value("my file") == "'my file'"
