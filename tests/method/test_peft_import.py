"""peft is imported without torch's compiler, and what is decorated meanwhile still works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_plans_load_no_lightning_and_runs_no_compiler(tmp_path: Path) -> None:
    code = (
        "import sys; from fulgurite.cli.main import main\n"
        "heavy = lambda: {'lightning', 'torch._inductor.compile_fx'} & set(sys.modules) or 'none'\n"
        "print('PLAN', main(['plan', 'model=tiny']), heavy())\n"
        "words = ['model=tiny', 'precision=fp32', 'trainer.max_steps=1', 'data.max_samples=20', 'stage.prompts=[]']\n"
        "print('TRAIN', main(['train', *words, 'plan.allow=[steps.too-few]', f'run_dir={sys.argv[1]}']), heavy())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [line for line in done.stdout.splitlines() if line.startswith(("PLAN", "TRAIN"))]
    assert told == ["PLAN 0 none", "TRAIN 0 {'lightning'}"], done.stdout[-300:] + done.stderr
