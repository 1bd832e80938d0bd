"""What a run computes with is hashed by its content: each change is seen, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fulgurite.checkpoint import resume
from fulgurite.checkpoint.loop import KEY
from fulgurite.config.compose import compose
from fulgurite.config.run import RunConfig
from fulgurite.errors import CheckpointError
from fulgurite.run.input_hashes import hash_inputs


def hash_run(run: RunConfig) -> dict[str, str]:
    return hash_inputs(run.model, run.method, run.stage)


def model(folder: Path) -> Path:
    """A model's folder as far as hashes go: the files by their names."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "rms_norm_eps": 1e-6,
        "transformers_version": "5.0.0"}))
    (folder / "generation_config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"one")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def adapter(folder: Path, base: Path) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base), "peft_type": "LORA"}))
    (folder / "adapter_model.safetensors").write_bytes(b"a")
    return folder


@pytest.fixture
def inputs(tmp_path: Path) -> Callable[[], dict[str, str]]:
    """The hashes of a run whose model, reference, start and reward lie in `tmp_path`."""
    model(tmp_path / "model")
    adapter(tmp_path / "reference", model(tmp_path / "base"))
    adapter(tmp_path / "start", tmp_path / "base")
    (tmp_path / "mine.py").write_text("def f(answers, **rest):\n    return [1.0] * len(answers)\n")
    dpo = compose([
        "stage=dpo", "model=hf", f"model.path={tmp_path / 'model'}", f"stage.reference={tmp_path / 'reference'}",
        f"method.adapter_path={tmp_path / 'start'}",
    ]).run
    grpo = compose(["stage=grpo", f"stage.reward=['count:a','{tmp_path / 'mine.py'}:f']", "model=tiny"]).run
    return lambda: hash_run(dpo) | hash_run(grpo)


def edit(key: str, value: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return change


def other_bytes(path: Path) -> None:
    """As long as before, and with the time of before."""
    seen = os.stat(path)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1))


CHANGES: dict[str, tuple[str, Callable[[Path], Any], set[str]]] = {
    "weights": ("model/model.safetensors", other_bytes, {"weights"}),
    "a shard more": ("model/extra.safetensors", lambda path: path.write_bytes(b"x"), {"weights"}),
    "config": ("model/config.json", edit("rms_norm_eps", 1e-4), {"model_config"}),
    "tokenizer": ("model/tokenizer.json", edit("version", "2"), {"tokenizer"}),
    "template": ("model/chat_template.jinja", lambda path: path.write_text("{{ messages }}"), {"tokenizer"}),
    "reference's adapter": ("reference/adapter_model.safetensors", other_bytes, {"reference"}),
    "reference's base": ("base/model.safetensors", other_bytes, {"reference"}),
    "reference's base's config": ("base/config.json", edit("rms_norm_eps", 1e-4), {"reference"}),
    "start": ("start/adapter_model.safetensors", other_bytes, {"adapter"}),
    "reward": ("mine.py", lambda path: path.write_text(path.read_text().replace("1.0", "-1.0")), {"reward"}),
    "generation config": ("model/generation_config.json", edit("temperature", 2), set()),
    "saved by another version": ("model/config.json", edit("transformers_version", "6.0"), set()),
    "touched": ("model/model.safetensors", os.utime, set()),
    "a note": ("model/README.md", lambda path: path.write_text("x"), set()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_changes_the_hash_of_its_input_alone(
    name: str, inputs: Callable[[], dict[str, str]], tmp_path: Path
) -> None:
    file, change, expected = CHANGES[name]
    before = inputs()
    assert set(before) == {"weights", "model_config", "tokenizer", "reference", "adapter", "reward"}
    change(tmp_path / file)
    after = inputs()
    assert {key for key in before if before[key] != after[key]} == expected


def test_the_same_model_elsewhere_is_the_same(tmp_path: Path) -> None:
    model(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    one, two = (hash_run(compose(["model=hf", f"model.path={tmp_path / name}"]).run) for name in "ab")
    assert one == two


def test_what_is_not_there_has_no_hash() -> None:
    """A hub id that was never loaded, and a model that is made and not read."""
    assert hash_run(compose(["model=hf", "model.path=owner/never-loaded-here"]).run) == {}
    assert hash_run(compose(["model=tiny"]).run) == {}


def checkpoint(folder: Path, identity: dict[str, str]) -> Path:
    place = folder / "run" / "checkpoints" / "step-2"
    place.mkdir(parents=True)
    (place / "state.json").write_text(json.dumps({"state": {KEY: {"identity": identity}}}))
    return place


def test_a_change_is_refused_with_its_name_and_the_remedy(tmp_path: Path) -> None:
    place = checkpoint(tmp_path, {"data": "d", "weights": "1", "reward": "2"})
    assert resume.check_inputs(place, {"weights": "1", "reward": "2"}, []) == []
    with pytest.raises(CheckpointError) as caught:
        resume.check_inputs(place, {"weights": "1", "reward": "3"}, ["trainer.max_steps"])
    assert str(caught.value) == (
        f"This run differs from {tmp_path / 'run'}: reward (a reward function's file or a reward model of "
        f"stage.reward) has changed. "
        "Add resume.allow=[reward,trainer.max_steps] if that is intended, or choose another run_dir."
    )


@pytest.mark.parametrize("allow", [["reward"], ["stage.reward"], ["stage"]])
def test_an_allowed_change_is_printed(allow: list[str], tmp_path: Path) -> None:
    place = checkpoint(tmp_path, {"reward": "2"})
    (line,) = resume.check_inputs(place, {"reward": "3"}, allow)
    assert str(line).startswith("resumed although reward (a reward function's file")


def test_a_run_of_an_earlier_version_resumes_and_names_what_was_not_compared(tmp_path: Path) -> None:
    place = checkpoint(tmp_path, {"data": "d", "version": "0.1.0"})
    (line,) = resume.check_inputs(place, {"weights": "1", "tokenizer": "2"}, [])
    assert str(line) == "not compared with the earlier run, which has no hashes of them: weights, tokenizer"
