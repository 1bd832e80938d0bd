"""The kept outline of a bundled model equals the one that is computed, and is kept of nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.model.folders import load_model

from fulgurite.config.compose import compose
from fulgurite.model.config import Tiny
from fulgurite.plan import outline
from fulgurite.plan.outline import read_outline, resize_adapter
from fulgurite.plan.recall import has_free_rank
from fulgurite.precision.policy import Dtypes
from fulgurite.precision.policy import build as build_policy


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FULGURITE_CACHE", str(tmp_path / "cache"))


def list_kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "outlines").glob("*.json"))


def read(*words: str) -> outline.Outline:
    run = compose(["model=tiny", *words]).run
    dtypes: Dtypes = build_policy(run.precision, "cpu")
    return read_outline(run, dtypes)


@pytest.mark.parametrize("words", [
    "", "method=full precision=fp32", "method=qlora", "method=oft", "method=freeze", "method=llama_pro",
    "stage=rm method=lora", "stage=ppo stage.reward=[length:20]",
    "model.attention=eager model.hidden=32", "precision=pure_bf16 method=full",
])
def test_kept_outline_equals_the_computed_one(words: str, tmp_path: Path) -> None:
    made = read(*words.split())
    assert len(list_kept(tmp_path)) == 1
    kept = read(*words.split())
    assert (kept.length, kept.facts) == (made.length, made.facts)
    assert kept.tokenizer is not made.tokenizer
    assert kept.tokenizer.get_vocab() == made.tokenizer.get_vocab()
    assert kept.tokenizer.special_tokens_map == made.tokenizer.special_tokens_map
    assert kept.tokenizer.chat_template == made.tokenizer.chat_template
    assert kept.tokenizer.model_max_length == made.tokenizer.model_max_length


def test_what_decides_is_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["", "method.rank=4", "precision=fp32", "stage=rm", "model.layers=3", "method=dora"]
    for words in given:
        read(*words.split())
    assert len(list_kept(tmp_path)) == len(given)
    monkeypatch.setattr(outline, "_list_versions", lambda: ["torch 99"])
    read()
    assert len(list_kept(tmp_path)) == len(given) + 1
    read("optim.lr=1e-4", "data.max_length=64")  # what decides nothing about a model is not
    assert len(list_kept(tmp_path)) == len(given) + 1


def test_an_edit_of_our_code_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "tiny.py"
    file.write_text("")
    os.utime(file, ns=(1, 1))
    monkeypatch.setattr(outline, "PACKAGE", tmp_path)
    before = outline._list_versions.__wrapped__()
    os.utime(file, ns=(2, 2))
    assert outline._list_versions.__wrapped__() != before


@pytest.mark.parametrize(
    "content", ["", "{", '{"length": 3}', '{"length": 3, "facts": {"layers": 1, "later": 2}}', "[]"]
)
def test_a_damaged_file_is_made_anew(content: str, tmp_path: Path) -> None:
    made = read()
    [file] = list_kept(tmp_path)
    whole = file.read_text()
    file.write_text(content)
    assert read().facts == made.facts
    assert file.read_text() == whole


def test_models_of_files_and_new_tokens_are_not_kept(tmp_path: Path) -> None:
    made = read("model.add_tokens=[<tool>]")
    assert "<tool>" in made.tokenizer.get_vocab()
    folder = tmp_path / "model"
    loaded = load_model(Tiny())
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    read("model=hf", f"model.path={folder}")
    assert list_kept(tmp_path) == []


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    assert read().facts.layers == 2


def test_a_second_plan_loads_no_model_code(tmp_path: Path) -> None:
    code = (
        "import sys; from fulgurite.cli.main import main\n"
        "print('STATUS', main(['plan', 'model=tiny', 'data.max_samples=40', 'trainer.max_steps=5']))\n"
        "print('LOADED', [n for n in ('peft', 'transformers.modeling_utils', 'lightning') if n in sys.modules])"
    )
    done = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
        for _ in range(2)
    ]
    assert [lines[-2] for lines in done] == ["STATUS 0", "STATUS 0"]
    assert done[0][-1] == "LOADED ['peft', 'transformers.modeling_utils']"
    assert done[1][-1] == "LOADED []"
    first, second = ([line for line in lines[:-1] if "free" not in line] for lines in done)
    assert first == second


def test_only_the_newest_outlines_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outline, "KEPT", 2)
    folder = tmp_path / "cache" / "outlines"
    for n, rank in enumerate((1, 2, 3)):
        read(f"method.rank={rank}")
        for path in list_kept(tmp_path):  # the clock of the disk may be too coarse to order them
            os.utime(path, ns=(n, n)) if path.stat().st_mtime_ns > 10**9 else None
    kept = {path.name for path in folder.glob("*.json")}
    assert len(kept) == 2
    read("method.rank=3")
    assert {path.name for path in folder.glob("*.json")} == kept


@pytest.mark.parametrize("method", ["lora", "qlora", "dora", "rslora", "lora method.targets=[q_proj]"])
def test_resized_adapter_is_the_outline_of_its_rank(method: str) -> None:
    small, large = (compose(["model=tiny", *f"method={method}".split(), f"method.rank={rank}"]).run for rank in (4, 24))
    dtypes = build_policy(small.precision, "cpu")
    assert has_free_rank(small.method)
    assert resize_adapter(read_outline(small, dtypes).facts, large.method) == read_outline(large, dtypes).facts
    assert resize_adapter(read_outline(large, dtypes).facts, large.method) == read_outline(large, dtypes).facts
    for words in ("method=vera method.rank=8", "method.rank_pattern={q_proj:2} method.rank=8", "method.init=pissa"):
        run = compose(["model=tiny", *words.split()]).run
        assert not has_free_rank(run.method)
        facts = read_outline(run, dtypes).facts
        assert resize_adapter(facts, run.method) == facts
