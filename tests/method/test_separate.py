"""Which adapters can be exported without their base."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.end_to_end.runs import tiny
from tests.method.models import METHODS

from fulgurite.errors import RequestError
from fulgurite.export.model import export_main
from fulgurite.method.config import Full, Ia3, Init, LlamaPro, Lora, Method, Qlora, Vera
from fulgurite.method.separate import describe_base_change


@pytest.mark.parametrize(("method", "added", "reason"), [
    (Lora(), False, None), (Qlora(), False, None), (Ia3(), False, None), (Vera(), False, None),
    (Lora(), True, "added tokens, for which a plain base has no room"),
    (Full(), False, "trains weights of the model itself"), (LlamaPro(), False, "trains weights of the model itself"),
    (
        Lora(init=Init.pissa), False,
        "started with method.init=pissa, which takes the adapter's first values out of the base",
    ),
], ids=lambda value: getattr(value, "name", ""))
def test_an_adapter_needs_its_base_if_that_was_changed(method: Method, added: bool, reason: str | None) -> None:
    changed = describe_base_change(method, added)
    assert (changed and str(changed)) == reason


def test_an_adapter_on_four_bits_is_exported_apart(tmp_path: Path) -> None:
    run = tiny(tmp_path / "run", "method=qlora", "optim.lr=1e-2", "trainer.max_steps=3")
    assert export_main([f"run={run}", f"out={tmp_path / 'adapter'}", "merge=false"]) == 0
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("method", ["layerwise", "pissa"])
def test_what_changes_the_base_is_not_exported_apart(tmp_path: Path, method: str) -> None:
    run = tiny(tmp_path / "run", f"method={method}", *METHODS[method])
    with pytest.raises(RequestError, match="export with merge=true"):
        export_main([f"run={run}", f"out={tmp_path / 'out'}", "merge=false"])
