"""What a run begins from: the base under runs and adapters, and which code of it may run."""

from __future__ import annotations

import json
from pathlib import Path

from fulgurite.config.compose import compose
from fulgurite.config.guard import Allowed
from fulgurite.model.config import Hf, SmolLM2
from fulgurite.model.smollm2 import HUB
from fulgurite.run.folder import write_run
from fulgurite.run.load import find_adapter_base, find_base


def test_the_base_of_an_adapter_and_of_a_run_is_followed_to_its_end(tmp_path: Path) -> None:
    adapter, run = tmp_path / "adapter", tmp_path / "run"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/name"}))
    assert find_base(Hf(path=str(adapter))) == Hf(path="owner/name")
    (run / "checkpoints").mkdir(parents=True)
    write_run(run, compose(["model=hf", f"model.path={adapter}"]))
    assert find_base(Hf(path=str(run))) == Hf(path="owner/name")
    assert find_base(SmolLM2()) == SmolLM2()


def test_the_base_of_an_adapter_may_run_only_allowed_code() -> None:
    assert isinstance(find_adapter_base(HUB, Allowed()), SmolLM2)
    found = find_adapter_base("owner/name", Allowed(model_code=True, revision="0a"))
    assert isinstance(found, Hf)
    assert (found.path, found.trust_remote_code, found.revision) == ("owner/name", True, "0a")
