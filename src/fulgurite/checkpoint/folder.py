"""Checkpoint folders that are either whole or not there: written beside their place, confirmed by a manifest, renamed.

A folder holds its files and `manifest.json`, which is written last and names each file with its size and sha256.
Nothing outside the manifest is ever read. Looked at before writing this: Lightning's `_atomic_save` (not atomic where
$TMPDIR is another file system, no fsync) and the `atomicwrites` package (single files, archived); neither does folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fulgurite.errors import TrainingFailed
from fulgurite.files import PRIVATE_FILE, PRIVATE_FOLDER

MANIFEST = "manifest.json"
PARTS = ("weights.safetensors", "optimizer.safetensors", "state.safetensors", "state.json")
"""The files without which a resumed run would not be the same run."""
SLACK = 1 << 16
"""Bytes: room for headers, the manifest and the folder itself."""
_STEP = re.compile(r"step-(\d+)")


def name_of(step: int) -> str:
    """The folder's name for a checkpoint after `step` optimizer steps."""
    return f"step-{step}"


def step_of(path: Path) -> int | None:
    """The step in a folder's name, or None where the name is not a checkpoint's."""
    match = _STEP.fullmatch(path.name)
    return int(match.group(1)) if match else None


def steps(folder: Path) -> list[int]:
    """The steps of all checkpoint folders, whole or not, in ascending order."""
    found = (step_of(p) for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else ()
    return sorted(s for s in found if s is not None)


@contextlib.contextmanager
def writing(final: Path, needed: int) -> Iterator[Path]:
    """Yield a folder beside `final` to put files into; leaving the block makes it durable and puts it in its place.

    `needed` is in bytes. Raises TrainingFailed, and leaves what was there before, where the disk does not take it.
    """
    draft = final.with_name(f"{final.name}.tmp-{os.getpid()}")
    try:
        final.parent.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
        free = shutil.disk_usage(final.parent).free
        if needed + SLACK > free:
            raise _refusal(final, "the disk is too full", needed)
        draft.mkdir(PRIVATE_FOLDER)
        yield draft
        _seal(draft)
        _publish(draft, final)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise _refusal(final, error.strerror or str(error), needed) from error
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _refusal(final: Path, reason: str, needed: int) -> TrainingFailed:
    try:
        free = f"{shutil.disk_usage(final.parent).free} bytes"
    except OSError:
        free = "an unknown number of bytes"
    return TrainingFailed(
        f"{final} could not be written: {reason}; it needs {needed} bytes and {free} are free there; "
        "make room and give the same command again: the run goes on from its earlier checkpoint, which is untouched."
    )


def _seal(draft: Path) -> None:
    """Make every file durable, then write the manifest that vouches for them."""
    entries = {}
    for file in sorted(draft.iterdir()):
        file.chmod(PRIVATE_FILE)
        _sync(file)
        entries[file.name] = {"size": file.stat().st_size, "sha256": _sha256(file)}
    _write_durably(draft / MANIFEST, json.dumps({"version": 1, "files": entries}, indent=1).encode())
    _sync(draft)


def _publish(draft: Path, final: Path) -> None:
    """Put the draft in its place. A folder of that name, which only a damaged checkpoint can have, goes first."""
    if final.exists():
        retire(final)
    draft.rename(final)
    _sync(final.parent)


def _write_durably(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def problems(path: Path) -> list[str]:
    """What is wrong with a checkpoint folder, a phrase each; empty when it is whole."""
    if not path.is_dir():
        return ["it is not a folder"]
    try:
        files = _manifest_files(path / MANIFEST)
        return [problem for name, entry in files.items() for problem in _file_problems(path / name, entry)]
    except (OSError, ValueError) as error:
        return [str(error)]


def _manifest_files(path: Path) -> dict[str, dict[str, Any]]:
    """The files a manifest vouches for. Raises ValueError with a phrase where it is none."""
    if not path.is_file():
        raise ValueError(f"{path.name} is missing")
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON ({path.stat().st_size} bytes)") from error
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise ValueError(f"{path.name} lists no files")
    strange = [name for name in files if Path(name).name != name or name == MANIFEST]
    if strange:
        raise ValueError(f"{path.name} names {strange[0]!r}, which is not a file of this folder")
    lacking = [part for part in PARTS if part not in files]
    if lacking:
        raise ValueError(f"{path.name} does not list {', '.join(lacking)}")
    return files


def _file_problems(path: Path, entry: dict[str, Any]) -> Iterator[str]:
    if not path.is_file():
        yield f"{path.name} is missing"
    elif path.stat().st_size != entry.get("size"):
        yield f"{path.name} has {path.stat().st_size} bytes instead of {entry.get('size')}"
    elif _sha256(path) != entry.get("sha256"):
        yield f"{path.name} differs from its sha256"


def newest_whole(folder: Path) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The whole checkpoint with the highest step, and those above it that were skipped, with the reason."""
    skipped: list[tuple[Path, str]] = []
    for step in reversed(steps(folder)):
        path = folder / name_of(step)
        wrong = problems(path)
        if not wrong:
            return path, skipped
        skipped.append((path, "; ".join(wrong)))
    return None, skipped


def remove_stale(folder: Path) -> list[str]:
    """Remove what a killed process left half written or half deleted; returns the names. No other may be writing."""
    stale = sorted(folder.glob("*.tmp-*")) if folder.is_dir() else []
    for path in stale:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return [path.name for path in stale]


def retire(path: Path) -> None:
    """Delete a checkpoint; its name goes first, so that no half-deleted folder is ever taken for a checkpoint."""
    doomed = path.with_name(f"{path.name}.tmp-old-{os.getpid()}")
    path.rename(doomed)
    shutil.rmtree(doomed)


def link(folder: Path, last: int, best: int | None) -> None:
    """Let `best` and then `last` name the checkpoints of these steps: where `last` is right, `best` is."""
    for name, step in (("best", best), ("last", last)):
        if step is not None and (folder / name_of(step)).is_dir():
            point(folder / name, folder / name_of(step))


def point(link: Path, target: Path) -> None:
    """Make `link` a relative link to `target` in the same folder, replacing an older link in one step."""
    draft = link.with_name(f"{link.name}.tmp-{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target.name, target_is_directory=True)
    draft.replace(link)
    _sync(link.parent)
