"""`fulgurite serve engine=vllm`: exports the run, and becomes `vllm serve`. vLLM is a program here, never imported: it
pins its own torch and transformers, and is often installed apart.

The arguments are those of vLLM 0.32 (docs.vllm.ai, `vllm serve`).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from fulgurite.config.guard import Allowed
from fulgurite.config.serve_arguments import Serve, split_list
from fulgurite.config.stored import rebuild_run
from fulgurite.errors import ConfigError, ModelError
from fulgurite.files.json import read_json
from fulgurite.files.manifest import MANIFEST, hash_file
from fulgurite.language.message import message
from fulgurite.run.folder import read_config
from fulgurite.run.sources import choose_checkpoint
from fulgurite.text.console import say

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM's --max-lora-rank may have."""
UNREAD = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias", "target_parameters")
"""Settings of peft's LoRA that vLLM does not read; with one of them it would refuse the adapter or compute others'
answers."""


def serve_with_vllm(config: Serve, allowed: Allowed, key: str) -> int:
    """Exports the run unless that was done before, and replaces this process by vLLM. Raises FulguriteError."""
    folder = Path(config.run).expanduser()
    if rebuild_run(read_config(folder), allowed, folder).stage.gives_rewards:
        raise ModelError("{run} is a reward model, which scores answers and cannot write any.", run=config.run)
    out = Path(config.out).expanduser().absolute() if config.out else choose_folder(folder, config)
    program = find_vllm()
    if program is None:
        # merge=false needs the adapter's own file for the line; the export comes first then
        typed = shlex.join(build_line("vllm", config, allowed, out)) if config.merge or out.is_dir() else ""
        raise explain_absence(config, allowed, out, typed)
    export_once(config, allowed, out)
    line = build_line(program, config, allowed, out)
    print(shlex.join(line))
    environment = dict(os.environ)
    if key:
        environment["VLLM_API_KEY"] = key  # other users of the machine can read a command line
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(program, line, environment)


def find_vllm() -> str | None:
    """Returns the path of vLLM's command: of PATH, or of the environment that this Python runs in."""
    return shutil.which("vllm") or shutil.which("vllm", path=str(Path(sys.executable).parent))


def choose_folder(run: Path, config: Serve) -> Path:
    """Returns the folder of the export of a checkpoint. Its name has the checkpoint's hash: a checkpoint of the same
    step that was trained again has another one."""
    place = choose_checkpoint(run, config.checkpoint).resolve()
    form = "merged" if config.merge else "adapter"
    return (run / "exports" / f"{place.name}-{hash_file(place / MANIFEST)[:8]}-{form}").absolute()


def list_export_words(config: Serve, allowed: Allowed, out: Path) -> list[str]:
    """Returns the words of `fulgurite export` for the folder that vLLM reads."""
    words = [f"run={config.run}", f"out={out}", f"checkpoint={config.checkpoint}"]
    words += [] if config.merge else ["merge=false"]
    words += [f"plugins=[{','.join(allowed.plugins)}]"] if allowed.plugins else []
    words += ["model.trust_remote_code=true"] if allowed.model_code else []
    return words + ([f"model.revision={allowed.revision}"] if allowed.revision else [])


def export_once(config: Serve, allowed: Allowed, out: Path) -> None:
    """Writes the export, unless the folder is there: a folder of an export is always complete. Raises FulguriteError.
    """
    if out.is_dir() and any(out.iterdir()):
        name = "config.json" if config.merge else "adapter_config.json"
        if not (out / name).is_file():
            raise ConfigError(
                "out={path} is not an export with merge={merge}: it has no {name}; give a new folder.",
                path=out, merge=str(config.merge).lower(), name=name,
            )
        say(message("Uses the export in {path}.", path=out))
        return
    from fulgurite.export.model import export_main

    export_main(list_export_words(config, allowed, out))


def build_line(program: str, config: Serve, allowed: Allowed, out: Path) -> list[str]:
    """Returns the command line of vLLM for an export. Raises ConfigError for an adapter that vLLM cannot read."""
    sampling = {"temperature": config.temperature, "top_p": config.top_p}
    if config.merge:
        model = [str(out), "--served-model-name", str(config.name)]
    else:
        adapter = read_json(out / "adapter_config.json")
        rank = check_adapter(adapter, out)
        model = [
            str(adapter["base_model_name_or_path"]), "--enable-lora", "--lora-modules", f"{config.name}={out}",
            "--max-lora-rank", str(rank),
            # the template and the stop tokens of the run, not those of its base
            "--tokenizer", str(out), "--generation-config", str(out),
        ]
        model += ["--revision", str(adapter["revision"])] if adapter.get("revision") else []
    return [
        program, "serve", *model, "--host", config.host, "--port", str(config.port),
        # vLLM's default lets the scripts of every page ask
        "--allowed-origins", json.dumps(split_list(config.origins)),
        "--override-generation-config", json.dumps(sampling),
        *(["--trust-remote-code"] if allowed.model_code else []),
    ]


def check_adapter(adapter: dict[str, Any], out: Path) -> int:
    """Returns the smallest rank of vLLM's that holds the adapter. Raises ConfigError if vLLM cannot read it."""
    form = adapter.get("peft_type")
    unread = [f"{name}={adapter[name]}" for name in UNREAD if adapter.get(name)]
    rank = next((rank for rank in RANKS if form == "LORA" and adapter["r"] <= rank), None)
    if rank is None or unread:
        found = ", ".join([f"peft_type={form}", *([f"r={adapter['r']}"] if "r" in adapter else []), *unread])
        raise ConfigError(
            "vLLM cannot serve the adapter in {path} apart from its base ({found}); leave out merge=false.",
            path=out, found=found,
        )
    if not adapter.get("base_model_name_or_path"):
        raise ConfigError(
            "The adapter in {path} names no base model that vLLM could load; leave out merge=false.", path=out
        )
    return rank


def explain_absence(config: Serve, allowed: Allowed, out: Path, line: str) -> ConfigError:
    """Returns the error for a machine without vLLM, with the lines to type where it is installed."""
    export = shlex.join(["fulgurite", "export", *list_export_words(config, allowed, out)])
    if not line:
        return ConfigError(
            "vLLM is not installed here. Write the adapter with `{export}`, then repeat this command: it prints the "
            "line for vLLM.", export=export,
        )
    if out.is_dir():
        return ConfigError("vLLM is not installed here. On a machine that has it, write: {line}", line=line)
    return ConfigError(
        "vLLM is not installed here. On a machine that has it, write: {export} && {line}", export=export, line=line
    )
