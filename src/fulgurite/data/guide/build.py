"""Builds the shipped dataset: `python -m fulgurite.data.guide.build [--check]`.

Hand-written conversations (written.jsonl) come first, then questions derived from the declarations of the package's own
parameters and options, at most half as many. Nothing is random: the same declarations give the same files.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from fulgurite.config.run import Resume, RunConfig, load_options
from fulgurite.config.schema import Knob, Option, Range, list_groups, list_knobs
from fulgurite.data.guide.arithmetic import build_sums
from fulgurite.data.guide.questions import (
    ASKED,
    FORM,
    FORM_HELD_OUT,
    HELD_OUT,
    PROMPTS,
    PROMPTS_HELD_OUT,
    QUESTIONS,
    TRAIN,
    WRITTEN,
)
from fulgurite.errors import DataError
from fulgurite.language.library_errors import translate_error

UNTAUGHT = (
    "launcher",
    "logger.",
    "model.hidden",
    "model.layers",
    "model.length",
    "model.vocabulary",
    "name",
    "plugins",
    "run_dir",
    "stage.engine",
)
"""Beginnings of the names of parameters and groups that are not about fine-tuning."""
LONGEST = 260
"""Maximum characters of a derived answer with its advice, so that a conversation has about 120 tokens."""
HELD_OUT_ONE_IN = 8
"""One in so many derived parameters has one more question in the held-out part."""


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation: question, answer, question, answer, ..."""

    subject: str
    turns: tuple[str, ...]
    held_out: bool = False

    def record(self) -> dict[str, Any]:
        """Returns the conversation in the format of chat APIs."""
        roles = ("user", "assistant")
        return {"messages": [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(self.turns)]}


def read_written(path: Path = WRITTEN) -> list[Talk]:
    """Reads the hand-written conversations. Raises DataError with the line if questions and answers do not alternate.
    """
    talks = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            talk = Talk(row["subject"], tuple(row["turns"]), row.get("held_out", False))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                "{file}:{line} needs a subject and turns ({reason}).", file=path.name, line=number,
                reason=translate_error(error),
            ) from error
        if not talk.turns or len(talk.turns) % 2 or not all(isinstance(t, str) and t.strip() for t in talk.turns):
            raise DataError(
                "{file}:{line}: expected alternating questions and answers, none of them empty.",
                file=path.name, line=number,
            )
        talks.append(talk)
    return talks


def format_number(x: float) -> str:
    """Formats a number in the form of the written answers: 2e-4, 0.05, 10,000."""
    if isinstance(x, int) or (x == int(x) and abs(x) < 1e9):
        return f"{int(x):,}"
    if abs(x) < 1e-3:
        mantissa, _, exponent = f"{x:e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{x:g}"


def format_value(x: Any) -> str:
    """Formats a default in the form that a person types."""
    if isinstance(x, bool):
        return str(x).lower()
    if isinstance(x, int | float):
        return format_number(x)
    if isinstance(x, list):
        return "[" + ", ".join(format_value(item) for item in x) + "]"
    return str(x)


def join_options(words: Iterable[str]) -> str:
    """Joins options to `a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def describe_usual(knob: Knob) -> str:
    """Returns ` Usual is 0 to 0.1.`, or nothing for a range that depends on other parameters."""
    found = knob.usual
    if isinstance(found, Range) and found.low is not None and found.high is not None:
        return f" Usual is {format_number(found.low)} to {format_number(found.high)}."
    return f" Usual is {join_options(map(format_value, found))}." if isinstance(found, tuple) else ""


def describe_start(knobs: list[Knob]) -> str:
    """Returns the value to begin with; one per option if the options differ."""
    first = knobs[0]
    if len({format_value(k.default) for k in knobs}) > 1:
        defaults = ", ".join(f"{format_value(k.default)} under {k.group}={k.option}" for k in knobs)
        return f"Start with the default: {defaults}."
    if first.default is None and first.empty is not None:
        return f"Leave it empty: {first.empty.words}."
    if first.default in ([], {}, ""):
        return "It is empty until you set it."
    return f"Start with the default, {format_value(first.default)}."


def compose_answer(text: str, advice: str, look: str) -> str:
    """Joins the text, the advice if it is new and there is room, and the command that shows more."""
    repeats = text.startswith("Leave it") and advice.startswith("Leave it")
    if advice and not repeats and len(text) + len(advice) < LONGEST:
        text = f"{text} {advice}"
    return f"{text} See `fulgurite explain {look}`."


def ask_about_knob(knobs: list[Knob]) -> Iterator[Talk]:
    """Yields the conversations about one parameter, the most useful first; `knobs` are its declarations, one per
    option."""
    first, path = knobs[0], knobs[0].path
    yield Talk(path, (f"What is {path}?", compose_answer(first.meaning, first.advice, path)))
    yield Talk(
        path,
        (
            f"What should I set {path} to?",
            compose_answer(describe_start(knobs) + describe_usual(first), first.advice, path),
        ),
    )
    if first.choices:
        choices = f"One of {join_options(first.choices)}. {first.meaning}"
        yield Talk(path, (f"What can {path} be?", compose_answer(choices, "", path)))
    elif first.bounds is not None:
        limits = str(first.bounds)
        legal = f"{limits[0].upper()}{limits[1:]}.{describe_usual(first)} {first.meaning}"
        yield Talk(path, (f"Which values of {path} are legal?", compose_answer(legal, "", path)))
    if first.empty is not None:
        empty = f"Then it means: {first.empty.words}. {first.meaning}"
        yield Talk(path, (f"What happens when {path} is empty?", compose_answer(empty, "", path)))


def ask_about_option(cls: type[Option]) -> Iterator[Talk]:
    """Yields the conversation about one option, if it has a docstring."""
    words = " ".join((cls.__dict__.get("__doc__") or "").split("\n\n")[0].split())
    name = f"{cls.room}={cls.name}"
    if words and not words.startswith(f"{cls.__name__}("):
        yield Talk(name, (f"What is {name}?", compose_answer(words, "", name)))


def list_own_options() -> list[type[Option]]:
    """Returns the options of this package, without those of plug-ins."""
    load_options()
    named = list_groups()
    everything = [cls for by_name in named.values() for cls in by_name.values()]
    return [c for c in everything if c.__module__.startswith("fulgurite.") and c.room not in UNTAUGHT]


def list_own_knobs(classes: Iterable[type[Option]]) -> list[list[Knob]]:
    """Returns the declarations of each parameter in the dataset, by path."""
    found = [k for cls in [*classes, RunConfig, Resume] for k in list_knobs(cls) if not k.path.startswith(UNTAUGHT)]
    return [list(group) for _, group in groupby(sorted(found, key=lambda k: k.path), key=lambda k: k.path)]


def derive_talks(classes: list[type[Option]], most: int) -> list[Talk]:
    """Returns at most `most` conversations: first one about every parameter and option, then the second of each, and so
    on.

    If there are more, the hash of the subject's name selects them, so that every group is represented.
    """
    queues = [list(ask_about_knob(k)) for k in list_own_knobs(classes)] + [
        list(ask_about_option(cls)) for cls in classes
    ]
    # By the position in the queue first: every subject gets its first question before any gets a second.
    ranked = [(turn, _hash(talk.subject), talk) for queue in queues for turn, talk in enumerate(queue)]
    chosen = sorted(ranked, key=lambda r: r[:2])[:most]
    return sorted((talk for _, _, talk in chosen), key=lambda talk: talk.subject)


def hold_out(classes: list[type[Option]], taught: set[str]) -> list[Talk]:
    """Returns another wording for about one in HELD_OUT_ONE_IN of the taught parameters, selected by their names."""
    chosen = [k for k in list_own_knobs(classes) if k[0].path in taught and _hash(k[0].path) % HELD_OUT_ONE_IN == 0]
    return [
        Talk(k[0].path, (f"Explain the knob {k[0].path} to me.", next(ask_about_knob(k)).turns[1]), True)
        for k in chosen
    ]


def _hash(text: str) -> int:
    # Not hash(), which is another number for the same text in each process.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def merge_talks() -> tuple[list[Talk], list[Talk]]:
    """Returns the training and the held-out conversations. Raises DataError if a held-out question is in training, or
    its subject is not."""
    pieces, classes = read_written(), list_own_options()
    train = [t for t in pieces if not t.held_out]
    # Half as many as the written ones: at most a third of the training part.
    more = derive_talks(classes, len(train) // 2)
    taught = {t.subject for t in train + more}
    out = [t for t in pieces if t.held_out] + hold_out(classes, {t.subject for t in more})
    train += more
    # Compare without case, so that a held-out question is not a trained one in other letters.
    asked = {turn.casefold() for t in train for turn in t.turns[:1]}
    for talk in out:
        if talk.subject not in taught:
            raise DataError(
                "The held-out question {question!r} is about {subject}, which is not in the training part; add a "
                "conversation about it.",
                question=talk.turns[0], subject=talk.subject,
            )
        if talk.turns[0].casefold() in asked:
            raise DataError(
                "The held-out question {question!r} is in the training part too; reword it.", question=talk.turns[0]
            )
    return train, out


def build_files() -> dict[Path, str]:
    """Returns the generated files and their content."""
    train, out = merge_talks()
    missing = [q for q in ASKED if q not in {t.turns[0] for t in out}]
    if missing:
        raise DataError("The fixed question {question!r} is not in the held-out part.", question=missing[0])
    asked = [{"messages": [{"role": "user", "content": q}]} for q in ASKED]
    return {
        TRAIN: _to_lines(t.record() for t in train),
        HELD_OUT: _to_lines(t.record() for t in out),
        QUESTIONS: _to_lines(asked),
        PROMPTS: _to_lines(s.record() for s in build_sums() if not s.held_out),
        PROMPTS_HELD_OUT: _to_lines(s.record() for s in build_sums() if s.held_out),
        FORM: _to_lines(s.pair(n) for n, s in enumerate(build_sums()) if not s.held_out),
        FORM_HELD_OUT: _to_lines(s.pair(n) for n, s in enumerate(build_sums()) if s.held_out),
    }


def _to_lines(records: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)


def main(words: list[str]) -> int:
    """Writes the files; with --check returns 1 if one is stale."""
    wanted = build_files()
    if words == ["--check"]:
        stale = [p.name for p, text in wanted.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
        if stale:
            print(f"{', '.join(stale)}: stale; run python -m fulgurite.data.guide.build", file=sys.stderr)
        return 1 if stale else 0
    if words:
        print(f"{' '.join(words)} is not known; the only option is --check", file=sys.stderr)
        return 2
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {text.count(chr(10))} records")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
