"""Options of another installed package are like ours: composed, explained, planned, trained, resumed, exported and searched.

The package is that of docs/extension.md: its blocks are written to files, and its entry points are declared.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extension.md"
MOST_LINES = 30
TRY = """
import json, sys
from fulgurite.cli.main import main
for words in json.loads(sys.argv[1]):
    print("status", main(words), flush=True)
"""
RUN = ["model=tiny", "precision=fp32", "data.max_samples=40", "trainer.save_every=2", "trainer.global_batch_size=4"]
QUIET = ["stage.prompts=[]"]
PAIRS = ["data=guide_preference", *QUIET]
ASKS = ["data=guide_prompts", "stage.reward=[vowels]", "stage.max_new_tokens=4", "trainer.eval_every=4", *QUIET]
CASES = {
    "preference": [
        "stage=margin", "method=norms", "optim=signum", "scheduler=two_rates", "logger=lines",
        "callback=[samples,progress,monitor,pulse]", *PAIRS,
    ],
    "rollout": ["stage=reinforce", "method=full", *ASKS], "loss of dpo": ["stage=dpo", "stage.loss=square_hinge", *PAIRS],
    "loss of sft": ["stage=sft", "stage.loss=focal", "method=norms", *QUIET],
}
"""The words of a run with each kind of extension."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def ask(folder: Path, *commands: list[str]) -> tuple[list[str], str, str]:
    """The statuses, stdout and stderr of several commands in one fresh process that has the package on its path."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", TRY, json.dumps(commands)], capture_output=True, text=True, cwd=folder, check=False,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "100"},
    )
    return re.findall(r"^status (\d+)$", done.stdout, re.MULTILINE), done.stdout, done.stderr


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package of the page and its entry points, as pip would install them."""
    folder = tmp_path_factory.mktemp("site")
    for block in blocks("python"):
        name = re.match(r"# (mine/\w+\.py)\n", block)
        assert name is not None, block[:80]
        (folder / name[1]).parent.mkdir(exist_ok=True)
        (folder / name[1]).write_text(block)
    (folder / "mine" / "__init__.py").write_text("")
    [entries] = blocks("toml")
    info = folder / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    declared = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", entries).replace('"', "")
    (info / "entry_points.txt").write_text(declared)
    return folder


def test_each_block_is_short() -> None:
    for block in blocks("python"):
        assert len(block.splitlines()) <= MOST_LINES, block


def test_extensions_are_explained_and_refused_as_ours(package: Path) -> None:
    options = ["stage=margin", "stage=reinforce", "method=norms", "optim=signum", "scheduler=two_rates", "logger=lines", "callback=pulse"]
    statuses, out, err = ask(
        package, *(["explain", name] for name in options), ["explain", "--json", "optim.momentum"], ["explain", "stage"],
        ["explain", "stage.loss"], ["explain", "stage=dpo", "stage.loss=square_hinge", "--plot"],
        ["explain", "scheduler=two_rates", "--plot"],
        ["explain", "precision"], ["explain", "optim.lr"],
        ["train", "optim=signum", "optim.momentum=2"], ["train", "stage=dpo", "stage.loss=square_hinges", *PAIRS],
        ["train", "stage=margin", "data=guide"], ["train", "optim=galore", "method=norms", "stage.label_smoothing=0.1", "stage=dpo",
                                                  "stage.loss=square_hinge", *PAIRS],
    )
    assert statuses == ["0"] * 14 + ["2"] * 4, err
    assert "DPO whose chosen answer must win by a fixed margin." in " ".join(out.split())
    assert "one of sigmoid, hinge," in " ".join(out.split())
    assert "square_hinge" in out
    assert "error: optim.momentum=2.0 is not allowed: it must be 0 to 1, 1 excluded" in err
    assert "error: stage.loss=square_hinges is not allowed: it must be one of sigmoid" in err
    assert "stage=margin learns from pairs of answers" in err
    assert "stage.label_smoothing=0.1 is not read by stage.loss=square_hinge" in err


@pytest.mark.parametrize("name", CASES)
def test_extensions_plan_train_resume_and_export(name: str, package: Path, tmp_path: Path) -> None:
    words, run, model = [*RUN, *CASES[name]], tmp_path / "run", tmp_path / "model"
    longer = ["trainer.max_steps", *([] if name == "preference" else ["scheduler.warmup_steps"])]
    statuses, out, err = ask(
        package, ["plan", *words, "trainer.max_steps=4"], ["train", *words, "trainer.max_steps=2", f"run_dir={run}"],
        ["train", *words, "trainer.max_steps=4", f"run_dir={run}", f"resume.allow=[{','.join(longer)}]"],
        ["export", f"run={run}", f"out={model}"],
    )
    assert statuses == ["0"] * 4, out + err
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "train/loss" in row]
    assert steps == [1, 2, 3, 4]
    assert (model / "config.json").is_file()
    if name == "preference":
        assert [line.split()[0] for line in (run / "losses.txt").read_text().splitlines()] == ["1", "2", "3", "4"]
        assert (run / "pulse.txt").read_text() == "4\n"


def test_parameters_of_extensions_are_searched(package: Path, tmp_path: Path) -> None:
    """A grid over a stage's own parameter and over the registered losses, two trials each."""
    words = [*RUN, "trainer.max_steps=2", *PAIRS]
    statuses, out, err = ask(
        package, ["train", "-m", *words, "stage=margin", "stage.margin=0.1,0.5", f"run_dir={tmp_path / 'margin'}"],
        ["train", "-m", *words, "stage=dpo", "stage.loss=sigmoid,square_hinge", f"run_dir={tmp_path / 'loss'}"],
    )
    assert statuses == ["0", "0"], out + err
    assert len(list(tmp_path.glob("*/*/metrics.jsonl"))) == 4


def test_a_module_is_named_on_the_command_line_or_in_a_preset(package: Path, tmp_path: Path) -> None:
    """Without entry points."""
    (tmp_path / "mine").symlink_to(package / "mine")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "signs.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /optim: signum\nplugins: [mine.optim]\n"
    )
    code = (
        "import sys; from pathlib import Path; from fulgurite.config.compose import compose\n"
        "words = {'words': ['optim=signum', 'plugins=[mine.optim]'], 'preset': ['+experiment=signs']}[sys.argv[1]]\n"
        "run = compose(words, config_dir=Path('.')).run\n"
        "print(type(run.optim).__name__, run.optim.momentum, run.plugins)"
    )
    path = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    for way in ("words", "preset"):
        done = subprocess.run([sys.executable, "-c", code, way], capture_output=True, text=True, cwd=tmp_path, env=path, check=False)
        assert done.stdout == "Signum 0.9 ['mine.optim']\n", done.stderr
