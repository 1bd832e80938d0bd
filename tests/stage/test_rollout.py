"""Rollouts: what is drawn is what the model says, from a seed alone, and its log-probabilities are those of the training pass."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.stage.log_probs import TokenScorer
from fulgurite.stage.reference import AdapterOff, Frozen, build_start_reference
from fulgurite.stage.rollout import Drawn, TransformersRollouts
from fulgurite.stage.rollout_buffer import Buffer, Cuts

PROMPTS = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3], [100], [200, 201]]


@pytest.fixture(scope="module")
def loaded() -> Any:
    made = build(compose(["model=tiny"]).run.model, torch.float32)
    made.model.requires_grad_(True)
    with torch.no_grad():  # a sharper model: a random one finds every token alike
        made.model.get_input_embeddings().weight.mul_(3)
    return made


def engine(loaded: Any, temperature: float = 1.0, batch: int = 64, most: int = 9) -> TransformersRollouts:
    stops = [loaded.tokenizer.eos_token_id, *range(300, 380)]
    return TransformersRollouts(
        loaded.model, stops, loaded.tokenizer.pad_token_id, max_new_tokens=most, temperature=temperature, batch=batch,
        context=contextlib.nullcontext,
    )


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_drawn_and_recomputed_log_probabilities_agree(loaded: Any, temperature: float) -> None:
    prompts = PROMPTS * 4
    drawn = engine(loaded, temperature).generate(prompts, [1, 0])
    assert {len(t) for t in drawn.tokens} != {9}  # some stopped early
    assert [t[-1] in engine(loaded)._stops for t in drawn.tokens] == drawn.stopped
    buffer = Buffer.of(0, list(range(16)), prompts, drawn, torch.device("cpu"))
    batch = buffer.build_micro_batch(list(range(16)))
    found, entropy, _ = TokenScorer(loaded.model, temperature, 512).score(batch)
    torch.testing.assert_close(found.detach(), buffer.of_token["drawn"], rtol=0, atol=5e-6)
    for i, (prompt, answer) in enumerate(zip(prompts, drawn.tokens, strict=True)):  # each alone, without padding
        logits = loaded.model(input_ids=torch.tensor([prompt + answer])).logits[0].detach() / temperature
        alone = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        own = torch.tensor(answer)
        mask = buffer.targets_NT[i] >= 0
        torch.testing.assert_close(found[i][mask].detach(), alone[range(len(own)), own], rtol=0, atol=5e-6)
        torch.testing.assert_close(entropy[i][mask], -(alone.exp() * alone).sum(-1), rtol=0, atol=5e-6)


def test_what_is_drawn_hangs_on_the_seed_alone_and_leaves_the_random_state(loaded: Any) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = engine(loaded).generate(PROMPTS, [1, 4])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert engine(loaded).generate(PROMPTS, [1, 4]) == first
    assert engine(loaded).generate(PROMPTS, [1, 5]).tokens != first.tokens
    assert engine(loaded).generate(PROMPTS, [2, 4]).tokens != first.tokens


def test_portions_draw_of_their_own(loaded: Any) -> None:
    same = [PROMPTS[0]] * 4
    drawn = engine(loaded, batch=2).generate(same, [1, 0])
    assert len(drawn.tokens) == 4
    assert drawn.tokens[:2] != drawn.tokens[2:]


def test_tokens_come_as_often_as_the_model_says(loaded: Any) -> None:
    drawn = engine(loaded, 0.7, batch=4000, most=1).generate([PROMPTS[0]] * 4000, [1, 0])
    said = (loaded.model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].detach() / 0.7).softmax(-1)
    count = torch.bincount(torch.tensor([t[0] for t in drawn.tokens]), minlength=len(said))
    top = said.topk(5).indices
    # 4000 draws: a share p is found within 4 standard errors
    for token in top.tolist():
        p = float(said[token])
        assert abs(float(count[token]) / 4000 - p) < 4 * (p * (1 - p) / 4000) ** 0.5


@pytest.mark.parametrize("method", ["full", "lora", "layerwise"])
def test_the_reference_stays_what_the_policy_was(method: str) -> None:
    from fulgurite.precision.policy import build as settle

    # layerwise trains whole layers beside its adapter, which a model with its adapter disabled would keep
    rules = ["method.rules=['last:1 full','rest lora rank=4']"] if method == "layerwise" else []
    run = compose(["model=tiny", "precision=fp32", f"method={method}", *rules]).run
    dtypes = settle(run.precision, "cpu")
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes).eval()
    policy = TokenScorer(model, 1.0, 512)
    asked = build_start_reference(policy, run.method.begins_at_zero())
    assert isinstance(asked, AdapterOff if method == "lora" else Frozen)
    drawn = Drawn([[3, 4]], [[0.0, 0.0]], [False])
    batch = Buffer.of(0, [0], [[5, 6]], drawn, torch.device("cpu")).build_micro_batch([0])
    start = policy.score(batch)[0].detach()
    torch.testing.assert_close(asked(batch), start, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    assert not torch.allclose(policy.score(batch)[0], start, atol=1e-4)
    torch.testing.assert_close(asked(batch), start, rtol=0, atol=0)


def test_an_adapter_that_already_does_something_is_copied_into_the_reference() -> None:
    from fulgurite.precision.policy import build as settle

    run = compose(["model=tiny", "precision=fp32", "method=lora"]).run
    dtypes = settle(run.precision, "cpu")
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1)
    policy = TokenScorer(model, 1.0, 512)
    batch = Buffer.of(0, [0], [[5, 6]], Drawn([[3, 4]], [[0.0, 0.0]], [False]), torch.device("cpu")).build_micro_batch([0])
    start = policy.score(batch)[0].detach()
    torch.testing.assert_close(build_start_reference(policy, identity=False)(batch), start, rtol=0, atol=0)


@pytest.mark.parametrize(("answers", "minibatches", "micro"), [(12, 1, 5), (12, 3, 4), (7, 2, 3), (5, 4, 1)])
def test_each_inner_epoch_sees_every_answer_once_in_steps_of_equal_micro_batches(answers: int, minibatches: int, micro: int) -> None:
    cuts = Cuts(answers, minibatches, 2, micro, 42)
    lengths = [(7 * n) % 5 for n in range(answers)]
    seen = []
    for phase in range(cuts.steps):
        step = cuts.step(3, phase, lengths)
        assert len(step) == cuts.micro_batches
        assert step[-1]  # the optimizer steps after the last one, which has work in it
        assert max(map(len, step)) <= micro
        seen.append([n for cut in step for n in cut])
    first, second = (sorted(n for step in seen[e * minibatches : (e + 1) * minibatches] for n in step) for e in (0, 1))
    assert first == second == list(range(answers))
    assert cuts.step(3, 0, lengths) == Cuts(answers, minibatches, 2, micro, 42).step(3, 0, lengths)
    assert [cuts.step(r, 0, lengths) for r in range(4)] != [cuts.step(3, 0, lengths)] * 4 or minibatches == 1


def test_a_buffer_survives_its_state() -> None:
    drawn = Drawn([[3, 4], [5]], [[-1.0, -2.0], [-3.0]], [True, False])
    buffer = Buffer.of(2, [7, 8], [[1, 2], [1, 2, 9]], drawn, torch.device("cpu"))
    assert buffer.targets_NT.tolist() == [[-100, 3, 4, -100], [-100, -100, 5, -100]]
    assert buffer.of_token["drawn"].tolist() == [[0, -1, -2, 0], [0, 0, -3, 0]]
    buffer.of_answer["advantages"], buffer.record = torch.tensor([1.0, -1.0]), {"train/reward": 0.5}
    again = Buffer.from_state(buffer.get_state(), torch.device("cpu"))
    one, two = buffer.build_micro_batch([1]), again.build_micro_batch([1])
    assert one.keys() == two.keys() == {"input_ids", "targets", "own", "drawn", "advantages", "rows", "tokens"}
    assert all(torch.equal(one[k], two[k]) if isinstance(one[k], torch.Tensor) else one[k] == two[k] for k in one)
    assert (two["rows"], two["tokens"], again.record, again.number) == ([8], 4, {"train/reward": 0.5}, 2)
