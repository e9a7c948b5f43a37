"""The steps of a recipe: names to objects, then one library call each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pfgdata.corpus import plan_segments
from pfgdata.features import FeatureJob, FeaturePass, extractor_for
from pfgdata.hub import DEMO, resolve
from pfgdata.images import BucketPolicy
from pfgdata.ingest import ingest, open_or_create, open_or_none, tagger_for, write_captions
from pfgdata.latents import LatentJob, LatentPass
from pfgdata.query import Limits, Thresholds, count, locations, run_query, select
from pfgdata.records import Progress
from pfgdata.store import Store
from pfgdata.vaes import Vae, base_geometry
from pfgtrain.checkpoint import RunRecord, Sampling, checkpoints, find_checkpoint, read_state
from pfgtrain.config import FitConfig
from pfgtrain.evaluate import (
    LARGE_GALLERY,
    EvaluateJob,
    EvaluateOptions,
    EvaluateSetup,
    evaluate,
    gallery_of_job,
    guides_of_job,
    judge_of_job,
    training_images,
    tuned,
)
from pfgtrain.fit import base_of, data_of, fit, go_on
from pfgtrain.generate import (
    GenerateJob,
    GenerateOptions,
    PFGModel,
    PictureJob,
    adapter_model,
    generate,
    load_run,
    run_model,
)
from pipelines.fidelity import retrieval_lines, top1_words
from pipelines.recipe import GenerateTable, IngestTable, QueryTable, Recipe

__all__ = ["Step", "run_steps"]

Stop = Callable[[], bool]
Job = TypeVar("Job", bound=PictureJob)
_MODELS = ("base", "base_config", "tagger", "judge", "adapter")  # of a job
_PATHS = ("guides", "tune", "gallery")
_SHOWN = ("file", "character", "tags")  # columns of an image on screen
_TAGS = 8  # of a list there


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did, in words, and how long it took."""

    name: str
    result: str
    seconds: float


def run_steps(
    recipe: Recipe, out: Path, *, images: Path | None = None, progress: Progress, stop: Stop
) -> Iterator[Step]:
    """Run the steps of `recipe` into `out`, yielding each when it has ended; a stop ends after its step.

    `images` stands above the folder that the recipe names.
    """
    work: list[tuple[str, Callable[[], str]]] = []
    run = _Run(recipe, out, images, progress, stop)
    for name in ("ingest", "query", "latents", "features", "fit", "evaluate", "generate"):
        table = getattr(recipe, name)
        if table is not None:
            work.append((name, partial(getattr(run, name), table)))
    for name, do in work:
        started = time.monotonic()
        result = do()
        yield Step(name, result, time.monotonic() - started)
        if stop():
            return


class _Run:
    """One run of a recipe: what a step leaves for the next."""

    def __init__(
        self, recipe: Recipe, out: Path, images: Path | None, progress: Progress, stop: Stop
    ) -> None:
        self._recipe = recipe
        self._out = out
        self._images = images
        self._progress = progress
        self._stop = stop
        self._run_dir = out / "runs" / recipe.name
        self._latents_id: str | None = None

    def ingest(self, table: IngestTable) -> str:
        """Bring the images in."""
        path = self._out / "feats"
        named = table.tagger and self._recipe.model(table.tagger)
        convention = table.convention and self._recipe.model(table.convention)
        job = replace(table, tagger=named, convention=convention)
        tagger = tagger_for(open_or_none(path), job)
        if tagger.untrained:
            self._progress.say(f"tagger {tagger.identity.name} is untrained: tags and scores mean nothing")
        if tagger.unused_gpu:
            self._progress.say(f"the GPU is not used: {tagger.unused_gpu}")
        store = open_or_create(path, tagger, wait=job.wait)
        if tagger.batch_size:  # fixed by its graph
            job = replace(job, batch_size=tagger.batch_size)
        images = [self._images] if self._images else self._recipe.paths(table.images)
        segments = plan_segments(images, store.roots(), options=job.walk)
        report = ingest(segments, store, tagger, options=job, progress=self._progress, stop=self._stop)
        if job.sidecars and not report.interrupted:
            write_captions(store, segments, wait=job.wait, progress=self._progress)
        return (
            f"{report.found:,} images = {report.tagged:,} tagged + {report.copied:,} copied + "
            f"{report.unchanged:,} unchanged + {report.failed:,} failed + {report.pending:,} pending"
        )

    def query(self, table: QueryTable) -> str:
        """Ask a question, and show its first answers."""
        store, thresholds = self._store, self._thresholds(table)
        snapshot = store.snapshot()
        question = table.question(snapshot)
        limits = Limits(rows=table.limit, seconds=table.seconds)
        found = count(snapshot, question, thresholds, limits=limits)
        columns = table.names(_SHOWN)
        shown = run_query(
            snapshot,
            question,
            thresholds=thresholds,
            columns=columns,
            roots=locations(store.roots(), start=Path.cwd()),
            limits=limits,
        )
        for row in shown.to_pylist():
            first, *others = (_words(row[name]) for name in columns)
            self._progress.say(f"  {': '.join([first, *([', '.join(others)] if others else [])])}")
        return f"{found:,} of {snapshot.num_images:,} images match: {table.tags or question.words}"

    def latents(self, table: LatentJob) -> str:
        """Encode the selected images."""
        configs = Path(self._model_name(table.base_config)) if table.base_config else None
        store = self._store
        vae = Vae.load(self._model_name(table.base), config=configs, progress=self._progress)
        geometry = base_geometry(vae.folder)
        if vae.untrained:
            self._progress.say(f"base {vae.name} is untrained: its latents and pictures mean nothing")
        snapshot = store.snapshot()
        work = LatentPass(
            store=store,
            vae=vae,
            policy=BucketPolicy.derive(table.resolution or geometry.resolution, geometry.step),
            options=table,
            progress=self._progress,
        )
        selection = select(snapshot, table.where, self._thresholds(table))
        report = work.run(snapshot, selection, stop=self._stop)
        self._latents_id = report.id
        return (
            f"{report.distinct:,} images = {report.encoded:,} encoded + {report.present:,} present + "
            f"{report.failed:,} failed + {report.pending:,} pending"
        )

    def features(self, table: FeatureJob) -> str:
        """Make a further extractor's vectors of the selected images."""
        store = self._store
        named = table.extractor and self._recipe.model(table.extractor)
        convention = table.convention and self._recipe.model(table.convention)
        extractor, label = extractor_for(store, replace(table, extractor=named, convention=convention))
        snapshot = store.snapshot()
        work = FeaturePass(
            store=store, extractor=extractor, label=label, options=table, progress=self._progress
        )
        selection = select(snapshot, table.where, self._thresholds(table))
        report = work.run(snapshot, selection, stop=self._stop)
        counted = f"{report.distinct:,} images = {report.encoded:,} made + {report.present:,} present"
        return f"{report.label}: {counted} + {report.failed:,} failed + {report.pending:,} pending"

    def fit(self, config: FitConfig) -> str:
        """Train, or go on with the run that was begun."""
        names = (config.base, config.base_config, config.init)
        named, configs, init = (name and self._model_name(name) for name in names)
        config = replace(config, base=named, base_config=configs, init=init)
        if config.latents is None:
            config = replace(config, latents=self._latents_id)
        data = data_of(self._store, config)
        train = go_on if (self._run_dir / "run.json").is_file() else fit
        report = train(
            data,
            base_of(data, config, run_dir=self._run_dir, progress=self._progress),
            config,
            run_dir=self._run_dir,
            progress=self._progress,
            stop=self._stop,
        )
        done = f"step {report.last_step:,} of {report.plan.steps:,}, {report.images_per_second:.3g} images/s"
        if report.probe_end is None:
            return f"{done}, stopped"
        losses = f"{done}, loss {report.probe_start:.3f} -> {report.probe_end:.3f} (same rows and noise)"
        if report.validation_loss is None:
            return losses
        return f"{losses}, {report.validation_loss:.3f} on {report.plan.held_out} images held out"

    def evaluate(self, table: EvaluateJob) -> str:
        """Measure guide fidelity, before the fit too where the run kept a checkpoint of its start."""
        job = self._named(table)
        record, store = RunRecord.read(self._run_dir), self._store
        guides, notes = guides_of_job(job, record, store=store)
        setup = EvaluateSetup(
            guides=guides,
            gallery=gallery_of_job(job),
            judge=judge_of_job(job, tagger=record.tagger.name, progress=self._progress),
            training=training_images(store, record, tagger=store.identity.tagger),
            options=job.options(EvaluateOptions, Sampling.read(self._run_dir)),
            notes=notes,
        )
        if job.tune:
            of_run = run_model(self._run_dir, job, progress=self._progress)
            setup = tuned(setup, of_run, job, run=self._run_dir, progress=self._progress)
            del of_run  # two models may not fit on the device
        looked_at = {"fit": find_checkpoint(self._run_dir, job.checkpoint)}
        start = checkpoints(self._run_dir)[0]
        if read_state(start).step == 0:
            looked_at = {"start": start, **looked_at}
        reports = {
            name: evaluate(
                run_model(self._run_dir, replace(job, checkpoint=checkpoint.name), progress=self._progress),
                setup,
                out_dir=self._out / "evaluation" / name,
                progress=self._progress,
            )
            for name, checkpoint in looked_at.items()
        }
        for line in retrieval_lines(reports):
            self._progress.say(line)
        page = self._out / "evaluation" / "fit" / "index.html"
        return f"top-1 of {len(guides)} unseen guides: {top1_words(reports)}; page: {page}"

    def generate(self, table: GenerateTable) -> str:
        """Make pictures of the guides, and with a run to show beside its too."""
        job, progress = self._named(table), self._progress
        guides = [self._recipe.path(guide) for guide in table.guides]
        options = job.options(GenerateOptions, None if job.adapter else Sampling.read(self._run_dir))
        models: dict[str, Callable[[], PFGModel]] = {"pictures": partial(self._model, job)}
        if table.beside:
            beside = resolve(table.beside, what="run").folder
            models[f"pictures-{table.beside}"] = partial(load_run, beside, progress=progress)
        reports = [
            generate(load(), guides, self._out / folder, options=options, progress=progress)
            for folder, load in models.items()
        ]
        made = sum(len(report.pictures) for report in reports)
        sheets = " and ".join(str(report.contact_sheet) for report in reports)
        return f"{made} pictures of {len(guides)} guides; sheet: {sheets}"

    def _model(self, job: GenerateJob) -> PFGModel:
        if job.adapter:
            return adapter_model(job, progress=self._progress)
        return run_model(self._run_dir, job, progress=self._progress)

    def _named(self, job: Job) -> Job:
        """`job` with its models as the recipe means their names, and its paths from where the recipe lies."""
        given = {one.name: getattr(job, one.name) for one in fields(job)}
        changes: dict[str, Any] = {name: self._model_name(given[name]) for name in _MODELS if given.get(name)}
        for name in _PATHS:
            if isinstance(path := given.get(name), str) and path != LARGE_GALLERY:
                changes[name] = str(self._recipe.path(path))
        return replace(job, **changes)

    def _model_name(self, name: str) -> str:
        """A model by name: what stands under it in the folder of what is made, or as the recipe means it."""
        made = self._out / name
        return str(made.absolute()) if name != DEMO and made.exists() else self._recipe.model(name)

    @property
    def _store(self) -> Store:
        return Store.open(self._out / "feats")

    def _thresholds(self, table: QueryTable | LatentJob | FeatureJob | FitConfig) -> Thresholds:
        return Thresholds(general=table.threshold, character=table.character_threshold)


def _words(value: Any) -> str:
    """A value of an image's row on screen."""
    return f"{' '.join(map(str, value[:_TAGS]))} ..." if isinstance(value, list) else str(value)
