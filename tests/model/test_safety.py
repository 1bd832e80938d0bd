"""A model or adapter folder is data: no pickle, nothing outside it, no code that was not named, no random weight."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.errors import ModelError
from fulgurite.method.lora import stack_adapter
from fulgurite.model.safety import SHARDS, compute_code_hash, locate, refuse_unsafe
from fulgurite.precision.policy import build as settle
from fulgurite.run.load import load_named


class Marker:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = compose(["model=tiny", "method=lora", "method.rank=2", "method.targets=[q_proj]", "precision=fp32"]).run
    loaded = build(run.model, torch.float32)
    folder = tmp_path_factory.mktemp("whole") / "m"
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    adapter = build(run.method, loaded.model, settle(run.precision, "cpu"))
    adapter.peft_config["default"].base_model_name_or_path = str(folder)
    adapter.save_pretrained(folder.parent / "a", save_embedding_layers=False)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "m"))


@pytest.fixture
def adapter(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole.parent / "a", tmp_path / "a"))


def load(folder: Path, *words: str) -> Any:
    run = compose(["model=hf", f"model.path={folder}", "model.attention=eager", *words]).run
    return load_named(run.model, torch.float32)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def payloads(marker: Path) -> dict[str, bytes]:
    """A pickle that makes a file, raw and in torch's zip; and a harmless state in torch's form."""
    raw, packed, harmless = pickle.dumps(Marker(marker)), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", raw)
        archive.writestr("archive/version", "3")
    torch.save({"model.norm.weight": torch.ones(64)}, harmless)
    return {"raw": raw, "zip": packed.getvalue(), "harmless": harmless.getvalue()}


NAMES = [
    "pytorch_model.bin",
    "model.pt",
    "model.pth",
    "model.ckpt",
    "value_head.bin",
    "adapter_model.bin",
    "optimizer.pt",
    "rng_state.pth",
    "training_args.bin",
    "weights.npy",
    "state.pkl",
]


@pytest.mark.parametrize("kind", ["raw", "zip", "harmless"])
def test_no_pickle_is_read_whatever_it_is_called(folder: Path, tmp_path: Path, kind: str) -> None:
    content = payloads(tmp_path / "owned")[kind]
    for name in NAMES:
        (folder / name).write_bytes(content)
    load(folder)  # they lie beside a whole model, and nobody opens them
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"is a pickle.*it can run code and is not read"):
        load(folder)
    for name in NAMES[1:]:
        (folder / NAMES[0]).unlink(missing_ok=True)
        for other in NAMES:
            (folder / other).unlink(missing_ok=True)
        (folder / name).write_bytes(content)
        with pytest.raises(ModelError, match=r"not read"):
            load(folder)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("kind", ["raw", "zip", "harmless"])
def test_an_index_cannot_name_a_pickle(folder: Path, tmp_path: Path, kind: str) -> None:
    (folder / "x.bin").write_bytes(payloads(tmp_path / "owned")[kind])
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    shards = dict.fromkeys(weights, "part.safetensors") | {"model.norm.weight": "x.bin"}
    (folder / f"model{SHARDS}").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    with pytest.raises(ModelError, match=r"x\.bin is a pickle"):
        load(folder)
    (folder / f"model{SHARDS}").rename(folder / f"other{SHARDS}")
    edit(folder / "config.json", transformers_weights=f"other{SHARDS}")
    with pytest.raises(ModelError, match="is a pickle"):
        load(folder)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "{out}/outside.safetensors",
        "sub/x.safetensors",
        "..\\outside.safetensors",
        "C:\\x.safetensors",
        "..",
    ],
)
def test_an_index_cannot_name_what_is_outside(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    weights = load_file(tmp_path / "outside.safetensors")
    shards = dict.fromkeys(weights, name.format(out=tmp_path))
    (folder / f"model{SHARDS}").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    with pytest.raises(ModelError, match="which is outside its folder"):
        load(folder)


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": {"a": 1}}', '{"weight_map": []}', "[" * 100_000, "\x00"])
def test_an_index_that_is_none_is_one_sentence(folder: Path, index: str) -> None:
    (folder / f"model{SHARDS}").write_text(index)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["adapter_model.bin", "x.bin", "../x.safetensors", "sub/x.safetensors", 7])
def test_a_config_cannot_name_its_weights_elsewhere(folder: Path, tmp_path: Path, value: Any) -> None:
    for name in ("adapter_model.bin", "x.bin"):
        (folder / name).write_bytes(payloads(tmp_path / "owned")["harmless"])
    edit(folder / "config.json", transformers_weights=value)
    with pytest.raises(ModelError, match="transformers_weights"):
        load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(folder / "kept")
    (folder / name).symlink_to("kept")
    refuse_unsafe(folder)
    (folder / name).unlink()
    (folder / "kept").rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    with pytest.raises(ModelError, match="is a link out of its folder"):
        load(folder)


@pytest.mark.parametrize("where", [{}, {"text_config": {"deep": [{}]}}])
def test_a_config_cannot_ask_for_compiled_code_of_a_repository(folder: Path, where: dict[str, Any]) -> None:
    for key in ("attn_implementation", "_attn_implementation_internal", "experts_implementation"):
        shutil.copy(folder / "config.json", folder / "before")
        nested = {"text_config": {"deep": [{key: "someone/kernel"}]}} if where else {key: "someone/kernel"}
        edit(folder / "config.json", **nested)
        with pytest.raises(ModelError, match="compiled code of another repository"):
            load(folder)
        shutil.move(folder / "before", folder / "config.json")


def test_an_adapter_is_read_from_safetensors_only(adapter: Path, tmp_path: Path) -> None:
    load(adapter)
    weights = load_file(adapter / "adapter_model.safetensors")
    for kind, content in payloads(tmp_path / "owned").items():
        (adapter / "adapter_model.bin").write_bytes(content)
        load(adapter)  # it lies beside the whole file
        (adapter / "adapter_model.safetensors").unlink()
        with pytest.raises(ModelError, match=r"adapter_model\.bin is a pickle"):
            load(adapter)
        torch.save(weights, adapter / "adapter_model.bin")
        with pytest.raises(ModelError, match=r"adapter_model\.bin is a pickle"):
            load(adapter)
        with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors"):
            stack_adapter(
                compose(["model=tiny", f"method.adapter_path={adapter}", "method.adapter_mode=stack"]).run.method,
                AutoModelForCausalLM,
            )
        save_file(weights, adapter / "adapter_model.safetensors")
        assert not (tmp_path / "owned").exists(), kind


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "cannot be merged"), ({"peft_type": "XLORA"}, "cannot be merged"),
        ({"peft_type": None}, "cannot be merged"), ({"peft_type": "LORAX"}, "cannot be merged"),
        ({"megatron_config": {"a": 1}, "megatron_core": "evil"}, "names a module to import"),
    ],
)
def test_an_adapter_that_loads_more_than_weights_is_refused(adapter: Path, changes: dict[str, Any], said: str) -> None:
    edit(adapter / "adapter_config.json", **changes)
    with pytest.raises(ModelError, match=said):
        load(adapter)


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda weights: {key: value for key, value in weights.items() if key != name}


def renamed(name: str, other: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda weights: {other if key == name else key: value for key, value in weights.items()}


PROJECTION = "model.layers.0.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without(PROJECTION), rf"Missing: {PROJECTION}\. Missing weights would be random"),
        (
            renamed(PROJECTION, f"{PROJECTION}s"),
            rf"Missing: {PROJECTION}\. Unknown to the architecture: {PROJECTION}s",
        ),
        (lambda w: w | {"model.layers.9.x.weight": torch.ones(2)}, r"architecture: model\.layers\.9\.x\.weight"),
        (lambda w: w | {"score.weight": torch.ones(2, 64)}, "the head of a classifier or reward model"),
        (lambda w: w | {PROJECTION: torch.ones(3, 3)}, rf"Of another shape: {PROJECTION}"),
    ],
)
def test_a_weight_is_never_random_and_never_lost(folder: Path, change: Any, said: str) -> None:
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=said) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_tied_weights_and_old_buffers_are_no_fault(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lm_head.weight" not in weights
    model = load(folder).model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_classifier_is_refused_by_name(folder: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).save_pretrained(folder)
    edit(folder / "config.json", architectures=["LlamaForCausalLM"])
    with pytest.raises(
        ModelError, match=r"Unknown to the architecture \(the head of a classifier or reward model\): score\.weight"
    ):
        load(folder)


@pytest.mark.parametrize("change", ["without", "renamed"])
def test_an_adapters_weight_is_never_random(adapter: Path, change: str) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    name = next(key for key in weights if "lora_B" in key)
    changed = without(name)(weights) if change == "without" else renamed(name, f"{name}s")(weights)
    save_file(changed, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"lacks {name} \(1 missing, {int(change == 'renamed')} unknown\)"):
        load(adapter)


def test_a_folders_code_is_pinned_by_its_hash(folder: Path) -> None:
    (folder / "code.py").write_text("x = 1\n")
    pin = compute_code_hash(folder)
    assert locate(folder, pin, code=True) == folder
    with pytest.raises(ModelError, match=rf"needs the hash of the Python code .*, then set model\.revision={pin}"):
        locate(folder, None, code=True)
    with pytest.raises(ModelError, match=f"model.revision={'a' * 40} is not the hash .*{pin}"):
        locate(folder, "a" * 40, code=True)
    (folder / "code.py").write_text("x = 2\n")
    assert compute_code_hash(folder) != pin
    with pytest.raises(ModelError, match="is not the hash"):
        locate(folder, pin, code=True)
    edit(folder / "config.json", auto_map={"AutoConfig": "other/repository--code.C"})
    with pytest.raises(ModelError, match="uses code of another repository"):
        locate(folder, compute_code_hash(folder), code=True)


def in_hub_cache(folder: Path, cache: Path, commit: str) -> Path:
    """The folder as the hub's client keeps it: files as links to blobs, the branch main at `commit`."""
    home = cache / "models--someone--m"
    snapshot, blobs = home / "snapshots" / commit, home / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in folder.iterdir():
        shutil.copy(path, blobs / path.name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    return snapshot


def test_a_hub_repository_is_checked_before_it_is_loaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (folder / "code.py").write_text("x = 1\n")
    snapshot = in_hub_cache(folder, tmp_path / "hub", "b" * 40)
    assert load(Path("someone/m")).length == 1024
    assert locate("someone/m", "b" * 40, code=True).resolve() == snapshot.resolve()
    with pytest.raises(ModelError, match="full commit of 40 digits"):
        locate("someone/m", "main", code=True)
    with pytest.raises(ModelError, match="is not a local folder, and the hub cannot be reached or does not have it"):
        locate("someone/m", "a" * 40, code=True)
    with pytest.raises(ModelError, match="pins the code of a folder"):
        locate("someone/m", compute_code_hash(folder), code=True)
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    with pytest.raises(ModelError, match="is a pickle"):
        load(Path("someone/m"))
