"""The tokenizer of model=tiny without model code: the one that the model is loaded with."""

from __future__ import annotations

import subprocess
import sys

from tests.model.folders import load_model

from fulgurite.model.config import Tiny
from fulgurite.model.tiny_tokenizer import read_tokenizer


def test_tokenizer_is_that_of_the_model() -> None:
    config = Tiny(vocabulary=300, length=128)
    made, loaded = read_tokenizer(config), load_model(config).tokenizer
    assert made.get_vocab() == loaded.get_vocab()
    assert (len(made), made.model_max_length, made.chat_template) == (300, 128, loaded.chat_template)


def test_tokenizer_needs_no_model_code() -> None:
    code = (
        "import sys; from fulgurite.model.config import Tiny\n"
        "from fulgurite.model.tiny_tokenizer import read_tokenizer\n"
        "read_tokenizer(Tiny()); print('transformers.modeling_utils' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
