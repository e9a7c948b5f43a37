"""The export of a run: what is planned, written by the hand that knows each format, and published at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pfgdata.hub import write_tensors
from pfgdata.records import NoProgress, Progress, during, during_one
from pfgtrain.base import Base, require_same_base
from pfgtrain.checkpoint import LORA_FILE
from pfgtrain.export.adapters import write_adapter
from pfgtrain.export.loras import diffusers_lora, kohya_lora
from pfgtrain.export.models import (
    Model,
    limits,
    write_checkpoint,
    write_diffusers,
    write_unet,
)
from pfgtrain.export.plan import ExportOptions, ExportPlan, Format, plan_export
from pfgtrain.export.runs import write_run
from pfgtrain.export.staging import publish
from pfgtrain.lora import read_lora

__all__ = ["ExportReport", "export"]

_OF_MODELS: dict[Format, Callable[[Path, ExportPlan, Model], None]] = {
    "checkpoint": write_checkpoint,
    "unet": write_unet,
    "diffusers": write_diffusers,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What `export` wrote."""

    run: Path
    plan: ExportPlan
    files: tuple[Path, ...]  # folders among them
    notes: tuple[str, ...]  # what a user of the files should know, a line each

    def as_dict(self) -> dict[str, object]:
        """Plain values, for --json."""
        files, notes = [str(path) for path in self.files], list(self.notes)
        return {"run": str(self.run), **self.plan.as_dict(), "files": files, "notes": notes}


def export(
    run_dir: Path,
    to: Path,
    *,
    options: ExportOptions | None = None,
    base: Base | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the run in `run_dir` into the folder `to` in the formats of `options`, each whole or not at all.

    `base` stands in if the recorded one has moved. Raises ConfigError for a format that cannot hold the run,
    RunError if files of other content are there, IdentityError if the base is another.
    """
    options, progress = options or ExportOptions(), progress or NoProgress()
    plan = plan_export(run_dir, options, progress=progress)
    needs = {*_OF_MODELS, *(["lora"] if plan.family.ldm.lora_layers == "ldm" else [])}
    if base is None and set(plan.formats) & needs:
        known = plan.record
        base = Base.load(known.base_name, revision=known.base_revision, progress=progress)
    if base is not None:
        require_same_base(base, plan.record, where=f"run {run_dir}")
        base = replace(base, prediction_type=plan.record.prediction_type)
    notes = list(plan.notes)
    dtype = torch.float16 if options.dtype == "float16" else torch.float32

    def write(folder: Path) -> None:
        notes.extend(_write(folder, plan, base=base, dtype=dtype, progress=progress))

    with during(progress, "export", total=len(plan.formats), unit="formats", brief=False):
        files = publish(to, plan.names, write=write, force=options.force)
    for note in notes:
        progress.say(note)
    return ExportReport(run=run_dir, plan=plan, files=tuple(files), notes=tuple(notes))


def _write(
    folder: Path, plan: ExportPlan, *, base: Base | None, dtype: torch.dtype, progress: Progress
) -> list[str]:
    """Write every format of the plan into `folder`; the limits of its models. The UNet is loaded once."""
    notes: list[str] = []
    model: Model | None = None
    for kind in plan.formats:
        if kind == "adapter":
            write_adapter(folder, plan)
        elif kind == "lora":
            _write_loras(folder, plan, base)
        elif kind == "run":
            write_run(folder, plan, dtype=dtype)
        else:
            assert base is not None
            if model is None:
                with during_one(progress, "load", unit="models"):
                    model = Model.load(base, plan, dtype=dtype)
                notes.extend(limits(model, plan))
            _OF_MODELS[kind](folder, plan, model)
        progress.advance()
    return notes


def _write_loras(folder: Path, plan: ExportPlan, base: Base | None) -> None:
    """Write the LoRA in kohya's names and in diffusers'."""
    unet_config = base.unet_outline().config if base else None
    lora = read_lora(plan.weights / LORA_FILE)
    kohya, diffusers = (folder / name for name in plan.names_of("lora"))
    state, header = kohya_lora(
        lora,
        name=plan.name,
        ldm=plan.family.ldm,
        architecture=plan.architecture,
        unet_config=unet_config,
    )
    write_tensors(kohya, state, header=header)
    state, header = diffusers_lora(lora)
    write_tensors(diffusers, state, header=header)
