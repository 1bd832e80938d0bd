"""eval.json: every evaluation of a run, none of them lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fulgurite.errors import RequestError
from fulgurite.evaluate.calibration import CalibrationBin
from fulgurite.evaluate.result import EvalResult, add_result, read_results


def test_evaluations_are_added_in_their_order(tmp_path: Path) -> None:
    assert read_results(tmp_path) == []
    for loss in (2.0, 1.0):
        add_result(tmp_path, EvalResult("run", "step-2", 2, {"loss": loss}).to_json())
    assert [row["numbers"] for row in read_results(tmp_path)] == [{"loss": 2.0}, {"loss": 1.0}]
    assert (tmp_path / "eval.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["eval.json"]


@pytest.mark.parametrize(("text", "sentence"), [
    ("{", "cannot be read"), ("[]", "has no list"), ('{"evaluations": [1]}', "has no list"),
])
def test_a_damaged_file_is_refused_and_kept(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "eval.json").write_text(text)
    with pytest.raises(RequestError, match=sentence):
        add_result(tmp_path, EvalResult("run", None, None).to_json())
    assert (tmp_path / "eval.json").read_text() == text


def test_a_result_is_plain_json_with_its_version_and_time() -> None:
    bins = [CalibrationBin(0.5, 0.55, 3, 0.52, 1.0)]
    found = EvalResult("run", "step-2", 2, {"loss": 1.0}, {"pairs": 3}, bins, {"part": "all"}).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["calibration"] == [{"low": 0.5, "high": 0.55, "count": 3, "confidence": 0.52, "accuracy": 1.0}]
    assert found["version"]
    assert found["time"].endswith("+00:00")
    assert "calibration" not in EvalResult("run", None, None).to_json()
