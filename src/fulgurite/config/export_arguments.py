"""The parameters of `fulgurite export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from fulgurite.config.arguments import parse
from fulgurite.config.choices import HUB_ID
from fulgurite.config.described import DescribedEnum
from fulgurite.config.guard import Allowed, split_allowed
from fulgurite.config.paths import check_run_folder
from fulgurite.config.schema import Empty, knob
from fulgurite.errors import RequestError


class ExportDtype(StrEnum):
    """The type of the numbers in an exported folder."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class ExportFormat(StrEnum):
    """The form of an export."""

    safetensors = "safetensors"
    gguf = "gguf"


class GgufType(StrEnum):
    """The type of the matrices in a GGUF file, by llama.cpp's names."""

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    Q8_0 = "Q8_0"


class Quantization(DescribedEnum):
    """The form in which bitsandbytes stores the matrices of an exported folder."""

    nf4 = "nf4", "Four bits a weight, as in QLoRA, with quantised scales."
    int8 = "int8", "Eight bits a weight; columns with outliers are computed in 16 bits (LLM.int8)."


@dataclass(slots=True)
class Export:
    """The run and its checkpoint, the new folder, the dtype, and whether the adapter is merged into the model."""

    room: ClassVar[str] = "export"

    run: str = knob("", "The run folder.", source="Ours", advice="`fulgurite runs` lists them.")
    out: str = knob("", "The folder to write.", source="Ours", advice="A new one: nothing is overwritten.")
    checkpoint: str = knob(
        "best", "The checkpoint: best, last, or step-N.", source="Ours",
        advice="best is the one with the lowest validation loss.",
    )
    merge: bool = knob(
        True, "Merge an adapter into the model, so that plain transformers loads the folder.",
        source="peft docs, merge_and_unload",
        advice="false writes the adapter alone: a small folder, which can be combined with others or removed.",
    )
    dtype: ExportDtype | None = knob(
        None, "The type of the exported weights, each rounded once, after merging in float32.",
        source="transformers docs, dtype of from_pretrained; keeping the base's: ours",
        advice="float32 to continue training from the folder without rounding; float16 only if a server needs it.",
        empty=Empty("the base model's own"), memory="float32 is twice as large.",
    )
    format: ExportFormat = knob(
        ExportFormat.safetensors, "The form: a folder for transformers, or one file for llama.cpp and Ollama.",
        source="huggingface.co/docs/safetensors; the GGUF specification of ggml",
        advice="gguf to run the model with llama.cpp, Ollama or LM Studio: Llama, Mistral, Qwen2 and Qwen3 models.",
    )
    gguf_type: GgufType | None = knob(
        None, "The type of the matrices in a GGUF file; vectors are float32.",
        source="llama.cpp docs, tools/quantize",
        advice="Q8_0 is half as large; the export prints how far its logits move.",
        empty=Empty("F16"), memory="F32 has 4 bytes a weight, F16 and BF16 2, Q8_0 1.06.",
    )
    quantize: Quantization | None = knob(
        None, "Store the matrices with bitsandbytes in four or eight bits; transformers loads the folder as it is.",
        source="QLoRA, https://arxiv.org/abs/2305.14314; LLM.int8, https://arxiv.org/abs/2208.07339",
        advice="Quantise for a server with little memory, not to train further; the export prints how far logits move.",
        empty=Empty("not quantised"), memory="nf4 has about 0.5 bytes a weight, int8 1; embeddings stay as they are.",
    )
    modelfile: bool = knob(
        False, "Write Ollama's Modelfile beside the model: the chat template in Go's template language, and the stops.",
        source="Ollama docs, Modelfile",
        advice="true, then `ollama create NAME -f Modelfile` in the exported folder.",
    )
    push: str | None = knob(
        None, "The repository of the Hugging Face hub to upload the folder to: owner/name.",
        source="HF docs, HfApi.upload_folder",
        advice="Look at it with export.dry_run=true first. The token is read from HF_TOKEN in the environment.",
        empty=Empty("no upload"),
    )
    private: bool = knob(
        True, "Whether a repository that export.push creates is private.", source="HF docs, HfApi.create_repo",
        advice="false shows the model to everybody: check the licence of the base and of the data first.",
        misread="A repository that exists already stays as it is.",
    )
    dry_run: bool = knob(
        False, "With export.push: write the folder and list the files with their sizes, and upload nothing.",
        source="Ours", advice="true needs neither a token nor the network.",
    )
    track: bool = knob(
        False, "Upload the folder to W&B as an artifact that is linked to the model of the run, which W&B has online.",
        source="W&B docs, artifacts: lineage", advice="true if the team finds its models in W&B.",
        misread="If the server cannot be reached, the export is complete all the same.",
    )


def read(words: Sequence[str]) -> tuple[Allowed, Export, Path]:
    """Returns the permissions, the parameters and the absolute folder of an export. Raises RequestError.

    Loads no torch, so that wrong words are refused at once.
    """
    allowed, rest = split_allowed(words)
    config = parse(Export, rest, "export")
    if not config.run or not config.out:
        raise RequestError("fulgurite export needs a run and a new folder: run=<run folder> out=<new folder>.")
    check_form(config)
    check_run_folder(config.run, "run")
    if config.track and not (Path(config.run).expanduser() / "wandb" / "path").is_file():
        raise RequestError(
            "track=true links an export to a run that W&B has online, and {run} was not; leave it out.", run=config.run
        )
    return allowed, config, check_new_folder(config.out)


def check_new_folder(word: str) -> Path:
    """Returns the absolute path of a folder to write. Raises RequestError if it exists and is not empty."""
    out = Path(word).expanduser().absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(
            "out={path} exists already and is not empty; give a new folder, because nothing is overwritten.", path=out
        )
    return out


def check_form(config: Export) -> None:
    """Raises RequestError if parameters of one form are given for another."""
    gguf = config.format is ExportFormat.gguf
    if gguf and config.dtype is not None:
        raise RequestError(
            "dtype={dtype} is for format=safetensors; with format=gguf write gguf_type=F16 or another.",
            dtype=config.dtype,
        )
    if config.quantize is not None and (gguf or config.dtype is not None or config.modelfile or not config.merge):
        raise RequestError(
            "quantize={kind} writes a merged folder of its own types, for transformers; leave out dtype, merge=false, "
            "modelfile=true and format=gguf (gguf_type=Q8_0 is the quantised form there).",
            kind=config.quantize,
        )
    if not gguf and config.gguf_type is not None:
        raise RequestError("gguf_type={type} is for format=gguf; add format=gguf.", type=config.gguf_type)
    if config.push is not None and HUB_ID.fullmatch(config.push) is None:
        raise RequestError("push={name} is not a repository of the hub; write owner/name.", name=config.push)
    if config.push is None and config.dry_run:
        raise RequestError("dry_run=true is for push=owner/name; add that, or leave it out.")
    if not config.merge and (gguf or config.modelfile):
        raise RequestError(
            "merge=false writes an adapter alone, which neither a GGUF file nor a Modelfile holds here; leave it out."
        )
