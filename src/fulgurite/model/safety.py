"""Refuses a model, adapter or tokenizer folder that is unsafe to load: data only, nothing outside it, code only if
pinned.

transformers reads a pickle that an index names, and peft one beside the adapter's config, whatever their callers ask
for; both follow names and links out of the folder. So every folder passes here first, and a hub repository is
downloaded before it is loaded.
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
from fulgurite.model.validate import check_folder, read_checked

COMMIT = re.compile(r"[0-9a-f]{40}")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".msgpack", ".h5")
"""Endings of weight files that can run code when they are read, or that are read by code of another framework."""
SMALL = ["*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
"""What a hub repository is downloaded of before its weights: config, tokenizer, template."""
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
"""Kinds of adapters that become part of the weights. The others load a tokenizer or more adapters that their config
names."""
KERNEL = re.compile(r"(attn|attention|experts)_implementation")
NO_SAFETENSORS = (
    "{} has no safetensors; a pickle (.bin, .pt) can run code and is not read: convert it with transformers first."
)
SHA = "sha256:"
SHARDS = ".safetensors.index.json"


def locate(path: str | Path, revision: str | None = None, code: bool = False, weights: bool = True) -> Path:
    """The checked folder of a local path or hub id; of a hub repository what was downloaded of it.

    With `code` the folder's Python may run: `revision` then pins it, a commit for a hub id and a hash for a folder.
    Without `weights` only what is small is downloaded. Raises ModelError.
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
            f"model.revision={revision[:20]}... pins the code of a folder, and {path} is none; give the hub commit."
        )
    if code and not (revision and COMMIT.fullmatch(revision)):
        raise ModelError(
            "model.trust_remote_code=true needs model.revision=<full commit of 40 digits>: a branch can change under "
            "you."
        )
    return _download(str(path), revision, code, weights)


def refuse_unsafe(folder: Path) -> None:
    """Raise ModelError if a file in a model folder is a pickle that would be read, leads outside, or names code in
    its config."""
    entries = _entries(folder)
    for entry in entries:
        _refuse_link(folder, entry)
        if entry.name.endswith(SHARDS):
            index_files(entry)
    pickled = [
        entry for entry in entries if entry.suffix in PICKLES and entry.name.startswith(("pytorch_model", "model"))
    ]
    if pickled and not any(entry.name.endswith((".safetensors", SHARDS)) for entry in entries):
        raise ModelError(_pickle(pickled[0]))
    if (folder / "config.json").is_file():
        _check_config(folder / "config.json")


def check_adapter(folder: Path) -> dict[str, Any]:
    """The adapter_config.json of a folder that is safe to load. Raises ModelError in one sentence if it is not."""
    check_folder(folder)
    config = read_checked(folder / "adapter_config.json")
    for entry in _entries(folder):
        _refuse_link(folder, entry)
    kind = str(config.get("peft_type")).upper()
    if kind not in MERGED:
        raise ModelError(
            f"{folder} is an adapter of the kind {kind!r}, which cannot be merged into a model; give one of LoRA's "
            f"kind."
        )
    if config.get("megatron_config"):
        raise ModelError(
            f"{folder}/adapter_config.json has megatron_config, which names a module to import; set it to null."
        )
    if not (folder / "adapter_model.safetensors").is_file():
        pickled = [
            entry for entry in _entries(folder) if entry.suffix in PICKLES and entry.name.startswith("adapter_model")
        ]
        raise ModelError(
            _pickle(pickled[0]) if pickled else f"{folder} has no adapter_model.safetensors; export the adapter again."
        )
    return config


def index_files(index: Path) -> set[str]:
    """The weight files that an index names. Raises ModelError if one is no safetensors file of the same folder."""
    found = _read(index)
    named = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise ModelError(f"{index} has no weight_map from names to files; save the model again.")
    for name in sorted(set(named.values())):
        if not _is_plain(name):
            raise ModelError(
                f"{index} names the weight file {name}, which is outside its folder; save the model again."
            )
        if not name.endswith(".safetensors"):
            raise ModelError(_pickle(index.with_name(name), f" ({index.name} names it)"))
    return set(named.values())


def code_hash(folder: Path) -> str:
    """`sha256:` and the hash of every Python file under the folder: what `model.revision` pins its code with."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        found.update(content)
    return SHA + found.hexdigest()


def how_to_allow(path: str | Path) -> str:
    """The words that let the code of `path` run, which its reader types after reading it."""
    folder = Path(path).expanduser()
    pin = code_hash(folder) if folder.is_dir() else "<full commit of 40 digits>"
    return f"model.trust_remote_code=true model.revision={pin}"


def refuse_incomplete(path: str | Path, info: dict[str, Any]) -> None:
    """Raise ModelError if weights were missing, unknown or of another shape: what is missing is random.

    `info` is transformers' loading info, from which tied weights and what a class says it ignores are left out already.
    """
    missing, strange = sorted(info.get("missing_keys") or ()), sorted(info.get("unexpected_keys") or ())
    strange = [name for name in strange if not BUFFERS.search(name)]
    other = sorted(str(entry[0]) for entry in info.get("mismatched_keys") or ())
    faults = [
        f"{what} {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for what, names in (
            ("lacks", missing),
            ("has weights that its architecture has not:", strange),
            ("has another shape of", other),
        )
        if names
    ]
    if faults:
        hint = " (the head of a classifier or reward model)" if any(HEADS.search(name) for name in strange) else ""
        raise ModelError(
            f"{path} {'; '.join(faults)}{hint}: what is missing would be random, and what is not known would be lost; "
            "mend the weight files, or give the config.json that belongs to them."
        )


BUFFERS = re.compile(r"(rotary_emb\.inv_freq|position_ids|\.attn\.(masked_)?bias|attention\.(masked_)?bias)$")
"""Buffers that earlier versions of transformers saved and that are computed now."""
HEADS = re.compile(r"(^|\.)(score|classifier|v_head|value_head)\b")


def _check_hash(folder: Path, revision: str | None) -> None:
    """Raise ModelError if `revision` is not the hash of the folder's code, or the code is of another repository."""
    pin = code_hash(folder)
    if revision != pin:
        said = f"model.revision={revision} is not" if revision else "model.trust_remote_code=true needs"
        raise ModelError(
            f"{said} the hash of the Python code in {folder}, which pins what you have read: model.revision={pin}"
        )
    _refuse_foreign_code(folder)


def _refuse_foreign_code(folder: Path) -> None:
    """Raise ModelError if an auto_map names the code of another repository: the pin is not that repository's."""
    for entry in _entries(folder):
        if entry.suffix != ".json" or entry.name.endswith(".index.json") or entry.stat().st_size > 1 << 24:
            continue
        for key, value in _pairs(_read(entry)):
            if key == "auto_map" and "--" in json.dumps(value):
                raise ModelError(
                    f"{entry} takes its code from another repository ({json.dumps(value)[:80]}); put that code into "
                    f"{folder}."
                )


def _check_config(path: Path) -> None:
    """Raise ModelError if a config.json names compiled code of a repository, or weights that are no safetensors file
    beside it."""
    for key, value in _pairs(_read(path)):
        if KERNEL.search(key) and isinstance(value, str) and ("/" in value or ":" in value):
            raise ModelError(
                f"{path} asks with {key}={value} for compiled code of another repository; remove that key."
            )
        if (
            key == "transformers_weights"
            and value is not None
            and not (_is_plain(value) and value.endswith((".safetensors", SHARDS)))
        ):
            raise ModelError(
                f"{path} has transformers_weights={value}, which is no safetensors file of its folder; remove that key."
            )


def _is_plain(name: Any) -> bool:
    """Whether a name is that of a file in the same folder, on every system."""
    return (
        isinstance(name, str)
        and name not in (".", "..")
        and PurePosixPath(name).name == name == PureWindowsPath(name).name
    )


def _pairs(node: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of nested objects."""
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
        raise ModelError(f"{folder} cannot be read: {error.strerror}.") from error


def _refuse_link(folder: Path, entry: Path) -> None:
    """Raise ModelError if an entry is a link out of the folder. In a hub cache a snapshot's files are links to
    blobs."""
    if not entry.is_symlink():
        return
    home = folder.resolve()
    target = entry.resolve()
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else None
    if target.parent != home and not (blobs is not None and target.parent == blobs.resolve()):
        raise ModelError(f"{entry} is a link out of its folder, to {target}; put the file itself there.")


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read: {' '.join(str(error).split())[:200]}; save the model again."
        ) from error


def _pickle(path: Path, where: str = "") -> str:
    return (
        f"{path}{where} is a pickle, no safetensors: it can run code and is not read; convert it with transformers "
        f"first."
    )


def _download(name: str, revision: str | None, code: bool, weights: bool) -> Path:
    """The folder in the hub cache, downloaded if it is not there: first what is small, then the weights that it
    names."""
    from huggingface_hub import snapshot_download

    try:
        wanted = [*SMALL, "*.py"] if code else SMALL
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted, ignore_patterns=["*/*"]))
        if revision and COMMIT.fullmatch(revision) and folder.name != revision:
            raise ModelError(
                f"model.revision={revision} is not a commit of {name}, which has {folder.name}; give the commit itself."
            )
        if weights:
            index = folder / "model.safetensors.index.json"
            files = sorted(index_files(index)) if index.is_file() else ["model.safetensors"]
            folder = Path(snapshot_download(name, revision=folder.name, allow_patterns=files))
    except ModelError:
        raise
    except Exception as error:  # the hub's client, its transport and its cache have many
        if is_shortage(error):
            raise
        said = " ".join(str(error).split())
        raise ModelError(
            f"{name} is neither a folder here nor reachable on the hub; give model.path=<folder>, or download it "
            f"first ({said[:120]})."
        ) from error
    check_folder(folder)
    refuse_unsafe(folder)
    if code:
        _refuse_foreign_code(folder)
    if weights and not any(entry.name.endswith(".safetensors") for entry in _entries(folder)):
        raise ModelError(NO_SAFETENSORS.format(name))
    return folder
