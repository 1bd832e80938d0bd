"""Every method: what it trains, that it begins as the base, trains, resumes bit for bit, and exports what it
trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import losses, rows, tiny, weights
from transformers import AutoModelForCausalLM

from fulgurite.config.compose import compose
from fulgurite.config.run import load_options
from fulgurite.config.schema import build, list_options
from fulgurite.errors import ConfigError, RequestError
from fulgurite.export.model import export_main, load_run
from fulgurite.plan.preflight import refuse_impossible
from fulgurite.precision.policy import build as settle

IDS = torch.arange(3, 63).reshape(2, 30)

METHODS: dict[str, tuple[str, ...]] = {
    "full": (), "freeze": ("method.trainable=last:1", "method.extra_trainable=[norms]"),
    "layerwise": ('method.rules=["last:1 full","rest lora rank=4"]',),
    "lora": (), "qlora": (), "oft": ("method.block=16",), "ia3": (), "vera": (), "llama_pro": ("method.blocks=1",),
    "rslora": (), "dora": (), "pissa": (), "lora_plus": (),
}
"""Every option and preset, with what the two layers of the tiny model need."""

RATES = {"full": 1e-2, "llama_pro": 3e-2, "ia3": 0.1, "vera": 0.1, "oft": 2e-2, "pissa": 5e-3}


def made(method: str, *words: str, precision: str = "fp32") -> Any:
    """The model of a method, before any step."""
    run = compose(["model=tiny", f"method={method}", f"precision={precision}", *METHODS.get(method, ()), *words]).run
    dtypes = settle(run.precision, "cpu")
    torch.manual_seed(4)
    return build(
        run.method, build(run.model, dtypes.trained if run.method.loads_trained else dtypes.frozen).model, dtypes
    ).eval()


def base() -> Any:
    return build(compose(["model=tiny"]).run.model, torch.float32).model.eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


def test_every_method_and_preset_is_in_this_file() -> None:
    load_options()
    presets = {p.stem for p in Path("conf/method").glob("*.yaml")}
    assert set(METHODS) == presets
    assert len(list_options("method")) == 9
    assert len(METHODS) == 13


@pytest.mark.parametrize("method", sorted(METHODS))
def test_it_begins_as_the_base(method: str) -> None:
    # vera's vectors begin at a tenth and zero; pissa's base and adapter add up; llama_pro's copies add nothing
    reference = base()
    if method == "qlora":
        from fulgurite.method.qlora import quantise

        run = compose(["model=tiny", "method=qlora", "precision=fp32"]).run
        dtypes = settle(run.precision, "cpu")
        reference = quantise(run.method, reference, dtypes)
    torch.testing.assert_close(logits(made(method)), logits(reference), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_it_lowers_the_loss(tmp_path: Path, method: str) -> None:
    rate = RATES.get(method, 1e-2)
    words = [f"method={method}", *METHODS[method], f"optim.lr={rate}", "trainer.max_steps=25", "scheduler=constant"]
    found = losses(tiny(tmp_path, *words))
    assert len(found) == 25
    assert sum(found[-3:]) / 3 < sum(found[:3]) / 3 - 0.05


@pytest.mark.parametrize("method", sorted(METHODS))
def test_stopped_and_resumed_it_is_the_run_that_went_through(tmp_path: Path, method: str) -> None:
    words = [f"method={method}", *METHODS[method], "optim.lr=1e-2", "scheduler=constant", "trainer.save_every=2",
        "trainer.keep_checkpoints=5"]
    whole = tiny(tmp_path / "whole", *words, "trainer.max_steps=4")
    part = tiny(tmp_path / "part", *words, "trainer.max_steps=2")
    tiny(part, *words, "trainer.max_steps=4", "resume.allow=[trainer.max_steps]")
    assert rows(part) == rows(whole)
    assert weights(part).keys() == weights(whole).keys()
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(part)[name], tensor), name


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_export_is_what_was_trained(tmp_path: Path, method: str) -> None:
    run = tiny(
        tmp_path / "run",
        f"method={method}",
        *METHODS[method],
        f"optim.lr={RATES.get(method, 1e-2)}",
        "trainer.max_steps=5",
    )
    assert export_main([f"run={run}", f"out={tmp_path / 'out'}"]) == 0
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    theirs = logits(plain)
    torch.testing.assert_close(theirs, logits(load_run(run, exact=True).model), rtol=1e-4, atol=1e-4)
    assert (theirs - logits(base())).abs().max() > 1e-3  # something was learned


def trains(model: Any) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_freeze_says_in_a_table_what_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Module, layers, parameters and share, each counted here by hand on the model itself."""
    folder = tiny(tmp_path, "model.layers=4", "method=freeze", "method.trainable='layers:0,2-3'",
        "method.extra_trainable=[norms]", "trainer.max_steps=1")
    model = build(compose(["model=tiny", "model.layers=4"]).run.model, torch.float32).model
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    whole = sum(sizes.values())
    lines = capsys.readouterr().err.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split() == ["module", "layers", "parameters", "share"])
    found: dict[str, list[str]] = {}
    for line in lines[start + 1 :]:
        if line.startswith("  ") and line.rstrip().endswith("%"):
            found[line.split()[0]] = line.split()[1:]
        else:
            break
    for part in ("self_attn.q_proj", "mlp.down_proj"):
        count = sum(n for name, n in sizes.items() if f".{part}.weight" in name and ".layers.1." not in name)
        assert found[part] == ["0,2-3", f"{count:,}", f"{count / whole:.2%}"]
    norms = sum(n for name, n in sizes.items() if "input_layernorm" in name)
    assert found["input_layernorm"] == ["0-3", f"{norms:,}", f"{norms / whole:.2%}"]
    assert found["norm"] == [f"{sizes['model.norm.weight']:,}", f"{sizes['model.norm.weight'] / whole:.2%}"]
    assert sum(int(row[-2].replace(",", "")) for row in found.values()) == sum(
        p.numel() for p in weights(folder).values()
    )
    assert "embed_tokens" not in found


def test_freeze_trains_what_it_names_and_nothing_else() -> None:
    assert all(".layers.1." in name for name in trains(made("freeze", "method.trainable=last:1",
        "method.extra_trainable=[]")))
    assert all(".layers.0." in name for name in trains(made("freeze", "method.trainable=first:1",
        "method.extra_trainable=[]")))
    assert trains(made("freeze", "method.trainable=layers:0-1",
        "method.extra_trainable=[]")) == {n for n, _ in base().named_parameters() if "layers" in n}
    assert trains(made("freeze", "method.trainable=mlp",
        "method.extra_trainable=[]")) == {n for n, _ in base().named_parameters() if ".mlp." in n}
    also = trains(made("freeze", "method.trainable='*.q_proj.*'", "method.extra_trainable=[embeddings,norms]"))
    assert also == {n for n, _ in base().named_parameters() if "q_proj" in n or "embed" in n or "norm" in n}


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("last:3", "must be 1 to 2"),
        ("layers:1-5", "lies outside this model's layers, 0 to 1"),
        ("layers:x", "x is no layer"),
        ("mlq", "matches nothing of the model.*Did you mean mlp"),
        ("last:0", "must be 1 to 2"),
    ],
)
def test_a_place_that_is_nowhere_is_an_error(place: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        made("freeze", f"method.trainable='{place}'")


@pytest.mark.parametrize(
    ("rules", "says"),
    [(["last:1 full", "layers:1 lora"], "overlap at"), (["nowhere full"], "matches nothing"),
     (["last:1 frozen"], "nothing is trained"), (["last:1 ful"], "Did you mean full"),
     (["last:1 full rank=3"], "rank=3 means nothing for full"), (["last:1 lora rank=x"], "not a number"),
     (["all full", "rest lora"], "left with no layer"), (["norm lora"], "finds no linear layer"),
     (["rest full", "rest lora"], "one rule only")],
)
def test_rules_that_cannot_be_are_errors(rules: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        made("layerwise", f"method.rules={json.dumps(rules)}")


def test_layerwise_gives_each_part_its_rate_and_kind() -> None:
    from fulgurite.optim.param_groups import get_rate_scale

    rules = 'method.rules=["layers:1 full lr=0.5","layers:0 lora rank=4 alpha=12","embed_tokens frozen"]'
    model = made("layerwise", rules, "method.layer_decay=0.8")
    scales = {name: get_rate_scale(p) for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split("layers.")[1][0] for name in scales} == {"0", "1"}
    for name, scale in scales.items():
        assert ("lora_" in name) == ("layers.0." in name)
        assert scale == pytest.approx(10 * 0.8 if "layers.0." in name else 0.5)
    layer = model.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
    assert (layer.r["default"], layer.scaling["default"]) == (4, 3.0)


def test_lora_plus_moves_b_at_its_ratio(tmp_path: Path) -> None:
    # Adam's first step is the rate times the sign of the gradient, so the largest entry moves by exactly the rate
    from fulgurite.optim.param_groups import get_rate_scale

    model = made("lora_plus")
    scales = {get_rate_scale(p) for name, p in model.named_parameters() if "lora_B" in name}
    assert scales == {16.0}
    folder = tiny(tmp_path, "method=lora_plus", "optim.lr=1e-3", "trainer.max_steps=1", "scheduler=constant")
    moved = max(float(t.abs().max()) for name, t in weights(folder).items() if "lora_B" in name)
    assert moved == pytest.approx(16e-3, rel=1e-3)
    assert [row["train/lr"] for row in rows(folder) if "train/lr" in row] == [pytest.approx(1e-3)]


def test_rslora_and_dora_are_their_formulas() -> None:
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
    for variant in ("rslora", "dora"):
        model = made("lora", f"method.variant={variant}", "method.rank=4", "method.alpha=8")
        layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.05)
        a, b, w = layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.base_layer.weight
        with torch.no_grad():
            if variant == "rslora":
                expected = x @ (w + 8 / 4**0.5 * b @ a).T
            else:  # the length of each output's row is learned, and begins at that of the base
                direction = w + 8 / 4 * b @ a
                expected = x @ (w.norm(dim=1, keepdim=True) * direction / direction.norm(dim=1, keepdim=True)).T
            torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def scrambled(model: Any, layer: str) -> tuple[Any, torch.Tensor]:
    """A layer whose trained parameters are random, and inputs for it."""
    found = model.get_submodule(f"base_model.model.model.layers.0.{layer}")
    generator = torch.Generator().manual_seed(6)
    for parameter in found.parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return found, torch.randn(5, found.in_features, generator=generator)


@torch.no_grad()
def test_oft_rotates_blocks_of_the_inputs_by_cayleys_transform() -> None:
    layer, x = scrambled(made("oft", "method.block=16"), "self_attn.q_proj")
    upper = layer.oft_R["default"].weight
    assert upper.shape == (4, 16 * 15 // 2)
    rotations = []
    for numbers in upper:
        skew = torch.zeros(16, 16)
        skew[torch.triu_indices(16, 16, 1).unbind()] = numbers
        skew = skew - skew.T
        rotations.append(torch.linalg.inv(torch.eye(16) + skew) @ (torch.eye(16) - skew))  # the two factors commute
    whole = torch.block_diag(*rotations)
    torch.testing.assert_close(whole @ whole.T, torch.eye(64), rtol=0, atol=1e-5)  # lengths and angles stay
    torch.testing.assert_close(layer(x), x @ whole @ layer.base_layer.weight.T, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_ia3_scales_outputs_of_keys_and_values_and_inputs_of_the_feed_forward() -> None:
    model = made("ia3")
    adapted = {
        name.split("layers.0.")[1] for name, m in model.named_modules() if hasattr(m, "ia3_l") and ".layers.0." in name
    }
    assert adapted == {"self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"}
    for name in adapted:
        layer, x = scrambled(model, name)
        scale = layer.ia3_l["default"].flatten()
        weight = layer.base_layer.weight
        expected = (x * scale) @ weight.T if name == "mlp.down_proj" else (x @ weight.T) * scale
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_vera_learns_two_vectors_between_shared_random_matrices() -> None:
    model = made("vera", "method.rank=8")
    layer, x = scrambled(model, "mlp.up_proj")
    d, b = layer.vera_lambda_d["default"], layer.vera_lambda_b["default"]
    assert (d.shape, b.shape) == ((8,), (128,))
    a_matrix, b_matrix = layer.vera_A["default"][:, : layer.in_features], layer.vera_B["default"][: layer.out_features]
    expected = x @ layer.base_layer.weight.T + ((x @ a_matrix.T) * d @ b_matrix.T) * b
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    other = model.get_submodule("base_model.model.model.layers.1.mlp.up_proj")
    assert other.vera_A["default"].data_ptr() == layer.vera_A["default"].data_ptr()


def test_the_quantised_base_is_bitsandbytes_own_numbers_and_loftq_makes_up_for_them() -> None:
    import bitsandbytes as bnb

    from fulgurite.method.qlora import dequantise

    name = "model.layers.0.self_attn.q_proj"
    original = base().get_submodule(name).weight.data
    layer = made("qlora").get_submodule(f"base_model.model.{name}")
    packed, state = bnb.functional.quantize_4bit(original.bfloat16(), quant_type="nf4", compress_statistics=True)
    assert torch.equal(dequantise(layer.base_layer), bnb.functional.dequantize_4bit(packed, state))
    loft = made("qlora", "method.init=loftq", "method.rank=8").get_submodule(f"base_model.model.{name}")
    plain = (dequantise(loft.base_layer).float() - original).norm()
    with torch.no_grad():
        better = (
            dequantise(loft.base_layer).float()
            + loft.scaling["default"] * loft.lora_B["default"].weight @ loft.lora_A["default"].weight
        )
    lost = torch.linalg.svdvals(original.bfloat16().float() - dequantise(loft.base_layer).float())
    # the best of rank 8
    assert float((better - original.bfloat16().float()).norm()) == pytest.approx(float(lost[8:].norm()), rel=1e-3)
    assert float((better - original).norm()) < 0.9 * float(plain)


def test_pissa_takes_the_strongest_part_out_of_the_base() -> None:
    name = "model.layers.0.self_attn.q_proj"
    original = base().get_submodule(name).weight.data
    layer = made("pissa", "method.rank=4").get_submodule(f"base_model.model.{name}")
    with torch.no_grad():
        adapter = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    u, s, v = torch.linalg.svd(original)
    torch.testing.assert_close(adapter, u[:, :4] * s[:4] @ v[:4], rtol=1e-3, atol=1e-5)


def test_block_expansion_doubles_what_is_between_and_the_new_layers_alone_learn() -> None:
    model = made("llama_pro", "method.blocks=2")
    assert model.config.num_hidden_layers == 4
    assert {name.split("layers.")[1][0] for name in trains(model)} == {"1", "3"}
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="cannot be spread over 2 layers; take one of 1, 2"):
        made("llama_pro", "method.blocks=3")


def test_an_adapter_is_trained_further_or_stacked_upon(tmp_path: Path) -> None:
    first = tiny(tmp_path / "first", "method.rank=4", "optim.lr=1e-2", "trainer.max_steps=5")
    assert export_main([f"run={first}", f"out={tmp_path / 'adapter'}", "merge=false"]) == 0
    was = logits(load_run(first, "last", exact=True).model)
    start = f"method.adapter_path={tmp_path / 'adapter'}"
    torch.testing.assert_close(logits(made("lora", "method.rank=4", start)), was, rtol=1e-4, atol=1e-5)
    stacked = made("lora", "method.rank=8", start, "method.adapter_mode=stack")
    torch.testing.assert_close(logits(stacked), was, rtol=1e-4, atol=1e-5)
    assert (
        float(
            stacked.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
            .lora_B["default"]
            .weight.detach()
            .abs()
            .max()
        )
        == 0
    )
    with pytest.raises(ConfigError, match="is not an adapter of these knobs"):
        made("lora", "method.rank=8", start)
    second = tiny(tmp_path / "second", "method.rank=8", start, "method.adapter_mode=stack", "optim.lr=1e-2")
    with pytest.raises(RequestError, match="merge=false cannot be: this run stands on another adapter"):
        export_main([f"run={second}", f"out={tmp_path / 'no'}", "merge=false"])
    assert export_main([f"run={second}", f"out={tmp_path / 'yes'}"]) == 0


def test_an_adapter_on_four_bits_is_exported_apart_and_says_what_the_run_said(tmp_path: Path) -> None:
    run = tiny(tmp_path / "run", "method=qlora", "optim.lr=1e-2", "trainer.max_steps=3")
    assert export_main([f"run={run}", f"out={tmp_path / 'adapter'}", "merge=false"]) == 0
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("method", ["layerwise", "pissa"])
def test_what_changes_the_base_is_not_exported_apart(tmp_path: Path, method: str) -> None:
    run = tiny(tmp_path / "run", f"method={method}", *METHODS[method])
    with pytest.raises(RequestError, match="export with merge=true"):
        export_main([f"run={run}", f"out={tmp_path / 'out'}", "merge=false"])


def test_ranks_and_scales_by_pattern_and_modules_saved_whole() -> None:
    model = made(
        "lora",
        "method.rank=4",
        "+method.rank_pattern={layers.0.mlp.up_proj:2}",
        "+method.alpha_pattern={layers.0.mlp.up_proj:3}",
        "method.modules_to_save=[norm]",
        "method.targets=['*.layers.0.*']",
    )
    layer = model.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
    assert (layer.r["default"], layer.scaling["default"]) == (2, 1.5)
    names = trains(model)
    assert any("norm.modules_to_save" in name for name in names)
    assert not any("layers.1." in name for name in names)
    with pytest.raises(ConfigError, match=r"is no module with weights\..*Did you mean norm"):
        made("lora", "method.modules_to_save=[nrm]")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["method=lora", "method.init=loftq"], "take method=qlora"),
        (["method=qlora", "method.init=pissa"], "four bits cannot hold"),
        (["method=dora", "method.init=olora"], "both change the base"),
        (["method=lora", "method.init=pissa", "method.adapter_path=x"], "brings its own"),
    ],
)
def test_what_cannot_stand_together_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "adapter_config.json").write_text('{"base_model_name_or_path": "base", "r": 4}')
    (tmp_path / "x" / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=says):
        tiny(tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


UNFREEZE = [
    "method=layerwise",
    'method.rules=["all full"]',
    "method.unfreeze_every=2",
    "optim.lr=1e-2",
    "scheduler=constant",
]


def test_layers_thaw_from_the_top_and_a_resumed_run_knows_which(tmp_path: Path) -> None:
    words = [*UNFREEZE, "trainer.save_every=1", "trainer.keep_checkpoints=9"]
    whole = tiny(tmp_path / "whole", *words, "trainer.max_steps=4")
    start, early, late = dict(base().named_parameters()), weights(whole, "step-2"), weights(whole, "step-4")

    def moved(now: dict[str, torch.Tensor], part: str) -> set[bool]:
        return {not torch.equal(now[f"model.{name}"], tensor) for name, tensor in start.items() if part in name}

    assert moved(early, "layers.1.") == {True}
    assert moved(early, "model.norm") == {True}
    assert moved(early, "layers.0.") == {False}
    assert moved(early, "embed_tokens") == {False}
    assert moved(late, "layers.0.") == {True}
    assert moved(late, "embed_tokens") == {True}
    part = tiny(tmp_path / "part", *words, "trainer.max_steps=1")
    tiny(part, *words, "trainer.max_steps=3", "resume.allow=[trainer.max_steps]")
    tiny(part, *words, "trainer.max_steps=4", "resume.allow=[trainer.max_steps]")
    assert rows(part) == rows(whole)
    for name, tensor in late.items():
        assert torch.equal(weights(part)[name], tensor), name


@pytest.mark.parametrize(
    ("word", "says"), [("trainer.devices=2", "wait for them"), ("optim=galore", "counts steps for all of them")]
)
def test_thawing_is_refused_where_it_cannot_be_right(word: str, says: str) -> None:
    run = compose(["model=tiny", *UNFREEZE, word]).run
    with pytest.raises(ConfigError, match=says):
        refuse_impossible(run)


@pytest.mark.parametrize("words", [
    ("qlora", "method.quant_type=fp4"), ("qlora", "method.double_quant=false"),
    ("qlora", "method.init=loftq", "method.rank=4"),
    ("lora", "method.init=gaussian"), ("lora", "method.init=olora", "method.rank=4"),
], ids=" ".join)
def test_each_form_trains_resumes_and_exports(words: tuple[str, ...], tmp_path: Path) -> None:
    """Two steps, a stop after the first and a resume that ends with the same bits; and an export that is compared
    with the run."""
    chosen = (f"method={words[0]}", *words[1:], "trainer.save_every=1")
    whole, parts = tiny(tmp_path / "whole", *chosen), tmp_path / "parts"
    tiny(parts, *chosen)
    shutil.rmtree(parts / "checkpoints" / "step-2")
    tiny(parts, *chosen)
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(parts)[name], tensor), name
    before, after = weights(whole, "step-1"), weights(whole, "step-2")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert export_main([f"run={whole}", f"out={tmp_path / 'out'}", "merge=true"]) == 0


def test_a_pattern_that_fits_no_layer_and_a_rank_that_no_matrix_has_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"method.rank_pattern: q_porj matches no linear layer. Did you mean q_proj"):
        made("lora", "method.rank_pattern={q_porj: 4}")
    with pytest.raises(ConfigError, match=r"method.rank=128 is more than .* take method.rank="):
        made("qlora", "method.init=loftq", "method.rank=128")
    for init in ("pissa", "olora"):
        with pytest.raises(
            ConfigError, match=rf"method.rank=128 is more than .* has; with method.init={init} take method.rank="
        ):
            made("lora", f"method.init={init}", "method.rank=128")
    assert trains(made("lora", "method.rank=128"))  # an adapter that begins as nothing may have as many


def test_no_parameter_stays_in_the_loaded_file_where_dtypes_differ() -> None:
    """One weight that lies in the mapped file keeps the whole file in memory."""
    run = compose(["model=tiny", "method=freeze", "precision=bf16", *METHODS["freeze"]]).run
    dtypes = settle(run.precision, "cpu")
    model = build(run.model, dtypes.trained).model
    loaded = {p.untyped_storage().data_ptr(): p.data for p in model.parameters()}  # held, or an address is used again
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    done = build(run.method, model, dtypes)
    assert any(p.requires_grad for p in done.parameters())
    for name, parameter in done.named_parameters():
        assert parameter.untyped_storage().data_ptr() not in loaded, name
        assert torch.equal(parameter.detach(), before[name].to(parameter.dtype)), name
