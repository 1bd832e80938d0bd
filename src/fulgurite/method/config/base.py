"""What every method declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fulgurite.config.schema import Option
from fulgurite.language.message import UserMessage


@dataclass(slots=True)
class Method(Option):
    """What every method has: what it needs of the model, and what its weights are to an export."""

    kin: ClassVar[str] = "full"
    """Whose batch sizes it takes: those of "full" or of "lora"."""
    lr_like: ClassVar[str] = "full"
    """Whose learning rates it takes from the table in optim/default_lrs.py: those of "full" or of "lora"."""
    lr_factor: ClassVar[float] = 1.0
    """How many times those rates. Vectors move more than matrices (VeRA's paper has ten times LoRA's rate, T-Few
    3e-3 for (IA)³: unverified); if few layers or only rotations learn, up to ten times the full rate (ours;
    LLaMA-Factory's examples of freeze and OFT
    use 1e-4 at 4B to 7B, verified)."""
    whole: ClassVar[bool] = False
    """Whether every weight is trained."""
    quantised: ClassVar[bool] = False
    """Whether the frozen base is stored in four bits."""
    quantised_as: ClassVar[str] = ""
    """The method that trains the same on a base of four bits, as a remedy for a shortage of memory."""
    leaves_out: ClassVar[bool] = False
    """Whether it leaves weights without an adapter on purpose."""
    grows: ClassVar[bool] = False
    """Whether the trained model has another shape than the one it began from."""
    private: ClassVar[bool] = False
    """Whether its gradients are proven row by row for privacy. Not inherited: each method proves it for itself."""
    works_on_shards: ClassVar[bool] = False
    """Whether its results are those of one device if each process holds a part of every weight (`strategy=fsdp`). Not
    inherited: each method proves it for itself."""
    loads_trained: ClassVar[bool] = True
    """Whether the model is loaded in the dtype of trained weights; adapters load it in that of frozen ones."""
    adapter: ClassVar[bool] = False
    """Whether all that is trained is small parts beside a frozen model, as in LoRA: they can be exported apart from
    it."""
    prints_table: ClassVar[bool] = False
    """Whether the run prints a table of what trains: where the method chooses parts."""
    new_tokens: ClassVar[bool] = False
    """Whether the embeddings of `model.add_tokens` are trained."""

    def begins_at_zero(self) -> bool:
        """Whether the model is unchanged before the first step."""
        return True

    def base_change(self) -> UserMessage | None:
        """Returns why the adapter cannot be used with the plain base, as the end of a sentence; None if it can."""
        return None

    def trains_head(self) -> bool:
        """Whether the head is trained if it is not tied to embeddings that are, or else is adapted as they are."""
        return True

    def outlined(self) -> Method:
        """The method for a model without weights: without what computes with them."""
        return self
