"""Generation configs: the fields that are left out, and those that transformers refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    GenerationConfig,
)

from fulgurite.errors import ModelError
from fulgurite.model import generation_config as generation
from fulgurite.model.generation_config import select_valid


@pytest.mark.parametrize(
    "fields", [{"max_new_tokens": "x"}, {"cache_implementation": "nope"}, {"watermarking_config": {"a": 1}}]
)
def test_a_generation_config_that_transformers_refuses_is_named(tmp_path: Path, fields: dict[str, Any]) -> None:
    GenerationConfig().save_pretrained(tmp_path)
    generation.refuse_unreadable(tmp_path)
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    with pytest.raises(
        ModelError, match=r"transformers refuses .*generation_config\.json \(.*\); correct or remove that file"
    ):
        generation.refuse_unreadable(tmp_path)


GENERATION = [
    ({"temperature": 0.6, "top_p": 0.9, "eos_token_id": 2}, {"temperature", "top_p"}),
    ({"do_sample": True, "temperature": 0.6, "top_k": 5}, set()),
    ({"num_return_sequences": 3}, {"num_return_sequences"}),
    ({"early_stopping": True, "length_penalty": 2.0}, {"early_stopping", "length_penalty"}),
    ({"num_beams": 4, "early_stopping": True}, set()),
    ({"max_new_tokens": -1, "repetition_penalty": 1.1}, {"max_new_tokens"}),
    ({"output_scores": True}, {"output_scores"}),
]


@pytest.mark.parametrize(("fields", "left_out"), GENERATION)
def test_the_largest_valid_part_of_a_generation_config_is_kept(
    fields: dict[str, Any], left_out: set[str], tmp_path: Path
) -> None:
    config = GenerationConfig()
    for name, value in fields.items():
        setattr(config, name, value)
    kept, dropped = select_valid(config)
    assert set(dropped) == left_out
    kept.pad_token_id = 0  # changed, so that transformers saves it under its strict rules
    kept.save_pretrained(tmp_path)
    again = json.loads((tmp_path / "generation_config.json").read_text())
    assert {name: again[name] for name in fields.keys() - left_out} == {name: fields[name]
        for name in fields.keys() - left_out}


def test_a_model_without_a_generation_config_has_nothing_to_leave_out(tmp_path: Path) -> None:
    kept, dropped = generation.select_valid(None)
    assert (kept.to_diff_dict().keys() - {"transformers_version"}, dropped) == (set(), {})
    assert generation.find_invalid_fields(str(tmp_path)) == {}
    generation.refuse_unreadable(tmp_path)


def test_invalid_fields_of_a_folder_are_returned_with_their_values_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fields = {"temperature": 0.6, "eos_token_id": 2}
    (tmp_path / "generation_config.json").write_text(json.dumps(fields))
    assert generation.find_invalid_fields(str(tmp_path)) == {"temperature": 0.6}
    assert caplog.text == ""
