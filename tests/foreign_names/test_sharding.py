"""DeepSpeed's configs, stages of ZeRO and words of FSDP, in words of the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError
from fulgurite.foreign_names.settings import translate_setting
from fulgurite.foreign_names.settings_file import read_settings
from fulgurite.foreign_names.sharding import find_strategy

FSDP, TWO, OFFLOAD = "strategy=fsdp", "strategy=fsdp strategy.reshard=false", " strategy.offload=true"


@pytest.mark.parametrize(("value", "words"), [
    ("ds_z0_config.json", "strategy=ddp"),
    ("examples/deepspeed/ds_z2_config.json", TWO),
    ("ds_z2_offload_config.json", TWO + OFFLOAD),
    ("ds_z3_config.json", FSDP),
    ("ds_z3_offload_config.json", FSDP + OFFLOAD),
    ("deepspeed_configs/zero1.json", TWO),
    ("deepspeed_configs/zero3_bf16.json", FSDP),
    ("deepspeed_stage_1", TWO),
    ("deepspeed_stage_3_offload", FSDP + OFFLOAD),
    ("deepspeed", FSDP),
    ("ZeRO-3", FSDP),
    ("2", TWO),
    ("3", FSDP),
    ("fsdp2", FSDP),
    ("full_shard auto_wrap", FSDP),
    ("full_shard,offload", FSDP + OFFLOAD),
    ("shard_grad_op", TWO),
    ("hybrid_shard auto_wrap", "strategy=fsdp strategy.hybrid=..."),
    ("no_shard", "strategy=ddp"),
    ("true", FSDP),
    ("horovod", None),
    ("12", None),
])
def test_names_become_words(value: str, words: str | None) -> None:
    assert find_strategy(value) == words


@pytest.mark.parametrize(("config", "words"), [
    ({"zero_optimization": {"stage": 3}}, FSDP),
    ({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}, TWO + OFFLOAD),
    ({"zero_optimization": {"stage": 3, "offload_param": {"device": "none"}}}, FSDP),
    ({"train_batch_size": "auto"}, "strategy=ddp"),
])
def test_a_config_is_read(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    """The file counts, not its name."""
    path = tmp_path / "ds_z1_offload.json"
    path.write_text(json.dumps(config))
    assert find_strategy(str(path)) == find_strategy(json.dumps(config)) == words
    path.write_text("{broken")
    assert find_strategy(str(path)) == TWO + OFFLOAD


def test_settings_and_files_of_settings_use_them(tmp_path: Path) -> None:
    for name in ("deepspeed", "fsdp", "zero_stage", "DeepSpeed stage"):
        found = translate_setting(name, "3")
        assert found is not None
        assert (found.words, found.is_copied) == ((FSDP,), True)
        assert not translate_setting(name, "none").words  # type: ignore[union-attr]
    file = tmp_path / "a.yaml"
    file.write_text("learning_rate: 1e-4\nstage: sft\ndeepspeed: examples/deepspeed/ds_z2_config.json\n")
    assert {"strategy=fsdp", "strategy.reshard=false"} <= {*read_settings(str(file)).words}
    file.write_text("learning_rate: 1e-4\ndeepspeed:\n  zero_optimization:\n    stage: 3\n")
    assert "strategy=fsdp" in read_settings(str(file)).words


def test_words_compose_and_a_foreign_option_is_answered_with_them() -> None:
    for value in ("deepspeed_stage_2_offload", "zero3", "no_shard"):
        compose((find_strategy(value) or "").split())
    with pytest.raises(ConfigError, match=r"There is no strategy=zero3\. Write strategy=fsdp\."):
        compose(["strategy=zero3"])
