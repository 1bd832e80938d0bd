"""What the fuzzer mutates, and what it does with the result: data files through check and tokens, model folders through
plan and start."""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.faults.mutate import as_json, mutate_bytes, mutate_number, mutate_value

CALL = {"type": "function", "id": "c1", "function": {"name": "look", "arguments": {"at": "x", "n": 1}}}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "look", "description": "d", "parameters": {"type": "object", "properties": {}}},
    }
]
RECORDS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "openai": ("sft", [
        {
            "messages": [
                {"role": "system", "content": "s"}, {"role": "user", "content": "Grüße 🙂"},
                {"role": "assistant", "content": "a"},
            ]
        },
        {"tools": TOOLS, "messages": [
            {"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "name": "look", "tool_call_id": "c1", "content": "r"},
            {"role": "assistant", "content": [{"type": "text", "text": "a"}], "reasoning_content": "t", "weight": 1},
        ]},
    ]),
    "alpaca": ("sft", [
        {"instruction": "i", "input": "n", "output": "o", "system": "s", "history": [["a", "b"]], "id": 1},
        {"instruction": "i", "input": "", "output": "o", "system": "", "history": [], "id": "2"},
    ]),
    "sharegpt": (
        "sft", [{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"}] * 2,
    ),
    "preference": ("dpo", [
        {"prompt": "p", "chosen": "c", "rejected": "r", "margin": 0.5},
        {"prompt": [{"role": "user", "content": "p"}], "chosen": [{"role": "assistant", "content": "c"}],
         "rejected": [{"role": "assistant", "content": "r"}]},
    ]),
    "kto": (
        "kto", [{"prompt": "p", "completion": "c", "label": True}, {"prompt": "p", "completion": "d", "label": False}],
    ),
    "prompts": ("grpo", [{"prompt": "p", "answer": 4}, {"prompt": [{"role": "user", "content": "p"}], "answer": "5"}]),
    "text": ("pt", [{"text": "a text\nof lines"}, {"text": "another"}]),
}
FLAT = [{"instruction": "Grüße?", "output": "a, \"b\""}, {"instruction": "two\nlines", "output": "c"}] * 5


@dataclass(frozen=True)
class Target:
    """One kind of input: how a mutation of it is made and tried, and its share of all."""

    attempt: Callable[[int, int, Path], str]
    prepare: Callable[[], object]
    weight: int = 1


# -- data -------------------------------------------------------------------------------------------------------------


@functools.cache
def tokenizer() -> Any:
    """A small tokenizer with a chat template."""
    from fulgurite.model.tiny_tokenizer import tokenizer as tiny

    return tiny(400)


def read(path: Path, stage: str) -> str:
    """What `plan` and `train` do with data: format, check of every record, tokens. Bad records are tolerated."""
    from fulgurite.data.build import build_source
    from fulgurite.data.config import File
    from fulgurite.data.template import load_template
    from fulgurite.data.tokenized import tokenize_source

    config = File(path=[str(path)], max_drop=10**6)
    source = build_source(config, stage=stage, seed=0)
    checked = source.check()
    assert all(len(str(bad)) < 3000 for bad in checked.bad), "a bad record is told in a long line"
    assert len(str(checked.describe(source))) < 3000, "what was found is told in a long line"
    cache = path.parent / "cache"
    try:
        tokenize_source(source, tokenizer(), load_template(None, tokenizer()), config, cache)
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return "part" if checked.bad else "good"


def record_file(name: str) -> Callable[[int, int, Path], str]:
    """Mutations of the values of a format's records, as JSON lines, JSON, Parquet or Arrow."""
    stage, records = RECORDS[name]

    def attempt(seed: int, number: int, folder: Path) -> str:
        chance = random.Random(f"{seed}:{name}:{number}")
        changed = [
            mutate_value(record, chance)
            for record in records
        ] if chance.random() < 0.9 else mutate_value(records, chance)
        if isinstance(changed, list):
            changed += records  # sound ones, so that what is left of the others is tokenised
        ending = chance.choice(("jsonl", "jsonl", "json", "parquet"))
        path = folder / f"a.{ending}"
        if ending == "parquet" and not _table(changed, path):
            path = folder / "a.jsonl"
        if path.suffix == ".jsonl":
            path.write_bytes(
                b"\n".join(as_json(record) for record in changed) if isinstance(changed, list) else as_json(changed)
            )
        elif path.suffix == ".json":
            path.write_bytes(as_json(changed))
        return read(path, stage)

    return attempt


def _table(records: Any, path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_table(pa.Table.from_pylist(records), path)
    except Exception:  # what no table can hold is tried as JSON
        return False
    return True


@functools.cache
def whole(kind: str) -> bytes:
    """A valid file of FLAT."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = kind.removesuffix(".gz")
    table = pa.Table.from_pylist([{**row, "meta": [{"role": "user", "content": "x"}], "n": 1} for row in FLAT])
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink)
    elif kind in ("file.arrow", "stream.arrow"):
        with (pa.ipc.new_file if kind == "file.arrow" else pa.ipc.new_stream)(sink, table.schema) as out:
            out.write_table(table)
    elif kind == "json":
        sink.write(json.dumps(FLAT, ensure_ascii=False).encode())
    elif kind == "jsonl":
        sink.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in FLAT).encode())
    elif kind == "txt":
        sink.write("one line\nanother Grüße\n".encode())
    else:
        cells = [["instruction", "output"], *([row["instruction"], row["output"]] for row in FLAT)]
        delimiter = "," if kind == "csv" else "\t"
        sink.write(
            "".join(delimiter.join('"' + c.replace('"', '""') + '"' for c in row) + "\r\n" for row in cells).encode()
        )
    return sink.getvalue()


def file_bytes(kind: str) -> Callable[[int, int, Path], str]:
    """Mutations of the bytes of a file; of a gzipped one outside or inside."""

    def attempt(seed: int, number: int, folder: Path) -> str:
        chance, plain = random.Random(f"{seed}:{kind}:{number}"), whole(kind)
        if kind.endswith(".gz"):
            packed = gzip.compress(plain, mtime=0)
            content = mutate_bytes(packed, chance) if chance.random() < 0.5 else gzip.compress(
                mutate_bytes(plain, chance), mtime=0,
            )
        else:
            content = mutate_bytes(plain, chance)
        path = folder / f"a.{kind}"
        path.write_bytes(content)
        return read(path, "pt" if kind.startswith("txt") else "sft")

    return attempt


# -- models -----------------------------------------------------------------------------------------------------------

SHAPES = {
    "gpt2": {"model_type": "gpt2", "vocab_size": 400, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "mixtral": {
        "model_type": "mixtral", "vocab_size": 400, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "rope_theta": 1e4,
        "num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 2, "num_experts_per_tok": 1,
        "max_position_embeddings": 64,
    },
    "gemma3": {
        "model_type": "gemma3_text", "vocab_size": 400, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 32,
        "max_position_embeddings": 64,
    },
}


@functools.cache
def folders() -> dict[str, dict[str, bytes]]:
    """Valid model folders by name, as file names and contents: one with weights, some with a config alone, and an
    adapter."""
    import tempfile

    import torch
    from peft import LoraConfig, get_peft_model

    from fulgurite.config.schema import build
    from fulgurite.model.config import Tiny

    found: dict[str, dict[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "base"
        made = build(Tiny(hidden=16, vocabulary=400, length=64), torch.float32)
        made.model.save_pretrained(base)
        made.tokenizer.save_pretrained(base)
        words = {p.name: p.read_bytes() for p in base.iterdir() if "token" in p.name or "template" in p.name}
        special = {"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]}
        words["special_tokens_map.json"] = as_json(special)
        found["llama"] = {p.name: p.read_bytes() for p in base.iterdir()} | words
        found |= {name: {"config.json": as_json(shape), **words} for name, shape in SHAPES.items()}
        adapted = get_peft_model(made.model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
        adapted.save_pretrained(Path(place) / "adapter")
        found["adapter"] = {p.name: p.read_bytes() for p in (Path(place) / "adapter").iterdir() if p.suffix != ".md"}
    return found


def model_file(*names: str) -> Callable[[int, int, Path], str]:
    """Mutations of one JSON file of a model folder: its values, its numbers or its bytes."""

    def attempt(seed: int, number: int, folder: Path) -> str:
        chance = random.Random(f"{seed}:{names}:{number}")
        name = chance.choice(names)
        kinds = [kind for kind, files in folders().items() if name in files]
        kind = chance.choice(kinds)
        files = dict(folders()[kind])
        way = chance.random()
        if way < 0.2:
            files[name] = mutate_bytes(files[name], chance)
        else:
            value = json.loads(files[name])
            if name == "adapter_config.json":
                value["base_model_name_or_path"] = str(folder / "base")
            files[name] = as_json(mutate_number(value, chance) if way < 0.5 else mutate_value(value, chance))
        place = _written(folder / "m", files)
        if kind == "adapter":
            _written(folder / "base", folders()["llama"])
        return begin(place, loads="model.safetensors" in files or kind == "adapter")

    return attempt


def _written(place: Path, files: dict[str, bytes]) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
    return place


@functools.cache
def composed() -> Any:
    """A run of model=hf, whose folder is set for each mutation."""
    from fulgurite.config.compose import compose
    from fulgurite.precision.policy import build as settle

    run = compose(["model=hf", "model.path=x", "precision=fp32", "method.rank=2"]).run
    return run, settle(run.precision, "cpu")


def begin(folder: Path, loads: bool) -> str:
    """What `plan` and `train` do with a model: its size, its shape without weights, then the loaded model with its
    method."""
    from fulgurite.data.template import load_template
    from fulgurite.plan.meta_model import outline_model
    from fulgurite.run.load import apply_method, load_start

    run, dtypes = composed()
    run = replace(run, model=replace(run.model, path=str(folder)))
    run.model.billions()
    found, _ = outline_model(run, dtypes)
    load_template(None, found.tokenizer)
    if loads:
        apply_method(
            run.method, run.stage.gives_rewards, load_start(run.model, run.method, run.stage.gives_rewards, dtypes),
            dtypes,
        )
    return "good"


def _quiet() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _prepare_data() -> None:
    _quiet()
    tokenizer()


def _prepare_models() -> None:
    _quiet()
    composed()
    folders()


FILES = (
    "json", "jsonl", "csv", "tsv", "txt", "parquet", "file.arrow", "stream.arrow", "jsonl.gz", "json.gz", "csv.gz",
    "parquet.gz",
)
TABLES = ("parquet", "file.arrow", "stream.arrow", "parquet.gz")
TARGETS: dict[str, Target] = {
    **{f"records.{name}": Target(record_file(name), _prepare_data, 3) for name in RECORDS},
    **{
        f"file.{kind}": Target(file_bytes(kind), _prepare_data, 4 if "arrow" in kind or "parquet" in kind else 2)
        for kind in FILES
    },
    "tables": Target(
        lambda seed, number, folder: file_bytes(TABLES[number % len(TABLES)])(seed, number, folder), _prepare_data, 0,
    ),
    "model.config": Target(model_file("config.json"), _prepare_models, 6),
    "model.tokenizer": Target(
        model_file("tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"), _prepare_models, 4,
    ),
    "model.other": Target(model_file("generation_config.json", "adapter_config.json"), _prepare_models, 3),
}
