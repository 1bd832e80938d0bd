"""The small modules of the page by themselves: numbers, scales and the recognition of a pasted text."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from tests.board.browser.board_process import BoardProcess
from tests.board.browser.conftest import OpenPage


@pytest.fixture(scope="module")
def board(shelf: BoardProcess) -> BoardProcess:
    """The board that shows runs; these tests need no plan."""
    return shelf


@pytest.fixture
def evaluate(open_page: OpenPage) -> Any:
    page = open_page("learn").page

    def run(module: str, code: str, *values: Any) -> Any:
        load = f"const m = await import('/assets/{module}.js')"
        return page.evaluate(f"async ([values]) => {{ {load}; {code} }}", [values])

    return run


def test_rates_are_written_as_they_are_typed(evaluate: Any) -> None:
    numbers = [5e-5, 0.001, 0.05, 1, 128, 1_000_000, 2.5e-7, 0, 1 / 3]
    written = evaluate("app/format", "return values[0].map(m.formatRate)", numbers)
    assert written == ["5e-5", "1e-3", "0.05", "1", "128", "1000000", "2.5e-7", "0", "0.3333"]


def test_command_lines_and_yaml_are_told_apart(evaluate: Any) -> None:
    texts = {
        "fulgurite train stage=dpo": False, "optim.lr=1e-4 \\\n  stage=sft": False, "stage: sft": True,
        "# a comment\noptim:\n  lr: 1": True, "- override /stage: sft": True, "model_name_or_path: x": True,
        "fulgurite train data.path='a: b'": False,
    }
    assert evaluate("start/open", "return values[0].map(m.isYaml)", list(texts)) == list(texts.values())


BARS: list[tuple[dict[str, Any], float | None]] = [
    ({"legal": {"low": 0, "high": 1}, "usual": {"low": 1e-4, "high": 2e-3}, "derived": 1e-3, "log": True}, 5e-5),
    ({"legal": {"low": 0, "high": None}, "usual": {"low": 0, "high": 100}, "derived": None, "log": False}, 250),
    ({"legal": {"low": 1, "high": 1024}, "usual": {"values": [8, 16, 256]}, "derived": 16, "log": True}, None),
    ({"legal": None, "usual": {"low": 1, "high": 1}, "derived": 1, "log": True}, 0),
]


def test_bars_hold_every_mark(evaluate: Any) -> None:
    for row, yours in BARS:
        marks = [row["derived"], yours, *(row["usual"].get("values") or [row["usual"]["low"], row["usual"]["high"]])]
        places = evaluate(
            "charts/rangebar", "const s = m.makeScale(values[0], values[1]); return values[2].map(s.place)", row, yours,
            [mark for mark in marks if mark is not None],
        )
        assert all(-1e-9 <= place <= 1 + 1e-9 for place in places), places
        ordered = sorted(zip([mark for mark in marks if mark is not None], places, strict=True))
        assert [place for _, place in ordered] == sorted(places)


def test_a_page_that_follows_is_drawn_at_the_pace_of_what_drawing_takes(open_page: OpenPage) -> None:
    """20 ms a drawing allow one in two seconds; what a person waits for is drawn at once all the same."""
    page = open_page("learn").page
    page.clock.install()
    page.evaluate("""async () => {
      const {Redraw} = await import('/assets/app/redraw.js');
      window.drawn = [];
      const work = () => {
        window.drawn.push(performance.now());
        performance.now = ((real) => () => real() + 20)(performance.now.bind(performance));
      };
      window.redraw = new Redraw(work);
      window.begin = performance.now();
      setInterval(() => window.redraw.later(), 100);
    }""")
    page.clock.run_for(10_000)
    times = page.evaluate("window.drawn.map((time) => time - window.begin)")
    gaps = [later - time for time, later in itertools.pairwise(times)]
    assert 4 <= len(times) <= 6
    assert min(gaps) > 1900
    page.evaluate("() => { window.drawn.length = 0; window.redraw.soon(); window.redraw.soon(); }")
    page.clock.run_for(50)
    assert page.evaluate("window.drawn.length") == 1
