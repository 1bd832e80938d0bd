"""Refuses a model, adapter or tokenizer folder that is unsafe to load: it may contain data only, nothing outside it,
and code only if it is pinned.

transformers reads a pickle that an index names, and peft one beside the adapter's config, whatever their callers
request; both follow names and links out of the folder. So every folder is checked here first, and a hub repository
is downloaded before it is loaded.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from fulgurite.errors import ModelError, is_shortage
from fulgurite.files.json import read_json
from fulgurite.language.library_errors import translate_error, translate_system_error
from fulgurite.language.message import UserMessage, message
from fulgurite.model.validate import check_folder, read_checked

COMMIT = re.compile(r"[0-9a-f]{40}")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".msgpack", ".h5")
"""Endings of weight files that can run code if they are read, or that another framework reads."""
SMALL = ["*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
"""The files of a hub repository that are downloaded before its weights: config, tokenizer, template."""
MERGED = frozenset(
    (
        "LORA",
        "ADALORA",
        "IA3",
        "OFT",
        "BOFT",
        "VERA",
        "PVERA",
        "LOHA",
        "LOKR",
        "HRA",
        "HIRA",
        "LN_TUNING",
        "FOURIERFT",
        "RANDLORA",
        "C3A",
        "MISS",
        "SHIRA",
        "VBLORA",
        "TRAINABLE_TOKENS",
        "ROAD",
        "WAVEFT",
        "DELORA",
        "GRALORA",
        "TINYLORA",
        "PSOFT",
        "OSF",
        "UNILORA",
        "BEFT",
    )
)
"""Kinds of adapters that can be merged into the weights. The others load a tokenizer or more adapters that their
config names."""
KERNEL = re.compile(r"(attn|attention|experts)_implementation")
SHA = "sha256:"
SHARDS = ".safetensors.index.json"


def describe_missing_safetensors(path: str | Path) -> UserMessage:
    """Returns the refusal of a model without safetensors."""
    return message(
        "{path} has no safetensors; a pickle (.bin, .pt) can run code and is not read: convert it with transformers "
        "first.",
        path=path,
    )


def describe_unreachable(path: str | Path, reason: str) -> UserMessage:
    """Returns the refusal of a name that is no folder and that the hub does not give."""
    return message(
        "{path} is not a local folder, and the hub cannot be reached or does not have it; give model.path=<folder>, or "
        "download it first ({reason}).",
        path=path, reason=reason,
    )


def locate(path: str | Path, revision: str | None = None, code: bool = False, weights: bool = True) -> Path:
    """Returns the checked folder of a local path or hub id; a hub repository is downloaded into the cache.

    With `code` the folder's Python may run: `revision` then pins it, a commit for a hub id and a hash for a folder.
    Without `weights` only small files are downloaded. Raises ModelError.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        if code:
            _check_hash(folder, revision)
        check_folder(folder)
        refuse_unsafe(folder)
        return folder
    if revision and revision.startswith(SHA):
        raise ModelError(
            "model.revision={revision}... pins the code of a folder, and {path} is not a folder; give the commit of "
            "the hub.",
            revision=revision[:20], path=path,
        )
    if code and not (revision and COMMIT.fullmatch(revision)):
        raise ModelError(
            "model.trust_remote_code=true needs model.revision=<full commit of 40 digits>: a branch can change."
        )
    return _download(str(path), revision, code, weights)


def refuse_unsafe(folder: Path) -> None:
    """Raises ModelError if a file in a model folder is a pickle that would be read, links outside, or names code in its
    config."""
    entries = _entries(folder)
    for entry in entries:
        _refuse_link(folder, entry)
        if entry.name.endswith(SHARDS):
            list_index_files(entry)
    pickled = [
        entry for entry in entries if entry.suffix in PICKLES and entry.name.startswith(("pytorch_model", "model"))
    ]
    if pickled and not any(entry.name.endswith((".safetensors", SHARDS)) for entry in entries):
        raise ModelError(_describe_pickle(pickled[0]))
    if (folder / "config.json").is_file():
        _check_config(folder / "config.json")


def check_adapter(folder: Path) -> dict[str, Any]:
    """Returns the adapter_config.json of a folder that is safe to load. Raises ModelError if it is not."""
    check_folder(folder)
    config = read_checked(folder / "adapter_config.json")
    for entry in _entries(folder):
        _refuse_link(folder, entry)
    kind = str(config.get("peft_type")).upper()
    if kind not in MERGED:
        raise ModelError(
            "{folder} is an adapter of the type {kind!r}, which cannot be merged into a model; give a LoRA adapter.",
            folder=folder, kind=kind,
        )
    if config.get("megatron_config"):
        raise ModelError(
            "{folder}/adapter_config.json has megatron_config, which names a module to import; set it to null.",
            folder=folder,
        )
    if not (folder / "adapter_model.safetensors").is_file():
        pickled = [
            entry for entry in _entries(folder) if entry.suffix in PICKLES and entry.name.startswith("adapter_model")
        ]
        if pickled:
            raise ModelError(_describe_pickle(pickled[0]))
        raise ModelError("{folder} has no adapter_model.safetensors; export the adapter again.", folder=folder)
    return config


def list_index_files(index: Path) -> set[str]:
    """Returns the weight files that an index names. Raises ModelError if one is not a safetensors file of the same
    folder."""
    found = _read(index)
    named = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise ModelError("{index} has no weight_map from names to files; save the model again.", index=index)
    for name in sorted(set(named.values())):
        if not _is_plain(name):
            raise ModelError(
                "{index} names the weight file {name}, which is outside its folder; save the model again.",
                index=index, name=name,
            )
        if not name.endswith(".safetensors"):
            raise ModelError(_describe_pickle(index.with_name(name)))
    return set(named.values())


def compute_code_hash(folder: Path) -> str:
    """Returns `sha256:` and the hash of every Python file in the folder, with which `model.revision` pins its code."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        # Name and length before each content: moving text from one file to another changes the hash.
        found.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        found.update(content)
    return SHA + found.hexdigest()


def describe_how_to_allow(path: str | Path) -> str:
    """Returns the overrides that let the code of `path` run, to type after reading the code."""
    folder = Path(path).expanduser()
    pin = compute_code_hash(folder) if folder.is_dir() else "<full commit of 40 digits>"
    return f"model.trust_remote_code=true model.revision={pin}"


def refuse_incomplete(path: str | Path, info: dict[str, Any]) -> None:
    """Raises ModelError if weights were missing, unknown or of another shape: missing weights would be random.

    `info` is transformers' loading info, which leaves out tied weights and those that a class declares to ignore.
    """
    missing, strange = sorted(info.get("missing_keys") or ()), sorted(info.get("unexpected_keys") or ())
    strange = [name for name in strange if not BUFFERS.search(name)]
    other = sorted(str(entry[0]) for entry in info.get("mismatched_keys") or ())
    if not (missing or strange or other):
        return
    faults = UserMessage()
    if missing:
        faults = message(" Missing: {names}.", names=_list_first(missing))
    if strange and any(HEADS.search(name) for name in strange):
        faults = message(
            "{before} Unknown to the architecture (the head of a classifier or reward model): {names}.",
            before=faults, names=_list_first(strange),
        )
    elif strange:
        faults = message("{before} Unknown to the architecture: {names}.", before=faults, names=_list_first(strange))
    if other:
        faults = message("{before} Of another shape: {names}.", before=faults, names=_list_first(other))
    raise ModelError(
        "The weights of {path} do not fit its config.json.{faults} Missing weights would be random, and unknown "
        "weights "
        "would be lost: correct the weight files, or give the config.json that belongs to them.",
        path=path, faults=faults,
    )


def _list_first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f", ... (+{len(names) - 3})" if len(names) > 3 else "")


BUFFERS = re.compile(r"(rotary_emb\.inv_freq|position_ids|\.attn\.(masked_)?bias|attention\.(masked_)?bias)$")
"""Buffers that earlier versions of transformers saved and that are computed now."""
HEADS = re.compile(r"(^|\.)(score|classifier|v_head|value_head)\b")


def _check_hash(folder: Path, revision: str | None) -> None:
    """Raises ModelError if `revision` is not the hash of the folder's code, or the code is of another repository."""
    pin = compute_code_hash(folder)
    if revision != pin:
        if revision:
            raise ModelError(
                "model.revision={revision} is not the hash of the Python code in {folder}; read the code, then set "
                "model.revision={pin}",
                revision=revision, folder=folder, pin=pin,
            )
        raise ModelError(
            "model.trust_remote_code=true needs the hash of the Python code in {folder}; read the code, then set "
            "model.revision={pin}",
            folder=folder, pin=pin,
        )
    _refuse_foreign_code(folder)


def _refuse_foreign_code(folder: Path) -> None:
    """Raises ModelError if an auto_map names the code of another repository, which the revision does not pin."""
    for entry in _entries(folder):
        if entry.suffix != ".json" or entry.name.endswith(".index.json") or entry.stat().st_size > 1 << 24:
            continue
        for key, value in _pairs(_read(entry)):
            if key == "auto_map" and "--" in json.dumps(value):
                raise ModelError(
                    "{entry} uses code of another repository ({names}); put that code into {folder}.",
                    entry=entry, names=json.dumps(value)[:80], folder=folder,
                )


def _check_config(path: Path) -> None:
    """Raises ModelError if a config.json names compiled code of a repository, or weights that are not a safetensors
    file beside it."""
    for key, value in _pairs(_read(path)):
        if KERNEL.search(key) and isinstance(value, str) and ("/" in value or ":" in value):
            raise ModelError(
                "{path} requests compiled code of another repository with {key}={value}; remove that key.",
                path=path, key=key, value=value,
            )
        if (
            key == "transformers_weights"
            and value is not None
            and not (_is_plain(value) and value.endswith((".safetensors", SHARDS)))
        ):
            raise ModelError(
                "{path} has transformers_weights={value}, which is not a safetensors file of its folder; remove that "
                "key.",
                path=path, value=value,
            )


def _is_plain(name: Any) -> bool:
    """Returns whether a name is that of a file in the same folder, on every system."""
    return (
        isinstance(name, str)
        and name not in (".", "..")
        and PurePosixPath(name).name == name == PureWindowsPath(name).name
    )


def _pairs(node: Any) -> Iterator[tuple[str, Any]]:
    """Yields every key and value of nested objects."""
    # A list in place of recursion, which a deeply nested file would exhaust.
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            yield from here.items()
            waiting += here.values()
        elif isinstance(here, list):
            waiting += here


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.is_dir())
    except OSError as error:
        raise ModelError(
            "The model folder {folder} cannot be read: {reason}.", folder=folder, reason=translate_system_error(error),
        ) from error


def _refuse_link(folder: Path, entry: Path) -> None:
    """Raises ModelError if an entry is a link out of the folder. In a hub cache the files of a snapshot are links to
    blobs."""
    if not entry.is_symlink():
        return
    home = folder.resolve()
    target = entry.resolve()
    # <cache>/models--NAME/snapshots/COMMIT/FILE is a link to <cache>/models--NAME/blobs/HASH.
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else None
    if target.parent != home and not (blobs is not None and target.parent == blobs.resolve()):
        raise ModelError(
            "{entry} is a link out of its folder, to {target}; replace it by the file.", entry=entry, target=target,
        )


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise ModelError(
            "{path} cannot be read: {reason}; save the model again.",
            path=path, reason=translate_error(error),
        ) from error


def _describe_pickle(path: Path) -> UserMessage:
    return message(
        "{path} is a pickle, not safetensors: it can run code and is not read; convert it with transformers first.",
        path=path,
    )


def _download(name: str, revision: str | None, code: bool, weights: bool) -> Path:
    """Returns the folder in the hub cache, downloaded if it is not there: first small files, then the weights that they
    name."""
    from huggingface_hub import snapshot_download

    try:
        # Small files first: a repository that is refused costs no download of weights.
        wanted = [*SMALL, "*.py"] if code else SMALL
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted, ignore_patterns=["*/*"]))
        # The cache names a snapshot's folder by its commit; a branch may have a name of 40 digits.
        if revision and COMMIT.fullmatch(revision) and folder.name != revision:
            raise ModelError(
                "model.revision={revision} is not a commit of {name}, whose commit is {commit}; give the commit "
                "itself.",
                revision=revision, name=name, commit=folder.name,
            )
        if weights:
            index = folder / "model.safetensors.index.json"
            files = sorted(list_index_files(index)) if index.is_file() else ["model.safetensors"]
            # By the commit of the first download, because the branch may have moved since.
            folder = Path(snapshot_download(name, revision=folder.name, allow_patterns=files))
    except ModelError:
        raise
    except Exception as error:  # the hub's client, its transport and its cache have many
        if is_shortage(error):
            raise
        # the first sentence: what follows is how to change the hub's client
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise ModelError(describe_unreachable(name, reason[:400])) from error
    check_folder(folder)
    refuse_unsafe(folder)
    if code:
        _refuse_foreign_code(folder)
    if weights and not any(entry.name.endswith(".safetensors") for entry in _entries(folder)):
        raise ModelError(describe_missing_safetensors(name))
    return folder
