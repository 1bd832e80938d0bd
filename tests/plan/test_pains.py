"""Every trouble that people had is a rule, or is listed here with the test that prevents it.

S: read in another trainer's source; P: its users' threads.

`RULES` are the rows of the list's part A, by their ids; `S1` to `S25` and `P1` to `P25` are where its rows come from.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.errors import ConfigError
from fulgurite.plan.rules import RULES

ROOT = Path(__file__).parents[2]

ASKED = [
    "rate.low-for-lora", "rate.out-of-band", "rate.high-for-preference", "steps.too-few", "values.unexplained",
    "warmup.none",
    "warmup.fraction", "warmup.too-long", "scheduler.same-as", "scheduler.needs-eval", "scheduler.two-owners",
    "optim.muon-rate",
    "lora.scale-pinned", "loss.beta-band", "loss.knob-not-read", "kto.batch", "kto.balance", "rm.data",
    "preference.pairs",
    "stage.no-sft", "ppo.last-resort", "precision.unsupported", "precision.born-bf16", "precision.fp16-weights",
    "precision.cpu",
    "precision.pure-bf16", "memory.train", "memory.eval", "memory.replicas", "disk.checkpoints", "device.nothing-fits",
    "data.too-long",
    "data.no-end", "template.unsure", "data.two-starts", "data.few-labels", "packing.mixing", "data.sampled",
    "data.no-validation",
    "data.repeats", "data.forgetting", "tokens.new", "data.cache", "freeze.pattern", "method.refused", "resume.changed",
    "resume.finished", "resume.exactness", "board.silent",
]
"""Part A: before launch."""

HELD = {
    "values.unexplained":
        "tests/config/test_compose.py::test_provenance_has_the_origin_of_each_value_and_its_reason",
    "warmup.fraction": "tests/plan/test_pains.py::test_a_fraction_of_a_step_is_refused",
    "scheduler.needs-eval": "tests/scheduler/test_plateau.py::test_without_validation_it_is_refused_in_one_sentence",
    "scheduler.two-owners": "tests/plan/test_pains.py::test_no_file_of_another_library_has_a_say",
    "loss.knob-not-read":
        "tests/stage/config/test_preference.py::test_a_knob_that_would_not_be_read_is_refused_in_one_sentence",
    "precision.unsupported": "tests/precision/test_policy.py::test_bf16_on_a_gpu_without_it_is_refused",
    "precision.fp16-weights": "tests/precision/test_policy.py::test_live_tensors_have_the_declared_dtypes",
    "precision.cpu": "tests/precision/test_policy.py::test_fp16_on_a_cpu_is_refused_with_the_reason",
    "method.refused": "tests/optim/test_refusals.py::test_every_pair_is_refused_or_not_as_declared",
    "board.silent": "tests/cli/test_main.py::test_wrong_words_are_one_line_and_load_no_torch",
}
"""Rules that need no second voice: the code refuses by itself, before any weight is loaded, or it cannot happen here.
Of `board.silent` there is no page yet: each refusal is one sentence of one exception, which a page has but to show."""

ELSEWHERE = {
    "P2": HELD["values.unexplained"],
    "P5": "tests/stage/test_nonfinite.py::test_a_non_finite_loss_stops_before_the_step_and_names_the_weight",
    "P7": HELD["precision.unsupported"],
    "P8": "tests/stage/test_base.py::test_clipping_records_the_norm_before_and_scales_to_the_limit",
    "P23": HELD["scheduler.two-owners"],
    "P25": "tests/method/test_separate.py::test_an_adapter_on_four_bits_is_exported_apart",
    "S2": "tests/stage/test_preference.py::test_the_first_step_is_that_of_whole_logits_and_the_formula",
    "S7": HELD["precision.fp16-weights"],
    "S14": "tests/contracts/test_house.py::test_every_knob_is_read_by_code",
    "S15": "tests/contracts/test_house.py::test_every_knob_says_what_it_means_who_says_so_and_what_to_do",
    "S17": "tests/data/test_readers.py::test_every_kind_in_every_encoding_gives_the_same_records",
    "S18": "tests/config/test_compose.py::test_wrong_words_are_one_sentence_with_the_remedy",
    "S19": "tests/stage/test_reference.py::test_three_ways_to_a_reference_give_the_same_run",
    "S20": "tests/model/test_generate.py::test_the_context_is_the_compute_type",
}
"""Troubles that speak during or after the run (parts B and C), or that are held by construction (part D)."""

OURS = {
    "data.beyond-model", "steps.patience", "value.unusual", "export.template", "export.generation", "export.padding",
    "export.apart",
    "model.not-causal", "model.vocabulary", "model.mended", "model.attention",
    "lora.left-out", "memory.uneven-shards", "memory.empty-shards", "packing.mask",
}
"""Rules that no list asked for."""

NUMBERED = [f"{kind}{number}" for kind in "SP" for number in range(1, 26) if (kind, number) != ("S", 22)]
"""There is no S22 in the list."""


def named() -> set[str]:
    """The numbers that the rules' sources name."""
    return {word for rule in RULES.values() for word in re.findall(r"\b[SP]\d+\b", rule.source)}


def test_each_row_is_a_rule_or_is_held_and_never_both() -> None:
    assert len(ASKED) == len(set(ASKED)) == 49
    assert {*RULES, *HELD} == {*ASKED, *OURS}
    assert not RULES.keys() & HELD.keys()


def test_each_trouble_is_named_by_a_rule_or_stands_here() -> None:
    assert named() | ELSEWHERE.keys() == set(NUMBERED)
    assert not named() & ELSEWHERE.keys()


@pytest.mark.parametrize("place", sorted({*HELD.values(), *ELSEWHERE.values()}))
def test_what_holds_it_is_there(place: str) -> None:
    path, _, name = place.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_each_rule_says_in_a_sentence_what_for_and_who_told_us() -> None:
    for rule in RULES.values():
        assert rule.meaning.endswith(".")
        assert rule.source
        assert not rule.insist or rule.severity == "error", f"{rule.id}: what does not refuse need not be allowed"


def test_a_fraction_of_a_step_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"scheduler.warmup_steps=0.1 is not allowed: it must be a whole number"):
        compose(["scheduler.warmup_steps=0.1"])


def test_no_file_of_another_library_has_a_say() -> None:
    """If a trainer ever reads DeepSpeed's own file, a rule has to check it for an optimizer or a schedule."""
    load_options()
    assert not [name for name, cls in list_options("trainer").items() if "config_file" in cls.__dataclass_fields__]
    assert "deepspeed" not in list_options("trainer")
