"""The implementation of attention: the asked one, or eager if the architecture has no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.model.folders import load_folder, outline_folder
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
)

from fulgurite.model.attention import is_unsupported, with_attention


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_is_what_was_asked_for(folder: Path, attention: str) -> None:
    assert load_folder(folder, attention=attention).model.config._attn_implementation == attention


@pytest.fixture
def gemma2(folder: Path, tmp_path: Path) -> Path:
    """A model that transformers has no sdpa attention for, with tiny's tokenizer."""
    shape = Gemma2Config(
        vocab_size=512, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )
    Gemma2ForCausalLM(shape).save_pretrained(tmp_path / "g")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "g")
    return tmp_path / "g"


def test_attention_falls_back_to_eager_if_the_architecture_has_no_other(gemma2: Path, folder: Path) -> None:
    found = load_folder(gemma2)
    assert (found.attention, found.model.config._attn_implementation) == ("eager", "eager")
    assert outline_folder(gemma2)[1].attention == "eager"
    assert outline_folder(folder)[1].attention == "sdpa"


def test_eager_stands_in_only_if_the_implementation_was_refused() -> None:
    asked: list[str] = []

    def build_unless(kind: str, error: Exception) -> str:
        asked.append(kind)
        if kind != "eager":
            raise error
        return f"a model with {kind}"

    unsupported = ValueError("Gemma does not support an attention implementation through sdpa yet")
    assert with_attention(lambda kind: build_unless(kind, unsupported), "sdpa") == ("a model with eager", "eager")
    assert asked == ["sdpa", "eager"]
    assert with_attention(lambda kind: build_unless(kind, unsupported), "eager") == ("a model with eager", "eager")
    assert with_attention(lambda kind: kind, "sdpa") == ("sdpa", "sdpa")
    other = ValueError("hidden_size is not a multiple of num_attention_heads")
    with pytest.raises(ValueError, match="not a multiple"):
        with_attention(lambda kind: build_unless(kind, other), "sdpa")


@pytest.mark.parametrize(("text", "refused"), [
    ("`attn_implementation='flash'` is not supported", True), ("no attention implementation sdpa", True),
    ("the attention mask has another size", False), ("", False),
])
def test_a_refusal_of_attention_is_recognised_by_its_words(text: str, refused: bool) -> None:
    assert is_unsupported(ImportError(text)) == refused


def test_an_error_of_eager_itself_is_raised() -> None:
    def fail(kind: str) -> str:
        raise ValueError("no attention implementation at all")

    with pytest.raises(ValueError, match="at all"):
        with_attention(fail, "eager")
