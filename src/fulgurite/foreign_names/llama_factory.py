"""Names of LLaMA-Factory's YAML files."""

from __future__ import annotations

from fulgurite.foreign_names import notes
from fulgurite.foreign_names.entry import build_names
from fulgurite.language.message import message

SWITCH = {"true": "data.packing=best_fit", "false": "data.packing=none"}

NAMES = build_names(
    "LLaMA-Factory",
    {
        "stage": "stage", "finetuning_type": "method", "template": "data.template",
        "model_name_or_path": "model=hf model.path={value}", "adapter_name_or_path": "method.adapter_path",
        "model_revision": "model.revision", "trust_remote_code": "model.trust_remote_code",
        "dataset": "data=file data.path={value}", "dataset_dir": "data.registry", "eval_dataset": "data.val_path",
        "cutoff_len": "data.max_length", "max_samples": "data.max_samples", "val_size": "data.val_fraction",
        "packing": "data.packing", "neat_packing": "data.packing=best_fit", "train_on_prompt": "data.mask=all",
        "mask_history": "data.mask=last", "enable_thinking": "data.enable_thinking", "interleave_probs": "data.weights",
        "learning_rate": "optim.lr", "num_train_epochs": "trainer.epochs",
        "per_device_train_batch_size": "trainer.micro_batch_size",
        "gradient_accumulation_steps": "trainer.global_batch_size", "lr_scheduler_type": "scheduler",
        "warmup_steps": "scheduler.warmup_steps", "warmup_ratio": "scheduler.warmup_ratio",
        "max_grad_norm": "trainer.max_grad_norm", "compute_type": "precision", "infer_dtype": "export.dtype",
        "quantization_bit": "method=qlora", "quantization_type": "method.quant_type",
        "double_quantization": "method.double_quant",
        "lora_rank": "method.rank", "lora_alpha": "method.alpha", "lora_dropout": "method.dropout",
        "lora_target": "method.targets", "additional_target": "method.modules_to_save",
        "loraplus_lr_ratio": "method.loraplus_lr_ratio", "use_rslora": "method=rslora",
        "use_dora": "method=dora", "pissa_init": "method.init=pissa", "create_new_adapter": "method.adapter_mode",
        "freeze_trainable_layers": "method=freeze method.trainable=last:{value}",
        "freeze_trainable_modules": "method=freeze method.trainable={value}",
        "freeze_extra_modules": "method.extra_trainable", "use_llama_pro": "method=llama_pro",
        "pref_beta": "stage.beta", "pref_loss": "stage.loss", "pref_ftx": "stage.sft_weight",
        "simpo_gamma": "stage.gamma", "dpo_label_smoothing": "stage.label_smoothing",
        "kto_chosen_weight": "stage.desirable_weight", "kto_rejected_weight": "stage.undesirable_weight",
        "ref_model": "stage.reference", "reward_model": "stage.reward", "ppo_score_norm": "stage.whiten_rewards",
        "ppo_whiten_rewards": "stage.whiten_rewards", "ppo_epochs": "stage.epochs_per_rollout",
        "ppo_buffer_size": "stage.rollout_batch", "ppo_target": "stage.kl_target",
        "use_galore": "optim=galore", "galore_rank": "optim.rank", "galore_update_interval": "optim.update_proj_gap",
        "galore_scale": "optim.scale", "use_apollo": "optim=apollo", "apollo_rank": "optim.rank",
        "apollo_update_interval": "optim.update_proj_gap", "apollo_scale": "optim.scale", "use_badam": "optim=badam",
        "badam_switch_mode": "optim.switch_mode", "badam_switch_interval": "optim.switch_every",
        "use_adam_mini": "optim=adam_mini", "use_muon": "optim=muon", "flash_attn": "model.attention",
        "disable_gradient_checkpointing": "trainer.gradient_checkpointing=false",
        "enable_liger_kernel": "", "use_unsloth": "", "neftune_alpha": "stage.neftune_alpha",
        "add_tokens": "model.add_tokens",
        "add_special_tokens": "model.add_tokens", "resize_vocab": "model.add_tokens",
        "moe_aux_loss_coef": "stage.router_aux_loss_coef", "use_dft_loss": "stage.loss=dft",
        "output_dir": "run_dir", "logging_steps": "trainer.log_every", "save_steps": "trainer.save_every",
        "save_total_limit": "trainer.keep_checkpoints", "report_to": "logger", "run_name": "name",
        "resume_from_checkpoint": "resume.run", "deepspeed": "strategy", "temperature": "chat.temperature",
        "top_p": "chat.top_p", "max_new_tokens": "chat.max_new_tokens", "export_dir": "export.out",
        "rope_scaling": "", "do_train": "", "plot_loss": "", "overwrite_cache": "", "overwrite_output_dir": "",
    },
    notes={
        "gradient_accumulation_steps": notes.ACCUMULATION, "per_device_train_batch_size": notes.MICRO_BATCH,
        "dataset": notes.REGISTRY, "dataset_dir": notes.REGISTRY, "eval_dataset": notes.REGISTRY,
        "val_size": message("It is the share of the examples held out, such as 0.05, and not their number."),
        "quantization_bit": notes.FOUR_BITS,
        "use_unsloth": message("Not needed: the loss is computed in chunks, which is the largest saving of Unsloth."),
        "enable_liger_kernel": notes.LIGER,
        "rope_scaling": message(
            "Not offered: the model's own configuration gives its rotary embedding and its longest sequence."
        ),
        "flash_attn": notes.ATTENTION, "deepspeed": notes.DEEPSPEED,
        "lora_target": message(
            "Every linear layer except the output head gets an adapter by default, which is lora_target: all."
        ),
        "mask_history": message("Only the last answer of a conversation is learned."),
        "packing": notes.PACKING, "neat_packing": notes.PACKING,
        "preprocessing_num_workers": notes.PREPROCESSING, "ddp_timeout": notes.TIMEOUT,
        "do_train": message("Not needed: `fulgurite train` trains."),
        "plot_loss": message(
            "Not needed: the run folder has metrics.jsonl, and logger=tensorboard or logger=wandb draws the loss."
        ),
        "overwrite_cache": message("Not needed: the cache is found by a hash of the data and of the tokenizer."),
        "overwrite_output_dir": message("Not needed: each run has a folder of its own, and nothing is overwritten."),
        "save_only_model": message("Not offered: each checkpoint has all that is needed to resume the run."),
        "freeze_trainable_layers": message("The number of the layers that train: last:N or first:N."),
        "ppo_score_norm": message("Rewards are whitened over a rollout."),
        "use_dora": notes.DORA,
        "use_rslora": notes.RSLORA,
        "resize_vocab": message("Tokens that are added with model.add_tokens resize the embeddings."),
        "booster": message(
            "Not needed: fulgurite has no switch for kernels of Unsloth or Liger; attention is torch's own and the "
            "loss is computed in chunks."
        ),
        "galore_target": message("Not offered: GaLore projects every large matrix."),
        "badam_mode": message("Not offered: BAdam switches whole layers."),
        "use_swanlab": message("Not offered: metrics go to logger=csv, logger=tensorboard or logger=wandb."),
        "eval_strategy": notes.EVALUATION, "predict_with_generate": notes.GENERATION,
        "visual_inputs": notes.NO_IMAGES,
        "freeze_vision_tower": notes.NO_IMAGES,
        "shift_attn": message("Not offered: LongLoRA's shifted attention is not available."),
        "use_mod": message("Not offered: mixture of depths is not available."),
        "use_kt": message("Not offered: KTransformers is not available."),
    },
    values={
        "packing": SWITCH,
        "quantization_bit": {"4": "method=qlora", "8": ""},
        "template": {"default": "", "empty": ""},
        "mask_history": {"true": "data.mask=last", "false": ""},
        "lora_target": {"all": ""},
        "finetuning_type": {"oft": "method=oft"},
    },
    computed=("per_device_train_batch_size", "gradient_accumulation_steps", "create_new_adapter", "resize_vocab",
              "deepspeed", "flash_attn", "ppo_buffer_size", "dataset_dir", "reward_model"),
)
