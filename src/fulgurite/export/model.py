"""`fulgurite export`: writes a run's weights as a folder that plain transformers loads, and that stops at its
end-of-turn token.

An export succeeds only if the folder, read back, gives the same logits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from fulgurite.config.export_arguments import Export, ExportFormat, GgufType, Quantization, read
from fulgurite.config.registry import import_plugins
from fulgurite.data.template_agreement import describe_difference
from fulgurite.errors import ModelError
from fulgurite.export import gguf, modelfile, quantized
from fulgurite.export.adapter import load_fresh_base, put_on, refuse_apart, round_adapter, write_adapter
from fulgurite.export.card import write_card
from fulgurite.export.dtype import cast, choose_written_dtype
from fulgurite.export.folder import write_new_folder
from fulgurite.export.push import push_folder, read_token
from fulgurite.export.result import Written
from fulgurite.language.message import UserMessage, message
from fulgurite.model.generation_config import select_valid
from fulgurite.model.quiet import silence
from fulgurite.model.unwrap import unwrap_model
from fulgurite.run.load import LoadedRun, load_run
from fulgurite.text.console import show

TOLERANCE = 1e-5
"""The largest difference of logits, relative to the largest logit, that merging or writing may make.

An absolute 1e-5 is beyond float32: on the bundled model, with logits up to 35, merged and adapter differ by 7e-5
(2e-6 relative), and the merged model alone differs by 9e-5 from itself computed in float64. Two things are held
against it, both computed in float32: the merged model against the model with its adapter, before anything is
rounded; then the folder that was read back against the model whose weights were rounded to the dtype of the folder.
Between the two is the rounding itself, whose size depends on the model (about 1e-2 in bfloat16): it is measured
and printed.
"""
COARSE = 0.1
"""A change of logits by rounding from which on another dtype is recommended."""


def export_main(words: Sequence[str]) -> int:
    """Runs `fulgurite export run=RUN out=FOLDER [merge=...] [checkpoint=...] [dtype=...]`; returns 0 after comparing.

    `plugins=[...]`, `model.trust_remote_code=true` and `model.revision=...` allow the code that the run's config
    names.
    """
    allowed, config, out = read(words)
    import_plugins(allowed.plugins)
    if config.push is not None and not config.dry_run:
        read_token(config.push)  # a missing token is found before anything is computed
    loaded = load_run(Path(config.run).expanduser(), config.checkpoint, exact=True, allowed=allowed)
    with write_new_folder(out, config.run) as draft:
        written = write(loaded, draft, config)
        write_card(loaded, config, draft)
    show("\n".join(map(str, describe_export(loaded, config, out, written))))
    if config.track:
        from fulgurite.logger.wandb_export import track_export  # loads wandb

        show(str(track_export(Path(config.run).expanduser(), out)))
    if config.push is not None:
        show("\n".join(map(str, push_folder(out, config))))
    return 0


def describe_export(loaded: LoadedRun, config: Export, out: Path, written: Written) -> list[UserMessage]:
    """Returns the lines about the exported folder, and about what was found when it was read back."""
    what = message("rewards") if loaded.run.stage.gives_rewards else message("logits")
    kind = str(written.dtype).removeprefix("torch.")
    lines = [message(
        "Exported {checkpoint} of {run} to {path} in {dtype}. Read back, the {what} differ by at most "
        "{difference:.1e} of the largest.",
        checkpoint=loaded.checkpoint.resolve().name, run=config.run, path=out, dtype=kind, what=what,
        difference=written.difference,
    )]
    exact = "gguf_type=F32" if config.format is ExportFormat.gguf else "dtype=float32"
    if config.quantize is not None:
        lines.append(message(
            "Quantising to {kind} changed the {what} by {difference:.1e} of the largest.",
            kind=kind, what=what, difference=written.rounding,
        ))
        if written.rounding > COARSE:
            lines.append(message("warning: {kind} is too coarse for this model; leave out quantize.", kind=kind))
        return [*lines, *written.notes]
    if written.rounding:
        lines.append(message(
            "Rounding to {dtype} changed the {what} by {difference:.1e} of the largest; {exact} keeps every bit.",
            dtype=kind, what=what, difference=written.rounding, exact=exact,
        ))
    if written.rounding > COARSE:
        lines.append(message(
            "warning: {dtype} is too coarse for this model; export with {exact}.", dtype=kind, exact=exact
        ))
    return [*lines, *written.notes]


def write(loaded: LoadedRun, out: Path, config: Export) -> Written:
    """Write the folder, read it back and compare.

    Raises ModelError if a difference is above 1e-5, or if the folder has another chat template or does not know its
    stops.
    """
    if config.format is ExportFormat.gguf:
        return write_gguf_folder(loaded, out, config)
    if config.modelfile:
        (out / modelfile.NAME).write_text(modelfile.write_modelfile(loaded.template, "."), encoding="utf-8")
    if config.quantize is not None:
        return write_quantized_folder(loaded, out, config.quantize)
    dtype = choose_written_dtype(config.dtype, loaded.run.model)
    if loaded.run.stage.gives_rewards:
        from fulgurite.export.reward import write_reward

        return write_reward(loaded, out, config.merge, dtype)
    before = logits(loaded.model, loaded.tokenizer)
    notes = write_generation_settings(loaded)
    adapter = hasattr(loaded.model, "merge_and_unload")
    if adapter and not config.merge:
        refuse_apart(loaded.run.method, loaded.run.model)
        write_adapter(loaded.model, loaded.run.model, out)
        round_adapter(loaded.model, out, dtype)
        exact, rounded = before, logits(loaded.model, loaded.tokenizer)
        unwrap_model(loaded.model).generation_config.save_pretrained(out)
    else:
        exact, rounded = write_whole(loaded, out, dtype, before)
    loaded.tokenizer.save_pretrained(out)
    difference = max(relative(exact, before), verify(loaded, out, rounded, adapter and not config.merge))
    return Written(difference, dtype, relative(rounded, exact), notes)


def write_generation_settings(loaded: LoadedRun) -> list[UserMessage]:
    """Sets the model's stops and padding for generation; returns a sentence if the base's own config was invalid."""
    base: Any = unwrap_model(loaded.model)
    generation, dropped = select_valid(base.generation_config)
    stops = list(dict.fromkeys([*loaded.template.stop_ids, *listed(generation.eos_token_id)]))
    generation.eos_token_id, generation.pad_token_id = stops, loaded.tokenizer.pad_token_id
    base.generation_config = generation
    return [left_out(dropped)] if dropped else []


def left_out(dropped: dict[str, Any]) -> UserMessage:
    """Returns a sentence about the values of the base's generation config that are not exported."""
    fields = ", ".join(f"{name}={value}" for name, value in dropped.items())
    return message("Left out of generation_config.json, because transformers refuses them: {fields}.", fields=fields)


def write_gguf_folder(loaded: LoadedRun, out: Path, config: Export) -> Written:
    """Writes the model as one GGUF file, reads it back with transformers and compares.

    Raises ModelError as `write` does, and for a model, tokenizer or template that cannot be written.
    """
    if loaded.run.stage.gives_rewards:
        raise ModelError("format=gguf is for models that write text, and this one gives rewards; leave it out.")
    before = logits(loaded.model, loaded.tokenizer)
    model, exact = merge_adapter(loaded, before)
    if config.modelfile:
        text = modelfile.write_modelfile(loaded.template, f"./{gguf.NAME}")
        (out / modelfile.NAME).write_text(text, encoding="utf-8")
    kind = config.gguf_type or GgufType.F16
    stop = loaded.template.stop_ids[0]
    gguf.write_gguf(model, loaded.tokenizer, out / gguf.NAME, kind, stop, Path(config.run).name)
    # The weights of `model` are now those of the file, so only a fault of the file can make a difference.
    rounded = logits(model, loaded.tokenizer)
    again = gguf.read_logits(out / gguf.NAME, lambda read: logits(read, loaded.tokenizer))
    difference = max(relative(exact, before), compare(again, rounded, "exported"))
    return Written(difference, str(kind), relative(rounded, exact))


def write_quantized_folder(loaded: LoadedRun, out: Path, kind: Quantization) -> Written:
    """Writes the merged model quantised, reads it back and compares. Raises ModelError as `write` does."""
    if loaded.run.stage.gives_rewards:
        raise ModelError("quantize is for models that write text, and this one gives rewards; leave it out.")
    before, notes = logits(loaded.model, loaded.tokenizer), write_generation_settings(loaded)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".whole-") as whole:
        exact, _ = write_whole(loaded, Path(whole), torch.float32, before)
        model = quantized.quantize_folder(Path(whole), out, kind, is_code_allowed(loaded))
    loaded.tokenizer.save_pretrained(out)
    with silence():  # bitsandbytes warns of casts at every layer
        rounded = logits(model, loaded.tokenizer)
        difference = max(relative(exact, before), verify(loaded, out, rounded, adapter=False))
    return Written(difference, str(kind), relative(rounded, exact), notes)


def merge_adapter(loaded: LoadedRun, before: Tensor) -> tuple[Any, Tensor]:
    """Returns the model with its adapter merged, and its logits. Raises ModelError if they are not those `before`."""
    if not hasattr(loaded.model, "merge_and_unload"):
        return loaded.model, before
    model = loaded.model.merge_and_unload()
    exact = logits(model, loaded.tokenizer)
    compare(exact, before, "merged")
    return model, exact


def write_whole(loaded: LoadedRun, out: Path, dtype: torch.dtype, before: Tensor) -> tuple[Tensor, Tensor]:
    """Write the model with its adapter merged; returns its logits with exact and with rounded weights, both computed
    in float32."""
    model, exact = merge_adapter(loaded, before)
    model.config.use_cache = True
    cast(model, dtype)
    model.save_pretrained(out)
    cast(model, torch.float32)
    model.config.use_cache = False
    return exact, logits(model, loaded.tokenizer)


def listed(ids: int | list[int] | None) -> list[int]:
    """transformers' one, several or no token ids as a list."""
    return [] if ids is None else ids if isinstance(ids, list) else [ids]


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest number expected."""
    return float((found - expected).abs().max() / expected.abs().max())


def compare(found: Tensor, expected: Tensor, what: str) -> float:
    """Returns the relative difference. Raises ModelError if it is too large, or NaN."""
    difference = relative(found, expected)
    if not difference <= TOLERANCE:
        if what == "merged":
            raise ModelError(
                "The merged logits differ by {difference:.1e}, more than {most:.0e}; export with merge=false.",
                difference=difference, most=TOLERANCE,
            )
        raise ModelError(
            "The exported logits differ by {difference:.1e}, more than {most:.0e}; this is a fault of the export, "
            "please report it.",
            difference=difference, most=TOLERANCE,
        )
    return difference


def is_code_allowed(loaded: LoadedRun) -> bool:
    """Returns whether the run allows the code of its base model."""
    return bool(getattr(loaded.run.model, "trust_remote_code", False))


def verify(loaded: LoadedRun, out: Path, expected: Tensor, adapter: bool) -> float:
    """Read the folder as a stranger would, and compare its logits, template and stops with ours."""
    code = is_code_allowed(loaded)
    tokenizer = AutoTokenizer.from_pretrained(out, trust_remote_code=code)
    if adapter:
        again: Any = put_on(load_fresh_base(loaded), out)
    else:
        again = AutoModelForCausalLM.from_pretrained(
            out, dtype=torch.float32, use_safetensors=True, trust_remote_code=code
        )
        if set(loaded.template.stop_ids) - set(listed(again.generation_config.eos_token_id)):
            raise ModelError(
                "{path} does not stop at the tokens {ids}; this is a fault of the export, please report it.",
                path=out, ids=loaded.template.stop_ids,
            )
    difference = compare(logits(again.eval(), tokenizer), expected, "exported")
    if (sentence := describe_difference(loaded.template, tokenizer)) is not None:
        raise ModelError("{path} {sentence}", path=out, sentence=sentence)
    return difference


@torch.no_grad()
def logits(model: Any, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The logits [T, V] of a fixed sentence, in float32."""
    ids = tokenizer("The learning rate is the size of each step.", return_tensors="pt")["input_ids"]
    found: Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
    return found
