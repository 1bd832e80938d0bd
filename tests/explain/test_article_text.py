"""Each verdict of the article's page, compared with the declarations."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from fulgurite.config.run import load_options
from fulgurite.config.schema import Range, list_options
from fulgurite.explain import article_text as article
from fulgurite.language import LANGUAGES, use_language
from fulgurite.loss import preference  # noqa: F401  the losses that the table names
from fulgurite.optim.default_lrs import SIZES
from fulgurite.plan.thresholds import BF16_GRAIN
from fulgurite.scheduler.equivalence import build_curve, find_same

load_options()
VERDICTS = {rate: (said, verdict) for rate, said, verdict in article.list_verdicts()}


def test_the_headings_are_the_article_s() -> None:
    heads = [block.head for block in article.list_blocks() if block.head]
    assert heads[:6] == [
        "Fine-tuning methods", "Training stages", "The learning rate of AdamW", "Maximum gradient norm",
        "Compute types", "Learning rate schedules",
    ]
    named = {row[0] for block in article.list_blocks() for row in block.rows}
    assert {"full", "freeze", "LOFA", "QLoRA", "PT", "SFT", "RM", "PPO", "DPO", *article.SCHEDULES} <= named


def test_seven_rates_are_judged_one_by_one() -> None:
    assert tuple(VERDICTS) == article.RATES == (5e-5, 1e-6, 1e-3, 1e-4, 5e-4, 1e-5, 1e-7)


def test_5e_5_is_below_lora_and_above_full_sft_and_far_above_dpo() -> None:
    lora, full = article.get_usual_rate("sft", "lora"), article.get_usual_rate("sft", "full")
    assert lora.low is not None
    assert full.high is not None
    assert full.high < 5e-5 < lora.low
    assert VERDICTS[5e-5][1].facts["times"] == f"{5e-5 / article.get_rate('dpo', 'full'):.0f}"
    assert 5e-5 / article.get_rate("dpo", "full") >= 10


def test_1e_6_is_a_rate_of_preference_training_alone() -> None:
    for stage in ("dpo", "kto", "grpo"):
        assert article.get_usual_rate(stage, "full").has(1e-6)
    for method in ("full", "lora"):
        low = article.get_usual_rate("sft", method).low
        assert low is not None
        assert low > 1e-6


def test_1e_3_is_for_small_models_not_for_large_ones() -> None:
    assert article.get_usual_rate("sft", "full", article.SMALL).has(1e-3)
    assert article.get_usual_rate("sft", "lora", article.SMALL).has(1e-3)
    assert not article.get_usual_rate("sft", "full").has(1e-3)
    assert not article.get_usual_rate("sft", "lora").has(1e-3)
    rates = [article.get_rate("sft", "full", size) for size in (0.135, *SIZES, 70)]
    assert rates == sorted(rates, reverse=True)


def test_1e_4_is_lora_s_above_14b_and_a_reward_model_s() -> None:
    assert article.get_rate("sft", "lora", 32) == 1e-4
    assert article.get_usual_rate("sft", "lora", 32).has(1e-4)
    assert article.get_usual_rate("rm", "lora").has(1e-4)


def test_5e_4_is_lora_s_high_end_for_small_models() -> None:
    assert article.get_usual_rate("sft", "lora", 1.0).has(5e-4)
    high = article.get_usual_rate("sft", "lora").high
    assert high is not None
    assert high < 5e-4


def test_1e_5_is_full_sft_s_and_lora_dpo_s() -> None:
    assert article.get_rate("sft", "full") == 1e-5
    assert article.get_usual_rate("dpo", "lora").has(1e-5)


def test_1e_7_is_nobody_s() -> None:
    for stage in list_options("stage"):
        for method in ("full", "lora"):
            for size in (0.135, 3, 7.6, 70):
                assert not article.get_usual_rate(stage, method, size).has(1e-7)
    facts = VERDICTS[1e-7][1].facts
    assert float(facts["moved"]) == pytest.approx(facts["steps"] * 1e-7)


def test_a_rate_is_judged_by_its_range() -> None:
    usual = Range(1e-4, 3e-4)
    assert str(article.judge_rate(5e-5, usual)) == "2 × too low"
    assert str(article.judge_rate(1e-3, usual)) == "3 × too high"
    assert str(article.judge_rate(1e-4, usual)) == str(article.judge_rate(3e-4, usual)) == "usual"
    assert str(article.judge_rate(5e-4, usual)) == "1.7 × too high"


def test_the_default_norm_is_the_declared_one() -> None:
    rows = next(block.rows for block in article.list_norms() if block.rows)
    assert [row[0] for row in rows] == ["`1`", "`3` to `5`", "larger"]
    assert "The default for everything: 1. Usual is 0.2 to 10" in rows[0][2]


def test_floats_are_torch_s() -> None:
    import torch

    kinds = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    for found in article.FORMATS:
        info = torch.finfo(kinds[found.name])
        assert found.largest == pytest.approx(info.max, rel=1e-6)
        assert 2.0**-found.fraction == info.eps
    assert [found.significant for found in article.FORMATS] == [24, 11, 8]
    assert 2 * 2 ** article.FORMATS[2].significant == BF16_GRAIN
    table = article.list_types()[2].rows
    assert table[1][:2] == ("fp16", "65,504")
    assert table[2][:2] == ("bf16", "3.4e38")


def test_bf16_does_not_halve_a_full_fine_tuning() -> None:
    sums = {row[0]: row[1] for row in article.list_types()[4].rows}
    assert sums["bf16"] == sums["fp32"] == "4 + 4 + 8 = 16"
    assert sums["pure_bf16"] == "2 + 2 + 4 = 8"


def test_the_schedules_coincide_as_the_page_says() -> None:
    options: dict[str, Any] = dict(list_options("scheduler"))
    same = {
        "polynomial": (options["polynomial"](power=1.0, lr_end=0.0, warmup_steps=0), "linear"),
        "cosine_with_restarts": (options["cosine_with_restarts"](cycles=1, warmup_steps=0), "cosine"),
        "constant_with_warmup": (options["constant_with_warmup"](warmup_steps=0), "constant"),
    }
    for config, other in same.values():
        assert other in {name for name, _ in find_same(config, 1000, 1e-4)}
    assert article.measure_left() == pytest.approx(1 / math.sqrt(1 + 1000 / 10000), abs=1e-3)


def test_constant_with_warmup_rises_and_stays() -> None:
    option: Any = list_options("scheduler")["constant_with_warmup"]
    curve = build_curve(option(warmup_steps=10), 100, 1e-4)
    assert curve(1) < curve(5) < curve(10) == curve(99) == 1


def test_both_languages_have_the_same_blocks() -> None:
    shapes = []
    for language in LANGUAGES:
        with use_language(language):
            blocks = article.list_blocks()
        shapes.append([(bool(b.head), len(b.columns), len(b.rows), b.figure, bool(b.text)) for b in blocks])
        if language == "zh":
            assert all(re.search(r"[\u4e00-\u9fff]", b.head + b.text) for b in blocks if b.head or b.text)
    assert shapes[0] == shapes[1]
