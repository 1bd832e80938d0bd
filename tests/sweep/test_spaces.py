"""The spaces that are searched, and how a parameter is drawn."""

from __future__ import annotations

from typing import Any

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.schema import Knob, Range, walk_settings
from fulgurite.errors import ConfigError
from fulgurite.explain.knob_index import build_default_run
from fulgurite.sweep.spaces import SPACES, Span, Values, build_space, find_knob


@pytest.mark.parametrize("name", SPACES)
def test_each_space_composes_and_its_knobs_have_usual_values(name: str) -> None:
    run = compose([f"+sweep={name}"]).run
    assert tuple(run.sweep.knobs) == SPACES[name].knobs
    assert (run.stage.name, run.method.name) == (SPACES[name].choices["stage"], SPACES[name].choices["method"])
    assert (run.sweep.metric, str(run.sweep.goal)) == (SPACES[name].metric, SPACES[name].goal)
    found = [find_knob(walk_settings(run), run.stage.name, name) for name in run.sweep.knobs]
    assert all(build_space(knob, knob.find_usual(run)) for knob in found)


@pytest.mark.parametrize(
    ("kind", "usual", "expected"),
    [
        (float, Range(0.0, 0.1), Span(0.0, 0.1)), (float, Range(1e-5, 1e-3), Span(1e-5, 1e-3, log=True)),
        (float, Range(1.0, 9.9), Span(1.0, 9.9)), (float, Range(1.0, 10.0), Span(1.0, 10.0, log=True)),
        (int, Range(1, 5), Span(1, 5, whole=True)), (int, (8, 16), Values((8, 16))),
    ],
)
def test_range_that_spans_ten_is_drawn_by_its_logarithm(kind: type, usual: Any, expected: Span | Values) -> None:
    knob = Knob("x", kind, 1, "m", "s", None, usual, "", None)
    assert build_space(knob, usual) == expected


@pytest.mark.parametrize("usual", [None, Range(1, None), Range(None, 1)])
def test_range_without_both_ends_is_refused(usual: Range | None) -> None:
    knob = Knob("x", float, 1.0, "m", "s", None, usual, "", None)
    with pytest.raises(ConfigError, match="has no usual range to sweep over"):
        build_space(knob, usual)


def test_parameter_is_found_in_the_run_or_refused() -> None:
    run = build_default_run()
    assert find_knob(walk_settings(run), "sft", "optim.lr").path == "optim.lr"
    with pytest.raises(ConfigError, match=r"optim\.rate is not a parameter of this run.*--search rate"):
        find_knob(walk_settings(run), "sft", "optim.rate")
    # the earlier name of a parameter has the name of today
    with pytest.raises(ConfigError, match=r"trainer\.global_batch_size"):
        find_knob(walk_settings(run), "sft", "trainer.batch_size")
