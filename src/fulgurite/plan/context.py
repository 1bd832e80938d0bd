"""What is known of a run before any weight is loaded: all that a rule may read. Numbers and names only; no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fulgurite.config.decision import GIVEN
from fulgurite.language.message import UserMessage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fulgurite.config.decision import Decision
    from fulgurite.config.provenance import Unusual
    from fulgurite.config.run import RunConfig
    from fulgurite.run.resume_plan import ResumePlan

    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Weights:
    """One stored tensor. `kind`: embedding, head, norm, attention, mlp, adapter, bias, other."""

    name: str
    shape: tuple[int, ...]
    trained: bool
    kind: str = "other"
    bytes: int = 0
    """As it is stored in training: of a base in 4 bits about half a byte an entry."""


@dataclass(slots=True)
class ModelFacts:
    """A model as the run's method makes it. `intermediate` is the width inside the feed-forward part."""

    parameters: int = 0
    trained: int = 0
    tensors: list[Weights] = field(default_factory=list)
    layers: int = 0
    hidden: int = 0
    heads: int = 0
    kv_heads: int = 0
    intermediate: int = 0
    vocab: int = 0
    tied: bool = False
    """Whether the head is the embedding."""
    max_positions: int = 0
    stored_dtype: str = ""
    """The dtype in which the checkpoint was saved ("bfloat16"), empty if it is not recorded."""
    frozen_dtype: str = "float32"
    trained_dtype: str = "float32"
    compute_dtype: str = "float32"
    """As precision= sets them."""
    has_template: bool = True
    """Whether the tokenizer brings a chat template."""
    template_name: str = ""
    template_differs: str | UserMessage = ""
    """How transformers' own rendering of the tokenizer differs from training's; empty if it does not."""
    free_padding: bool = True
    """Whether the tokenizer has a special token that ends no answer."""
    invalid_generation: dict[str, Any] = field(default_factory=dict)
    """Fields of the base's generation config that transformers refuses to save."""
    path: str = ""
    architecture: str = ""
    billions: float = 0.0
    """Parameters of the base, without adapters."""
    causal: bool | None = None
    """Whether no later token changes an earlier prediction: measured on a small model of the config, None if none
    can be built."""
    packs: bool | None = None
    """Whether packed documents do not change one another; measured in the same way."""
    documents: bool | None = None
    """Whether packed rows need no mask, because each document attends to itself alone; measured in the same way, None
    without sdpa."""
    attention: str = ""
    """The implementation of attention that transformers has for the architecture: the asked one, or eager."""
    notes: list[UserMessage] = field(default_factory=list)
    """What loading changes, a sentence each."""
    without_adapter: dict[str, int] = field(default_factory=dict)
    """Weights between embedding and head that have no adapter, by the last parts of their names: how many numbers.
    With adapters only."""

    @property
    def is_base(self) -> bool:
        """Whether it looks like a base model, because nothing shows how a conversation goes."""
        return not self.has_template

    @property
    def share(self) -> float:
        """The share of the parameters that is trained."""
        return self.trained / self.parameters if self.parameters else 0.0


@dataclass(slots=True)
class DataFacts:
    """The data as they are tokenised, cut, split and packed."""

    records: int = 0
    """Records in the files, good and bad."""
    rows: int = 0
    """Rows of an epoch: what a batch is counted in."""
    val_rows: int = 0
    tokens: int = 0
    """Tokens of an epoch."""
    label_tokens: int = 0
    """Of them, those that are learned."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Why, and how many."""
    lengths: Ints | None = None
    """Tokens of each example before it is cut; of a pair those of its longer side."""
    row_lengths: Ints | None = None
    """Tokens of each training row."""
    label_lengths: Ints | None = None
    """Learned tokens of each training row."""
    without_row: list[str] = field(default_factory=list)
    """Tokens of the examples that the model's embedding has no row for."""
    max_length: int = 0
    percentile_99: int = 0
    too_long: int = 0
    """Examples longer than data.max_length, whatever becomes of them."""
    cut_answers: int = 0
    """Examples that were truncated."""
    not_drawn: int = 0
    """Examples left out by data.max_samples."""
    duplicates: int = 0
    """Examples whose tokens another example has as well."""
    empty_labels: int = 0
    """Examples with no token left to learn."""
    no_end: int = 0
    """Whole answers whose labels lack the end token."""
    two_starts: int = 0
    """Examples that begin with two start tokens."""
    first_two_starts: str = ""
    """The place of the first of them."""
    same_pairs: int = 0
    """Pairs of two equal answers."""
    first_same_pair: str = ""
    length_bias: float = 0.5
    """Pairs only: the share in which the better answer is the longer one."""
    positives: int = 0
    negatives: int = 0
    """Judged answers only."""
    pieces: int = 0
    """Pieces that running text was cut into beyond its number of documents."""
    fill: float = 1.0
    """The share of data.max_length that an average row has filled."""
    sources: list[str] = field(default_factory=list)
    """The files."""
    fresh: bool = False
    """Whether the data were tokenised now, not found in the cache."""
    report: dict[str, Any] = field(default_factory=dict)
    """What data_report.json will contain."""


@dataclass(slots=True)
class Machine:
    """The machine that the run would use. Bytes."""

    device: str = "cpu"
    name: str = ""
    memory_free: int = 0
    memory_total: int = 0
    disk_free: int = 0
    """Free on the disk of the run's folder."""
    bf16: bool = True
    """Whether the device multiplies bf16 by itself."""
    processes: int = 1
    cores: int = 1


@dataclass(slots=True)
class MemoryPart:
    """The bytes of one phase at its peak."""

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    logits: int = 0
    other: int = 0
    gathered: int = 0
    """Whole weights and gradients beside this process's part of them, if several processes divide them."""

    @property
    def total(self) -> int:
        """The sum of all parts."""
        held = self.weights + self.gradients + self.optimizer + self.gathered
        return held + self.activations + self.logits + self.other


@dataclass(slots=True)
class Memory:
    """The bytes at the peak of each phase, of one process; None if a run has no such phase."""

    training: MemoryPart
    evaluation: MemoryPart | None = None
    rollouts: MemoryPart | None = None
    loading: MemoryPart | None = None
    offloaded: int = 0
    """Bytes that a process of a GPU keeps in the memory of the CPU."""

    @property
    def peak(self) -> int:
        """The most that is held at any time."""
        return max(
            part.total for part in (self.training, self.evaluation, self.rollouts, self.loading) if part is not None
        )


@dataclass(slots=True)
class Disk:
    """Bytes that checkpoints take: one, and all that are kept at a time (the newest `kept`, the best, and one being
    written)."""

    checkpoint: int = 0
    kept: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Cheaper:
    """The same run under other words, and the bytes of its peak then."""

    override: str
    peak: int


@dataclass(slots=True)
class PlanFacts:
    """All that a rule may read. Empty parameters of `run` are filled; `origins` has the decision on each parameter."""

    run: RunConfig
    origins: Mapping[str, Decision] = field(default_factory=dict)
    model: ModelFacts = field(default_factory=ModelFacts)
    data: DataFacts | None = None
    machine: Machine = field(default_factory=Machine)
    steps: int = 0
    warmup_steps: int = 0
    curve: Callable[[int], float] | None = None
    """The share of optim.lr at a step; None if the validation loss decides."""
    memory: Memory | None = None
    """None if it could not be estimated."""
    cheaper: list[Cheaper] = field(default_factory=list)
    """If memory is short: what would need less, from the mildest change to the smallest plan."""
    earlier: ResumePlan | None = None
    """The checkpoint that the run would resume."""
    disk: Disk = field(default_factory=Disk)
    folder: Path | None = None
    """The run's folder, if it is known already."""
    unusual: list[Unusual] = field(default_factory=list)
    """The values outside their usual ranges."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """Group to option or preset, as it was asked for: method=dora is the preset of lora."""

    def is_given(self, knob: str) -> bool:
        """Whether a person, or a preset that they chose, set this parameter."""
        origin = self.origins.get(knob)
        return origin is not None and origin.kind in GIVEN
