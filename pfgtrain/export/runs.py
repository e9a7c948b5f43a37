"""A run to give away: its record and the weights of one checkpoint, nothing that only training needs.

generate, evaluate, export and `--base` take it as they take the run itself, if its base and tagger are known
by a name that travels (`demo`, a hub id) or are named again; `fit --resume` cannot.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pfgdata.errors import RunError
from pfgdata.hub import write_tensors
from pfgtrain.checkpoint import (
    ADAPTER_FILE,
    LORA_FILE,
    UNET_FILE,
    Sampling,
    checkpoint_of,
    read_state,
    save_checkpoint,
)
from pfgtrain.export.plan import ExportPlan
from pfgtrain.generate import without_folders

__all__ = ["write_run"]


def write_run(folder: Path, plan: ExportPlan, *, dtype: torch.dtype) -> None:
    """Write the run with the plan's weights as its only ones; the UNet's in `dtype`, all others as they are.

    Base, tagger and store that were folders of this machine are in its record by their last name. Raises
    OSError or SafetensorError where `folder` cannot be written: it does not stay, so there is none to resume.
    """
    (name,) = plan.names_of("run")
    known = plan.record
    record = replace(
        known,
        base_name=without_folders(known.base_name),
        tagger=replace(known.tagger, name=without_folders(known.tagger.name)),
        store=without_folders(known.store),
        features=known.features_read.named(without_folders).as_records(),
        use_ema=False,
        processes=1,
    )
    state, sampling = read_state(checkpoint_of(plan.weights)), Sampling.read(plan.run_dir)
    (folder / name).mkdir()
    record.write(folder / name)

    def write(checkpoint: Path) -> None:
        for file in (ADAPTER_FILE, LORA_FILE):
            if (plan.weights / file).is_file():
                shutil.copyfile(plan.weights / file, checkpoint / file)
        if (plan.weights / UNET_FILE).is_file():
            _write_unet(plan.weights / UNET_FILE, checkpoint / UNET_FILE, dtype=dtype)

    try:
        if sampling is not None:
            sampling.write(folder / name)
        save_checkpoint(folder / name, state, write=write)
    except RunError as problem:  # whose advice is for a fit: to resume it, to leave out --keep
        if isinstance(problem.__cause__, (OSError, SafetensorError)):
            raise problem.__cause__ from None
        raise


def _write_unet(source: Path, target: Path, *, dtype: torch.dtype) -> None:
    state = {key: tensor.to(dtype) for key, tensor in load_file(source).items()}
    for key, tensor in state.items():
        if not tensor.isfinite().all():
            raise RunError(f"the UNet's {key} is not finite in {dtype}; export with --dtype float32")
    write_tensors(target, state, header={"format": "pt"})
