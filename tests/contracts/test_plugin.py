"""Options of another installed package are like ours: composed, explained, planned, trained, resumed, exported and
searched.

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
from tests.end_to_end.runs import rows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extension.md"
MOST_LINES = 30
TRY = """
import contextlib, io, json, shutil, sys, traceback
from pathlib import Path
from fulgurite.cli.main import main

def cut(whole, again):
    "Copy a run's folder as a kill after step 2 leaves it."
    shutil.copytree(whole, again, symlinks=True)
    for later in ("step-3", "step-4"):
        shutil.rmtree(Path(again, "checkpoints", later), ignore_errors=True)
    for link in ("last", "best"):
        Path(again, "checkpoints", link).unlink(missing_ok=True)
    return 0

def answer(words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cut(*words[1:]) if words[0] == "cut" else main(words)
        except BaseException:
            status = traceback.format_exc()
    return [status, out.getvalue(), err.getvalue()]

asked = json.loads(sys.stdin.read())
answers = {name: [answer(words) for words in commands] for name, commands in asked.items()}
Path(sys.argv[1]).write_text(json.dumps(answers))
"""
"""A process that has the package answers all commands of this file: each start costs seconds of imports."""
RUN = [
    "model=tiny", "precision=fp32", "data.max_samples=40", "trainer.max_steps=4", "trainer.save_every=2",
    "trainer.keep_checkpoints=9", "trainer.global_batch_size=4",
]
QUIET = ["stage.prompts=[]"]
PAIRS = ["data=guide_preference", *QUIET]
ASKS = ["data=guide_prompts", "stage.reward=[vowels]", "stage.max_new_tokens=4", "trainer.eval_every=4", *QUIET]
CASES = {
    "preference": [
        "stage=margin", "method=norms", "optim=signum", "scheduler=two_rates", "logger=lines",
        "callback=[samples,progress,monitor,pulse,norms_file]", "callback.norms_file.every=2", *PAIRS,
    ],
    "rollout": ["stage=reinforce", "method=full", *ASKS],
    "loss of dpo": ["stage=dpo", "stage.loss=square_hinge", *PAIRS],
    "loss of sft": ["stage=sft", "stage.loss=focal", "method=norms", *QUIET],
}
"""The words of a run with each kind of extension."""
OPTIONS = [
    "stage=margin", "stage=reinforce", "method=norms", "optim=signum", "scheduler=two_rates", "logger=lines",
    "callback=pulse", "callback=norms_file",
]
EXPLAINED = [
    *(["explain", name] for name in OPTIONS), ["explain", "--json", "optim.momentum"], ["explain", "stage"],
    ["explain", "stage.loss"], ["explain", "stage=dpo", "stage.loss=square_hinge", "--plot"],
    ["explain", "scheduler=two_rates", "--plot"], ["explain", "precision"], ["explain", "optim.lr"],
]
REFUSED = [
    ["train", "optim=signum", "optim.momentum=2"], ["train", "stage=dpo", "stage.loss=square_hinges", *PAIRS],
    ["train", "stage=margin", "data=guide"],
    [
        "train", "optim=galore", "method=norms", "stage.label_smoothing=0.1", "stage=dpo", "stage.loss=square_hinge",
        *PAIRS
    ],
]
Answers = list[tuple[int | str, str, str]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


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


def commands(runs: Path) -> dict[str, list[list[str]]]:
    """All commands of this file by the test that asks for their answers."""
    asked = {"explained": EXPLAINED, "refused": REFUSED}
    for name, words in CASES.items():
        whole, again = str(runs / name / "whole"), str(runs / name / "again")
        asked[name] = [
            ["plan", *RUN, *words], ["train", *RUN, *words, f"run_dir={whole}"], ["cut", whole, again],
            ["train", *RUN, *words, f"run_dir={again}"], ["export", f"run={whole}", f"out={runs / name / 'model'}"],
        ]
    short = [*RUN, "trainer.max_steps=2", *PAIRS]
    asked["searched"] = [
        ["train", "-m", *short, "stage=margin", "stage.margin=0.1,0.5", f"run_dir={runs / 'grid' / 'margin'}"],
        ["train", "-m", *short, "stage=dpo", "stage.loss=sigmoid,square_hinge", f"run_dir={runs / 'grid' / 'loss'}"],
        [
            "train", "-m", *short, "+sweep=dpo_lora", "stage=margin", "sweep.knobs=[stage.margin,optim.lr]",
            "sweep.trials=2", f"run_dir={runs / 'grid' / 'preset'}",
        ],
    ]
    return asked


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def answers(package: Path, runs: Path) -> dict[str, Answers]:
    """(status or traceback, stdout, stderr) of each command, by the test that asks for it."""
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    file = runs / "answers.json"
    done = subprocess.run(
        [sys.executable, "-c", TRY, str(file)], input=json.dumps(commands(runs)), capture_output=True, text=True,
        cwd=runs,
        check=False, env=os.environ | {"PYTHONPATH": path, "COLUMNS": "100"},
    )
    assert file.is_file(), done.stderr
    found: dict[str, Answers] = json.loads(file.read_text())
    return found


def test_extensions_are_explained(answers: dict[str, Answers]) -> None:
    assert [status for status, _, _ in answers["explained"]] == [0] * len(EXPLAINED), answers["explained"]
    out = " ".join(" ".join(out for _, out, _ in answers["explained"]).split())
    assert "DPO whose chosen answer must win by a fixed margin." in out
    assert "Optimizer steps between two lines." in out
    assert "one of sigmoid, hinge," in out
    assert "square_hinge" in out


def test_wrong_values_of_extensions_are_refused(answers: dict[str, Answers]) -> None:
    assert [status for status, _, _ in answers["refused"]] == [2] * len(REFUSED), answers["refused"]
    momentum, loss, data, smoothing = (err for _, _, err in answers["refused"])
    assert "error: optim.momentum=2.0 is not allowed: it must be 0 to 1, 1 excluded" in momentum
    assert "error: stage.loss=square_hinges is not allowed: it must be one of sigmoid" in loss
    assert "stage=margin expects pairs of answers" in data
    assert "stage.loss=square_hinge does not use stage.label_smoothing=0.1" in smoothing


@pytest.mark.parametrize("name", CASES)
def test_extensions_plan_train_resume_bit_for_bit_and_export(
    name: str, answers: dict[str, Answers], runs: Path,
) -> None:
    assert [status for status, _, _ in answers[name]] == [0] * 5, answers[name]
    whole, again = runs / name / "whole", runs / name / "again"
    losses = [row["train/loss"] for row in rows(whole) if "train/loss" in row]
    assert len(losses) == 4
    assert len(set(losses)) > 1
    assert "resumed from step-2" in answers[name][3][2]
    assert rows(again) == rows(whole)
    last = Path("checkpoints", "step-4")
    files = sorted(path.name for path in (whole / last).iterdir())
    for file in files:
        assert (again / last / file).read_bytes() == (whole / last / file).read_bytes(), file
    assert (runs / name / "model" / "config.json").is_file()


def test_loggers_and_callbacks_of_extensions_see_each_step(answers: dict[str, Answers], runs: Path) -> None:
    run = runs / "preference" / "whole"
    assert [line.split()[0] for line in (run / "losses.txt").read_text().splitlines()] == ["1", "2", "3", "4"]
    assert (run / "pulse.txt").read_text() == "4\n"
    assert [line.split()[0] for line in (run / "norms.txt").read_text().splitlines()] == ["2", "4"]


def test_parameters_of_extensions_are_searched(answers: dict[str, Answers], runs: Path) -> None:
    """A grid over a stage's own parameter, one over the registered losses, and a preset's search; two trials each."""
    assert [status for status, _, _ in answers["searched"]] == [0] * 3, answers["searched"]
    for kind in ("margin", "loss", "preset"):
        assert len(list((runs / "grid").glob(f"{kind}*/**/metrics.jsonl"))) == 2, kind


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
        done = subprocess.run(
            [sys.executable, "-c", code, way], capture_output=True, text=True, cwd=tmp_path, env=path, check=False,
        )
        assert done.stdout == "Signum 0.9 ['mine.optim']\n", done.stderr
