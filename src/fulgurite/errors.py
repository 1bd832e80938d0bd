"""The tree of exceptions: each error is one sentence with the value, the place and the remedy, and an exit status."""

from __future__ import annotations

import errno
import re
import signal
from collections.abc import Iterable, Sequence
from typing import Any

from fulgurite.foreign_names.table import find_containing, find_names, find_similar, list_candidates
from fulgurite.language.message import UserMessage, message


class FulguriteError(Exception):
    """Base of all errors that a person reads. `exit_status` is the process's.

    It is made of the template of a sentence and the facts that fill it, as `language.message` is, and is shown in the
    language that is in use then.
    """

    exit_status = 2

    def __init__(self, sentence: str | UserMessage = "", /, **facts: Any) -> None:
        self.message = sentence if isinstance(sentence, UserMessage) else UserMessage(sentence, facts)
        super().__init__(self.message)

    def __str__(self) -> str:
        return str(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message,)


class RequestError(FulguriteError):
    """The request is wrong: config, data, model folder. One line, exit 2."""


class ConfigError(RequestError):
    """A parameter or a choice is wrong."""


class DataError(RequestError):
    """A record, file or format is wrong."""


class ModelError(RequestError):
    """A model, tokenizer or adapter cannot be used as it is."""


class CheckpointError(RequestError):
    """A checkpoint is missing, damaged, or of another run."""


class TrainingFailed(FulguriteError):
    """Training cannot go on (non-finite, out of memory): a paragraph of diagnosis, exit 3."""

    exit_status = 3


class Interrupted(BaseException):
    """A signal, or a call of `sys.exit` in its place, ended the command.

    Exit 130 for Ctrl-C (SIGINT), 143 for any other signal.

    No Exception: `except Exception` around a reward function, or inside one, must not swallow it. No KeyboardInterrupt
    either, which Lightning turns into exit status 1.
    """

    STATUSES = (130, 143)
    """The exit statuses of a command that was interrupted."""

    def __init__(self, sentence: str | UserMessage = "", number: int = signal.SIGINT, /, **facts: Any) -> None:
        self.message = sentence if isinstance(sentence, UserMessage) else UserMessage(sentence, facts)
        super().__init__(self.message)
        self.number = number

    def __str__(self) -> str:
        return str(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.number)

    @classmethod
    def of(cls, status: int, sentence: str | UserMessage) -> Interrupted:
        """Returns the same from an exit status, which is all that another process hands back."""
        return cls(sentence, signal.SIGINT if status == cls.STATUSES[0] else signal.SIGTERM)

    @property
    def exit_status(self) -> int:
        """The status that a shell reports for the signal; SIGHUP and SIGUSR1 ask for the same as SIGTERM."""
        return 130 if self.number == signal.SIGINT else 143


class Pruned(FulguriteError):
    """A search has ended one of its trials, which was worse than the others. This is no failure: exit 0."""

    exit_status = 0


REMEDY = re.compile(
    r"\b(please|use|set|load|pass|remove|install|upgrade|try|instead|e\.g\.|make sure|attn_implementation)\b",
    re.IGNORECASE,
)
"""Words of a sentence that contains a remedy."""


def excerpt(error: object, most: int = 600) -> str:
    """Returns the text of another library's error on one line and in whole sentences, at most `most` characters.

    Of a longer text the first sentence and those with a remedy are kept, in their order.
    """
    text = " ".join(str(error).split())
    if len(text) <= most:
        return text
    sentences = re.split(r"(?<=[.!?:])\s+(?=[A-Z`'\"(])", text)
    order = sorted(range(len(sentences)), key=lambda n: (n > 0, not REMEDY.search(sentences[n]), n))
    kept, room = set(), most
    for number in order:
        if len(sentences[number]) < room:
            kept.add(number)
            room -= len(sentences[number]) + 1
    if 0 not in kept:  # not even the first sentence fits
        return text[: most - 2] + " …"
    return " ".join(sentences[number] for number in sorted(kept))


SHORT = ("out of memory", "can't allocate memory", "not enough memory", "Cannot allocate memory", "std::bad_alloc")
"""Words in the errors of allocators: CUDA's, torch's on a CPU, oneDNN's, the system's, C++'s."""
ALLOCATORS = (RuntimeError, OSError)
"""The classes of those errors, beside MemoryError and safetensors' own."""


def is_shortage(error: BaseException) -> bool:
    """Returns whether an error means that memory ran out. It compares words and class names, and needs no torch."""
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or getattr(error, "errno", None) == errno.ENOMEM
    ):
        return True
    known = isinstance(error, ALLOCATORS) or type(error).__name__ == "SafetensorError"
    return known and any(words in str(error) for words in SHORT)


def find_nearest(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Returns the known words that `word` may mean, best first; none if nothing is close.

    Another trainer's name for a known parameter comes first. Of a dotted name the last part counts as well,
    and of `name:value` the name.
    """
    names = sorted(set(known))
    word = word.partition(":")[0] or word
    meant = [target for entry in find_names(word) for target in entry.targets if target in names]
    if meant:
        return list(dict.fromkeys(meant))[:most]
    if found := find_similar(word, names, most):
        return found
    tails = {name.rsplit(".", 1)[-1]: name for name in reversed(names)}
    if inside := [name for name in names if name.startswith(f"{word}.")]:
        return inside[:most]
    tail = word.rsplit(".", 1)[-1]
    found = [tails[name] for name in find_similar(tail, tails, most)] or find_containing(tail, names, most)
    if found:
        return found
    # a misspelt name of another trainer
    foreign = [entry for name in find_similar(tail, list_candidates(), 1) for entry in find_names(name)]
    return list(dict.fromkeys(t for entry in foreign for t in entry.targets if t in names))[:most]


def join_or(names: Sequence[str]) -> UserMessage:
    """Returns `a`, `a or b`, `a, b or c`."""
    if len(names) < 2:
        return message("{name}", name="".join(names))
    return message("{names} or {last}", names=", ".join(names[:-1]), last=names[-1])


def suggest_similar(word: str, known: Iterable[str]) -> UserMessage:
    """Returns ` Did you mean x or y?` with a leading space; an empty message if nothing is close."""
    close = find_nearest(word, known)
    return message(" Did you mean {names}?", names=join_or(close)) if close else UserMessage()
