"""Parameters that change how a run computes and not what: checkpointed and compiled layers, new tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import losses, rows, tiny, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.errors import ConfigError, ModelError, RequestError
from fulgurite.export.model import export_main


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_layers_computed_twice_change_nothing(tmp_path: Path, method: str) -> None:
    words = [f"method={method}", "trainer.max_steps=3", "optim.lr=1e-3"]
    kept, again = (
        tiny(tmp_path / "kept", *words),
        tiny(tmp_path / "again", *words, "trainer.gradient_checkpointing=true"),
    )
    assert losses(again) == pytest.approx(losses(kept), rel=1e-6)
    for name, tensor in weights(kept).items():
        torch.testing.assert_close(weights(again)[name], tensor, rtol=1e-4, atol=1e-6)


def test_layers_computed_twice_hold_less_for_the_backward_pass() -> None:
    """Bytes that autograd keeps, with and without: no clock and no peak of the process."""
    held = {}
    for on in (False, True):
        run = compose(
            ["model=tiny", "model.layers=4", "method=full", f"trainer.gradient_checkpointing={str(on).lower()}"]
        ).run
        from fulgurite.precision.policy import build as settle

        dtypes = settle(run.precision, "cpu")
        stage = build(run.stage, build(run.method, build(run.model, torch.float32).model, dtypes), run, dtypes, 1)
        ids = torch.arange(3, 259)[None]
        total = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            stage.compute_total_loss({"input_ids": ids, "targets": ids.roll(-1, 1)})
        held[on] = total
    assert held[True] < held[False] / 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch about torch, which its compiler cannot bear as errors
def test_compiled_layers_change_nothing(tmp_path: Path) -> None:
    words = ["method=full", "trainer.max_steps=2", "optim.lr=1e-3", "model.layers=1"]
    plain, fast = tiny(tmp_path / "plain", *words), tiny(tmp_path / "fast", *words, "trainer.compile=true")
    assert losses(fast) == pytest.approx(losses(plain), rel=1e-5)
    assert weights(fast).keys() == weights(plain).keys()
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(fast)[name], tensor, rtol=1e-3, atol=1e-5)


def test_clipping_by_value_is_what_the_knob_asks_for(tmp_path: Path) -> None:
    """One step of plain SGD at rate 1: no entry of a weight moves further than the limit, and many by just that."""
    words = ["method=full", "optim=sgd", "optim.momentum=0", "optim.lr=1", "scheduler=constant", "trainer.max_steps=1"]
    before = dict(build(compose(["model=tiny"]).run.model, torch.float32).model.named_parameters())
    moved = {}
    for clip in ("value", "norm"):
        folder = tiny(tmp_path / clip, *words, f"trainer.clip_algorithm={clip}", "trainer.max_grad_norm=0.001")
        after = weights(folder)
        moved[clip] = torch.cat(
            [(after[f"model.{n}"] - p.detach()).abs().flatten() for n, p in before.items() if f"model.{n}" in after]
        )
        assert rows(folder)[0]["train/clipped"] == 1.0
    assert float(moved["value"].max()) == pytest.approx(0.001, rel=1e-3)
    assert int((moved["value"] > 0.000999).sum()) > 100
    assert float(moved["norm"].norm()) == pytest.approx(0.001, rel=1e-2)


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_new_tokens_begin_as_the_mean_are_trained_and_exported(tmp_path: Path, method: str) -> None:
    words = "model.add_tokens=['<think>','</think>']"
    made = build(compose(["model=tiny", words]).run.model, torch.float32)
    ids = made.tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    rows_ = made.model.get_input_embeddings().weight.detach()
    for i in ids:
        torch.testing.assert_close(rows_[i], rows_[: min(ids)].mean(0))
    data = tmp_path / "data.jsonl"
    data.write_text('{"instruction": "Say <think>", "output": "<think>a</think> and b"}\n' * 40)
    more = [f"data.path={data}", "data=file"]
    run = tiny(tmp_path / "run", f"method={method}", words, "optim.lr=1e-2", "trainer.max_steps=3", *more)
    assert export_main([f"run={run}", f"out={tmp_path / 'out'}"]) == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_tokens_to_ids(["<think>", "</think>"]) == ids
    learned = AutoModelForCausalLM.from_pretrained(tmp_path / "out").get_input_embeddings().weight.detach()
    assert float((learned[ids] - rows_[ids]).abs().max()) > 1e-3
    if method != "full":
        torch.testing.assert_close(learned[: min(ids)], rows_[: min(ids)])  # only the new ones move
        with pytest.raises(RequestError, match="added tokens"):
            export_main([f"run={run}", f"out={tmp_path / 'apart'}", "merge=false"])


def test_new_tokens_that_cannot_learn_or_are_there_already_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"model\.add_tokens adds embeddings that must be trained, and method=oft freezes them"
    ):
        tiny(tmp_path / "run", "method=oft", "method.block=16", "model.add_tokens=[x1]")
    tiny(tmp_path / "ok", "method=freeze", "method.trainable=last:1", "method.extra_trainable=[embeddings]",
        "model.add_tokens=['<x1>']", "optim.lr=1e-3")
    with pytest.raises(ModelError, match="is a token already"):
        build(compose(["model=tiny", "model.add_tokens=[a]"]).run.model, torch.float32)
