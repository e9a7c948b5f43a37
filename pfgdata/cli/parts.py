"""An ingest on many machines: `ingest --plan-out`, `ingest --plan` and `pfgdata adopt`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pfgdata.cli.moves import moves_of
from pfgdata.cli.options import DryRun, Json, StoreArgument, counted, show_failures
from pfgdata.errors import ConfigError
from pfgdata.interrupts import INTERRUPTED, stop_on_interrupt
from pfgdata.paths import user_folder
from pfgdata.screen import FIXABLE, ScreenProgress, duration, print_json, show_facts

if TYPE_CHECKING:
    from pfgdata.ingest import AdoptReport, IngestJob, IngestReport, PartWork, RangePlan
    from pfgdata.records import Progress
    from pfgdata.store import Store
    from pfgdata.taggers import OnnxTagger

__all__ = [
    "ADOPT_EXAMPLE",
    "AtWork",
    "PartOption",
    "PartsOption",
    "PlanOption",
    "PlanOutOption",
    "RangeRowsOption",
    "adopt",
    "do_part",
    "is_given",
    "load_tagger",
    "require_fitting",
    "show_plan",
]

ADOPT_EXAMPLE = "Examples: pfgdata adopt feats/; pfgdata adopt feats/ /mnt/share/parts"
_MANY = "Many machines"
_SHOWN_PARTS = 5

PlanOutOption = Annotated[
    Path | None,
    typer.Option(
        "--plan-out",
        metavar="PLAN",
        parser=user_folder,
        help="Write what there is to do into the new folder PLAN, cut into ranges, and tag nothing.",
        show_default=False,
        rich_help_panel=_MANY,
    ),
]
RangeRowsOption = Annotated[
    int,
    typer.Option(
        "--range-rows",
        metavar="N",
        min=1,
        help="Images of a range of --plan-out; an archive stays in one range, up to 16 times as many.",
        rich_help_panel=_MANY,
    ),
]
PlanOption = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="PLAN",
        parser=user_folder,
        help="Do ranges of this plan, in place of IMAGES and without the store's lock.",
        show_default=False,
        rich_help_panel=_MANY,
    ),
]
PartOption = Annotated[
    str,
    typer.Option(
        "--part",
        metavar="I/N",
        help="Of --plan, only the Ith of N shares, as 3/16: each process takes another I.",
        show_default="all",
        rich_help_panel=_MANY,
    ),
]
PartsOption = Annotated[
    Path | None,
    typer.Option(
        "--parts",
        metavar="FOLDER",
        parser=user_folder,
        help="Where --plan writes its parts.",
        show_default="parts/ in the store, where adopt looks",
        rich_help_panel=_MANY,
    ),
]

_PLANNED = (  # options of ingest that the plan decides
    *("include", "exclude", "archives", "follow_links", "sidecars", "max_megapixels", "max_megabytes"),
    *("min_side", "max_aspect", "image_seconds", "decode", "preprocess", "recipe", "retry_failed", "rehash"),
    *("wait", "plan_out", "range_rows", "cluster", "workers", "images"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AtWork:
    """What `ingest --plan` is asked beside its job."""

    plan: Path
    part: str
    parts: Path | None
    store: Path | None  # where it is on this machine, if named
    moves: Sequence[str]  # OLD=NEW, of corpora on this machine


def require_fitting(context: typer.Context, asked: Mapping[str, Any]) -> None:
    """Refuse options of `ingest` that do not go together."""
    given = {name for name in context.params if is_given(context, name)}
    if asked["plan"] is None:
        if not asked["images"]:
            raise typer.BadParameter("name IMAGES, or a plan of them by --plan")
        if alone := sorted({"part", "parts"} & given):
            raise typer.BadParameter(f"{_flags(alone)} is for --plan")
        if "range_rows" in given and not asked["plan_out"]:
            raise typer.BadParameter("--range-rows is for --plan-out")
        if asked["plan_out"] and "cluster" in given:
            raise typer.BadParameter("--cluster does it at once, --plan-out by hand; leave one of them out")
        if asked["plan_out"] and asked["sidecars"]:
            raise typer.BadParameter("--sidecars is for an ingest after pfgdata adopt, not for --plan-out")
    elif decided := [name for name in _PLANNED if name in given]:
        raise typer.BadParameter(f"{_flags(decided)}: the plan decides that; leave it out beside --plan")


def is_given(context: typer.Context, name: str) -> bool:
    """Whether the user wrote the option `name`, and did not leave it at its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE" and context.params[name] not in (None, [], ())


def _flags(names: Sequence[str]) -> str:
    return ", ".join("IMAGES" if name == "images" else f"--{name.replace('_', '-')}" for name in names)


def do_part(context: typer.Context, asked: AtWork, job: IngestJob, *, dry_run: bool, json: bool) -> None:
    """Make the parts of one share of a plan, and say what was done."""
    from pfgdata.ingest import PartWork, RangePlan, Share, make_parts, open_or_none, plan_parts

    share = _share(asked.part)
    plan = RangePlan.open(asked.plan)
    plan = plan.moved(moves_of(asked.moves, {segment.root for segment in plan.segments}))
    place = asked.store or plan.store
    store = open_or_none(place)
    folder = asked.parts or (store.parts if store else None)
    if folder is None:
        raise ConfigError(
            f"{place}: the store of the plan is not on this machine; name it by --store, or a folder for the"
            " parts by --parts"
        )
    work = PartWork(plan=plan, share=Share(*share), folder=folder, store=store)
    if not is_given(context, "precision"):
        job = replace(job, precision=plan.precision)
    with ScreenProgress() as progress:
        if dry_run:
            report = plan_parts(work, progress=progress)
        else:
            model = load_tagger(plan, job, progress)
            with stop_on_interrupt() as stop:
                report = make_parts(work, model, options=job, progress=progress, stop=stop)
    _show_parts(report, work, dry_run=dry_run)
    if json:
        print_json(report.as_dict())
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


def load_tagger(own: Store | RangePlan | None, job: IngestJob, progress: Progress) -> OnnxTagger:
    """The tagger that `job` names, or that of a store or plan; says where it is not what one may think."""
    from pfgdata.ingest import tagger_for
    from pfgdata.records import during_one

    with during_one(progress, "load", unit="taggers"):
        model = tagger_for(own, job)
    if model.untrained:
        progress.say(f"tagger {model.identity.name} is untrained: tags and scores mean nothing")
    if model.unused_gpu:
        progress.say(f"the GPU is not used: {model.unused_gpu}")
    return model


def show_plan(plan: RangePlan) -> None:
    """Say what was written, and how to go on."""
    ranges, images = len(plan.rows), sum(plan.rows)
    show_facts(
        {
            "plan": f"{plan.path}, {images:,} images in {ranges:,} range{'s' if ranges != 1 else ''}",
            "then": f"pfgdata ingest --plan {plan.path} --part 1/N, on each machine another;"
            f" in the end pfgdata adopt {plan.store}",
        }
    )


def adopt(
    store: StoreArgument = Path("feats"),
    parts: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PARTS...",
            parser=user_folder,
            help="Folders with further parts, as --parts wrote them; they stay as they are.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait while another process writes to the store.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Take the parts that ingest --plan made into the store, and report as one ingest of all of them.

    Parts in the store's own parts/ are removed once they are in. What is there already is left out, so it may
    be run while others still work, and again after anything. A part that is damaged or of another tagger is
    named and stays where it is (exit code 1): run the same ingest --plan again, then adopt.
    """
    from pfgdata.ingest import adopt as take
    from pfgdata.ingest import plan_adoption
    from pfgdata.store import Store

    opened = Store.open(store)
    if dry_run:
        report = plan_adoption(opened, parts or [])
    else:
        with ScreenProgress() as progress, stop_on_interrupt() as stop:
            report = take(opened, parts or [], wait=wait, progress=progress, stop=stop)
    _show_adoption(report, store, [store / "parts", *(parts or [])], dry_run=dry_run)
    if json:
        print_json(report.as_dict())
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
    if report.refused:
        raise typer.Exit(FIXABLE)


def _share(part: str) -> tuple[int, int]:
    """`3/16` as numbers, and all of it where nothing is said."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", part)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise typer.BadParameter(f"--part {part}: write I/N, from 1/N to N/N, as 3/16")
    return int(match[1]), int(match[2])


def _show_parts(report: IngestReport, work: PartWork, *, dry_run: bool) -> None:
    show_failures([(one.file, one.kind, one.reason) for one in report.failures])
    facts = {"share": f"{counted(report)}"}
    if dry_run:
        facts["dry run"] = "nothing was written"
        if report.estimated_seconds is not None:
            facts["would take"] = (
                f"{duration(report.estimated_seconds)}, at the rate of the store's last shards"
            )
    else:
        facts["took"] = f"{duration(report.seconds)}, {report.images_per_second:.3g} images/s"
        if report.bottleneck:
            facts["bottleneck"] = report.bottleneck
    facts["parts"] = str(work.folder)
    if report.interrupted:
        facts["stopped"] = "the same command goes on from here"
    show_facts(facts)


def _show_adoption(report: AdoptReport, store: Path, places: Sequence[Path], *, dry_run: bool) -> None:
    show_failures([(one.file, one.kind, one.reason) for one in report.failures])
    for part, why in report.refused[:_SHOWN_PARTS]:
        show_facts({"refused": why if part in why else f"{part}: {why}"})
    if len(report.refused) > _SHOWN_PARTS:
        show_facts({"refused": f"and {len(report.refused) - _SHOWN_PARTS} more; --json names them all"})
    facts = {"found": counted(report)}
    again = f", {report.again:,} of them brought nothing new" if report.again else ""
    facts["parts"] = f"{report.parts:,}{again}"
    if not report.parts and not report.refused:
        where = ", ".join(map(str, places))
        facts["parts"] = f"none in {where}; make some by: pfgdata ingest --plan PLAN"
    if report.pending and not dry_run:
        facts["pending"] = "of ranges whose part is not here yet"
    if dry_run:
        facts["dry run"] = "nothing was written"
    else:
        facts["took"] = f"{duration(report.seconds)}, {report.images_per_second:.3g} images/s"
    facts["store"] = f"{store}, {report.shards} shard{'s' if report.shards != 1 else ''}"
    if report.interrupted:
        facts["stopped"] = "the same command goes on from here"
    show_facts(facts)
