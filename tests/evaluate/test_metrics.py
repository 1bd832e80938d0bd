"""Metrics of answers: numbers by hand, and those of the libraries."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from fulgurite.data.example import Conversation, Message
from fulgurite.errors import ConfigError
from fulgurite.evaluate import metrics
from fulgurite.evaluate.metrics import METRICS, TextMetric, find_metrics, register_metric, score_metrics
from fulgurite.evaluate.questions import HeldOutQuestion
from fulgurite.model.generate import Answer

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")


def ask(*references: str | None) -> list[HeldOutQuestion]:
    asked = Conversation((Message("user", "q"),))
    return [HeldOutQuestion(f"f:{n}", asked, reference=text) for n, text in enumerate(references)]


def say(*texts: str) -> list[Answer]:
    return [Answer(text, 1, True) for text in texts]


def score(name: str, answers: list[Answer], questions: list[HeldOutQuestion]) -> dict[str, float]:
    return score_metrics(find_metrics([name]), questions, answers)[0]


def test_exact_match_ignores_blanks_around_an_answer_only() -> None:
    answers, questions = say(" 4\n", "four", "a  b"), ask("4", "4", "a b")
    assert score("exact_match", answers, questions) == {"exact_match": pytest.approx(1 / 3)}


def test_a_question_without_a_reference_does_not_count() -> None:
    totals, each = score_metrics(find_metrics(["exact_match"]), ask("4", None), say("4", "4"))
    assert totals == {"exact_match": 1.0}
    assert each == [{"exact_match": 1.0}, {}]


def test_bleu_of_equal_texts_is_100_and_of_others_sacrebleu_s() -> None:
    import sacrebleu

    answers, references = ["the cat sat on the mat", "a dog"], ["the cat sat on a mat", "a dog barks"]
    assert score("bleu", say("the cat sat on the mat"), ask("the cat sat on the mat"))["bleu"] == pytest.approx(100)
    found = score("bleu", say(*answers), ask(*references))["bleu"]
    assert found == pytest.approx(sacrebleu.corpus_bleu(answers, [references]).score)


def test_bleu_of_chinese_counts_characters() -> None:
    """One character of eight differs: with words between blanks no 4-gram, and nothing at all, would be equal."""
    found = score("bleu", say("今天的天气很好呀"), ask("今天的天气很好啊"))["bleu"]
    assert found == pytest.approx(100 * (7 / 8 * 6 / 7 * 5 / 6 * 4 / 5) ** 0.25)


def test_chrf_is_sacrebleu_s() -> None:
    import sacrebleu

    found = score("chrf", say("learning rate"), ask("learning rates"))["chrf"]
    assert found == pytest.approx(sacrebleu.corpus_chrf(["learning rate"], [["learning rates"]]).score)


def test_rouge_by_hand() -> None:
    """Two of three words, one of two pairs; the longest common subsequence has two words."""
    found = score("rouge", say("The cat sleeps."), ask("the cat sat"))
    assert found == pytest.approx({"rouge1": 2 / 3, "rouge2": 0.5, "rougel": 2 / 3})


def test_rouge_of_english_is_rouge_score_s_own() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    answer, reference = "Set it to 2e-4, if_not: lower!", "Set the rate to 2e-4; lower it if not."
    own = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, answer)
    found = score("rouge", say(answer), ask(reference))
    assert found == pytest.approx({name.lower(): value.fmeasure for name, value in own.items()})


def test_rouge_of_chinese_counts_characters() -> None:
    assert score("rouge", say("学习率"), ask("学习好"))["rouge1"] == pytest.approx(2 / 3)


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"There is no metric blue\. Did you mean bleu"):
        find_metrics(["blue"])


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs the package rouge-score, which is not installed"):
        find_metrics(["rouge"])
    assert find_metrics(["exact_match"])


@pytest.fixture
def longest() -> Iterator[TextMetric]:
    """A metric of another package, which needs no reference and has no number for an empty answer."""
    yield register_metric(TextMetric(
        "characters", "a test", lambda answer, question: {"characters": len(answer.text)} if answer.text else {},
        compares=False,
    ))
    del METRICS["characters"]


def test_a_metric_that_is_added_works_like_ours(longest: TextMetric) -> None:
    totals, each = score_metrics([longest], ask(None, None, "x"), say("abc", "", "a"))
    assert totals == {"characters": 2.0}
    assert each == [{"characters": 3}, {}, {"characters": 1}]


def test_every_metric_names_its_source() -> None:
    assert all(metric.source and (metric.score_one or metric.score_all) for metric in METRICS.values())
    assert all(bool(metric.needs) == bool(metric.module) for metric in METRICS.values())
    assert metrics.METRICS.keys() >= {"exact_match", "bleu", "chrf", "rouge"}
