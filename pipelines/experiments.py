"""Does PFG learn, and what of it matters? Fits of the demo's size that differ in one thing each.

    python -m pipelines.experiments --demo demo-out --out experiments-out

Needs the store and latents of `make demo`. Each variant is a plain fit on the 240 demo images from the demo
base, then an evaluation on the 50 committed guides, two pictures each, all from the same noise. Prints a line
of JSON a variant; what is done is not done again, and a fit that was stopped goes on. About four minutes a
variant on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pfgdata.hub import DEMO
from pfgdata.records import NoProgress
from pfgdata.store import Store
from pfgdata.taggers import OnnxTagger
from pfgtrain.checkpoint import checkpoints, is_run, read_state
from pfgtrain.config import FitConfig
from pfgtrain.evaluate import EvaluateOptions, EvaluateReport, EvaluateSetup, evaluate, guides_of_folder
from pfgtrain.fit import base_of, data_of, fit, go_on
from pfgtrain.generate import load_run
from pipelines.ending import ended
from pipelines.recipe import find_recipe, read_recipe

VARIANTS: dict[str, dict[str, Any]] = {
    "as in make demo": {},
    "adapter only": {"train": "adapter"},
    "adapter only, rate x 3": {"train": "adapter", "adapter_learning_rate": 6e-3},
    "adapter only, rate x 10": {"train": "adapter", "adapter_learning_rate": 2e-2},
    "adapter only, rate / 4": {"train": "adapter", "adapter_learning_rate": 5e-4},
    "1 token": {"num_tokens": 1},
    "10 tokens": {"num_tokens": 10},
    "mlp adapter": {"adapter_kind": "mlp"},
    "no condition dropout": {"condition_dropout": 0.0},
    "uncond eos": {"uncond": "eos"},
    "features standardized": {"standardize_features": True},
    "cross-attention only": {"unet_blocks": "cross_attention"},
    "LoRA, rank 16": {"train": "lora", "lora_learning_rate": 2e-3},
    "every timestep weighs the same": {"snr_gamma": None},
}
SAMPLING: dict[str, dict[str, float]] = {
    **{f"guidance {value:g}": {"guidance_scale": value} for value in (1.0, 1.5, 2.0, 5.0, 7.5)},
    **{f"PFG scale {value:g}": {"pfg_scale": value} for value in (0.5, 1.5)},
}


def main() -> int:
    """Run what is not done yet, and print a line each; 0 done, 1 a user can fix it, 130 interrupted."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--demo", type=Path, default=Path("demo-out"), help="what `make demo` made")
    made.add_argument("--out", type=Path, default=Path("experiments-out"))
    options = made.parse_args()
    return ended(lambda: _run(options.demo, options.out))


def _run(demo: Path, out: Path) -> None:
    recipe = read_recipe(find_recipe("demo"))
    assert recipe.fit and recipe.evaluate and recipe.evaluate.guides
    store = Store.open(demo / "feats")
    guides = recipe.folder / recipe.evaluate.guides
    plain = recipe.evaluate.options(EvaluateOptions)
    for name, changes in VARIANTS.items():
        run = out / name.replace(" ", "-").replace("/", "by").replace(",", "")
        config = replace(recipe.fit, base=DEMO, checkpoint_at_start=False, **changes)
        for line in variant(store, config, run=run, guides=guides, options=plain, sampling=not changes):
            print(json.dumps({"variant": name, **line}), flush=True)


def variant(
    store: Store, config: FitConfig, *, run: Path, guides: Path, options: EvaluateOptions, sampling: bool
) -> Iterator[dict[str, Any]]:
    """Fit if it is not done, and a line of figures; with `sampling` one for each way to sample too."""
    train(store, config, run=run)
    settings = {"": options}
    if sampling:
        settings |= {name: replace(options, **changes) for name, changes in SAMPLING.items()}  # type: ignore[arg-type]
    for name, setting in settings.items():
        kept = run / f"figures{name.replace(' ', '-')}.json"
        if not kept.exists():
            judge = OnnxTagger.load_judge(DEMO)
            setup = EvaluateSetup(guides=guides_of_folder(guides), judge=judge, options=setting)
            report = evaluate(load_run(run), setup)
            kept.write_text(json.dumps(figures(report)))
        yield {"sampling": name, **json.loads(kept.read_text())}


def train(store: Store, config: FitConfig, *, run: Path) -> None:
    """Fit, or go on with a fit that has not come to its end; the figures of what it was are then dropped.

    A run's record is there before its first step: that it came to its end, only a checkpoint says.
    """
    made = checkpoints(run)
    if config.max_train_steps and made and read_state(made[-1]).step >= config.max_train_steps:
        return
    data = data_of(store, config)
    begin = go_on if is_run(run) else fit
    report = begin(data, base_of(data, config, run_dir=run), config, run_dir=run, progress=NoProgress())
    if report.last_step > report.first_step:
        for kept in run.glob("figures*.json"):
            kept.unlink()


def figures(report: EvaluateReport) -> dict[str, str]:
    """Top-1 and scaled cosine by both viewers, with intervals."""
    found = {}
    for role, viewer in report.viewers.items():
        row = viewer.rows["pfg"]
        found[f"{role} scaled"] = str(row.scaled)
        for gallery in ("guide", "view"):
            found[f"{role} top-1 {gallery}"] = str(row.retrieval[gallery].top1)
    return found


if __name__ == "__main__":
    sys.exit(main())
