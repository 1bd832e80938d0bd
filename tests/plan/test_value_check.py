"""Values that are judged before a run, for the stage, method and size that are given beside them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fulgurite.errors import ConfigError
from fulgurite.plan.value_check import find_value_troubles


@pytest.mark.parametrize(("words", "rule", "severity", "part"), [
    ("optim.lr=1e-7", "rate.low-for-lora", "warning", "0.0001 to 0.002 is usual for stage=sft"),
    ("optim.lr=1e-7 stage=dpo method=full", "rate.out-of-band", "warning", "5 times as high"),
    ("optim.lr=1e-4 stage=dpo method=full", "rate.high-for-preference", "error", "5e-07 to 2e-06"),
    ("optim.lr=5e-5 stage=dpo model=hf model.path=a/b", "rate.high-for-preference", "warning", "1e-06 to 1e-05"),
    ("stage.beta=2 stage=dpo", "loss.beta-band", "warning", "0.01 to 0.5"),
    ("optim.weight_decay=0.5", "value.unusual", "warning", "optim.weight_decay=0.5"),
])
def test_value_is_judged_as_plan_would(words: str, rule: str, severity: str, part: str) -> None:
    [found] = find_value_troubles(words.split())
    assert (found.rule, str(found.severity)) == (rule, severity)
    assert part in str(found.sentence)


def test_other_words_are_context_and_are_not_judged() -> None:
    found = find_value_troubles(["optim.lr=1e-3", "trainer.keep_checkpoints=9"])
    assert [trouble.about for trouble in found] == ["trainer.keep_checkpoints"]
    assert find_value_troubles(["optim.lr=1e-3"]) == []
    assert find_value_troubles(["stage=dpo"]) == []
    assert find_value_troubles(["data.mask=last"]) == []


def test_value_that_is_not_legal_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optim\.lr=-1"):
        find_value_troubles(["optim.lr=-1"])


def test_judging_loads_no_torch() -> None:
    code = "import sys; from fulgurite.plan.value_check import find_value_troubles"
    code += "; find_value_troubles(['optim.lr=1e-7', 'stage=dpo'])"
    code += "; print({'torch', 'transformers', 'lightning', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
