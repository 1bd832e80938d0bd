"""Packed rows by documents against each document alone: logits and gradients, for every form of attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.model.folders import shrink_config
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from fulgurite.data.documents import Documents, find_documents
from fulgurite.model import document_attention as attention
from fulgurite.model.document_probe import use_documents
from fulgurite.model.transformers_internals import enable_activation_checkpointing

DOCUMENTS = (6, 9, 1, 11, 3, 2)
"""Tokens of the documents, two rows of three; the last of them is padding."""
CLOSE = 1e-6


def build_model(kind: str, **values: Any) -> Any:
    """A small model of an architecture with sdpa and logits that differ, by documents if it can."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        shrink_config(kind, **values), dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(2 if kind.startswith("gemma") else 20)  # Gemma's are scaled anyway
    return model


def rows() -> tuple[Tensor, Tensor, Documents]:
    """Ids and positions of the two rows [2, 16], and their documents."""
    positions = torch.cat([torch.arange(n) for n in DOCUMENTS]).view(2, 16)
    ids = torch.randint(5, 300, (2, 16), generator=torch.Generator().manual_seed(1))
    return ids, positions, find_documents(positions)


def run_packed(model: Any) -> Tensor:
    """The logits [32, V] of both rows by documents."""
    ids, positions, documents = rows()
    with attention.know_rows(documents) as known:
        found: Tensor = model(input_ids=ids, position_ids=positions, use_cache=False).logits.flatten(0, 1)
    assert any(mask.reads for mask in known.masks)
    return found


def run_alone(model: Any) -> Tensor:
    """The same, each document in a pass of its own."""
    parts = rows()[0].flatten().split(DOCUMENTS)
    return torch.cat([model(input_ids=part[None], use_cache=False).logits[0] for part in parts])


def take_gradients(model: Any, logits: Tensor) -> dict[str, Tensor]:
    """The gradients of the weights for the cross-entropy of the logits with the tokens."""
    model.zero_grad()
    functional.cross_entropy(logits, rows()[0].flatten()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def check_equal(model: Any, close: float = CLOSE) -> None:
    """Logits and gradients within 1e-6 of the largest, and each gradient within 1e-4 of its own size."""
    expected, found = run_alone(model), run_packed(model)
    torch.testing.assert_close(found, expected, rtol=0, atol=close * float(expected.detach().abs().max()))
    alone, packed = take_gradients(model, expected), take_gradients(model, found)
    assert alone.keys() == packed.keys()
    largest = max(float(gradient.abs().max()) for gradient in alone.values())
    for name, gradient in alone.items():
        # A gradient that is 0 by its nature, as that of a bias of all keys, is rounding alone.
        most = max(min(close * largest, 100 * close * float(gradient.abs().max())), 1e-8 * largest)
        torch.testing.assert_close(packed[name], gradient, rtol=0, atol=most, msg=lambda text, n=name: f"{n}: {text}")


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "grouped heads": ("llama", {}), "equal heads": ("gpt2", {}), "a window": ("mistral", {"sliding_window": 4}),
    "windows in some layers": ("gemma3_text", {"sliding_window": 5}), "values of another width": ("deepseek_v3", {}),
    "experts": ("mixtral", {"sliding_window": None}), "two maps of attention": ("diffllama", {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_packed_rows_equal_documents_alone(form: str) -> None:
    kind, values = FORMS[form]
    model = build_model(kind, **values)
    assert use_documents(model)
    check_equal(model)


def test_layers_are_recomputed_with_their_documents() -> None:
    model = build_model("mistral", sliding_window=4)
    assert use_documents(model)
    expected = take_gradients(model, run_packed(model))
    enable_activation_checkpointing(model)
    model.train()
    found = take_gradients(model, run_packed(model))
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_compiled_layers_take_other_documents_without_a_new_graph() -> None:
    model = build_model("llama")
    assert use_documents(model)
    torch._dynamo.reset()
    for layer in model.model.layers:
        layer.compile(dynamic=True, backend="eager")
    check_equal(model)
    counts = torch._dynamo.utils.counters
    counts.clear()
    ids, _, _ = rows()
    for lengths in ((16, 16), (3, 13, 8, 8), (1, 15, 4, 12)):
        positions = torch.cat([torch.arange(n) for n in lengths]).view(2, 16)
        with attention.know_rows(find_documents(positions)):
            model(input_ids=ids, position_ids=positions, use_cache=False)
    assert not counts["stats"]["unique_graphs"]
    torch._dynamo.reset()


def test_dropout_of_attention_is_drawn_and_repeated_by_its_seed() -> None:
    model = build_model("llama", attention_dropout=0.5)
    assert use_documents(model)
    still = run_packed(model)
    model.train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(run_packed(model))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2])
    # a document of one token has one weight, which is dropped or doubled: never spread over other documents
    one = sum(DOCUMENTS[:2])
    assert not torch.allclose(drawn[0][one], still[one])


def test_answers_and_padded_rows_are_those_of_sdpa() -> None:
    model, other = build_model("mistral", sliding_window=8), build_model("mistral", sliding_window=8)
    assert use_documents(model)
    ids = rows()[0]
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    for given in ({}, {"attention_mask": mask}):
        assert torch.equal(model(input_ids=ids, **given).logits, other(input_ids=ids, **given).logits)
    how: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(model.generate(ids, **how), other.generate(ids, **how))


def test_a_pass_waits_for_no_number_of_the_device() -> None:
    class Waits(TorchDispatchMode):
        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert op is not torch.ops.aten._local_scalar_dense.default
            return op(*args, **(kwargs or {}))

    model = build_model("gemma3_text", sliding_window=5)
    assert use_documents(model)
    ids = rows()[0]
    with Waits():
        run_packed(model)
        with attention.know_rows(None):
            model(input_ids=ids, use_cache=False)
        with pytest.raises(AssertionError):  # transformers' own search for packed rows
            model(input_ids=ids, use_cache=False)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("widths", [(16, 16), (12, 8)])
def test_one_call_for_all_documents_is_given_what_torch_asks_for(
    window: int | None, widths: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """varlen_attn runs on GPUs alone: in its place the same documents cut by the bounds, each by torch's own sdpa."""
    _, _, documents = rows()
    calls = []

    def varlen(query: Tensor, key: Tensor, value: Tensor, *cuts: Any, scale: float, window_size: Any, enable_gqa: Any,
               ) -> Tensor:
        bounds, other, longest, other_longest = cuts
        calls.append((bounds.dtype, type(longest), window_size, enable_gqa))
        assert bounds is other
        assert longest == other_longest == max(DOCUMENTS)
        assert [x.shape[:2] for x in (query, key, value)] == [(32, 4), (32, 2), (32, 2)]
        assert {x.shape[2] for x in (query, key, value)} == {16}  # a multiple of 8, and one for all
        assert query.stride(2) == 1
        out = []
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            q, k, v = (x[begin:end].transpose(0, 1)[None] for x in (query, key, value))
            band = torch.ones(end - begin, end - begin, dtype=torch.bool).tril()
            band = band if window_size[0] < 0 else band.triu(-window_size[0])
            more = {"attn_mask": band, "scale": scale, "enable_gqa": enable_gqa}
            out.append(functional.scaled_dot_product_attention(q, k, v, **more)[0].transpose(0, 1))
        return torch.cat(out)

    random = torch.Generator().manual_seed(2)
    query = torch.randn(2, 16, 4, widths[0], generator=random).transpose(1, 2).requires_grad_()
    key = torch.randn(2, 16, 2, widths[0], generator=random).transpose(1, 2).requires_grad_()
    value = torch.randn(2, 16, 2, widths[1], generator=random).transpose(1, 2).requires_grad_()
    mask = attention.DocumentMask(documents, window, lambda *_: torch.ones(()))
    monkeypatch.setattr(attention, "load_varlen", lambda: varlen)
    results = []
    for chosen in (False, True):
        monkeypatch.setattr(attention, "takes_varlen", lambda *_, chosen=chosen: chosen)
        out, _ = attention.attend(None, query, key, value, mask, is_causal=True)
        results.append((out, *torch.autograd.grad((out * out.detach().cos()).sum(), (query, key, value))))
    assert results[0][0].shape == (2, 16, 4, widths[1])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    assert calls == [(torch.int32, int, (-1 if window is None else 3, 0), True)]


def test_torchs_function_has_the_arguments_that_it_is_given() -> None:
    assert attention.load_varlen() is not None
    half = torch.zeros(1, 2, 3, 8, dtype=torch.bfloat16)
    assert not attention.takes_varlen(half, half, 0.0)  # no GPU here


@pytest.mark.parametrize("given", [
    {"softcap": 30.0}, {"s_aux": torch.zeros(2)}, {"position_bias": torch.zeros(1)}, {"is_causal": False},
])
def test_what_documents_cannot_express_is_refused(given: dict[str, Any]) -> None:
    _, _, documents = rows()
    mask = attention.DocumentMask(documents, None, lambda *_: torch.ones(()))
    x = torch.zeros(2, 2, 16, 8)
    with pytest.raises(ValueError, match=next(iter(given))):
        attention.attend(None, x, x, x, mask, **given)


def test_other_tokens_than_those_of_the_documents_are_refused() -> None:
    _, positions, documents = rows()
    mask = attention.DocumentMask(documents, None, lambda *_: torch.ones(()))
    x = torch.zeros(2, 2, 15, 8)
    with pytest.raises(ValueError, match="other tokens"):
        attention.attend(None, x, x, x, mask)
    model = build_model("llama")
    assert use_documents(model)
    with attention.know_rows(documents), pytest.raises(ValueError, match="other tokens"):
        model(input_ids=positions[:1])
