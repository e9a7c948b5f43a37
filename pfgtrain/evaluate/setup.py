"""What a model is measured by: guides, who looks, what it was trained on, how its settings came to be."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pfgdata.errors import ConfigError
from pfgdata.files import cache_folder
from pfgdata.hub import DEMO
from pfgdata.paths import user_path
from pfgdata.query import select
from pfgdata.records import NoProgress, Progress, during_one
from pfgdata.store import Store
from pfgdata.taggers import OnnxTagger, Tagger
from pfgtrain.base import onnx_device
from pfgtrain.checkpoint import RunRecord, Sampling
from pfgtrain.evaluate.guides import Guide, guides_of_folder, guides_of_selection
from pfgtrain.evaluate.job import EvaluateJob
from pfgtrain.evaluate.options import EvaluateOptions
from pfgtrain.evaluate.report import Tuning
from pfgtrain.evaluate.training import TrainingImages, thresholds_of
from pfgtrain.evaluate.tuning import tune
from pfgtrain.generate import PFGModel

__all__ = [
    "LARGE_GALLERY",
    "EvaluateSetup",
    "gallery_of_job",
    "guides_of_job",
    "judge_of_job",
    "large_gallery",
    "tuned",
]

LARGE_GALLERY = "large"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSetup:
    """All that an evaluation needs beside its model; `notes` are lines of the caller's for the report.

    `gallery` are characters that are searched among and not drawn, the guides left out.
    """

    guides: Sequence[Guide]
    gallery: Sequence[Guide] = ()
    judge: Tagger | None = None
    training: TrainingImages | None = None
    options: EvaluateOptions = field(default_factory=EvaluateOptions)
    tuning: Tuning | None = None
    notes: Sequence[str] = ()


def guides_of_job(
    job: EvaluateJob, record: RunRecord, *, store: Store | None
) -> tuple[list[Guide], list[str]]:
    """The guides asked for, those of `where` from the run's `store`, and what there is to say of them.

    Raises ConfigError where there are none.
    """
    if job.guides is not None:
        every = guides_of_folder(user_path(job.guides))
    else:
        every = gallery_of_job(job) if job.where is None else _selected(job, record, store)
    chosen = _spread(every, job.limit)
    if len(chosen) == len(every):
        return chosen, []
    return chosen, [f"{len(chosen)} of {len(every)} guides, evenly spread over their order, as asked"]


def gallery_of_job(job: EvaluateJob) -> list[Guide]:
    """The characters to search among, [] if none are asked for. Raises ConfigError for no such folder."""
    if job.gallery is None:
        return []
    folder = user_path(job.gallery)
    if job.gallery == LARGE_GALLERY and not folder.is_dir():
        folder = large_gallery()
        if not folder.is_dir():
            raise ConfigError(
                f"the large gallery is not at {folder}; draw it in a checkout, where Node.js is: python -m"
                " pipelines.demo_corpus gallery; or name a folder of your own characters by --gallery FOLDER"
            )
    return guides_of_folder(folder)


def large_gallery() -> Path:
    """Where the large gallery is kept: below PFG_CACHE, else in the user's cache."""
    return cache_folder() / "gallery"


def judge_of_job(job: EvaluateJob, *, tagger: str, progress: Progress) -> Tagger | None:
    """The second tagger that looks: the one asked for, or the demo's own where the run's `tagger` is demo."""
    name = job.judge or (DEMO if tagger == DEMO else None)
    if name is None:
        return None
    with during_one(progress, "load", unit="judges"):
        return OnnxTagger.load_judge(name, device=onnx_device(job.device))


def tuned(
    setup: EvaluateSetup, model: PFGModel, job: EvaluateJob, *, run: Path, progress: Progress | None = None
) -> EvaluateSetup:
    """`setup` with the guidance that is best on the guides of `tune`, if any; kept as the run's if asked.

    Raises RunError, before anything is drawn, where the run's folder cannot keep it.
    """
    if job.tune is None:
        return setup
    if job.keep:
        Sampling.require_room(run)
    others = guides_of_folder(user_path(job.tune))
    found = tune(
        model, others, reported=setup.guides, options=setup.options, progress=progress or NoProgress()
    )
    options = found.applied(setup.options)
    if job.keep:
        Sampling.of(options).write(run)
    note = f"guidance {options.guidance_scale:g} and PFG scale {options.pfg_scale:g} as chosen by --tune"
    if options.guidance_rescale:
        note += f", with guidance rescale {options.guidance_rescale:g}"
    return replace(setup, options=options, tuning=found, notes=[*setup.notes, note])


def _selected(job: EvaluateJob, record: RunRecord, store: Store | None) -> list[Guide]:
    assert store is not None
    snapshot = store.snapshot()
    found = guides_of_selection(store, snapshot, select(snapshot, job.where, thresholds_of(record)))
    if not found:
        raise ConfigError(f"{store.path}: no image is selected by {job.where!r}; try it with pfgdata query")
    return found


def _spread(guides: list[Guide], limit: int | None) -> list[Guide]:
    """At most `limit` of the guides, one by lot of each of as many stretches of their order.

    The first of a file that is sorted by style would be of one style, every fifth where five take turns too.
    """
    count = min(limit or len(guides), len(guides))
    ends = [number * len(guides) // count for number in range(count + 1)]
    lot = random.Random(0)  # the same guides in every evaluation
    return [guides[lot.randrange(first, end)] for first, end in itertools.pairwise(ends)]
