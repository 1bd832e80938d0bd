"""A model folder of foreign origin: whatever its JSON files hold, one bounded line with the file, or a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fulgurite.config.compose import compose
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import build
from fulgurite.errors import ModelError
from fulgurite.files.json import MOST_DEPTH, count_depth, read_json
from fulgurite.model import validate
from fulgurite.model.config import Hf
from fulgurite.model.load import Loaded
from fulgurite.model.validate import check_folder, check_sizes, find_base_of_adapter
from fulgurite.plan.meta_model import outline_model
from fulgurite.precision.policy import Dtypes
from fulgurite.precision.policy import build as settle
from fulgurite.run.load import load_start
from fulgurite.run.sources import read_adapter_base

DEEP = {"lists": "[" * 100_000, "objects": '{"a":' * 100_000, "closed": "[" * 900 + "]" * 900}
Spoil = Callable[..., Path]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    loaded = build(compose(["model=tiny"]).run.model, torch.float32)
    folder = tmp_path_factory.mktemp("sound")
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def spoil(sound: Path, tmp_path: Path) -> Spoil:
    """`spoil(name, text)` or `spoil(name, field=value)`: a copy of a sound folder with one file changed."""

    def change(name: str, text: str | None = None, **fields: Any) -> Path:
        shutil.copytree(sound, tmp_path / "m")
        if text is None:
            path = sound / name
            text = json.dumps((json.loads(path.read_text()) if path.exists() else {}) | fields)
        (tmp_path / "m" / name).write_text(text)
        return tmp_path / "m"

    return change


def load_run_start(run: RunConfig, dtypes: Dtypes) -> Loaded:
    return load_start(run.model, run.method, run.stage.gives_rewards, dtypes)


def refusal(folder: Path) -> str:
    """What `plan` and `train` say of a folder: both refuse it, in one bounded line."""
    said = []
    for function in (outline_model, load_run_start):
        run = compose(["model=hf", f"model.path={folder}", "precision=fp32", "method.rank=2"]).run
        dtypes = settle(run.precision, "cpu")
        with pytest.raises(ModelError) as caught:
            function(run, dtypes)
        said.append(str(caught.value))
    assert all("\n" not in line and len(line) < 1200 for line in said)
    return said[0]


@pytest.mark.parametrize("name", sorted(validate.FIELDS.keys() - {"adapter_config.json"}))
@pytest.mark.parametrize("text", ["[]", "null", "7", '"x"', "", "{", *DEEP.values()], ids=[*"[n7xe{", *DEEP])
def test_a_file_that_is_no_object_is_named(name: str, text: str, spoil: Spoil) -> None:
    folder = spoil(name, text)
    reasons = "expected a JSON object, found|not JSON|nested more than 64 levels deep"
    with pytest.raises(ModelError, match=rf"{name}: ({reasons})"):
        check_folder(folder)


CONFIGS: dict[str, dict[str, Any]] = {
    "'num_hidden_layers'": {"num_hidden_layers": "two"},
    "'vocab_size'": {"vocab_size": 0},
    "num_attention_heads": {"num_attention_heads": 0},
    "not a multiple of the number of attention heads": {"num_attention_heads": 7},
    "'architectures'": {"architectures": 5},
    "'quantization_config'": {"quantization_config": [1]},
    "'dtype'": {"dtype": "os.system"},
    "'max_position_embeddings'": {"max_position_embeddings": None},
    "'rope_parameters'": {"rope_parameters": "x"},
    "'tie_word_embeddings'": {"tie_word_embeddings": "maybe"},
    "TypeError": {"rope_parameters": {"rope_type": "default", "rope_theta": "x"}},
    "ZeroDivisionError": {"head_dim": 0},
    "even rotary dimension": {"head_dim": 7},
    "Padding_idx": {"pad_token_id": 10**9},
    "'auto_map'": {"auto_map": 5},
    "'id2label'": {"id2label": 5},
    "'text_config'": {"text_config": 5},
    "to_dict": {"text_config": {}},
    "'zzz'": {"hidden_act": "zzz"},
    "expected bool": {"use_cache": "x"},
    "'hidden_size'": {"hidden_size": 1.5},
}


@pytest.mark.parametrize("expected", CONFIGS)
def test_a_field_of_config_json_that_cannot_be(expected: str, spoil: Spoil) -> None:
    assert expected in refusal(spoil("config.json", **CONFIGS[expected]))


TOKENIZERS: dict[str, dict[str, Any]] = {
    "'model_max_length'": {"model_max_length": "many"},
    "found nan": {"model_max_length": float("nan")},
    "found inf": {"model_max_length": float("inf")},
    "'eos_token'": {"eos_token": 7},
    "'pad_token'": {"pad_token": {"content": 7}},
    "'tokenizer_class'": {"tokenizer_class": 5},
    "'added_tokens_decoder'": {"added_tokens_decoder": {"x": 1}},
    "'extra_special_tokens'": {"extra_special_tokens": 5},
    "'chat_template'": {"chat_template": {"a": 1}},
    "'model_input_names'": {"model_input_names": 5},
    "Padding side": {"padding_side": "up"},
}


@pytest.mark.parametrize("expected", TOKENIZERS)
def test_a_field_of_tokenizer_config_json_that_cannot_be(expected: str, spoil: Spoil) -> None:
    assert expected in refusal(spoil("tokenizer_config.json", **TOKENIZERS[expected]))


@pytest.mark.parametrize(
    "text", ["[]", "null", "{}", "7", DEEP["lists"]], ids=["list", "null", "empty", "number", "deep"]
)
def test_a_tokenizer_json_that_is_none(text: str, spoil: Spoil) -> None:
    assert "cannot be loaded as a causal language model" in refusal(spoil("tokenizer.json", text))


def test_a_generation_config_is_looked_at_by_plan_too(spoil: Spoil) -> None:
    assert "generation_config.json: field 'temperature': expected a finite number, found 'hot'" in refusal(
        spoil("generation_config.json", temperature="hot"))


LARGE = {
    "num_hidden_layers": 10**9,
    "vocab_size": 10**12,
    "hidden_size": 10**9,
    "intermediate_size": 10**12,
    "num_attention_heads": 10**9,
    "head_dim": 10**12,
    "num_local_experts": 10**7,
    "max_position_embeddings": 10**30,
}


@pytest.mark.parametrize("field", LARGE)
def test_a_shape_that_no_machine_builds_is_refused_before_it_is_built(field: str, spoil: Spoil) -> None:
    folder = spoil("config.json", **{field: LARGE[field]})
    with pytest.raises(ModelError, match=rf"config\.json: field '{field}': .* which no model has"):
        check_folder(folder)
    nested = spoil_nested({"text_config": {field: LARGE[field]}})
    assert field in nested


def spoil_nested(config: dict[str, Any]) -> str:
    with pytest.raises(ModelError) as caught:
        check_sizes(config, "hub/model")
    return str(caught.value)


def test_a_shape_that_its_weight_files_cannot_hold_is_refused(spoil: Spoil) -> None:
    folder = spoil(
        "config.json", num_hidden_layers=500, hidden_size=16384, intermediate_size=32768, num_attention_heads=64
    )
    with pytest.raises(
        ModelError,
        match=r"about 1e\+12 parameters, and its weight files have [\d,]+ bytes: they do not belong together",
    ):
        check_folder(folder)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    check_folder(folder)  # a large model's config alone is good for a plan
    with pytest.raises(ModelError, match=r"more than can be built"):
        check_sizes({"hidden_size": 1 << 24, "num_hidden_layers": 500, "vocab_size": 10}, folder)


def test_the_largest_published_shapes_are_no_fault() -> None:
    kimi = {
        "hidden_size": 7168,
        "num_hidden_layers": 61,
        "n_routed_experts": 384,
        "moe_intermediate_size": 2048,
        "vocab_size": 163_840,
        "num_attention_heads": 64,
        "max_position_embeddings": 262_144,
        "intermediate_size": 18_432,
    }
    llama = {"hidden_size": 16_384, "num_hidden_layers": 126, "intermediate_size": 53_248, "vocab_size": 128_256}
    check_sizes(kimi, "kimi", on_disk=10**12)
    check_sizes(llama, "llama", on_disk=200 * 10**9)


def test_a_large_template_or_tokenizer_is_not_read(spoil: Spoil, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "MOST_TEMPLATE", 1000)
    folder = spoil("chat_template.jinja", "x" * 1001)
    with pytest.raises(ModelError, match=r"chat_template\.jinja has 0 MB, at most"):
        check_folder(folder)
    (folder / "chat_template.jinja").write_text("x")
    monkeypatch.setattr(validate, "MOST_TOKENIZER", 1000)
    with pytest.raises(ModelError, match=r"tokenizer\.json has"):
        check_folder(folder)


# -- adapters ---------------------------------------------------------------------------------------------------------


def adapter(folder: Path, **fields: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8} | fields))
    return folder


def test_an_adapter_on_itself_and_a_ring_of_adapters(tmp_path: Path) -> None:
    itself = adapter(tmp_path / "itself", base_model_name_or_path=str(tmp_path / "itself"))
    one, two = (
        adapter(tmp_path / name, base_model_name_or_path=str(tmp_path / other))
        for name, other in (("a", "b"), ("b", "a"))
    )
    for folder in (itself, one, two):
        assert Hf(path=str(folder)).billions() is None
        with pytest.raises(ModelError, match="leads to an adapter again and never to a model"):
            read_adapter_base(folder)
        with pytest.raises(ModelError, match="leads to an adapter again"):
            compose_and_outline(folder)


def compose_and_outline(folder: Path) -> None:
    run = compose(["model=hf", f"model.path={folder}", "precision=fp32"]).run
    outline_model(run, settle(run.precision, "cpu"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_model_name_or_path", 7),
        ("base_model_name_or_path", ["x"]),
        ("r", "four"),
        ("r", -1),
        ("r", 10**9),
        ("lora_alpha", "x"),
        ("target_modules", 7),
        ("peft_type", 7),
        ("rank_pattern", []),
    ],
)
def test_a_field_of_adapter_config_json_that_cannot_be(field: str, value: Any, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", **{"base_model_name_or_path": "nobody/nothing", field: value})
    with pytest.raises(ModelError, match=rf"adapter_config\.json: field '{field}': expected .*, found") as caught:
        compose_and_outline(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "null", *DEEP.values()], ids=["list", "null", *DEEP])
def test_an_adapter_config_that_is_no_object(text: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"adapter_config\.json: (expected a JSON object|nested more)"):
        compose_and_outline(tmp_path)


def test_an_adapter_on_an_adapter_names_its_base(tmp_path: Path) -> None:
    lower = adapter(tmp_path / "lower", base_model_name_or_path="owner/name")
    assert find_base_of_adapter(adapter(tmp_path / "upper", base_model_name_or_path=str(lower))) == str(lower)


def test_runs_that_begin_from_each_other_have_no_size(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        origin = {"choices": {"model": "hf"}, "knobs": {"model.path": {"value": str(tmp_path / other)}}}
        (tmp_path / name / "provenance.json").write_text(json.dumps(origin))
    assert Hf(path=str(tmp_path / "a")).billions() is None
    for text in (
        '{"choices": [], "knobs": 7}',
        '{"choices": {"model": "hf"}, "knobs": {"model.path": 7}}',
        "[]",
        DEEP["lists"],
    ):
        (tmp_path / "a" / "provenance.json").write_text(text)
        assert Hf(path=str(tmp_path / "a")).billions() is None


def test_depth_is_counted_without_recursion(tmp_path: Path) -> None:
    assert [count_depth(value) for value in (7, [], {"a": [1]}, [[[]], 1])] == [0, 1, 2, 3]
    value: Any = 1
    for _ in range(MOST_DEPTH):
        value = [value]
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json") == value
    (tmp_path / "a.json").write_text(json.dumps([value]))
    with pytest.raises(ValueError, match="nested more than"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match="at most 0 MB are read"):
        read_json(tmp_path / "a.json", most_bytes=10)
