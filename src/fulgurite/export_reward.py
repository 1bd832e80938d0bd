"""A reward model as transformers' AutoModelForSequenceClassification reads it, one number an answer, and proven so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from fulgurite.data.records import Message
from fulgurite.errors import ModelError
from fulgurite.export_adapter import fresh_base, put_on, refuse_apart, write_adapter
from fulgurite.model.reward_head import HEAD, head_of, rewards, with_reward_head
from fulgurite.run import RunConfig
from fulgurite.start import LoadedRun

TOLERANCE = 1e-5
"""The largest difference of rewards, relative to the largest, that merging and other padding may make in float32."""
TALKS = (
    (Message("user", "What does warmup do?"), Message("assistant", "It lets the rate rise.")),
    (Message("user", "Why?"), Message("assistant", "Because Adam's moments are empty at first, and early steps would be wild.")),
)


def write_reward(loaded: LoadedRun, out: Path, merge: bool) -> float:
    """Write the folder, read it back and compare; returns the largest relative difference of rewards.

    An adapter that is kept apart takes its head along. Raises ModelError where the difference is above 1e-5, RequestError where the
    adapter cannot stand apart.
    """
    model: Any = loaded.model
    adapter = hasattr(model, "merge_and_unload")
    before = scores(model, loaded)
    pad = padding(loaded.tokenizer, loaded.template.stop_ids)
    loaded.tokenizer.pad_token = loaded.tokenizer.convert_ids_to_tokens(pad)
    if adapter and not merge:
        refuse_apart(loaded.run)
        write_apart(model, loaded.run, out)
    else:
        model = model.merge_and_unload(safe_merge=True) if adapter else model
        model.config.pad_token_id = pad
        model.save_pretrained(out)
    loaded.tokenizer.save_pretrained(out)
    return verify(loaded, out, before, adapter and not merge)


def write_apart(model: Any, run: RunConfig, out: Path) -> None:
    """The adapter with its head, in the form that peft gives a classifier of its own: `modules_to_save`.

    peft saves that head only where it wrapped it before training; ours is part of the model that the adapter was put on.
    """
    kept = model.peft_config["default"]
    kept.task_type, kept.modules_to_save = "SEQ_CLS", [*(kept.modules_to_save or []), HEAD]
    write_adapter(model, run, out)
    file = out / "adapter_model.safetensors"
    head = head_of(model).weight.detach().clone()
    save_file({**load_file(file), f"base_model.model.{HEAD}.weight": head}, file, metadata={"format": "pt"})


def padding(tokenizer: PreTrainedTokenizerBase, stop_ids: list[int]) -> int:
    """A padding token that ends no answer. transformers reads the reward before the first padding token it finds at the end, and
    where that is the end of turn as well, it reads the wrong one. Raises ModelError where there is none."""
    special = [i for i in (tokenizer.pad_token_id, tokenizer.unk_token_id, *tokenizer.all_special_ids) if i is not None]
    free = next((int(i) for i in special if i not in stop_ids), None)
    if free is None:
        raise ModelError("The tokenizer has no special token but the end of turn: transformers would take an answer's end for padding.")
    return free


def tokens(loaded: LoadedRun) -> list[Tensor]:
    """Each talk as training saw it: up to the end of the answer."""
    found = []
    for talk in TALKS:
        ids, learn = loaded.template.encode_chat(talk, "last")
        found.append(torch.tensor(ids[: max(i for i, on in enumerate(learn) if on) + 1]))
    return found


@torch.no_grad()
def scores(model: Any, loaded: LoadedRun) -> Tensor:
    """Our rewards of the talks."""
    each = tokens(loaded)
    ids = torch.nn.utils.rnn.pad_sequence(each, batch_first=True)
    return rewards(model.eval(), ids, torch.tensor([len(t) for t in each]))


@torch.no_grad()
def verify(loaded: LoadedRun, out: Path, before: Tensor, adapter: bool) -> float:
    """Read the folder as a stranger would: padded batches through the model's own forward."""
    tokenizer = AutoTokenizer.from_pretrained(out)
    again: Any
    if adapter:
        base = with_reward_head(fresh_base(loaded))  # under a head of zeros: one that was left out would be seen
        base.config.pad_token_id = tokenizer.pad_token_id  # which an adapter's folder has no place for but its tokenizer
        again = put_on(base, out)
    else:
        again, info = AutoModelForSequenceClassification.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
        if info["missing_keys"]:
            raise ModelError(f"{out} lacks {sorted(info['missing_keys'])[0]}, which would be random; this is a fault of the export.")
    each = tokens(loaded)
    ids = torch.nn.utils.rnn.pad_sequence(each, batch_first=True, padding_value=tokenizer.pad_token_id)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(t) for t in each], batch_first=True)
    after = again.eval()(input_ids=ids, attention_mask=mask).logits[:, 0].float()
    difference = float((after - before).abs().max() / before.abs().max().clamp(min=1e-3))
    if difference > TOLERANCE:
        raise ModelError(f"The exported rewards differ by {difference:.1e}, more than {TOLERANCE:.0e}; this is a fault of the export.")
    return difference
