"""Reasons for the lines of a conversion that several trainers share."""

from __future__ import annotations

from fulgurite.language.message import message

OFF = message("It is off there, and off here unless you turn it on.")
EMPTY = message("It is empty there.")
SAME = message("It is so here too.")
BATCH = message("Per device × accumulation there; here for all devices together: N times it for N devices there.")
IN_BATCH = message("In trainer.global_batch_size; the micro-batch is derived from the memory and changes no result.")
CODE = message(
    "Code of a model's folder runs only if you add model.trust_remote_code=true and model.revision=<commit> yourself."
)
PER_DATASET = message("There the first records of each dataset, here a random sample of all; so the sum is taken.")
NUMBER_HELD_OUT = message("A number of examples there; here it is a share: set data.val_fraction yourself.")
TEMPLATE = message("The tokenizer's own template is used, as the model was trained with; data.template sets another.")
NO_IMAGES = message("Images, video and sound are not supported.")
OTHER_CHECKPOINT = message("A checkpoint of another trainer cannot be continued; start from its exported weights.")
EIGHT_BITS = message("Only 4 bits are supported: method=qlora.")
OTHER_QUANTISATION = message("Only bitsandbytes in 4 bits is supported: method=qlora on the original weights.")
PARALLEL = message("Tensor, pipeline, sequence and expert parallelism are not supported; strategy=fsdp shards weights.")
FULL_LAYERS = message("Whole layers are trained.")
UNKNOWN = message("No setting of this name is known.")
GENERATION = message("Samples are answers to stage.prompts, before, during and after training.")
METRICS = message("metrics.jsonl is always written.")
ONE_LAYER = message("Layers are not updated during the backward pass here; the result is the same.")
