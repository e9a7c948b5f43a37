"""From the names that a user gives to the models that generate and evaluate take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgdata.records import Progress
    from pfgdata.taggers import Tagger
    from pfgtrain.generate import PFGModel

__all__ = ["adapter_model", "run_model", "tagger_named", "with_sampling"]


def run_model(
    run: Path,
    checkpoint: str,
    *,
    ema: bool,
    base: str | None,
    tagger: str | None,
    device: str | None,
    progress: Progress,
) -> PFGModel:
    """The model of a run; `base` and `tagger` stand in for the run's own."""
    from pfgtrain.base import Base
    from pfgtrain.checkpoint import RunRecord
    from pfgtrain.generate import load_run

    loaded = Base.load(base, progress=progress) if base else None
    recipe = RunRecord.read(run).tagger.recipe
    model = tagger_named(tagger, recipe=recipe, device=device, progress=progress)
    return load_run(
        run,
        base=loaded,
        tagger=model,
        device=device,
        checkpoint=checkpoint,
        ema=ema,
        progress=progress,
    )


def adapter_model(
    adapter: Path, base: str, *, tagger: str | None, device: str | None, progress: Progress
) -> PFGModel:
    """The model of published weights on a base."""
    from pfgtrain.base import Base
    from pfgtrain.generate import PUBLISHED_RECIPE, load_adapter_on_base

    model = tagger_named(tagger, recipe=PUBLISHED_RECIPE, device=device, progress=progress)
    loaded = Base.load(base, progress=progress)
    return load_adapter_on_base(adapter, loaded, tagger=model, device=device, progress=progress)


def tagger_named(name: str | None, *, recipe: str, device: str | None, progress: Progress) -> Tagger | None:
    """The tagger called `name`; None without a name."""
    from pfgdata.records import during
    from pfgdata.taggers import OnnxTagger
    from pfgtrain.base import onnx_device

    if name is None:
        return None
    with during(progress, "load", total=1, unit="taggers"):
        tagger = OnnxTagger.load(name, recipe=recipe, device=onnx_device(device))
        progress.advance()
    return tagger


def with_sampling(given: dict[str, Any], run_dir: Path | None) -> dict[str, Any]:
    """The options `given`, those that are None as the run's sampling.json has them, else left out."""
    from pfgtrain.checkpoint import Sampling

    kept = Sampling.read(run_dir) if run_dir else None
    for name in ("guidance_scale", "pfg_scale"):
        if given[name] is None:
            del given[name]
            if kept is not None:
                given[name] = getattr(kept, name)
    return given
