"""Writes the model card of an exported folder from what the run has kept: base, data, method, losses, how to use it.

A card is English, as those of the hub are, whatever the language of the terminal. Nothing of this machine gets into
it: of a path its last name, and of the parameters only the listed ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yaml import YAMLError

from fulgurite import __version__
from fulgurite.config.choices import HUB_ID
from fulgurite.config.export_arguments import Export, ExportFormat
from fulgurite.config.secrets import has_key
from fulgurite.errors import FulguriteError
from fulgurite.files.json import read_object
from fulgurite.run.listing import RunSummary, summarize_run
from fulgurite.run.load import LoadedRun, find_base

NAME = "README.md"
HUB = "hub:"
"""What a dataset of the hub begins with in `data.path`."""
PARAMETERS = (
    "optim.lr", "optim.weight_decay", "trainer.global_batch_size", "trainer.epochs", "trainer.max_grad_norm",
    "scheduler.warmup_ratio", "data.max_length", "data.packing", "method.rank", "method.alpha", "method.dropout",
    "method.variant", "method.quant_type", "stage.loss", "stage.beta", "seed",
)
"""The parameters that decide a result, by their paths; a run without one leaves it out."""
GROUPS = ("stage", "method", "optim", "scheduler", "precision")
"""The groups whose option a card names."""


def write_card(loaded: LoadedRun, config: Export, out: Path) -> None:
    """Writes README.md, with the front matter that the Hugging Face hub reads."""
    from huggingface_hub import ModelCard, ModelCardData

    run = summarize_run(Path(config.run).expanduser())
    base, data = name_base(loaded), read_data(Path(config.run).expanduser(), loaded)
    apart = not config.merge and (out / "adapter_config.json").is_file()
    gguf = config.format is ExportFormat.gguf
    front = ModelCardData(
        base_model=base if is_hub_id(base) else None,
        datasets=[name.removeprefix(HUB) for name in data["names"] if name.startswith(HUB)] or None,
        license=find_licence(loaded),
        library_name="peft" if apart else "gguf" if gguf else "transformers",
        pipeline_tag="text-classification" if loaded.run.stage.gives_rewards else "text-generation",
        tags=["fulgurite", loaded.run.stage.name, loaded.run.method.name],
    )
    title = clean(run.name) or "A fine-tuned model"
    parts = [
        f"# {title}",
        f"{base or 'A model'}, trained by stage `{loaded.run.stage.name}` and method `{loaded.run.method.name}` with "
        f"Fulgurite {__version__}.",
        "## Data", *describe_data(data), "## Training", *describe_training(run, loaded), "## Use",
        *describe_use(loaded, base if apart else None, gguf, (out / "Modelfile").is_file()),
    ]
    card = ModelCard(f"---\n{front.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")
    (out / NAME).write_text(str(card), encoding="utf-8")


def is_hub_id(name: str | None) -> bool:
    """Returns whether a name is that of a repository on the hub, and not of a folder here."""
    return name is not None and HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def name_base(loaded: LoadedRun) -> str | None:
    """Returns the hub id of the base, or the last name of its folder."""
    base = find_base(loaded.run.model)  # below earlier runs and adapters
    named = base.base_name() or base.name
    return named if is_hub_id(named) else clean(Path(named).name)


def clean(word: str) -> str:
    """Returns a word that may be shown to anyone: not a secret, and of a path the last name."""
    return "" if has_key(word) else Path(word).name


def read_data(folder: Path, loaded: LoadedRun) -> dict[str, Any]:
    """Returns the names of the data and the counts of its report, if the run has one."""
    report: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, FulguriteError):
        report = read_object(folder / "data_report.json")
    given = getattr(loaded.run.data, "path", [])
    names = [word if word.startswith(HUB) else clean(word) for word in given] or [loaded.run.data.name]
    counts = {key: report.get(key) for key in ("trained", "validation", "tokens", "label_tokens")}
    return {"names": [name for name in names if name], **counts}


def describe_data(data: dict[str, Any]) -> Iterator[str]:
    """Yields the paragraphs about the data: its name, and how much of it was trained on."""
    labels = {
        "trained": "examples trained on", "validation": "examples held out for validation", "tokens": "tokens",
        "label_tokens": "tokens with a loss",
    }
    names = ", ".join(f"`{name}`" for name in data["names"])
    yield "\n".join([f"- data: {names}", *(f"- {label}: {data[key]:,}" for key, label in labels.items()
                                            if isinstance(data[key], int) and data[key])])


def describe_training(run: RunSummary, loaded: LoadedRun) -> Iterator[str]:
    """Yields the table of the parameters that decide, and the losses."""
    rows = [(name, run.choices[name]) for name in GROUPS if name in run.choices]
    rows += [(path, run.knobs[path]) for path in PARAMETERS if run.knobs.get(path) is not None]
    if run.total_steps:
        rows.append(("steps", f"{run.steps} of {run.total_steps}"))
    rows.append(("checkpoint", loaded.checkpoint.resolve().name))
    yield "\n".join(["| parameter | value |", "|---|---|", *(f"| {name} | {clean(str(v))} |" for name, v in rows)])
    losses = [("training loss, mean of the last tenth", run.loss), ("validation loss at the end", run.val_loss),
              ("lowest validation loss", run.best_val_loss)]
    found = [f"| {name} | {value:.4f} |" for name, value in losses if value is not None]
    if found:
        yield "\n".join(["| loss | value |", "|---|---|", *found])


def find_licence(loaded: LoadedRun) -> str | None:
    """Returns the licence that the base's own card names, or that of the bundled model; None if there is no card.

    The licence of a fine-tuned model depends on that of its base, so none is made up.
    """
    from huggingface_hub import ModelCard

    base = find_base(loaded.run.model)
    if base.licence:
        return base.licence
    folder = base.folder()
    if folder is None or not (folder / NAME).is_file():
        return None
    try:
        found = ModelCard.load(folder / NAME, ignore_metadata_errors=True).data.license
    except (OSError, ValueError, YAMLError):  # a card in another form
        return None
    return found if isinstance(found, str) and not has_key(found) else None


def describe_use(loaded: LoadedRun, base: str | None, gguf: bool, modelfile: bool) -> Iterator[str]:
    """Yields how others load the folder; `base` is that of an adapter."""
    kind = "AutoModelForSequenceClassification" if loaded.run.stage.gives_rewards else "AutoModelForCausalLM"
    if base is not None:
        yield "\n".join([
            "```python", "from peft import PeftModel", f"from transformers import {kind}, AutoTokenizer", "",
            f'base = {kind}.from_pretrained("{base}")', 'model = PeftModel.from_pretrained(base, "FOLDER")',
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")', "```",
        ])
    elif gguf:
        yield "```\nllama-cli -m model.gguf\n```"
    else:
        yield "\n".join([
            "```python", f"from transformers import {kind}, AutoTokenizer", "",
            f'model = {kind}.from_pretrained("FOLDER")', 'tokenizer = AutoTokenizer.from_pretrained("FOLDER")', "```",
        ])
    if modelfile:
        yield "```\nollama create my-model -f Modelfile\nollama run my-model\n```"
