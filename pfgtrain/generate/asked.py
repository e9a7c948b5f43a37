"""From what is asked in words to the models that generate and evaluate take."""

from __future__ import annotations

from pathlib import Path

from pfgdata.conventions import Convention
from pfgdata.errors import ConfigError
from pfgdata.hub import single_file_width
from pfgdata.paths import user_path
from pfgdata.records import Progress, during_one
from pfgdata.taggers import OnnxTagger, Tagger
from pfgtrain.adapter import load_adapter
from pfgtrain.base import Base, onnx_device, require_same_width
from pfgtrain.checkpoint import RunRecord
from pfgtrain.generate.beside import facts_beside
from pfgtrain.generate.job import GenerateJob, ModelJob
from pfgtrain.generate.load import PUBLISHED_PREPROCESS, load_adapter_on_base, load_run
from pfgtrain.generate.model import PFGModel

__all__ = ["adapter_model", "base_of_run", "run_model"]


def base_of_run(run: Path, asked: ModelJob, *, progress: Progress) -> Base:
    """The base asked for, by default the run's own.

    Raises ConfigError if the run learned another prediction type, and IdentityError for a single file of
    another width, before it is unpacked.
    """
    record = RunRecord.read(run)
    if asked.prediction_type not in (None, record.prediction_type):
        raise ConfigError(
            f"run {run} learned to predict {record.prediction_type}; leave out --prediction-type"
        )
    name = asked.base or record.base_name
    if (width := single_file_width(name)) is not None:
        require_same_width(width, record, name=name, where=f"run {run}")
    revision = None if asked.base else record.base_revision
    return Base.load(name, revision=revision, config=_configs(asked), progress=progress)


def run_model(run: Path, asked: ModelJob, *, progress: Progress) -> PFGModel:
    """The model of a run that is asked for."""
    base = base_of_run(run, asked, progress=progress)
    preprocess = Convention.of(RunRecord.read(run).tagger.preprocess)
    return load_run(
        run,
        base=base,
        tagger=_tagger_named(asked, preprocess=preprocess, progress=progress),
        device=asked.device,
        which=asked,
        progress=progress,
    )


def adapter_model(asked: GenerateJob, *, progress: Progress) -> PFGModel:
    """The model of published weights on a base; a single file that they do not fit is not unpacked."""
    assert asked.base and asked.adapter
    adapter = user_path(asked.adapter)
    facts = facts_beside(adapter)
    if (width := single_file_width(asked.base)) is not None:
        load_adapter(adapter, cross_attention_dim=width)
    loaded = Base.load(
        asked.base, config=_configs(asked), prediction_type=asked.prediction_type, progress=progress
    )
    preprocess = Convention.of(facts["tagger"].preprocess) if facts else PUBLISHED_PREPROCESS
    model = _tagger_named(asked, preprocess=preprocess, progress=progress)
    return load_adapter_on_base(
        adapter, loaded, tagger=model, device=asked.device, which=asked, progress=progress
    )


def _tagger_named(asked: ModelJob, *, preprocess: str | Convention, progress: Progress) -> Tagger | None:
    """The tagger that stands in for the run's own; None where none is asked for."""
    if asked.tagger is None:
        return None
    with during_one(progress, "load", unit="taggers"):
        return OnnxTagger.load(asked.tagger, preprocess=preprocess, device=onnx_device(asked.device))


def _configs(asked: ModelJob) -> Path | None:
    return user_path(asked.base_config) if asked.base_config else None
