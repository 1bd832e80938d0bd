"""Parts of plans that are kept, and what they depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.config.compose import compose
from fulgurite.plan.preflight import build_checked_source
from fulgurite.plan.prepare import prepare_run, settle_precision
from fulgurite.plan.recall import Keeper, key_outline, key_rows, key_source, key_template, key_tokens, make_anew

LINE = '{"instruction": "What?", "output": "This."}\n'


def test_keeper_makes_a_part_once_and_forgets_the_oldest() -> None:
    keep, made = Keeper(most=2), []
    for key in ("a", "b", "a", "c", "a", "b"):
        assert keep("kind", key, lambda key=key: made.append(key) or key) == key  # type: ignore[misc,func-returns-value]
    assert made == ["a", "b", "c", "b"]
    assert make_anew("kind", "a", lambda: 3) == 3


def test_what_raises_is_not_kept() -> None:
    keep = Keeper()
    with pytest.raises(ZeroDivisionError):
        keep("kind", 1, lambda: 1 // 0)
    assert keep("kind", 1, lambda: 5) == 5


def test_source_depends_on_the_files_and_how_they_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(LINE)
    words = ["data=file", f"data.path={file}"]

    def key(*more: str) -> object:
        return key_source((run := compose([*words, *more]).run).stage.name, run.data)

    before = key()
    assert key("data.max_length=64", "optim.lr=1e-3") == before
    assert key("data.max_drop=1") != before
    assert key("stage=pt") != before
    file.write_text(LINE * 2)
    assert key() != before


def test_model_template_and_rows_have_keys_of_their_own() -> None:
    def keys(*words: str) -> tuple[object, object, object]:
        run = compose(["model=tiny", *words]).run
        dtypes = settle_precision(run.precision, run.trainer)
        outline = key_outline(run.stage, run.method, run.model, dtypes)
        return outline, key_template(run.model, run.data, run.stage.gives_rewards), key_rows(run.data, run.seed)

    plain = keys()
    assert keys("optim.lr=1e-3") == plain
    assert keys("method.rank=4", "method.alpha=1", "method.dropout=0.1") == plain  # the rank is changed afterwards
    assert keys("method.targets=[q_proj]")[0] != plain[0]
    assert keys("method.init=pissa", "method.rank=4")[0] != keys("method.init=pissa", "method.rank=8")[0]
    assert keys("data.template=chatml")[1] != plain[1]
    assert keys("seed=3")[2] != plain[2]


def test_a_kept_source_is_used_again(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(LINE * 30)
    keep = Keeper()
    words = ["model=tiny", "data=file", f"data.path={file}"]
    one, other = (compose([*words, f"optim.lr={rate}"]) for rate in ("1e-3", "2e-3"))
    source = build_checked_source(one, keep)
    assert build_checked_source(other, keep) is source
    assert build_checked_source(other) is not source
    dtypes = settle_precision(one.run.precision, one.run.trainer)
    first, second = (prepare_run(composed, source, dtypes, keep) for composed in (one, other))
    assert first.encoded is second.encoded
    assert first.rows is second.rows
    assert second.seen.run.optim.lr == 2e-3
    assert first.seen.model is not second.seen.model
    assert key_tokens(source, one.run.data) == key_tokens(source, other.run.data)
    plain = prepare_run(other, build_checked_source(other), dtypes)
    assert plain.report == second.report
