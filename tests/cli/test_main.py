"""The command line: a wrong request is one line on stderr and exit 2, and what is asked of Hydra is answered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fulgurite.cli import flags
from fulgurite.cli.main import main
from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError

TINY = ["model=tiny", "trainer.max_steps=1", "data.max_samples=40", "precision=fp32", "stage.prompts=[]"]


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a refused request."""
    status = main(words)
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert status == 2, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


WRONG = [
    (["frain"], "no command frain. Did you mean train"),
    (["train", "optim.lrr=1"], "Did you mean optim.lr"),
    (["train", "trainer.global_batch_size=0"], "trainer.global_batch_size=0 is not allowed"),
    (["train", "optim.lr="], "must be a number"),
    (["train", "optim.lr=1e-4,1e-3"], "add -m"),
    (["train", "optim=[adamw,sgd]"], "a run has one optim"),
    (["train", "~seed"], "nothing is deleted here"),
    (["train", "=3"], "error: =3 names no knob; write KNOB=VALUE."),
    (["plan", "+=3"], "error: +=3 names no knob; write KNOB=VALUE."),
    (["chat", "=3"], "error: =3 names no knob; write KNOB=VALUE."),
    (["train", "trainer.devices=100000"], "trainer.devices=100000 is more than 8 for each of this machine's "),
    (["train", "--frob"], "no flag --frob"),
    (["train", "--experimental-rerun=x.pkl"], "no flag --experimental-rerun"),
    (["train", "--cfg", "jobb"], "one of job, hydra, all"),
    (["train", "--config-dir", "/no/such"], "is not a folder"),
    (["train", "+optim._target_=os.system"], "no knob optim._target_"),
    (["train", "chat.temperature=1"], "no knob chat.temperature"),
    (["train", "hydra.run.dir=/tmp/x"], "give run_dir="),
    (["train", "hydra.job_logging.x=1"], "cannot be set here"),
    (["train", "hydra.callbacks.x._target_=os.system"], "cannot be set here"),
    (["train", "-m", "hydra.launcher._target_=os.system"], "cannot be set here"),
    (["train", "name=${oc.env:HOME}"], "may not hold ${oc.env:...}"),
    (["train", "name=${oc.${stage}:HOME}"], "may not hold"),
    (["train", "name=hf_abcdefghijklmnopqrstuvwxyz"], "looks like a secret"),
    (["train", "seed=${nothing}"], "Interpolation key 'nothing' not found"),
]


def test_wrong_words_are_one_line_and_load_no_torch(tmp_path: Path) -> None:
    """All in one process, as each start costs a second; torch must not have been loaded at its end."""
    code = (
        "import sys, json; from fulgurite.cli.main import main\n"
        "for words in json.load(sys.stdin):\n"
        "    print('status', main(words), file=sys.stderr)\n"
        "print('torch' in sys.modules)"
    )
    given = json.dumps([words for words, _ in WRONG])
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, cwd=tmp_path, check=False,
    )
    lines = done.stderr.splitlines()
    assert done.stdout == "False\n"
    assert len(lines) == 2 * len(WRONG), done.stderr
    for (words, expected), line, status in zip(WRONG, lines[::2], lines[1::2], strict=True):
        assert line.startswith("error: "), words
        assert expected in line, words
        assert status == "status 2"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data=file", "data.path=/no/such.json"], "there is no such file"),
        (
            ["data=file", "data.path=/dev/null"],
            "data.path=/dev/null is a device or a pipe, which cannot be read twice; give a file"
        ),
        (["run_dir=/proc/x"], "/proc/x cannot be made"),
        (["precision=fp16", "trainer.accelerator=cpu"], "precision=fp16 needs a GPU"),
        (
            ["scheduler=reduce_lr_on_plateau", "data.val_fraction=0"],
            "scheduler=reduce_lr_on_plateau follows the validation loss"
        ),
        (["resume.run=/tmp"], "is not a run's folder"),
        (["scheduler=polynomial", "scheduler.lr_end=0.5"], "must lie below optim.lr=0.001"),
    ],
)
def test_what_only_the_run_can_see_is_one_line_too_and_makes_no_folder(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = [w for w in TINY if w.partition("=")[0] not in {x.partition("=")[0] for x in words}]
    assert expected in said(["train", *kept, *words], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK"])
def test_a_rank_that_is_no_number_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, "two")
    assert f"{name}=two in the environment is no whole number" in said(["train", *TINY], capsys)
    assert main(["plan", "--rules"]) == 0


def test_wrong_data_under_several_processes_leave_no_folder(tmp_path: Path) -> None:
    words = [w for w in TINY if not w.startswith("data.")]
    words += ["data=file", "data.path=/no/such.json", "trainer.devices=2"]
    command = [sys.executable, "-m", "fulgurite", "train", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert done.returncode == 2
    assert len(lines) == 1, done.stderr
    assert "there is no such file" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_more_processes_than_cores_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[int] = []
    monkeypatch.setattr(
        "fulgurite.train.launcher.launch", lambda words, processes, *place: started.append(processes) or 0,
    )
    monkeypatch.setattr("fulgurite.cli.train.available", lambda: 2)
    for count in (2, 3):
        assert main(["train", *TINY, f"trainer.devices={count}", f"run_dir={tmp_path}"]) == 0
    assert capsys.readouterr().err == (
        "warning: trainer.devices=3 on 2 cores: they take turns, which is slower than fewer.\n"
    )
    assert started == [2, 3]


def test_a_commit_hash_is_a_revision_and_no_secret() -> None:
    commit = "0123456789" * 4
    assert compose(["model=hf", "model.path=a/b", f"model.revision={commit}"]).run.model.revision == commit
    with pytest.raises(ConfigError, match="looks like a secret"):
        compose([f"name={commit}"])


def test_a_file_may_not_read_the_environment_either(tmp_path: Path) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("defaults: [adamw, _self_]\nlr: ${oc.env:HOME}\n")
    with pytest.raises(ConfigError, match=r"optim\.lr may not hold \$\{oc\.env"):
        compose(["optim=mine"], config_dir=tmp_path)


def test_flags_keep_their_values_whatever_stands_between() -> None:
    read = flags.read(["--cfg", "job", "optim.lr=1", "--resolve"])
    assert (read.list_words(), read.overrides) == (["--cfg", "job", "--resolve"], ["optim.lr=1"])
    assert flags.read(["-m", "seed=1,2"]).list_words() == ["--multirun"]
    assert not flags.read(["seed=1"]).needs_hydra


def test_cfg_prints_the_config_with_an_option_of_the_users_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("defaults: [adamw, _self_]\nlr: 3e-4\n")
    assert main(["train", "--config-dir", str(tmp_path), "--cfg", "job", "optim=mine"]) == 0
    assert "lr: 0.0003" in capsys.readouterr().out
    assert compose(["optim=mine"], config_dir=tmp_path).run.optim.lr == 3e-4


def test_help_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "fulgurite explain" in capsys.readouterr().out
    assert main(["train", "--help"]) == 0
    assert "fulgurite train [GROUP=OPTION] [KNOB=VALUE]" in capsys.readouterr().out


HELP = [
    (["--help"], "fulgurite train"), (["train", "--help"], "adamw_8bit"), (["train", "-h"], "+experiment=sft_guide"),
    (["train", "-h", "optim"], "optim.lr"), (["train", "--help", "optim=adamw"], "optim.lr"),
    (["train", "-h", "optim.lr"], "learning rate"),
    (["plan", "--help"], "--rules"), (["chat", "--help"], "temperature"), (["export", "--help"], "dtype"),
    (["runs", "--help"], "runs"),
    (["explain", "--help"], "explain"),
]
HEAVY = ("torch", "transformers", "lightning", "hydra", "omegaconf", "numpy", "peft", "pyarrow")


@pytest.mark.parametrize("columns", [60, 80])
def test_help_fits_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["train", "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= max(columns, 68)


def test_help_loads_nothing_heavy() -> None:
    """One process asks for every help there is; a second is mostly what Hydra and torch take to load."""
    code = f"""
import contextlib, io, sys
from fulgurite.cli.main import main
for words, part in {HELP!r}:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            status = main(words)
        except SystemExit as left:
            status = left.code or 0
    assert status == 0 and part in out.getvalue(), (words, status, out.getvalue()[:300])
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    assert not loaded, (words, loaded)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fulgurite tr", "train"), ("fulgurite train optim=ada", "optim=adafactor"),
        ("fulgurite train optim.l", "optim.lr="),
    ],
)
def test_tab_completes(
    line: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert expected in capsys.readouterr().out.split()


def test_tab_completion_installs_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-sc", "install=bash"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("hydra_bash_completion fulgurite")


def test_a_sweep_is_one_folder_a_value_and_a_failing_trial_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = ["scheduler=polynomial", "scheduler.lr_end=5e-3", "optim.lr=1e-3,1e-2,2e-2"]
    assert main(["train", "-m", *TINY, *sweep]) == 2
    [folder] = tmp_path.glob("runs/*/*_sweep")
    whole = sorted(path.parents[2].name for path in folder.glob("*/checkpoints/last/manifest.json"))
    assert whole == ["1", "2"]
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Trial 1 (" in errors[0]
    assert "must lie below optim.lr=0.001" in errors[0]


def test_several_processes_are_no_part_of_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "A run of 2 processes cannot be part of -m" in said(
        ["train", "-m", *TINY, "trainer.devices=2", "seed=1"], capsys,
    )


def test_help_before_a_command_is_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "train"]) == 0
    assert capsys.readouterr().out.startswith("fulgurite train [GROUP=OPTION]")
    assert main(["help", "nope"]) == 2
