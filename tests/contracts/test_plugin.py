"""An option from another installed package is one of ours: listed, composed, checked and trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = '''"""Sign descent."""
from dataclasses import dataclass
from typing import ClassVar
import torch
from fulgurite.optim.config import Optim
from fulgurite.config.schema import between, knob, option


@option("optim", "signsgd")
@dataclass(slots=True)
class SignSgd(Optim):
    """Steps of one size along the gradient's sign."""

    builds: ClassVar[str] = "signsgd_plugin:build"
    damping: float = knob(0.5, "A factor on each step.", source="A test", bounds=between(0, 1), usual=between(0, 1), advice="Leave it.")


class Sign(torch.optim.Optimizer):
    def __init__(self, params, lr, damping):
        super().__init__(params, {"lr": lr, "damping": damping})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad.sign(), alpha=-group["lr"] * group["damping"])
        return loss


def build(config, module):
    return Sign([p for p in module.parameters() if p.requires_grad], config.lr, config.damping)
'''
TRY = """
import json, sys
from fulgurite.cli.main import main
for words in json.loads(sys.argv[1]):
    print("status", main(words))
"""
TINY = ["model=tiny", "trainer.max_steps=2", "data.max_samples=40", "precision=fp32", "stage.prompts=[]", "optim=signsgd"]


def ask(folder: Path, *commands: list[str]) -> tuple[str, str]:
    """stdout and stderr of several commands in one fresh process that has the plug-in on its path."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", TRY, json.dumps(commands)], capture_output=True, text=True, cwd=folder, check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    return done.stdout, done.stderr


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    (tmp_path / "signsgd_plugin.py").write_text(PLUGIN)
    return tmp_path


def test_an_installed_package_needs_no_mention(plugin: Path) -> None:
    info = plugin / "signsgd_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: signsgd-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fulgurite.options]\nsignsgd = signsgd_plugin\n")
    out, err = ask(
        plugin, ["explain", "optim=signsgd"], ["explain", "--json", "optim=signsgd"],
        ["train", *TINY, "optim.damping=2"], ["train", *TINY, f"run_dir={plugin / 'run'}"],
    )
    assert [line for line in out.splitlines() if line.startswith("status")] == ["status 0", "status 0", "status 2", "status 0"], err
    assert "Steps of one size along the gradient's sign." in out
    assert '"knob": "optim.damping"' in out
    assert "error: optim.damping=2.0 is not allowed: it must be 0 to 1" in err
    assert (plugin / "run" / "checkpoints" / "last" / "manifest.json").is_file()


def test_a_module_is_named_on_the_command_line_or_in_a_preset(plugin: Path) -> None:
    (plugin / "experiment").mkdir()
    (plugin / "experiment" / "signs.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /optim: signsgd\nplugins: [signsgd_plugin]\n"
    )
    code = (
        "import sys; from pathlib import Path; from fulgurite.config.compose import compose\n"
        "words = {'words': ['optim=signsgd', 'plugins=[signsgd_plugin]'], 'preset': ['+experiment=signs']}[sys.argv[1]]\n"
        "run = compose(words, config_dir=Path('.')).run\n"
        "print(type(run.optim).__name__, run.optim.damping, run.plugins)"
    )
    path = os.environ | {"PYTHONPATH": os.pathsep.join([str(plugin), os.environ.get("PYTHONPATH", "")])}
    for way in ("words", "preset"):
        done = subprocess.run([sys.executable, "-c", code, way], capture_output=True, text=True, cwd=plugin, env=path, check=False)
        assert done.stdout == "SignSgd 0.5 ['signsgd_plugin']\n", done.stderr
