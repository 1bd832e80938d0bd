"""The command line: a wrong request is one line on stderr and exit 2, and what is asked of Hydra is answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.requests import TINY, read_refusal

from fulgurite.cli.main import main
from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError
from fulgurite.language.current import get_language

WRONG = [
    (["frain"], "no command frain. Did you mean train"),
    (["train", "optim.lrr=1"], "Did you mean optim.lr"),
    (["train", "trainer.global_batch_size=0"], "trainer.global_batch_size=0 is not allowed"),
    (["train", "optim.lr="], "must be a number"),
    (["train", "optim.lr=1e-4,1e-3"], "add -m"),
    (["train", "optim=[adamw,sgd]"], "a run has only one optim"),
    (["train", "~seed"], "nothing is deleted here"),
    (["train", "=3"], "error: =3 names no parameter; write PARAMETER=VALUE."),
    (["plan", "+=3"], "error: +=3 names no parameter; write PARAMETER=VALUE."),
    (["chat", "=3"], "error: =3 has no parameter before the =; write parameter=value."),
    (["train", "trainer.devices=100000"], "trainer.devices=100000 is more than 8 for each of this machine's "),
    (["train", "--frob"], "no flag --frob"),
    (["train", "--experimental-rerun=x.pkl"], "no flag --experimental-rerun"),
    (["train", "--cfg", "jobb"], "one of job, hydra, all"),
    (["train", "--config-dir", "/no/such"], "is not a folder"),
    (["train", "+optim._target_=os.system"], "no parameter optim._target_"),
    (["train", "chat.temperature=1"], "no parameter chat.temperature"),
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
        (["run_dir=/proc/x"], "/proc/x cannot be created"),
        (["precision=fp16", "trainer.accelerator=cpu"], "precision=fp16 needs a GPU"),
        (
            ["scheduler=reduce_lr_on_plateau", "data.val_fraction=0"],
            "scheduler=reduce_lr_on_plateau follows the validation loss"
        ),
        (["resume.run=/tmp"], "is not a run folder"),
        (["scheduler=polynomial", "scheduler.lr_end=0.5"], "must be below optim.lr=0.001"),
    ],
)
def test_what_only_the_run_can_see_is_one_line_too_and_makes_no_folder(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = [w for w in TINY if w.partition("=")[0] not in {x.partition("=")[0] for x in words}]
    assert expected in read_refusal(["train", *kept, *words], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK"])
def test_a_rank_that_is_no_number_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, "two")
    assert f"{name}=two in the environment is not a whole number" in read_refusal(["train", *TINY], capsys)
    assert main(["plan", "--rules"]) == 0


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


def test_help_before_a_command_is_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "train"]) == 0
    assert capsys.readouterr().out.startswith("fulgurite train [GROUP=OPTION]")
    assert main(["help", "nope"]) == 2


def test_lang_is_taken_by_every_command_and_ends_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lang", "zh", "--version"]) == 0
    assert main(["runs", "--lang=zh", "--help"]) == 0
    assert get_language() == "en"
    assert "FULGURITE_LANG" not in os.environ
    assert main(["train", "--lang", "klingon"]) == 2
    assert capsys.readouterr().err == "error: --lang takes en or zh.\n"


REFUSED = [
    (["train", "resume.run=/nowhere"], "resume.run=/nowhere is not a run folder"),
    (["train", "model=hf", "model.path=/nowhere"], "model.path=/nowhere does not exist"),
    (["train", "logger=tensorboard"], "logger=tensorboard needs the package tensorboard, which is not installed"),
    (["train", "precision=fp16", "trainer.accelerator=cpu"], "precision=fp16 needs a GPU"),
    (["train", "stage=grpo", "data=guide_prompts", "stage.reward=[r.py:score]"], "declare it as (prompts, answers, **"),
    (["chat", "run=/nowhere"], "/nowhere"),
    (["chat", "model=./nowhere"], "model=./nowhere does not exist"),
    (["export", "run=/nowhere", "out=x"], "/nowhere"),
]


def test_what_needs_no_torch_is_refused_without_it(tmp_path: Path) -> None:
    """Torch takes seconds to load: each of these is refused in a process that cannot import it."""
    (tmp_path / "r.py").write_text("def score(prompt, answer, **record):\n    return 1.0\n")
    code = (
        "import importlib.util as u, json, sys; plain = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'tensorboard' else plain(name, *rest)\n"
        "sys.modules.update(dict.fromkeys(('torch', 'lightning', 'tensorboard')))\n"
        "from fulgurite.cli.main import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    print('status', main(words), file=sys.stderr)\n"
    )
    given = json.dumps([words for words, _ in REFUSED])
    done = subprocess.run(
        [sys.executable, "-c", code, given], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    answers = done.stderr.split("status 2\n")
    assert len(answers) == len(REFUSED) + 1, done.stderr
    for (words, sentence), answer in zip(REFUSED, answers, strict=False):
        assert sentence in answer.splitlines()[-1], words
    assert answers[-1] == ""
    assert not (tmp_path / "runs").exists()
