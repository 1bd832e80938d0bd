"""A run's model without its weights, kept on the disk.

The numbers of a model take transformers' and peft's model code to compute, whose import is half the time of a plan.
Those of a bundled model depend on the config and on the versions alone, so they are computed once. A model of a folder
or of the hub is built anew each time: its files can change, and they are checked each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import json
import math
import os
import re
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fulgurite.config.provenance import to_plain
from fulgurite.config.run import RunConfig
from fulgurite.data.cache import find_cache_root
from fulgurite.files.atomic import write_file
from fulgurite.model.tokenizer_check import mend_padding
from fulgurite.plan.context import ModelFacts, Weights
from fulgurite.plan.recall import has_free_rank

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fulgurite.method.config import Method
    from fulgurite.model.config import Model
    from fulgurite.precision.policy import Dtypes
    from fulgurite.stage.config import Stage

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers")
"""Their versions are part of the key."""
RANK_FIRST = re.compile(r"\.lora_(embedding_)?A\.|\.lora_embedding_A$")
RANK_LAST = re.compile(r"\.lora_(embedding_)?B\.|\.lora_embedding_B$")
"""The two matrices of LoRA by name; the rank is the first side of one and the last of the other."""
PACKAGE = Path(__file__).resolve().parents[1]
DECIDING = ("method", "model", "plan", "precision", "run", "stage")
"""The packages whose code decides about an outline: an edit there makes it anew."""
KEPT = 200
"""Outlines that stay in the cache, some 30 kB each. Those of earlier versions and rare configs go first."""


@dataclass(slots=True)
class Outline:
    """What a plan knows of a model: its tokenizer, its longest input in tokens, and its numbers."""

    tokenizer: PreTrainedTokenizerBase
    length: int
    facts: ModelFacts


def read_outline(run: RunConfig, dtypes: Dtypes) -> Outline:
    """Returns the outline of the model that trains, from the cache if it is there.

    Raises ModelError and ConfigError as loading does: what raised was not kept.
    """
    path = _find_entry(run.model, run.method, run.stage, dtypes)
    if path is not None and (kept := _read(path, run.model)) is not None:
        return kept
    from fulgurite.method.peft_import import import_peft

    import_peft()
    from fulgurite.plan.meta_model import outline_model

    loaded, facts = outline_model(run, dtypes)
    if path is not None:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time alone
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, json.dumps({"length": loaded.length, "facts": asdict(facts)}))
            _drop_oldest(path.parent)
    return Outline(loaded.tokenizer, loaded.length, facts)


def resize_adapter(facts: ModelFacts, method: Method) -> ModelFacts:
    """Returns a copy of the numbers for the rank of a method; those of an outline may be of another rank.

    Building a model with its adapter takes seconds, and the rank decides one side of each matrix alone.
    """
    rank = int(getattr(method, "rank", None) or 0)
    sides = [t.shape[side] for t in facts.tensors if (side := _find_rank_side(t)) is not None]
    if not has_free_rank(method) or all(side == rank for side in sides):
        return replace(facts)
    tensors = [_resize(tensor, rank) for tensor in facts.tensors]
    return replace(
        facts, tensors=tensors, parameters=sum(math.prod(t.shape) for t in tensors),
        trained=sum(math.prod(t.shape) for t in tensors if t.trained),
    )


def _find_rank_side(tensor: Weights) -> int | None:
    """Returns which side of a matrix of LoRA is the rank; None for another tensor."""
    if tensor.kind != "adapter" or len(tensor.shape) != 2:
        return None
    return 0 if RANK_FIRST.search(tensor.name) else 1 if RANK_LAST.search(tensor.name) else None


def _resize(tensor: Weights, rank: int) -> Weights:
    side = _find_rank_side(tensor)
    if side is None:
        return tensor
    # The bytes of one unit of rank are a whole number, because the other side of the matrix stays.
    shape = (rank, tensor.shape[1]) if side == 0 else (tensor.shape[0], rank)
    return replace(tensor, shape=shape, bytes=tensor.bytes // tensor.shape[side] * rank)


def _find_entry(model: Model, method: Method, stage: Stage, dtypes: Dtypes) -> Path | None:
    """The file of a run's outline in the cache; None if it depends on more than the config and the versions."""
    # The code of a plugin's option is in no key: an edit there would meet an old outline.
    ours = all(type(option).__module__.startswith("fulgurite.") for option in (model, method, stage))
    reads_files = model.add_tokens or getattr(method, "adapter_path", None)
    if not (model.tokenizes and ours) or reads_files:
        return None
    parts = [
        to_plain(model), to_plain(method), [str(part) for part in asdict(dtypes).values()],
        [stage.gives_rewards, stage.value_head, getattr(stage, "router_aux_loss_coef", None)],
        _list_versions(),
    ]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
    return find_cache_root() / "outlines" / f"{digest[:32]}.json"


def _drop_oldest(folder: Path) -> None:
    """Removes the outlines beyond the newest KEPT. Another process may remove the same ones."""
    ages = sorted(((path.stat().st_mtime_ns, path) for path in folder.glob("*.json")), reverse=True)
    for _, path in ages[KEPT:]:
        path.unlink(missing_ok=True)


@cache
def _list_versions() -> list[str]:
    """The versions of the libraries and of our own code, by the times of its files."""
    found = []
    for library in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{library} {importlib.metadata.version(library)}")
    for package in DECIDING:
        for folder, _, names in sorted(os.walk(PACKAGE / package)):
            changed = [(n, os.stat(os.path.join(folder, n)).st_mtime_ns) for n in sorted(names) if n.endswith(".py")]
            found.append(f"{os.path.relpath(folder, PACKAGE)} {changed}")
    return found


def _read(path: Path, model: Model) -> Outline | None:
    """The outline in a file of the cache; None if there is none, or none that this version can read."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        facts = ModelFacts(**stored["facts"])
        # asdict made dicts of the tensors, and JSON lists of their shapes.
        facts.tensors = [Weights(**tensor | {"shape": tuple(tensor["shape"])}) for tensor in stored["facts"]["tensors"]]
        length = int(stored["length"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    # A model declares the function that makes its tokenizer as `module:function`.
    module, _, name = model.tokenizes.partition(":")
    tokenizer: Any = getattr(importlib.import_module(module), name)(model)
    if tokenizer is None:
        return None
    mend_padding(tokenizer, facts.vocab)  # its sentence is among the notes of the facts
    return Outline(tokenizer, length, facts)
