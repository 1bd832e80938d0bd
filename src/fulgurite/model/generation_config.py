"""Generation configs that transformers accepts: fields of a base's config that contradict others are left out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from fulgurite.errors import ModelError
from fulgurite.language.library_errors import translate_error

FILE = "generation_config.json"
FIRST = ("do_sample", "num_beams", "return_dict_in_generate")
"""Fields that decide whether others have a meaning."""
logger = logging.getLogger("transformers.generation.configuration_utils")


def select_valid(config: GenerationConfig | None) -> tuple[GenerationConfig, dict[str, Any]]:
    """Returns the largest part of `config` that transformers would save, and the fields that were left out with their
    values.

    Fields are added one by one to an empty config, and one that makes it invalid is left out. A temperature without
    do_sample changes nothing at inference, so that the model answers as before.
    """
    given = {
        k: v
        for k, v in (config.to_diff_dict() if config is not None else {}).items()
        if k != "transformers_version" and k[0] != "_"
    }
    kept = GenerationConfig()
    dropped: dict[str, Any] = {}
    with _quiet():
        for name in sorted(given, key=lambda name: name not in FIRST):
            before = getattr(kept, name, None)
            setattr(kept, name, given[name])
            try:
                kept.validate(strict=True)
            except (ValueError, TypeError, AttributeError):
                setattr(kept, name, before)
                dropped[name] = given[name]
    return kept, dropped


def find_invalid_fields(path: str, revision: str | None = None) -> dict[str, Any]:
    """Returns the fields of a model's generation_config.json that an export leaves out; none if there is no such file.
    """
    with _quiet():
        try:
            found = GenerationConfig.from_pretrained(path, revision=revision)
        except (OSError, ValueError, TypeError):
            return {}
    return select_valid(found)[1]


def refuse_unreadable(folder: Path) -> None:
    """Raises ModelError if a model folder has a generation_config.json that transformers refuses."""
    if not (folder / FILE).is_file():
        return
    with _quiet():
        try:
            GenerationConfig.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # of every type, whatever a field holds
            raise ModelError(
                "transformers refuses {file} ({reason}); correct or remove that file.",
                file=folder / FILE, reason=translate_error(error, 300),
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides transformers' own warnings: each field that is tried would warn."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
