"""The stages that learn the next token: supervised fine-tuning and continued pre-training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.schema import Derived, Empty, at_least, between, knob, option
from fulgurite.data.reads import TEXT, Reads
from fulgurite.language.message import UserMessage, message
from fulgurite.stage import token_losses
from fulgurite.stage.config.base import GenerativeStage

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


@dataclass(slots=True)
class Language(GenerativeStage):
    """Base of the stages that learn the next token."""

    next_token: ClassVar[bool] = True
    loss_by_row: ClassVar[bool] = True

    router_aux_loss_coef: float | None = knob(
        None,
        "Mixtures of experts: coefficient of the load-balancing loss, which makes the router use all experts equally; "
        "0 "
        "turns it off.",
        source=(
            "transformers' router_aux_loss_coef and load_balancing_loss_func of the architecture; Switch, "
            "https://arxiv.org/abs/2101.03961"
        ),
        bounds=at_least(0),
        usual=between(0, 0.02),
        advice="Leave it empty with LoRA if the router has no adapter; 0.001 with method=full. train/loss contains it, "
        "val/loss does not.",
        raise_when="If train/router_aux_loss rises: experts are no longer used equally.",
        lower_when="If it keeps train/loss from falling.",
        interacts={
            "trainer.micro_batch_size": "balance is measured in each micro-batch, weighted by its targets; larger ones "
            "leave the router more freedom"
        },
        empty=Empty(
            "the model's own coefficient if its config.json has output_router_logits=true, as transformers adds it; "
            "else 0"
        ),
    )

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses the balance loss with privacy: it compares examples, whose gradients privacy clips one by one."""
        if run.private and self.router_aux_loss_coef:
            return message(
                "stage.router_aux_loss_coef compares the examples of a batch, which privacy keeps apart; leave it out, "
                "or set privacy=none."
            )
        return None


@option("stage", "sft")
@dataclass(slots=True)
class Sft(Language):
    """Supervised fine-tuning: learns the answers of examples. The first step if in doubt."""

    builds: ClassVar[str] = "fulgurite.stage.causal_lm:LanguageStage"
    works_on_shards: ClassVar[bool] = True
    costs: ClassVar[str] = "One forward and one backward pass per example."
    usual_epochs: ClassVar[Derived] = Derived(
        2.0, message("two passes in supervised fine-tuning (Zephyr 1, Tülu 3 2, SmolLM2 2)")
    )

    losses: ClassVar[str] = token_losses.FAMILY

    loss: str = knob(
        "nll",
        "Loss: the negative log-likelihood (nll), or dft, which weights each token by its probability.",
        source="DFT, Wu et al., https://arxiv.org/abs/2508.05629; TRL offers it too",
        advice="nll first; dft if answers have one right form, as in mathematics: it learns less from unlikely tokens.",
        values=token_losses.list_names,
    )


    neftune_alpha: float = knob(
        0.0,
        "NEFTune: amount of uniform noise that is added to the embeddings in training; 0 turns it off.",
        source="NEFTune, Jain et al., https://arxiv.org/abs/2310.05914; LLaMA-Factory 5 (verified)",
        bounds=at_least(0),
        usual=between(0, 15),
        advice="0; it makes answers longer, and adds no knowledge.",
        raise_when="For small chat data sets, to get longer and livelier answers: 5.",
        lower_when="If answers become too long.",
        interacts={"data.max_length": "longer examples get less noise per token"},
    )


@option("stage", "pt")
@dataclass(slots=True)
class Pt(Language):
    """Continued pre-training: learns every token of running text. For raw text; examples are packed."""

    builds: ClassVar[str] = "fulgurite.stage.causal_lm:LanguageStage"
    works_on_shards: ClassVar[bool] = True
    costs: ClassVar[str] = "The same as sft; every token is learned."
    reads: ClassVar[Reads] = TEXT
    lr_like: ClassVar[str] = "pt"
    usual_epochs: ClassVar[Derived] = Derived(1.0, message("one pass: repeated running text is memorised"))
