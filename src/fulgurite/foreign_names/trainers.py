"""Names of axolotl's and litgpt's files, of Lightning's Trainer, and of other tools."""

from __future__ import annotations

from fulgurite.foreign_names import notes
from fulgurite.foreign_names.entry import build_names
from fulgurite.language.message import message

NAMES = build_names(
    "axolotl",
    {
        "base_model": "model=hf model.path={value}", "adapter": "method", "sequence_len": "data.max_length",
        "micro_batch_size": "trainer.micro_batch_size", "gradient_accumulation_steps": "trainer.global_batch_size",
        "num_epochs": "trainer.epochs", "learning_rate": "optim.lr", "lr_scheduler": "scheduler", "optimizer": "optim",
        "val_set_size": "data.val_fraction", "datasets": "data=file data.path={value}", "lora_r": "method.rank",
        "lora_alpha": "method.alpha", "lora_dropout": "method.dropout", "lora_target_modules": "method.targets",
        "lora_modules_to_save": "method.modules_to_save", "sample_packing": "data.packing",
        "train_on_inputs": "data.mask=all", "chat_template": "data.template",
        "gradient_clipping": "trainer.max_grad_norm",
        "evals_per_epoch": "trainer.eval_every", "saves_per_epoch": "trainer.save_every", "rl": "stage",
        "rl_beta": "stage.beta", "load_in_4bit": "method=qlora", "load_in_8bit": "",
        "flash_attention": "model.attention",
        "lora_model_dir": "method.adapter_path", "wandb_project": "logger=wandb logger.wandb.project={value}",
        "wandb_entity": "logger=wandb logger.wandb.entity={value}", "wandb_name": "name",
        "wandb_run_id": "logger=wandb logger.wandb.id={value}",
        "wandb_mode": "logger=wandb logger.wandb.mode={value}",
        "wandb_log_model": "logger=wandb logger.wandb.checkpoints={value}",
        "use_wandb": "logger=wandb", "use_mlflow": "logger=mlflow", "use_trackio": "logger=trackio",
        "mlflow_tracking_uri": "logger=mlflow logger.mlflow.tracking_uri={value}",
        "mlflow_experiment_name": "logger=mlflow logger.mlflow.experiment_name={value}", "mlflow_run_name": "name",
        "trackio_project_name": "logger=trackio logger.trackio.project={value}", "trackio_run_name": "name",
        "trackio_space_id": "logger=trackio logger.trackio.space_id={value}", "peft_use_dora": "method=dora",
        "peft_use_rslora": "method=rslora", "loraplus_lr_ratio": "method.loraplus_lr_ratio",
        "lora_target_linear": "method.targets", "unfrozen_parameters": "method=freeze method.trainable={value}",
    },
    notes={
        "gradient_accumulation_steps": notes.ACCUMULATION, "micro_batch_size": notes.MICRO_BATCH,
        "load_in_8bit": notes.FOUR_BITS, "flash_attention": notes.ATTENTION, "sample_packing": notes.PACKING,
        "evals_per_epoch": notes.COUNTED,
        "saves_per_epoch": message("fulgurite counts optimizer steps between two checkpoints."),
        "eval_sample_packing": notes.PACKING, "dataset_prepared_path": notes.PREPROCESSING,
        "pad_to_sequence_len": message("Not needed: a micro-batch is padded to its longest example."),
        "lora_target_linear": message("Every linear layer except the output head gets an adapter by default."),
        "special_tokens": message("model.add_tokens adds tokens to the tokenizer."),
        "xformers_attention": notes.ATTENTION,
        "wandb_watch": message(
            "callback=[samples, progress, monitor, gradient_histograms] sends histograms of the gradients."
        ),
    },
    values={
        "adapter": {"lora": "method=lora", "qlora": "method=qlora"},
        "wandb_log_model": {
            "checkpoint": "logger=wandb logger.wandb.checkpoints=all",
            "end": "logger=wandb logger.wandb.checkpoints=last", "false": "",
        },
        "sample_packing": {"true": "data.packing=best_fit", "false": "data.packing=none"},
        "lora_target_linear": {"true": ""},
    },
    computed=("micro_batch_size", "gradient_accumulation_steps", "evals_per_epoch", "saves_per_epoch",
    "flash_attention",
              "lora_target_linear", "unfrozen_parameters", "datasets"),
) + build_names(
    "litgpt",
    {
        "checkpoint_dir": "model=hf model.path={value}", "out_dir": "run_dir", "precision": "precision",
        "global_batch_size": "trainer.global_batch_size", "micro_batch_size": "trainer.micro_batch_size",
        "epochs": "trainer.epochs", "max_seq_length": "data.max_length", "lr_warmup_steps": "scheduler.warmup_steps",
        "max_norm": "trainer.max_grad_norm", "min_lr": "scheduler.min_ratio", "save_interval": "trainer.save_every",
        "log_interval": "trainer.log_every", "lora_r": "method.rank", "lora_alpha": "method.alpha",
        "lora_dropout": "method.dropout", "quantize": "method=qlora", "logger_name": "logger",
        "devices": "trainer.devices",
        "num_nodes": "trainer.num_nodes", "val_split_fraction": "data.val_fraction", "prompt_style": "data.template",
        "mask_prompt": "data.mask=answers", "lora_head": "method.modules_to_save",
    },
    notes={
        "micro_batch_size": notes.MICRO_BATCH,
        "min_lr": message("It is a share of the peak, scheduler.min_ratio, and not a learning rate."),
        "lora_head": message("method.modules_to_save=[lm_head] trains the head whole."),
        "lora_query": message("method.targets names the layers that get an adapter, such as [q_proj, v_proj]."),
        "interval": notes.EVALUATION,
    },
    computed=("min_lr", "lora_head", "prompt_style"),
) + build_names(
    "Lightning",
    {
        "precision": "precision", "devices": "trainer.devices", "num_nodes": "trainer.num_nodes",
        "strategy": "strategy",
        "accelerator": "trainer.accelerator", "accumulate_grad_batches": "trainer.global_batch_size",
        "gradient_clip_val": "trainer.max_grad_norm", "gradient_clip_algorithm": "trainer.clip_algorithm",
        "max_epochs": "trainer.epochs", "max_steps": "trainer.max_steps", "val_check_interval": "trainer.eval_every",
        "check_val_every_n_epoch": "trainer.eval_every", "log_every_n_steps": "trainer.log_every",
        "save_top_k": "trainer.keep_checkpoints", "every_n_train_steps": "trainer.save_every",
        "patience": "trainer.early_stopping_patience", "ckpt_path": "resume.run", "default_root_dir": "run_dir",
        "num_workers": "trainer.num_workers", "batch_size": "trainer.global_batch_size", "gpus": "trainer.devices",
        "detect_anomaly": "trainer.detect_anomaly", "deterministic": "trainer.deterministic",
        "benchmark": "trainer.benchmark", "profiler": "trainer.profiler", "seed_everything": "seed",
        "callbacks": "callback", "logger": "logger", "enable_progress_bar": "callback=progress",
        "enable_model_summary": "trainer.enable_model_summary", "auto_lr_find": "lr_finder.enabled",
    },
    notes={
        "accumulate_grad_batches": notes.ACCUMULATION,
        "batch_size": message(
            "It is the examples of one optimizer step, over all devices and accumulated micro-batches; "
            "trainer.micro_batch_size is the examples of one forward pass."
        ),
        "val_check_interval": notes.COUNTED,
        "check_val_every_n_epoch": notes.COUNTED,
        "save_top_k": message("The newest checkpoints are kept, and the best one besides."),
        "fast_dev_run": message(
            "trainer.max_steps=4 with model=tiny makes a short run; `fulgurite plan` trains nothing."
        ),
        "overfit_batches": message("data.max_samples=16 trains on few examples."),
        "limit_train_batches": message("trainer.max_steps or data.max_samples shortens a run."),
        "limit_val_batches": message("At most 1000 examples are held out."),
        "num_sanity_val_steps": message("Not needed: data and memory are checked before the first step."),
        "sync_batchnorm": message("Not needed: language models have no batch norm."),
        "enable_checkpointing": message(
            "Not needed: a run always writes checkpoints; trainer.keep_checkpoints sets how many are kept."
        ),
    },
    computed=("accumulate_grad_batches", "batch_size", "val_check_interval", "check_val_every_n_epoch", "save_top_k"),
) + build_names(
    "other tools",
    {
        "cutoff": "data.max_length", "resume": "resume.run", "seq_len": "data.max_length",
        "context_length": "data.max_length",
        "max_length_tokens": "data.max_length", "clip_grad": "trainer.max_grad_norm",
        "grad_clip": "trainer.max_grad_norm",
        "gradient_clip": "trainer.max_grad_norm", "grad_accum": "trainer.global_batch_size",
        "gradient_accumulation": "trainer.global_batch_size", "warmup": "scheduler.warmup_ratio",
        "lr_warmup": "scheduler.warmup_steps", "beta1": "optim.betas", "beta2": "optim.betas",
        "n_epochs": "trainer.epochs",
        "epoch": "trainer.epochs", "bs": "trainer.global_batch_size", "wd": "optim.weight_decay",
        "alpha": "method.alpha",
        "rank": "method.rank", "quantization": "method=qlora", "qlora_4bit": "method=qlora", "liger": "", "unsloth": "",
        "zero": "strategy", "zero_stage": "strategy", "dpo_beta": "stage.beta", "kl_beta": "stage.kl_coefficient",
        "num_samples_per_prompt": "stage.num_generations", "n_samples_per_prompt": "stage.num_generations",
        "group_size": "stage.num_generations", "model_name": "model=hf model.path={value}",
        "model_id": "model=hf model.path={value}", "data_path": "data=file data.path={value}",
        "train_file": "data=file data.path={value}", "validation_file": "data.val_path",
        "test_size": "data.val_fraction",
        "validation_split": "data.val_fraction", "early_stopping": "trainer.early_stopping_patience",
        "random_seed": "seed", "random_state": "seed", "save_dir": "run_dir", "system_prompt": "chat.system",
        "cpu": "trainer.accelerator=cpu", "gpu": "trainer.accelerator=cuda", "cuda": "trainer.accelerator=cuda",
        "mixed_precision": "precision", "amp": "precision", "scheduler_type": "scheduler", "optim_type": "optim",
        "ema": "optim=schedule_free", "multi_gpu": "strategy=ddp", "merge_lora": "export.merge",
        "save_merged": "export.merge",
        "num_gpus": "trainer.devices", "n_gpus": "trainer.devices", "world_size": "trainer.devices",
    },
    notes={
        "liger": notes.LIGER, "unsloth": notes.LIGER, "zero": notes.DEEPSPEED, "zero_stage": notes.DEEPSPEED,
        "offload_optimizer": notes.DEEPSPEED, "grad_accum": notes.ACCUMULATION,
        "gradient_accumulation": notes.ACCUMULATION,
        "beta1": notes.BETAS,
        "beta2": notes.BETAS,
        "quantization": notes.FOUR_BITS,
        "ema": message("schedule_free evaluates and saves an average of the weights."),
        "merge_lora": notes.MERGING, "save_merged": notes.MERGING,
        "flash_attention_2": notes.ATTENTION, "flash_attention": notes.ATTENTION,
    },
    computed=("grad_accum", "gradient_accumulation", "zero", "zero_stage", "beta1", "beta2", "warmup",
    "early_stopping"),
)
