"""What the fork server of tests/forked.py imports before it forks: all that a run of the tiny model needs."""

import peft.tuners.lora  # noqa: F401
import torch
import transformers.models.llama.modeling_llama  # noqa: F401
from tests.checkpoint import toy_training  # noqa: F401

import fulgurite.cli.train
import fulgurite.method.lora
import fulgurite.model.tiny
import fulgurite.optim.adamw
import fulgurite.stage.grpo
import fulgurite.train.experiment
import fulgurite.train.fit  # noqa: F401
from fulgurite.config.compose import compose

torch.set_num_threads(1)
compose(["model=tiny"])  # Hydra looks for its plug-ins once
