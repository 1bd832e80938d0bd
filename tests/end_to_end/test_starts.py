"""Runs that begin from earlier runs and exports: policy, reference and rewards are those that they start from."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, PeftModel
from safetensors.torch import load_file, save_file
from tests.end_to_end.runs import last, losses, rows, tiny
from tests.end_to_end.stopping import stop_at
from tests.stage.preference_data import words_of
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fulgurite.config.compose import compose
from fulgurite.data.example import Message
from fulgurite.errors import CheckpointError, ConfigError, Interrupted, ModelError, RequestError
from fulgurite.export.adapter import load_fresh_base
from fulgurite.export.model import export_main
from fulgurite.model.config import Hf
from fulgurite.model.reward_head import add_reward_head, compute_rewards, get_head
from fulgurite.plan.preflight import build_checked_source
from fulgurite.run.load import load_named, load_run
from fulgurite.serve.chat import chat_main

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing.*:FutureWarning"
)  # peft asks by the old name


@pytest.fixture
def words(tmp_path: Path) -> Callable[[str], list[str]]:
    """The words of a run on pairs, or on judged answers."""
    return lambda stage: words_of(stage, tmp_path)


@pytest.fixture
def sft(tmp_path: Path) -> Path:
    return tiny(tmp_path / "sft", "optim.lr=1e-2", "scheduler=constant", "trainer.max_steps=6")


IDS = torch.arange(3, 63).reshape(2, 30)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return found


@pytest.mark.parametrize("start", ["base", "run", "merged export", "adapter export"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_before_the_first_step_policy_and_reference_are_the_start(
    start: str, method: str, sft: Path, words: Any, tmp_path: Path
) -> None:
    said, path = [*words("dpo"), f"method={method}", "trainer.global_batch_size=8", "optim.lr=1e-12"], sft
    if start != "base":
        if start == "adapter export":  # an adapter must name its base, which the one made on the spot has no name for
            export_main([f"run={sft}", f"out={tmp_path / 'base'}"])
            path = tiny(
                tmp_path / "second",
                "model=hf",
                f"model.path={tmp_path / 'base'}",
                "optim.lr=1e-2",
                "scheduler=constant",
            )
        if start != "run":
            export_main(
                [f"run={path}", f"out={tmp_path / 'out'}", *(["merge=false"] if start == "adapter export" else [])]
            )
        said += ["model=hf", f"model.path={path if start == 'run' else tmp_path / 'out'}"]
    folder = tiny(tmp_path / "dpo", *said)
    assert losses(folder) == pytest.approx([math.log(2)] * 2, abs=1e-6)
    assert last(folder, "train/kl") == pytest.approx(0.0, abs=1e-5)
    trained = logits(load_run(folder, exact=True).model)  # nothing moved: this is the start, and the reference
    base = logits(load_named(compose(["model=tiny"]).run.model, torch.float32).model)
    before = logits(load_run(path, exact=True).model) if start != "base" else base
    torch.testing.assert_close(trained, before, rtol=1e-4, atol=1e-5)
    if start != "base":
        assert (trained - base).abs().max() > 0.1


def test_a_chain_of_runs_talks_and_is_exported(
    sft: Path, words: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tiny(tmp_path / "dpo", *words("dpo"), "model=hf", f"model.path={sft}", "trainer.global_batch_size=8")
    second = tiny(tmp_path / "kto", *words("kto"), "model=hf", f"model.path={first}", "trainer.global_batch_size=16")
    assert Hf(path=str(second)).billions() == Hf(path=str(first)).billions() == Hf(path=str(sft)).billions() == 1e-4
    assert export_main([f"run={second}", f"out={tmp_path / 'out'}"]) == 0
    torch.testing.assert_close(
        logits(load_named(Hf(path=str(second)), torch.float32).model),
        logits(load_named(Hf(path=str(tmp_path / "out")), torch.float32).model),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO("Hello\n"))
        assert chat_main([f"run={second}", "max_new_tokens=4"]) == 0
    assert "> Hello" in capsys.readouterr().out


def test_a_reward_model_begins_from_a_run_and_no_model_that_talks_from_it(
    sft: Path, words: Any, tmp_path: Path
) -> None:
    folder = tiny(tmp_path / "rm", *words("rm"), "model=hf", f"model.path={sft}", "trainer.global_batch_size=8")
    composed = compose([*words("dpo"), "model=hf", f"model.path={folder}"])
    with pytest.raises(
        ConfigError, match="is a reward model or classifier, which cannot generate text; train it further with stage=rm"
    ):
        build_checked_source(composed)
    with pytest.raises(ModelError, match="is a reward model or classifier, which cannot generate text"):
        load_named(Hf(path=str(folder)), torch.float32)
    with pytest.raises(ModelError, match="is a reward model, which scores answers and cannot write any"):
        chat_main([f"run={folder}"])


@torch.no_grad()
def scored(model: Any) -> torch.Tensor:
    return compute_rewards(model.eval(), IDS, torch.tensor([30, 30]))


@pytest.mark.parametrize("start", ["run", "merged export", "adapter export"])
def test_a_reward_model_begins_with_the_rewards_of_the_one_it_starts_from(
    start: str, sft: Path, words: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [*words("rm"), "method=lora", "trainer.global_batch_size=8"]
    if start == "adapter export":  # an adapter must name its base
        export_main([f"run={sft}", f"out={tmp_path / 'base'}"])
    base = ["model=hf", f"model.path={tmp_path / 'base'}"] if start == "adapter export" else []
    first = tiny(tmp_path / "first", *said, *base, "trainer.max_steps=4")
    before, path = load_run(first, exact=True), first
    if start != "run":
        path = tmp_path / "out"
        assert (
            export_main(
                [f"run={first}", f"out={path}", "dtype=float32", f"merge={str(start == 'merged export').lower()}"]
            )
            == 0
        )
    said += ["model=hf", f"model.path={path}"]
    begun = load_named(Hf(path=str(path)), torch.float32, reward=True).model
    torch.testing.assert_close(scored(begun), scored(before.model), rtol=1e-5, atol=1e-5)
    assert float(scored(begun).abs().min()) > 1e-3

    still = tiny(tmp_path / "still", *said, "optim.lr=1e-12", "trainer.max_steps=1")
    torch.testing.assert_close(scored(load_run(still, exact=True).model), scored(before.model), rtol=1e-4, atol=1e-4)
    said += ["trainer.max_steps=4", "trainer.eval_every=2"]
    whole = tiny(tmp_path / "whole", *said)
    moved = get_head(load_run(whole, "last", exact=True).model).weight - get_head(before.model).weight
    assert float(moved.detach().abs().max()) > 1e-3
    stop_at(2, monkeypatch)
    with pytest.raises(Interrupted):
        tiny(tmp_path / "cut", *said)
    assert rows(tiny(tmp_path / "cut", *said)) == rows(whole)
    assert export_main([f"run={whole}", f"out={tmp_path / 'second'}", "dtype=float32"]) == 0
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "second", dtype=torch.float32).eval()
    with torch.no_grad():
        read = torch.cat([theirs(input_ids=row[None]).logits[0] for row in IDS])
    torch.testing.assert_close(read, scored(load_run(whole, exact=True).model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_reward_model_is_exported_as_transformers_reads_it(method: str, words: Any, tmp_path: Path) -> None:
    folder = tiny(tmp_path / "rm", *words("rm"), f"method={method}", "trainer.global_batch_size=8",
        "trainer.max_steps=4")
    assert export_main([f"run={folder}", f"out={tmp_path / 'out'}"]) == 0
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    assert theirs.config.num_labels == 1
    assert AutoTokenizer.from_pretrained(tmp_path / "out").pad_token == "<|pad|>"
    ours = load_run(folder, exact=True)
    ids, learn = ours.template.encode_chat((Message("user", "What?"), Message("assistant", "The rate rises.")), "last")
    ids = torch.tensor([ids[: len(ids) - learn[::-1].index(True)]])
    with torch.no_grad():
        mine, read = compute_rewards(ours.model, ids, torch.tensor([ids.shape[1]])), theirs(input_ids=ids).logits[:, 0]  # type: ignore[attr-defined]
    torch.testing.assert_close(read, mine, rtol=1e-5, atol=1e-6)
    assert float(mine) != 0.0


def test_padding_that_ends_answers_is_replaced_in_a_reward_models_export(
    words: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny(tmp_path / "rm", *words("rm"), "trainer.global_batch_size=8")
    inner = load_run

    def pad_is_end(*args: Any, **more: Any) -> Any:
        loaded = inner(*args, **more)
        loaded.tokenizer.pad_token = loaded.tokenizer.eos_token
        return loaded

    monkeypatch.setattr("fulgurite.export.model.load_run", pad_is_end)
    assert export_main([f"run={folder}", f"out={tmp_path / 'out'}"]) == 0  # which reads back padded batches
    made = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert made.pad_token != made.eos_token


@pytest.mark.parametrize("method", ["lora", "qlora", "oft"])
def test_an_exported_reward_adapter_includes_its_head(method: str, sft: Path, words: Any, tmp_path: Path) -> None:
    export_main([f"run={sft}", f"out={tmp_path / 'base'}"])
    start = [f"method={method}", "model=hf", f"model.path={tmp_path / 'base'}"]
    folder = tiny(tmp_path / "rm", *words("rm"), *start, "trainer.global_batch_size=8", "trainer.max_steps=4",
        "optim.lr=1e-2")
    out = tmp_path / "out"
    assert export_main([f"run={folder}", f"out={out}", "merge=false"]) == 0
    assert not (out / "model.safetensors").exists()
    tokenizer, ours = AutoTokenizer.from_pretrained(out), load_run(folder, exact=True)
    if method == "qlora":  # its 4 bits are the run's own: a stranger quantises for himself
        theirs = PeftModel.from_pretrained(add_reward_head(load_fresh_base(ours)), out)
    else:
        theirs = AutoPeftModelForSequenceClassification.from_pretrained(out, num_labels=1, dtype=torch.float32)
    theirs.config.pad_token_id = tokenizer.pad_token_id
    each = []
    for answer in ("The rate rises.", "It lets the rate rise slowly, for a while, and then it falls."):
        ids, learn = ours.template.encode_chat((Message("user", "What?"), Message("assistant", answer)), "last")
        each.append(torch.tensor(ids[: len(ids) - learn[::-1].index(True)]))
    lengths = torch.tensor([len(t) for t in each])
    ids = torch.nn.utils.rnn.pad_sequence(each, batch_first=True, padding_value=tokenizer.pad_token_id)
    with torch.no_grad():
        mine = compute_rewards(ours.model, ids, lengths)
        read = theirs.eval()(
            input_ids=ids, attention_mask=(torch.arange(ids.shape[1]) < lengths[:, None]).long()  # type: ignore[attr-defined]
        ).logits[:, 0]
    assert float((read - mine).abs().max() / mine.abs().max()) < 1e-5
    assert float(mine.abs().min()) > 1e-3  # a head of zeros, lost on the way, would be equal to nothing
    with pytest.raises(
        ModelError, match="is a reward model or classifier, which cannot generate text; train it further with stage=rm"
    ):
        load_named(Hf(path=str(out)), torch.float32)


def test_a_reward_adapter_on_a_changed_base_is_not_exported_alone(words: Any, tmp_path: Path) -> None:
    folder = tiny(tmp_path / "rm", *words("rm"), "method=full", "trainer.global_batch_size=8")
    assert (
        export_main([f"run={folder}", f"out={tmp_path / 'whole'}", "merge=false"]) == 0
    )  # nothing is merged: it is whole anyway
    pissa = tiny(tmp_path / "pissa", *words("rm"), "method=lora", "method.init=pissa", "trainer.global_batch_size=8")
    refusal = r"merge=false is not possible here: this run started with method\.init=pissa"
    with pytest.raises(RequestError, match=refusal):
        export_main([f"run={pissa}", f"out={tmp_path / 'other'}", "merge=false"])
    assert not (tmp_path / "other").exists()


def test_a_missing_head_is_an_error(words: Any, tmp_path: Path) -> None:
    folder = tiny(tmp_path / "rm", *words("rm"), "trainer.global_batch_size=8")
    place = (folder / "checkpoints" / "last").resolve()
    kept = load_file(place / "weights.safetensors")
    head = next(name for name in kept if name.endswith("score.weight"))
    save_file({name: tensor for name, tensor in kept.items() if name != head}, place / "weights.safetensors")
    with pytest.raises(CheckpointError):
        load_run(folder, "last")
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest  # the damage is seen by the manifest; with a manifest that fits, by the names
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fulgurite.run.load.read_weights", lambda path: {n: t for n, t in kept.items() if n != head})
        with pytest.raises(CheckpointError, match=r"score\.weight is only in one of them"):
            load_run(folder, "last")


def test_an_adapter_that_names_no_base_is_refused_with_the_remedy(sft: Path, tmp_path: Path) -> None:
    export_main([f"run={sft}", f"out={tmp_path / 'out'}", "merge=false"])
    with pytest.raises(
        ModelError, match=r"is an adapter that names no base model; give its run instead, model\.path=<run folder>"
    ):
        load_named(Hf(path=str(tmp_path / "out")), torch.float32)


def test_a_run_whose_start_was_trained_on_is_not_resumed_in_silence(sft: Path, words: Any, tmp_path: Path) -> None:
    said = [*words("dpo"), "model=hf", f"model.path={sft}", "trainer.global_batch_size=8"]
    tiny(tmp_path / "dpo", *said, "trainer.max_steps=2")
    more = ["trainer.max_steps=9", "trainer.save_every=9", "trainer.eval_every=9"]
    tiny(sft, "optim.lr=1e-2", "scheduler=constant", *more, "resume.allow=[trainer,scheduler]")
    with pytest.raises(CheckpointError, match=r"start .* → .*Add resume\.allow="):
        tiny(tmp_path / "dpo", *said, "trainer.max_steps=4", "resume.allow=[trainer,scheduler]")


def test_dpo_on_another_adapter_has_what_it_began_with_as_its_reference(sft: Path, words: Any, tmp_path: Path) -> None:
    assert export_main([f"run={sft}", f"out={tmp_path / 'adapter'}", "merge=false"]) == 0
    more = [*words("dpo"), f"method.adapter_path={tmp_path / 'adapter'}", "trainer.global_batch_size=8"]
    for reuse in ("go_on", "stack"):
        folder = tiny(tmp_path / reuse, *more, f"method.adapter_mode={reuse}")
        assert losses(folder)[0] == pytest.approx(math.log(2), abs=1e-6)
