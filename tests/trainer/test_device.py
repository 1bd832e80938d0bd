"""The device that a run computes on, and what is refused if it is absent."""

from __future__ import annotations

import pytest
import torch

from fulgurite.errors import ConfigError
from fulgurite.trainer.config import Accelerator, Trainer
from fulgurite.trainer.device import device, refuse_absent


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refuse_absent(Trainer(devices=4))
    with pytest.raises(ConfigError, match="accelerator=cuda needs a GPU"):
        refuse_absent(Trainer(accelerator=Accelerator.cuda))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    refuse_absent(Trainer(devices=2, accelerator=Accelerator.cuda))
    refuse_absent(Trainer(devices=4, accelerator=Accelerator.cpu))
    with pytest.raises(ConfigError, match=r"trainer\.devices=4 is more than the GPUs of this machine"):
        refuse_absent(Trainer(devices=4))


@pytest.mark.parametrize(("there", "asked", "expected"), [
    (True, "auto", "cuda"), (True, "cuda", "cuda"), (True, "cpu", "cpu"), (False, "auto", "cpu"),
])
def test_the_device_is_the_gpu_unless_it_is_absent_or_not_wanted(
    there: bool, asked: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert device(Trainer(accelerator=Accelerator(asked))) == expected
