"""A folder from elsewhere runs nothing: not with `y` on stdin, not by its own config, and allowed only by words of this command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fulgurite.cli.main import main
from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.model.safety import code_hash
from fulgurite.precision.policy import build as settle

TRY = """
import json, sys
from fulgurite.cli.main import main
for words in json.loads(sys.argv[1]):
    print("status", main(words), *words, flush=True)
"""
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
MAP = {"AutoConfig": "evil_code.Config", "AutoModelForCausalLM": "evil_code.Model", "AutoTokenizer": ["evil_code.Words", "evil_code.Words"]}


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
    words = ["model=hf", f"model.path={home / 'model'}", "model.attention=eager", "method.rank=2", *SHORT, f"run_dir={home / 'run'}"]
    assert main(["train", *words]) == 0
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """Copies of them that name code, which makes the file `owned`; the run's config asks for all of it."""
    marker, home = str(tmp_path / "owned"), Path(shutil.copytree(made, tmp_path / "home"))
    for name in ("model", "adapter"):
        (home / name / "evil_code.py").write_text(EVIL.format(marker=marker) + CLASSES)
        (home / name / "custom_generate").mkdir()
        (home / name / "custom_generate" / "generate.py").write_text(EVIL.format(marker=marker) + "def generate(model, **more): ...\n")
        edit(home / name / "tokenizer_config.json", auto_map={"AutoTokenizer": MAP["AutoTokenizer"]}, tokenizer_class="Words")
    edit(home / "model" / "config.json", auto_map=MAP, model_type="strange", architectures=["Model"], trust_remote_code=True)
    edit(home / "adapter" / "adapter_config.json", base_model_name_or_path=str(home / "model"))
    (home / "evil_plugin.py").write_text(EVIL.format(marker=str(tmp_path / "plugged")))
    text = (home / "run" / "config.yaml").read_text()
    assert "plugins: []" in text
    text = text.replace("plugins: []", "plugins: [evil_plugin]").replace("trust_remote_code: false", "trust_remote_code: true")
    text = text.replace("revision: null", f"revision: {'a' * 40}").replace(str(made), str(home))
    (home / "run" / "config.yaml").write_text(text)
    return home


def ask(home: Path, *commands: list[str]) -> tuple[list[str], str]:
    """The statuses and stderr of several commands in one process that is answered `y` on stdin, whatever it asks."""
    done = subprocess.run(
        [sys.executable, "-c", TRY, json.dumps(commands)], input="y\n" * 20, capture_output=True, text=True, check=False, cwd=home,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")])},
    )
    assert "Do you wish" not in done.stdout + done.stderr
    statuses = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("status ")]
    assert len(statuses) == len(commands), done.stderr
    return statuses, done.stderr


def test_a_yes_on_stdin_runs_no_code_of_a_model_adapter_or_tokenizer(home: Path, tmp_path: Path) -> None:
    plain = Path(shutil.copytree(home / "model", home / "words"))  # a model that transformers knows under a tokenizer with code
    shutil.copy(tmp_path / "home" / "model" / "model.safetensors", plain)
    edit(plain / "config.json", auto_map={}, model_type="llama", architectures=["LlamaForCausalLM"])
    words = [["model=hf", f"model.path={home / name}", *SHORT] for name in ("model", "adapter", "words")]
    commands = [["plan", *words[0]], ["plan", *words[1]]]
    commands += [["train", *given, f"run_dir={home / 'new'}"] for given in words]
    reference = ["stage=dpo", f"stage.reference={home / 'model'}", "method=full", "data=guide_preference"]
    commands += [["chat", f"model={home / 'model'}"], ["train", "model=tiny", *reference, *SHORT, f"run_dir={home / 'dpo'}"]]
    statuses, said = ask(home, *commands)
    assert not (tmp_path / "owned").exists()
    assert set(statuses) == {"2"}, said
    wants = "wants to run its own Python code; read it, then add model.trust_remote_code=true model.revision=sha256:"
    assert said.count(wants) == len(commands), said


def test_a_runs_config_allows_nothing_by_itself(home: Path, tmp_path: Path) -> None:
    statuses, said = ask(
        home, ["chat", f"run={home / 'run'}"], ["export", f"run={home / 'run'}", f"out={home / 'out'}"],
        ["train", "model=hf", f"model.path={home / 'run'}", *SHORT, f"run_dir={home / 'new'}"],
        ["plan", "model=hf", f"model.path={home / 'run'}", *SHORT],
    )
    assert statuses == ["2"] * 4, said
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "plugged").exists()
    assert "config.yaml asks for plugins=[evil_plugin], which was not imported; to allow it, add those words here" in said
    assert "lets the code in" in said
    assert "add model.trust_remote_code=true and model.revision=" in said


def test_what_was_left_out_does_not_stop_a_run_that_needs_none_of_it(home: Path, made: Path, tmp_path: Path) -> None:
    shutil.rmtree(home / "model")
    shutil.copytree(made / "model", home / "model")
    run = f"run={home / 'run'}"
    statuses, said = ask(home, ["chat", run, "max_new_tokens=1"], ["export", run, f"out={home / 'out'}"])
    assert statuses == ["0", "0"], said
    assert not (tmp_path / "plugged").exists()
    assert said.count("which was not imported") == 1, "said once"


def test_the_words_of_this_command_line_allow_it(home: Path, tmp_path: Path) -> None:
    shutil.rmtree(home / "model" / "custom_generate")
    pin = code_hash(home / "model")
    trust = ["model.trust_remote_code=true", f"model.revision={pin}"]
    statuses, said = ask(
        home, ["chat", f"run={home / 'run'}", "model.trust_remote_code=true", f"model.revision={'a' * 40}", "max_new_tokens=1"],
        ["chat", f"run={home / 'run'}", *trust, "plugins=[evil_plugin]", "max_new_tokens=1"],
        ["plan", "model=hf", f"model.path={home / 'model'}", *trust, *SHORT],
    )
    assert (tmp_path / "plugged").exists()
    assert (tmp_path / "owned").exists(), said
    assert statuses[0] == "2"
    assert statuses[1:] == ["0", "0"], said
    assert f"model.revision={'a' * 40} is not the hash of the Python code in" in said


@pytest.mark.parametrize(
    "word", [
        "plugins=[evil_plugin]", "++model.trust_remote_code=true", "stage.reward=[evil_plugin.py:f]", "stage.reward=['${name}']",
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
        assert f"was run with {word}, which lets code run; that counts only if this command line says so" in said
    assert not (tmp_path / "owned").exists()


def test_what_a_run_writes_is_its_owners_alone(made: Path) -> None:
    """Samples, metrics, reports and weights may hold the data that was trained on."""
    written = [made / "run", *(made / "run").rglob("*")]
    names = {"config.yaml", "provenance.json", "metrics.jsonl", "status.json", "data_report.json", "manifest.json"}
    assert names <= {path.name for path in written}
    shared = {str(path.relative_to(made)): oct(path.stat().st_mode & 0o777) for path in written if path.stat().st_mode & 0o077}
    assert not shared


@pytest.mark.parametrize("yaml", [
    "hydra: {callbacks: {x: {_target_: evil_plugin.C}}}", "hydra: {launcher: {_target_: evil_plugin.C}}",
    "hydra: {job_logging: {handlers: {x: {(): evil_plugin.C}}}}", "hydra: {hydra_logging: {handlers: {x: {class: evil_plugin.C}}}}",
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
