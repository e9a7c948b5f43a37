"""`pfgtrain evaluate`: how far a run's pictures show the guide's character."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.flags import from_fields
from pfgdata.paths import user_folder, user_path, user_store
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
    Json,
    folder_for,
    is_demo,
    option,
    run_folder,
)
from pfgtrain.evaluate import EvaluateJob
from pfgtrain.generate import PICTURE_FLAGS

if TYPE_CHECKING:
    from pfgdata.store import Store
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


_PANELS = {
    _GUIDES: "guides where gallery limit tune keep",
    PICTURE: "images_per_guide guidance_scale guidance_rescale pfg_scale num_inference_steps seed batch_size",
    _LOOKS: "judge threshold",
    MODEL: MODEL_FIELDS,
}
_BOUNDS: dict[str, dict[str, Any]] = {
    "guides": {"metavar": "FOLDER"},
    "where": {"metavar": "EXPR"},
    "gallery": {"metavar": "FOLDER|large"},
    "limit": {"min": 2},
    "tune": {"metavar": "FOLDER"},
    **MODEL_METAVARS,
}


@from_fields(EvaluateJob, _PANELS, flags=PICTURE_FLAGS, more=_BOUNDS)
def evaluate(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", parser=user_path, help="The run's folder, or demo.", show_default=False
        ),
    ],
    shards: Annotated[
        Path | None,
        option(
            _GUIDES,
            "--shards",
            metavar="STORE",
            parser=user_store,
            help="The store.",
            show_default="the run's",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(parser=user_folder, help="Folder of the report.", show_default="evaluation/ in RUN"),
    ] = None,
    *,
    dry_run: DryRun = False,
    as_json: Json = False,
    **words: Any,
) -> None:
    """Measure how far a run's pictures show the guide's character, beside rows that bound it.

    Prints a table of rows (the run, no guide, another guide, what knows style and hair alone, a copier, the
    guide itself) and writes report.json and index.html with all guides and results. Guides are characters:
    guides.jsonl beside the images names them (path, character, style, view, tags_coarse).
    """
    named = (words["guides"] is not None) + (words["where"] is not None)
    if named > 1 or not (named or words["gallery"]):
        raise typer.BadParameter("name the guides: --guides FOLDER, or --where EXPR, or --gallery FOLDER")
    if words["keep"] and not words["tune"]:
        raise typer.BadParameter("--keep keeps what --tune chooses; name --tune FOLDER")
    if words["keep"] and is_demo(run):
        raise typer.BadParameter(
            "--keep writes into RUN, and demo is part of the package; make a copy:"
            " pfgtrain export demo --as run --to FOLDER"
        )
    job = EvaluateJob(**words)

    from pfgtrain.checkpoint import RunRecord, Sampling
    from pfgtrain.evaluate import (
        EvaluateOptions,
        EvaluateSetup,
        gallery_of_job,
        guides_of_job,
        judge_of_job,
        require_possible,
        tuned,
    )
    from pfgtrain.evaluate import evaluate as run_evaluate
    from pfgtrain.generate import run_model

    folder, notes = run_folder(run), list[str]()
    options = job.options(EvaluateOptions, Sampling.read(folder))
    record = RunRecord.read(folder)
    store = _store(shards, record, notes, needed=job.where is not None)
    guides, cut = guides_of_job(job, record, store=store)
    gallery = gallery_of_job(job)
    if dry_run:
        _show_plan(guides, gallery, options.images_per_guide, as_json=as_json)
        return
    out_dir = out or folder_for("evaluation", run)
    with ScreenProgress() as progress:
        model = run_model(folder, job, progress=progress)
        judge = judge_of_job(job, tagger=model.tagger.identity.name, progress=progress)
        notes += cut
        training = _training(store, record, model, notes, named=shards is not None)
        setup = EvaluateSetup(
            guides=guides, gallery=gallery, judge=judge, training=training, options=options, notes=notes
        )
        require_possible(model, setup, out_dir=out_dir)  # before an hour of tuning
        setup = tuned(setup, model, job, run=folder, progress=progress)
        report = run_evaluate(model, setup, out_dir=out_dir, progress=progress)
    _show(report, out_dir, as_json=as_json)


def _store(shards: Path | None, record: RunRecord, notes: list[str], *, needed: bool) -> Store | None:
    """The store named, or the run's own; without it `notes` say so, unless it is `needed` for the guides.

    The store of a run that was given away is on record by its last name: what is called so here is another.
    """
    from pfgdata.errors import NoStoreError, PlaceError
    from pfgdata.store import Store

    path, name = shards or record.store_path, Path(record.store).name
    try:
        if path is None:
            raise NoStoreError(f"the run's store, {name}, did not come with it; name one by --shards")
        return Store.open(path)
    except (NoStoreError, PlaceError):
        if shards or needed:
            raise
        notes.append(f"the run's store, {name}, is not here; name it by --shards")
        return None


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


def _show_plan(guides: list[Guide], gallery: list[Guide], images_per_guide: int, *, as_json: bool) -> None:
    viewed = sum(len(guide.views) > 1 for guide in guides)
    pictures = (len(guides) + 1) * images_per_guide
    more = {"gallery": f"{len(gallery)} characters, those of the guides among them"} if gallery else {}
    show_facts(
        {
            "guides": f"{len(guides)}, {viewed} with another view",
            **more,
            "pictures": f"{pictures:,}",
            "dry run": "nothing was written",
        }
    )
    if as_json:
        counts = {"guides": len(guides), "with_another_view": viewed, "gallery": len(gallery)}
        print_json({**counts, "pictures": pictures})


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
        facts["trained on"] = f"{len(report.flagged)} guides: {', '.join(report.flagged)}"
    show_facts({**facts, "page": folder / "index.html", "took": duration(report.seconds)})
    print(printable(verdict(report)), file=sys.stderr)
