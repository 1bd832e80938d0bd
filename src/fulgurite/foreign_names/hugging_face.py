"""Names of Hugging Face's TrainingArguments, of TRL's trainers, of peft and of bitsandbytes."""

from __future__ import annotations

from fulgurite.foreign_names import notes
from fulgurite.foreign_names.entry import build_names
from fulgurite.language.message import message

NAMES = build_names(
    "Hugging Face",
    {
        "learning_rate": "optim.lr", "num_train_epochs": "trainer.epochs", "output_dir": "run_dir", "run_name": "name",
        "per_device_train_batch_size": "trainer.micro_batch_size", "train_batch_size": "trainer.global_batch_size",
        "per_device_eval_batch_size": "trainer.micro_batch_size",
        "gradient_accumulation_steps": "trainer.global_batch_size", "max_steps": "trainer.max_steps",
        "weight_decay": "optim.weight_decay", "adam_beta1": "optim.betas", "adam_beta2": "optim.betas",
        "adam_epsilon": "optim.eps", "max_grad_norm": "trainer.max_grad_norm", "lr_scheduler_type": "scheduler",
        "lr_scheduler_kwargs": "scheduler", "warmup_steps": "scheduler.warmup_steps",
        "warmup_ratio": "scheduler.warmup_ratio", "num_cycles": "scheduler.cycles",
        "min_lr_rate": "scheduler.min_ratio",
        "optim": "optim", "optim_args": "optim", "adafactor": "optim=adafactor", "bf16": "precision=bf16",
        "fp16": "precision=fp16", "tf32": "precision=fp32", "use_cpu": "trainer.accelerator=cpu",
        "no_cuda": "trainer.accelerator=cpu", "torch_dtype": "precision", "dtype": "precision",
        "bf16_full_eval": "", "fp16_full_eval": "",
        "gradient_checkpointing": "trainer.gradient_checkpointing", "torch_compile": "trainer.compile",
        "dataloader_num_workers": "trainer.num_workers", "report_to": "logger", "seed": "seed", "data_seed": "seed",
        "full_determinism": "trainer.deterministic", "resume_from_checkpoint": "resume.run",
        "eval_steps": "trainer.eval_every", "save_steps": "trainer.save_every", "logging_steps": "trainer.log_every",
        "save_total_limit": "trainer.keep_checkpoints", "early_stopping_patience": "trainer.early_stopping_patience",
        "label_smoothing_factor": "stage.label_smoothing", "neftune_noise_alpha": "stage.neftune_alpha",
        "attn_implementation": "model.attention", "deepspeed": "strategy", "fsdp": "strategy",
        "pretrained_model_name_or_path": "model=hf model.path={value}", "use_liger_kernel": "",
    },
    notes={
        "gradient_accumulation_steps": notes.ACCUMULATION, "per_device_train_batch_size": notes.MICRO_BATCH,
        "per_device_eval_batch_size": notes.MICRO_BATCH, "load_best_model_at_end": notes.BEST,
        "metric_for_best_model": notes.BEST_BY,
        "greater_is_better": notes.BEST_BY,
        "evaluation_strategy": notes.EVALUATION, "eval_strategy": notes.EVALUATION, "do_eval": notes.EVALUATION,
        "save_strategy": message(
            "Not needed: a checkpoint is written every trainer.save_every steps, and at the end."
        ),
        "logging_strategy": message("Not needed: metrics are written every trainer.log_every steps."),
        "adam_beta1": notes.BETAS,
        "adam_beta2": notes.BETAS,
        "attn_implementation": notes.ATTENTION, "deepspeed": notes.DEEPSPEED, "fsdp": notes.DEEPSPEED,
        "use_liger_kernel": notes.LIGER, "ddp_timeout": notes.TIMEOUT,
        "label_smoothing_factor": message(
            "Only preference losses have it; the loss of supervised fine-tuning is not smoothed."
        ),
        "tf32": message("Computation in fp32 uses what torch is set to."),
        "push_to_hub": notes.UPLOAD,
        "hub_model_id": notes.UPLOAD,
        "group_by_length": message("Not needed: the micro-batches of a step hold examples of similar length."),
        "remove_unused_columns": message("Not needed: only the columns of the data's format are read."),
        "ddp_find_unused_parameters": message("Not needed: fulgurite sets it for strategy=ddp."),
        "bf16_full_eval": notes.SAME_TYPE,
        "fp16_full_eval": notes.SAME_TYPE,
        "save_safetensors": message("Not needed: weights are always written as safetensors."),
        "disable_tqdm": message("callback=[samples, monitor] leaves out the progress line."),
        "auto_find_batch_size": message(
            "Not needed: a micro-batch that does not fit in memory is halved, and the results are the same."
        ),
        "optim_args": message(
            "The parameters of each optimizer have names of their own: `fulgurite explain optim` lists them."
        ),
        "lr_scheduler_kwargs": message(
            "The parameters of each schedule have names of their own: `fulgurite explain scheduler` lists them."
        ),
    },
    values={"resume_from_checkpoint": {"true": "", "false": ""}},
    computed=("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "adam_beta1",
              "adam_beta2", "optim_args", "lr_scheduler_kwargs", "deepspeed", "fsdp", "attn_implementation",
              "label_smoothing_factor"),
) + build_names(
    "TRL",
    {
        "max_length": "data.max_length", "max_seq_length": "data.max_length", "max_prompt_length": "data.max_length",
        "max_completion_length": "stage.max_new_tokens", "response_length": "stage.max_new_tokens",
        "num_generations": "stage.num_generations", "beta": "stage.beta", "loss_type": "stage.loss",
        "ref_model": "stage.reference", "label_smoothing": "stage.label_smoothing", "rpo_alpha": "stage.sft_weight",
        "simpo_gamma": "stage.gamma", "cpo_alpha": "stage.sft_weight",
        "precompute_ref_log_probs": "stage.reference_mode",
        "desirable_weight": "stage.desirable_weight", "undesirable_weight": "stage.undesirable_weight",
        "center_rewards_coefficient": "stage.center_rewards_coefficient", "kl_coef": "stage.kl_coefficient",
        "init_kl_coef": "stage.kl_coefficient", "adap_kl_ctrl": "stage.kl_control", "cliprange": "stage.clip_high",
        "cliprange_value": "stage.value_clip", "vf_coef": "stage.vf_coef", "gamma": "stage.gamma_discount",
        "lam": "stage.gae_lambda", "whiten_rewards": "stage.whiten_rewards",
        "missing_eos_penalty": "stage.missing_eos_penalty", "num_ppo_epochs": "stage.epochs_per_rollout",
        "num_iterations": "stage.epochs_per_rollout", "num_mini_batches": "stage.minibatches",
        "epsilon": "stage.clip_low", "epsilon_high": "stage.clip_high", "scale_rewards": "stage.scale_rewards",
        "mask_truncated_completions": "stage.mask_truncated", "reward_funcs": "stage.reward",
        "reward_model_path": "stage.reward", "reward_weights": "stage.reward_weights", "use_vllm": "stage.engine=vllm",
        "generation_batch_size": "stage.rollout_batch", "temperature": "stage.temperature",
        "assistant_only_loss": "data.mask=answers", "completion_only_loss": "data.mask=answers",
        "packing": "data.packing", "use_dft_loss": "stage.loss=dft", "chat_template_path": "data.template",
        "dataset_text_field": "data.columns", "dataset_name": "data=file data.path=hub:{value}",
        "model_name_or_path": "model=hf model.path={value}", "sft_model_path": "model=hf model.path={value}",
        "discopop_tau": "stage.tau", "aux_loss_coef": "stage.router_aux_loss_coef",
    },
    notes={
        "assistant_only_loss": notes.ANSWERS,
        "completion_only_loss": notes.ANSWERS,
        "max_prompt_length": message("Prompt and answer together have at most data.max_length tokens."),
        "beta": message("In dpo and kto it is stage.beta; in grpo and ppo it is stage.kl_coefficient."),
        "cliprange": notes.CLIP,
        "epsilon": notes.CLIP,
        "cpo_alpha": message("It is the weight of the chosen answer's log-likelihood."),
        "packing": notes.PACKING,
        "gamma": message("In ppo it is stage.gamma_discount; stage.gamma is SimPO's margin."),
        "lora_task_type": notes.TASK,
        "packing_strategy": message("data.packing=best_fit is the only strategy."),
        "dataset_text_field": message("Such as data.columns={text: content}."),
        "sync_ref_model": message("Not offered: the reference model does not change during training."),
        "use_weighting": message("Not offered: WPO's weights are not available."),
    },
    values={"packing": {"true": "data.packing=best_fit", "false": "data.packing=none"},
            "loss_type": {"dpo": "stage.loss=sigmoid", "dft": "stage.loss=dft"},
            "precompute_ref_log_probs": {"true": "stage.reference_mode=precomputed", "false": ""}},
    computed=("max_prompt_length", "adap_kl_ctrl", "chat_template_path", "dataset_text_field", "reward_funcs",
              "reward_model_path", "scale_rewards", "cpo_alpha"),
) + build_names(
    "peft",
    {
        "r": "method.rank", "lora_r": "method.rank", "lora_alpha": "method.alpha", "lora_dropout": "method.dropout",
        "target_modules": "method.targets", "lora_target_modules": "method.targets",
        "modules_to_save": "method.modules_to_save", "use_dora": "method=dora",
        "use_rslora": "method=rslora", "init_lora_weights": "method.init", "rank_pattern": "method.rank_pattern",
        "alpha_pattern": "method.alpha_pattern", "layers_to_transform": "method.targets",
        "oft_block_size": "method.block",
        "use_peft": "method=lora", "task_type": "",
    },
    notes={
        "task_type": notes.TASK,
        "use_dora": notes.DORA,
        "use_rslora": notes.RSLORA,
        "layers_to_transform": message("method.targets takes patterns of names, such as *.layers.3.*."),
        "bias": message("Not offered: biases stay frozen under an adapter."),
        "fan_in_fan_out": message("Not needed: it is read from the layer."),
        "merge_and_unload": notes.MERGING,
    },
    values={"init_lora_weights": {"true": "method.init=default", "false": ""}},
    computed=("layers_to_transform",),
) + build_names(
    "bitsandbytes",
    {
        "load_in_4bit": "method=qlora", "bnb_4bit_quant_type": "method.quant_type",
        "bnb_4bit_use_double_quant": "method.double_quant", "use_bnb_nested_quant": "method.double_quant",
        "bnb_4bit_compute_dtype": "precision", "quantization_config": "method=qlora",
    },
    notes={"load_in_4bit": notes.FOUR_BITS, "load_in_8bit": notes.FOUR_BITS, "quantization_config": notes.FOUR_BITS},
)
