"""The text of a result fits the terminal, in both languages."""

from __future__ import annotations

import pytest

from fulgurite.evaluate.calibration import CalibrationBin
from fulgurite.evaluate.report import MEANINGS, format_result, format_value
from fulgurite.evaluate.result import EvalResult
from fulgurite.language.current import use_language
from fulgurite.text.layout import count_cells

RESULT = EvalResult(
    "runs/2026-12-01/10-00-00_dpo", "step-20", 20, {"loss": 0.5, **dict.fromkeys(MEANINGS, 0.25)},
    {"examples": 1234, "pairs": 1234}, [CalibrationBin(0.5, 0.55, 1234, 0.52, 0.61)], {"part": "validation"},
)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("columns", [60, 80])
def test_lines_fit(language: str, columns: int) -> None:
    with use_language(language):
        text = format_result(RESULT, columns)
    assert max(map(count_cells, text.splitlines())) <= columns
    assert all(name in text for name in RESULT.numbers)


def test_a_result_shows_what_was_measured_on_what() -> None:
    text = format_result(RESULT, 80)
    assert "runs/2026-12-01/10-00-00_dpo, checkpoint step-20" in text
    assert "1,234 examples: the validation set of the run; 1,234 pairs" in text
    assert "0.50-0.55   1234" in text
    assert "mean loss of a pair" in text


@pytest.mark.parametrize(("result", "line"), [
    (EvalResult("r", None, 0), "r, before training"), (EvalResult("tiny", None, None), "tiny"),
])
def test_a_model_without_a_checkpoint(result: EvalResult, line: str) -> None:
    assert format_result(result, 80).splitlines()[0] == line


@pytest.mark.parametrize(("value", "text"), [(0.123456, "0.1235"), (9999.5, "9999.5000"), (123456.0, "1.235e+05")])
def test_values(value: float, text: str) -> None:
    assert format_value(value) == text
