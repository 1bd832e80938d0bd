"""Shapes of one known family of models from 0.1 to 72 billion parameters, and the memory that a run needs on them. No
torch.

`fulgurite plan` computes a run's memory from its own model and data. The guide has neither, and takes these shapes
with one example of 1,024 tokens at a time; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from fulgurite.explain.bytes_per_weight import count_frozen_bytes, count_gradient_bytes, count_weight_bytes
from fulgurite.method.config import Method
from fulgurite.optim.config import Optim
from fulgurite.precision.config import WIDTH, Precision
from fulgurite.stage.config import Stage
from fulgurite.stage.config.rollout import ROLLOUT_BATCH

LENGTH = 1024
"""Tokens of the example that the memory is computed for."""
HOLES = 0.1
"""What an allocator keeps free between tensors, as a share of the activations; as in plan/memory.py."""
PROCESS = {"cpu": 0.55e9, "cuda": 0.6e9}
"""The process without weights: its libraries on a CPU, CUDA's context on a GPU."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder of Llama's kind. `path` is the base model, `tuned` the one that holds conversations; both hub ids."""

    label: str
    path: str
    tuned: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    tied: bool

    @property
    def kv_width(self) -> int:
        """Numbers in a token's keys."""
        return self.hidden * self.kv_heads // self.heads

    def list_linear(self) -> list[tuple[int, int]]:
        """The linear layers of a block as (outputs, inputs)."""
        d, k, i = self.hidden, self.kv_width, self.intermediate
        return [(d, d), (k, d), (k, d), (d, d), (i, d), (i, d), (d, i)]

    def count_inside(self) -> int:
        """Parameters of the linear layers of all blocks."""
        return self.layers * sum(rows * columns for rows, columns in self.list_linear())

    def count_outside(self) -> int:
        """Parameters of the embedding and of the head."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def billions(self) -> float:
        """Parameters in billions."""
        return (self.count_inside() + self.count_outside()) / 1e9


def _qwen(
    size: str, hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int, vocab: int, tied: bool = False
) -> ModelShape:
    path = f"Qwen/Qwen2.5-{size}"
    return ModelShape(size, path, f"{path}-Instruct", hidden, layers, heads, kv_heads, intermediate, vocab, tied)


BUNDLED = ModelShape(
    "0.1B", "HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M-Instruct", 576, 30, 9, 3, 1536, 49152, tied=True,
)
SHAPES = (
    BUNDLED,
    _qwen("0.5B", 896, 24, 14, 2, 4864, 151936, tied=True),
    _qwen("1.5B", 1536, 28, 12, 2, 8960, 151936, tied=True),
    _qwen("3B", 2048, 36, 16, 2, 11008, 151936, tied=True),
    _qwen("7B", 3584, 28, 28, 4, 18944, 152064),
    _qwen("14B", 5120, 48, 40, 8, 13824, 152064),
    _qwen("32B", 5120, 64, 40, 8, 27648, 152064),
    _qwen("72B", 8192, 80, 64, 8, 29568, 152064),
)
"""The bundled model, and Qwen2.5's; from the config.json of each."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What decides the memory of a run beside the shape of its model."""

    stage: Stage
    method: Method
    optim: Optim
    precision: Precision
    device: str = "cuda"
    checkpointing: bool = False


def estimate_bytes(shape: ModelShape, run: Demand) -> int:
    """Returns the bytes at the peak of a run with one example at a time."""
    rank = int(getattr(run.method, "rank", 0) or 0)
    adapters = shape.layers * rank * sum(rows + columns for rows, columns in shape.list_linear())
    whole = run.method.whole
    trained = shape.count_inside() + shape.count_outside() if whole else adapters
    held = trained * (count_weight_bytes(run.precision) + count_gradient_bytes(run.precision))
    held += run.optim.state_bytes((trained,), WIDTH[run.precision.state])
    if not whole:
        inside = count_frozen_bytes(run.method, run.precision, (shape.count_inside(),))
        held += inside + shape.count_outside() * WIDTH[run.precision.frozen]
    # autocast keeps a copy of the trained matrices in the compute type
    copies = 0 if run.precision.compute == run.precision.trained else shape.count_inside() if whole else adapters
    held += copies * WIDTH[run.precision.compute]
    # a reference model that is a copy of its own; an adapter that is switched off needs none
    if run.stage.has_reference(run.method.adapter):
        held += int((shape.count_inside() + shape.count_outside()) * WIDTH[run.precision.frozen])
    return int(held + count_peak_bytes(shape, run, rank) + PROCESS[run.device])


def count_peak_bytes(shape: ModelShape, run: Demand, rank: int) -> float:
    """Bytes of the activations and logits of an example, or of a rollout's keys and values if they are more."""
    answers = int(getattr(run.stage, "max_new_tokens", 0)) if run.stage.rolls_out else 0
    tokens = run.stage.sides * (LENGTH + answers)
    c = WIDTH[run.precision.compute]
    s = WIDTH[run.precision.trained if run.method.whole else run.precision.frozen]
    layer = count_layer_bytes(shape, run, rank)
    # With checkpointing each block keeps its input alone, and one block at a time is computed again with all it keeps.
    kept = tokens * shape.layers * (shape.hidden * s if run.checkpointing else layer)
    kept += tokens * layer if run.checkpointing else 0
    made = kept if run.device == "cuda" else tokens * shape.layers * layer
    rows = min(int(getattr(run.stage, "loss_chunk", tokens)), tokens)
    # of each row: the logits in the compute type and in float32, and once more while their normaliser is computed
    logits = rows * shape.vocab * ((c if c != 4 else 0) + 4 + 4)
    head = shape.vocab * shape.hidden * (((0 if s == c else c) + 4) if run.method.whole else 0)
    training = kept + HOLES * made + logits + head
    if not answers:
        return training
    drawn = int(getattr(run.stage, "rollout_batch", None) or ROLLOUT_BATCH)
    # The 2 are keys and values; beside this cache the logits of one new token of each sequence, with two float32
    # copies. Rollout and training do not overlap: the larger of them is the peak.
    rollout = drawn * (LENGTH + answers) * 2 * shape.kv_width * c * shape.layers + drawn * shape.vocab * (c + 8)
    return max(training, float(rollout))


def count_layer_bytes(shape: ModelShape, run: Demand, rank: int) -> int:
    """Bytes that a block keeps of a token for the backward pass; plan/memory.py explains each term."""
    c, d = WIDTH[run.precision.compute], shape.hidden
    s = WIDTH[run.precision.trained if run.method.whole else run.precision.frozen]
    norms = 8 * d + 8 + (2 * s * d if run.method.whole else 0)
    inputs = 5 * c * d if run.method.whole and s != c else 2 * c * d
    attention = c * (2 * d + 2 * shape.kv_width) + 4 * shape.heads
    return norms + inputs + attention + 4 * c * shape.intermediate + c * rank * len(shape.list_linear())
