"""A folder from elsewhere runs nothing: not with `y` on stdin, not by its own config, and allowed only by words of this
command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from fulgurite.cli.main import main
from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.model.safety import compute_code_hash
from fulgurite.precision.policy import build as settle

TRY = """
import contextlib, io, json, os, sys
from fulgurite.cli.main import main

def answer(words):
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        status = main(words)
    return [status, err.getvalue()]

answers = {}
for home, commands in json.loads(sys.argv[2]).items():
    os.chdir(home)
    sys.path.insert(0, home)
    answers[home] = [answer(words) for words in commands]
    sys.path.remove(home)
    sys.modules.pop("evil_plugin", None)
with open(sys.argv[1], "w") as file:
    json.dump(answers, file)
"""
"""One process answers the commands of all cases, each in its folder: each start costs seconds of imports."""
SHORT = ["precision=fp32", "trainer.max_steps=1", "data.max_samples=40", "stage.prompts=[]"]
EVIL = "import pathlib\npathlib.Path({marker!r}).touch()\n"
CLASSES = """
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class Config(LlamaConfig):
    model_type = "strange"
class Model(LlamaForCausalLM):
    config_class = Config
class Words(PreTrainedTokenizerFast):
    pass
"""
MAP = {
    "AutoConfig": "evil_code.Config", "AutoModelForCausalLM": "evil_code.Model",
    "AutoTokenizer": ["evil_code.Words", "evil_code.Words"],
}


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, a model and an adapter, all harmless."""
    home = tmp_path_factory.mktemp("made")
    run = compose(["model=tiny", "method=lora", "method.rank=2", "precision=fp32"]).run
    loaded = build(run.model, torch.float32)
    loaded.model.save_pretrained(home / "model")
    loaded.tokenizer.save_pretrained(home / "model")
    adapter = build(run.method, loaded.model, settle(run.precision, "cpu"))
    adapter.peft_config["default"].base_model_name_or_path = str(home / "model")
    adapter.save_pretrained(home / "adapter", save_embedding_layers=False)
    loaded.tokenizer.save_pretrained(home / "adapter")
    words = [
        "model=hf", f"model.path={home / 'model'}", "model.attention=eager", "method.rank=2", *SHORT,
        f"run_dir={home / 'run'}",
    ]
    assert main(["train", *words]) == 0
    return home


def copy_with_code(made: Path, folder: Path) -> Path:
    """Copies of them that name code, which makes the file `owned`; the run's config asks for all of it."""
    marker, home = str(folder / "owned"), Path(shutil.copytree(made, folder / "home"))
    for name in ("model", "adapter"):
        (home / name / "evil_code.py").write_text(EVIL.format(marker=marker) + CLASSES)
        (home / name / "custom_generate").mkdir()
        (home / name / "custom_generate" / "generate.py").write_text(
            EVIL.format(marker=marker) + "def generate(model, **more): ...\n"
        )
        edit(
            home / name / "tokenizer_config.json", auto_map={"AutoTokenizer": MAP["AutoTokenizer"]},
            tokenizer_class="Words",
        )
    edit(
        home / "model" / "config.json", auto_map=MAP, model_type="strange", architectures=["Model"],
        trust_remote_code=True,
    )
    edit(home / "adapter" / "adapter_config.json", base_model_name_or_path=str(home / "model"))
    (home / "evil_plugin.py").write_text(EVIL.format(marker=str(folder / "plugged")))
    text = (home / "run" / "config.yaml").read_text()
    assert "plugins: []" in text
    text = text.replace("plugins: []", "plugins: [evil_plugin]")
    text = text.replace("trust_remote_code: false", "trust_remote_code: true")
    text = text.replace("revision: null", f"revision: {'a' * 40}").replace(str(made), str(home))
    (home / "run" / "config.yaml").write_text(text)
    return home


def ask_about_code(home: Path) -> list[list[str]]:
    """A model, an adapter and a tokenizer that want to run code, read by every command."""
    plain = Path(shutil.copytree(home / "model", home / "words"))  # a known model under a tokenizer with code
    edit(plain / "config.json", auto_map={}, model_type="llama", architectures=["LlamaForCausalLM"])
    words = [["model=hf", f"model.path={home / name}", *SHORT] for name in ("model", "adapter", "words")]
    reference = ["stage=dpo", f"stage.reference={home / 'model'}", "method=full", "data=guide_preference"]
    return [
        ["plan", *words[0]], ["plan", *words[1]], *(["train", *given, f"run_dir={home / 'new'}"] for given in words),
        ["chat", f"model={home / 'model'}"],
        ["train", "model=tiny", *reference, *SHORT, f"run_dir={home / 'dpo'}"],
    ]


def ask_a_run(home: Path) -> list[list[str]]:
    """A run whose config allows code."""
    return [
        ["chat", f"run={home / 'run'}"], ["export", f"run={home / 'run'}", f"out={home / 'out'}"],
        ["train", "model=hf", f"model.path={home / 'run'}", *SHORT, f"run_dir={home / 'new'}"],
        ["plan", "model=hf", f"model.path={home / 'run'}", *SHORT],
    ]


def ask_a_harmless_run(home: Path) -> list[list[str]]:
    """The run over a model without code: what its config allows is not needed."""
    run = f"run={home / 'run'}"
    return [["chat", run, "max_new_tokens=1"], ["export", run, f"out={home / 'out'}"]]


def ask_with_trust(home: Path) -> list[list[str]]:
    """The words of this command line allow the code: with a wrong hash, and with the right one."""
    shutil.rmtree(home / "model" / "custom_generate")
    trust = ["model.trust_remote_code=true", f"model.revision={compute_code_hash(home / 'model')}"]
    chat = ["chat", f"run={home / 'run'}", "max_new_tokens=1"]
    return [
        [*chat, "model.trust_remote_code=true", f"model.revision={'a' * 40}"], [*chat, *trust, "plugins=[evil_plugin]"],
        ["plan", "model=hf", f"model.path={home / 'model'}", *trust, *SHORT],
    ]


@dataclass(frozen=True)
class Answered:
    """A case's folder, the statuses of its commands, and all of their stderr."""

    folder: Path
    statuses: list[int]
    err: str

    @property
    def owned(self) -> bool:
        return (self.folder / "owned").exists()

    @property
    def plugged(self) -> bool:
        return (self.folder / "plugged").exists()


CASES = {"code": ask_about_code, "run": ask_a_run, "harmless": ask_a_harmless_run, "trusted": ask_with_trust}
"""The trusted case comes last: what it imports would be there for the others."""


@pytest.fixture(scope="module")
def answered(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answered]:
    """The answers to the commands of each case; stdin says `y`, whatever is asked."""
    folders = {name: tmp_path_factory.mktemp(name) for name in CASES}
    homes = {name: copy_with_code(made, folder) for name, folder in folders.items()}
    shutil.rmtree(homes["harmless"] / "model")
    shutil.copytree(made / "model", homes["harmless"] / "model")
    commands = {str(homes[name]): ask(homes[name]) for name, ask in CASES.items()}
    file = folders["code"] / "answers.json"
    done = subprocess.run(
        [sys.executable, "-c", TRY, str(file), json.dumps(commands)], input="y\n" * 60, capture_output=True, text=True,
        check=False,
    )
    assert file.is_file(), done.stderr
    assert "Do you wish" not in done.stdout + done.stderr
    found = json.loads(file.read_text())
    assert "Do you wish" not in str(found)
    return {
        name: Answered(folder, [status for status, _ in found[str(homes[name])]],
                       "".join(err for _, err in found[str(homes[name])]))
        for name, folder in folders.items()
    }


def test_a_yes_on_stdin_runs_no_code_of_a_model_adapter_or_tokenizer(answered: dict[str, Answered]) -> None:
    case = answered["code"]
    assert not case.owned
    assert set(case.statuses) == {2}, case.err
    wants = (
        "needs to run its own Python code; read it, then add model.trust_remote_code=true model.revision=sha256:"
    )
    assert case.err.count(wants) == len(case.statuses) == 7, case.err


def test_a_runs_config_allows_nothing_by_itself(answered: dict[str, Answered]) -> None:
    case = answered["run"]
    assert case.statuses == [2] * 4, case.err
    assert not case.owned
    assert not case.plugged
    asks = "config.yaml asks for plugins=[evil_plugin], which was not imported; to allow it, add those words here"
    assert asks in case.err
    assert "lets the code in" in case.err
    assert "add model.trust_remote_code=true and model.revision=" in case.err


def test_what_was_left_out_does_not_stop_a_run_that_needs_none_of_it(answered: dict[str, Answered]) -> None:
    case = answered["harmless"]
    assert case.statuses == [0, 0], case.err
    assert not case.plugged
    assert case.err.count("which was not imported") == 1, "printed once"


def test_the_words_of_this_command_line_allow_it(answered: dict[str, Answered]) -> None:
    case = answered["trusted"]
    assert case.plugged
    assert case.owned, case.err
    assert case.statuses == [2, 0, 0], case.err
    assert f"model.revision={'a' * 40} is not the hash of the Python code in" in case.err


@pytest.mark.parametrize(
    "word", [
        "plugins=[evil_plugin]", "++model.trust_remote_code=true", "stage.reward=[evil_plugin.py:f]",
        "stage.reward=['${name}']",
        "hydra.searchpath=[file://x]",
    ],
)
def test_resuming_does_not_repeat_words_that_let_code_run(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    stored = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(stored | {"overrides": [*stored["overrides"], word]}))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_plugin.py").write_text(EVIL.format(marker=str(tmp_path / "owned")))
    for command in ("train", "plan"):
        assert main([command, f"resume.run={run}"]) == 2
        said = capsys.readouterr().err
        assert f"was run with {word}, which lets code run; that counts only if this command line allows it" in said
    assert not (tmp_path / "owned").exists()


def test_what_a_run_writes_is_its_owners_alone(made: Path) -> None:
    """Samples, metrics, reports and weights may hold the data that was trained on."""
    written = [made / "run", *(made / "run").rglob("*")]
    names = {"config.yaml", "provenance.json", "metrics.jsonl", "status.json", "data_report.json", "manifest.json"}
    assert names <= {path.name for path in written}
    shared = {
        str(path.relative_to(made)): oct(path.stat().st_mode & 0o777)
        for path in written if path.stat().st_mode & 0o077
    }
    assert not shared


@pytest.mark.parametrize("yaml", [
    "hydra: {callbacks: {x: {_target_: evil_plugin.C}}}", "hydra: {launcher: {_target_: evil_plugin.C}}",
    "hydra: {job_logging: {handlers: {x: {(): evil_plugin.C}}}}",
    "hydra: {hydra_logging: {handlers: {x: {class: evil_plugin.C}}}}",
    "hydra: {job: {env_set: {PYTHONSTARTUP: x.py}}}",
])
def test_hydra_makes_nothing_that_a_yaml_file_of_another_folder_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, yaml: str
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "evil.yaml").write_text(f"# @package _global_\n{yaml}\n")
    (tmp_path / "evil_plugin.py").write_text(EVIL.format(marker=str(tmp_path / "owned")) + "C = dict\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    words = ["--config-dir", str(tmp_path), "+experiment=evil", "model=tiny", "data=file", "data.path=absent.jsonl"]
    for command in (["train", "-m"], ["plan"]):
        assert main([*command, *words]) == 2
        assert "is set in a YAML file; it would let code run" in capsys.readouterr().err
    assert not (tmp_path / "owned").exists()
