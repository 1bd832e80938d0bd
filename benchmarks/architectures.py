"""Every causal architecture that transformers builds, tiny: is the loss that training records transformers' own?

A small model of each config class is trained for a few steps by the stage itself, full, with LoRA, and on packed rows;
it is saved,
loaded by transformers alone, and its own loss of the same documents, one by one, is compared. Writes
docs/architectures.md.
`python -m benchmarks.architectures [--only gemma2,llama]`. Some five minutes on one core.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, PreTrainedConfig

from fulgurite.config.compose import compose
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import build
from fulgurite.errors import FulguriteError, excerpt
from fulgurite.loss.language import IGNORE
from fulgurite.model.document_probe import use_documents
from fulgurite.model.load import Loaded
from fulgurite.model.probe import Behaviour, find_plain_head, list_ordinary_tokens, measure
from fulgurite.model.quiet import silence
from fulgurite.model.twin import shrink_sizes
from fulgurite.model.unwrap import unwrap_model
from fulgurite.precision.policy import build as settle
from fulgurite.run.load import apply_method
from fulgurite.stage.base import Batch

OUT = Path(__file__).parents[1] / "docs" / "architectures.md"
STEPS, LENGTH, DOCUMENTS, RATE, EQUAL = 3, 12, 4, 1e-2, 1e-5
WAYS = ("full", "lora", "packed")
SPECIAL: dict[str, dict[str, Any]] = {
    "bert": {"is_decoder": True}, "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gemma3n_text": {"num_kv_shared_layers": 0}, "deepseek_v2": {"num_experts_per_tok": 2},
    "gpt_neo": {
        "attention_types": [[["global", "local"], 2]], "attention_layers": ["global", "local"] * 2, "num_layers": 4,
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 64,
        "indexer_compress_ratio": 4,
        "ple_embed_dim": 16, "hc_lowrank": 8, "ngram_vocab_size_base": 64, "split_ngram_parts": 1,
    },
}
"""Fields that a default config leaves empty, or of which the default has no layer of the architecture's own kind."""
SECONDS = 60
"""What an architecture may take; most take two."""
UNSHIFTED = "its forward does not shift labels: compared with the cross-entropy of its logits"
LARGE = {
    "xlm": "its smallest size here is 200 million parameters",
    "bailing_hybrid": "its linear attention takes gigabytes at any width",
    "kimi_linear": "its linear attention takes gigabytes at any width",
}


@dataclass(frozen=True, slots=True)
class Row:
    """What one architecture gave: for each way the relative difference of the two losses, or why there is none."""

    name: str
    found: dict[str, float | str]
    note: str = ""
    documents: bool = False
    """Whether attention goes document by document."""

    @property
    def equal(self) -> bool:
        """Whether each loss that was recorded is transformers' own."""
        return all(isinstance(value, str) or value <= EQUAL for value in self.found.values())


def configs() -> Iterator[tuple[str, PreTrainedConfig | str]]:
    """The name of each architecture and a tiny config of it, or why there is none."""
    seen = set()
    for kind, model in MODEL_FOR_CAUSAL_LM_MAPPING.items():
        name = model[0].__name__ if isinstance(model, tuple) else model.__name__
        if name in seen:
            continue
        if kind.model_type in LARGE:
            yield name, LARGE[kind.model_type]
            continue
        try:
            with silence():
                config = shrink_sizes(kind())
        except Exception as error:
            yield name, excerpt(error, 120)
            continue
        if getattr(config, "is_decoder", True) is False:
            config.is_decoder = True
        for field, value in SPECIAL.get(kind.model_type, {}).items():
            setattr(config, field, value)
        seen.add(name)
        yield name, config


def made(config: PreTrainedConfig, attention: str = "eager") -> Any:
    """A model of the config, the same each time, with weights large enough that caps and scales show."""
    with silence():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
    head = model.get_output_embeddings()
    with torch.no_grad():
        if head is not None:
            head.weight.mul_(20)
    return model.eval()


def batches(model: Any, packed: bool) -> list[Batch]:
    """The documents as training sees them: one a row, or two a row with positions that start again."""
    tokens = torch.tensor(list_ordinary_tokens(model, LENGTH * DOCUMENTS)).view(DOCUMENTS, LENGTH)
    targets = torch.cat([tokens[:, 1:], torch.full((DOCUMENTS, 1), IGNORE)], dim=1)
    if not packed:
        return [{"input_ids": tokens, "targets": targets}]
    positions = torch.arange(LENGTH).repeat(2)[None].expand(DOCUMENTS // 2, -1)
    return [
        {"input_ids": tokens.view(-1, 2 * LENGTH), "targets": targets.view(-1, 2 * LENGTH), "position_ids": positions}
    ]


@functools.cache
def run_of(method: str) -> RunConfig:
    """Composing takes longer than training does here."""
    return compose(["logger=none", "model=tiny", "stage=sft", f"method={method}", "precision=fp32"]).run


def trained(model: Any, way: str) -> tuple[float, Any]:
    """The loss that the stage records after a few steps, and the model that it is of, its adapter merged."""
    method = "lora" if way == "lora" else "full"
    run = run_of(method)
    if way == "lora":
        run = replace(run, method=replace(run.method, rank=4, alpha=8.0))
    dtypes = settle(run.precision, "cpu")
    whole = apply_method(run.method, run.stage.gives_rewards, Loaded(model, None, 1024), dtypes)  # type: ignore[arg-type]
    stage = build(run.stage, whole, run, dtypes, STEPS)
    optimizer = torch.optim.SGD([p for p in stage.parameters() if p.requires_grad], lr=RATE)
    (batch,) = batches(unwrap_model(whole), way == "packed")
    count = stage.loss_units(batch)
    stage.eval()  # dropout would make two losses of one model differ
    for _ in range(STEPS):
        loss = stage.compute_total_loss(batch) / count
        loss.backward()
        torch.nn.utils.clip_grad_norm_(stage.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        last = float(stage.compute_total_loss(batch)) / count
    return last, whole.merge_and_unload(safe_merge=True) if hasattr(whole, "merge_and_unload") else whole


@torch.no_grad()
def own_loss(kind: Any, folder: Path, rows: torch.Tensor) -> tuple[float, bool]:
    """transformers' own loss of the saved model, the mean over documents, each alone; and whether its forward gives the
    same.

    It is the cross-entropy of its logits: some decoders (Bart, Marian) do not shift the labels that their forward is
    given.
    """
    again = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    logits = torch.stack([again(input_ids=row[None], use_cache=False).logits[0] for row in rows])
    value = float(torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten()))
    try:
        given = sum(
            float(again(input_ids=row[None], labels=row[None], use_cache=False).loss)
            for row in rows
        ) / len(rows)
    except (RuntimeError, ValueError):
        return value, False
    return value, abs(given - value) <= EQUAL * abs(value)


def difference(config: PreTrainedConfig, way: str) -> tuple[float, bool]:
    """How far the recorded loss is from transformers' own, relative to it; and whether its forward gives that loss for
    labels."""
    ours, model = trained(made(config), way)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        theirs, shifts = own_loss(type(model), Path(folder), batches(unwrap_model(model), False)[0]["input_ids"])
    return abs(ours - theirs) / abs(theirs), shifts


def attends_by_documents(config: PreTrainedConfig) -> bool:
    """Whether a model of the config computes the same document by document as with its mask."""
    try:
        return use_documents(made(config, "sdpa"))
    except Exception:  # transformers has no sdpa for it
        return False


def scan(name: str, config: PreTrainedConfig | str) -> Row:
    """All ways of one architecture."""
    if isinstance(config, str):
        return Row(name, {}, f"not built tiny: {config}")
    try:
        model = made(config)
    except Exception as error:
        return Row(name, {}, f"not built tiny: {excerpt(error, 120)}")
    try:
        behaviour: Behaviour = measure(model)
    except FulguriteError as error:
        return Row(name, dict.fromkeys(WAYS, "refused"), excerpt(error, 160))
    if not behaviour.causal:
        return Row(name, dict.fromkeys(WAYS, "refused"), "a later token changes an earlier prediction")
    notes = [] if find_plain_head(model) is not None else ["its logits are more than the product with the output layer"]
    found: dict[str, float | str] = {}
    for way in WAYS:
        if way == "packed" and not behaviour.packs:
            found[way] = "refused"
            continue
        try:
            found[way], shifts = difference(config, way)
            if not shifts and UNSHIFTED not in notes:
                notes.append(UNSHIFTED)
        except FulguriteError as error:
            found[way] = "refused"
            notes.append(f"{way}: {excerpt(error, 200)}")
        except Exception as error:
            found[way] = "fails"
            notes.append(f"{way}: {type(error).__name__}: {excerpt(error, 120)}")
    return Row(name, found, "; ".join(notes), attends_by_documents(config))


def table(rows: list[Row]) -> str:
    """docs/architectures.md."""
    built = [row for row in rows if row.found]
    lines = [
        [row.name, *(_cell(row.found.get(way, "")) for way in WAYS), "yes" if row.documents else "",
         row.note.replace("|", "/")]
        for row in rows
    ]
    cells = [f"| {' | '.join(line)} |" for line in lines]
    counts = ", ".join(f"{sum(isinstance(row.found[way], float) for row in built)} {way}" for way in WAYS)
    return "\n".join([
        "# Architectures", "",
        f"Generated by `make architectures` from {len(rows)} causal architectures of transformers; {len(built)} can be "
        f"built tiny. Each is",
        f"trained for {STEPS} steps in float32, saved, and loaded by transformers alone; a number is the difference "
        f"between the loss that",
        f"was recorded and transformers' own, relative to it (at most {EQUAL:g}). Compared: {counts}.", "",
        "`refused`: training ends before its first step with the reason. Packed rows are refused if a document changes "
        "the next one.",
        "",
        f"`documents`: attention goes document by document ({sum(row.documents for row in built)}), because it "
        "computes the same: packed rows need no",
        "mask of all tokens, and rows are computed without their padding.", "",
        "| architecture | full | LoRA | packed | documents | remarks |", "|---|---|---|---|---|---|", *cells, "",
    ])


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.0e}" if value else "0"


class TooSlow(BaseException):
    """Ends an architecture whose smallest model is slow; no Exception, which what fails inside is told by."""


def too_slow(*_: object) -> None:
    """The alarm."""
    raise TooSlow


def main() -> None:
    """Scan, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="",
        help="model classes that contain one of these words, with commas between; nothing is written",
    )
    signal.signal(signal.SIGALRM, too_slow)
    only = [word.lower() for word in parser.parse_args().only.split(",") if word]
    start, rows = time.perf_counter(), []
    torch.set_num_threads(1)
    for name, config in configs():
        if only and not any(word in name.lower() for word in only):
            continue
        with contextlib.redirect_stderr(io.StringIO()), silence():
            signal.alarm(SECONDS)
            try:
                row = scan(name, config)
            except TooSlow:
                row = Row(name, {}, f"not scanned: not done after {SECONDS} s")
            finally:
                signal.alarm(0)
        rows.append(row)
        marks = " ".join(f"{way}={_cell(value)}" for way, value in row.found.items())
        print(f"{'' if row.equal else 'DIFFERS '}{name}: {marks} {row.note}", flush=True)
    if not only:
        OUT.write_text(table(sorted(rows, key=lambda row: row.name)), encoding="utf-8")
    print(
        f"{len(rows)} architectures in {time.perf_counter() - start:.0f} s; {sum(not row.equal for row in rows)} differ"
    )


if __name__ == "__main__":
    main()
