"""The parts of a plan that another plan can use again, and what each of them depends on.

`plan` and `train` make every part anew. A process that makes one plan after the other keeps them: it passes a function
that returns a part it has already, if everything that the part depends on is the same.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from fulgurite.config.provenance import to_plain
from fulgurite.data.files import HUB, find_files
from fulgurite.data.source import Source

if TYPE_CHECKING:
    from fulgurite.data.config import Data
    from fulgurite.method.config import Method
    from fulgurite.model.config import Model
    from fulgurite.precision.policy import Dtypes
    from fulgurite.stage.config import Stage

T = TypeVar("T")
OF_SOURCE = ("path", "val_path", "format", "columns", "roles", "weights", "max_drop", "special_tokens")
"""Parameters of data that a source depends on."""
UNSHAPED = {"alpha", "dropout", "loraplus_lr_ratio", "alpha_pattern"}
"""Parameters of methods on which no shape depends."""
MOST_FILES = 5000


class Recall(Protocol):
    """Returns the part of a kind that was made for a key, or makes it."""

    def __call__(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """Returns the part; `make` makes it if it is not kept."""


def make_anew(kind: str, key: Hashable, make: Callable[[], T]) -> T:
    """Makes the part; nothing is kept."""
    return make()


class Keeper:
    """Keeps the parts of each kind that were used last."""

    def __init__(self, most: int = 8) -> None:
        self.most = most
        self._kept: dict[str, OrderedDict[Hashable, Any]] = {}

    def __call__(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """Returns the part; `make` makes it if it is not kept. What raises is not kept."""
        kept = self._kept.setdefault(kind, OrderedDict())
        if key not in kept:
            kept[key] = make()
            while len(kept) > self.most:
                kept.popitem(last=False)
        # The order is that of use: the first entry is the one that was not used for the longest time.
        kept.move_to_end(key)
        found: T = kept[key]
        return found


def key_source(stage: str, data: Data) -> Hashable:
    """Returns what a run's source depends on: the files as they are now, and how they are read.

    Raises DataError if a file is not there.
    """
    chosen = {name: getattr(data, name, None) for name in OF_SOURCE}
    words = [word for name in ("path", "val_path") for word in chosen[name] or ()]
    local = [word for word in words if not word.startswith(HUB)]
    files = [path for group in find_files(local) for path in group] if local else []
    return stage, data.name, _dump(chosen), tuple(map(_describe_file, files))


def key_outline(stage: Stage, method: Method, model: Model, dtypes: Dtypes) -> Hashable:
    """Returns what the outline of a run's model depends on, but for the rank if `resize_adapter` can change it."""
    # No part of the key, so that another alpha or another rank uses the same outline.
    left_out = UNSHAPED | ({"rank"} if has_free_rank(method) else set())
    parts = [{name: value for name, value in to_plain(method).items() if name not in left_out}, stage.gives_rewards,
             stage.value_head, getattr(stage, "router_aux_loss_coef", None), list(map(str, asdict(dtypes).values()))]
    adapter = getattr(method, "adapter_path", None)
    return _key_model(model), _dump(parts), _describe_folder(Path(adapter).expanduser()) if adapter else ()


def key_template(model: Model, data: Data, rewards: bool) -> Hashable:
    """Returns what a chat template depends on: the tokenizer of the model, and the template's own parameters."""
    own = data.template, _dump(data.arguments()), str(data.special_tokens)
    return _key_model(model), own, rewards


def _key_model(model: Model) -> Hashable:
    folder = model.folder()
    return _dump(model), _describe_folder(folder.expanduser()) if folder is not None else ()


def has_free_rank(method: Any) -> bool:
    """Returns whether the adapter of a method has one rank, which decides the shapes of its matrices alone."""
    return (
        getattr(method, "rank", None) is not None and hasattr(method, "rank_pattern") and not method.rank_pattern
        and not method.adapter_path and str(method.init) in ("default", "gaussian")
    )


def key_tokens(source: Source, data: Data) -> Hashable:
    """Returns what the tokens of a checked source depend on beside the template."""
    from fulgurite.data.tokenized import LONG, check_source  # loads transformers

    seal = check_source(source).seal
    most = data.max_length if seal.longest >= LONG else None
    read = (source.stage, tuple(map(str, source.files)), len(source.train), tuple(source.weights), tuple(source.limits),
            tuple(map(str, source.formats)), _dump(source.columns))
    return seal.hex(), read, str(data.mask), str(data.too_long), most


def key_rows(data: Data, seed: int) -> Hashable:
    """Returns what the rows depend on beside the tokens."""
    return _dump(to_plain(data)), seed


def _dump(value: Any) -> str:
    return json.dumps(to_plain(value), sort_keys=True, default=str)


def _describe_file(path: Path) -> tuple[Any, ...]:
    state = path.stat()
    # A file that another of the same size and time replaced has another inode.
    return str(path), state.st_size, state.st_mtime_ns, state.st_ino


def _describe_folder(folder: Path) -> tuple[Any, ...]:
    return (str(folder), *islice(_walk_files(folder), MOST_FILES))


def _walk_files(folder: Path) -> Iterable[tuple[Any, ...]]:
    for inside, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(inside, name)
            try:
                yield _describe_file(path)
            except OSError:  # a broken link
                yield (str(path),)
