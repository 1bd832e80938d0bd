"""Gives a preference stage the model of `stage.reference`."""

from __future__ import annotations

from typing import Any

from fulgurite.errors import ConfigError
from fulgurite.model.config import Hf
from fulgurite.model.document_attention import is_by_documents
from fulgurite.model.document_probe import use_documents
from fulgurite.model.unwrap import unwrap_model
from fulgurite.run.load import load_named
from fulgurite.stage.preference import PreferenceModule


def take_reference(stage: PreferenceModule, tokenizer: Any) -> None:
    """Loads the model of `stage.reference`, if the run has one. Raises ConfigError if its tokenizer is another one."""
    run = stage.run
    if run.stage.reference is None:
        return
    other = load_named(Hf(path=run.stage.reference, attention=run.model.attention), stage.dtypes.frozen)
    if other.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise ConfigError(
            "stage.reference={reference} has another tokenizer than the model; take one of the same family.",
            reference=run.stage.reference,
        )
    if is_by_documents(unwrap_model(stage.model)):
        use_documents(other.model)  # as the policy, so that both round alike
    stage.take_reference(other.model)
