"""`pfgtrain evaluate`: how far a run's pictures show the guide's character."""

from __future__ import annotations

import dataclasses
import itertools
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.flags import from_fields
from pfgdata.paths import user_folder, user_path
from pfgdata.screen import (
    ScreenProgress,
    duration,
    print_json,
    print_line,
    printable,
    show_facts,
    show_table,
)
from pfgtrain.cli.options import (
    MODEL,
    MODEL_FIELDS,
    MODEL_METAVARS,
    PICTURE,
    DryRun,
    ImagesPerGuide,
    Json,
    PfgScale,
    folder_for,
    option,
    run_folder,
)
from pfgtrain.generate import ModelJob

if TYPE_CHECKING:
    from pfgdata.records import Progress
    from pfgdata.store import Store
    from pfgdata.taggers import Tagger
    from pfgtrain.checkpoint import RunRecord
    from pfgtrain.evaluate import EvaluateReport, Guide, TrainingImages
    from pfgtrain.generate import PFGModel

__all__ = ["EXAMPLE", "evaluate"]

EXAMPLE = (
    "Examples: pfgtrain evaluate runs/a --guides guides/; "
    "pfgtrain evaluate runs/a --guides guides/ --tune others/ --judge wd-vit-tagger-v3; "
    "pfgtrain evaluate runs/a --where \"path like 'held-out/%'\" --limit 50"
)
_GUIDES, _LOOKS = "The guides", "Who looks"


@from_fields(ModelJob, {MODEL: MODEL_FIELDS}, more=MODEL_METAVARS)
def evaluate(
    context: typer.Context,
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", parser=user_path, help="The run's folder, or demo.", show_default=False
        ),
    ],
    guides: Annotated[
        Path | None,
        option(
            _GUIDES,
            "--guides",
            metavar="FOLDER",
            parser=user_path,
            help="Images, and guides.jsonl if there is one.",
        ),
    ] = None,
    where: Annotated[
        str | None, option(_GUIDES, metavar="EXPR", help="Or images of the store, as in pfgdata query.")
    ] = None,
    shards: Annotated[
        Path | None,
        option(
            _GUIDES,
            "--shards",
            metavar="STORE",
            parser=user_folder,
            help="The store.",
            show_default="the run's",
        ),
    ] = None,
    limit: Annotated[
        int | None, option(_GUIDES, min=2, help="Guides at most, evenly spread.", show_default="all")
    ] = None,
    tuned_on: Annotated[
        Path | None,
        option(
            _GUIDES,
            "--tune",
            metavar="FOLDER",
            parser=user_path,
            help="Other guides, to choose guidance on first.",
        ),
    ] = None,
    keep: Annotated[
        bool, option(_GUIDES, "--keep", help="What --tune chose becomes the run's, for generate too.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(parser=user_folder, help="Folder of the report.", show_default="evaluation/ in RUN"),
    ] = None,
    images_per_guide: ImagesPerGuide = 4,
    guidance_scale: Annotated[
        float | None,
        option(PICTURE, "--guidance", help="1 or less: none.", show_default="the run's, or 3.0"),
    ] = None,
    pfg_scale: PfgScale = None,
    num_inference_steps: Annotated[int, option(PICTURE, "--steps", help="Of the sampler.")] = 20,
    seed: Annotated[int, option(PICTURE, help="Of the first picture of each guide and row.")] = 0,
    batch_size: Annotated[int, option(PICTURE, help="Pictures at once.")] = 16,
    judge: Annotated[
        str | None,
        option(
            _LOOKS, help="A second tagger that looks.", show_default="demo for the demo tagger, else none"
        ),
    ] = None,
    threshold: Annotated[float, option(_LOOKS, help="A tag counts from this score on.")] = 0.35,
    *,
    dry_run: DryRun = False,
    as_json: Json = False,
    **model_words: Any,
) -> None:
    """Measure how far a run's pictures show the guide's character, beside rows that bound it.

    Prints a table of rows (the run, no guide, another guide, what knows style and hair alone, a copier, the
    guide itself) and writes report.json and index.html with all guides and results. Guides are characters:
    guides.jsonl beside the images names them (path, character, style, view, tags_coarse).
    """
    if (guides is None) == (where is None):
        raise typer.BadParameter("name the guides: --guides FOLDER, or --where EXPR")
    if keep and not tuned_on:
        raise typer.BadParameter("--keep keeps what --tune chooses; name --tune FOLDER")

    from pfgtrain.checkpoint import RunRecord, Sampling
    from pfgtrain.evaluate import EvaluateOptions, guides_of_folder, require_possible, tune
    from pfgtrain.evaluate import evaluate as run_evaluate
    from pfgtrain.generate import run_model, with_sampling

    names = {field.name for field in dataclasses.fields(EvaluateOptions)}
    folder, notes = run_folder(run), list[str]()
    given = {key: value for key, value in context.params.items() if key in names}
    options = EvaluateOptions(**with_sampling(given, folder))
    record = RunRecord.read(folder)
    store = _store(shards, record, notes, needed=where is not None)
    every = guides_of_folder(guides) if guides else _selected(store, where, record)
    chosen = _spread(every, limit)
    if len(chosen) < len(every):
        notes.append(f"{len(chosen)} of {len(every)} guides, evenly spread over their order, as asked")
    if dry_run:
        _show_plan(chosen, options.images_per_guide)
        return
    place = out or folder_for("evaluation", run)
    with ScreenProgress() as progress:
        asked = ModelJob(**model_words)
        model = run_model(folder, asked, progress=progress)
        looks = _judge(judge, model, asked.device, progress)
        trained = _training(store, record, model, notes, named=shards is not None)
        require_possible(model, chosen, judge=looks, out_dir=place)  # before an hour of tuning
        tuning = None
        if tuned_on:
            others = guides_of_folder(tuned_on)
            tuning = tune(model, others, reported=chosen, options=options, progress=progress)
            options = tuning.applied(options)
            if keep:
                Sampling(guidance_scale=options.guidance_scale, pfg_scale=options.pfg_scale).write(folder)
            notes.append(
                f"guidance {options.guidance_scale:g} and PFG scale {options.pfg_scale:g} as chosen by --tune"
            )
        report = run_evaluate(
            model,
            chosen,
            judge=looks,
            training=trained,
            options=options,
            tuning=tuning,
            notes=notes,
            out_dir=place,
            progress=progress,
        )
    _show(report, place, as_json=as_json)


def _spread(guides: list[Guide], limit: int | None) -> list[Guide]:
    """At most `limit` of the guides, one by lot of each of as many stretches of their order.

    The first of a file that is sorted by style would be of one style, every fifth where five take turns too.
    """
    count = min(limit or len(guides), len(guides))
    ends = [number * len(guides) // count for number in range(count + 1)]
    lot = random.Random(0)  # the same guides in every evaluation
    return [guides[lot.randrange(first, end)] for first, end in itertools.pairwise(ends)]


def _store(shards: Path | None, record: RunRecord, notes: list[str], *, needed: bool) -> Store | None:
    """The store named, or the run's own; without it `notes` say so, unless it is `needed` for the guides.

    The store of a run that was given away is on record by its last name: what is called so here is another.
    """
    from pfgdata.errors import NoStoreError
    from pfgdata.store import Store

    path = shards or Path(record.store)
    try:
        if not shards and not path.is_absolute():
            raise NoStoreError(f"the run's store, {path.name}, did not come with it; name one by --shards")
        return Store.open(path)
    except NoStoreError:
        if shards or needed:
            raise
        notes.append(f"the run's store, {path.name}, is not here; name it by --shards")
        return None


def _selected(store: Store | None, where: str | None, record: RunRecord) -> list[Guide]:
    from pfgdata.query import Thresholds, select
    from pfgtrain.evaluate import guides_of_selection

    assert store is not None
    known = {name: record.thresholds[name] for name in ("general", "character") if name in record.thresholds}
    snapshot = store.snapshot()
    return guides_of_selection(store, snapshot, select(snapshot, where, Thresholds(**known)))


def _training(
    store: Store | None, record: RunRecord, model: PFGModel, notes: list[str], *, named: bool
) -> TrainingImages | None:
    """What was trained on; of a store that was not `named` and cannot be asked `notes` say so."""
    from pfgdata.errors import QueryError, StoreError
    from pfgtrain.evaluate import training_images

    if store is None:
        return None
    try:
        found = training_images(store, record, tagger=model.tagger.identity)
    except (QueryError, StoreError) as problem:
        if named:
            raise
        words = str(problem).replace(str(store.path), store.path.name)  # the report may travel
        notes.append(f"the run's store cannot be asked what was trained on ({words})")
        return None
    if found is None:
        notes.append(f"store {store.path.name} holds none of the images that the run selected")
    return found


def _judge(name: str | None, model: PFGModel, device: str | None, progress: Progress) -> Tagger | None:
    from pfgdata.hub import DEMO
    from pfgdata.records import during_one
    from pfgdata.taggers import OnnxTagger
    from pfgtrain.base import onnx_device

    name = name or (DEMO if model.tagger.identity.name == DEMO else None)
    if name is None:
        return None
    with during_one(progress, "load", unit="judges"):
        return OnnxTagger.load_judge(name, device=onnx_device(device))


def _show_plan(guides: list[Guide], images_per_guide: int) -> None:
    viewed = sum(len(guide.views) > 1 for guide in guides)
    show_facts(
        {
            "guides": f"{len(guides)}, {viewed} with another view",
            "pictures": f"{(len(guides) + 1) * images_per_guide:,}",
            "dry run": "nothing was written",
        }
    )


def _show(report: EvaluateReport, folder: Path, *, as_json: bool) -> None:
    from pfgtrain.evaluate import report_tables, verdict

    if as_json:
        print_json(report.as_dict())
    else:
        for table in report_tables(report):
            print_line(table.title)
            show_table(table.columns, table.rows)
            print()
    facts: dict[str, object] = {f"note {number}": note for number, note in enumerate(report.notes, 1)}
    if report.flagged:
        facts["in the selection"] = f"{len(report.flagged)} guides: {', '.join(report.flagged)}"
    show_facts({**facts, "page": folder / "index.html", "took": duration(report.seconds)})
    print(printable(verdict(report)), file=sys.stderr)
