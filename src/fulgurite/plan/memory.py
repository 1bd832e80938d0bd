"""How much memory a run needs at its peaks: arithmetic on shapes, nothing loaded. No torch.

The activations are what autograd keeps of a decoder layer of transformers' kind (two norms, attention, a gated
feed-forward part), counted tensor by tensor with `torch.autograd.graph.saved_tensors_hooks`; a test counts again.
Other architectures come near. Widths below: d hidden, k of keys or values, i inside the feed-forward part; c bytes
of the compute type, s of the stream between layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fulgurite.plan.context import Machine, Memory, MemoryPart, ModelFacts, Weights
from fulgurite.plan.shards import LAYER, Sharding, count_gathered, find_sharding, take_padded_share
from fulgurite.precision.config import WIDTH, Rounding

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig
    from fulgurite.method.config import Method
    from fulgurite.optim.config import Optim
    from fulgurite.plan.context import Ints
    from fulgurite.precision.config import Precision
    from fulgurite.stage.config import Stage
from fulgurite.stage.config.rollout import ROLLOUT_BATCH

LIBRARIES = {"cpu": 540e6, "cuda": 0.0}
"""A CPU's process before it has weights: python, torch, transformers and lightning imported (446 MB, torch 2.13 and
transformers
5.23 on Linux), then tokenizer, data and oneDNN's kernels once they have run. A GPU holds none of it in its own
memory."""
HOLES = {"cpu": (0.55, 0.2), "cuda": (0.1, 0.1)}
"""What the allocator keeps free between tensors that live, as a share of the activations (on a CPU of all that pass,
on a GPU of those that are kept): if a layer's states are below `PAGE`, and from there on. On a CPU fitted to
twenty-one settings: below 32 MB glibc's malloc gives back only from its end, and 2.36 does not find a freed piece
again for an aligned one of the same size. On a GPU a guess."""
PAGE = 2 << 20
"""Bytes from which on torch puts a CPU's tensor on huge pages of its own (THP_MEM_ALLOC_ENABLE, which `fulgurite
train` sets)."""
COPIES = 5
"""The layers q, k, v, gate and up each turn the norm's output into the compute type for themselves."""

BUCKETS = 2
"""Copies of the gradients under ddp: DistributedDataParallel exchanges them in buckets of its own (torch docs,
gradient_as_bucket_view=False; measured: 160 MB of gradients took 240 MB more)."""


def estimate(
    run: RunConfig, model: ModelFacts, lengths: Ints | None, machine: Machine, micro_batch: int | None = None
) -> Memory:
    """The peaks of training, evaluation and rollouts in bytes, of one process. `lengths`: tokens of each row (None:
    data.max_length). `micro_batch`: rows at a time (None: trainer.micro_batch_size)."""
    longest = int(max(lengths)) if lengths is not None and len(lengths) else int(run.data.max_length)
    answers = int(run.stage.max_new_tokens) if run.stage.rolls_out else 0
    rows = int(micro_batch or run.trainer.micro_batch_size or 1) * run.stage.sides
    tokens = rows * (longest + answers)
    flows = find_flowing(model)
    copied, head = count_copies(model), count_head_bytes(model)
    block = Block(str(run.model.attention) == "eager", float(getattr(run.method, "dropout", 0)))
    made = count_passing(block, model, flows, tokens, longest + answers)
    # Checkpointing keeps only the states between layers, and one layer at a time beside them.
    kept = made
    if run.trainer.gradient_checkpointing and flows:
        kept = count_checkpointed(block, model, flows, tokens, longest + answers)
    base = int(LIBRARIES.get(machine.device, 0.0))
    # Below a huge page glibc keeps more of what is freed.
    small, large = HOLES.get(machine.device, (0.1, 0.1))
    holes = small if tokens * model.hidden * WIDTH[model.compute_dtype] < PAGE else large
    # Answers that are generated at one time, each with its keys and values.
    drawn = int(run.stage.rollout_batch or ROLLOUT_BATCH) if answers else 0
    # 2: keys and values, in each layer.
    cache = drawn * (longest + answers) * 2 * compute_key_width(model) * WIDTH[model.compute_dtype] * model.layers
    sharding = find_sharding(run.strategy, run.world_size)
    share = take_padded_share(model, sharding.ranks) if sharding is not None else model
    beside_it = count_reference(run.stage, run.method, share) + count_engine(run.stage, model, cache)
    held = (
        sum(t.bytes for t in share.tensors) + beside_it,
        count_gradients(share) * (BUCKETS if sharding is None and run.world_size > 1 else 1),
        count_state(run.optim, run.precision, share),
    )
    offloaded = sum(held) if sharding is not None and sharding.offload and machine.device != "cpu" else 0
    held = (0, 0, 0) if offloaded else held
    # A GPU's allocator finds again what a layer freed; on a CPU a layer that is made again leaves holes as one that is
    # kept.
    other = base + int(holes * (made if machine.device == "cpu" else kept))
    scores = count_logits(run.stage, model, tokens)
    # A step finds the logits' memory free, which is large enough to have gone back; on a CPU not the activations',
    # which is in pieces.
    reused = scores + head + (0 if machine.device == "cpu" else kept + copied)
    scratch = 0 if offloaded else count_scratch(run.optim, run.precision, share)
    training = MemoryPart(*held, kept + copied, scores + head, other + max(0, scratch - reused))
    width = WIDTH[model.compute_dtype]
    looked = tokens * (6 * model.hidden + 4 * model.intermediate) * max(width, 2)  # one layer at a time, nothing kept
    evaluation = MemoryPart(*held, looked, scores + count_head_copy(model), other)
    rollouts = None
    if answers:
        own = 0 if run.stage.engine == "vllm" else cache
        rollouts = MemoryPart(*held, own, drawn * model.vocab * (width + 2 * 4), other)
    loading = count_loading(run.method, model, base)
    if sharding is not None:
        training.gathered = count_gathered(model, sharding, WIDTH[model.trained_dtype])
        evaluation.gathered = count_gathered(model, sharding, 0)
        if machine.device != "cpu":
            loading = count_sharded_loading(run.method, model, share, sharding)
    return Memory(training=training, evaluation=evaluation, rollouts=rollouts, loading=loading, offloaded=offloaded)


def count_loading(method: Method, model: ModelFacts, base: int) -> MemoryPart:
    """The file as it is mapped beside the weights that are made of it; mapped alone where both have one dtype.

    A method that loads what trains and stores the rest otherwise makes every weight anew, from the file or from what
    was loaded.
    """
    kind = model.trained_dtype if method.loads_trained else model.frozen_dtype
    numbers = int(model.billions * 1e9) or model.parameters
    stored = numbers * WIDTH.get(model.stored_dtype or "float32", 4)
    made = 0 if kind == (model.stored_dtype or "float32") else numbers * WIDTH[kind]
    # Stored once more: in the dtype of the frozen weights or in four bits.
    if kind != model.frozen_dtype and any(not t.trained for t in model.tensors):
        made = max(made, sum(t.bytes for t in model.tensors))
    return MemoryPart(weights=stored + made, other=base)


def count_sharded_loading(method: Method, model: ModelFacts, share: ModelFacts, sharding: Sharding) -> MemoryPart:
    """A GPU while the model is loaded in the CPU's memory: this process's part, and a unit that is about to be divided;
    all weights that the GPU turns into four bits."""
    whole = sum(t.bytes for t in model.tensors) if method.quantised else 0
    part = 0 if sharding.offload else sum(t.bytes for t in share.tensors)
    return MemoryPart(weights=max(whole, part), gathered=count_gathered(model, sharding, 0))


def count_gradients(model: ModelFacts) -> int:
    """Bytes of the gradients: of the trained dtype."""
    return model.trained * WIDTH[model.trained_dtype]


def count_state(optim: Optim, precision: Precision, model: ModelFacts) -> int:
    """Bytes of the optimizer's state, and of what Kahan's sums keep."""
    learned = [t for t in model.tensors if t.trained]
    hidden = [t.name for t in learned if len(t.shape) == 2 and t.kind not in ("embedding", "head", "adapter")]
    kept = precision.step_rounding() is Rounding.kahan
    whole = optim.total_state_bytes({t.name: t.shape for t in learned}, WIDTH[model.trained_dtype], hidden)
    # Kahan's sums keep one bf16 number a weight.
    return int(whole) + (2 * model.trained if kept else 0)


def count_scratch(optim: Optim, precision: Precision, model: ModelFacts) -> int:
    """Bytes that an optimizer step takes beside the state: copies of the largest weight, at a time when no other has
    any.

    Steps rounded by chance or after Kahan work on float32 copies of a weight, its gradient and its state in place of
    their bf16.
    """
    shape = max((t.shape for t in model.tensors if t.trained), key=math.prod, default=())
    numbers, width = math.prod(shape), WIDTH[model.trained_dtype]
    wide, low = optim.scratch
    if precision.low_weights and precision.step_rounding() is not Rounding.nearest and numbers:
        # How many numbers of state there are for each weight: 2 of Adam.
        moments = optim.state_bytes(shape, width) / (width * numbers)
        return int(numbers * (8 + 2 * moments + max(wide, 2)))
    return int(numbers * (wide if width == WIDTH["float32"] else low))


def count_reference(stage: Stage, method: Method, model: ModelFacts) -> int:
    """Bytes of a frozen model beside the one that trains, where the stage keeps one."""
    kept = stage.has_reference(method.adapter)
    return sum(t.bytes for t in model.tensors if t.kind != "adapter") if kept else 0


def count_engine(stage: Stage, model: ModelFacts, cache: int) -> int:
    """Bytes that another engine than the policy itself holds all the time: a copy of the weights, and room for keys
    and values."""
    if str(getattr(stage, "engine", "")) != "vllm":
        return 0
    return cache + sum(math.prod(t.shape) for t in model.tensors if t.kind != "adapter") * WIDTH[model.compute_dtype]


def find_flowing(model: ModelFacts) -> dict[int, list[Weights]]:
    """The layers through which a gradient flows, each with what trains in it: from the lowest that trains upwards."""
    of: dict[int, list[Weights]] = {n: [] for n in range(model.layers)}
    below = any(t.trained and t.kind == "embedding" for t in model.tensors)
    for t in model.tensors:
        found = LAYER.search(t.name)
        if t.trained and found and int(found[1]) in of:
            of[int(found[1])].append(t)
    # Backward stops at the lowest layer that trains: those below keep nothing.
    first = 0 if below else next((n for n in of if of[n]), model.layers)
    return {n: trained for n, trained in of.items() if n >= first}


@dataclass(frozen=True, slots=True)
class Block:
    """What decides the activations of a layer beside the model's shape."""

    eager: bool
    """Whether attention keeps its scores."""
    dropout: float
    """Of the adapters."""


def count_checkpointed(
    block: Block, model: ModelFacts, flows: dict[int, list[Weights]], tokens: int, length: int
) -> int:
    """Bytes that autograd keeps of a micro-batch until its backward pass, under gradient checkpointing."""
    largest = max(count_layer(block, model, trained, length) for trained in flows.values())
    return int(tokens * (len(flows) * model.hidden * get_stream_width(model) + largest))


def count_passing(block: Block, model: ModelFacts, flows: dict[int, list[Weights]], tokens: int, length: int) -> int:
    """Bytes of all that the layers make for the backward pass, whether it is kept or thrown away and made again."""
    return int(tokens * sum(count_layer(block, model, trained, length) for trained in flows.values()))


def count_layer(block: Block, model: ModelFacts, trained: Iterable[Weights], length: int) -> float:
    """Bytes that a layer keeps for a token."""
    c, s, d = WIDTH[model.compute_dtype], get_stream_width(model), model.hidden
    of = list(trained)
    whole = any(t.kind in ("attention", "mlp") for t in of)
    # A frozen matrix needs no input for its backward pass; one that trains, or its adapter, does.
    adapted = any(t.kind == "adapter" for t in of)
    # VeRA's first matrix is frozen: its input is not asked for again
    fed = (whole or adapted) and not sum_widths(of, "vera_lambda_b")
    norms = 2 * 4 * d + 2 * 4  # the states in float32, twice, and each one's scale
    norms += 2 * s * d if any(t.kind == "norm" for t in of) else 0
    inputs = COPIES * c * d if whole and s != c else 2 * c * d if fed else 0
    # Queries and output, keys and values; of each head one float32, by which backward computes the scores again.
    attention = c * (2 * d + 2 * compute_key_width(model)) + 4 * model.heads
    if block.eager:
        # Eager attention: scores in float32, probabilities and their dropout in the compute type, for each pair of
        # tokens.
        attention += model.heads * length * (4 + 2 * c)
    # Gate, up, the activation, and their product if the down projection asks for its input.
    inside = (4 if fed else 3) * c * model.intermediate
    return norms + inputs + attention + inside + c * count_beside(block.dropout, model, of)


def count_beside(dropout: float, model: ModelFacts, trained: Sequence[Weights]) -> int:
    """Numbers a token that a layer's adapters keep. DoRA keeps the outputs of both its parts, VeRA those of both its
    frozen matrices.

    Dropout keeps a mask and what is left for each adapted layer, and then nothing asks for the whole input.
    """
    kept = sum(t.shape[0] for t in trained if "lora_A" in t.name)
    kept += (
        2 * sum_widths(trained, "magnitude")
        + sum_widths(trained, "vera_lambda_b")
        + sum_widths(trained, "vera_lambda_d")
    )
    if dropout:
        kept += max(
            0, 2 * sum(t.shape[1] for t in trained if "lora_A" in t.name) - 2 * model.hidden - model.intermediate
        )
    return kept


def sum_widths(trained: Iterable[Weights], part: str) -> int:
    """The lengths of the trained vectors of this name, summed."""
    return sum(t.shape[0] for t in trained if part in t.name)


def get_stream_width(model: ModelFacts) -> int:
    """Bytes of a number in the states between the layers: those of the embedding."""
    embedding = next((t for t in model.tensors if t.kind == "embedding"), None)
    return WIDTH[model.trained_dtype if embedding is not None and embedding.trained else model.frozen_dtype]


def compute_key_width(model: ModelFacts) -> int:
    """Numbers in a token's keys."""
    return model.hidden * model.kv_heads // max(model.heads, 1)


def count_copies(model: ModelFacts) -> int:
    """Bytes of the trained matrices in the compute type, which autocast keeps until the pass is over."""
    if model.compute_dtype == model.trained_dtype:
        return 0
    inside = (t for t in model.tensors if t.trained and len(t.shape) == 2 and t.kind not in ("embedding", "head"))
    return sum(math.prod(t.shape) for t in inside) * WIDTH[model.compute_dtype]


def count_head_copy(model: ModelFacts) -> int:
    """Bytes of the head in the compute type, where it is stored in another."""
    wide = WIDTH[model.trained_dtype if _is_head_trained(model) else model.frozen_dtype]
    return 0 if wide == WIDTH[model.compute_dtype] else model.vocab * model.hidden * WIDTH[model.compute_dtype]


def count_head_bytes(model: ModelFacts) -> int:
    """Bytes of the head's copy, and of its gradient in float32, which is made beside those there are."""
    return count_head_copy(model) + (4 * model.vocab * model.hidden if _is_head_trained(model) else 0)


def _is_head_trained(model: ModelFacts) -> bool:
    return any(t.trained and t.kind == ("embedding" if model.tied else "head") for t in model.tensors)


def count_logits(stage: Stage, model: ModelFacts, tokens: int) -> int:
    """Bytes of a chunk's logits: in the compute type, in float32, and once more while their normaliser is made."""
    c = WIDTH[model.compute_dtype]
    # Logits exist for a chunk of positions at a time.
    rows = min(int(getattr(stage, "loss_chunk", tokens)), tokens)
    return 0 if stage.gives_rewards else rows * model.vocab * ((c if c != 4 else 0) + 4 + 4)
