"""`fulgurite export`: a run's weights as a folder that plain transformers loads and that stops at its end-of-turn token.

Nothing is said to be done before the folder has been read back and gives the same logits.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from fulgurite.data.records import Message
from fulgurite.errors import DataError, ModelError, RequestError
from fulgurite.export_adapter import fresh_base, put_on, refuse_apart, write_adapter
from fulgurite.export_config import Export
from fulgurite.export_reward import write_reward
from fulgurite.model.inner import inner
from fulgurite.say import show
from fulgurite.start import LoadedRun, load_run
from fulgurite.words import parse

TOLERANCE = 1e-5
"""The largest difference of logits, relative to the largest logit, that merging may make in float32.

An absolute 1e-5 is beyond float32: on the bundled model, with logits up to 35, merged and adapter differ by 7e-5 (2e-6
relative), and the merged model alone differs by 9e-5 from itself computed in float64.
"""

CONVERSATIONS = (
    [Message("user", "What does warmup do?")],
    [Message("system", "Answer briefly."), Message("user", "Name a colour."), Message("assistant", "Blue."), Message("user", "Another?")],
)


def export_main(words: Sequence[str]) -> int:
    """`fulgurite export run=RUN out=FOLDER [merge=...] [checkpoint=...]`; returns 0 when the folder is proven."""
    config = parse(Export, words, "export")
    out = Path(config.out).expanduser().absolute()
    if not config.run or not config.out:
        raise RequestError("export needs a run and a place: fulgurite export run=<run folder> out=<new folder>.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"out={out} is there already and is not empty; give a new folder, nothing is overwritten.")
    loaded = load_run(Path(config.run), config.checkpoint, exact=True)
    beside = out.with_name(f"{out.name}.tmp-{os.getpid()}")
    try:
        difference = write(loaded, beside, merge=config.merge)
        if out.is_dir():
            out.rmdir()
        beside.rename(out)
    except (OSError, SafetensorError, ValueError) as error:
        said = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise RequestError(f"out={out} cannot be written: {said}; give another folder.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    name = loaded.checkpoint.resolve().name
    what = "rewards" if loaded.run.stage.name == "rm" else "logits"
    show(f"Exported {name} of {config.run} to {out}: read back, {what} differ by {difference:.1e} of the largest at most.")
    return 0


def write(loaded: LoadedRun, out: Path, merge: bool) -> float:
    """Write the folder, read it back and compare; returns the largest relative difference of logits.

    Raises ModelError where the difference is above 1e-5, or the folder speaks another template or does not know its stops.
    """
    if loaded.run.stage.name == "rm":
        return write_reward(loaded, out, merge)
    before = logits(loaded.model, loaded.tokenizer)
    model: Any = loaded.model
    adapter = hasattr(model, "merge_and_unload")
    if adapter and merge:
        model = model.merge_and_unload()
        adapter = False
    elif adapter:
        refuse_apart(loaded.run)
    generation = inner(model).generation_config
    generation.eos_token_id = list(dict.fromkeys([*loaded.template.stop_ids, *listed(generation.eos_token_id)]))
    generation.pad_token_id = loaded.tokenizer.pad_token_id
    model.config.use_cache = True
    if adapter:
        write_adapter(model, loaded.run, out)
    else:
        model.save_pretrained(out)
    generation.save_pretrained(out)
    loaded.tokenizer.save_pretrained(out)
    model.config.use_cache = False
    return verify(loaded, out, before, adapter)


def listed(ids: int | list[int] | None) -> list[int]:
    """transformers' one, several or no token ids as a list."""
    return [] if ids is None else ids if isinstance(ids, list) else [ids]


def verify(loaded: LoadedRun, out: Path, before: Tensor, adapter: bool) -> float:
    """Read the folder as a stranger would, and hold its logits, template and stops against ours."""
    tokenizer = AutoTokenizer.from_pretrained(out)
    if adapter:
        again: Any = put_on(fresh_base(loaded), out)
    else:
        again = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
        if set(loaded.template.stop_ids) - set(listed(again.generation_config.eos_token_id)):
            raise ModelError(f"{out} does not stop at {loaded.template.stop_ids}; this is a fault of the export, please report it.")
    after = logits(again.eval(), tokenizer)
    difference = float((after - before).abs().max() / before.abs().max())
    if difference > TOLERANCE:
        raise ModelError(f"The exported logits differ by {difference:.1e}, more than {TOLERANCE:.0e}; export with merge=false.")
    for messages in CONVERSATIONS:
        try:
            ours = loaded.template.encode_prompt(messages)
        except DataError:  # some templates take no system message, in training as here
            continue
        turns, _ = loaded.template.dialect.turns(messages)
        theirs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, **loaded.template.arguments)
        if list(theirs["input_ids"]) != ours:
            raise ModelError(f"{out} writes conversations otherwise than in training; give data.template in the run, and train again.")
    return difference


@torch.no_grad()
def logits(model: Any, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The logits [T, V] of a fixed sentence, in float32."""
    ids = tokenizer("The learning rate is the size of each step.", return_tensors="pt")["input_ids"]
    found: Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
    return found
