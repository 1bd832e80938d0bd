"""The stages that learn the next token: supervised fine-tuning and continued pre-training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.schema import Derived, Empty, at_least, between, knob, option
from fulgurite.data.reads import TEXT, Reads
from fulgurite.stage import token_losses
from fulgurite.stage.config.base import GenerativeStage

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


@dataclass(slots=True)
class Language(GenerativeStage):
    """What the stages have that learn the next token."""

    next_token: ClassVar[bool] = True
    loss_by_row: ClassVar[bool] = True

    router_aux_loss_coef: float | None = knob(
        None,
        "Mixtures of experts: coefficient of the balance loss, which holds the router to use all experts alike; 0 "
        "turns it off.",
        source=(
            "transformers' router_aux_loss_coef and load_balancing_loss_func of the architecture; Switch, "
            "https://arxiv.org/abs/2101.03961"
        ),
        bounds=at_least(0),
        usual=between(0, 0.02),
        advice="Leave it empty with LoRA if the router has no adapter. 0.001 with method=full, "
        "if experts must not die out. train/loss holds it, val/loss does not; of several micro-batches each one's "
        "balance counts by its share of the step's targets.",
        raise_when="When train/router_aux_loss rises: experts are no longer used alike.",
        lower_when="When it keeps train/loss from falling.",
        interacts={
            "trainer.micro_batch_size": "balance is measured within each micro-batch; larger ones leave the "
            "router more freedom"
        },
        empty=Empty(
            "the model's own coefficient if its config.json has output_router_logits=true, as transformers adds it; "
            "else 0"
        ),
    )

    def find_refusal(self, run: RunConfig) -> str | None:
        """Balance is between the tokens of several rows, and privacy clips the gradient of each row by itself."""
        if run.private and self.router_aux_loss_coef:
            return (
                "stage.router_aux_loss_coef compares the rows of a batch, which privacy keeps apart; leave it out, or "
                "set privacy=none."
            )
        return None


@option("stage", "sft")
@dataclass(slots=True)
class Sft(Language):
    """Supervised fine-tuning: learns the answers of examples. The right first step in doubt."""

    builds: ClassVar[str] = "fulgurite.stage.causal_lm:LanguageStage"
    costs: ClassVar[str] = "One forward and one backward pass a row."
    usual_epochs: ClassVar[Derived] = Derived(
        2.0, "two passes in supervised fine-tuning (Zephyr 1, Tülu 3 2, SmolLM2 2)"
    )

    losses: ClassVar[str] = token_losses.FAMILY

    loss: str = knob(
        "nll",
        "What is made small: the negative log-likelihood, or DFT, which weights each token by its probability.",
        source="DFT, Wu et al., https://arxiv.org/abs/2508.05629; TRL offers it too",
        advice=(
            "nll first. dft where answers have one right form, as in mathematics: it learns less from what surprises "
            "it."
        ),
        values=token_losses.list_names,
    )


    neftune_alpha: float = knob(
        0.0,
        "NEFTune: how much uniform noise is added to the embeddings in training; 0 turns it off.",
        source="NEFTune, Jain et al., https://arxiv.org/abs/2310.05914; LLaMA-Factory 5 (verified)",
        bounds=at_least(0),
        usual=between(0, 15),
        advice="5 on small chat sets only: chattier answers, no gain in knowledge.",
        raise_when="For small chat sets whose answers should be livelier: 5.",
        lower_when="When answers ramble; 0 turns it off.",
        interacts={"data.max_length": "longer rows get less noise a token"},
    )


@option("stage", "pt")
@dataclass(slots=True)
class Pt(Language):
    """Continued pre-training: learns running text, every token of it. Take it for raw text; rows are packed."""

    builds: ClassVar[str] = "fulgurite.stage.causal_lm:LanguageStage"
    costs: ClassVar[str] = "As sft; every token is learned."
    reads: ClassVar[Reads] = TEXT
    lr_like: ClassVar[str] = "pt"
    usual_epochs: ClassVar[Derived] = Derived(1.0, "one pass: repetition of running text memorises")
