"""The rules of data.py: examples that are cut, dropped, repeated, drawn, packed or held out."""

from __future__ import annotations

import numpy as np
import pytest
from tests.plan.rules.cases import Case, check_complete, check_found, check_not_found, data, describe, model

FOUND = [
    Case(
        "data.too-long", "", {"data": data(too_long=105, percentile_99=700)}, "note",
        "105 of 10,500 examples (1.0%) are longer than 512 tokens: they are dropped; 99 % have at most 700",
        "data.max_length=704",
    ),
    Case("data.too-long", "", {"data": data(too_long=3000)}, "warning", "28.6%"),
    Case(
        "data.too-long", "data.too_long=truncate", {"data": data(too_long=200, cut_answers=200, percentile_99=4000)},
        "warning", "200 are cut", "data.too_long=drop",
    ),
    Case(
        "data.too-long", "data.too_long=truncate", {"data": data(too_long=3000, cut_answers=3000, percentile_99=900)},
        "error", "", "data.max_length=960",
    ),
    Case(
        "data.too-long", "data.too_long=truncate", {"data": data(too_long=50, cut_answers=50, percentile_99=300)},
        "note", "50 are cut", "data.too_long=drop",
    ),
    Case(
        "data.few-labels", "", {"data": data(empty_labels=3, dropped={"bad record, x: y": 2})}, "error",
        "3 examples have no label left", "data.max_drop=5",
    ),
    Case(
        "data.few-labels", "data.mask=last", {"data": data(label_tokens=90_000)}, "warning",
        "Only 4.5% of 2,000,000 tokens are learned", "data.mask=answers",
    ),
    Case(
        "data.beyond-model", "",
        {"data": data(lengths=np.array([40, 600]), max_length=1024), "model": model(max_positions=512)}, "error",
        "The longest example has 600 tokens, but the model reads at most 512.", "data.max_length=512",
    ),
    Case(
        "packing.mixing", "stage=pt", {"model": model(architecture="OPTForCausalLM", packs=False)}, "error",
        "OPTForCausalLM cannot keep packed examples apart", "data.packing=none",
    ),
    Case(
        "packing.mixing", "data.packing=best_fit", {"model": model(architecture="GptOssForCausalLM", packs=False)},
        "error", "GptOss", "data.packing=none",
    ),
    Case(
        "packing.mask", "stage=pt", {"model": model(architecture="Llama4ForCausalLM", packs=True, documents=False)},
        "note", "Llama4ForCausalLM keeps packed examples apart by a mask",
    ),
    Case(
        "data.sampled", "data.max_samples=1000", {"data": data(not_drawn=9000)}, "note",
        "draws 1,000 of 10,000 examples at random with seed 42", "data.max_samples=null",
    ),
    Case(
        "data.no-validation", "data.val_fraction=0", {"data": data(val_rows=0)}, "warning",
        "over-fitting will not be visible", "data.val_fraction=0.05",
    ),
    Case(
        "data.repeats", "trainer.epochs=10", {}, "warning", "10 epochs over 10,000 examples: expect",
        "trainer.epochs=3",
    ),
    Case(
        "data.repeats", "trainer.epochs=2", {"data": data(rows=200_000)}, "warning", "2 epochs over 200,000 examples",
        "trainer.epochs=1",
    ),
    Case(
        "data.repeats", "trainer.max_steps=1000 trainer.global_batch_size=10", {"data": data(rows=1000)}, "warning",
        "10 epochs over 1,000 examples", "trainer.max_steps=300",
    ),
    Case(
        "data.repeats", "", {"data": data(duplicates=200)}, "note",
        "200 of 10,000 examples occur more than once",
    ),
    Case(
        "data.forgetting", "method=full", {"data": data(sources=["a.jsonl"])}, "note", "all weights for 2 epochs",
        "trainer.epochs=1",
    ),
    Case(
        "data.forgetting", "optim.lr=2e-3", {"data": data(sources=["a.jsonl"])}, "note", "the highest usual rate",
        "trainer.epochs=1",
    ),
    Case(
        "data.cache", "", {"data": data(fresh=True, lengths=np.full(1_000_000, 400))}, "note",
        "Tokenising 1,000,000 examples takes about 22 minutes",
    ),
]
NOT_FOUND = [
    Case("data.too-long"),
    Case("data.too-long", "stage=pt", {"data": data(too_long=500)}),
    Case("data.few-labels"),
    Case("data.few-labels", "data.max_drop=3", {"data": data(empty_labels=3)}),
    Case("data.few-labels", "stage=grpo stage.reward=[length:50]", {"data": data(label_tokens=0)}),
    Case(
        "data.beyond-model", "",
        {"data": data(lengths=np.array([40, 600]), max_length=512), "model": model(max_positions=512)},
    ),
    Case(
        "data.beyond-model", "",
        {"data": data(lengths=np.array([40, 500]), max_length=1024), "model": model(max_positions=512)},
    ),
    Case("packing.mixing", "", {"model": model(architecture="OPTForCausalLM", packs=False)}),
    Case("packing.mask", "", {"model": model(architecture="Llama4ForCausalLM", documents=False)}),
    Case("packing.mask", "stage=pt", {"model": model(architecture="LlamaForCausalLM", documents=True)}),
    Case("packing.mask", "stage=pt", {"model": model(architecture="Gemma2ForCausalLM")}),
    Case("packing.mixing", "stage=pt", {"model": model(architecture="LlamaForCausalLM", packs=True)}),
    Case("packing.mixing", "stage=pt", {"model": model(architecture="UnknownForCausalLM")}),
    Case("data.sampled"),
    Case("data.no-validation"),
    Case("data.repeats"),
    Case("data.repeats", "trainer.epochs=3"),
    Case("data.repeats", "trainer.max_steps=50 trainer.global_batch_size=10", {"data": data(rows=10), "steps": 50}),
    Case("data.forgetting", "method=full", {"data": data()}),
    Case("data.forgetting", "", {"data": data(sources=["a.jsonl"])}),
    Case("data.forgetting", "method=full trainer.epochs=1", {"data": data(sources=["a.jsonl"])}),
    Case("data.cache", "", {"data": data(fresh=False, lengths=np.full(1_000_000, 400))}),
    Case("data.cache", "", {"data": data(fresh=True, lengths=np.full(10_000, 400))}),
]


def test_every_rule_has_cases() -> None:
    check_complete("data", FOUND, NOT_FOUND)


@pytest.mark.parametrize("case", FOUND, ids=describe)
def test_rule_finds_the_trouble_and_its_remedy_mends_it(case: Case) -> None:
    check_found(case)


@pytest.mark.parametrize("case", NOT_FOUND, ids=describe)
def test_rule_finds_nothing_in_a_sound_run(case: Case) -> None:
    check_not_found(case)
