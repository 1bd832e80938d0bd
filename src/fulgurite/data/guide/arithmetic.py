"""Small calculations about fine-tuning, each with an answer that can be checked: `data=guide_prompts` and
`data=guide_form`.

Each kind of question goes through its numbers in order, and a few of each kind are held out. Nothing is random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

EACH = 12
"""Questions of each kind."""
HELD_OUT = (3, 6, 9)
"""The held-out questions of each kind; their numbers do not occur in training."""
SENTENCES = (
    "The answer is {}.",
    "It is {}, as you can work out.",
    "Let me think about that. I would say {}.",
    "That makes {} in all.",
)
"""Correct answers in another form than the requested one."""
END = " Answer with {} only."


@dataclass(frozen=True, slots=True)
class Sum:
    """A question, its one right answer, and what kind of question it is."""

    kind: str
    prompt: str
    answer: str
    held_out: bool

    def record(self) -> dict[str, str]:
        """Returns the columns, which a reward can read."""
        return {"prompt": self.prompt, "answer": self.answer, "kind": self.kind}

    def pair(self, n: int) -> dict[str, str]:
        """Returns the answer in the requested form, and the same answer in a sentence."""
        return {
            "prompt": self.prompt,
            "chosen": self.answer,
            "rejected": SENTENCES[n % len(SENTENCES)].format(self.answer),
        }


Ask = Callable[[int, int, int], tuple[str, str]]
"""Makes a question and its answer from two small numbers and the number of the question."""

NUMBERS: dict[str, Ask] = {
    "step": lambda a, b, n: (
        f"The model reads {a} examples at a time, and a step adds up the gradients of {b} such readings. How many "
        "examples are in a step?",
        str(a * b),
    ),
    "epoch": lambda a, b, n: (
        f"A data set has {a * b * 10} examples. A step takes {a}. How many steps is one epoch?",
        str(b * 10),
    ),
    "run": lambda a, b, n: (f"One epoch is {b * 10} steps. How many steps are {a} epochs?", str(a * b * 10)),
    "alpha": lambda a, b, n: (
        f"The LoRA rank is {4 + 4 * n} and alpha is twice the rank. What is alpha?",
        str(8 + 8 * n),
    ),
    "frozen": lambda a, b, n: (
        f"A model has {a + 4 * b} layers and only the last {a} are trained. How many are frozen?",
        str(4 * b),
    ),
    "memory": lambda a, b, n: (
        f"A model has {n + 2} billion weights. Each takes 2 bytes. How many gigabytes are all its weights?",
        str(2 * n + 4),
    ),
    "left": lambda a, b, n: (
        f"A run of {a * 100} steps has done {b * 10}. How many steps are left?",
        str(a * 100 - b * 10),
    ),
    "warmup": lambda a, b, n: (f"Warmup is 10 % of {10 * n + 20} steps. How many steps is the warmup?", str(n + 2)),
}
"""Questions whose answer is a number."""

WORDS: dict[str, Ask] = {
    "larger": lambda a, b, n: (_ask_which("larger", [f"{a}e-{b}", f"{a}e-{b + 1}"], n), f"{a}e-{b}"),
    "smaller": lambda a, b, n: (_ask_which("smaller", [f"{a}e-{b}", f"{a + 1}e-{b}"], n), f"{a}e-{b}"),
    "yes": lambda a, b, n: _judge(a * b, a * b + a, n),
}
"""Questions whose answer is a rate, or yes or no; both possible answers are equally frequent."""


def _ask_which(word: str, rates: list[str], n: int) -> str:
    first, second = rates if n % 2 else rates[::-1]
    return f"Which learning rate is {word}, {first} or {second}?"


def _judge(small: int, large: int, n: int) -> tuple[str, str]:
    first, second = (large, small) if n % 2 else (small, large)
    return f"Is rank {first} larger than rank {second}?", "Yes" if n % 2 else "No"


def build_sums() -> list[Sum]:
    """Returns all prompts, including the held-out ones; the kinds alternate."""
    ends = dict.fromkeys(NUMBERS, "the number") | {"larger": "the rate", "smaller": "the rate", "yes": "Yes or No"}
    found = []
    for n in range(EACH):
        # Twelve different pairs of small numbers.
        a, b = 2 + n % 4, 2 + n // 4 + n % 4
        for kind, ask in (NUMBERS | WORDS).items():
            prompt, answer = ask(a, b, n)
            found.append(Sum(kind, prompt + END.format(ends[kind]), answer, n in HELD_OUT))
    return found
