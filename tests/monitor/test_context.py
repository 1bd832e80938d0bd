"""What the rules know of a run before its first step."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fulgurite.config.run import RunConfig
from fulgurite.explain.knob_index import build_default_run
from fulgurite.monitor.context import build_about
from fulgurite.precision.config import Rounding


def build_module(adapter: bool = True, rounding: Rounding | None = None, **more: Any) -> Any:
    embedding = torch.nn.Embedding(7, 2)
    model = SimpleNamespace(get_input_embeddings=lambda: embedding, **({"peft_config": {}} if adapter else {}))
    return SimpleNamespace(model=model, dtypes=SimpleNamespace(rounding=rounding, compute=torch.float32), **more)


def build_rows(packed: bool = False, counts: tuple[int, ...] = (10, 20, 30)) -> Any:
    return SimpleNamespace(packed=packed, label_counts=np.array(counts))


def build_run(**chosen: str) -> RunConfig:
    run = build_default_run(**chosen)
    return replace(
        run, optim=replace(run.optim, lr=3e-4),
        trainer=replace(run.trainer, global_batch_size=4, max_grad_norm=None),
        scheduler=replace(run.scheduler, warmup_steps=5),
    )


def test_numbers_come_from_the_config_the_model_and_the_rows() -> None:
    found = build_about(200, build_module(run=build_run(stage="sft")), build_rows())
    assert (found.stage, found.lr, found.warmup, found.total, found.batch_size) == ("sft", 3e-4, 5, 200, 4)
    assert (found.adapter, found.vocab, found.clip, found.private) == (True, 7, 0.0, False)
    # nine of ten rows have at most 28 labels, by linear interpolation between 20 and 30
    assert found.answer_tokens == 28


def test_packed_rows_do_not_tell_the_length_of_an_answer() -> None:
    run = build_run(stage="sft")
    assert build_about(200, build_module(run=run), build_rows(packed=True)).answer_tokens is None
    assert build_about(200, build_module(run=build_run(stage="pt")), build_rows()).answer_tokens is None


@pytest.mark.parametrize(
    ("rounding", "nearest"), [(Rounding.nearest, True), (Rounding.stochastic, False), (None, False)]
)
def test_nearest_is_the_rounding_of_the_steps(rounding: Rounding | None, nearest: bool) -> None:
    found = build_about(200, build_module(run=build_run(stage="sft"), adapter=False, rounding=rounding), build_rows())
    assert (found.nearest, found.adapter) == (nearest, False)


def test_pairs_are_paired_with_a_reference_if_the_loss_compares_whole_answers() -> None:
    run = build_run(stage="dpo")
    run = replace(run, stage=replace(run.stage, beta=0.2))
    found = build_about(200, build_module(run=run, refers=True, averaged=False), build_rows())
    assert (found.pairs, found.beta, found.paired) == (True, 0.2, True)
    assert not build_about(200, build_module(run=run, refers=False, averaged=False), build_rows()).paired
    assert not build_about(200, build_module(run=run, refers=True, averaged=True), build_rows()).paired
