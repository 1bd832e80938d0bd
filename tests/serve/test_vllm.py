"""`engine=vllm`: the export, and the command line, by a program that records its arguments in vLLM's place."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.runs import tiny
from tests.export.exports import save_tiny
from tests.forked import ForkedCommand

from fulgurite.config.guard import Allowed
from fulgurite.config.serve_arguments import Serve
from fulgurite.errors import ConfigError
from fulgurite.serve.access import KEY
from fulgurite.serve.vllm import build_line, check_adapter, choose_folder, export_once, find_vllm

SECRET = "0123456789abcdef"
LORA = {"peft_type": "LORA", "r": 16, "base_model_name_or_path": "a/b"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder for PATH with a `vllm` that writes its arguments and its key to vllm.json, and ends with status 7."""
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    record = f"{{'words': sys.argv[1:], 'key': os.environ.get('VLLM_API_KEY'), 'ours': os.environ.get({KEY!r})}}"
    program.write_text(
        f"#!{sys.executable} -I\nimport json, os, sys\n"
        f"open({str(tmp_path / 'vllm.json')!r}, 'w').write(json.dumps({record}))\nsys.exit(7)\n"
    )
    program.chmod(0o755)
    return program.parent


def serve(*words: str, **environment: str) -> tuple[int, str, str]:
    """Runs `fulgurite serve engine=vllm`; returns the status and what was printed."""
    command = ForkedCommand(["serve", "engine=vllm", *words], env=dict(os.environ) | environment)
    out, err = command.communicate(120)
    assert command.returncode is not None
    return command.returncode, out, err


def test_vllm_gets_the_merged_folder_and_the_key_and_gives_the_status(lora: Path, tmp_path: Path, path: Path) -> None:
    out = tmp_path / "a folder"
    words = [f"run={lora}", f"out={out}", "port=81", "temperature=0", "origins=https://a.example"]
    status, shown, _ = serve(*words, PATH=f"{path}{os.pathsep}{os.environ['PATH']}", **{KEY: SECRET})
    found = json.loads((tmp_path / "vllm.json").read_text())
    assert status == 7
    assert found == {"key": SECRET, "ours": None, "words": [
        "serve", str(out), "--served-model-name", "my-run", "--host", "127.0.0.1", "--port", "81",
        "--allowed-origins", '["https://a.example"]', "--override-generation-config",
        '{"temperature": 0.0, "top_p": 0.9}',
    ]}
    assert SECRET not in shown
    assert shlex.split(shown.splitlines()[-1])[1:] == found["words"]
    stops = json.loads((out / "generation_config.json").read_text())["eos_token_id"]
    assert stops
    assert (out / "chat_template.jinja").is_file()
    # the second time the export is there
    status, shown, err = serve(*words, PATH=str(path), **{KEY: SECRET})
    assert (status, f"Uses the export in {out}" in err) == (7, True)


def test_vllm_gets_an_adapter_apart_from_its_base(tmp_path: Path, path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    run = tiny(tmp_path / "run", "model=hf", f"model.path={base}", "method.rank=20", "trainer.max_steps=1")
    status, _, _ = serve(f"run={run}", "name=mine", "merge=false", PATH=str(path))
    words = json.loads((tmp_path / "vllm.json").read_text())["words"]
    (out,) = (run / "exports").iterdir()
    assert status == 7
    assert words[:12] == [
        "serve", str(base), "--enable-lora", "--lora-modules", f"mine={out}", "--max-lora-rank", "32", "--tokenizer",
        str(out), "--generation-config", str(out), "--host",
    ]


def test_without_vllm_the_line_is_printed_and_nothing_written(lora: Path, tmp_path: Path) -> None:
    status, out, err = serve(f"run={lora}", PATH=str(tmp_path))
    assert (status, out) == (2, "")
    export, line = err.split("write: ")[1].strip().split(" && ")
    folder = choose_folder(lora, Serve(run=str(lora)))
    assert shlex.split(export) == ["fulgurite", "export", f"run={lora}", f"out={folder}", "checkpoint=best"]
    assert shlex.split(line) == build_line("vllm", Serve(run=str(lora), name="my-run"), Allowed(), folder)
    assert not (lora / "exports").exists()
    assert find_vllm() is None


@pytest.mark.parametrize(("adapter", "rank"), [
    (LORA, 16), (LORA | {"r": 20, "use_rslora": True}, 32), (LORA | {"r": 3}, 8), (LORA | {"r": 1}, 1),
    (LORA | {"r": 600}, None), (LORA | {"use_dora": True}, None), (LORA | {"modules_to_save": ["head"]}, None),
    (LORA | {"rank_pattern": {"a": 3}}, None), (LORA | {"peft_type": "OFT"}, None),
    ({"peft_type": "IA3", "base_model_name_or_path": "a"}, None), (LORA | {"base_model_name_or_path": None}, None),
])
def test_an_adapter_that_vllm_cannot_read_is_refused(adapter: dict[str, Any], rank: int | None, tmp_path: Path) -> None:
    if rank is not None:
        assert check_adapter(adapter, tmp_path) == rank
        return
    with pytest.raises(ConfigError, match="leave out merge=false"):
        check_adapter(adapter, tmp_path)


def test_a_folder_that_is_no_such_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"is not an export with merge=false: it has no adapter_config\.json"):
        export_once(Serve(merge=False), Allowed(), tmp_path)
