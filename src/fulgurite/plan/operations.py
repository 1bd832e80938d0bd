"""The arithmetic of training, in floating-point operations, and the time that it takes at a measured rate. No torch."""

from __future__ import annotations

import math

from fulgurite.config.losses import get_loss
from fulgurite.plan.context import ModelFacts, PlanFacts
from fulgurite.plan.memory import find_flowing
from fulgurite.plan.timing import Timing

EFFICIENCY = 0.35
"""The share of the rate of one large matrix product that training reaches; the rest are smaller products, norms,
activations and copies. Measured on two cores with the bundled model in bf16: 0.37 with LoRA, 0.33 with every weight."""
LAYER_SECONDS, PASS_SECONDS, STEP_SECONDS = 1.8e-3, 2e-3, 5e-3
"""What a layer, a micro-batch and an optimizer step cost on a CPU, however small they are. Measured on one thread by
`python -m benchmarks.step_cost`: a layer 1.3 to 1.6 ms with every weight, 2.3 to 2.5 ms with LoRA; the others vary from
0.4 to 4.5 and from 1 to 8 ms between repeats on a busy machine, which matters for models of test size alone."""


def count_operations(seen: PlanFacts) -> float | None:
    """Returns the operations of training for each token of the data, a multiplication and an addition being two.

    None if the data do not decide them: answers are generated, or a router chooses the experts of a token.
    """
    run, data, model = seen.run, seen.data, seen.model
    if run.stage.rolls_out or has_experts(model) or data is None or not data.tokens or not model.layers:
        return None
    shape_products = sum(math.prod(t.shape) for t in model.tensors if _multiplies(t.kind, t.shape))
    # logits are computed at the learned tokens alone
    head = 0.0 if run.stage.gives_rewards else model.vocab * model.hidden * data.label_tokens / data.tokens
    attention = 2 * model.layers * model.hidden * data.tokens / max(data.rows * run.stage.sides, 1)
    forward: float = 2 * (shape_products + head + attention)
    flowing = len(find_flowing(model)) / model.layers
    # a product with a frozen weight has one gradient, one of two activations two
    backward = (forward + 2 * attention) * flowing + 2 * _count_trained(model, head)
    again = forward * flowing if run.trainer.gradient_checkpointing else 0.0
    reference = forward if run.stage.refers and getattr(get_loss(run.stage), "reference", True) else 0.0
    return float(forward + backward + again + reference)


def has_experts(model: ModelFacts) -> bool:
    """Returns whether a router chooses which weights a token is multiplied with."""
    return any(len(t.shape) > 2 and t.kind == "mlp" for t in model.tensors)


def _multiplies(kind: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and kind not in ("embedding", "head")


def _count_trained(model: ModelFacts, head: float) -> float:
    """Returns the numbers of the trained matrices, whose gradients are one more product."""
    inside = sum(math.prod(t.shape) for t in model.tensors if t.trained and _multiplies(t.kind, t.shape))
    is_head_trained = any(t.trained and t.kind == ("embedding" if model.tied else "head") for t in model.tensors)
    return inside + (head if is_head_trained else 0.0)


def guess_timing(seen: PlanFacts, rate: float) -> Timing | None:
    """Returns the time of a token and of a step if one matrix product on all cores reaches `rate` operations a second;
    None if the operations are not known."""
    operations = count_operations(seen)
    if operations is None or seen.data is None or rate <= 0:
        return None
    trainer = seen.run.trainer
    rows = max(int(trainer.micro_batch_size or 1), 1)
    tokens = rows * seen.data.tokens / max(seen.data.rows, 1)
    fixed = (PASS_SECONDS + LAYER_SECONDS * seen.model.layers) / max(tokens, 1.0)
    return Timing(operations * seen.machine.processes / (EFFICIENCY * rate) + fixed, STEP_SECONDS, 0)
