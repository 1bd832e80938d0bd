"""Each compute type does what its declaration says: the live tensors are looked at."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from fulgurite.config.compose import compose
from fulgurite.config.schema import build, list_options
from fulgurite.errors import ConfigError
from fulgurite.precision import policy as precision_build
from fulgurite.precision.config import Precision
from fulgurite.precision.policy import build as settle
from fulgurite.trainer.build import quiet


class Look(Callback):  # type: ignore[misc]
    """Notes the dtypes of weights, gradients, optimizer state, and of a product inside the model."""

    def __init__(self) -> None:
        self.seen: dict[str, set[str]] = {k: set() for k in ("frozen", "trained", "compute", "gradients", "state")}

    def note(self, what: str, tensor: torch.Tensor) -> None:
        self.seen[what].add(str(tensor.dtype).removeprefix("torch."))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, module in pl_module.named_modules():
            if name.endswith(("q_proj", "down_proj")):
                module.register_forward_hook(lambda m, args, out: self.note("compute", out))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        for parameter in pl_module.parameters():
            self.note("trained" if parameter.requires_grad else "frozen", parameter)
            if parameter.grad is not None:
                self.note("gradients", parameter.grad)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for state in trainer.optimizers[0].state.values():
            for tensor in state.values():
                if isinstance(tensor, torch.Tensor) and tensor.ndim > 0:
                    self.note("state", tensor)


def looked_at(method: str, precision: str) -> dict[str, set[str]]:
    run = compose(["model=tiny", f"method={method}", f"precision={precision}", "scheduler=constant"]).run
    dtypes = settle(run.precision, "cpu")
    model = build(run.method, build(run.model, dtypes.trained if method == "full" else dtypes.frozen).model, dtypes)
    stage = build(run.stage, model, run, dtypes, 1)
    ids = torch.arange(3, 43).reshape(2, 20)
    batch = {"input_ids": ids, "targets": ids.roll(-1, 1), "step_targets": 40, "rows": [0, 1], "tokens": 40}
    look = Look()
    quiet()
    trainer = Trainer(
        max_steps=1, accelerator="cpu", precision=dtypes.lightning, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, callbacks=[look],
    )
    trainer.fit(stage, torch.utils.data.DataLoader([batch], batch_size=None))
    return look.seen


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "pure_bf16"])
def test_live_tensors_have_the_declared_dtypes(method: str, precision: str) -> None:
    declared: type[Precision] = list_options("precision")[precision]  # type: ignore[assignment]
    seen = looked_at(method, precision)
    expected = {k: {getattr(declared, k)} for k in ("trained", "compute", "gradients", "state")}
    expected["frozen"] = {declared.frozen} if method == "lora" else set()
    assert seen == expected


def test_fp16_on_a_cpu_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="precision=fp16 needs a GPU: on a CPU, Lightning would run bf16"):
        settle(compose(["precision=fp16"]).run.precision, "cpu")


def test_fp16_on_a_gpu_is_wired_to_the_loss_scaler() -> None:
    dtypes = settle(compose(["precision=fp16"]).run.precision, "cuda")
    assert dtypes.lightning == "16-mixed"
    assert (dtypes.frozen, dtypes.trained, dtypes.compute) == (torch.float16, torch.float32, torch.float16)


@pytest.mark.parametrize(("native", "option"), [(True, "bf16"), (False, "fp32")])
def test_auto_follows_the_cpu_and_gives_the_reason(monkeypatch: pytest.MonkeyPatch, native: bool, option: str) -> None:
    monkeypatch.setattr(precision_build, "cpu_multiplies_bf16", lambda: native)
    dtypes = settle(compose(["precision=auto"]).run.precision, "cpu")
    assert dtypes.option == option
    assert "native" in str(dtypes.reason)


@pytest.mark.parametrize(("native", "option"), [(True, "bf16"), (False, "fp16")])
def test_auto_follows_the_gpu(monkeypatch: pytest.MonkeyPatch, native: bool, option: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)
    assert settle(compose(["precision=auto"]).run.precision, "cuda").option == option


def test_bf16_on_a_gpu_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    with pytest.raises(ConfigError, match="this GPU has no bf16; use precision=auto"):
        settle(compose(["precision=bf16"]).run.precision, "cuda")
