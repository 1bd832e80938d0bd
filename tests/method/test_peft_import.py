"""peft is imported without torch's compiler, and what is decorated meanwhile still works."""

from __future__ import annotations

import subprocess
import sys

import torch

from fulgurite.method.peft_import import compile_at_first_call


def test_a_function_is_compiled_at_its_first_call() -> None:
    before, compiled = torch.compile, []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        compiled.append(graph)
        return graph.forward

    with compile_at_first_call():

        @torch.compile(backend=backend)
        def doubled(x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    assert torch.compile is before
    assert not compiled
    assert doubled(torch.ones(2)).tolist() == [2, 2]
    assert len(compiled) == 1


def test_a_plan_loads_neither_lightning_nor_the_compiler() -> None:
    code = (
        "import sys; from fulgurite.cli.main import main; status = main(['plan', 'model=tiny']);"
        "heavy = {'lightning', 'torch._inductor.compile_fx'} & set(sys.modules);"
        "print('HEAVY', heavy or 'none', status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "HEAVY none 0", done.stdout[-300:] + done.stderr
