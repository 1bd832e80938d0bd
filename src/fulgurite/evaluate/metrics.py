"""Metrics of answers beside reference answers: one declaration for each, and a table to which others are added."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fulgurite.errors import ConfigError, suggest_similar
from fulgurite.evaluate.call_accuracy import score_answer_calls
from fulgurite.evaluate.questions import HeldOutQuestion
from fulgurite.model.generate import Answer

Numbers = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TextMetric:
    """A metric of answers. It has `score_one`, whose numbers are averaged over the questions that have them, or
    `score_all`, which needs all answers at once; the other is None."""

    name: str
    source: str
    """The paper or the library that defines it."""
    score_one: Callable[[Answer, HeldOutQuestion], Numbers] | None = None
    score_all: Callable[[Sequence[str], Sequence[str]], Numbers] | None = None
    """Called with the answers and the references, both non-empty and of the same length."""
    needs: str = ""
    """The package that computes it, if it is not a requirement of Fulgurite."""
    module: str = ""
    """The module of that package."""
    compares: bool = True
    """Whether it needs a reference answer."""
    lower_wins: tuple[str, ...] = ()
    """Its numbers of which the smaller is the better."""


CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
"""A Chinese or Japanese character, or letters and digits; of English text the words of rouge-score itself."""
METRICS: dict[str, TextMetric] = {}


def register_metric(metric: TextMetric) -> TextMetric:
    """Adds a metric to the table, by its name."""
    METRICS[metric.name] = metric
    return metric


def find_metrics(names: Sequence[str]) -> list[TextMetric]:
    """Returns the metrics of these names, in this order. Raises ConfigError for an unknown one, and for one whose
    package is not installed."""
    found = []
    for name in dict.fromkeys(names):
        if name not in METRICS:
            raise ConfigError(
                "There is no metric {name}.{hint} The metrics are {names}.",
                name=name, hint=suggest_similar(name, METRICS), names=", ".join(METRICS),
            )
        metric = METRICS[name]
        if metric.module and importlib.util.find_spec(metric.module) is None:
            raise ConfigError(
                "metrics={name} needs the package {package}, which is not installed; install it: pip install {package}",
                name=name, package=metric.needs,
            )
        found.append(metric)
    return found


def score_metrics(
    metrics: Sequence[TextMetric], questions: Sequence[HeldOutQuestion], answers: Sequence[Answer]
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Returns the numbers of all metrics, and those of each question.

    A question without a reference answer counts for no metric that compares with one.
    """
    totals: dict[str, float] = {}
    each: list[dict[str, float]] = [{} for _ in questions]
    for metric in metrics:
        pairs = [
            (n, answer, question)
            for n, (answer, question) in enumerate(zip(answers, questions, strict=True))
            if question.reference is not None or not metric.compares
        ]
        if metric.score_all is not None and pairs:
            # A corpus metric such as BLEU counts n-grams of all answers together: it is no mean over questions.
            totals |= metric.score_all([a.text for _, a, _ in pairs], [str(q.reference) for _, _, q in pairs])
        if metric.score_one is not None:
            rows = [metric.score_one(answer, question) for _, answer, question in pairs]
            for (number, _, _), row in zip(pairs, rows, strict=True):
                each[number] |= row
            totals |= _average(rows)
    return totals, each


def _average(rows: Sequence[Numbers]) -> dict[str, float]:
    """Returns the mean of each number over the rows that have it."""
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row]
        found[name] = sum(values) / len(values)
    return found


def match_exactly(answer: Answer, question: HeldOutQuestion) -> Numbers:
    """Returns 1 if the answer equals the reference apart from blanks around it, else 0."""
    return {"exact_match": float(answer.text.strip() == str(question.reference).strip())}


def compute_bleu(answers: Sequence[str], references: Sequence[str]) -> Numbers:
    """Returns corpus BLEU, 0 to 100, with sacrebleu's exponential smoothing and its 13a tokens; its zh tokens if a
    reference has Chinese characters, of which 13a would make one word."""
    from sacrebleu.metrics import BLEU

    tokens = "zh" if any(CHINESE.search(reference) for reference in references) else "13a"
    return {"bleu": float(BLEU(tokenize=tokens).corpus_score(list(answers), [list(references)]).score)}


def compute_chrf(answers: Sequence[str], references: Sequence[str]) -> Numbers:
    """Returns corpus chrF, 0 to 100: the F2 score of character 6-grams."""
    from sacrebleu.metrics import CHRF

    return {"chrf": float(CHRF().corpus_score(list(answers), [list(references)]).score)}


def compute_rouge(answer: Answer, question: HeldOutQuestion) -> Numbers:
    """Returns ROUGE-1, ROUGE-2 and ROUGE-L as F1, 0 to 1. Words are split at blanks and punctuation, and Chinese
    characters count as words: rouge-score's own tokenizer keeps only a to z and digits."""
    found = _build_rouge().score(str(question.reference), answer.text)
    return {kind.lower(): float(value.fmeasure) for kind, value in found.items()}


@cache
def _build_rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(("rouge1", "rouge2", "rougeL"), tokenizer=_WordTokenizer())


class _WordTokenizer:
    """Splits text for rouge-score, in any script."""

    def tokenize(self, text: str) -> list[str]:
        """Returns lower-case words; a Chinese character or a Japanese one is a word."""
        return WORDS.findall(text.lower())


register_metric(TextMetric("exact_match", "SQuAD, Rajpurkar et al., https://arxiv.org/abs/1606.05250", match_exactly))
register_metric(TextMetric(
    "bleu", "Papineni et al. 2002, by sacrebleu, https://arxiv.org/abs/1804.08771", score_all=compute_bleu,
    needs="sacrebleu", module="sacrebleu",
))
register_metric(TextMetric(
    "chrf", "Popović 2015, https://aclanthology.org/W15-3049, by sacrebleu", score_all=compute_chrf,
    needs="sacrebleu", module="sacrebleu",
))
register_metric(TextMetric(
    "rouge", "Lin 2004, https://aclanthology.org/W04-1013, by rouge-score", compute_rouge,
    needs="rouge-score", module="rouge_score",
))
register_metric(TextMetric(
    "tool_calls", "Ours, after the Berkeley Function Calling Leaderboard, https://gorilla.cs.berkeley.edu/leaderboard",
    score_answer_calls, compares=False, lower_wins=("calls_missed", "calls_needless"),
))
