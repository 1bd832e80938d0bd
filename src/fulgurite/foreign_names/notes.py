"""Sentences that several owners' names share."""

from __future__ import annotations

from fulgurite.language.message import message

ACCUMULATION = message(
    "The effective batch size is set directly: batch size per device × accumulation steps × devices. The steps of "
    "accumulation follow from it and from trainer.micro_batch_size."
)
MICRO_BATCH = message(
    "It is derived from the device's memory, and does not change the results; the effective batch size is "
    "trainer.global_batch_size."
)
FOUR_BITS = message("QLoRA holds the frozen weights in four bits; eight bits are not offered.")
LIGER = message(
    "Not needed: the loss is computed in chunks, so that the logits of a whole batch are never in memory."
)
ATTENTION = message(
    "torch's own attention (sdpa) uses the flash kernel if the device has one, and packed rows are attended document "
    "by document, which transformers' flash attention does not do for several rows at a time; nothing is to be set."
)
DEEPSPEED = message(
    "DeepSpeed is not offered; torch's FSDP2 divides the same parts. ZeRO stage 3 is strategy=fsdp, stages 1 and 2 add "
    "strategy.reshard=false, and offloading to the CPU adds strategy.offload=true."
)
PACKING = message("Packed examples are always kept apart, so that none attends to another.")
PREPROCESSING = message("Not needed: the data are tokenized once and cached.")
TIMEOUT = message("Not needed: the processes of a run watch each other, and end together.")
EVALUATION = message(
    "Not needed: a run is evaluated every trainer.eval_every steps if it has validation examples, and at its end."
)
GENERATION = message("Not needed: stage.prompts are answered before, during and after training.")
BEST = message("Not needed: the best checkpoint is always kept, beside the newest ones.")
MERGING = message("The adapter is merged into the weights on export.")
DORA = message("With method=qlora it is method.variant=dora.")
RSLORA = message("With method=qlora it is method.variant=rslora.")
BETAS = message("Both betas are one list: optim.betas=[0.9, 0.999].")
NO_IMAGES = message("Not offered: fulgurite trains language models on text alone.")
ANSWERS = message("Only the answers are learned by default.")
CLIP = message("stage.clip_low and stage.clip_high are the two sides of the clipped ratio.")
UPLOAD = message("Not offered: `fulgurite export` writes a folder; `huggingface-cli upload` uploads it.")
BEST_BY = message("Not needed: the best checkpoint is the one with the lowest val/loss.")
COUNTED = message("fulgurite counts optimizer steps between two evaluations.")
TASK = message("Not needed: the stage decides it.")
SAME_TYPE = message("Not needed: evaluation computes in the type of training.")
REGISTRY = message(
    "The names are those of data.registry, a dataset_info.json; files and hub datasets are given by data.path."
)
