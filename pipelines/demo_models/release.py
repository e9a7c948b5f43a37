"""The assets whose UNet the product trained, and their cards: the base of stage 1, the run.

Every number of a card is measured on the written files, as a user would measure it: guidance is chosen on the
guides that split.json keeps for that, and what is reported is of the others.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pfgdata.hub import DEMO
from pfgdata.records import Progress
from pfgdata.store import Store
from pfgdata.taggers import OnnxTagger
from pfgtrain.checkpoint import RunRecord, Sampling, find_checkpoint, read_state
from pfgtrain.config import load_config
from pfgtrain.evaluate import EvaluateOptions, EvaluateSetup, Guide, evaluate, training_images, tune
from pfgtrain.export import ExportOptions, export
from pfgtrain.generate import load_run
from pipelines.demo_models import cards
from pipelines.demo_models.base import STAGE_1, BaseRecipe, write_base
from pipelines.demo_models.data import Row
from pipelines.demo_models.files import fresh
from pipelines.fidelity import retrieval_lines

RUN = "demo_run"
SEEN_BEFORE = 284_096  # pictures, by the runs that it goes on from: cards.RUN_HISTORY
RESCALE = 0.7  # the guidance's; lines and flat colours are nearer to the guides' with it: docs/experiments.md


def release_base(out: Path, *, recipe: BaseRecipe, text_width: int) -> Path:
    """Write OUT/export/demo_base whole, with its card."""
    folder = write_base(out, recipe=recipe, text_width=text_width)
    numbers = _training(out / "runs" / STAGE_1)
    (folder / "README.md").write_text(cards.base_card(numbers), encoding="utf-8")
    return folder


def release_run(out: Path, rows: Sequence[Row], *, progress: Progress) -> Path:
    """Write OUT/export/demo_run with its card, after an evaluation into OUT/evaluation; `rows` are guides."""
    run = out / "runs" / RUN
    (made,) = export(run, out / "export" / "given", options=ExportOptions(formats=("run",), force=True)).files
    folder = fresh(out / "export" / RUN)
    shutil.copytree(made, folder, dirs_exist_ok=True)
    model, store = load_run(folder), Store.open(out / "feats")
    options = EvaluateOptions(guidance_rescale=RESCALE)
    few = replace(options, images_per_guide=2)
    guides, others = (guides_of(rows, role) for role in ("report", "tune"))
    tuning = tune(model, others, reported=guides, options=few, progress=progress)
    options = tuning.applied(options)
    Sampling.of(options).write(folder)
    setup = EvaluateSetup(
        guides=guides,
        judge=OnnxTagger.load_judge(DEMO),
        training=training_images(store, RunRecord.read(run), tagger=store.identity.tagger),
        options=options,
        tuning=tuning,
    )
    report = evaluate(model, setup, out_dir=out / "evaluation", progress=progress)
    adapter = model.pipeline.adapter
    numbers = _training(run)
    went_on = Path(load_config(run / "config.toml", {}).init or "").name == RUN
    numbers["pictures_seen"] += SEEN_BEFORE if went_on else 0
    numbers |= {
        "adapter": sum(value.numel() for value in adapter.parameters()),
        "num_tokens": adapter.num_tokens,
        "guides": len(guides),
        "tuned_on": len(others),
        "images_per_guide": report.options.images_per_guide,
        "guidance_scale": report.options.guidance_scale,
    }
    table = "\n".join(f"    {line.strip()}" for line in retrieval_lines({"demo run": report}))
    card = cards.run_card(numbers, prompt=model.prompt, table=table, went_on=went_on)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def guides_of(rows: Sequence[Row], role: str) -> list[Guide]:
    """The characters of `role`, the first picture of each guiding, the second its other view."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.role == role:
            found.setdefault(row.character, []).append(row)
    return [
        Guide(
            name=views[0].file.name,
            character=character,
            views=tuple(view.file for view in views[:2]),
            style=views[0].style,
            tags=frozenset(views[0].coarse),
        )
        for character, views in found.items()
    ]


def _training(run: Path) -> dict[str, float]:
    """What a run was trained with, for a card."""
    record, state, config = (
        RunRecord.read(run),
        read_state(find_checkpoint(run)),
        load_config(run / "config.toml", {}),
    )
    unet = load_run(run).pipeline.unet
    return {
        "parameters": sum(p.numel() for p in unet.parameters()),
        "channels": unet.config["in_channels"],
        "steps": state.step,
        "pictures_seen": state.step * config.train_batch_size * record.processes,
        "batch": config.train_batch_size * record.processes,
        "trained_count": record.trained_count,
        "probe_start": state.probe_start,
        "validation_loss": state.validation_loss or 0.0,
    }
