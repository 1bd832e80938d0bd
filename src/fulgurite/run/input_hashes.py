"""Hashes of the inputs of a run that are not in its folder: weights, tokenizer, reference, adapter, rewards.

A resumed run compares them (`checkpoint/resume.py`), so that a changed model folder or reward file is noticed. A file
is read once per process: 500 MB of weights take about half a second. Training does not use `generation_config.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from fulgurite.checkpoint.loop import KEY
from fulgurite.checkpoint.resume import comparable
from fulgurite.config.stored import rebuild_run
from fulgurite.errors import FulguriteError
from fulgurite.files.json import read_object
from fulgurite.files.manifest import MANIFEST, hash_file
from fulgurite.method.config import Method
from fulgurite.model.config import Hf, Model
from fulgurite.run.folder import read_config
from fulgurite.run.sources import choose_checkpoint, hash_start, is_run, read_adapter_base
from fulgurite.stage.config import Stage
from fulgurite.stage.reward_functions import GROUP

UNREAD = ("transformers_version", "_name_or_path", "dtype", "torch_dtype")
"""Keys of config.json that change when a model is saved again, without changing its results."""
TOKENIZER = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template*",
)
UNDER = ("weights", "model_config", "tokenizer", "adapter", "start")
"""The inputs of a trained model, by their names in a checkpoint."""
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")


def hash_inputs(model: Model, method: Method, stage: Stage) -> dict[str, str]:
    """Returns a hash by name for each input that consists of files; an input that cannot be found has none."""
    found = _hash_model_inputs(model, method)
    if (reference := getattr(stage, "reference", None)) is not None:
        found["reference"] = _join_hashes(_hash_model(Hf(path=reference)).values())
    if rewards := getattr(stage, "reward", None):
        found["reward"] = _join_hashes(part for word in rewards for part in _hash_reward(word))
    return {name: value for name, value in found.items() if value}


def read_identity(checkpoint: Path) -> dict[str, Any]:
    """Returns the hashes that a checkpoint was written with: of `data`, and of the inputs; empty if it has none."""
    stored: Any = read_object(checkpoint / "state.json")
    for key in ("state", KEY, "identity"):
        stored = stored.get(key) if isinstance(stored, dict) else None
    return stored if isinstance(stored, dict) else {}


def find_changed_inputs(checkpoint: Path, model: Model, method: Method) -> list[str]:
    """Returns the inputs of a checkpoint's model that have changed since training; a fully trained model has all its
    weights in the checkpoint."""
    # An input that only one side has hashed is unknown, not changed.
    then, now = comparable(read_identity(checkpoint), _hash_model_inputs(model, method) | hash_start(model))
    if "start" not in then:
        now.pop("start", None)
    own = ("weights", "adapter", "start") if method.whole else ()
    return [name for name in UNDER if then.get(name) != now.get(name) and name not in own]


def _hash_model_inputs(model: Model, method: Method) -> dict[str, str]:
    found = _hash_model(model, checkpoint=False)  # the checkpoint of an earlier run is compared as `start` already
    if start := getattr(method, "adapter_path", None):
        found["adapter"] = _join_hashes(_hash_files(Path(start).expanduser(), ADAPTER))
    return {name: value for name, value in found.items() if value}


def _hash_model(model: Model, above: tuple[Path, ...] = (), checkpoint: bool = True) -> dict[str, str]:
    """Returns `weights`, `model_config` and `tokenizer` of a model; those of a run or an adapter include its base."""
    # A run's model can be another run or an adapter, and so on; `above` stops at a cycle.
    folder = _find_folder(model)
    if folder is None or folder in above:
        return {}
    above = (*above, folder)
    if is_run(folder):
        run = rebuild_run(read_config(folder))
        own = _hash_files(choose_checkpoint(folder, "best"), [MANIFEST]) if checkpoint else []
        start = getattr(run.method, "adapter_path", None)
        return _add_hashes(
            _hash_model(run.model, above), [*own, *(_hash_files(Path(start).expanduser(), ADAPTER) if start else ())]
        )
    if (folder / "adapter_config.json").is_file():
        base = _hash_model(Hf(path=read_adapter_base(folder)), above)
        return _add_hashes(base, _hash_files(folder, ADAPTER)) | _join_named(tokenizer=_hash_files(folder, TOKENIZER))
    return _join_named(
        weights=_hash_files(folder, ["*.safetensors", "*.safetensors.index.json"]),
        tokenizer=_hash_files(folder, TOKENIZER),
    ) | ({"model_config": _hash_config(folder / "config.json")} if (folder / "config.json").is_file() else {})


def _add_hashes(base: dict[str, str], own: Iterable[str]) -> dict[str, str]:
    return base | {"weights": _join_hashes([base.get("weights", ""), *own])}


def _join_named(**parts: Iterable[str]) -> dict[str, str]:
    joined = {name: _join_hashes(values) for name, values in parts.items()}
    return {name: value for name, value in joined.items() if value}


def _find_folder(model: Any) -> Path | None:
    """Returns the folder that a model is loaded from: the named one, or the hub's in the local cache."""
    folder: Path | None = model.folder()
    if folder is None:
        return None
    if folder.is_dir():
        return folder.resolve()
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        there = try_to_load_from_cache(model.path, "config.json", revision=model.revision)
    except HFValidationError:
        return None
    return Path(there).parent if isinstance(there, str) else None


def _hash_reward(word: str) -> Iterator[str]:
    """Yields the hashes of a word of stage.reward: of a file, a run or a package. Rules are part of our version."""
    # `file.py:function`: the whole file counts, because the function may call others in it.
    path = Path(word.rpartition(":")[0]).expanduser()
    if path.suffix == ".py":
        yield from _hash_files(path.parent, [path.name])
    elif Path(word).expanduser().is_dir():
        yield from _hash_model(Hf(path=word)).values()
    else:
        for entry in entry_points(group=GROUP, name=word):
            yield f"{entry.value} {entry.dist.version if entry.dist is not None else ''}"


def _hash_config(path: Path) -> str:
    try:
        found = {key: value for key, value in read_object(path).items() if key not in UNREAD}
    except (OSError, ValueError, FulguriteError):
        return ""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _hash_files(folder: Path, patterns: Iterable[str]) -> list[str]:
    """Returns name and hash of each file that matches a pattern, in the order of the names."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return [f"{path.name} {_hash_unchanged(path)}" for path in files]


def _hash_unchanged(path: Path) -> str:
    seen = os.stat(path)
    return _hash_once(str(path), seen.st_size, seen.st_mtime_ns, seen.st_ino)


@lru_cache(maxsize=4096)
def _hash_once(path: str, size: int, changed: int, inode: int) -> str:
    """Returns the hash of a file; reads it again only if its size, time or inode is different."""
    return hash_file(Path(path))


def _join_hashes(parts: Iterable[str]) -> str:
    """Returns one hash of several parts; empty if there are none."""
    found = [part for part in parts if part]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:32] if found else ""
