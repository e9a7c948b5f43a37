"""Other trainers' words for our keys: what someone who comes from kohya's sd-scripts will type first."""

from __future__ import annotations

__all__ = ["FLAGS_ONLY", "SYNONYMS", "UNSUPPORTED"]

UNSUPPORTED = (  # what others have and pfgtrain has not
    "ema_update_after_step",
    "enable_bucket",
    "network_arguments",
    "network_args",
    "network_module",
    "noise_offset",
    "optimizer_args",
    "sample_every_n_steps",
    "sample_prompts",
    "save_model_as",
)
SYNONYMS = {  # other trainers' words (kohya's sd-scripts above all) -> ours
    "adam_beta1": "adamw.beta1",
    "adam_beta2": "adamw.beta2",
    "adam_epsilon": "adamw.epsilon",
    "adam_weight_decay": "adamw.weight_decay",
    "batch_size": "train_batch_size",
    "caption_dropout": "caption_dropout_rate",
    "caption_column": "caption",
    "caption_tag_dropout_rate": "caption_dropout_rate (of whole captions)",
    "cond_dropout": "condition_dropout",
    "dropout": "condition_dropout",
    "dim": "r",
    "ema": "use_ema",
    "epoch": "num_train_epochs",
    "epochs": "num_train_epochs",
    "init_weights": "init",
    "log_every_n_steps": "logging_steps",
    "lr": "learning_rate",
    "lr_scheduler_num_cycles": "lr_num_cycles",
    "lr_scheduler_power": "lr_power",
    "max_train_epochs": "num_train_epochs",
    "min_snr_gamma": "snr_gamma",
    "network_alpha": "lora_alpha",
    "network_dim": "r",
    "network_lr": "lora_learning_rate",
    "network_train_unet_only": 'train = "lora"',
    "network_weights": "init",
    "optimizer_type": "optimizer",
    "pfg_num_tokens": "num_tokens",
    "pfg_token_num": "num_tokens",
    "pretrained_model_name_or_path": "base",
    "rank": "r",
    "recipe": "preprocess",  # of [ingest], until it was called so
    "save_every_n_steps": "checkpointing_steps",
    "save_last_n_steps": "checkpoints_total_limit",
    "steps": "max_train_steps",
    "tokens": "num_tokens",
    "unet_lr": 'learning_rate, or lora_learning_rate with train = "lora"',
    "weight_decay": "adamw.weight_decay",
    "v_parameterization": 'prediction_type = "v_prediction"',
}
FLAGS_ONLY = {  # words for what is no key of a config
    "output_dir": "the option --out",
    "train_data_dir": "the option --store",
    "shards": "the option --store",
    "store": "the option --store",
    "out": "the option --out",
    "output_name": "the option --out",
    "resume": "the option --resume",
    "resume_from_checkpoint": "the option --resume",
}
