"""The callback that feeds the rules: said once, kept, sent to the trackers, stopped for, remembered; and the update ratio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.callback.toy_stage import ToyStage, fit

from fulgurite.callback.metrics_logger import MetricsLogger
from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError, TrainingFailed
from fulgurite.logger.metrics_file import MetricsFile
from fulgurite.monitor.callback import MonitorCallback
from fulgurite.monitor.history import About
from fulgurite.monitor.reporter import Reporter
from fulgurite.monitor.rules import RULES, Moment
from fulgurite.monitor.update_ratio import UpdateRatio, due, ratio, sampled
from fulgurite.plan.verdict import refuse_unknown
from fulgurite.rules.registry import Finding


def watch(folder: Path, about: About | None = None, **more: Any) -> MonitorCallback:
    """A watch whose clock stands still unless one is given: a busy machine is no finding."""
    return MonitorCallback(Reporter(folder / "watch.jsonl"), about or About("sft", total=99), **{"clock": float} | more)


def told(folder: Path) -> list[dict[str, Any]]:
    path = folder / "watch.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Clipped(ToyStage):
    """Every step is clipped, at a norm of 250."""

    def configure_gradient_clipping(self, *rest: Any, **more: Any) -> None:
        super().configure_gradient_clipping(*rest, **more)
        self.step_record |= {"train/clipped": 1.0, "train/grad_norm": 250.0}


class Tables:
    """A tracker that keeps its tables of text."""

    save_dir, name, version = None, "tables", "0"

    def __init__(self) -> None:
        self.got: list[tuple[str, list[str], list[list[str]], int]] = []

    def log_text(self, key: str, columns: list[str], data: list[list[str]], step: int) -> None:
        self.got.append((key, columns, data, step))

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


def test_a_sentence_is_said_once_kept_and_sent_to_the_trackers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = Tables()
    fit([watch(tmp_path)], steps=60, micro=1, stage=Clipped(), loggers=[tracker], folder=tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["warning (norm-high, step 20)", "warning (clip-share, step 50)"]
    rows = told(tmp_path)
    assert [(row["step"], row["rule"], row["severity"]) for row in rows] == [(20, "norm-high", "warning"), (50, "clip-share", "warning")]
    assert rows[1]["values"] == {"share": 1.0, "steps": 50, "median_norm": 250.0, "limit": 1.0}
    assert said[1] == f"warning (clip-share, step 50): {rows[1]['sentence']} {rows[1]['remedy']}"
    assert [(key, len(data), step) for key, _, data, step in tracker.got] == [("watch", 1, 20), ("watch", 2, 50)]
    assert tracker.got[1][1] == ["step", "rule", "severity", "sentence", "remedy"]
    assert tracker.got[1][2][1][:3] == ["50", "clip-share", "warning"]


def test_a_silenced_rule_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit([watch(tmp_path, quiet=["norm-high", "clip-share"])], steps=60, micro=1, stage=Clipped(), folder=tmp_path)
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "watch.jsonl").exists()


def test_an_unknown_rule_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"monitor\.ignore=clip-shar is no rule\. Did you mean clip-share\? There are: step-zero, "):
        refuse_unknown([], compose(["monitor.ignore=[norm-high,clip-shar]"]).run.monitor.ignore)


class Nothing(ToyStage):
    """Steps without a label."""

    def configure_gradient_clipping(self, *rest: Any, **more: Any) -> None:
        super().configure_gradient_clipping(*rest, **more)
        self.tokens_seen = 0


def test_a_rule_that_stops_raises_with_its_sentence_after_it_is_kept(tmp_path: Path) -> None:
    sentence = r"^Step 1: A step has no label token .* To go on all the same: monitor\.ignore=\[labels-empty\]\.$"
    with pytest.raises(TrainingFailed, match=sentence):
        fit([watch(tmp_path)], stage=Nothing(), folder=tmp_path)
    assert [(row["step"], row["rule"], row["severity"]) for row in told(tmp_path)] == [(1, "labels-empty", "stop")]
    assert TrainingFailed.exit_status == 3


def test_what_a_killed_process_said_after_its_checkpoint_is_forgotten(tmp_path: Path) -> None:
    voice = Reporter(tmp_path / "watch.jsonl")
    for step, name in ((3, "norm-high"), (7, "clip-share")):
        voice.speak(step, name, Finding("Something is wrong.", "Do this."), [], True)
    with (tmp_path / "watch.jsonl").open("a") as stream:
        stream.write('{"step": 8, "rule": "pla')
    again = Reporter(tmp_path / "watch.jsonl")
    again.begin(5, True)
    assert again.said == {"norm-high"}
    assert [row["step"] for row in told(tmp_path)] == [3]
    other = Reporter(tmp_path / "watch.jsonl")
    other.begin(5, False)  # another process of the run reads, and writes nothing
    assert other.said == {"norm-high"}


def test_a_disk_that_refuses_never_ends_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Reporter(tmp_path / "gone" / "watch.jsonl").speak(1, "norm-high", Finding("Something is wrong.", "Do this."), [], True)
    assert "watch.jsonl cannot be written (No such file or directory); the run goes on." in caplog.text


def test_the_state_holds_nothing_of_the_clock_and_is_all_there_is(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = watch(tmp_path / "one")
    fit([one], steps=30, micro=2, eval_every=10, folder=tmp_path)
    two = watch(tmp_path / "two", clock=iter(range(10**6)).__next__)  # type: ignore[arg-type]
    fit([two], steps=30, micro=2, eval_every=10, folder=tmp_path)
    assert json.dumps(one.state_dict()) == json.dumps(two.state_dict())
    again = watch(tmp_path / "one")
    again.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert again.seen.history == one.seen.history
    assert [e.step for e in again.seen.history.evaluations] == [10, 20, 30]
    assert again.seen.history.last["labels"] == 6


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow(ToyStage):
    """A micro-batch computes 1 s; `clock` moves by `waits` while the next is fetched."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.clock.now += 1
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.clock.now += 1000
        super().validation_step(batch, batch_idx)


@pytest.mark.parametrize(("waits", "expected"), [(1.5, [(21, "data-waits")]), (0.5, [])])
def test_waiting_is_told_from_computing_and_from_evaluating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: float, expected: list[tuple[int, str]]
) -> None:
    clock = Clock()
    stage = Slow(clock)
    monkeypatch.setattr(stage, "transfer_batch_to_device", lambda batch, *rest: (setattr(clock, "now", clock.now + waits), batch)[1])
    callback = watch(tmp_path, clock=clock)
    fit([callback], steps=25, micro=2, eval_every=5, stage=stage, folder=tmp_path)
    assert [(row["step"], row["rule"]) for row in told(tmp_path)] == expected
    assert callback.seen.computed == 20 * 2 * 1.0
    # 20 steps of two fetches; the first after each of the evaluations at 5, 10, 15 and 20 is not counted
    assert callback.seen.waited == pytest.approx(waits * (40 - 4))


# -- the update ratio ------------------------------------------------------------------------------------------------------


def test_which_steps_are_measured() -> None:
    assert [step for step in range(1, 300) if due(step)] == [1, 2, 4, 8, 16, 32, 64, 128, 192, 256]
    assert [step for step in range(1, 100) if due(step, 10)] == [1, 2, 4, 8, 10, 16, 20, 32, 40, 64, 80]


def test_the_ratio_by_hand() -> None:
    before, after = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])
    assert ratio(before, after) == pytest.approx(0.5 / 5)
    assert ratio(torch.zeros(2), after) is None


def test_a_sample_is_spread_over_all_weights_and_small_models_are_looked_at_whole() -> None:
    parts = [torch.arange(100.0), torch.arange(100.0, 1100.0).view(10, 100)]
    assert torch.equal(sampled(parts), torch.arange(1100.0))
    some = sampled(parts, 110)  # every 11th of each part
    assert torch.equal(some, torch.cat([torch.arange(0.0, 100, 11), torch.arange(100.0, 1100, 11)]))
    assert sampled([torch.ones(3, dtype=torch.bfloat16)]).dtype == torch.float32


def test_the_ratio_stands_in_the_rows_and_is_that_of_the_whole_step(tmp_path: Path) -> None:
    seen: list[list[torch.Tensor]] = []

    class Keeping(ToyStage):
        def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            before = torch.cat([p.detach().flatten().clone() for p in self.parameters()])
            super().optimizer_step(*args, **kwargs)
            seen.append([before, torch.cat([p.detach().flatten() for p in self.parameters()])])

    record = MetricsLogger(MetricsFile(tmp_path / "metrics.jsonl"), log_every=1, total_steps=9)
    fit([UpdateRatio(), record], steps=9, stage=Keeping(), folder=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = {row["step"]: row["train/update_ratio"] for row in rows if "train/update_ratio" in row}
    assert len(seen) == 9
    expected = {step: float((seen[step - 1][1] - seen[step - 1][0]).norm() / seen[step - 1][0].norm()) for step in (1, 2, 4, 8)}
    assert found == pytest.approx(expected)


def test_looking_changes_nothing(tmp_path: Path) -> None:
    plain, looked = fit([], folder=tmp_path), fit([UpdateRatio(), watch(tmp_path)], folder=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), looked.parameters(), strict=True))


def test_a_checkpoint_of_before_the_watch_lets_the_rules_that_need_the_start_keep_silent(tmp_path: Path) -> None:
    callback = watch(tmp_path, About("sft", total=200, warmup=0))
    for step in range(61, 161):
        callback.seen.history.add(step, {"train/loss": 2.0, "train/lr": 1e-4, "train/clipped": 0.0, "train/grad_norm": 1.0}, 500)
        assert list(RULES.find(callback.seen, Moment.step)) == []
