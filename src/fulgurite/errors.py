"""The exception tree: each error is one sentence with the value, the place and the remedy, and knows its exit status.
"""

from __future__ import annotations

import difflib
import errno
import re
import signal
from collections.abc import Iterable
from typing import Any

from fulgurite.language.message import UserMessage


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
    """A knob or a choice is wrong."""


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
    """Every exit status that says that a command was interrupted."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number

    @classmethod
    def of(cls, status: int, message: str) -> Interrupted:
        """The same from an exit status, which is all that another process hands back."""
        return cls(message, signal.SIGINT if status == cls.STATUSES[0] else signal.SIGTERM)

    @property
    def exit_status(self) -> int:
        """What a shell reports for the signal; SIGHUP and SIGUSR1 ask for the same as SIGTERM."""
        return 130 if self.number == signal.SIGINT else 143


class Pruned(FulguriteError):
    """A search has ended one of its trials, which was worse than the others. No fault: exit 0."""

    exit_status = 0


REMEDY = re.compile(
    r"\b(please|use|set|load|pass|remove|install|upgrade|try|instead|e\.g\.|make sure|attn_implementation)\b",
    re.IGNORECASE,
)
"""Words of a sentence that says what to do."""


def excerpt(error: object, most: int = 600) -> str:
    """What another library says, on one line and in whole sentences, at most `most` characters.

    If it says more, the first sentence and those that name a remedy are kept, in their order.
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
    if 0 not in kept:  # not even its first sentence has room
        return text[: most - 2] + " …"
    return " ".join(sentences[number] for number in sorted(kept))


SHORT = ("out of memory", "can't allocate memory", "not enough memory", "Cannot allocate memory", "std::bad_alloc")
"""What allocators say: CUDA's, torch's on a CPU, oneDNN's, the system's, C++'s."""
ALLOCATORS = (RuntimeError, OSError)
"""The errors in which they say it, beside MemoryError and safetensors' own."""


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out. Asked by words and names, so that no torch is needed."""
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or getattr(error, "errno", None) == errno.ENOMEM
    ):
        return True
    told = isinstance(error, ALLOCATORS) or type(error).__name__ == "SafetensorError"
    return told and any(words in str(error) for words in SHORT)


ELSEWHERE = {
    "learning_rate": "optim.lr",
    "num_train_epochs": "trainer.epochs",
    "num_epochs": "trainer.epochs",
    "lora_rank": "method.rank",
    "lora_r": "method.rank",
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "lora_target": "method.targets",
    "lora_target_modules": "method.targets",
    "target_modules": "method.targets",
    "cutoff_len": "data.max_length",
    "max_seq_length": "data.max_length",
    "sequence_len": "data.max_length",
    "per_device_train_batch_size": "trainer.micro_batch_size",
    "micro_batch_size": "trainer.micro_batch_size",
    "gradient_accumulation_steps": "trainer.global_batch_size",
    "lr_scheduler_type": "scheduler",
    "lr_scheduler": "scheduler",
    "finetuning_type": "method",
    "optimizer": "optim",
    "optim_type": "optim",
    "output_dir": "run_dir",
    "dataset": "data.path",
    "model_name_or_path": "model.path",
    "base_model": "model.path",
    "val_size": "data.val_fraction",
    "pref_beta": "stage.beta",
    "pref_loss": "stage.loss",
    "report_to": "logger",
    "save_steps": "trainer.save_every",
    "eval_steps": "trainer.eval_every",
    "logging_steps": "trainer.log_every",
    "resume_from_checkpoint": "resume.run",
}
"""What LLaMA-Factory, TRL and axolotl call a knob of ours: whoever comes from there is shown the way."""


def find_nearest(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known words closest to `word`, best first; the last part of a dotted name counts as well as the whole."""
    names = sorted(set(known))
    meant = ELSEWHERE.get(word.rsplit(".", 1)[-1].lower())
    if meant in names:
        return [meant]
    word = {name.lower(): name for name in names}.get(word.lower(), word)
    close = difflib.get_close_matches(word, names, n=most, cutoff=0.6)
    if not close:
        tails = {name.rsplit(".", 1)[-1]: name for name in reversed(names)}
        close = [tails[t] for t in difflib.get_close_matches(word.rsplit(".", 1)[-1], tails, n=most, cutoff=0.6)]
    return close


def suggest_similar(word: str, known: Iterable[str]) -> str:
    """` Did you mean x or y?` with a leading space, or nothing where nothing is close."""
    close = find_nearest(word, known)
    return f" Did you mean {' or '.join(close)}?" if close else ""
