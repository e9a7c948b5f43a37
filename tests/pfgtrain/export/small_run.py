"""A run on disk as fit leaves it, made by hand of a tiny base: fast, and every kind of it at will."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pfgdata.vaes import state_digest
from pfgtrain.adapter import PFGMLP, PFGAdapter, PFGLinear, PFGSeveral, save_adapter
from pfgtrain.base import Base
from pfgtrain.checkpoint import (
    ADAPTER_FILE,
    EMA_FOLDER,
    LORA_FILE,
    UNET_FILE,
    CheckpointState,
    RunRecord,
    save_checkpoint,
)
from pfgtrain.lora import add_lora, lora_header, lora_parameters
from tests.doubles import CheapTagger

FEATURE_DIM = CheapTagger().feature_dim
TOKENS = 3


def make_run(
    run: Path, base: Base, *, kind: str = "linear", r: int = 4, lora_alpha: float = 2.0, **changes: Any
) -> Path:
    """Write the run of one checkpoint, with a moving average; `changes` go to its record."""
    record = record_of(base, adapter_kind="mlp" if kind == "mlp" else "linear", **changes)
    run.mkdir(parents=True)
    record.write(run)

    def write(folder: Path) -> None:
        (folder / EMA_FOLDER).mkdir()
        for place, amount in ((folder, 0.5), (folder / EMA_FOLDER, 0.25)):
            if record.num_tokens:
                save_adapter(adapter_of(kind, record, seed=place.name), place / ADAPTER_FILE)
            if record.train == "unet":
                save_file(moved_unet(base, amount), place / UNET_FILE)
            if record.train == "lora":
                write_lora(base, place / LORA_FILE, r=r, lora_alpha=lora_alpha)

    state = CheckpointState(step=50, epoch=0, position=50, probe_start=1.0, validation_loss=None)
    save_checkpoint(run, state, write=write)
    return run


def record_of(base: Base, **changes: Any) -> RunRecord:
    """The record of a run on `base`."""
    fields: dict[str, Any] = {
        "tagger": CheapTagger().identity,
        "feature_dim": FEATURE_DIM,
        "base_name": base.name,
        "base_revision": base.revision,
        "base_fingerprint": base.fingerprint,
        "base_family": base.family.facts.name,
        "latents_id": "x",
        "vae_digest": state_digest(base.load_vae().state_dict()),
        "scaling_factor": base.scale.scaling,
        "resolution": 64,
        "prompt": "illustration of *",
        "caption": None,
        "captions_digest": None,
        "text_layer": base.text_layer,
        "uncond": "zeros",
        "num_tokens": TOKENS,
        "adapter_kind": "linear",
        "cross_attention_dim": base.cross_attention_dim,
        "prediction_type": base.prediction_type,
        "train": "unet",
        "use_ema": True,
        "store": "/home/someone/feats",
        "selection_digest": "x",
        "selection_count": 1,
        "selection_expression": None,
        "thresholds": {},
        "trained_digest": "x",
        "trained_count": 1,
        "held_out_count": 0,
        "versions": {},
        "created": "2026-11-24T00:00:00Z",
    }
    return RunRecord(**{**fields, **changes})


def adapter_of(kind: str, record: RunRecord, *, seed: str) -> PFGAdapter:
    """A fresh adapter: linear, mlp, or `standardizing`, a linear one that standardizes its features.

    Where the record has several sets, a linear adapter for each that it names.
    """
    generator = torch.Generator().manual_seed(len(seed))
    if record.features:
        plans, width = record.features_read.adapters, record.cross_attention_dim
        made = [PFGLinear(one.feature_dim, one.num_tokens, width, generator=generator) for one in plans]
        return made[0] if len(made) == 1 else PFGSeveral(made)
    shape = (FEATURE_DIM, record.num_tokens, record.cross_attention_dim)
    if kind == "mlp":
        return PFGMLP(*shape, hidden_dim=8, generator=generator)
    if kind == "linear":
        return PFGLinear(*shape, generator=generator)
    mean = torch.rand(FEATURE_DIM, generator=generator)
    return PFGLinear(*shape, standardization=(mean, mean + 0.5), generator=generator)


def moved_unet(base: Base, amount: float) -> dict[str, torch.Tensor]:
    """Parameters of the UNet that learned: all of its up blocks and the last convolution."""
    state = base.load_unet().state_dict()
    moved = {key: state[key] for key in state if key.startswith(("up_blocks.", "conv_out."))}
    return {key: tensor + amount * tensor.abs().mean() for key, tensor in moved.items()}


def write_lora(base: Base, path: Path, *, r: int, lora_alpha: float) -> None:
    """A LoRA that does something: its B is not zero."""
    unet = live_lora(base, r=r, lora_alpha=lora_alpha)
    state = {name: value.detach().contiguous() for name, value in lora_parameters(unet).items()}
    header = lora_header(r=r, lora_alpha=lora_alpha, target_modules=["to_q", "to_out.0"])
    save_file(state, path, metadata=header)


def live_lora(base: Base, *, r: int, lora_alpha: float) -> Any:
    """A UNet with a LoRA on it, on linear layers and on a convolution."""
    unet = base.load_unet()
    modules = ["to_q", "to_out.0", "proj_in", "conv1"]
    add_lora(unet, r=r, lora_alpha=lora_alpha, target_modules=modules, blocks="all", seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, value in sorted(lora_parameters(unet).items()):
            if ".lora_B" in name:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return unet
