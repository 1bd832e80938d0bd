"""A tokenizer held against its model: the longest input, padding, and tokens without a row of the embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.model.folders import load_folder, outline_folder
from transformers import (
    AutoTokenizer,
    PretrainedConfig,
    RobertaConfig,
    RobertaForCausalLM,
)

from fulgurite.errors import ModelError
from fulgurite.model.tokenizer_check import find_longest_input, get_padding, mend_padding, refuse_unknown


def test_padding_without_a_row_is_replaced_and_noted(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<far>"})
    tokenizer.save_pretrained(folder)
    found = load_folder(folder)
    rows = found.model.get_input_embeddings().num_embeddings
    assert found.tokenizer.pad_token_id == found.tokenizer.eos_token_id < rows
    assert [str(note) for note in found.notes] == [
        f"The padding token '<far>' is number {rows}, and the embedding has {rows} rows: "
        f"'<|im_end|>' ({found.tokenizer.pad_token_id}) is used for padding."
    ]
    assert outline_folder(folder)[1].notes == found.notes


def test_learned_positions_bound_the_length_also_before_weights_are_loaded(folder: Path, tmp_path: Path) -> None:
    shape = RobertaConfig(
        vocab_size=512, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=66, pad_token_id=1, is_decoder=True,
    )
    RobertaForCausalLM(shape).save_pretrained(tmp_path / "r")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "r")
    assert outline_folder(tmp_path / "r")[0].length == 64


class Words:
    """A tokenizer of four words, as far as the checks ask."""

    def __init__(self, pad: int | None = None, eos: int | None = 2, longest: float = 1e30) -> None:
        self.pad_token_id, self.eos_token_id, self.unk_token_id, self.bos_token_id = pad, eos, None, 1
        self.model_max_length, self.pad_token = longest, f"<{pad}>"

    def convert_ids_to_tokens(self, number: int) -> str:
        return f"<{number}>"


@pytest.mark.parametrize(("fields", "longest", "expected"), [
    ({"max_position_embeddings": 64}, 1e30, 64), ({"max_position_embeddings": 64}, 32, 32),
    ({"max_position_embeddings": None, "n_positions": 48}, 1e30, 48),
    ({"max_position_embeddings": 64, "n_positions": 48}, 1e30, 64),  # the first that is there counts
    ({"max_position_embeddings": -1}, 100, 100),  # XLNet's word for no limit
])
def test_the_longest_input_is_the_lowest_limit(fields: dict[str, Any], longest: float, expected: int) -> None:
    config = PretrainedConfig()
    for name, value in fields.items():
        setattr(config, name, value)
    assert find_longest_input(config, Words(longest=longest)) == expected


@pytest.mark.parametrize("limit", ["64", 0, float("nan"), [64]])
def test_a_limit_that_is_no_number_of_tokens_is_refused(limit: Any) -> None:
    config = PretrainedConfig()
    config.max_position_embeddings = limit
    with pytest.raises(ModelError, match="field 'max_position_embeddings': expected a number of tokens, found"):
        find_longest_input(config, Words())


@pytest.mark.parametrize(
    ("pad", "eos", "rows", "expected"), [(3, 2, 4, 3), (4, 2, 4, 2), (None, 2, 4, 2), (None, None, 4, 1), (4, 4, 1, 0)]
)
def test_padding_is_the_first_special_token_with_a_row(
    pad: int | None, eos: int | None, rows: int, expected: int
) -> None:
    assert get_padding(Words(pad, eos), rows) == expected


def test_padding_is_changed_only_without_a_row_and_noted_only_if_there_was_one() -> None:
    good, none, far = Words(pad=3), Words(pad=None), Words(pad=9)
    assert mend_padding(good, 4) == mend_padding(none, 4) == []
    assert (good.pad_token, none.pad_token) == ("<3>", "<2>")
    [note] = mend_padding(far, 4)
    assert str(note) == (
        "The padding token '<9>' is number 9, and the embedding has 4 rows: '<2>' (2) is used for padding."
    )


def test_a_token_without_a_row_is_refused_with_the_remedy() -> None:
    refuse_unknown(Words(), 4, [0, 3, 1])
    with pytest.raises(ModelError) as caught:
        refuse_unknown(Words(), 1000, [0, 1000, 2000])
    assert str(caught.value) == (
        "The token '<1000>' is number 1000, and the model's embedding has 1,000 rows. "
        "Give it a row: model.add_tokens='[\"<1000>\"]', or use the tokenizer that the model was trained with."
    )
