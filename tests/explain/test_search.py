"""Finding what is asked for: by name, by earlier name, and by a word in the texts."""

from __future__ import annotations

import pytest

from fulgurite.config.renamed import RENAMED
from fulgurite.errors import ConfigError
from fulgurite.explain.knob_index import list_every_knob
from fulgurite.explain.search import parse_question, search


def test_search_lists_names_before_texts_and_needs_every_word() -> None:
    lines = search("warmup").splitlines()
    assert lines[0].startswith("scheduler.warmup_ratio")
    assert "scheduler=inverse_sqrt" in "\n".join(lines)
    assert search("adapter rank").startswith("method.rank")
    with pytest.raises(ConfigError, match=r"No results for .xyzzy."):
        search("xyzzy")
    with pytest.raises(ConfigError):
        search("  ")


def test_group_wins_over_a_parameter_of_the_same_name() -> None:
    assert parse_question("method").group == "method"
    assert parse_question("method=lora").options == (("method", "lora"),)


def test_option_is_found_by_its_bare_name_in_every_group_that_has_it() -> None:
    assert parse_question("dpo").options == (("stage", "dpo"),)
    assert parse_question("adamw").options == (("optim", "adamw"),)


def test_parameter_is_found_by_path_by_name_and_with_a_value() -> None:
    for word in ("optim.lr", "lr", "optim.lr=1e-4"):
        found = parse_question(word)
        assert {knob.path for knob in found.knobs} == {"optim.lr"}
        assert (found.group, found.options, found.earlier) == ("", (), "")


def test_earlier_name_leads_to_the_name_of_today() -> None:
    known = {knob.path for knob in list_every_knob()}
    old, new = next((old, new) for old, new in RENAMED.items() if new in known and old not in known)
    found = parse_question(old)
    assert found.earlier == old
    assert {knob.path for knob in found.knobs} == {new}
    assert search(old).splitlines()


def test_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no parameter, group or option optim\.lrr\. Did you mean optim\.lr"):
        parse_question("optim.lrr")
    with pytest.raises(ConfigError, match=r"method has no option 'qlorra'\. Did you mean qlora"):
        parse_question("method=qlorra")
