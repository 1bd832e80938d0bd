"""Adapters: small matrices or vectors beside a frozen model; and blocks that are added to it."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.described import DescribedEnum
from fulgurite.config.paths import is_there, resolve_path
from fulgurite.config.schema import Empty, above, at_least, below, between, knob, option
from fulgurite.language.message import UserMessage, message
from fulgurite.method import default_rank as ranks
from fulgurite.method.config.base import Method

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


class Init(DescribedEnum):
    """How an adapter begins."""

    default = "default", "The update begins at zero; matrix A is drawn as Kaiming's uniform distribution."
    gaussian = "gaussian", "The update begins at zero; matrix A is drawn from a normal distribution."
    pissa = "pissa", "Begins with the top singular components of each weight, which leave the frozen base."
    olora = "olora", "Begins with orthonormal factors of each weight (QR), which leave the frozen base."
    loftq = "loftq", "Begins with what four bits lose of each weight; for method=qlora."


class Variant(DescribedEnum):
    """LoRA as it was published, or with another scale or form."""

    plain = "plain", "LoRA as published: the update is scaled by alpha / rank."
    rslora = "rslora", "Scaled by alpha / sqrt(rank), so that a high rank keeps its effect."
    dora = "dora", "The length of each weight row is trained apart from its direction; slower."


class AdapterMode(DescribedEnum):
    """What is done with an earlier adapter."""

    go_on = "go_on", "The earlier adapter is trained further."
    stack = "stack", "The earlier adapter is merged into the base, and a new one is trained."


@dataclass(slots=True)
class Adapter(Method):
    """What every adapter has: the layers it is put on."""

    kin: ClassVar[str] = "lora"
    loads_trained: ClassVar[bool] = False
    adapter: ClassVar[bool] = True

    targets: list[str] | None = knob(
        None,
        "The linear layers that get an adapter: by the last part of their names, or by patterns such as *.layers.3.*.",
        source="LoRA guide of TRL, Tinker primer, QLoRA: all layers; attention alone loses at equal size (verified)",
        advice="Leave it; name layers to repeat an older recipe.",
        empty=Empty("every linear layer but the head"),
        interacts={"method.rank": "rank times targets is the capacity"},
        memory="Fewer targets are a smaller adapter.",
        misread="Attention alone loses at equal size; a higher rank does not mend it.",
    )


@option("method", "lora")
@dataclass(slots=True)
class Lora(Adapter):
    """Freezes the model and trains small matrices added to its linear layers. The default:
    little memory, little forgetting."""

    builds: ClassVar[str] = "fulgurite.method.lora:build"
    works_on_shards: ClassVar[bool] = True
    lr_like: ClassVar[str] = "lora"
    quantised_as: ClassVar[str] = "qlora"
    private: ClassVar[bool] = True
    new_tokens: ClassVar[bool] = True
    costs: ClassVar[str] = "The frozen model once, and a few percent on top; the adapter alone is a small file."
    misread: ClassVar[str] = (
        "LoRA does not freeze some layers and train others. It freezes the whole model and trains small matrices added "
        "to it; the mixture is method=layerwise, plain freezing method=freeze."
    )

    rank: int | None = knob(
        None, "The width of the added matrices: how much the adapter can learn.",
        source="TRL's PEFT table, SFT 256 and RL 1 to 32 (verified); QLoRA 64, PEFT and LLaMA-Factory 8 (verified)",
        bounds=between(1, 1024), usual=(8, 16, 32, 64, 128, 256),
        empty=Empty(
            "that of method.adapter_path's adapter; else 16, and 64 for sft and pt on models of 0.05 to 0.5 billion "
            "parameters", ranks.recommend,
        ),
        advice="Raise to 64 to 256 for new knowledge or above 50k rows; 8 to 32 are enough for a style.",
        raise_when="For new knowledge, or above 50,000 rows: 64 to 256.",
        lower_when="When memory is short, for a style, or in reinforcement learning: 8 to 32.",
        interacts={
            "method.alpha": "empty, it follows as twice the rank",
            "method.variant": "rslora keeps ranks of 64 and more alive",
            "method.targets": "rank times targets is the capacity",
        },
        memory="Grows in proportion, with gradients and state. At 16 it is 4 % of the bundled model and 0.6 % of a 7B; "
        "at 64 15 % and 2.4 %.",
        time="Hardly any.",
    )
    alpha: float | None = knob(
        None, "The scale of the adapter: its output is multiplied by alpha / rank.",
        source="LLaMA-Factory's command line and torchtune: twice the rank (verified)",
        bounds=above(0), usual=ranks.list_usual_alpha,
        advice="Leave it: pinned at 16, a rank of 64 instead of 8 cuts the scale from 2 to 0.25.",
        empty=Empty("twice the rank; in rslora twice its root", ranks.recommend_alpha),
        raise_when="When the adapter learns too slowly and optim.lr is pinned.",
        lower_when="When training is unstable and optim.lr is pinned.",
        interacts={"method.rank": "the scale is alpha / rank", "optim.lr": "the scale multiplies its step"},
        misread="A larger alpha is not more power. It only scales; rank times targets is the capacity.",
    )
    dropout: float = knob(
        0.0, "The share of the adapter's inputs that is dropped in training.",
        source="QLoRA 0.1 at 7B and 0.05 at 65B, Zephyr QLoRA 0.05, others 0 (verified)",
        bounds=below(0, 1), usual=between(0, 0.1), advice="0.05 on fewer than 10,000 rows.",
        raise_when="Below 10,000 rows, or when the validation loss rises: 0.05 to 0.1.",
        lower_when="In reinforcement learning: it must be 0.",
        interacts={"trainer.epochs": "more passes want more of it"},
    )
    variant: Variant = knob(
        Variant.plain,
        "Plain LoRA; rslora, which divides alpha by the root of the rank; or dora, which learns length and direction "
        "apart.",
        source="rsLoRA https://arxiv.org/abs/2312.03732, DoRA https://arxiv.org/abs/2402.09353, through peft",
        advice="rslora from a rank of 64 on; dora at low ranks, with half the rank: it costs time.",
        interacts={
            "method.rank": "rslora from 64 on; dora at low ranks",
            "method.alpha": "rslora divides it by the root of the rank",
        },
        time="dora takes longer: it computes the length of each output's weights in every pass.",
    )
    init: Init = knob(
        Init.default,
        "How the adapter begins: as nothing (default, gaussian), or as the strongest part of each weight (pissa, "
        "olora), or as what quantisation lost (loftq, with method=qlora).",
        source="PiSSA https://arxiv.org/abs/2404.02948, OLoRA https://arxiv.org/abs/2406.01775, "
        "LoftQ https://arxiv.org/abs/2310.08659",
        advice="default. pissa learns faster at the start; it changes the base, so its export is merged.",
    )
    loraplus_lr_ratio: float = knob(
        1.0, "How many times the learning rate of A the matrix B takes (LoRA+).",
        source="LoRA+, Hayou et al., https://arxiv.org/abs/2402.12354; LLaMA-Factory 16 (verified)",
        bounds=at_least(1), usual=between(1, 20),
        advice="16 with a lower optim.lr: B starts at zero and may move faster.",
        raise_when="When the adapter starts slowly: 16.", lower_when="When the loss spikes; 1 turns it off.",
        interacts={"optim.lr": "lower it when this is raised"},
    )
    modules_to_save: list[str] = knob(
        [], "Modules that are trained whole beside the adapter, by the last part of their names.",
        source="peft docs, LoraConfig",
        advice="lm_head and embed_tokens for a new language; they cost full fine-tuning's memory.",
        memory="Each counts as in full fine-tuning: weights, gradients and state.",
    )
    rank_pattern: dict[str, int] = knob(
        {}, "Other ranks for some layers: a regular expression of their names to a rank.",
        source="peft docs, LoraConfig",
        bounds=between(1, 1024),
        advice="Leave it; +method.rank_pattern='{layers.0.mlp.up_proj:64}' to repeat a recipe.",
    )
    alpha_pattern: dict[str, float] = knob(
        {}, "Other scales for some layers: a regular expression of their names to an alpha.",
        source="peft docs, LoraConfig",
        bounds=above(0),
        advice="Give one wherever a rank is given, or the scale changes with the rank.",
    )
    adapter_path: str | None = knob(
        None, "An adapter folder (adapter_config.json) that is there already.",
        source="peft docs, PeftModel.from_pretrained",
        advice="What `fulgurite export merge=false` wrote, or anybody's adapter for the same model.",
        empty=Empty("a new adapter"), resolve=resolve_path,
    )
    adapter_mode: AdapterMode = knob(
        AdapterMode.go_on, "What is done with method.adapter_path: trained further, or put into the model for good "
        "under a new adapter.",
        source="LLaMA-Factory's create_new_adapter (verified)",
        advice="go_on to train longer; stack when the old one must not change.",
    )

    def begins_at_zero(self) -> bool:
        """Whether the adapter adds nothing until the first step; an earlier adapter that is stacked
        upon is part of the base."""
        continued = self.adapter_path is not None and self.adapter_mode is AdapterMode.go_on
        return self.init in (Init.default, Init.gaussian) and not continued

    def base_change(self) -> UserMessage | None:
        if self.adapter_path and self.adapter_mode is AdapterMode.stack:
            return message("is stacked on another adapter, which is part of the base now")
        if self.init in (Init.pissa, Init.olora):
            return message(
                "started with method.init={init}, which takes the adapter's first values out of the base",
                init=self.init,
            )
        return None

    def outlined(self) -> Method:
        return replace(self, init=Init.default, adapter_path=None)

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Returns why these parameters cannot be combined, or None."""
        if self.init is Init.loftq:
            return message(
                "method.init=loftq makes up for quantisation, and method=lora does not quantise; use method=qlora or "
                "method.init=default."
            )
        return _lora_refusal(self)


def _lora_refusal(method: Lora) -> UserMessage | None:
    for name in ("adapter_config.json", "adapter_model.safetensors") if method.adapter_path else ():
        if not is_there(os.path.join(method.adapter_path or "", name)):
            return message(
                "method.adapter_path={folder} has no {name}; use a folder that `fulgurite export merge=false` or peft "
                "wrote.",
                folder=method.adapter_path, name=name,
            )
    if method.adapter_path and method.init not in (Init.default, Init.gaussian):
        return message(
            "method.adapter_path has weights of its own already; leave method.init={init} out.", init=method.init
        )
    if method.variant is Variant.dora and method.init in (Init.pissa, Init.olora):
        return message(
            "method.variant=dora cannot be used with method.init={init}: both change the base weights; use one of "
            "them.",
            init=method.init,
        )
    return None


class Quant(DescribedEnum):
    """The four-bit number format."""

    nf4 = "nf4", "Sixteen levels placed for normally distributed weights; more precise."
    fp4 = "fp4", "A four-bit floating-point number."


@option("method", "qlora")
@dataclass(slots=True)
class Qlora(Lora):
    """LoRA on a base stored in four bits (bitsandbytes). Take it when the bf16 base does not fit;
    on a CPU it works and is slower.

    The base is quantised from bf16 whatever the precision. An export puts the adapter onto the dequantised base, which
    is what was trained, exactly.
    """

    builds: ClassVar[str] = "fulgurite.method.qlora:build"
    works_on_shards: ClassVar[bool] = True
    quantised: ClassVar[bool] = True
    quantised_as: ClassVar[str] = ""
    private: ClassVar[bool] = False
    costs: ClassVar[str] = "A quarter of LoRA's memory for the base; slower, as each layer is unpacked in every pass."
    misread: ClassVar[str] = "It is LoRA on a quantised base. What is trained is not in four bits."

    quant_type: Quant = knob(
        Quant.nf4, "The four-bit format of the frozen base.",
        source="QLoRA, Dettmers et al., https://arxiv.org/abs/2305.14314",
        advice="nf4: made for weights that are spread normally. fp4 is worse.",
    )
    double_quant: bool = knob(
        True, "Whether the scales of the blocks are quantised as well: 0.37 bits a weight less.",
        source="QLoRA, Dettmers et al., https://arxiv.org/abs/2305.14314", advice="Leave it.",
        memory="0.37 bits a weight less.",
    )

    def outlined(self) -> Method:
        """LoRA on a base that is not quantised."""
        plain = Lora(**{f.name: getattr(self, f.name) for f in fields(Lora)})
        return plain.outlined()

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Returns why these parameters cannot be combined, or None."""
        if self.init in (Init.pissa, Init.olora):
            return message(
                "method.init={init} changes base weights, and four bits cannot hold the change; use method.init=loftq "
                "or default.",
                init=self.init,
            )
        if self.init is Init.loftq and self.variant is Variant.dora:
            return message(
                "method.init=loftq cannot be used with method.variant=dora, whose lengths it would not know; use one "
                "of them."
            )
        return _lora_refusal(self)


@option("method", "oft")
@dataclass(slots=True)
class Oft(Adapter):
    """Rotates each layer's inputs instead of adding to its outputs: lengths and angles of the
    weights stay as they are."""

    builds: ClassVar[str] = "fulgurite.method.adapters:oft"
    works_on_shards: ClassVar[bool] = True
    lr_factor: ClassVar[float] = 3.0
    costs: ClassVar[str] = "Few parameters, but a system of equations a block in every step."

    block: int = knob(
        32, "The size of the blocks that are rotated, in inputs.",
        source="OFT v2, https://arxiv.org/abs/2506.19847; PEFT and LLaMA-Factory 32 (verified)",
        bounds=at_least(2), usual=(16, 32, 64),
        advice="Larger rotates more together and costs more; it must divide each layer's width.",
        raise_when="To rotate more together, which changes more.", lower_when="When memory or time is short.",
        memory="Parameters grow in proportion to it.", time="Larger blocks take longer to solve.",
    )
    dropout: float = knob(
        0.0, "The share of blocks left unrotated in training.", source="peft docs, OFTConfig.module_dropout",
        bounds=below(0, 1), usual=between(0, 0.1), advice="Leave it.",
        raise_when="When the validation loss rises while the training loss falls.",
        lower_when="When too little is learned.",
    )

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Returns why its rotations cannot be computed in this run, or None."""
        if not run.precision.low_weights:
            return None
        return message(
            "method={method} solves for its rotations, which torch cannot do in the bf16 of precision={precision}; use "
            "precision=bf16.",
            method=self.name, precision=run.precision.name,
        )


@option("method", "ia3")
@dataclass(slots=True)
class Ia3(Method):
    """Scales keys, values and the feed-forward's inputs by learned vectors: the fewest parameters. For few examples."""

    builds: ClassVar[str] = "fulgurite.method.adapters:ia3"
    works_on_shards: ClassVar[bool] = True
    lr_like: ClassVar[str] = "lora"
    lr_factor: ClassVar[float] = 3.0
    leaves_out: ClassVar[bool] = True
    kin: ClassVar[str] = "lora"
    loads_trained: ClassVar[bool] = False
    adapter: ClassVar[bool] = True
    costs: ClassVar[str] = "Next to nothing in memory; learns the least."


@option("method", "vera")
@dataclass(slots=True)
class Vera(Adapter):
    """LoRA whose matrices are random, frozen and shared; only two vectors a layer are trained.
    For many small adapters."""

    builds: ClassVar[str] = "fulgurite.method.adapters:vera"
    works_on_shards: ClassVar[bool] = True
    lr_like: ClassVar[str] = "lora"
    lr_factor: ClassVar[float] = 5.0
    costs: ClassVar[str] = "Fewer trained weights than LoRA; its wide shared matrices cost time."

    rank: int = knob(
        256, "The width of the shared random matrices.",
        source="VeRA, https://arxiv.org/abs/2310.11454; peft's default 256",
        bounds=between(1, 4096), usual=(64, 256, 1024), advice="High ranks are cheap here: only vectors are trained.",
        raise_when="When too little is learned.", lower_when="When memory for the shared matrices is short.",
        memory="The shared random matrices grow with it; what is trained hardly does.",
    )
    dropout: float = knob(
        0.0, "The share of the adapter's inputs that is dropped in training.", source="peft docs, VeraConfig",
        bounds=below(0, 1), usual=between(0, 0.1), advice="0.05 on fewer than 10,000 rows.",
        raise_when="Below 10,000 rows, or when the validation loss rises: 0.05.",
        lower_when="In reinforcement learning: it must be 0.",
    )


@option("method", "llama_pro")
@dataclass(slots=True)
class LlamaPro(Method):
    """Adds copies of layers that do nothing at first and trains only these: new knowledge beside
    the old. The model grows."""

    builds: ClassVar[str] = "fulgurite.method.llama_pro:build"
    works_on_shards: ClassVar[bool] = True
    grows: ClassVar[bool] = True
    prints_table: ClassVar[bool] = True
    costs: ClassVar[str] = "Trains the added layers alone; the model is larger and slower for good."

    blocks: int = knob(
        2, "How many layers are added, spread evenly; each is a copy of the one below it with its outputs at zero.",
        source="LLaMA Pro, Wu et al., https://arxiv.org/abs/2401.02415: 8 on 32 layers",
        bounds=at_least(1), usual=(2, 4, 8), advice="It must divide the number of layers.",
        raise_when="For more new knowledge.", lower_when="When memory is short.",
        memory="Each adds a layer, with its gradients and state.",
        time="The model is longer by these layers, for good.",
    )
