"""No micro-batch waits for the device, in any stage: what a program reads is read once a step.

On a CPU nothing waits, so the operations are counted for which a GPU would be waited for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import tiny_experiment
from tests.model.test_router_loss import EXPERTS, batch_of, made, stage_of
from tests.stage import one_step
from tests.stage.policy_runs import COUNT
from tests.stage.preference_data import judged, pairs, written
from torch.utils._python_dispatch import TorchDispatchMode

from fulgurite.data import loader
from fulgurite.stage import rollout_buffer

ATEN = torch.ops.aten
SIZED = (ATEN.nonzero.default, ATEN.masked_select.default, ATEN._local_scalar_dense.default, ATEN.equal.default)


class Waits(TorchDispatchMode):
    """Counts the operations whose result a program reads, or whose size depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.is_paused = 0, False

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masked = op is ATEN.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
        self.count += (op in SIZED or masked) and not self.is_paused
        return op(*args, **(kwargs or {}))


ROLLOUT = [*COUNT, "stage.max_new_tokens=6", "trainer.global_batch_size=4", "stage.minibatches=2"]
STAGES = {
    "sft": [],
    "rm": ["stage=rm", "method=full"],
    "dpo": ["stage=dpo"],
    "dpo of a copy": ["stage=dpo", "method=full", "stage.sft_weight=0.5"],
    "aot": ["stage=dpo", "stage.loss=aot"],
    "kto": ["stage=kto"],
    "ppo": ["stage=ppo", *ROLLOUT, "trainer.global_batch_size=16"],
    "grpo": ["stage=grpo", *ROLLOUT, "stage.num_generations=4", "stage.kl_coefficient=0.05"],
}
AT_START = 2
"""How often a step that looks at all its examples before its first loss may wait: for what all processes found."""


def data_of(words: list[str], folder: Path) -> list[str]:
    """The words of a stage's data."""
    if not any(word in ("stage=rm", "stage=dpo", "stage=kto") for word in words):
        return []
    records: Any = judged(20) if "stage=kto" in words else pairs(40)
    return ["data=file", f"data.path={written(folder / 'data.jsonl', records)}"]


class Watch:
    """The waits of a stage before and after each call of its methods."""

    def __init__(self, stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waits, self.steps = Waits(), [[]]
        for method in ("training_step", "on_step_start", "configure_gradient_clipping"):
            monkeypatch.setattr(stage, method, self._follow(method, getattr(stage, method)))
        # On the CPU, and of a loader by workers if there are any.
        for holder, name in ((loader._MicroBatches, "__getitem__"), (rollout_buffer, "find_unpadded")):
            monkeypatch.setattr(holder, name, self._pause(getattr(holder, name)))

    def _follow(self, method: str, usual: Any) -> Any:
        def call(*given: Any, **more: Any) -> Any:
            before = self.waits.count
            self.steps[-1].append((method, before))
            found = usual(*given, **more)
            if method == "on_step_start":
                self.steps[-1].append(("after", self.waits.count))
            if method == "configure_gradient_clipping":
                self.steps.append([])
            return found

        return call

    def _pause(self, usual: Any) -> Any:
        def call(*given: Any) -> Any:
            self.waits.is_paused = True
            try:
                return usual(*given)
            finally:
                self.waits.is_paused = False

        return call


@pytest.mark.parametrize("name", STAGES)
def test_no_micro_batch_waits_for_the_device(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first micro-batch of a step to the losses and the norm at its end, callbacks included."""
    words = ["trainer.global_batch_size=8", "trainer.micro_batch_size=2", "data.val_fraction=0", *STAGES[name]]
    experiment = tiny_experiment(tmp_path / "run", *words, *data_of(words, tmp_path))
    watch = Watch(experiment.module, monkeypatch)
    if hasattr(experiment.module, "_checked"):
        experiment.module._checked = True  # a run looks once whether policy and reference are equal: first micro-batch
    with watch.waits:
        experiment.fit()
    assert len(watch.steps) == 3  # the last one has not begun
    for step in watch.steps[:-1]:
        assert [method for method, _ in step].count("training_step") >= 2
        assert step[-1][0] == "configure_gradient_clipping"
        ahead = [count for method, count in step if method in ("on_step_start", "after")]
        at_start = ahead[1] - ahead[0] if ahead else 0
        assert at_start <= AT_START
        assert step[-1][1] - step[0][1] == at_start
    assert watch.waits.count > 0


def test_the_balance_loss_of_experts_waits_for_nothing() -> None:
    """transformers may ask the device in a layer of experts; the loss adds nothing to that."""
    counts, batch = [], batch_of([24, 13])
    batch["label_positions"] = (batch["targets"] >= 0).flatten().nonzero()[:, 0]
    batch["units"] = len(batch["label_positions"])
    for coefficient in (0, 0.3):
        stage, waits = stage_of(made(EXPERTS["mixtral"]), f"stage.router_aux_loss_coef={coefficient}"), Waits()
        with waits:
            stage.compute_total_loss(batch).backward()
        counts.append(waits.count)
    assert counts[0] == counts[1]


def test_a_sharded_step_looks_twice_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether losses and norm are finite is asked of all processes, whatever the number of micro-batches."""
    for count in (1, 4):
        stage, asked = one_step.stage_of("method=full"), []
        monkeypatch.setattr(stage, "all_reduce", lambda value, asked=asked: asked.append(value) or value)
        stage.is_sharded = True
        examples = one_step.examples(512)
        one_step.fit(stage, [one_step.batch_of(examples, 4)] * count, accumulate_grad_batches=count)
        assert len(asked) == 4  # beside the two, the sum of the losses and of the metrics for metrics.jsonl
