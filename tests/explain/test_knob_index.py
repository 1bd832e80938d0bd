"""What a declaration has beyond its meaning: when to change it, what it interacts with, what it costs, its source."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from fulgurite.config.confidence import Sure, grade_source
from fulgurite.config.run import GROUPS
from fulgurite.config.schema import Knob, Option, knob, list_groups, list_knobs
from fulgurite.explain import knob_index as entries
from fulgurite.explain.citations import find_links
from fulgurite.explain.search import parse_question

SHARED = entries.merge_knobs(entries.list_every_knob())
KNOBS = [pytest.param(s.knob, id=f"{s.knob.path}-{s.options[0]}") for s in SHARED]
PATHS = {k.path for k in entries.list_every_knob()}
OPTIONS = [
    pytest.param(cls, id=f"{group}={name}") for group, named in list_groups().items() for name, cls in named.items()
]


def one(name: str, option: str = "") -> Knob:
    return next(k for k in parse_question(name).knobs if option in ("", k.option))


@pytest.mark.parametrize("knob", KNOBS)
def test_a_knob_with_usual_values_says_when_to_move_it_or_why_not(knob: Knob) -> None:
    if knob.usual is not None:
        assert bool(knob.raise_when and knob.lower_when) != bool(knob.leave), "both ways, or a reason to leave it alone"
    assert bool(knob.raise_when) == bool(knob.lower_when)


@pytest.mark.parametrize("knob", KNOBS)
def test_every_source_says_how_sure_it_is(knob: Knob) -> None:
    assert isinstance(knob.sure, Sure), f"say it in the source's words, or by sure=: {knob.source}"
    if knob.sure in (Sure.verified, Sure.paper):
        assert find_links(knob.source), f"name a paper, a project or an address: {knob.source}"


@pytest.mark.parametrize("knob", KNOBS)
def test_links_are_well_formed(knob: Knob) -> None:
    for name, address in find_links(knob.source):
        parts = urlsplit(address)
        assert name
        assert parts.scheme == "https"
        assert re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", parts.netloc)
        assert not re.search(r"[\s,;)]|\.$", address)
        if parts.netloc == "arxiv.org":
            assert re.fullmatch(r"/abs/(\d{4}\.\d{4,5})", parts.path)


@pytest.mark.parametrize("knob", KNOBS)
def test_what_a_knob_meets_exists_and_is_told_in_words(knob: Knob) -> None:
    assert set(knob.interacts) <= PATHS | set(GROUPS)
    assert knob.path not in knob.interacts
    assert all(knob.interacts.values())


@pytest.mark.parametrize("knob", KNOBS)
def test_sentences_end(knob: Knob) -> None:
    for text in (
        knob.meaning, knob.advice, knob.raise_when, knob.lower_when, knob.leave, knob.memory, knob.time, knob.misread
    ):
        assert not text or text.rstrip(")").endswith((".", "'.")), text


@pytest.mark.parametrize("cls", OPTIONS)
def test_every_option_says_what_it_costs(cls: type[Option]) -> None:
    assert cls.costs.endswith(".")
    assert not cls.misread or cls.misread.endswith(".")


@pytest.mark.parametrize(
    ("source", "sure"),
    [
        ("Ours; TRL 3 (verified)", Sure.ours), ("measured: 22 % less", Sure.measured),
        ("TRL 0.2 (verified)", Sure.verified),
        ("A recipe (somewhere, verified)", Sure.verified), ("LISA, https://arxiv.org/abs/2403.17919", Sure.paper),
        ("ULMFiT, https://arxiv.org/abs/1801.06146: 1/2.6 (unverified)", Sure.paper), ("peft docs", Sure.practice),
        ("Common practice", Sure.practice), ("a friend", None),
    ],
)
def test_a_source_says_in_words_how_sure_it_is(source: str, sure: Sure | None) -> None:
    assert grade_source(source) is sure


def test_what_is_given_counts_before_the_source_s_words() -> None:
    spec = knob(1, "A size.", source="a friend", sure=Sure.practice).metadata["fulgurite.knob"]
    assert spec["sure"] is Sure.practice
    assert knob(1, "A size.", source="Ours").metadata["fulgurite.knob"]["sure"] is Sure.ours


@pytest.mark.parametrize(
    ("group", "name", "words"),
    [
        ("stage", "dpo", "not differential privacy"), ("method", "lora", "does not freeze some layers"),
        ("scheduler", "constant_with_warmup", "rises and then stays"),
        ("scheduler", "cosine_with_restarts", "With one cycle"),
        ("privacy", "dp_sgd", "is not DPO"),
    ],
)
def test_what_is_popularly_misread_is_said(group: str, name: str, words: str) -> None:
    assert words in list_groups()[group][name].misread


def test_the_logged_norm_is_the_one_before_clipping() -> None:
    assert "before clipping" in one("trainer.max_grad_norm").misread


def test_every_training_knob_of_a_number_has_been_thought_of() -> None:
    """The declarations with usual values of the rooms that train; a falling count means that words were lost."""
    rooms = {"optim", "scheduler", "method", "stage", "data", "trainer", "precision", "privacy"}
    numeric = [s.knob for s in SHARED if s.knob.usual is not None and s.knob.group in rooms]
    assert len(numeric) > 85
    assert sum(bool(k.interacts) for k in numeric) > 60
    assert sum(bool(k.memory or k.time) for k in numeric) > 30
    knobs = [knob for cls in list_groups()["optim"].values() for knob in list_knobs(cls)]
    assert all(knob.raise_when or knob.leave for knob in knobs if knob.usual is not None)
