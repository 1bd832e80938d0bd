"""Generates answers with transformers' generate. Training is not affected: modes and random state are restored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.utils import logging as hf_logging

from fulgurite.model.tokenizer_check import get_padding, refuse_unknown


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer. `tokens` counts its tokens with the stop token; `stopped` is false if the limit cut it
    off. `raw` is the text with its special tokens, up to the stop token: some templates write calls with them."""

    text: str
    tokens: int
    stopped: bool
    raw: str = ""
    calls: tuple[Mapping[str, Any], ...] = ()
    """The calls in it, if functions may be called and somebody has read them out of `raw`."""


def generate(
    model: Any, tokenizer: Any, template: Any, messages: Sequence[Any], *, max_new_tokens: int,
    temperature: float = 0.0, top_p: float = 1.0, streamer: Any = None, seed: int | None = None,
    context: AbstractContextManager[Any] | None = None, length: int | None = None,
) -> Answer:
    """Generates the answer to one conversation, formatted by `template`. Greedy if `temperature` is 0.

    If `seed` is None, each call draws a different answer. `context` is the precision's autocast. `streamer` is
    transformers'. `length` is the longest input of the model, which prompt and answer together do not exceed.
    """
    return continue_prompts(
        model, tokenizer, [template.encode_prompt(messages)], template.stop_ids, max_new_tokens=max_new_tokens,
        temperature=temperature, top_p=top_p, streamer=streamer, seed=seed, context=context, length=length,
    )[0]


def continue_prompts(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], stop_ids: Sequence[int], *, max_new_tokens: int,
    temperature: float = 0.0, top_p: float = 1.0, streamer: Any = None, seed: int | None = None,
    context: AbstractContextManager[Any] | None = None, length: int | None = None,
    together: bool = False,
) -> list[Answer]:
    """Continues each prompt of token ids, in one batch that is padded on the left.

    If the longest prompt and `max_new_tokens` exceed `length`, each prompt is continued separately, up to `length`;
    a prompt that is as long as that has an empty answer. `together`: several processes generate with one model, so that
    each goes on until all are done. Raises ModelError for a token that the model's embedding has no row for.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    refuse_unknown(tokenizer, rows, (i for ids in prompts for i in ids))
    room = max_new_tokens if length is None else min(max_new_tokens, length - max(len(ids) for ids in prompts))
    # One long prompt would shorten the answers of all: each alone has its own room.
    if room < max_new_tokens and len(prompts) > 1:
        each = [(model, tokenizer, [ids], stop_ids) for ids in prompts]
        how: dict[str, Any] = {
            "temperature": temperature,
            "top_p": top_p,
            "streamer": streamer,
            "seed": seed,
            "length": length,
            "together": together,
        }
        with context or nullcontext():
            return [continue_prompts(*one, max_new_tokens=max_new_tokens, **how)[0] for one in each]
    if room < 1:
        return [Answer("", 0, False)]
    max_new_tokens = room
    device = next(model.parameters()).device
    pad = get_padding(tokenizer, rows)
    longest = max(len(ids) for ids in prompts)
    ids_BT = torch.tensor([[pad] * (longest - len(ids)) + list(ids) for ids in prompts], device=device)
    mask_BT = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
    config = build_sampling_config(list(stop_ids), pad, max_new_tokens, temperature, top_p)
    with keep_state(model, seed if temperature > 0 else 0), context or nullcontext(), silence():
        out_BT = model.generate(
            input_ids=ids_BT, attention_mask=mask_BT, generation_config=config, streamer=streamer, use_cache=True,
            **({"synced_gpus": True} if together else {}),
        )
    return [_answer(tokenizer, row, set(stop_ids)) for row in out_BT[:, longest:].tolist()]


def build_sampling_config(
    stop_ids: list[int], pad: int, max_new_tokens: int, temperature: float, top_p: float
) -> GenerationConfig:
    """Builds a generation config that sets every field that a model's own config could fill."""
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    return GenerationConfig(
        max_new_tokens=max_new_tokens, eos_token_id=stop_ids or None, pad_token_id=pad, num_beams=1,
        repetition_penalty=1.0, no_repeat_ngram_size=0, **(sampling if temperature > 0 else {"do_sample": False}),
    )


def _answer(tokenizer: Any, ids: list[int], stop_ids: set[int]) -> Answer:
    # What follows the stop token is padding of the batch.
    end = next((i for i, token in enumerate(ids) if token in stop_ids), None)
    text = tokenizer.decode(ids[:end], skip_special_tokens=True)
    raw = tokenizer.decode(ids[:end], skip_special_tokens=False)
    return Answer(text, len(ids) if end is None else end + 1, end is not None, raw)


@contextlib.contextmanager
def keep_state(model: Any, seed: int | None) -> Iterator[None]:
    """Sets evaluation mode, no gradients and a separate random state; restores modes and state after the block.

    The model's own generation config is replaced: transformers would fill ours from it, and a bias, a penalty or a
    decoding method that was published with a model would make the answers those of another policy.

    Does not use inference mode: a later backward pass could not use a buffer that a model caches in it.
    """
    modes = [(module, module.training) for module in model.modules()]
    # fork_rng without a list would fork the state of every visible GPU, which opens a context on each.
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    owners = [(module, module.generation_config) for module in model.modules() if "generation_config" in vars(module)]
    for module, _ in owners:
        module.generation_config = GenerationConfig()
    model.eval()
    try:
        with torch.random.fork_rng(devices=sorted(devices)), torch.inference_mode(False), torch.no_grad():
            if seed is None:
                torch.seed()
            else:
                torch.manual_seed(seed)
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, config in owners:
            module.generation_config = config


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Hides transformers' warnings about fields of the model's generation_config that ours overrides."""
    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(before)
