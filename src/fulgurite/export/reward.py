"""Writes a reward model as transformers' AutoModelForSequenceClassification reads it, and compares the rewards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fulgurite.data.example import Message
from fulgurite.errors import ModelError, RequestError
from fulgurite.export.adapter import load_fresh_base, put_on, refuse_apart, round_adapter, write_adapter
from fulgurite.export.dtype import cast
from fulgurite.export.result import Written
from fulgurite.language.message import UserMessage, message
from fulgurite.model.classifier import HEAD, TASK
from fulgurite.model.config import Model
from fulgurite.model.padding import NEW_PADDING, free_padding
from fulgurite.model.peft_internals import ADAPTER, PREFIX
from fulgurite.model.reward_head import add_reward_head, compute_rewards, get_head
from fulgurite.model.unwrap import unwrap_model
from fulgurite.run.load import LoadedRun

TOLERANCE = 1e-5
"""The largest difference of rewards, relative to the largest, that merging and other padding may make in float32."""
TALKS = (
    (Message("user", "What does warmup do?"), Message("assistant", "It lets the rate rise.")),
    (
        Message("user", "Why?"),
        Message("assistant", "Because Adam's moments are empty at first, and early steps would be wild."),
    ),
)


def write_reward(loaded: LoadedRun, out: Path, merge: bool, dtype: torch.dtype) -> Written:
    """Writes the folder, reads it back and compares the rewards.

    An adapter that is not merged includes its head. Raises ModelError if the difference is above 1e-5, RequestError if
    the adapter needs the merged base.
    """
    model: Any = loaded.model
    apart = hasattr(model, "merge_and_unload") and not merge
    if apart:
        refuse_apart(loaded.run.method, loaded.run.model)
    before = scores(model, loaded)
    notes = set_padding(loaded, apart)
    exact = before
    if apart:
        write_apart(model, loaded.run.model, out)
        round_adapter(model, out, dtype)
        get_head(model).weight.data = get_head(model).weight.data.to(dtype).float()
    else:
        model = model.merge_and_unload(safe_merge=True) if hasattr(model, "merge_and_unload") else model
        exact = scores(model, loaded)
        compare(exact, before, "merged")
        model.config.pad_token_id = loaded.tokenizer.pad_token_id
        cast(model, dtype)
        model.save_pretrained(out)
        cast(model, torch.float32)
    rounded = scores(model, loaded)
    loaded.tokenizer.save_pretrained(out)
    difference = max(relative(exact, before), verify(loaded, out, rounded, apart))
    return Written(difference, dtype, relative(rounded, exact), notes)


def set_padding(loaded: LoadedRun, apart: bool) -> list[UserMessage]:
    """Gives the tokenizer a padding token that ends no answer; returns a sentence if one had to be added.

    Raises RequestError if a base that stays apart has no room for a new one.
    """
    tokenizer, model = loaded.tokenizer, unwrap_model(loaded.model)
    found = free_padding(tokenizer, loaded.template.stop_ids)
    if found is not None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(found)
        return []
    rows = model.get_input_embeddings().weight.shape[0]
    if apart and len(tokenizer) >= rows:
        raise RequestError(
            "merge=false is not possible here: the tokenizer has no padding token but the end of turn, and the base "
            "has no row for another; export with merge=true, which adds one."
        )
    name = next(name for name in NEW_PADDING if name not in tokenizer.get_vocab())
    tokenizer.add_special_tokens({"pad_token": name})
    if tokenizer.pad_token_id >= rows:
        model.resize_token_embeddings(tokenizer.pad_token_id + 1, mean_resizing=False)
        with torch.no_grad():
            model.get_input_embeddings().weight[rows:] = 0  # never read: padding is masked
    return [message(
        "Added the padding token {token}: it must not be the end of turn, because a reward is read before the first "
        "padding.",
        token=name,
    )]


def write_apart(model: Any, base: Model, out: Path) -> None:
    """The adapter with its head, in the form that peft gives a classifier of its own: `modules_to_save`.

    peft saves that head only if it wrapped it before training; ours is part of the base model.
    """
    kept = model.peft_config[ADAPTER]
    kept.task_type, kept.modules_to_save = TASK, [*(kept.modules_to_save or []), HEAD]
    write_adapter(model, base, out)
    file = out / "adapter_model.safetensors"
    head = get_head(model).weight.detach().clone()
    save_file({**load_file(file), f"{PREFIX}{HEAD}.weight": head}, file, metadata={"format": "pt"})


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
    return compute_rewards(model.eval(), ids, torch.tensor([len(t) for t in each]))


@torch.no_grad()
def verify(loaded: LoadedRun, out: Path, before: Tensor, adapter: bool) -> float:
    """Read the folder as a stranger would: padded batches through the model's own forward."""
    tokenizer = AutoTokenizer.from_pretrained(out, trust_remote_code=False)
    again: Any
    if adapter:
        base = add_reward_head(load_fresh_base(loaded))
        torch.nn.init.zeros_(get_head(base).weight)  # one that was left out would be seen
        # which an adapter's folder has no place for but its tokenizer
        base.config.pad_token_id = tokenizer.pad_token_id
        again = put_on(base, out)
    else:
        again, info = AutoModelForSequenceClassification.from_pretrained(
            out, dtype=torch.float32, output_loading_info=True, use_safetensors=True, trust_remote_code=False,
        )
        if info["missing_keys"]:
            raise ModelError(
                "{path} lacks {name}, which would be random; this is a fault of the export, please report it.",
                path=out, name=sorted(info["missing_keys"])[0],
            )
    each = tokens(loaded)
    ids = torch.nn.utils.rnn.pad_sequence(each, batch_first=True, padding_value=tokenizer.pad_token_id)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(t) for t in each], batch_first=True)
    after = again.eval()(input_ids=ids, attention_mask=mask).logits[:, 0].float()
    return compare(after, before, "exported")


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest reward expected."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-3))


def compare(found: Tensor, expected: Tensor, what: str) -> float:
    """The relative difference. Raises ModelError if it is too large, or no number."""
    difference = relative(found, expected)
    if not difference <= TOLERANCE:
        raise ModelError(
            "The {what} rewards differ by {difference:.1e}, more than {most:.0e}; this is a fault of the export, "
            "please report it.",
            what=what, difference=difference, most=TOLERANCE,
        )
    return difference
