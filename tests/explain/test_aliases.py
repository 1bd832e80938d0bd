"""The names of other tools, and the earlier names here, lead to a parameter."""

from __future__ import annotations

from fulgurite.explain.aliases import list_aliases


def test_names_of_other_tools_and_earlier_ones() -> None:
    assert "learning_rate" in list_aliases("optim.lr")
    assert "lora_rank" in list_aliases("method.rank")
    assert "学习率" in list_aliases("optim.lr")
    assert "quantization_bit" in list_aliases("method=qlora")
    assert "lr_scheduler_type" in list_aliases("scheduler")
    assert "trainer.batch_size" in list_aliases("trainer.global_batch_size")
    assert list_aliases("model.hidden") == ()
