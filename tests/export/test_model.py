"""`fulgurite export`: others load what it writes, get the same logits, and stop; a refusal leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.end_to_end.runs import losses, tiny, weights
from tests.export.exports import compute_logits, export, load_plain
from transformers import AutoTokenizer

from fulgurite.cli.main import main
from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.data.example import Message
from fulgurite.errors import ModelError
from fulgurite.export.model import load_run
from fulgurite.files.lock import hold_lock

# peft asks by the old name
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
QUESTION, ANSWER = "What does warmup do?", "It lets the rate rise."


def test_a_merged_folder_gives_plain_transformers_the_logits_of_the_adapter(lora: Path, tmp_path: Path) -> None:
    with_adapter = compute_logits(load_run(lora, exact=True).model)
    merged = compute_logits(load_plain(export(lora, tmp_path / "out")))
    base = compute_logits(build(compose(["model=tiny"]).run.model, torch.float32).model)
    scale = with_adapter.abs().max()
    assert (merged - with_adapter).abs().max() / scale < 1e-5
    assert (base - with_adapter).abs().max() / scale > 1e-2  # else the adapter did nothing
    assert not [name for name in load_file(tmp_path / "out" / "model.safetensors") if "lora" in name]


def test_a_fully_trained_model_is_exported_bit_for_bit(full: Path, tmp_path: Path) -> None:
    found, trained = load_plain(export(full, tmp_path / "out")).state_dict(), weights(full)
    for name, tensor in trained.items():
        assert torch.equal(found[name.removeprefix("model.")], tensor)
    assert {name.removeprefix("model.")
        for name in trained} | {"lm_head.weight"} == set(found)  # the head is the embedding


@pytest.mark.parametrize("merge", ["true", "false"])
def test_the_folder_renders_as_in_training_and_has_its_stop_tokens(lora: Path, tmp_path: Path, merge: str) -> None:
    out, run = export(lora, tmp_path / "out", f"merge={merge}"), load_run(lora)
    tokenizer = AutoTokenizer.from_pretrained(out)
    talk = [Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Yes."),
        Message("user", "Again")]
    turns = [{"role": m.role, "content": m.content} for m in talk]
    assert tokenizer.apply_chat_template(
        turns, add_generation_prompt=True
    )["input_ids"] == run.template.encode_prompt(talk)
    whole = tokenizer.apply_chat_template(turns[:3])["input_ids"]
    ids, learn = run.template.encode_chat(talk[:3], "answers")
    assert whole == ids
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation["eos_token_id"] == run.template.stop_ids == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert [i for i, on in zip(ids, learn, strict=True) if on][-1] == generation["eos_token_id"][0]
    assert generation["pad_token_id"] == tokenizer.pad_token_id is not None


@pytest.mark.parametrize("merge", ["true", "false"])
def test_no_path_of_this_machine_is_written(lora: Path, tmp_path: Path, merge: str) -> None:
    out = export(lora, tmp_path / "out", f"merge={merge}")
    cached = [str(tmp_path), str(lora.parent), str(Path.home()), str(Path.cwd())]
    for file in out.iterdir():
        assert not [word for word in cached if word.encode() in file.read_bytes()], file


def test_a_trained_model_stops_by_itself(tmp_path: Path) -> None:
    data = tmp_path / "one.jsonl"
    talk = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    data.write_text((json.dumps({"messages": talk}) + "\n") * 2)
    words = [
        "method=full", "data=file", f"data.path={data}", "data.val_fraction=0", "optim.lr=1e-2", "trainer.max_steps=60"
    ]
    run = tiny(tmp_path / "run", *words, "trainer.global_batch_size=2", "scheduler=constant")
    assert losses(run)[-1] < 0.01
    out = export(run, tmp_path / "out")
    tokenizer, model = AutoTokenizer.from_pretrained(out), load_plain(out).eval()
    prompt = tokenizer.apply_chat_template(talk[:1], add_generation_prompt=True, return_tensors="pt")
    found = model.generate(**prompt, max_new_tokens=200, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert len(found) < 40
    assert tokenizer.decode(found, skip_special_tokens=True).strip() == ANSWER
    assert int(found[-1]) in model.generation_config.eos_token_id


def test_an_export_trains_again_and_its_adapter_names_it(lora: Path, tmp_path: Path) -> None:
    out = export(lora, tmp_path / "out")
    again = tiny(tmp_path / "again", "model=hf", f"model.path={out}", "optim.lr=1e-3", "trainer.max_steps=3")
    assert losses(again)[0] < losses(lora)[0] - 0.05  # it goes on from what was learned
    alone = export(again, tmp_path / "alone", "merge=false")
    assert json.loads((alone / "adapter_config.json").read_text())["base_model_name_or_path"] == str(out)
    merged = compute_logits(load_plain(export(again, tmp_path / "merged")))
    stacked = compute_logits(PeftModel.from_pretrained(load_plain(out), alone))
    assert (merged - stacked).abs().max() / stacked.abs().max() < 1e-5


def test_a_run_as_model_path_is_refused_with_the_export_command(lora: Path) -> None:
    with pytest.raises(ModelError, match=r"is a run, not a model; export it first: fulgurite export run="):
        build(compose(["model=hf", f"model.path={lora}"]).run.model, torch.float32)


def swapped(run: Path, old: str, new: str) -> None:
    text = (run / "config.yaml").read_text()
    assert old in text
    (run / "config.yaml").write_text(text.replace(old, new))


def damaged(run: Path) -> None:
    for file in run.glob("checkpoints/step-*/weights.safetensors"):
        file.write_bytes(file.read_bytes()[:-9] + b"123456789")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no checkpoint": (lambda run: shutil.rmtree(run / "checkpoints"), "has no whole checkpoint yet"),
    "damaged checkpoint": (damaged, "differs from its sha256"),
    "no config": (lambda run: (run / "config.yaml").unlink(), "is not a run's folder"),
    "another rank": (lambda run: swapped(run, "rank: 16", "rank: 8"), "does not match"),
    "an impossible rank": (lambda run: swapped(run, "rank: 16", "rank: -1"), "does not fit"),
    "another method": (lambda run: swapped(run, "option: lora", "option: full"), "cannot be read by this version"),
    "fewer targets": (lambda run: swapped(run, "targets: null", "targets: [q_proj]"), "does not match"),
    "an unknown option": (lambda run: swapped(run, "option: lora", "option: magic"), "cannot be read by this version"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_is_refused_is_one_sentence_and_leaves_nothing(
    how: str, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, (spoil, said) = tmp_path / "run", REFUSED[how]
    shutil.copytree(lora, run, symlinks=True)
    spoil(run)
    assert main(["export", f"run={run}", f"out={tmp_path / 'out'}"]) == 2
    shown = capsys.readouterr().err.strip()
    assert shown.startswith("error: ")
    assert said in shown
    assert "\n" not in shown
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_nothing_is_overwritten(lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert main(["export", f"run={lora}", f"out={out}"]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["mine.txt"]
    (out / "mine.txt").unlink()
    assert main(["export", f"run={lora}", f"out={out}"]) == 0
    assert (out / "model.safetensors").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_export_that_fails_its_own_check_leaves_nothing(
    lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fulgurite.export.model.TOLERANCE", -1.0)
    assert main(["export", f"run={lora}", f"out={tmp_path / 'out'}"]) == 2
    assert "The merged logits differ" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [[], ["out=there"]])
def test_a_run_and_a_place_are_needed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *words]) == 2
    assert "fulgurite export needs a run and a new folder" in capsys.readouterr().err


def test_a_checkpoint_is_chosen_by_name(lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", f"run={lora}", f"out={tmp_path / 'out'}", "checkpoint=step-999"]) == 2
    assert "has no checkpoint step-999; it has " in capsys.readouterr().err
    for word in ("../checkpoints/last", "", "step-"):
        assert main(["export", f"run={lora}", f"out={tmp_path / 'c'}", f"checkpoint={word}"]) == 2
        assert f"checkpoint={word} is not valid; use best, last or step-N." in capsys.readouterr().err
    export(lora, tmp_path / "out", "checkpoint=last")
    assert "Exported step-6 of " in capsys.readouterr().out


def test_export_removes_drafts_of_killed_processes_and_leaves_those_of_others(full: Path, tmp_path: Path) -> None:
    """A killed export's draft goes, even if another process has its id by now; another folder's draft stays."""
    stale, reused, others = (tmp_path / name
        for name in ("out.tmp-4194305", f"out.tmp-{os.getppid()}", "other.tmp-4194305"))
    for folder in (stale, reused, others):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
    export(full, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["out", others.name])


def test_export_into_a_folder_that_another_process_writes_is_refused(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draft = tmp_path / "out.tmp-1"
    draft.mkdir()
    with hold_lock(tmp_path / ".out.lock"):
        assert main(["export", f"run={full}", f"out={tmp_path / 'out'}"]) == 2
    assert "is being written by another process; wait for it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [draft]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "cannot be written: No space left on device; give another folder"),
        (ValueError("GenerationConfig is invalid"),
            "cannot be exported: GenerationConfig is invalid; this is a fault of the export"),
    ],
)
def test_only_a_refusal_of_the_system_blames_the_folder(
    error: Exception, said: str, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fail)
    assert main(["export", f"run={full}", f"out={tmp_path / 'out'}"]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
