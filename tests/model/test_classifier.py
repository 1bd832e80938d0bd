"""An existing reward model is trained on with its own head; what has another head is refused by name, in `plan` too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPTNeoXConfig,
    MixtralConfig,
    PreTrainedModel,
    Qwen2Config,
)

from fulgurite.config.compose import compose
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import build
from fulgurite.errors import ModelError
from fulgurite.model.config import Hf
from fulgurite.model.load import Loaded
from fulgurite.model.reward_head import check_head, compute_rewards, get_head
from fulgurite.plan.meta_model import outline_model
from fulgurite.precision.policy import Dtypes
from fulgurite.precision.policy import build as settle
from fulgurite.run.input_hashes import hash_inputs
from fulgurite.run.load import load_named, load_start

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing.*:FutureWarning"
)  # peft asks by the old name

IDS = torch.arange(3, 63).reshape(2, 30)
SMALL: dict[str, Any] = {"vocab_size": 512, "pad_token_id": 0, "num_labels": 1}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model as transformers saves it, under a random head."""
    loaded = build(compose(["model=tiny"]).run.model, torch.float32)
    folder = tmp_path_factory.mktemp("saved")
    loaded.model.save_pretrained(folder / "causal")
    torch.manual_seed(5)
    AutoModelForSequenceClassification.from_pretrained(folder / "causal", num_labels=1).save_pretrained(folder / "m")
    loaded.tokenizer.save_pretrained(folder / "m")
    return folder / "m"


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "m"))


def edit(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@torch.no_grad()
def theirs(model: Any) -> torch.Tensor:
    """The logits of transformers' own forward, without padding."""
    found: torch.Tensor = torch.cat([model.eval()(input_ids=row[None]).logits[0] for row in IDS])
    return found


@torch.no_grad()
def ours(model: Any) -> torch.Tensor:
    return compute_rewards(model.eval(), IDS, torch.tensor([30, 30]))


def run_of(folder: Path, *words: str) -> Any:
    return compose(
        [
            "stage=rm",
            "data=guide_preference",
            "model=hf",
            f"model.path={folder}",
            "precision=fp32",
            "method=full",
            *words,
        ]
    ).run


def test_the_head_of_a_reward_model_is_the_one_that_trains(folder: Path) -> None:
    run = run_of(folder)
    model = load_start(run.model, run.method, run.stage.gives_rewards, settle(run.precision, "cpu")).model
    expected = AutoModelForSequenceClassification.from_pretrained(folder)
    torch.testing.assert_close(ours(model), theirs(expected), rtol=1e-5, atol=1e-6)
    assert torch.equal(get_head(model).weight, expected.score.weight)
    assert float(ours(model).abs().min()) > 1e-3


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, **SMALL),
        GPTNeoXConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, **SMALL),
        Qwen2Config(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=64,
            **SMALL,
        ),
        MixtralConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=64,
            num_local_experts=4,
            **SMALL,
        ),
    ],
    ids=lambda config: config.model_type,
)
def test_other_architectures_are_read_with_their_heads(config: Any, folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    made = AutoModelForSequenceClassification.from_config(config).eval()
    shutil.copytree(folder, tmp_path / "other", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    made.save_pretrained(tmp_path / "other")
    run = run_of(tmp_path / "other")
    dtypes = settle(run.precision, "cpu")
    torch.testing.assert_close(
        ours(load_start(run.model, run.method, run.stage.gives_rewards, dtypes).model),
        theirs(made),
        rtol=1e-5,
        atol=1e-6,
    )
    assert outline_model(run, dtypes)[1].parameters == sum(p.numel() for p in made.parameters())


def load_run_start(run: RunConfig, dtypes: Dtypes) -> Loaded:
    return load_start(run.model, run.method, run.stage.gives_rewards, dtypes)


def refused(folder: Path, said: str, *words: str) -> None:
    """Loading and plan refuse the folder alike."""
    run = run_of(folder, *words)
    dtypes = settle(run.precision, "cpu")
    for ask in (load_run_start, outline_model):
        with pytest.raises(ModelError, match=said) as caught:
            ask(run, dtypes)
        assert "\n" not in str(caught.value)


def test_a_classifier_of_more_labels_is_refused_with_their_names(folder: Path) -> None:
    edit(folder / "config.json", id2label={"0": "bad", "1": "good"}, label2id={"bad": 0, "good": 1})
    refused(folder, r"is a classifier with 2 labels \(bad, good\), and a reward model has one")
    edit(folder / "config.json", id2label=None, label2id=None)
    refused(folder, r"is a classifier with 2 labels \(LABEL_0, LABEL_1\)")


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    kept = load_file(folder / "model.safetensors") | {
        name.replace("__", "."): tensor for name, tensor in tensors.items()
    }
    save_file(
        {name: t for name, t in kept.items() if t is not None}, folder / "model.safetensors", metadata={"format": "pt"}
    )


def test_a_head_with_a_bias_is_refused(folder: Path) -> None:
    change(folder, score__bias=torch.ones(1))
    refused(
        folder,
        r"has a bias in its reward head \(score\.bias\), and LlamaForSequenceClassification of transformers has none",
    )


def test_a_head_is_never_random(folder: Path) -> None:
    change(folder, score__weight=None)
    run = run_of(folder)
    with pytest.raises(ModelError, match=r"Missing: score\.weight"):
        load_start(run.model, run.method, run.stage.gives_rewards, settle(run.precision, "cpu"))
    change(folder, score__weight=torch.ones(2, 64))
    with pytest.raises(ModelError, match=r"Of another shape: score\.weight"):
        load_start(run.model, run.method, run.stage.gives_rewards, settle(run.precision, "cpu"))


def test_a_head_that_is_not_one_linear_layer_is_refused(saved: Path) -> None:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(saved)
    check_head(model)
    inner = type(model).forward

    class Bent(type(model)):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out = inner(self, *args, **kwargs)
            out.logits = out.logits.tanh() * 2
            return out

    model.__class__ = Bent
    with pytest.raises(ModelError, match="Bent computes more than one linear head on the last hidden state"):
        check_head(model)


def test_other_stages_refuse_it_with_the_remedy(folder: Path) -> None:
    run = compose(["stage=sft", "model=hf", f"model.path={folder}"]).run
    for ask in (load_run_start, outline_model):
        with pytest.raises(
            ModelError, match=r"is a reward model or classifier, which cannot generate .*stage=rm, .*stage\.reward="
        ):
            ask(run, settle(run.precision, "cpu"))


def adapter(folder: Path, out: Path, labels: int = 1) -> Path:
    """An adapter of a classifier as peft and TRL save it: over the causal model, with its head."""
    from peft import LoraConfig, get_peft_model

    causal = folder.parent / "causal"
    if not causal.exists():
        AutoModelForCausalLM.from_config(
            AutoModelForSequenceClassification.from_pretrained(folder).config
        ).save_pretrained(causal)
        shutil.copytree(
            folder, causal, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors", "config.json")
        )
    base = AutoModelForSequenceClassification.from_pretrained(causal, num_labels=labels)
    base.config.name_or_path = str(causal)
    wrapped = get_peft_model(
        base, LoraConfig(r=2, target_modules=["q_proj"], task_type="SEQ_CLS", init_lora_weights=False)
    )
    wrapped.peft_config["default"].base_model_name_or_path = str(causal)
    wrapped.save_pretrained(out)
    return out


def test_an_adapter_with_its_head_is_merged_with_it(folder: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForSequenceClassification

    torch.manual_seed(2)
    place = adapter(folder, tmp_path / "a")
    expected = AutoPeftModelForSequenceClassification.from_pretrained(place, num_labels=1)
    run = run_of(place)
    torch.testing.assert_close(
        ours(load_start(run.model, run.method, run.stage.gives_rewards, settle(run.precision, "cpu")).model),
        theirs(expected),
        rtol=1e-5,
        atol=1e-5,
    )
    assert outline_model(run, settle(run.precision, "cpu"))[1].trained > 0
    with pytest.raises(ModelError, match="which cannot generate text; train it further with stage=rm"):
        load_named(Hf(path=str(place)), torch.float32)
    before = hash_inputs(run.model, run.method, run.stage)
    assert {"weights", "tokenizer"} <= set(before)
    kept = load_file(place / "adapter_model.safetensors")
    save_file(
        {n: t + 1 if "score" in n else t for n, t in kept.items()},
        place / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    assert hash_inputs(run.model, run.method, run.stage)["weights"] != before["weights"]


def test_an_adapter_of_more_labels_or_without_its_head_is_refused(folder: Path, tmp_path: Path) -> None:
    refused(
        adapter(folder, tmp_path / "two", labels=2),
        "is the adapter of a classifier with 2 labels, and a reward model has one",
    )
    place = adapter(folder, tmp_path / "one")
    kept = load_file(place / "adapter_model.safetensors")
    save_file(
        {n: t for n, t in kept.items() if "score" not in n},
        place / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    refused(place, r"adapter_model\.safetensors has no score\.weight, the head of its reward model")


def test_a_changed_head_is_another_input(folder: Path) -> None:
    run = run_of(folder)
    before = hash_inputs(run.model, run.method, run.stage)["weights"]
    change(folder, score__weight=torch.ones(1, 64))
    assert hash_inputs(run.model, run.method, run.stage)["weights"] != before


def test_new_tokens_are_added_to_a_reward_model(folder: Path) -> None:
    run = run_of(folder, "model.add_tokens=['<mark>']")
    loaded = load_start(run.model, run.method, run.stage.gives_rewards, settle(run.precision, "cpu"))
    assert loaded.model.get_input_embeddings().weight.shape[0] > max(loaded.model.new_token_ids)
