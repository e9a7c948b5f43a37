"""From the names that a user gives to the models that generate and evaluate take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfgdata.records import Progress
    from pfgdata.taggers import Tagger
    from pfgtrain.base import Base, PredictionType
    from pfgtrain.generate import PFGModel

__all__ = ["AskedBase", "adapter_model", "base_of_run", "run_model", "tagger_named", "with_sampling"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedBase:
    """What the options say of a base."""

    name: str | None = None
    config: Path | None = None  # a folder with the configs that a single file lacks
    prediction_type: PredictionType | None = None


def base_of_run(run: Path, asked: AskedBase, *, progress: Progress) -> Base:
    """The base asked for, by default the run's own.

    Raises ConfigError if the run learned another prediction type, and IdentityError for a single file of
    another width, before it is unpacked.
    """
    from pfgdata.errors import ConfigError
    from pfgdata.hub import single_file_width
    from pfgtrain.base import Base, require_same_width
    from pfgtrain.checkpoint import RunRecord

    record = RunRecord.read(run)
    if asked.prediction_type not in (None, record.prediction_type):
        raise ConfigError(
            f"run {run} learned to predict {record.prediction_type}; leave out --prediction-type"
        )
    name = asked.name or record.base_name
    if (width := single_file_width(name)) is not None:
        require_same_width(width, record, name=name, where=f"run {run}")
    revision = None if asked.name else record.base_revision
    return Base.load(name, revision=revision, config=asked.config, progress=progress)


def run_model(
    run: Path,
    checkpoint: str,
    *,
    ema: bool,
    base: Base,
    tagger: str | None,
    device: str | None,
    progress: Progress,
) -> PFGModel:
    """The model of a run on `base`; `tagger` stands in for the run's own."""
    from pfgtrain.checkpoint import RunRecord
    from pfgtrain.generate import load_run

    preprocess = RunRecord.read(run).tagger.preprocess
    model = tagger_named(tagger, preprocess=preprocess, device=device, progress=progress)
    return load_run(
        run,
        base=base,
        tagger=model,
        device=device,
        checkpoint=checkpoint,
        ema=ema,
        progress=progress,
    )


def adapter_model(
    adapter: Path, asked: AskedBase, *, tagger: str | None, device: str | None, progress: Progress
) -> PFGModel:
    """The model of published weights on a base; a single file that they do not fit is not unpacked."""
    from pfgdata.hub import single_file_width
    from pfgtrain.adapter import load_adapter
    from pfgtrain.base import Base
    from pfgtrain.generate import PUBLISHED_PREPROCESS, load_adapter_on_base

    assert asked.name is not None
    if (width := single_file_width(asked.name)) is not None:
        load_adapter(adapter, cross_attention_dim=width)
    loaded = Base.load(
        asked.name, config=asked.config, prediction_type=asked.prediction_type, progress=progress
    )
    model = tagger_named(tagger, preprocess=PUBLISHED_PREPROCESS, device=device, progress=progress)
    return load_adapter_on_base(adapter, loaded, tagger=model, device=device, progress=progress)


def tagger_named(
    name: str | None, *, preprocess: str, device: str | None, progress: Progress
) -> Tagger | None:
    """The tagger called `name`; None without a name."""
    from pfgdata.records import during
    from pfgdata.taggers import OnnxTagger
    from pfgtrain.base import onnx_device

    if name is None:
        return None
    with during(progress, "load", total=1, unit="taggers"):
        tagger = OnnxTagger.load(name, preprocess=preprocess, device=onnx_device(device))
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
